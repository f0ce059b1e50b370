//! What a decoder looks like: one configuration that is GPT-1, GPT-2, GPT-3, Llama, Qwen2, Qwen3 or
//! Gemma 3 by its fields, and the published sizes.

use crate::error::ModelError;
use crate::rope_scaling::RopeScaling;
use hearth_kernel::activation::Activation;

/// The published architectures that a configuration can be saved as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `openai-gpt` (Radford et al. 2018): learned positions, norms after each residual sum.
    Gpt1,
    /// `gpt2` (Radford et al. 2019), and GPT-3 with dense attention: norms before each block.
    Gpt2,
    /// `llama` (Touvron et al. 2023): RoPE, RMSNorm, SwiGLU, grouped-query attention.
    Llama,
    /// `qwen2` (Yang et al. 2024): Llama with biases on queries, keys and values.
    Qwen2,
    /// `qwen3` (Yang et al. 2025): Llama with RMSNorm on queries and keys; Hearth's native shape.
    Qwen3,
    /// `gemma3` (Gemma Team 2025), text only.
    Gemma3,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 6] =
        [Family::Gpt1, Family::Gpt2, Family::Llama, Family::Qwen2, Family::Qwen3, Family::Gemma3];

    /// The `model_type` of `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Family::Gpt1 => "openai-gpt",
            Family::Gpt2 => "gpt2",
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Gemma3 => "gemma3_text",
        }
    }

    /// The `architectures` entry of `config.json`.
    pub fn class_name(self) -> &'static str {
        match self {
            Family::Gpt1 => "OpenAIGPTLMHeadModel",
            Family::Gpt2 => "GPT2LMHeadModel",
            Family::Llama => "LlamaForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
            Family::Gemma3 => "Gemma3ForCausalLM",
        }
    }

    /// Whether linear weights are stored [in, out] (GPT's `Conv1D`) instead of [out, in].
    pub fn stores_in_out(self) -> bool {
        matches!(self, Family::Gpt1 | Family::Gpt2)
    }

    /// Learned positions, LayerNorm and a plain feed-forward block, as GPT-1 to GPT-3 have.
    pub fn is_gpt(self) -> bool {
        self.stores_in_out()
    }
}

/// No size of a model is larger: products of two fit in a `usize`, and a damaged file is refused before memory
/// is asked for.
const LARGEST: usize = 1 << 24;
/// More blocks than any model has.
const MOST_LAYERS: usize = 4096;

/// Checks that every named size is one that a model may have; says which isn't.
pub(crate) fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), String> {
    for &(name, size) in sizes {
        let most = if name == "n_layers" { MOST_LAYERS } else { LARGEST };
        if size == 0 {
            return Err(format!("{name} is 0, expected at least 1"));
        }
        if size > most {
            return Err(format!("{name} is {size}, expected at most {most}"));
        }
    }
    Ok(())
}

/// Blocks that see only what is near, beside those that see everything (Gemma Team 2025, section 2.1); all
/// blocks in Mistral 7B (Jiang et al. 2023, section 2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sliding {
    /// Tokens that each sees, itself included.
    pub window: usize,
    /// Of so many blocks, the last one sees everything; [`Sliding::ALL`] if none does.
    pub every: usize,
    /// Base of the rotary embedding in the blocks with a window.
    pub rope_theta: f32,
}

impl Sliding {
    /// The value of `every` where all blocks have the window.
    pub const ALL: usize = usize::MAX;
}

/// A decoder-only Transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Which published architecture this is.
    pub family: Family,
    /// V.
    pub vocab_size: usize,
    /// C, the width of the residual stream.
    pub hidden_size: usize,
    /// Feed-forward width.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key-value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// D.
    pub head_dim: usize,
    /// The longest sequence.
    pub max_positions: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// Base of the rotary embedding (RoPE families).
    pub rope_theta: f32,
    /// The feed-forward activation of GPT families; the gate's in the others.
    pub activation: Activation,
    /// Biases: on linear layers and norms of GPT families, on queries, keys and values of Qwen2.
    pub biases: bool,
    /// The output head is the embedding table.
    pub tied_head: bool,
    /// Sliding windows (Gemma 3).
    pub sliding: Option<Sliding>,
    /// Scores are divided by the root of this instead of `head_dim` (Gemma 3).
    pub query_scalar: Option<f32>,
    /// How the rotary embedding is stretched for contexts longer than those of pretraining.
    pub rope_scaling: Option<RopeScaling>,
}

