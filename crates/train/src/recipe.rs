//! Recipes: a whole pretraining run as TOML. What a recipe leaves open follows from the model's size
//! by the rules in [`Recipe::resolve`]; the resolved recipe is printed and saved with the run.

use crate::error::TrainError;
use crate::optimizer::OptimizerSection;
use crate::schedule::ScheduleKind;
pub use crate::sizes::{ModelConfig, ModelSection};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A pretraining run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Decides every random draw.
    pub seed: u64,
    /// What is read.
    pub data: DataSection,
    /// How text becomes tokens.
    pub tokenizer: TokenizerSection,
    /// What is learnt.
    pub objective: ObjectiveSection,
    /// What is trained.
    pub model: ModelSection,
    /// How it is trained.
    pub train: TrainSection,
    /// With which optimiser.
    pub optimizer: OptimizerSection,
}

/// What is read, and what is held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSection {
    /// Files, folders or globs; `dataset:NAME` is a named data set.
    pub files: Vec<String>,
    /// The field of JSONL documents, or the column of CSV ones, that holds the text.
    pub field: Option<String>,
    /// Share of the documents read at all, chosen by the hash of their text.
    pub share: f64,
    /// Share of the documents held out, chosen by the hash of their text.
    pub holdout: f64,
    /// Hold out the last part of the text instead (nanoGPT's way).
    pub holdout_last: bool,
}

impl Default for DataSection {
    fn default() -> Self {
        DataSection { files: Vec::new(), field: None, share: 1.0, holdout: 0.02, holdout_last: false }
    }
}

/// How text becomes tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerSection {
    /// `bpe` trains byte-level BPE, `chars` takes single characters, anything else is a tokenizer's
    /// file or folder.
    pub kind: String,
    /// Entries of a BPE vocabulary.
    pub vocab_size: usize,
    /// `gpt-2`, `llama-bpe` or `qwen2`.
    pub pre_tokenizer: String,
}

impl Default for TokenizerSection {
    fn default() -> Self {
        TokenizerSection { kind: "bpe".into(), vocab_size: 4096, pre_tokenizer: "qwen2".into() }
    }
}

/// What is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveSection {
    /// `causal` or `mlm`. Open: as the model's family has it, `causal` if none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Objective>,
    /// Share of a sequence's tokens that are to be found (`mlm`).
    pub mask_share: f64,
    /// Choose all tokens of a word or none (`mlm`).
    pub whole_words: bool,
}

/// What a model learns to predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// The next token, for a decoder.
    Causal,
    /// Tokens that were masked, for an encoder (Devlin et al. 2019).
    Mlm,
}

impl Default for ObjectiveSection {
    fn default() -> Self {
        ObjectiveSection { kind: None, mask_share: 0.15, whole_words: true }
    }
}

/// How it is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSection {
    /// Optimiser steps. Open: 20 tokens a weight (Hoffmann et al. 2022), or as `minutes` allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Time for the steps; their number is chosen from the speed of the first ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<f64>,
    /// B, rows a forward pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Forward passes a step, their gradients averaged.
    pub accumulate: usize,
    /// `random` windows, `shuffled` windows of an epoch, or `packed` documents.
    pub order: BatchOrder,
    /// The learning rate's shape.
    pub schedule: ScheduleKind,
    /// Warm-up steps. Open: a fiftieth of the steps, at most 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<u64>,
    /// The share of the steps that decay (`wsd`).
    pub decay: f32,
    /// The final rate as a share of the peak.
    pub floor: f32,
    /// Start the projections back into the residual stream, and a head of its own, at zero.
    pub zero_projections: bool,
    /// Probability of dropout, after the embedding, each attention and each feed-forward block.
    pub dropout: f32,
    /// Target probability spread over the vocabulary.
    pub label_smoothing: f32,
    /// Weight of the squared log-partition.
    pub z_loss: f32,
    /// Steps between looks at held-out text. Open: a tenth of the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<u64>,
    /// Most held-out tokens looked at while training; the last look takes all of them.
    pub eval_tokens: usize,
    /// Steps between samples. Open: with each look; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_every: Option<u64>,
    /// What samples start with.
    pub prompts: Vec<String>,
    /// Tokens of a sample.
    pub sample_tokens: usize,
    /// Steps between checkpoints. Open: a fifth of the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<u64>,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
    /// Order of the Kneser–Ney model that is printed beside; 0: none.
    pub ngram_order: usize,
}

