//! The planned executor, second half: runs a plan over rows of several sequences, each with its own
//! cache of keys and values.

use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::executor::{Linear, Norm, ParamId};
use crate::plan::{Op, Plan, Slot};
use crate::weights::Weights;
use hearth_kernel::Buffer;
use hearth_kernel::activation::swiglu_forward;
use hearth_kernel::attention::{AttentionShape, attention_forward, spans_causal};
use hearth_kernel::embedding::embedding_forward;
use hearth_kernel::gemm::{Epilogue, Mat, MatMut, PackedMatrix, Write, gemm_packed};
use hearth_kernel::norm::{layer_norm_forward, rms_norm_forward};
use hearth_kernel::optim::axpy;
use hearth_kernel::rope::{RopeTable, rope};
use std::collections::HashMap;
use std::ops::Range;

/// Most rows (tokens) in one pass; a longer prompt goes in parts.
pub const MAX_ROWS: usize = 256;

/// The keys and values of one sequence, and how far it has got.
#[derive(Debug)]
pub struct Sequence {
    keys: Vec<Buffer<f32>>,
    values: Vec<Buffer<f32>>,
    width: usize,
    capacity: usize,
    len: usize,
}

impl Sequence {
    /// Tokens taken in so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token has been taken in.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Most tokens it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all but the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// A copy, to continue one prompt in several ways.
    pub fn fork(&self) -> Sequence {
        let copy = |caches: &[Buffer<f32>]| {
            caches
                .iter()
                .map(|cache| {
                    let mut copy = Buffer::scratch(cache.len());
                    copy[..self.len * self.width].copy_from_slice(&cache[..self.len * self.width]);
                    copy
                })
                .collect()
        };
        Sequence { keys: copy(&self.keys), values: copy(&self.values), ..*self }
    }
}

/// For which of a feed's tokens the next-token logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// None: the prompt goes on.
    None,
    /// The last one.
    Last,
    /// All of them.
    All,
}

/// Tokens to be appended to a sequence.
#[derive(Debug)]
pub struct Feed<'a> {
    /// The sequence.
    pub sequence: &'a mut Sequence,
    /// At least one token.
    pub tokens: &'a [u32],
    /// Where logits are wanted.
    pub logits: Logits,
}

/// A decoder ready to run: packed weights, static buffers.
#[derive(Debug)]
pub struct Runner {
    decoder: Decoder,
    plan: Plan,
    tables: HashMap<usize, Buffer<f32>>,
    linears: HashMap<usize, PackedMatrix>,
    buffers: Vec<Buffer<f32>>,
    statistics: [Buffer<f32>; 2],
    lse: Buffer<f32>,
    chosen: Buffer<f32>,
    logits: Buffer<f32>,
    rope: Option<RopeTable>,
}

impl Runner {
    /// Packs `weights` for `decoder`.
    pub fn new(decoder: Decoder, weights: &Weights) -> Result<Self, ModelError> {
        let plan = Plan::of(&decoder)?;
        let config = decoder.config();
        let (mut tables, mut linears) = (HashMap::new(), HashMap::new());
        let mut pack = |layer: &Linear| {
            let data = weights.get(layer.weight).data();
            let matrix = if layer.in_out {
                Mat::new(data, layer.inputs, layer.outputs)
            } else {
                Mat::new(data, layer.outputs, layer.inputs).t()
            };
            linears.insert(layer.weight.0, PackedMatrix::pack(matrix));
            layer.bias
        };
        let mut vectors: Vec<ParamId> = Vec::new();
        vectors.extend(pack(decoder.head()));
        for op in &plan.ops {
            match op {
                Op::Linear { layer, .. } => vectors.extend(pack(layer)),
                Op::Norm { norm, .. } => vectors.extend([Some(norm.scale), norm.shift].into_iter().flatten()),
                Op::EmbedTokens { table, .. } | Op::EmbedPositions { table, .. } => vectors.push(*table),
                _ => {}
            }
        }
        for id in vectors {
            tables.insert(id.0, Buffer::from_slice(weights.get(id).data()));
        }
        let buffers = plan.widths.iter().map(|w| Buffer::scratch(w * MAX_ROWS)).collect();
        let norms = MAX_ROWS * config.n_heads.max(1);
        let rope = (!config.family.is_gpt())
            .then(|| RopeTable::new(config.head_dim, config.max_positions, config.rope_theta));
        Ok(Runner {
            tables,
            linears,
            buffers,
            statistics: [Buffer::scratch(norms), Buffer::scratch(norms)],
            lse: Buffer::scratch(norms),
            chosen: Buffer::scratch(0),
            logits: Buffer::scratch(0),
            rope,
            plan,
            decoder,
        })
    }

