//! What a task starts from: a pretrained model in any form that runs, with a fresh head.

use crate::error::TrainError;
use crate::finetune::adapt::adapt_task;
use crate::finetune::settings::Settings;
use hearth_engine::{EncoderFiles, ModelFiles};
use hearth_model::{Adapter, Task, TaskModel, Weights, adapt_decoder, adapt_encoder, adapt_folder};
use hearth_tokenizer::Tokenizer;
use std::path::Path;

/// Opens `model` (a folder, a GGUF file, whose weights become single precision, or an adapter, which goes into its model's
/// weights), puts a fresh head on it, and freezes what `settings` don't train.
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
    } else if EncoderFiles::is_encoder(model)? {
        let files = EncoderFiles::open(model)?;
        let weights = Weights::of_source(files.encoder(), files.source())?;
        (files.tokenizer().clone(), adapt_encoder(files.encoder().clone(), &weights, task, seed)?)
    } else {
        let files = ModelFiles::open(model)?;
        let weights = Weights::of_source(files.decoder(), files.source())?;
        (files.tokenizer().clone(), adapt_decoder(files.decoder(), &weights, task, seed)?)
    };
    adapt_task(&mut network, &mut weights, &fresh, settings)?;
    Ok((tokenizer, network, weights))
}
