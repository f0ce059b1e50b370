//! The encoder: parameter names, shapes and order of operations, written once. Every token sees all of its own
//! sequence.
//!
//! BERT departs from the plain Transformer encoder (Vaswani et al. 2017) as Devlin et al. 2019 say: positions are
//! learned, a table of two rows tells a first text from a second one, the sum of the three embeddings is
//! normalised, and the feed-forward block uses the exact GELU. Norms come after each residual sum.
//!
//! EuroBERT (Boizard et al. 2025, section 2.1) is Llama without the mask, so Llama's description is the one that
//! runs: RoPE, RMSNorm before each block, SwiGLU, grouped-query attention, no biases, no types of tokens.

use crate::config::{DecoderConfig, Family, check_sizes};
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::executor::{Executor, Init, Linear, Norm, ParamId, ParamSpec, Qkv, Role};
use hearth_kernel::activation::Activation;

/// The published architectures that an encoder can have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EncoderFamily {
    /// `bert` (Devlin et al. 2019).
    Bert,
    /// `eurobert` (Boizard et al. 2025): Hearth's native encoder.
    EuroBert(EuroBert),
}

/// What EuroBERT's configuration has beside BERT's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EuroBert {
    /// Key-value heads; divides the number of heads.
    pub n_kv_heads: usize,
    /// Base of the rotary embedding.
    pub rope_theta: f32,
    /// The output head of masked-language modelling is the embedding table; BERT's always is.
    pub tied_head: bool,
    /// Ids that `config.json` has to name, since `transformers` otherwise takes those of the published models.
    pub ids: EncoderIds,
}

/// Ids of tokens with a part to play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncoderIds {
    /// Begins a sequence.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Fills up.
    pub pad: Option<u32>,
    /// Stands for a token that is to be found.
    pub mask: Option<u32>,
}

impl EncoderFamily {
    /// The `model_type` of `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            EncoderFamily::Bert => "bert",
            EncoderFamily::EuroBert(_) => "eurobert",
        }
    }

    /// How the names of `transformers`' classes begin.
    pub(crate) fn class_prefix(self) -> &'static str {
        match self {
            EncoderFamily::Bert => "Bert",
            EncoderFamily::EuroBert(_) => "EuroBert",
        }
    }

    /// What classes with a head put in front of the architecture's names.
    pub fn name_prefix(self) -> &'static str {
        match self {
            EncoderFamily::Bert => "bert.",
            EncoderFamily::EuroBert(_) => "model.",
        }
    }
}

/// The sizes of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// Which published architecture this is.
    pub family: EncoderFamily,
    /// V.
    pub vocab_size: usize,
    /// C.
    pub hidden_size: usize,
    /// Feed-forward width.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// H; divides the hidden size.
    pub n_heads: usize,
    /// The longest sequence.
    pub max_positions: usize,
    /// Rows of the table of token types; 0 in EuroBERT, which has none and doesn't look at types.
    pub n_types: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// The feed-forward activation.
    pub activation: Activation,
    /// Whether there is a layer that turns the first token's state into one for the whole sequence (BERT).
    pub pooler: bool,
}

impl EncoderConfig {
    /// BERT's shape at any size, without a pooler.
    pub fn bert(
        vocab_size: usize,
        hidden_size: usize,
        n_layers: usize,
        n_heads: usize,
        context: usize,
    ) -> Self {
        EncoderConfig {
            family: EncoderFamily::Bert,
            vocab_size,
            hidden_size,
            // A file may claim any size; what is too large is refused when it is checked.
            intermediate_size: hidden_size.saturating_mul(4),
            n_layers,
            n_heads,
            max_positions: context,
            n_types: 2,
            norm_eps: 1e-12,
            activation: Activation::GeluErf,
            pooler: false,
        }
    }

    /// Hearth's native encoder: EuroBERT with the sizes of the native decoder ([`DecoderConfig::native`]), as
    /// many key-value heads as query heads, and the embedding table as its head.
    pub fn native(vocab_size: usize, hidden_size: usize, n_layers: usize, context: usize) -> Self {
        let sizes = DecoderConfig::native(vocab_size, hidden_size, n_layers, context);
        let rope = EuroBert {
            n_kv_heads: sizes.n_kv_heads,
            rope_theta: sizes.rope_theta,
            tied_head: true,
            ids: EncoderIds::default(),
        };
        EncoderConfig {
            family: EncoderFamily::EuroBert(rope),
            vocab_size,
            hidden_size,
            intermediate_size: sizes.intermediate_size,
            n_layers,
            n_heads: sizes.n_heads,
            max_positions: context,
            n_types: 0,
            norm_eps: sizes.norm_eps,
            activation: Activation::Silu,
            pooler: false,
        }
    }

    /// Heads of keys and values.
    pub fn n_kv_heads(&self) -> usize {
        match self.family {
            EncoderFamily::Bert => self.n_heads,
            EncoderFamily::EuroBert(own) => own.n_kv_heads,
        }
    }