impl DecoderConfig {
    /// GPT-2's shape at any size.
    pub fn gpt2(
        vocab_size: usize,
        hidden_size: usize,
        n_layers: usize,
        n_heads: usize,
        context: usize,
    ) -> Self {
        DecoderConfig {
            family: Family::Gpt2,
            vocab_size,
            hidden_size,
            intermediate_size: 4 * hidden_size,
            n_layers,
            n_heads,
            n_kv_heads: n_heads,
            head_dim: hidden_size / n_heads.max(1),
            max_positions: context,
            norm_eps: 1e-5,
            rope_theta: 0.0,
            activation: Activation::GeluTanh,
            biases: true,
            tied_head: true,
            sliding: None,
            query_scalar: None,
            rope_scaling: None,
        }
    }

    /// Hearth's native shape: Qwen3 with heads of 64 (or fewer in a narrow model), as many key-value
    /// heads as query heads, tied embeddings, and a feed-forward width of 8/3 rounded up to 32.
    pub fn native(vocab_size: usize, hidden_size: usize, n_layers: usize, context: usize) -> Self {
        let head_dim = if hidden_size.is_multiple_of(64) && hidden_size > 128 { 64 } else { 32 };
        let n_heads = (hidden_size / head_dim).max(1);
        DecoderConfig {
            family: Family::Qwen3,
            vocab_size,
            hidden_size,
            intermediate_size: (hidden_size * 8 / 3).next_multiple_of(32),
            n_layers,
            n_heads,
            n_kv_heads: n_heads,
            head_dim,
            max_positions: context,
            norm_eps: 1e-6,
            rope_theta: 10_000.0,
            activation: Activation::Silu,
            biases: false,
            tied_head: true,
            sliding: None,
            query_scalar: None,
            rope_scaling: None,
        }
    }

    /// A published size by name, such as `gpt2-medium` or `gpt3-1.3b`; see [`preset_names`].
    pub fn preset(name: &str) -> Option<Self> {
        // Layers, width, heads, context, vocabulary: GPT-1 section 4.1; GPT-2 table 2; GPT-3 table 2.1.
        // GPT-3 alternates dense and banded attention; these are dense throughout.
        let (layers, width, heads, context, vocab) = match name {
            "gpt1" => (12, 768, 12, 512, 40_478),
            "gpt2" | "gpt2-124m" => (12, 768, 12, 1024, 50_257),
            "gpt2-medium" => (24, 1024, 16, 1024, 50_257),
            "gpt2-large" => (36, 1280, 20, 1024, 50_257),
            "gpt2-xl" => (48, 1600, 25, 1024, 50_257),
            "gpt3-125m" => (12, 768, 12, 2048, 50_257),
            "gpt3-350m" => (24, 1024, 16, 2048, 50_257),
            "gpt3-760m" => (24, 1536, 16, 2048, 50_257),
            "gpt3-1.3b" => (24, 2048, 32, 2048, 50_257),
            "gpt3-2.7b" => (32, 2560, 32, 2048, 50_257),
            "gpt3-6.7b" => (32, 4096, 32, 2048, 50_257),
            "gpt3-13b" => (40, 5120, 40, 2048, 50_257),
            "gpt3-175b" => (96, 12_288, 96, 2048, 50_257),
            _ => return None,
        };
        let mut config = Self::gpt2(vocab, width, layers, heads, context);
        if name == "gpt1" {
            config.family = Family::Gpt1;
        }
        Some(config)
    }

