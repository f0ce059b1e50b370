//! The model folder at the end of a run, with its card: `hearth.json` says what the model was trained
//! on, how, and what came of it.

use crate::checkpoint::SourceFile;
use crate::error::TrainError;
use crate::network::Network;
use crate::prepare::Prepared;
use crate::pretrain::{Floor, Summary};
use crate::recipe::Recipe;
use hearth_model::Weights;
use hearth_tokenizer::replace_file;
use serde_json::json;
use std::path::Path;

/// What the card tells.
#[derive(Debug)]
pub(crate) struct Card<'a> {
    /// As resolved.
    pub recipe: &'a Recipe,
    /// Tokenizer and shards.
    pub prepared: &'a Prepared,
    /// The model.
    pub(crate) network: &'a Network,
    /// What came of it.
    pub summary: &'a Summary,
    /// The files that were read.
    pub sources: &'a [SourceFile],
    /// The weights that the run began with, if it didn't begin with random ones.
    pub from: Option<SourceFile>,
    /// Energy of the processor's package over the run, where the machine tells.
    pub joules: Option<f64>,
}

/// Writes `hearth.json`, then the model; each file whole, `config.json` last.
pub(crate) fn save_model(dir: &Path, weights: &Weights, card: &Card) -> Result<(), TrainError> {
    let text = serde_json::to_string_pretty(&card.to_json()).map_err(std::io::Error::from)?;
    replace_file(&dir.join("hearth.json"), (text + "\n").as_bytes())?;
    card.network.save(dir, weights, &card.prepared.tokenizer)
}

impl Card<'_> {
    fn to_json(&self) -> serde_json::Value {
        let (training, heldout) = (self.prepared.training.header(), self.prepared.heldout.header());
        let (config, summary) = (self.network.config(), self.summary);
        let floor = |floor: Floor| {
            json!({
                "order": floor.order,
                "tokens": floor.tokens,
                "val_loss": floor.loss,
                "val_bits_per_byte": floor.bits_per_byte,
            })
        };
        let shard = |header: &hearth_data::ShardHeader| {
            json!({
                "documents": header.documents,
                "tokens": header.tokens,
                "text_bytes": header.text_bytes,
                "sha256": header.sha256,
            })
        };
        // Names alone: the folders that lead to them are nobody's business.
        let mut recipe = self.recipe.clone();
        recipe.data.files.iter_mut().for_each(|file| *file = name_of(file));
        if let Some(from) = &mut recipe.model.from {
            *from = name_of(from);
            recipe.tokenizer.kind = from.clone();
        }
        let context = recipe.model.context.unwrap_or(config.max_positions());
        let objective = recipe.objective;
        json!({
            "made_by": concat!("hearth ", env!("CARGO_PKG_VERSION")),
            "task": "pretrain",
            "data": { "files": self.sources, "training": shard(training), "heldout": shard(heldout) },
            "tokenizer": {
                "sha256": self.prepared.tokenizer.hash(),
                "vocab_size": self.prepared.tokenizer.vocab_size(),
            },
            "model": {
                "architecture": config.model_type(),
                "parameters": self.network.n_params(),
                "train_flops_per_token": config.train_flops_per_token(context, objective.mask_share),
                "from": self.from,
            },
            "objective": objective.kind,
            "recipe": recipe,
            "seed": self.recipe.seed,
            "training": {
                "steps": summary.steps.0,
                "tokens": summary.tokens,
                "seconds": summary.seconds,
                "threads": hearth_kernel::pool::threads(),
                "instructions": format!("{:?}", hearth_kernel::current_isa()),
                "energy_joules": self.joules,
            },
            "metrics": {
                "val_loss": summary.heldout.loss(),
                "val_perplexity": summary.heldout.perplexity(),
                "val_bits_per_byte": summary.heldout.bits_per_byte(),
                "val_tokens": summary.heldout.tokens,
                "val_accuracy": summary.heldout.accuracy(),
                "ngram": summary.ngram.map(floor),
                "ngram_same_tokens": summary.ngram_same_tokens.map(floor),
            },
        })
    }
}

/// A path's last part.
fn name_of(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}
