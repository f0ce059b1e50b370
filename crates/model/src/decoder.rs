//! The decoder: parameter names, shapes and the order of operations, written once.
//!
//! Departures from the plain Transformer decoder (Vaswani et al. 2017): no cross-attention; norms
//! come before each block (after, in GPT-1); GPT families learn positions, the others rotate queries
//! and keys (RoPE), normalise by root mean square, gate the feed-forward block (SwiGLU) and may share
//! key-value heads; Qwen2 has biases on queries, keys and values; Qwen3 normalises queries and keys a head
//! instead. Gemma 3 does so too, scales its embeddings by √C, normalises what a block adds to the residual
//! stream as well as what it takes in, gates with GELU, and attends to a sliding window in most blocks.

use crate::config::{DecoderConfig, Family};
use crate::error::ModelError;
use crate::executor::{Executor, Init, Linear, Norm, ParamId, ParamSpec, Qkv, Role};

/// A decoder's description: its configuration, its parameters, and [`Decoder::hidden`].
#[derive(Clone, Debug)]
pub struct Decoder {
    config: DecoderConfig,
    specs: Vec<ParamSpec>,
    tokens: ParamId,
    positions: Option<ParamId>,
    blocks: Vec<Block>,
    final_norm: Option<Norm>,
    head: Linear,
}

#[derive(Clone, Debug)]
struct Block {
    attention_norm: Norm,
    projections: Projections,
    output: Linear,
    mlp_norm: Norm,
    mlp: Mlp,
    /// On what attention and the feed-forward block add to the residual stream.
    post_norms: Option<(Norm, Norm)>,
}

#[derive(Clone, Debug)]
enum Projections {
    Fused(Linear),
    Separate { q: Linear, k: Linear, v: Linear, head_norms: Option<(Norm, Norm)> },
}

#[derive(Clone, Debug)]
enum Mlp {
    Plain { up: Linear, down: Linear },
    Gated { gate: Linear, up: Linear, down: Linear },
}

impl AsRef<[ParamSpec]> for Decoder {
    fn as_ref(&self) -> &[ParamSpec] {
        &self.specs
    }
}

impl Decoder {
    /// Describes a decoder.
    pub fn new(config: DecoderConfig) -> Result<Self, ModelError> {
        config.validate()?;
        let mut specs = Specs { list: Vec::new(), config: &config };
        let (c, v) = (config.hidden_size, config.vocab_size);
        let names = Names::of(config.family);
        // A native table that isn't the head too starts at the scale that the norms keep.
        let scale = if config.family.is_gpt() || config.tied_head { 0.02 } else { 1.0 };
        let tokens = specs.add(names.tokens.into(), &[v, c], Init::Normal(scale), Role::Embedding);
        let positions = names.positions.map(|name| {
            specs.add(name.into(), &[config.max_positions, c], Init::Normal(0.02), Role::Embedding)
        });
        let blocks = (0..config.n_layers).map(|i| Block::describe(&mut specs, &names, i)).collect();
        let final_norm = names.final_norm.map(|name| specs.norm(name.into(), c));
        let head = if config.tied_head {
            Linear { weight: tokens, bias: None, inputs: c, outputs: v, in_out: false }
        } else {
            let weight = specs.add("lm_head.weight".into(), &[v, c], Init::Residual(0.02), Role::Head);
            Linear { weight, bias: None, inputs: c, outputs: v, in_out: false }
        };
        let specs = specs.list;
        Ok(Decoder { config, specs, tokens, positions, blocks, final_norm, head })
    }

    /// The configuration.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// All parameters, in the order of [`ParamId`]s.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The output head: hidden [N, C] to logits [N, V].
    pub fn head(&self) -> &Linear {
        &self.head
    }

    /// Number of parameters, a tied head counted once.
    pub fn n_params(&self) -> usize {
        self.specs.iter().map(|s| s.shape.iter().product::<usize>()).sum()
    }

