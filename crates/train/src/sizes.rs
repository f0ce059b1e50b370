//! Sizes: what the `[model]` section of a recipe describes.

use crate::error::TrainError;
use hearth_kernel::activation::Activation;
use hearth_model::config::{DecoderConfig, Family, preset_names};
use hearth_model::{EncoderConfig, EncoderFamily};
use serde::{Deserialize, Serialize};

/// What is trained: a published size, a depth from which sizes follow unless they are given, or a model that is there
/// already.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// The folder of a model to go on with, which brings its sizes and its tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A published size, such as `gpt2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The dial: number of blocks, from which the rest follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// `qwen3` (native), `llama`, `gpt2` or `gpt1`; of encoders `eurobert` (native) or `bert`.
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
    /// Key-value heads (llama, qwen3, eurobert).
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
    /// `gelu` (exact), `gelu-tanh`, `relu` or `relu2` (GPT families; of these bert has no `relu2`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<String>,
}

/// The dial's default.
const DEPTH: usize = 4;

/// The sizes of a model that is pretrained.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelConfig {
    /// It predicts the next token.
    Decoder(DecoderConfig),
    /// It finds masked tokens.
    Encoder(EncoderConfig),
}

impl ModelConfig {
    /// The `model_type` of `config.json`.
    pub fn model_type(&self) -> &'static str {
        match self {
            ModelConfig::Decoder(config) => config.family.model_type(),
            ModelConfig::Encoder(config) => config.family.model_type(),
        }
    }

    /// Number of blocks.
    pub fn n_layers(&self) -> usize {
        match self {
            ModelConfig::Decoder(config) => config.n_layers,
            ModelConfig::Encoder(config) => config.n_layers,
        }
    }

    /// C.
    pub fn hidden_size(&self) -> usize {
        match self {
            ModelConfig::Decoder(config) => config.hidden_size,
            ModelConfig::Encoder(config) => config.hidden_size,
        }
    }

    /// V.
    pub fn vocab_size(&self) -> usize {
        match self {
            ModelConfig::Decoder(config) => config.vocab_size,
            ModelConfig::Encoder(config) => config.vocab_size,
        }
    }

    /// The longest sequence.
    pub fn max_positions(&self) -> usize {
        match self {
            ModelConfig::Decoder(config) => config.max_positions,
            ModelConfig::Encoder(config) => config.max_positions,
        }
    }

    /// Weights in matrices that each token is multiplied with, the output head among them: as a whole, though masked
    /// tokens alone go through that of an encoder, which has to be learnt all the same.
    pub fn multiplied_weights(&self) -> usize {
        match self {
            ModelConfig::Decoder(config) => config.multiplied_weights(),
            ModelConfig::Encoder(config) => {
                config.multiplied_weights() + config.vocab_size * config.hidden_size
            }
        }
    }

    /// Floating-point operations to train on one token of a window of `t`, if a share of `masked` is masked.
    pub fn train_flops_per_token(&self, t: usize, masked: f64) -> f64 {
        match self {
            ModelConfig::Decoder(config) => config.train_flops_per_token(t),
            ModelConfig::Encoder(config) => config.train_flops_per_token(t, masked),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum AnyFamily {
    Decoder(Family),
    EuroBert,
    Bert,
}

fn fail(problem: String) -> TrainError {
    TrainError::Recipe { place: "recipe".into(), problem }
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
    /// The family, if one is named.
    fn family(&self) -> Result<Option<AnyFamily>, TrainError> {
        Ok(Some(match self.family.as_deref() {
            None => return Ok(None),
            Some("qwen3") => AnyFamily::Decoder(Family::Qwen3),
            Some("llama") => AnyFamily::Decoder(Family::Llama),
            Some("gpt2") => AnyFamily::Decoder(Family::Gpt2),
            Some("gpt1") => AnyFamily::Decoder(Family::Gpt1),
            Some("eurobert") => AnyFamily::EuroBert,
            Some("bert") => AnyFamily::Bert,
            Some(other) => {
                return Err(fail(format!(
                    "model.family {other:?}: expected qwen3, llama, gpt2 or gpt1, or of encoders eurobert or bert"
                )));
            }
        }))
    }

    /// Whether the family is one of encoders, or of decoders; neither is said if none is named.
    pub(crate) fn is_encoder(&self) -> Result<Option<bool>, TrainError> {
        let of_preset = self.preset.is_some().then_some(false);
        Ok(self.family()?.map(|family| !matches!(family, AnyFamily::Decoder(_))).or(of_preset))
    }

    /// The keys that the sizes are given by, and whether they are.
    fn sizes(&self) -> [(&'static str, bool); 11] {
        [
            ("preset", self.preset.is_some()),
            ("depth", self.depth.is_some()),
            ("family", self.family.is_some()),
            ("hidden_size", self.hidden_size.is_some()),
            ("intermediate_size", self.intermediate_size.is_some()),
            ("n_heads", self.n_heads.is_some()),
            ("n_kv_heads", self.n_kv_heads.is_some()),
            ("head_dim", self.head_dim.is_some()),
            ("tied_head", self.tied_head.is_some()),
            ("activation", self.activation.is_some()),
            ("biases", self.biases.is_some()),
        ]
    }

    /// Refuses sizes beside a model that has its own.
    pub(crate) fn check_from(&self) -> Result<(), TrainError> {
        match (&self.from, self.sizes().iter().find(|(_, given)| *given)) {
            (Some(from), Some((key, _))) => Err(fail(format!(
                "model.from {from:?} and model.{key} are both given; the model has its own\nhint: leave one of them out"
            ))),
            _ => Ok(()),
        }
    }

    /// The model that this section describes: a decoder, or an encoder.
    pub(crate) fn config(&self, vocab_size: usize, encoder: bool) -> Result<ModelConfig, TrainError> {
        match encoder {
            true => Ok(ModelConfig::Encoder(self.encoder(vocab_size)?)),
            false => Ok(ModelConfig::Decoder(self.decoder(vocab_size)?)),
        }
    }

    /// Writes down the sizes that followed.
    pub(crate) fn resolve(&mut self, config: &ModelConfig) {
        self.preset = None;
        self.depth = Some(config.n_layers());
        self.hidden_size = Some(config.hidden_size());
        match config {
            ModelConfig::Decoder(config) => {
                self.family = Some(family_name(config.family).into());
                self.intermediate_size = Some(config.intermediate_size);
                self.n_heads = Some(config.n_heads);
                if !config.family.is_gpt() {
                    self.n_kv_heads = Some(config.n_kv_heads);
                    self.head_dim = Some(config.head_dim);
                }
                self.tied_head = Some(config.tied_head);
            }
            ModelConfig::Encoder(config) => {
                self.family = Some(config.family.model_type().into());
                self.intermediate_size = Some(config.intermediate_size);
                self.n_heads = Some(config.n_heads);
                if let EncoderFamily::EuroBert(own) = config.family {
                    self.n_kv_heads = Some(own.n_kv_heads);
                    self.tied_head = Some(own.tied_head);
                }
            }
        }
    }

    /// Depth, width and context, where they aren't given by the dial's rules.
    fn dial(&self) -> (usize, usize, usize) {
        let depth = self.depth.unwrap_or(DEPTH);
        let width = self.hidden_size.unwrap_or((64 * depth).max(128));
        let context = self.context.unwrap_or(match depth {
            0..=6 => 256,
            7..=11 => 512,
            _ => 1024,
        });
        (depth, width, context)
    }

    /// The encoder that this section describes.
    fn encoder(&self, vocab_size: usize) -> Result<EncoderConfig, TrainError> {
        let (depth, width, context) = self.dial();
        let bert = self.family()? == Some(AnyFamily::Bert);
        let fixed = [
            ("head_dim", self.head_dim.is_some()),
            ("biases", self.biases.is_some()),
            ("n_kv_heads", bert && self.n_kv_heads.is_some()),
            ("tied_head", bert && self.tied_head.is_some()),
            ("activation", !bert && self.activation.is_some()),
        ];
        if let Some((key, _)) = fixed.iter().find(|(_, given)| *given) {
            let family = if bert { "bert" } else { "eurobert" };
            return Err(fail(format!("model.{key} can't be chosen for {family}")));
        }
        let mut config = match bert {
            true => EncoderConfig::bert(vocab_size, width, depth, (width / 64).max(1), context),
            false => EncoderConfig::native(vocab_size, width, depth, context),
        };
        if let Some(n) = self.n_heads {
            config.n_heads = n;
        }
        if let EncoderFamily::EuroBert(own) = &mut config.family {
            own.n_kv_heads = self.n_kv_heads.unwrap_or(config.n_heads);
            own.tied_head = self.tied_head.unwrap_or(own.tied_head);
        }
        if let Some(n) = self.intermediate_size {
            config.intermediate_size = n;
        }
        if let Some(name) = &self.activation {
            config.activation = match name.as_str() {
                "gelu" => Activation::GeluErf,
                "gelu-tanh" => Activation::GeluTanh,
                "relu" => Activation::Relu,
                _ => {
                    return Err(fail(format!("model.activation {name:?}: expected gelu, gelu-tanh or relu")));
                }
            };
        }
        config.validate()?;
        Ok(config)
    }

    /// The decoder that this section describes.
    fn decoder(&self, vocab_size: usize) -> Result<DecoderConfig, TrainError> {
        let family = match self.family()? {
            Some(AnyFamily::Decoder(family)) => family,
            _ => Family::Qwen3,
        };
        let mut published = None;
        if let Some(name) = &self.preset {
            published = DecoderConfig::preset(name);
            if published.is_none() {
                let known = preset_names().join(", ");
                return Err(fail(format!("model.preset {name:?}: expected one of {known}")));
            }
            let decided = &self.sizes()[1..8];
            if let Some((key, _)) = decided.iter().find(|(_, given)| *given) {
                return Err(fail(format!(
                    "model.preset {name:?} and model.{key} are both given; the preset decides it\nhint: leave one of them out"
                )));
            }
        }
        let (depth, width, context) = self.dial();
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
