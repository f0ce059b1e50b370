//! The planned executor, first half: a description recorded once as a list of operations over a few
//! reused buffers.

use crate::decoder::Decoder;
use crate::encoder::Encoder;
use crate::error::ModelError;
use crate::executor::{Executor, Linear, Norm, ParamId, Qkv};
use hearth_kernel::activation::Activation;

/// A buffer of rows; its width is in [`Plan::widths`].
pub(crate) type Slot = usize;

/// One step of a plan.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    EmbedTokens {
        table: ParamId,
        cols: usize,
        scale: f32,
        out: Slot,
    },
    EmbedPositions {
        table: ParamId,
        cols: usize,
        out: Slot,
    },
    EmbedTypes {
        table: ParamId,
        cols: usize,
        out: Slot,
    },
    Linear {
        x: Slot,
        layer: Linear,
        activation: Option<Activation>,
        out: Slot,
    },
    /// Over each `width` of the `cols` values of a row.
    Norm {
        x: Slot,
        norm: Norm,
        width: usize,
        cols: usize,
        out: Slot,
    },
    /// In place.
    Rope {
        layer: usize,
        x: Slot,
        heads: usize,
        cols: usize,
    },
    AttentionFused {
        layer: usize,
        qkv: Slot,
        out: Slot,
    },
    Attention {
        layer: usize,
        q: Slot,
        k: Slot,
        v: Slot,
        out: Slot,
    },
    Gated {
        activation: Activation,
        gate: Slot,
        up: Slot,
        cols: usize,
        out: Slot,
    },
    /// `a += b`.
    Add {
        a: Slot,
        b: Slot,
        cols: usize,
    },
}

impl Op {
    /// The slots that the operation touches, for renaming.
    fn slots(&mut self) -> Vec<&mut Slot> {
        match self {
            Op::EmbedTokens { out, .. } | Op::EmbedPositions { out, .. } | Op::EmbedTypes { out, .. } => {
                vec![out]
            }
            Op::Linear { x, out, .. } | Op::Norm { x, out, .. } => vec![x, out],
            Op::Rope { x, .. } => vec![x],
            Op::AttentionFused { qkv, out, .. } => vec![qkv, out],
            Op::Attention { q, k, v, out, .. } => vec![q, k, v, out],
            Op::Gated { gate, up, out, .. } => vec![gate, up, out],
            Op::Add { a, b, .. } => vec![a, b],
        }
    }
}

/// Operations over as few buffers as their lifetimes allow.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) ops: Vec<Op>,
    /// Width of each buffer, in values a row.
    pub(crate) widths: Vec<usize>,
    /// Where the final hidden states are.
    pub(crate) hidden: Slot,
}

impl Plan {
    /// Records `decoder` and assigns buffers.
    pub(crate) fn of(decoder: &Decoder) -> Result<Self, ModelError> {
        let config = decoder.config();
        let mut recorder = Recorder::new(config.n_heads * config.head_dim);
        let hidden = decoder.hidden(&mut recorder)?.0;
        Ok(assign_buffers(recorder, hidden))
    }

    /// Records `encoder` and assigns buffers.
    pub(crate) fn of_encoder(encoder: &Encoder) -> Result<Self, ModelError> {
        let mut recorder = Recorder::new(encoder.config().hidden_size);
        let hidden = encoder.hidden(&mut recorder)?.0;
        Ok(assign_buffers(recorder, hidden))
    }
}

/// Gives each value a buffer that no living value has.
fn assign_buffers(recorder: Recorder, hidden: Slot) -> Plan {
    let Recorder { mut ops, widths: value_widths, .. } = recorder;
    let mut last_use = vec![0; value_widths.len()];
    for (i, op) in ops.iter_mut().enumerate() {
        op.slots().into_iter().for_each(|slot| last_use[*slot] = i);
    }
    last_use[hidden] = ops.len();
    let mut widths: Vec<usize> = Vec::new();
    let mut free: Vec<Slot> = Vec::new();
    let mut buffer_of: Vec<Option<Slot>> = vec![None; value_widths.len()];
    for (i, op) in ops.iter_mut().enumerate() {
        let mut ended = Vec::new();
        for slot in op.slots() {
            let value = *slot;
            let buffer = *buffer_of[value].get_or_insert_with(|| {
                // The smallest free buffer that is wide enough, else the widest one, made wider.
                free.sort_by_key(|&b| widths[b]);
                let fitting = free.iter().position(|&b| widths[b] >= value_widths[value]);
                let buffer = match fitting {
                    Some(at) => free.remove(at),
                    None => free.pop().unwrap_or_else(|| {
                        widths.push(0);
                        widths.len() - 1
                    }),
                };
                widths[buffer] = widths[buffer].max(value_widths[value]);
                buffer
            });
            *slot = buffer;
            if last_use[value] == i && !ended.contains(&buffer) {
                ended.push(buffer);
            }
        }
        free.extend(ended);
    }
    let hidden = buffer_of[hidden].unwrap_or(0);
    Plan { ops, widths, hidden }
}

