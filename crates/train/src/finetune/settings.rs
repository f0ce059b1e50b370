//! How a model is fine-tuned: what a run may leave open, and what is taken then.

use crate::error::TrainError;
use crate::optimizer::{OptimizerKind, OptimizerSettings};
use serde::{Deserialize, Serialize};

/// The settings of a run; the defaults are those of BERT's fine-tuning (Devlin et al. 2019, appendix A.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Decides every random draw.
    pub seed: u64,
    /// Times through the training examples.
    pub epochs: f64,
    /// Examples a step.
    pub batch: usize,
    /// AdamW's peak rate.
    pub lr: f32,
    /// Decoupled weight decay of matrices and tables.
    pub weight_decay: f32,
    /// Share of the steps that warm up, before the rate falls linearly to zero.
    pub warmup: f32,
    /// Probability of dropout, where the model has it and before the head.
    pub dropout: f32,
    /// Gradients are scaled down to this global norm; 0 turns clipping off.
    pub clip: f32,
    /// Most tokens of an example, with those around it; at most what the model takes.
    pub max_tokens: usize,
    /// Looks at the held-out examples in each epoch.
    pub looks: usize,
    /// Stop after so many looks without a better one; 0 never.
    pub patience: usize,
    /// Share of the examples held out where no file of them is given, chosen by their hash.
    pub holdout: f64,
    /// Train cheap models on the same examples too.
    pub compare: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            seed: 0,
            epochs: 3.0,
            batch: 16,
            lr: 5e-5,
            weight_decay: 0.01,
            warmup: 0.1,
            dropout: 0.1,
            clip: 1.0,
            max_tokens: 256,
            looks: 1,
            patience: 0,
            holdout: 0.1,
            compare: false,
        }
    }
}

impl Settings {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// Naming the setting, and what was expected.
    pub fn check(&self) -> Result<(), TrainError> {
        let positive = |x: f32| x.is_finite() && x > 0.0;
        let problem = if !(self.epochs.is_finite() && self.epochs > 0.0) {
            format!("epochs is {}, expected more than 0", self.epochs)
        } else if self.batch == 0 {
            "batch is 0, expected at least 1".to_owned()
        } else if !positive(self.lr) {
            format!("lr is {}, expected more than 0", self.lr)
        } else if !(0.0..1.0).contains(&self.warmup) || !(0.0..1.0).contains(&self.dropout) {
            "warmup and dropout must be in 0..1".to_owned()
        } else if self.max_tokens < 4 {
            format!("max_tokens is {}, expected at least 4", self.max_tokens)
        } else if self.looks == 0 {
            "looks is 0, expected at least 1 an epoch".to_owned()
        } else if !(self.holdout > 0.0 && self.holdout < 1.0) {
            format!("holdout is {}, expected between 0 and 1", self.holdout)
        } else {
            return Ok(());
        };
        Err(TrainError::Recipe { place: "fine-tuning".into(), problem })
    }

    /// AdamW with these settings and PyTorch's other defaults.
    pub fn optimizer(&self) -> OptimizerSettings {
        OptimizerSettings {
            kind: OptimizerKind::Adamw,
            lr: self.lr,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: self.weight_decay,
            clip: self.clip,
            ..OptimizerSettings::default()
        }
    }

    /// Steps through `examples`.
    pub fn steps(&self, examples: usize) -> u64 {
        let an_epoch = examples.div_ceil(self.batch) as f64;
        ((an_epoch * self.epochs).round() as u64).max(1)
    }
}
