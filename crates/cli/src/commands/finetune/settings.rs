//! How a model is fine-tuned, as flags.

use super::Task;
use crate::failure::Usage;
use anyhow::Result;
use hearth_engine::EncoderFiles;
use hearth_model::Adapter;
use hearth_train::finetune::embed::EmbedSettings;
use hearth_train::finetune::settings::{Adapt, Settings, TooLong};
use hearth_train::neural::{Answer, usual_settings};
use std::path::Path;

/// LoRA's rank where none is given.
const RANK: usize = 16;

/// How it is learnt.
#[derive(clap::Args)]
pub(super) struct SettingsArgs {
    /// Times through the examples
    #[arg(long, value_name = "N")]
    epochs: Option<f64>,
    /// Examples a step
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// AdamW's peak learning rate
    #[arg(long, value_name = "R")]
    lr: Option<f32>,
    /// Most tokens of an example
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// What becomes of examples that are longer
    #[arg(long, value_enum, value_name = "WHAT", default_value = "refuse")]
    too_long: Long,
    /// Most tokens that go through the model at once: less memory, the same result
    #[arg(long, value_name = "N")]
    pass_tokens: Option<usize>,
    /// Train the last N blocks alone, and what comes after them
    #[arg(long, value_name = "N", conflicts_with = "lora")]
    last_layers: Option<usize>,
    /// Train updates of low rank (LoRA), of rank R [default: 16], beside frozen weights; chat and complete then write an
    /// adapter, and go on with the one that --model is
    #[arg(long, value_name = "R")]
    lora: Option<Option<usize>>,
    /// What updates are scaled by, before R divides it [default: 2 R]
    #[arg(long, value_name = "A", requires = "lora")]
    alpha: Option<f32>,
    /// Layers that get updates, by the ends of their names, such as q_proj,v_proj [default: all in the blocks]
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "lora")]
    targets: Vec<String>,
    /// Scale updates by A/√R instead of A/R (rsLoRA)
    #[arg(long, requires = "lora")]
    rslora: bool,
    /// Keep the frozen weights in bf16
    #[arg(long, requires = "lora")]
    bf16: bool,
    /// Probability of dropout
    #[arg(long, value_name = "P")]
    dropout: Option<f32>,
    /// Share of the examples to judge by, where --valid isn't given
    #[arg(long, value_name = "SHARE", conflicts_with = "valid")]
    holdout: Option<f64>,
    /// Looks at the examples to judge by, in each epoch
    #[arg(long, value_name = "N")]
    looks: Option<usize>,
    /// Train cheap models on the same examples too (naive Bayes, an SVM; for tag an HMM and a CRF), and print all in
    /// one table
    #[arg(long)]
    compare: bool,
    /// Stop after so many looks that weren't better
    #[arg(long, value_name = "N")]
    patience: Option<usize>,
}

/// What becomes of examples that are longer than the limit.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Long {
    /// Nothing is trained, and it is said how many there are
    Refuse,
    /// They are cut
    Cut,
    /// They are left out
    Drop,
}

impl SettingsArgs {
    pub(super) fn settings(&self, task: Task, seed: Option<u64>) -> Settings {
        let adapt = match (self.lora, self.last_layers) {
            (Some(rank), _) => Adapt::Lora {
                rank: rank.unwrap_or(RANK),
                alpha: self.alpha.unwrap_or(2.0 * rank.unwrap_or(RANK) as f32),
                rank_stabilized: self.rslora,
                targets: self.targets.clone(),
                half: self.bf16,
            },
            (None, Some(layers)) => Adapt::LastLayers(layers),
            (None, None) => Adapt::Full,
        };
        let usual = match task {
            Task::Chat | Task::Complete => Settings::for_texts(adapt),
            _ => Settings::for_heads(adapt),
        };
        Settings {
            seed: seed.unwrap_or(usual.seed),
            epochs: self.epochs.unwrap_or(usual.epochs),
            batch: self.batch.unwrap_or(usual.batch),
            lr: self.lr.unwrap_or(usual.lr),
            pass_tokens: self.pass_tokens.unwrap_or(usual.pass_tokens),
            too_long: match self.too_long {
                Long::Refuse => TooLong::Refuse,
                Long::Cut => TooLong::Cut,
                Long::Drop => TooLong::Drop,
            },
            max_tokens: self.max_tokens.unwrap_or(usual.max_tokens),
            dropout: self.dropout.unwrap_or(usual.dropout),
            holdout: self.holdout.unwrap_or(usual.holdout),
            looks: self.looks.unwrap_or(usual.looks),
            compare: self.compare,
            patience: self.patience.unwrap_or(usual.patience),
            ..usual
        }
    }
}