/// A recorded value, by number. Not `Clone`: a value that was moved into an in-place operation is gone.
struct Value(Slot);

struct Recorder {
    ops: Vec<Op>,
    widths: Vec<usize>,
    attention_width: usize,
}

impl Recorder {
    fn new(attention_width: usize) -> Self {
        Recorder { ops: Vec::new(), widths: Vec::new(), attention_width }
    }

    fn value(&mut self, width: usize) -> Slot {
        self.widths.push(width);
        self.widths.len() - 1
    }

    fn push(&mut self, width: usize, op: impl FnOnce(Slot) -> Op) -> Result<Value, ModelError> {
        let out = self.value(width);
        self.ops.push(op(out));
        Ok(Value(out))
    }
}

impl Executor for Recorder {
    type Value = Value;

    fn embed_tokens(&mut self, table: ParamId, width: usize, scale: f32) -> Result<Value, ModelError> {
        self.push(width, |out| Op::EmbedTokens { table, cols: width, scale, out })
    }

    fn embed_positions(&mut self, table: ParamId, width: usize) -> Result<Value, ModelError> {
        self.push(width, |out| Op::EmbedPositions { table, cols: width, out })
    }

    fn embed_types(&mut self, table: ParamId, width: usize) -> Result<Value, ModelError> {
        self.push(width, |out| Op::EmbedTypes { table, cols: width, out })
    }

    fn linear(
        &mut self,
        x: &Value,
        layer: &Linear,
        activation: Option<Activation>,
    ) -> Result<Value, ModelError> {
        self.push(layer.outputs, |out| Op::Linear { x: x.0, layer: *layer, activation, out })
    }

    fn norm(&mut self, x: &Value, norm: &Norm, width: usize) -> Result<Value, ModelError> {
        let cols = self.widths[x.0];
        self.push(cols, |out| Op::Norm { x: x.0, norm: *norm, width, cols, out })
    }

    fn rope(&mut self, layer: usize, x: Value, heads: usize) -> Result<Value, ModelError> {
        self.ops.push(Op::Rope { layer, x: x.0, heads, cols: self.widths[x.0] });
        Ok(x)
    }

    fn attention(&mut self, layer: usize, qkv: Qkv<Value>) -> Result<Value, ModelError> {
        self.push(self.attention_width, |out| match qkv {
            Qkv::Fused(qkv) => Op::AttentionFused { layer, qkv: qkv.0, out },
            Qkv::Separate { q, k, v } => Op::Attention { layer, q: q.0, k: k.0, v: v.0, out },
        })
    }

    fn gated(&mut self, activation: Activation, gate: Value, up: Value) -> Result<Value, ModelError> {
        let cols = self.widths[gate.0];
        self.push(cols, |out| Op::Gated { activation, gate: gate.0, up: up.0, cols, out })
    }

    fn add(&mut self, a: Value, b: Value) -> Result<Value, ModelError> {
        self.ops.push(Op::Add { a: a.0, b: b.0, cols: self.widths[a.0] });
        Ok(a)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DecoderConfig, preset_names};

    #[test]
    fn few_buffers_serve_many_layers_and_no_operation_reads_what_it_writes() {
        for name in ["gpt1", "gpt2"] {
            assert!(preset_names().contains(&name));
            check(DecoderConfig::preset(name).expect("a preset"));
        }
        check(DecoderConfig::native(500, 256, 9, 64));
    }

    fn check(config: DecoderConfig) {
        let layers = config.n_layers;
        let mut plan = Plan::of(&Decoder::new(config).expect("valid")).expect("recorded");
        assert!(plan.widths.len() <= 5, "{} buffers for {layers} layers", plan.widths.len());
        for op in &mut plan.ops {
            let slots: Vec<Slot> = op.slots().into_iter().map(|s| *s).collect();
            let distinct: std::collections::HashSet<_> = slots.iter().collect();
            assert_eq!(distinct.len(), slots.len(), "{op:?}");
        }
    }
}
