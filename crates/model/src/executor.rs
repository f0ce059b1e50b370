//! The operations that an architecture is described with. Two executors run a description: the tape
//! (training) and the plan (inference).

use crate::error::ModelError;
use hearth_kernel::activation::Activation;

/// A parameter: an index into a description's [`ParamSpec`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub(crate) usize);

impl ParamId {
    /// The parameter that a decoder's `specs` have at `index`.
    pub fn new(index: usize) -> Self {
        ParamId(index)
    }

    /// Its place among a decoder's `specs`.
    pub fn index(self) -> usize {
        self.0
    }
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// Normal with this standard deviation.
    Normal(f32),
    /// Normal with this standard deviation, or zeros where a run asks for it: a projection back into
    /// the residual stream, which then starts as the identity.
    Residual(f32),
}

/// What a parameter is, which decides its optimiser and its weight decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A lookup table, which may be the output head too.
    Embedding,
    /// An output head of its own.
    Head,
    /// A matrix of a linear layer.
    Matrix,
    /// A norm's scale or a bias.
    Vector,
}

/// Name, shape and start of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// The name in `model.safetensors`.
    pub name: String,
    /// The shape in `model.safetensors`.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
    /// What it is.
    pub role: Role,
}

/// A linear layer: `y = x Wᵀ + b`.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// The weight, [out, in], or [in, out] if `in_out`.
    pub weight: ParamId,
    /// The bias, `[out]`.
    pub bias: Option<ParamId>,
    /// Width of x.
    pub inputs: usize,
    /// Width of y.
    pub outputs: usize,
    /// The weight is stored transposed.
    pub in_out: bool,
}

/// A norm over the last dimension: LayerNorm, or RMSNorm if `rms`.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// The scale, `[width]`.
    pub scale: ParamId,
    /// The shift, `[width]`; LayerNorm only.
    pub shift: Option<ParamId>,
    /// Root mean square instead of mean and variance.
    pub rms: bool,
    /// Added to the variance.
    pub eps: f32,
}

/// Queries, keys and values as projections left them.
pub enum Qkv<V> {
    /// One projection to `[q | k | v]`.
    Fused(V),
    /// Three.
    Separate {
        /// [rows, heads × D]
        q: V,
        /// [rows, kv_heads × D]
        k: V,
        /// [rows, kv_heads × D]
        v: V,
    },
}

/// Runs, or records, the operations of a description. A value is a matrix of rows: one a token.
pub trait Executor {
    /// A matrix of rows.
    type Value;

    /// Rows of a table, by token id, times `scale`.
    fn embed_tokens(&mut self, table: ParamId, width: usize, scale: f32) -> Result<Self::Value, ModelError>;
    /// Rows of a table, by position.
    fn embed_positions(&mut self, table: ParamId, width: usize) -> Result<Self::Value, ModelError>;
    /// Rows of a table, by token type: which of two texts a token belongs to.
    fn embed_types(&mut self, table: ParamId, width: usize) -> Result<Self::Value, ModelError>;
    /// A linear layer and an activation.
    fn linear(
        &mut self,
        x: &Self::Value,
        layer: &Linear,
        activation: Option<Activation>,
    ) -> Result<Self::Value, ModelError>;
    /// A norm over each row, or over each part of a row that is as wide as the norm.
    fn norm(&mut self, x: &Self::Value, norm: &Norm, width: usize) -> Result<Self::Value, ModelError>;
    /// Rotary embedding of each head by its row's position, with the base of block `layer`.
    fn rope(&mut self, layer: usize, x: Self::Value, heads: usize) -> Result<Self::Value, ModelError>;
    /// Attention of block `layer`.
    fn attention(&mut self, layer: usize, qkv: Qkv<Self::Value>) -> Result<Self::Value, ModelError>;
    /// `activation(gate) ∘ up`.
    fn gated(
        &mut self,
        activation: Activation,
        gate: Self::Value,
        up: Self::Value,
    ) -> Result<Self::Value, ModelError>;
    /// `a + b`.
    fn add(&mut self, a: Self::Value, b: Self::Value) -> Result<Self::Value, ModelError>;
    /// Randomly zeroes values while training; nothing otherwise.
    fn dropout(&mut self, x: Self::Value) -> Result<Self::Value, ModelError> {
        Ok(x)
    }
}