    /// Token ids to the final hidden states, [N, C].
    pub fn hidden<E: Executor>(&self, e: &mut E) -> Result<E::Value, ModelError> {
        let c = self.config.hidden_size;
        let mut x = e.embed_tokens(self.tokens, c, self.config.embedding_scale())?;
        if let Some(table) = self.positions {
            let positions = e.embed_positions(table, c)?;
            x = e.add(x, positions)?;
        }
        x = e.dropout(x)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = self.block(e, i, block, x)?;
        }
        match &self.final_norm {
            Some(norm) => e.norm(&x, norm, c),
            None => Ok(x),
        }
    }

    fn block<E: Executor>(
        &self,
        e: &mut E,
        i: usize,
        block: &Block,
        x: E::Value,
    ) -> Result<E::Value, ModelError> {
        let c = self.config.hidden_size;
        if self.config.family == Family::Gpt1 {
            let attended = self.attend(e, i, block, &x)?;
            let sum = e.add(x, attended)?;
            let x = e.norm(&sum, &block.attention_norm, c)?;
            let fed = feed_forward(e, &block.mlp, self.config.activation, &x)?;
            let sum = e.add(x, fed)?;
            return e.norm(&sum, &block.mlp_norm, c);
        }
        let normed = e.norm(&x, &block.attention_norm, c)?;
        let mut attended = self.attend(e, i, block, &normed)?;
        if let Some((post, _)) = &block.post_norms {
            attended = e.norm(&attended, post, c)?;
        }
        let x = e.add(x, attended)?;
        let normed = e.norm(&x, &block.mlp_norm, c)?;
        let mut fed = feed_forward(e, &block.mlp, self.config.activation, &normed)?;
        if let Some((_, post)) = &block.post_norms {
            fed = e.norm(&fed, post, c)?;
        }
        e.add(x, fed)
    }

    fn attend<E: Executor>(
        &self,
        e: &mut E,
        i: usize,
        block: &Block,
        x: &E::Value,
    ) -> Result<E::Value, ModelError> {
        let qkv = match &block.projections {
            Projections::Fused(linear) => Qkv::Fused(e.linear(x, linear, None)?),
            Projections::Separate { q, k, v, head_norms } => {
                let (mut q, mut k, v) = (e.linear(x, q, None)?, e.linear(x, k, None)?, e.linear(x, v, None)?);
                if let Some((q_norm, k_norm)) = head_norms {
                    q = e.norm(&q, q_norm, self.config.head_dim)?;
                    k = e.norm(&k, k_norm, self.config.head_dim)?;
                }
                q = e.rope(i, q, self.config.n_heads)?;
                k = e.rope(i, k, self.config.n_kv_heads)?;
                Qkv::Separate { q, k, v }
            }
        };
        let mixed = e.attention(i, qkv)?;
        let out = e.linear(&mixed, &block.output, None)?;
        e.dropout(out)
    }
}

fn feed_forward<E: Executor>(
    e: &mut E,
    mlp: &Mlp,
    activation: hearth_kernel::activation::Activation,
    x: &E::Value,
) -> Result<E::Value, ModelError> {
    let out = match mlp {
        Mlp::Plain { up, down } => {
            let inner = e.linear(x, up, Some(activation))?;
            e.linear(&inner, down, None)?
        }
        Mlp::Gated { gate, up, down } => {
            let (gate, up) = (e.linear(x, gate, None)?, e.linear(x, up, None)?);
            let inner = e.gated(activation, gate, up)?;
            e.linear(&inner, down, None)?
        }
    };
    e.dropout(out)
}