    /// Llama of the same sizes, which EuroBERT is without the mask.
    pub(crate) fn as_llama(&self) -> Option<DecoderConfig> {
        let EncoderFamily::EuroBert(own) = self.family else { return None };
        Some(DecoderConfig {
            family: Family::Llama,
            n_heads: self.n_heads,
            n_kv_heads: own.n_kv_heads,
            head_dim: self.head_dim(),
            intermediate_size: self.intermediate_size,
            norm_eps: self.norm_eps,
            rope_theta: own.rope_theta,
            activation: self.activation,
            ..DecoderConfig::native(self.vocab_size, self.hidden_size, self.n_layers, self.max_positions)
        })
    }

    /// D.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.n_heads
    }

    /// What attention's scores are multiplied by.
    pub fn attention_scale(&self) -> f32 {
        1.0 / (self.head_dim() as f32).sqrt()
    }

    /// Checks that the sizes fit together.
    pub fn validate(&self) -> Result<(), ModelError> {
        let fail = |problem| Err(ModelError::Config { place: "model configuration".into(), problem });
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("max_positions", self.max_positions),
        ];
        check_sizes(&sizes).or_else(fail)?;
        if self.family == EncoderFamily::Bert {
            check_sizes(&[("n_types", self.n_types)]).or_else(fail)?;
        } else if self.n_types > 0 || self.pooler || self.activation != Activation::Silu {
            return fail("eurobert has no token types, no pooler, and silu as its activation".to_owned());
        }
        if !self.hidden_size.is_multiple_of(self.n_heads) {
            let (c, h) = (self.hidden_size, self.n_heads);
            return fail(format!("a hidden size of {c} doesn't split into {h} heads; choose a multiple"));
        }
        self.as_llama().map_or(Ok(()), |llama| llama.validate())
    }

    /// Weights in matrices that each token of an encoder without a head is multiplied with.
    pub fn multiplied_weights(&self) -> usize {
        let (c, f, kv) = (self.hidden_size, self.intermediate_size, self.n_kv_heads() * self.head_dim());
        let mlp = if self.family == EncoderFamily::Bert { 2 } else { 3 };
        self.n_layers * (2 * c * c + 2 * c * kv + mlp * c * f)
    }

    /// Floating-point operations to train on one token of a sequence of `t`, of which a share of `masked` goes
    /// through the output head: six for each weight that a token multiplies (Kaplan et al. 2020, section 2.1), and
    /// twelve for each value of the attention products.
    pub fn train_flops_per_token(&self, t: usize, masked: f64) -> f64 {
        let (c, v) = (self.hidden_size, self.vocab_size);
        let attention = 12.0 * (self.n_layers * c * t) as f64;
        6.0 * (self.multiplied_weights() as f64 + masked * (v * c) as f64) + attention
    }
}

/// An encoder's description: its configuration, its parameters, and [`Encoder::hidden`].
#[derive(Clone, Debug)]
pub struct Encoder {
    config: EncoderConfig,
    specs: Vec<ParamSpec>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Bert(Box<Bert>),
    /// Its parameters are those of the encoder, in the same order.
    Llama(Box<Decoder>),
}

#[derive(Clone, Debug)]
struct Bert {
    tokens: ParamId,
    positions: ParamId,
    types: ParamId,
    embedding_norm: Norm,
    blocks: Vec<Block>,
    pooler: Option<Linear>,
}

#[derive(Clone, Debug)]
struct Block {
    q: Linear,
    k: Linear,
    v: Linear,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    mlp_norm: Norm,
}

impl AsRef<[ParamSpec]> for Encoder {
    fn as_ref(&self) -> &[ParamSpec] {
        &self.specs
    }
}

impl Encoder {
    /// Describes an encoder.
    pub fn new(config: EncoderConfig) -> Result<Self, ModelError> {
        config.validate()?;
        let Some(llama) = config.as_llama() else {
            let mut specs = Specs { list: Vec::new(), eps: config.norm_eps };
            let body = Body::Bert(Box::new(Bert::describe(&mut specs, &config)));
            return Ok(Encoder { config, specs: specs.list, body });
        };
        let decoder = Decoder::new(llama)?;
        let bare = |spec: &ParamSpec| {
            let name = spec.name.strip_prefix(config.family.name_prefix()).unwrap_or(&spec.name);
            ParamSpec { name: name.to_owned(), ..spec.clone() }
        };
        let specs = decoder.specs().iter().map(bare).collect();
        Ok(Encoder { config, specs, body: Body::Llama(Box::new(decoder)) })
    }

    /// The configuration.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// All parameters, in the order of [`ParamId`]s.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Number of parameters.
    pub fn n_params(&self) -> usize {
        self.specs.iter().map(|s| s.shape.iter().product::<usize>()).sum()
    }