    /// The description that runs here.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// An empty sequence with room for `capacity` tokens, at most the model's positions.
    pub fn sequence(&self, capacity: usize) -> Result<Sequence, ModelError> {
        let config = self.decoder.config();
        if capacity > config.max_positions {
            return Err(ModelError::Context {
                what: "the model",
                got: capacity,
                limit: config.max_positions,
                hint: "ask for fewer tokens, or shorten the prompt",
            });
        }
        let width = config.n_kv_heads * config.head_dim;
        let cache = || (0..config.n_layers).map(|_| Buffer::scratch(capacity * width)).collect();
        Ok(Sequence { keys: cache(), values: cache(), width, capacity, len: 0 })
    }

    /// Appends tokens to sequences, in one pass over the weights; returns the wanted logits, a row of
    /// V values each, in the order of `feeds` and their tokens. At most [`MAX_ROWS`] tokens in all.
    pub fn run(&mut self, feeds: &mut [Feed]) -> Result<&[f32], ModelError> {
        let rows = Rows::gather(&self.decoder, feeds)?;
        let ops = std::mem::take(&mut self.plan.ops);
        ops.iter().for_each(|op| self.step(op, &rows, feeds));
        self.plan.ops = ops;
        for feed in feeds.iter_mut() {
            feed.sequence.len += feed.tokens.len();
        }
        self.head(&rows.chosen);
        let v = self.decoder.config().vocab_size;
        Ok(&self.logits[..rows.chosen.len() * v])
    }

    /// Appends a prompt of any length in parts, and returns the logits after its last token.
    pub fn prefill(&mut self, sequence: &mut Sequence, tokens: &[u32]) -> Result<&[f32], ModelError> {
        let last = tokens.len().saturating_sub(1) / MAX_ROWS;
        for part in tokens.chunks(MAX_ROWS).take(last) {
            self.run(&mut [Feed { sequence, tokens: part, logits: Logits::None }])?;
        }
        let part = &tokens[last * MAX_ROWS..];
        self.run(&mut [Feed { sequence, tokens: part, logits: Logits::Last }])
    }

    /// Output head over the chosen rows of the hidden states.
    fn head(&mut self, chosen: &[usize]) {
        let config = self.decoder.config();
        let (c, v) = (config.hidden_size, config.vocab_size);
        if self.chosen.len() < chosen.len() * c {
            self.chosen = Buffer::scratch(chosen.len() * c);
            self.logits = Buffer::scratch(chosen.len() * v);
        }
        let hidden = &self.buffers[self.plan.hidden];
        for (to, &row) in self.chosen.chunks_exact_mut(c).zip(chosen) {
            to.copy_from_slice(&hidden[row * c..(row + 1) * c]);
        }
        let head = self.decoder.head();
        let epilogue = Epilogue { bias: head.bias.map(|b| &self.tables[&b.0][..]), ..Epilogue::default() };
        let x = Mat::new(&self.chosen, chosen.len(), c);
        let out = MatMut::new(&mut self.logits, chosen.len(), v);
        gemm_packed(x, &self.linears[&head.weight.0], out, Write::Overwrite, epilogue);
    }