impl Block {
    fn describe(specs: &mut Specs, names: &Names, i: usize) -> Self {
        let config = specs.config;
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
        let at = |name: &str| format!("{}.{i}.{name}", names.blocks);
        // Projections back into the residual stream start smaller, so that its variance doesn't grow
        // with depth (GPT-2, section 2.3).
        let normal = Init::Normal(0.02);
        let residual = Init::Residual(0.02 / (2.0 * config.n_layers as f32).sqrt());
        if config.family.is_gpt() {
            Block {
                attention_norm: specs.norm(at("ln_1"), c),
                projections: Projections::Fused(specs.linear(at("attn.c_attn"), c, 3 * c, normal)),
                output: specs.linear(at("attn.c_proj"), c, c, residual),
                mlp_norm: specs.norm(at("ln_2"), c),
                mlp: Mlp::Plain {
                    up: specs.linear(at("mlp.c_fc"), c, f, normal),
                    down: specs.linear(at("mlp.c_proj"), f, c, residual),
                },
                post_norms: None,
            }
        } else {
            let qk_norm = matches!(config.family, Family::Qwen3 | Family::Gemma3);
            let gemma = config.family == Family::Gemma3;
            Block {
                attention_norm: specs.norm(at("input_layernorm"), c),
                projections: Projections::Separate {
                    q: specs.biased(at("self_attn.q_proj"), c, q, normal),
                    k: specs.biased(at("self_attn.k_proj"), c, kv, normal),
                    v: specs.biased(at("self_attn.v_proj"), c, kv, normal),
                    head_norms: qk_norm.then(|| {
                        (
                            specs.norm(at("self_attn.q_norm"), config.head_dim),
                            specs.norm(at("self_attn.k_norm"), config.head_dim),
                        )
                    }),
                },
                output: specs.linear(at("self_attn.o_proj"), q, c, residual),
                post_norms: gemma.then(|| {
                    (
                        specs.norm(at("post_attention_layernorm"), c),
                        specs.norm(at("post_feedforward_layernorm"), c),
                    )
                }),
                mlp_norm: specs.norm(
                    at(if gemma { "pre_feedforward_layernorm" } else { "post_attention_layernorm" }),
                    c,
                ),
                mlp: Mlp::Gated {
                    gate: specs.linear(at("mlp.gate_proj"), c, f, normal),
                    up: specs.linear(at("mlp.up_proj"), c, f, normal),
                    down: specs.linear(at("mlp.down_proj"), f, c, residual),
                },
            }
        }
    }
}

/// Names outside the blocks, and the blocks' prefix.
struct Names {
    tokens: &'static str,
    positions: Option<&'static str>,
    blocks: &'static str,
    final_norm: Option<&'static str>,
}

impl Names {
    fn of(family: Family) -> Self {
        match family {
            Family::Gpt1 => Names {
                tokens: "transformer.tokens_embed.weight",
                positions: Some("transformer.positions_embed.weight"),
                blocks: "transformer.h",
                final_norm: None,
            },
            Family::Gpt2 => Names {
                tokens: "transformer.wte.weight",
                positions: Some("transformer.wpe.weight"),
                blocks: "transformer.h",
                final_norm: Some("transformer.ln_f"),
            },
            Family::Llama | Family::Qwen2 | Family::Qwen3 | Family::Gemma3 => Names {
                tokens: "model.embed_tokens.weight",
                positions: None,
                blocks: "model.layers",
                final_norm: Some("model.norm"),
            },
        }
    }
}

/// Collects parameters in order.
struct Specs<'a> {
    list: Vec<ParamSpec>,
    config: &'a DecoderConfig,
}

impl Specs<'_> {
    fn add(&mut self, name: String, shape: &[usize], init: Init, role: Role) -> ParamId {
        self.list.push(ParamSpec { name, shape: shape.to_vec(), init, role });
        ParamId(self.list.len() - 1)
    }

    /// A linear layer; only GPT families have biases on all of them.
    fn linear(&mut self, name: String, inputs: usize, outputs: usize, init: Init) -> Linear {
        let bias = self.config.biases && self.config.family.is_gpt();
        self.linear_with(name, inputs, outputs, init, bias)
    }

    /// A projection to queries, keys or values, which has a bias if any layer has.
    fn biased(&mut self, name: String, inputs: usize, outputs: usize, init: Init) -> Linear {
        self.linear_with(name, inputs, outputs, init, self.config.biases)
    }

    fn linear_with(&mut self, name: String, inputs: usize, outputs: usize, init: Init, bias: bool) -> Linear {
        let in_out = self.config.family.stores_in_out();
        let shape = if in_out { [inputs, outputs] } else { [outputs, inputs] };
        let weight = self.add(format!("{name}.weight"), &shape, init, Role::Matrix);
        let bias = bias.then(|| self.add(format!("{name}.bias"), &[outputs], Init::Zeros, Role::Vector));
        Linear { weight, bias, inputs, outputs, in_out }
    }

    fn norm(&mut self, name: String, width: usize) -> Norm {
        let rms = !self.config.family.is_gpt();
        let scale = self.add(format!("{name}.weight"), &[width], Init::Ones, Role::Vector);
        let shift = (self.config.biases && !rms)
            .then(|| self.add(format!("{name}.bias"), &[width], Init::Zeros, Role::Vector));
        Norm { scale, shift, rms, eps: self.config.norm_eps }
    }
}