    /// Checks that the sizes fit together.
    pub fn validate(&self) -> Result<(), ModelError> {
        let fail = |problem: String| Err(ModelError::Config { place: "model configuration".into(), problem });
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
            ("max_positions", self.max_positions),
        ];
        check_sizes(&sizes).or_else(fail)?;
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return fail(format!(
                "{} heads can't share {} key-value heads evenly",
                self.n_heads, self.n_kv_heads
            ));
        }
        if self.family.is_gpt() && self.n_kv_heads != self.n_heads {
            return fail(format!(
                "{} key-value heads for {} heads: the GPT families have one for each",
                self.n_kv_heads, self.n_heads
            ));
        }
        if self.biases != (self.family == Family::Qwen2) && !self.family.is_gpt() {
            let (name, has) = (self.family.model_type(), if self.biases { "no" } else { "always" });
            return fail(format!("{name} has {has} biases; gpt2 and gpt1 may"));
        }
        if self.sliding.is_some_and(|s| s.window == 0 || s.every == 0) {
            return fail(format!("sliding windows of {:?}, expected at least 1", self.sliding));
        }
        if let Some(scaling) = &self.rope_scaling {
            if self.family.is_gpt() {
                return fail("a scaled rotary embedding: the GPT families have none".into());
            }
            scaling.validate(self.head_dim).or_else(fail)?;
        }
        if self.family == Family::Gpt1 && self.intermediate_size != 4 * self.hidden_size {
            return fail(format!(
                "a feed-forward width of {}: GPT-1's is four times the hidden size, {}",
                self.intermediate_size,
                4 * self.hidden_size
            ));
        }
        let published = [Activation::GeluTanh, Activation::Relu, Activation::Silu];
        if self.family == Family::Gpt1 && !published.contains(&self.activation) {
            return fail(format!("GPT-1 has no {:?}, only gelu-tanh, relu and silu", self.activation));
        }
        if self.family.is_gpt() && self.n_heads * self.head_dim != self.hidden_size {
            return fail(format!(
                "a hidden size of {} doesn't split into {} heads; choose a multiple",
                self.hidden_size, self.n_heads
            ));
        }
        if !self.family.is_gpt() && !self.head_dim.is_multiple_of(2) {
            return fail(format!("rotary embedding needs an even head_dim, got {}", self.head_dim));
        }
        Ok(())
    }

    /// Tokens that block `layer` sees, if it has a sliding window.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        self.sliding.filter(|s| !(layer + 1).is_multiple_of(s.every)).map(|s| s.window)
    }

    /// The rotary embedding's angle of each pair of a head's dimensions, a position: of blocks that see
    /// everything, or of those with a window. Gemma's scaling leaves the latter as they are.
    pub fn rope_frequencies(&self, windowed: bool) -> Vec<f64> {
        let local = self.sliding.filter(|_| windowed);
        let theta = local.map_or(self.rope_theta, |sliding| sliding.rope_theta);
        let frequency = |i: usize| f64::from(theta).powf(-2.0 * i as f64 / self.head_dim as f64);
        let mut frequencies: Vec<f64> = (0..self.head_dim / 2).map(frequency).collect();
        let unscaled = local.is_some() && self.family == Family::Gemma3;
        if let Some(scaling) = self.rope_scaling.as_ref().filter(|_| !unscaled) {
            scaling.apply(&mut frequencies);
        }
        frequencies
    }

    /// What token embeddings are multiplied by.
    pub fn embedding_scale(&self) -> f32 {
        if self.family == Family::Gemma3 { (self.hidden_size as f32).sqrt() } else { 1.0 }
    }

    /// What attention's scores are multiplied by.
    pub fn attention_scale(&self) -> f32 {
        1.0 / self.query_scalar.unwrap_or(self.head_dim as f32).sqrt()
    }

    /// Floating-point operations to train on one token at context `t`: six for each weight that a
    /// token multiplies (Kaplan et al. 2020, section 2.1), and the attention products, halved because
    /// they are causal.
    pub fn train_flops_per_token(&self, t: usize) -> f64 {
        let attention = self.n_layers * self.n_heads * self.head_dim * t;
        6.0 * self.multiplied_weights() as f64 + 6.0 * attention as f64
    }

    /// Weights in matrices that each token is multiplied with: blocks and output head.
    pub fn multiplied_weights(&self) -> usize {
        let (c, f) = (self.hidden_size, self.intermediate_size);
        let q = self.n_heads * self.head_dim;
        let kv = self.n_kv_heads * self.head_dim;
        let mlp = if self.family.is_gpt() { 2 } else { 3 };
        self.n_layers * (2 * c * q + 2 * c * kv + mlp * c * f) + self.vocab_size * c
    }
}

/// The names that [`DecoderConfig::preset`] knows.
pub fn preset_names() -> &'static [&'static str] {
    &[
        "gpt1",
        "gpt2",
        "gpt2-medium",
        "gpt2-large",
        "gpt2-xl",
        "gpt3-125m",
        "gpt3-350m",
        "gpt3-760m",
        "gpt3-1.3b",
        "gpt3-2.7b",
        "gpt3-6.7b",
        "gpt3-13b",
        "gpt3-175b",
    ]
}