impl SettingsArgs {
    /// The settings for a head over this model. Updates of low rank in a decoder take the rate and the dropout that they
    /// have for texts: with those of encoders, which were pretrained with dropout, they learn less.
    pub(super) fn over(&self, settings: &Settings, model: &Path) -> Settings {
        let is_decoder = EncoderFiles::is_encoder(model).is_ok_and(|is_encoder| !is_encoder);
        if !is_decoder || !matches!(settings.adapt, Adapt::Lora { .. }) {
            return settings.clone();
        }
        let usual = Settings::for_texts(settings.adapt.clone());
        Settings {
            lr: self.lr.unwrap_or(usual.lr),
            dropout: self.dropout.unwrap_or(usual.dropout),
            ..settings.clone()
        }
    }

    /// The settings for texts over this model: if it is an adapter, its own updates go on, and their sizes are given.
    pub(super) fn over_adapter(&self, settings: &Settings, model: &Path) -> Result<Settings> {
        let Some(rank) = self.lora.filter(|_| Adapter::is_adapter(model)) else {
            return Ok(settings.clone());
        };
        let sizes = [
            ("--lora R", rank.is_some()),
            ("--alpha", self.alpha.is_some()),
            ("--targets", !self.targets.is_empty()),
            ("--rslora", self.rslora),
        ];
        if let Some((flag, _)) = sizes.iter().find(|(_, given)| *given) {
            let model = model.display();
            return Err(Usage(format!(
                "{flag}: {model} is an adapter, whose updates have their sizes\nhint: --lora alone goes on with them; for \
                 others, hearth merge makes a model of it first"
            ))
            .into());
        }
        Ok(Settings { adapt: Adapt::Further { half: self.bf16 }, ..settings.clone() })
    }

    /// How a model from before the Transformer is learnt from so many examples.
    pub(super) fn own(&self, answer: Answer, examples: usize, seed: Option<u64>) -> Settings {
        let usual = usual_settings(answer, examples, seed.unwrap_or_default());
        Settings {
            epochs: self.epochs.unwrap_or(usual.epochs),
            batch: self.batch.unwrap_or(usual.batch),
            lr: self.lr.unwrap_or(usual.lr),
            max_tokens: self.max_tokens.unwrap_or(usual.max_tokens),
            dropout: self.dropout.unwrap_or(usual.dropout),
            holdout: self.holdout.unwrap_or(usual.holdout),
            looks: self.looks.unwrap_or(usual.looks),
            patience: self.patience.unwrap_or(usual.patience),
            ..usual
        }
    }

    /// A flag that is given and says nothing to a model from before the Transformer.
    pub(super) fn not_for_own(&self, is_network: bool, has_length: bool) -> Option<&'static str> {
        let pretrained = [
            ("--lora", self.lora.is_some()),
            ("--last-layers", self.last_layers.is_some()),
            ("--pass-tokens", self.pass_tokens.is_some()),
            ("--too-long", !matches!(self.too_long, Long::Refuse)),
            ("--compare", self.compare),
            ("--max-tokens", self.max_tokens.is_some() && !(is_network && has_length)),
        ];
        let of_steps = [
            ("--epochs", self.epochs.is_some()),
            ("--batch", self.batch.is_some()),
            ("--lr", self.lr.is_some()),
            ("--dropout", self.dropout.is_some()),
            ("--looks", self.looks.is_some()),
            ("--patience", self.patience.is_some()),
        ];
        let of_steps = of_steps.into_iter().map(|(flag, given)| (flag, given && !is_network));
        pretrained.into_iter().chain(of_steps).find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

/// What only embed has.
#[derive(clap::Args)]
pub(super) struct EmbedArgs {
    /// What cosines are multiplied by before the softmax [default: 20]
    #[arg(long, value_name = "X")]
    scale: Option<f32>,
    /// Most hard negatives of a pair in one step [default: 1]
    #[arg(long, value_name = "N")]
    hard_negatives: Option<usize>,
    /// What stands in front of each query, such as "query: " [default: as the model's files say]
    #[arg(long, value_name = "TEXT")]
    query_prefix: Option<String>,
    /// What stands in front of each text, such as "passage: " [default: as the model's files say]
    #[arg(long, value_name = "TEXT")]
    text_prefix: Option<String>,
}

impl EmbedArgs {
    pub(super) fn settings(&self) -> EmbedSettings {
        let usual = EmbedSettings::default();
        EmbedSettings {
            scale: self.scale.unwrap_or(usual.scale),
            hard_negatives: self.hard_negatives.unwrap_or(usual.hard_negatives),
            query_prefix: self.query_prefix.clone(),
            text_prefix: self.text_prefix.clone(),
        }
    }

    /// Which are given.
    pub(super) fn given(&self) -> [(&'static str, bool); 4] {
        [
            ("--scale", self.scale.is_some()),
            ("--hard-negatives", self.hard_negatives.is_some()),
            ("--query-prefix", self.query_prefix.is_some()),
            ("--text-prefix", self.text_prefix.is_some()),
        ]
    }
}
