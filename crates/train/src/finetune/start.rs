//! What a task starts from: a pretrained model in any form that runs.

use crate::error::TrainError;
use crate::finetune::adapt::{adapt_task, padding};
use crate::finetune::settings::Settings;
use hearth_engine::{EncoderFiles, ModelFiles};
use hearth_model::tape::{Trainable, TrainableEncoder};
use hearth_model::{Adapter, Backbone, Task, TaskModel, Weights, adapt_backbone, adapt_folder};
use hearth_tokenizer::Tokenizer;
use serde_json::json;
use std::path::Path;

/// Opens `model` (a folder, a GGUF file, whose weights become single precision, or an adapter, which goes into its
/// model's weights), puts a fresh head on it, and freezes what `settings` don't train.
///
/// # Errors
/// If it can't be read, or the architecture has no head for the task.
pub(crate) fn start(
    model: &Path,
    task: Task,
    settings: &Settings,
) -> Result<(Tokenizer, TaskModel, Weights), TrainError> {
    let seed = settings.seed;
    let (tokenizer, (mut network, mut weights, fresh)) = if model.is_dir() && !Adapter::is_adapter(model) {
        // Folders may lack what turns states into words, which no task needs.
        (Tokenizer::from_folder(model)?, adapt_folder(model, task, seed)?)
    } else {
        let (tokenizer, backbone, weights) = open_backbone(model)?;
        (tokenizer, adapt_backbone(backbone, &weights, task, seed)?)
    };
    adapt_task(&mut network, &mut weights, &fresh, settings)?;
    Ok((padded(tokenizer, network.backbone()), network, weights))
}

/// Opens `model`, which may be all that [`start`] takes, without a head.
///
/// # Errors
/// If it can't be read.
pub(crate) fn open_backbone(model: &Path) -> Result<(Tokenizer, Backbone, Weights), TrainError> {
    if EncoderFiles::is_encoder(model)? {
        let files = EncoderFiles::open(model)?;
        let backbone = Backbone::Encoder(TrainableEncoder::new(files.encoder().clone()));
        return Ok((files.tokenizer().clone(), backbone, files.weights()?));
    }
    let files = ModelFiles::open(model)?;
    let backbone = Backbone::Decoder(Trainable::new(files.decoder().clone()));
    Ok((files.tokenizer().clone(), backbone, files.weights()?))
}

/// A decoder's tokenizer often names no token that fills the shorter texts of a batch, and `transformers` then refuses
/// batches: here it gets one.
pub(crate) fn padded(tokenizer: Tokenizer, backbone: &Backbone) -> Tokenizer {
    if tokenizer.pad().is_some() || matches!(backbone, Backbone::Encoder(_)) {
        return tokenizer;
    }
    let Some(token) = padding(&tokenizer).and_then(|id| tokenizer.token_of(id)) else { return tokenizer };
    let mut config = tokenizer.config().clone();
    config.insert("pad_token".into(), json!(token));
    tokenizer.with_config(config)
}
