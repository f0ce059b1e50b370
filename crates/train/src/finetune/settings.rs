//! How a model is fine-tuned: what a run may leave open, and what is taken then.

use crate::error::TrainError;
use crate::optimizer::{OptimizerKind, OptimizerSettings};
use serde::{Deserialize, Serialize};

/// What becomes of examples that are longer than the model or the settings take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLong {
    /// The run doesn't begin, and says how many there are.
    Refuse,
    /// They are cut, and counted.
    Cut,
    /// They are left out, and counted.
    Drop,
}

impl TooLong {
    /// What becomes of `count` examples, or whatever they are called, in words.
    pub(crate) fn told(self, count: usize, what: &str, limit: usize) -> String {
        let fate = if self == TooLong::Drop { "left out" } else { "cut there" };
        format!("{count} {what} are longer than {limit} tokens and are {fate}")
    }

    /// Refuses `count` examples of more than `limit` tokens, if they are to be refused. The longest has `longest`.
    pub(crate) fn check(
        self,
        count: usize,
        all: usize,
        limit: usize,
        longest: Option<usize>,
    ) -> Result<(), TrainError> {
        if count == 0 || self != TooLong::Refuse {
            return Ok(());
        }
        let problem = format!(
            "{count} of {all} are longer than {limit} tokens, the longest has {}\nhint: --too-long cut or --too-long \
             drop, or a larger --max-tokens",
            longest.unwrap_or_default()
        );
        Err(TrainError::Recipe { place: "examples".into(), problem })
    }
}

/// Which parameters are trained, beside a new head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adapt {
    /// All.
    #[default]
    Full,
    /// Those of the last so many blocks and of what comes after them.
    LastLayers(usize),
    /// Updates of low rank beside frozen matrices.
    Lora {
        /// r.
        rank: usize,
        /// What updates are scaled by, before r or its root divides that.
        alpha: f32,
        /// Divide by √r instead of r.
        rank_stabilized: bool,
        /// Ends of the names of layers; none stands for all.
        targets: Vec<String>,
        /// Keep the frozen matrices in bf16.
        half: bool,
    },
    /// The updates of the adapter that the model is, further.
    Further {
        /// Keep the frozen matrices in bf16.
        half: bool,
    },
}

impl Adapt {
    /// Updates of low rank take a rate ten times as high as whole weights (Schulman et al. 2025, "LoRA Without
    /// Regret").
    fn more_rate(&self) -> f32 {
        if matches!(self, Adapt::Lora { .. } | Adapt::Further { .. }) { 10.0 } else { 1.0 }
    }
}

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
    /// What becomes of examples that are longer.
    pub too_long: TooLong,
    /// Most tokens that go through the model at once: a batch of more goes in parts, with the same gradients.
    pub pass_tokens: usize,
    /// What is trained.
    pub adapt: Adapt,
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
            too_long: TooLong::Refuse,
            pass_tokens: 2048,
            adapt: Adapt::Full,
            looks: 1,
            patience: 0,
            holdout: 0.1,
            compare: false,
        }
    }
}

impl Settings {
    /// The usual settings of learning a task with a head.
    pub fn for_heads(adapt: Adapt) -> Self {
        let usual = Settings::default();
        Settings { lr: usual.lr * adapt.more_rate(), adapt, ..usual }
    }

    /// The usual settings of learning to go on with texts.
    pub fn for_texts(adapt: Adapt) -> Self {
        let (lr, dropout) = (2e-5 * adapt.more_rate(), 0.0);
        Settings { lr, dropout, batch: 8, max_tokens: 1024, adapt, ..Settings::default() }
    }

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
        } else if self.pass_tokens == 0 {
            "pass_tokens is 0, expected at least 1".to_owned()
        } else if self.adapt == Adapt::LastLayers(0) {
            "last layers is 0, expected at least 1".to_owned()
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
