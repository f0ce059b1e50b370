//! The encoder: BERT's parameter names, shapes and order of operations, written once.
//!
//! Departures from the plain Transformer encoder (Vaswani et al. 2017), all of Devlin et al. 2019: positions
//! are learned, a table of two rows tells a first text from a second one, the sum of the three embeddings is
//! normalised, and the feed-forward block uses the exact GELU. Norms come after each residual sum. Every token
//! sees all of its own sequence.

use crate::config::check_sizes;
use crate::error::ModelError;
use crate::executor::{Executor, Init, Linear, Norm, ParamId, ParamSpec, Qkv, Role};
use hearth_kernel::activation::Activation;

/// The sizes of an encoder in BERT's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
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
    /// Rows of the table of token types.
    pub n_types: usize,
    /// Epsilon of the norms.
    pub norm_eps: f32,
    /// The feed-forward activation.
    pub activation: Activation,
    /// Whether there is a layer that turns the first token's state into one for the whole sequence.
    pub pooler: bool,
}

impl EncoderConfig {
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
            ("n_types", self.n_types),
        ];
        check_sizes(&sizes).or_else(fail)?;
        if !self.hidden_size.is_multiple_of(self.n_heads) {
            let (c, h) = (self.hidden_size, self.n_heads);
            return fail(format!("a hidden size of {c} doesn't split into {h} heads; choose a multiple"));
        }
        Ok(())
    }
}

/// An encoder's description: its configuration, its parameters, and [`Encoder::hidden`].
#[derive(Clone, Debug)]
pub struct Encoder {
    config: EncoderConfig,
    specs: Vec<ParamSpec>,
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
        let mut specs = Specs { list: Vec::new(), eps: config.norm_eps };
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
        let specs = specs.list;
        Ok(Encoder { config, specs, tokens, positions, types, embedding_norm, blocks, pooler })
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

    /// The layer over the first token's hidden state, followed by tanh, if there is one.
    pub fn pooler(&self) -> Option<&Linear> {
        self.pooler.as_ref()
    }

    /// Token ids to the final hidden states, [N, C].
    pub fn hidden<E: Executor>(&self, e: &mut E) -> Result<E::Value, ModelError> {
        let c = self.config.hidden_size;
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
            let inner = e.linear(&x, &block.up, Some(self.config.activation))?;
            let fed = e.linear(&inner, &block.down, None)?;
            let fed = e.dropout(fed)?;
            let sum = e.add(x, fed)?;
            x = e.norm(&sum, &block.mlp_norm, c)?;
        }
        Ok(x)
    }
}

/// Collects parameters in order.
struct Specs {
    list: Vec<ParamSpec>,
    eps: f32,
}

impl Specs {
    fn add(&mut self, name: String, shape: &[usize], init: Init, role: Role) -> ParamId {
        self.list.push(ParamSpec { name, shape: shape.to_vec(), init, role });
        ParamId(self.list.len() - 1)
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Linear {
        let shape = [outputs, inputs];
        let weight = self.add(format!("{name}.weight"), &shape, Init::Normal(0.02), Role::Matrix);
        let bias = Some(self.add(format!("{name}.bias"), &[outputs], Init::Zeros, Role::Vector));
        Linear { weight, bias, inputs, outputs, in_out: false }
    }

    fn norm(&mut self, name: &str, width: usize) -> Norm {
        let scale = self.add(format!("{name}.weight"), &[width], Init::Ones, Role::Vector);
        let shift = Some(self.add(format!("{name}.bias"), &[width], Init::Zeros, Role::Vector));
        Norm { scale, shift, rms: false, eps: self.eps }
    }
}