    fn step(&mut self, op: &Op, rows: &Rows, feeds: &mut [Feed]) {
        let n = rows.tokens.len();
        match *op {
            Op::EmbedTokens { table, cols, out } => {
                embedding_forward(
                    &self.tables[&table.0],
                    cols,
                    &rows.tokens,
                    &mut self.buffers[out][..n * cols],
                );
            }
            Op::EmbedPositions { table, cols, out } => {
                embedding_forward(
                    &self.tables[&table.0],
                    cols,
                    &rows.positions,
                    &mut self.buffers[out][..n * cols],
                );
            }
            Op::Linear { x, ref layer, activation, out } => self.writing(out, |run, out| {
                let bias = layer.bias.map(|b| &run.tables[&b.0][..]);
                let x = Mat::new(&run.buffers[x], n, layer.inputs);
                let epilogue = Epilogue { bias, activation, pre_activation: None };
                let y = MatMut::new(out, n, layer.outputs);
                gemm_packed(x, &run.linears[&layer.weight.0], y, Write::Overwrite, epilogue);
            }),
            Op::Norm { x, ref norm, width, cols, out } => {
                self.writing(out, |run, out| run.norm(x, norm, width, &mut out[..n * cols]));
            }
            Op::Rope { x, heads, cols } => {
                let table = self.rope.as_ref().expect("a description with RoPE has a table");
                rope(&mut self.buffers[x][..n * cols], &rows.positions, heads, table, false);
            }
            Op::Attention { layer, q, k, v, out } => self.writing(out, |run, out| {
                let config = run.decoder.config();
                let (q_cols, kv_cols) =
                    (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
                let qkv = [(q, 0, q_cols), (k, 0, kv_cols), (v, 0, kv_cols)];
                run.attention(layer, qkv, out, rows, feeds);
            }),
            Op::AttentionFused { layer, qkv, out } => self.writing(out, |run, out| {
                let c = run.decoder.config().hidden_size;
                run.attention(layer, [0, c, 2 * c].map(|offset| (qkv, offset, 3 * c)), out, rows, feeds);
            }),
            Op::SwiGlu { gate, up, cols, out } => self.writing(out, |run, out| {
                let (gate, up) = (&run.buffers[gate][..n * cols], &run.buffers[up][..n * cols]);
                swiglu_forward(gate, up, &mut out[..n * cols]);
            }),
            Op::Add { a, b, cols } => {
                self.writing(a, |run, a| axpy(1.0, &run.buffers[b][..n * cols], &mut a[..n * cols]));
            }
        }
    }

    /// Lends a buffer out for writing while the others are read.
    fn writing(&mut self, slot: Slot, f: impl FnOnce(&mut Self, &mut [f32])) {
        let mut out = std::mem::replace(&mut self.buffers[slot], Buffer::scratch(0));
        f(self, &mut out);
        self.buffers[slot] = out;
    }

    fn norm(&mut self, x: Slot, norm: &Norm, width: usize, y: &mut [f32]) {
        let count = y.len() / width;
        let [mean, rstd] = &mut self.statistics;
        if mean.len() < count {
            (*mean, *rstd) = (Buffer::scratch(count), Buffer::scratch(count));
        }
        let (mean, rstd) = (&mut mean[..count], &mut rstd[..count]);
        let (x, scale) = (&self.buffers[x][..y.len()], &self.tables[&norm.scale.0]);
        if norm.rms {
            rms_norm_forward(x, scale, norm.eps, y, rstd);
        } else {
            let shift = norm.shift.map(|s| &self.tables[&s.0][..]);
            layer_norm_forward(x, scale, shift, norm.eps, y, mean, rstd);
        }
    }

    /// Appends keys and values to each sequence's cache, then attends to all of it. `qkv` gives each
    /// one's buffer, first column and row stride.
    fn attention(
        &mut self,
        layer: usize,
        qkv: [(Slot, usize, usize); 3],
        out: &mut [f32],
        rows: &Rows,
        feeds: &mut [Feed],
    ) {
        let config = self.decoder.config();
        let (heads, kv_heads, dim) = (config.n_heads, config.n_kv_heads, config.head_dim);
        let (q_width, kv_width) = (heads * dim, kv_heads * dim);
        for (feed, range) in feeds.iter_mut().zip(&rows.ranges) {
            let (count, len) = (range.len(), feed.sequence.len);
            for ((slot, offset, stride), cache) in
                qkv[1..].iter().zip([&mut feed.sequence.keys[layer], &mut feed.sequence.values[layer]])
            {
                for (row, to) in range.clone().zip(cache[len * kv_width..].chunks_exact_mut(kv_width)) {
                    to.copy_from_slice(&self.buffers[*slot][row * stride + offset..][..kv_width]);
                }
            }
            let (slot, offset, stride) = qkv[0];
            let mut shape = AttentionShape::contiguous(1, count, len + count, heads, kv_heads, dim);
            shape.q_stride = stride;
            attention_forward(
                &shape,
                &spans_causal(1, count, len + count),
                &self.buffers[slot][range.start * stride + offset..],
                &feed.sequence.keys[layer],
                &feed.sequence.values[layer],
                &mut out[range.start * q_width..range.end * q_width],
                &mut self.lse[..heads * count],
            );
        }
    }
}

/// The tokens of one pass, side by side.
struct Rows {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    /// The rows of each feed.
    ranges: Vec<Range<usize>>,
    /// Rows whose logits are wanted.
    chosen: Vec<usize>,
}

impl Rows {
    fn gather(decoder: &Decoder, feeds: &[Feed]) -> Result<Self, ModelError> {
        let vocab_size = decoder.config().vocab_size;
        let mut rows = Rows { tokens: vec![], positions: vec![], ranges: vec![], chosen: vec![] };
        for feed in feeds {
            let (len, count, start) = (feed.sequence.len, feed.tokens.len(), rows.tokens.len());
            if len + count > feed.sequence.capacity {
                return Err(ModelError::Context {
                    what: "the sequence",
                    got: len + count,
                    limit: feed.sequence.capacity,
                    hint: "ask for fewer tokens, or shorten the prompt",
                });
            }
            if let Some(&id) = feed.tokens.iter().find(|&&id| id as usize >= vocab_size) {
                return Err(ModelError::TokenId { id, vocab_size });
            }
            rows.tokens.extend(feed.tokens);
            rows.positions.extend(len as u32..(len + count) as u32);
            rows.ranges.push(start..start + count);
            match feed.logits {
                Logits::None => {}
                Logits::Last => rows.chosen.extend((start + count).checked_sub(1).filter(|_| count > 0)),
                Logits::All => rows.chosen.extend(start..start + count),
            }
        }
        if rows.tokens.len() > MAX_ROWS {
            return Err(ModelError::Context {
                what: "one pass",
                got: rows.tokens.len(),
                limit: MAX_ROWS,
                hint: "feed the prompt in parts",
            });
        }
        Ok(rows)
    }
}