/// How training windows are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchOrder {
    /// Windows at uniformly random places.
    Random,
    /// Every window once an epoch, shuffled.
    Shuffled,
    /// Whole documents, attention kept inside each.
    Packed,
}

impl Default for TrainSection {
    fn default() -> Self {
        TrainSection {
            steps: None,
            minutes: None,
            batch: None,
            accumulate: 1,
            order: BatchOrder::Shuffled,
            schedule: ScheduleKind::Wsd,
            warmup: None,
            decay: 0.5,
            floor: 0.0,
            zero_projections: true,
            dropout: 0.0,
            label_smoothing: 0.0,
            z_loss: 0.0,
            eval_every: None,
            eval_tokens: 65_536,
            sample_every: None,
            prompts: Vec::new(),
            sample_tokens: 48,
            checkpoint_every: None,
            keep_checkpoints: 2,
            ngram_order: 5,
        }
    }
}

/// Tokens trained on for each weight that a token is multiplied with (Hoffmann et al. 2022, table 3).
const TOKENS_PER_WEIGHT: usize = 20;
/// Tokens of a window of a model that is there already, which may have positions for many more.
const LONGEST_WINDOW: usize = 512;

impl Recipe {
    /// Reads a recipe; a key that isn't known is an error that names it.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = fs_err::read_to_string(path)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses a recipe; `place` names it in errors.
    pub fn parse(text: &str, place: &str) -> Result<Self, TrainError> {
        toml::from_str(text).map_err(|e| TrainError::Recipe {
            place: place.to_owned(),
            problem: e.to_string().trim_end().to_owned(),
        })
    }

    /// The recipe as TOML.
    pub fn to_toml(&self) -> String {
        // Serialising plain structs of numbers and strings can't fail.
        toml::to_string(self).expect("a recipe is representable as TOML")
    }

