//! Recipes: a whole pretraining run as TOML. What a recipe leaves open follows from the model's size
//! by the rules in [`Recipe::resolve`]; the resolved recipe is printed and saved with the run.

use crate::error::TrainError;
use crate::optimizer::OptimizerSection;
use crate::schedule::ScheduleKind;
use hearth_kernel::activation::Activation;
use hearth_model::config::{DecoderConfig, Family, preset_names};
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

/// What is trained: a published size, or a depth, from which sizes follow unless they are given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// A published size, such as `gpt2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The dial: number of blocks, from which the rest follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// `qwen3` (native), `llama`, `gpt2` or `gpt1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// C.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<usize>,
    /// Feed-forward width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<usize>,
    /// Query heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_heads: Option<usize>,
    /// Key-value heads (llama, qwen3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_kv_heads: Option<usize>,
    /// D, the width of a head (llama, qwen3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// T, the length of a training window and the model's positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Share the head with the embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied_head: Option<bool>,
    /// Biases (GPT families).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub biases: Option<bool>,
    /// `gelu` (exact), `gelu-tanh`, `relu` or `relu2` (GPT families).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<String>,
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

/// The dial's default.
const DEPTH: usize = 4;
/// Tokens trained on for each weight that a token is multiplied with (Hoffmann et al. 2022, table 3).
const TOKENS_PER_WEIGHT: usize = 20;

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
    pub fn resolve(&mut self, vocab_size: usize) -> Result<DecoderConfig, TrainError> {
        let config = self.model.decoder(vocab_size)?;
        let model = &mut self.model;
        model.preset = None;
        model.depth = Some(config.n_layers);
        model.family = Some(family_name(config.family).into());
        model.hidden_size = Some(config.hidden_size);
        model.intermediate_size = Some(config.intermediate_size);
        model.n_heads = Some(config.n_heads);
        if !config.family.is_gpt() {
            model.n_kv_heads = Some(config.n_kv_heads);
            model.head_dim = Some(config.head_dim);
        }
        model.context = Some(config.max_positions);
        model.tied_head = Some(config.tied_head);
        let tokens = 1024 * config.n_layers;
        let batch = *self.train.batch.get_or_insert((tokens / config.max_positions).max(4));
        self.optimizer.resolve(config.hidden_size);
        if self.train.steps.is_none() && self.train.minutes.is_none() {
            let wanted = TOKENS_PER_WEIGHT * config.multiplied_weights();
            let step = batch * self.train.accumulate * config.max_positions;
            self.train.steps = Some(wanted.div_ceil(step) as u64);
        }
        self.check()?;
        Ok(config)
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

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Gpt1 => "gpt1",
        Family::Gpt2 => "gpt2",
        Family::Llama => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
        Family::Gemma3 => "gemma3",
    }
}

impl ModelSection {
    /// The decoder that this section describes.
    fn decoder(&self, vocab_size: usize) -> Result<DecoderConfig, TrainError> {
        let fail = |problem: String| TrainError::Recipe { place: "recipe".into(), problem };
        let family = match self.family.as_deref() {
            None | Some("qwen3") => Family::Qwen3,
            Some("llama") => Family::Llama,
            Some("gpt2") => Family::Gpt2,
            Some("gpt1") => Family::Gpt1,
            Some(other) => {
                return Err(fail(format!("model.family {other:?}: expected qwen3, llama, gpt2 or gpt1")));
            }
        };
        let mut published = None;
        if let Some(name) = &self.preset {
            published = DecoderConfig::preset(name);
            if published.is_none() {
                let known = preset_names().join(", ");
                return Err(fail(format!("model.preset {name:?}: expected one of {known}")));
            }
            let own = [
                ("depth", self.depth.is_some()),
                ("family", self.family.is_some()),
                ("hidden_size", self.hidden_size.is_some()),
                ("intermediate_size", self.intermediate_size.is_some()),
                ("n_heads", self.n_heads.is_some()),
                ("n_kv_heads", self.n_kv_heads.is_some()),
                ("head_dim", self.head_dim.is_some()),
            ];
            if let Some((key, _)) = own.iter().find(|(_, given)| *given) {
                return Err(fail(format!(
                    "model.preset {name:?} and model.{key} are both given; the preset decides it\nhint: leave one of them out"
                )));
            }
        }
        let depth = self.depth.unwrap_or(DEPTH);
        let width = self.hidden_size.unwrap_or((64 * depth).max(128));
        let context = self.context.unwrap_or(match depth {
            0..=6 => 256,
            7..=11 => 512,
            _ => 1024,
        });
        let mut config = match published {
            Some(config) => config,
            None if family.is_gpt() => {
                let heads = self.n_heads.unwrap_or((width / 64).max(1));
                DecoderConfig { family, ..DecoderConfig::gpt2(vocab_size, width, depth, heads, context) }
            }
            None => DecoderConfig { family, ..DecoderConfig::native(vocab_size, width, depth, context) },
        };
        config.vocab_size = vocab_size;
        if let Some(n) = self.context {
            config.max_positions = n;
        }
        if let Some(n) = self.n_heads {
            (config.n_heads, config.n_kv_heads, config.head_dim) = (n, n, config.hidden_size / n.max(1));
        }
        if let Some(n) = self.head_dim {
            config.head_dim = n;
        }
        if let Some(n) = self.n_kv_heads {
            config.n_kv_heads = n;
        }
        if let Some(n) = self.intermediate_size {
            config.intermediate_size = n;
        }
        config.tied_head = self.tied_head.unwrap_or(config.tied_head);
        config.biases = self.biases.unwrap_or(config.biases);
        if let Some(name) = &self.activation {
            config.activation = match (name.as_str(), config.family.is_gpt()) {
                ("gelu", true) => Activation::GeluErf,
                ("gelu-tanh", true) => Activation::GeluTanh,
                ("relu", true) => Activation::Relu,
                ("relu2", true) => Activation::Relu2,
                (_, true) => {
                    return Err(fail(format!(
                        "model.activation {name:?}: expected gelu, gelu-tanh, relu or relu2"
                    )));
                }
                (_, false) => {
                    return Err(fail("model.activation can only be chosen for gpt1 and gpt2".into()));
                }
            };
        }
        config.validate()?;
        Ok(config)
    }
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
    fn a_resolved_recipe_reads_back_and_resolves_to_itself() {
        for model in [
            "",
            "hidden_size = 144",
            "family = \"gpt2\"\nbiases = false\nactivation = \"relu\"",
            "preset = \"gpt1\"\ncontext = 64",
            "preset = \"gpt2\"",
            "family = \"llama\"\nn_heads = 4\nn_kv_heads = 2\nhead_dim = 64",
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
            let config = DecoderConfig::preset(name).expect("a preset");
            let params = hearth_model::Decoder::new(config).expect("valid").n_params() as f64 / 1e6;
            assert!((params - millions).abs() / millions < 0.005, "{name}: {params} million");
        }
    }
}
