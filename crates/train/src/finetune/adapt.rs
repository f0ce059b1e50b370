//! Which parameters of a model are trained: all, those of the last blocks, or updates of low rank.

use crate::error::TrainError;
use crate::finetune::settings::{Adapt, Settings};
use hearth_engine::Framing;
use hearth_model::executor::ParamSpec;
use hearth_model::{
    Adapter, AdapterOf, Lora, LoraConfig, ModelError, Problem, StoredType, Task, TaskModel, Weights,
    block_of, save_adapter, save_task_folder,
};
use hearth_tokenizer::Tokenizer;
use std::ops::Range;
use std::path::Path;

/// Freezes what isn't trained of a model with a head, and gives it updates of low rank if there are to be any. `fresh`
/// are the parameters that the pretrained model didn't have.
pub(crate) fn adapt_task(
    model: &mut TaskModel,
    weights: &mut Weights,
    fresh: &[usize],
    settings: &Settings,
) -> Result<(), TrainError> {
    let backbone = model.backbone();
    let parameters = Parameters {
        specs: model.specs(),
        backbone: backbone.specs().len(),
        n_layers: backbone.n_layers(),
        fresh,
        in_out: backbone.stores_in_out(),
    };
    if let Some(lora) = parameters.adapt(weights, &settings.adapt, settings.seed)? {
        model.set_lora(lora);
    }
    Ok(())
}

/// Writes the folder of a model with a head. One that was adapted by updates of low rank has them in its weights, and
/// beside it, in `adapter`, as PEFT has them.
pub(crate) fn save_task(
    out: &Path,
    base: &Path,
    model: &TaskModel,
    weights: &Weights,
    labels: &[String],
    problem: Problem,
    tokenizer: &Tokenizer,
) -> Result<(), ModelError> {
    let padding = padding(tokenizer);
    let Some(lora) = model.lora() else {
        return save_task_folder(out, model, weights, labels, problem, padding, StoredType::F32);
    };
    let base = std::path::absolute(base)?;
    let of = AdapterOf {
        base: &base.to_string_lossy(),
        task: match model.task() {
            Task::Sequence(_) => "SEQ_CLS",
            Task::Tokens(_) => "TOKEN_CLS",
            Task::Span => "QUESTION_ANS",
        },
        class_prefix: model.backbone().name_prefix(),
        prefixed: model.backbone().specs().len(),
    };
    save_adapter(&out.join("adapter"), lora, model.specs(), weights, &of)?;
    save_task_folder(out, model, &lora.merge(weights), labels, problem, padding, StoredType::F32)
}

/// What fills the shorter sequences of a batch: the tokenizer's own token for that, or one that no text ends with.
pub(crate) fn padding(tokenizer: &Tokenizer) -> Option<u32> {
    let after = Framing::of(tokenizer).after;
    let candidates = [tokenizer.pad(), tokenizer.eos(), tokenizer.bos()];
    candidates.into_iter().flatten().find(|id| !after.contains(id))
}

/// A model's parameters: those of the architecture first, then those of a head.
pub(crate) struct Parameters<'a> {
    /// All.
    pub(crate) specs: &'a [ParamSpec],
    /// How many belong to the architecture.
    pub(crate) backbone: usize,
    /// Blocks of the architecture.
    pub(crate) n_layers: usize,
    /// Parameters of the architecture that the pretrained model didn't have, which are trained in any case.
    pub(crate) fresh: &'a [usize],
    /// Whether matrices are stored [in, out].
    pub(crate) in_out: bool,
}

impl Parameters<'_> {
    /// Freezes what isn't trained, and adds updates of low rank if there are to be any.
    pub(crate) fn adapt(
        &self,
        weights: &mut Weights,
        adapt: &Adapt,
        seed: u64,
    ) -> Result<Option<Lora>, TrainError> {
        let head = self.backbone..self.specs.len();
        let always = |i: usize| head.contains(&i) || self.fresh.contains(&i);
        match adapt {
            Adapt::Full => Ok(None),
            Adapt::LastLayers(n) => {
                let last = self.last_layers(*n)?;
                weights.freeze(|i| always(i) || last.contains(&i));
                Ok(None)
            }
            Adapt::Lora { rank, alpha, rank_stabilized, targets, half } => {
                let config = LoraConfig {
                    rank: *rank,
                    alpha: *alpha,
                    rank_stabilized: *rank_stabilized,
                    targets: targets.clone(),
                };
                let lora = Lora::new(config, self.specs, self.in_out)?;
                weights.freeze(always);
                if *half {
                    weights.halve_frozen();
                }
                lora.start(weights, seed);
                Ok(Some(lora))
            }
            Adapt::Further { .. } => {
                let problem =
                    "only an adapter of a decoder is trained further, by chat or complete".to_owned();
                Err(TrainError::Recipe { place: "fine-tuning".into(), problem })
            }
        }
    }

    /// Freezes the model, but not what the adapter replaces whole, and goes on with the adapter's updates.
    pub(crate) fn further(weights: &mut Weights, adapter: Adapter, half: bool) -> Lora {
        weights.freeze(|i| adapter.replaced.iter().any(|(id, _)| id.index() == i));
        if half {
            weights.halve_frozen();
        }
        adapter.install(weights)
    }

    /// The parameters from the first of the last `n` blocks on: blocks stand in their order, between the embeddings
    /// and what comes after all blocks.
    fn last_layers(&self, n: usize) -> Result<Range<usize>, TrainError> {
        if n > self.n_layers {
            let problem = format!("the last {n} blocks of a model that has {}", self.n_layers);
            return Err(TrainError::Recipe { place: "fine-tuning".into(), problem });
        }
        let first = self.n_layers - n;
        let start = self.specs.iter().position(|spec| block_of(&spec.name) == Some(first));
        Ok(start.unwrap_or_default()..self.backbone)
    }

    /// How many values are trained, of how many in all.
    pub(crate) fn told(weights: &Weights) -> String {
        let count = |trained: bool| -> usize {
            weights
                .tensors()
                .iter()
                .filter(|t| !trained || t.requires_grad())
                .map(hearth_tensor::Tensor::len)
                .sum()
        };
        let all = count(false) + weights.halved_values();
        format!("{} parameters, {} of them trained", all, count(true))
    }
}