    /// The table of token embeddings, [V, C].
    pub fn token_embeddings(&self) -> ParamId {
        match &self.body {
            Body::Bert(bert) => bert.tokens,
            // With a head that is the embedding table, as `as_llama` has it.
            Body::Llama(decoder) => decoder.head().weight,
        }
    }

    /// The layer over the first token's hidden state, followed by tanh, if there is one.
    pub fn pooler(&self) -> Option<&Linear> {
        match &self.body {
            Body::Bert(bert) => bert.pooler.as_ref(),
            Body::Llama(_) => None,
        }
    }

    /// The rotary embedding's angles a position, if there is one.
    pub(crate) fn rope_frequencies(&self) -> Option<Vec<f64>> {
        match &self.body {
            Body::Bert(_) => None,
            Body::Llama(decoder) => Some(decoder.config().rope_frequencies(false)),
        }
    }

    /// Token ids to the final hidden states, [N, C].
    pub fn hidden<E: Executor>(&self, e: &mut E) -> Result<E::Value, ModelError> {
        match &self.body {
            Body::Bert(bert) => bert.hidden(e, &self.config),
            Body::Llama(decoder) => decoder.hidden(e),
        }
    }
}

impl Bert {
    fn describe(specs: &mut Specs, config: &EncoderConfig) -> Self {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let mut table = |name: &str, rows: usize| {
            let name = format!("embeddings.{name}_embeddings.weight");
            specs.add(name, &[rows, c], Init::Normal(0.02), Role::Embedding)
        };
        let tokens = table("word", config.vocab_size);
        let positions = table("position", config.max_positions);
        let types = table("token_type", config.n_types);
        let embedding_norm = specs.norm("embeddings.LayerNorm", c);
        let block = |i: usize| {
            let at = |name: &str| format!("encoder.layer.{i}.{name}");
            Block {
                q: specs.linear(&at("attention.self.query"), c, c),
                k: specs.linear(&at("attention.self.key"), c, c),
                v: specs.linear(&at("attention.self.value"), c, c),
                output: specs.linear(&at("attention.output.dense"), c, c),
                attention_norm: specs.norm(&at("attention.output.LayerNorm"), c),
                up: specs.linear(&at("intermediate.dense"), c, f),
                down: specs.linear(&at("output.dense"), f, c),
                mlp_norm: specs.norm(&at("output.LayerNorm"), c),
            }
        };
        let blocks = (0..config.n_layers).map(block).collect();
        let pooler = config.pooler.then(|| specs.linear("pooler.dense", c, c));
        Bert { tokens, positions, types, embedding_norm, blocks, pooler }
    }

    fn hidden<E: Executor>(&self, e: &mut E, config: &EncoderConfig) -> Result<E::Value, ModelError> {
        let c = config.hidden_size;
        let words = e.embed_tokens(self.tokens, c, 1.0)?;
        let types = e.embed_types(self.types, c)?;
        let sum = e.add(words, types)?;
        let positions = e.embed_positions(self.positions, c)?;
        let sum = e.add(sum, positions)?;
        let normed = e.norm(&sum, &self.embedding_norm, c)?;
        let mut x = e.dropout(normed)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let (q, k) = (e.linear(&x, &block.q, None)?, e.linear(&x, &block.k, None)?);
            let v = e.linear(&x, &block.v, None)?;
            let mixed = e.attention(i, Qkv::Separate { q, k, v })?;
            let attended = e.linear(&mixed, &block.output, None)?;
            let attended = e.dropout(attended)?;
            let sum = e.add(x, attended)?;
            x = e.norm(&sum, &block.attention_norm, c)?;
            let inner = e.linear(&x, &block.up, Some(config.activation))?;
            let fed = e.linear(&inner, &block.down, None)?;
            let fed = e.dropout(fed)?;
            let sum = e.add(x, fed)?;
            x = e.norm(&sum, &block.mlp_norm, c)?;
        }
        Ok(x)
    }
}

/// Collects parameters in order.
pub(crate) struct Specs {
    pub(crate) list: Vec<ParamSpec>,
    pub(crate) eps: f32,
}

impl Specs {
    pub(crate) fn add(&mut self, name: String, shape: &[usize], init: Init, role: Role) -> ParamId {
        self.list.push(ParamSpec { name, shape: shape.to_vec(), init, role });
        ParamId(self.list.len() - 1)
    }

    pub(crate) fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Linear {
        let shape = [outputs, inputs];
        let weight = self.add(format!("{name}.weight"), &shape, Init::Normal(0.02), Role::Matrix);
        let bias = Some(self.add(format!("{name}.bias"), &[outputs], Init::Zeros, Role::Vector));
        Linear { weight, bias, inputs, outputs, in_out: false }
    }

    pub(crate) fn norm(&mut self, name: &str, width: usize) -> Norm {
        let scale = self.add(format!("{name}.weight"), &[width], Init::Ones, Role::Vector);
        let shift = Some(self.add(format!("{name}.bias"), &[width], Init::Zeros, Role::Vector));
        Norm { scale, shift, rms: false, eps: self.eps }
    }
}