    /// The named data sets and the paths among `data.files`.
    pub fn sources(&self) -> impl Iterator<Item = Source> + '_ {
        self.data.files.iter().map(|f| match f.strip_prefix("dataset:") {
            Some(name) => Source::Dataset(name.to_owned()),
            None => Source::Path(PathBuf::from(f)),
        })
    }

    /// Fills in the model's sizes for a vocabulary, by the dial's rules:
    ///
    /// - width 64 a block (128 at least); heads of 64 (32 up to a width of 128); feed-forward 8/3;
    /// - context 256 up to depth 6, 512 up to 11, then 1024;
    /// - 1,024 tokens a block in a batch, rounded to whole rows;
    /// - rates of embeddings, head and vectors beside Muon fall with the square root of the width, from
    ///   6e-3, 6e-3 and 2e-3 at 256; Muon's is 0.02 at any width, since its updates have the same size;
    ///   AdamW's alone is 1e-3 at 256.
    pub fn resolve(&mut self, vocab_size: usize) -> Result<ModelConfig, TrainError> {
        let encoder = self.resolve_objective(None)? == Objective::Mlm;
        let config = self.model.config(vocab_size, encoder)?;
        self.model.resolve(&config);
        self.model.context = Some(config.max_positions());
        self.resolve_training(&config)?;
        Ok(config)
    }

    /// The same for a model that is there already and keeps its sizes; windows have at most 512 tokens unless
    /// `model.context` says otherwise, and rates are a tenth of those of a new model.
    pub(crate) fn resolve_from(&mut self, config: &ModelConfig) -> Result<(), TrainError> {
        self.resolve_objective(Some(matches!(config, ModelConfig::Encoder(_))))?;
        let positions = config.max_positions();
        let context = *self.model.context.get_or_insert(positions.min(LONGEST_WINDOW));
        if context > positions {
            let problem = format!("model.context is {context}, but the model has {positions} positions");
            return Err(TrainError::Recipe { place: "recipe".into(), problem });
        }
        self.resolve_training(config)
    }

    /// Decides what is learnt, and refuses what the model can't. `encoder` says what a model that is there is.
    pub(crate) fn resolve_objective(&mut self, encoder: Option<bool>) -> Result<Objective, TrainError> {
        let encoder = encoder.map_or_else(|| self.model.is_encoder(), |kind| Ok(Some(kind)))?;
        let fail =
            |problem: &str| Err(TrainError::Recipe { place: "recipe".into(), problem: problem.to_owned() });
        let kind = match (self.objective.kind, encoder) {
            (Some(Objective::Causal), Some(true)) => {
                return fail("objective.kind causal: the model is an encoder\nhint: it learns by mlm");
            }
            (Some(Objective::Mlm), Some(false)) => {
                return fail(
                    "objective.kind mlm: the model is a decoder\nhint: eurobert and bert learn by it",
                );
            }
            (Some(kind), _) => kind,
            (None, Some(true)) => Objective::Mlm,
            (None, _) => Objective::Causal,
        };
        self.objective.kind = Some(kind);
        if kind == Objective::Mlm {
            // Neither n-grams nor a continuation say anything about masked tokens.
            (self.train.ngram_order, self.train.sample_every) = (0, Some(0));
        }
        Ok(kind)
    }

    /// Batch, rates and steps for a model, whose context is resolved.
    fn resolve_training(&mut self, config: &ModelConfig) -> Result<(), TrainError> {
        let context = self.model.context.unwrap_or(config.max_positions()).max(1);
        let tokens = 1024 * config.n_layers();
        let batch = *self.train.batch.get_or_insert((tokens / context).max(4));
        self.optimizer.resolve(config.hidden_size(), self.model.from.is_some());
        if self.train.steps.is_none() && self.train.minutes.is_none() {
            let wanted = TOKENS_PER_WEIGHT * config.multiplied_weights();
            let step = batch * self.train.accumulate * context;
            self.train.steps = Some(wanted.div_ceil(step) as u64);
        }
        self.check()
    }

    /// Fills in what follows from the number of steps.
    pub fn resolve_steps(&mut self, steps: u64) {
        let train = &mut self.train;
        train.steps = Some(steps);
        train.warmup.get_or_insert((steps / 50).min(500));
        let eval = *train.eval_every.get_or_insert(steps.div_ceil(10));
        train.sample_every.get_or_insert(eval);
        train.checkpoint_every.get_or_insert(steps.div_ceil(5));
    }

    /// The keys in which two resolved recipes differ, as `key: here, there`. What only concerns
    /// looking on (samples, how many checkpoints are kept) may differ.
    pub fn differences(&self, other: &Recipe) -> Vec<String> {
        let free = [
            "train.prompts",
            "train.sample_tokens",
            "train.sample_every",
            "train.keep_checkpoints",
            "train.minutes",
        ];
        let (here, there) = (self.flattened(), other.flattened());
        let keys: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
        let show = |value: Option<&toml::Value>| match value {
            // The shortest decimal that gives the setting, which is single precision.
            Some(toml::Value::Float(number)) => (*number as f32).to_string(),
            Some(value) => value.to_string(),
            None => "nothing".to_owned(),
        };
        keys.into_iter()
            .filter(|key| !free.contains(&key.as_str()) && here.get(*key) != there.get(*key))
            .map(|key| format!("{key}: {}, now {}", show(here.get(key)), show(there.get(key))))
            .collect()
    }

    /// Every key with its section, and its value.
    fn flattened(&self) -> BTreeMap<String, toml::Value> {
        let table = toml::Table::try_from(self).expect("a recipe is representable as TOML");
        let mut flat = BTreeMap::new();
        for (section, value) in table {
            match value {
                toml::Value::Table(keys) => {
                    flat.extend(keys.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)));
                }
                value => drop(flat.insert(section, value)),
            }
        }
        flat
    }

    /// Refuses settings that make no sense together.
    pub fn check(&self) -> Result<(), TrainError> {
        let train = &self.train;
        let problem = if train.batch == Some(0) || train.accumulate == 0 {
            "train.batch and train.accumulate must be at least 1"
        } else if train.steps == Some(0) {
            "train.steps must be at least 1"
        } else if !(0.0..1.0).contains(&train.dropout) || !(0.0..1.0).contains(&train.label_smoothing) {
            "train.dropout and train.label_smoothing must be in 0..1"
        } else if !(self.data.share > 0.0 && self.data.share <= 1.0) {
            "data.share must lie above 0 and be at most 1"
        } else if !(0.0..1.0).contains(&self.data.holdout) || self.data.holdout == 0.0 {
            "data.holdout must lie between 0 and 1: without held-out text nothing can be judged"
        } else if train.minutes.is_some_and(|m| m.is_nan() || m <= 0.0) {
            "train.minutes must be above 0"
        } else if !(self.objective.mask_share > 0.0 && self.objective.mask_share < 1.0) {
            "objective.mask_share must lie between 0 and 1"
        } else if train.keep_checkpoints == 0 {
            "train.keep_checkpoints must be at least 1"
        } else if train.ngram_order > hearth_data::KneserNey::MAX_ORDER {
            "train.ngram_order must be at most 5"
        } else {
            return Ok(());
        };
        Err(TrainError::Recipe { place: "recipe".into(), problem: problem.into() })
    }
}

/// Where text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A data set of the catalogue.
    Dataset(String),
    /// A file, folder or glob.
    Path(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_by_name_and_place() {
        let error = Recipe::parse("[train]\nstepz = 5\n", "my.toml").expect_err("unknown key").to_string();
        assert!(
            error.starts_with("my.toml") && error.contains("stepz") && error.contains("line 2"),
            "{error}"
        );
    }

    #[test]
    fn every_key_is_described() {
        let described = include_str!("../../../docs/recipe-keys.md");
        for section in ["", "data", "tokenizer", "objective", "model", "train", "optimizer"] {
            let (header, heading) = match section {
                "" => (String::new(), "## Top level\n".to_owned()),
                _ => (format!("[{section}]\n"), format!("## `[{section}]`\n")),
            };
            let text = described.split_once(&heading).expect(section).1;
            let text = text.split("\n## ").next().expect("a first part");
            // The error for a key that isn't known names all that are.
            let error =
                Recipe::parse(&format!("{header}none = 1\n"), "test").expect_err("unknown").to_string();
            let known = error.split_once("expected one of ").expect("a list of keys").1;
            let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
            assert!(known.len() >= 3, "{section}: {known:?}");
            for key in known {
                let table = described.contains(&format!("\n## `[{key}]`\n")) && section.is_empty();
                assert!(table || text.contains(&format!("\n| `{key}` |")), "[{section}] {key}");
            }
        }
    }

    #[test]
    fn a_resolved_recipe_reads_back_and_resolves_to_itself() {
        for model in [
            "",
            "hidden_size = 144",
            "family = \"gpt2\"\nbiases = false\nactivation = \"relu\"",
            "preset = \"gpt1\"\ncontext = 64",
            "preset = \"gpt2\"",
            "family = \"llama\"\nn_heads = 4\nn_kv_heads = 2\nhead_dim = 64",
            "family = \"eurobert\"\nn_heads = 4\nn_kv_heads = 2",
            "family = \"bert\"\nactivation = \"relu\"",
        ] {
            let mut recipe = Recipe::parse(&format!("[model]\n{model}\n"), "test").expect("a recipe");
            let config = recipe.resolve(4096).expect("resolves");
            recipe.resolve_steps(100);
            let mut again = Recipe::parse(&recipe.to_toml(), "saved").expect("reads back");
            assert_eq!(again, recipe, "{model}");
            assert_eq!(again.resolve(4096).expect("resolves"), config, "{model}");
            assert_eq!(again, recipe, "{model}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for (model, expect) in [
            ("preset = \"gpt2\"\ndepth = 3", "model.preset \"gpt2\" and model.depth"),
            ("biases = true", "qwen3 has no biases"),
            ("family = \"gpt2\"\nn_kv_heads = 1", "the GPT families have one for each"),
            ("family = \"gpt1\"\nactivation = \"gelu\"", "GPT-1 has no GeluErf"),
            ("family = \"bert\"\nhead_dim = 8", "model.head_dim can't be chosen for bert"),
            ("family = \"eurobert\"\n[objective]\nkind = \"causal\"", "the model is an encoder"),
            ("family = \"llama\"\n[objective]\nkind = \"mlm\"", "the model is a decoder"),
        ] {
            let mut recipe = Recipe::parse(&format!("[model]\n{model}\n"), "test").expect("a recipe");
            let error = recipe.resolve(4096).expect_err(model).to_string();
            assert!(error.contains(expect), "{model}: {error}");
        }
    }

    #[test]
    fn published_sizes() {
        for (name, millions) in
            [("gpt1", 116.5), ("gpt2", 124.4), ("gpt2-xl", 1557.6), ("gpt3-13b", 12_853.0)]
        {
            let config = hearth_model::DecoderConfig::preset(name).expect("a preset");
            let params = hearth_model::Decoder::new(config).expect("valid").n_params() as f64 / 1e6;
            assert!((params - millions).abs() / millions < 0.005, "{name}: {params} million");
        }
    }
}
