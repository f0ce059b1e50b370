//! The planned executor, second half: runs a plan over rows of several sequences, each with its own
//! cache of keys and values.

use crate::config::DecoderConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::executor::{Linear, Norm, ParamId};
use crate::plan::{Op, Plan, Slot};
use crate::source::{Rows as FileRows, Source, Stored};
use hearth_kernel::Buffer;
use hearth_kernel::activation::{activation_forward, gated_forward};
use hearth_kernel::attention::{
    AttentionShape, CacheType, CachedQuery, KvCache, Span, attention_cached, attention_cached_each,
};
use hearth_kernel::embedding::embedding_forward;
use hearth_kernel::gemm::{Epilogue, Mat, MatMut, PackedMatrix, Write, gemm_packed};
use hearth_kernel::norm::{layer_norm_forward, rms_norm_forward};
use hearth_kernel::optim::{axpy, scale};
use hearth_kernel::qgemm::{QuantLinear, QuantMatrix, QuantizedRows, quant_linears};
use hearth_kernel::quant::BlockType;
use hearth_kernel::rope::{RopeTable, rope};
use std::collections::HashMap;
use std::ops::Range;

/// Most rows (tokens) in one pass; a longer prompt goes in parts.
pub const MAX_ROWS: usize = 256;

/// The keys and values of one sequence, and how far it has got.
#[derive(Debug)]
pub struct Sequence {
    /// One a block.
    caches: Vec<KvCache>,
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

    /// Makes room for `capacity` tokens in all.
    fn grow(&mut self, capacity: usize) {
        if capacity > self.capacity {
            let larger = |cache: &KvCache| cache.with_capacity(self.len, capacity);
            self.caches = self.caches.iter().map(larger).collect();
            self.capacity = capacity;
        }
    }

    /// A copy, to continue one prompt in several ways.
    pub fn fork(&self) -> Sequence {
        Sequence {
            caches: self.caches.iter().map(|cache| cache.with_capacity(self.len, self.capacity)).collect(),
            ..*self
        }
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
    tables: HashMap<usize, Table>,
    linears: HashMap<usize, Matrix>,
    buffers: Vec<Buffer<f32>>,
    statistics: [Buffer<f32>; 2],
    lse: Buffer<f32>,
    chosen: Buffer<f32>,
    logits: Buffer<f32>,
    /// Sums of squares of what goes into each linear layer, and how many rows they are of.
    watched: Option<HashMap<ParamId, (Vec<f64>, usize)>>,
    /// What goes into a quantised layer.
    quantized: QuantizedRows,
    cache_type: CacheType,
    /// For blocks that see everything, and for those with a sliding window; as long as the longest sequence.
    rope: Option<[RopeTable; 2]>,
}

/// A vector, or a table that rows are looked up in.
#[derive(Debug)]
enum Table {
    Values(Buffer<f32>),
    File(FileRows),
}

impl Table {
    fn values(&self) -> &[f32] {
        match self {
            Table::Values(values) => values,
            Table::File(_) => unreachable!("only embedding tables stay in their file"),
        }
    }

    /// Rows by their indices.
    fn look_up(&self, cols: usize, ids: &[u32], out: &mut [f32]) {
        match self {
            Table::Values(values) => embedding_forward(values, cols, ids, out),
            Table::File(rows) => {
                for (id, out) in ids.iter().zip(out.chunks_exact_mut(cols)) {
                    rows.row(*id as usize, out);
                }
            }
        }
    }
}

/// The weight of a linear layer.
#[derive(Debug)]
enum Matrix {
    Dense(PackedMatrix),
    Quantized(QuantMatrix),
}

impl Matrix {
    fn pack(layer: &Linear, stored: &Stored) -> Self {
        let rows = match stored {
            Stored::Values(values) => {
                return Matrix::Dense(PackedMatrix::pack(match layer.in_out {
                    true => Mat::new(values, layer.inputs, layer.outputs),
                    false => Mat::new(values, layer.outputs, layer.inputs).t(),
                }));
            }
            Stored::File(rows) => rows,
        };
        let row_of = |i| rows.order.row_of(i);
        let (kind, bytes, outputs, inputs) = (rows.kind, rows.bytes(), layer.outputs, layer.inputs);
        if QuantMatrix::takes(kind) {
            Matrix::Quantized(QuantMatrix::pack(kind, bytes, outputs, inputs, row_of))
        } else if layer.in_out && !rows.transposed {
            Matrix::Dense(PackedMatrix::pack_in_out(kind, bytes, inputs, outputs))
        } else {
            Matrix::Dense(PackedMatrix::pack_rows(kind, bytes, outputs, inputs, row_of))
        }
    }
}

impl Runner {
    /// Packs the parameters of `decoder`.
    pub fn new(decoder: Decoder, source: &dyn Source) -> Result<Self, ModelError> {
        let plan = Plan::of(&decoder)?;
        let config = decoder.config();
        let (mut tables, mut linears) = (HashMap::new(), HashMap::new());
        let mut cache_type = CacheType::F16;
        let mut pack = |layer: &Linear| {
            let stored = source.stored(layer.weight);
            if !matches!(&stored, Stored::File(rows) if rows.kind != BlockType::F32) {
                cache_type = CacheType::F32;
            }
            linears.insert(layer.weight.0, Matrix::pack(layer, &stored));
            if let Stored::File(rows) = stored {
                rows.release();
            }
            layer.bias
        };
        let mut vectors: Vec<ParamId> = Vec::new();
        let mut lookups: Vec<ParamId> = Vec::new();
        vectors.extend(pack(decoder.head()));
        for op in &plan.ops {
            match op {
                Op::Linear { layer, .. } => vectors.extend(pack(layer)),
                Op::Norm { norm, .. } => vectors.extend([Some(norm.scale), norm.shift].into_iter().flatten()),
                Op::EmbedTokens { table, .. } | Op::EmbedPositions { table, .. } => lookups.push(*table),
                _ => {}
            }
        }
        for id in vectors {
            tables.insert(id.0, Table::Values(Buffer::from_slice(&source.stored(id).values())));
        }
        for id in lookups {
            let table = match source.stored(id) {
                Stored::Values(values) => Table::Values(Buffer::from_slice(values)),
                Stored::File(rows) => Table::File(rows),
            };
            tables.insert(id.0, table);
        }
        let buffers = plan.widths.iter().map(|w| Buffer::scratch(w * MAX_ROWS)).collect();
        let norms = MAX_ROWS * config.n_heads.max(1);
        let rope = (!config.family.is_gpt()).then(|| rope_tables(config, 0));
        Ok(Runner {
            tables,
            linears,
            buffers,
            statistics: [Buffer::scratch(norms), Buffer::scratch(norms)],
            lse: Buffer::scratch(norms),
            chosen: Buffer::scratch(0),
            logits: Buffer::scratch(0),
            watched: None,
            quantized: QuantizedRows::new(),
            cache_type,
            rope,
            plan,
            decoder,
        })
    }

    /// The description that runs here.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// What sequences made from now on keep keys and values in. Unless this is called: half precision, or
    /// single if the file has weights in single precision.
    pub fn set_cache_type(&mut self, cache_type: CacheType) {
        self.cache_type = cache_type;
    }

    /// An empty sequence with room for `capacity` tokens, at most the model's positions.
    pub fn sequence(&mut self, capacity: usize) -> Result<Sequence, ModelError> {
        self.prepare(capacity)?;
        let config = self.decoder.config();
        let cache = |_| KvCache::new(self.cache_type, capacity, config.n_kv_heads, config.head_dim);
        Ok(Sequence { caches: (0..config.n_layers).map(cache).collect(), capacity, len: 0 })
    }

    /// Makes room for `capacity` tokens in a sequence that may have less, at most the model's positions.
    pub fn reserve(&mut self, sequence: &mut Sequence, capacity: usize) -> Result<(), ModelError> {
        self.prepare(capacity)?;
        sequence.grow(capacity);
        Ok(())
    }

    /// Checks a sequence's length, and has the rotary angles that it needs.
    fn prepare(&mut self, capacity: usize) -> Result<(), ModelError> {
        let config = self.decoder.config();
        if capacity > config.max_positions {
            return Err(ModelError::Context {
                what: "the model",
                got: capacity,
                limit: config.max_positions,
                hint: "ask for fewer tokens, or shorten the prompt",
            });
        }
        if self.rope.as_ref().is_some_and(|[table, _]| table.max_positions() < capacity) {
            let positions = capacity.next_power_of_two().min(config.max_positions);
            self.rope = Some(rope_tables(config, positions));
        }
        Ok(())
    }

    /// Appends tokens to sequences, in one pass over the weights; returns the wanted logits, a row of
    /// V values each, in the order of `feeds` and their tokens. At most [`MAX_ROWS`] tokens in all.
    pub fn run(&mut self, feeds: &mut [Feed]) -> Result<&[f32], ModelError> {
        let rows = Rows::gather(&self.decoder, feeds)?;
        let ops = std::mem::take(&mut self.plan.ops);
        let mut next = 0;
        while let Some(op) = ops.get(next) {
            let layers = linears_together(&ops[next..]);
            if layers > 0 {
                self.linears(&ops[next..next + layers], rows.tokens.len());
            } else {
                self.step(op, &rows, feeds);
            }
            next += layers.max(1);
        }
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

    /// Begins to measure what goes into each linear layer.
    pub fn watch_inputs(&mut self) {
        self.watched = Some(HashMap::new());
    }

    /// The mean square of each input of each linear layer since [`watch_inputs`](Self::watch_inputs).
    pub fn watched_inputs(&mut self) -> HashMap<ParamId, Vec<f32>> {
        let mean = |(id, (sums, rows)): (ParamId, (Vec<f64>, usize))| {
            (id, sums.into_iter().map(|sum| (sum / rows as f64) as f32).collect())
        };
        self.watched.take().unwrap_or_default().into_iter().map(mean).collect()
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
        let bias = head.bias.map(|b| self.tables[&b.0].values());
        let (x, out) = (&self.chosen[..chosen.len() * c], &mut self.logits[..chosen.len() * v]);
        watch(&mut self.watched, head.weight, x, c);
        match &self.linears[&head.weight.0] {
            Matrix::Dense(weight) => {
                let epilogue = Epilogue { bias, ..Epilogue::default() };
                let out = MatMut::new(out, chosen.len(), v);
                gemm_packed(Mat::new(x, chosen.len(), c), weight, out, Write::Overwrite, epilogue);
            }
            Matrix::Quantized(weight) => {
                self.quantized.quantize(x, c);
                quant_linears(&self.quantized, &mut [QuantLinear { weight, bias, y: out }]);
            }
        }
    }

    fn step(&mut self, op: &Op, rows: &Rows, feeds: &mut [Feed]) {
        let n = rows.tokens.len();
        match *op {
            Op::EmbedTokens { table, cols, scale: factor, out } => {
                let out = &mut self.buffers[out][..n * cols];
                self.tables[&table.0].look_up(cols, &rows.tokens, out);
                if factor != 1.0 {
                    scale(out, factor);
                }
            }
            Op::EmbedPositions { table, cols, out } => {
                let out = &mut self.buffers[out][..n * cols];
                self.tables[&table.0].look_up(cols, &rows.positions, out);
            }
            Op::Linear { .. } => self.linears(std::slice::from_ref(op), n),
            Op::Norm { x, ref norm, width, cols, out } => {
                self.writing(out, |run, out| run.norm(x, norm, width, &mut out[..n * cols]));
            }
            Op::Rope { layer, x, heads, cols } => {
                let local = self.decoder.config().window_of(layer).is_some();
                let table =
                    &self.rope.as_ref().expect("a description with RoPE has tables")[usize::from(local)];
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
            Op::Gated { activation, gate, up, cols, out } => self.writing(out, |run, out| {
                let (gate, up) = (&run.buffers[gate][..n * cols], &run.buffers[up][..n * cols]);
                gated_forward(activation, gate, up, &mut out[..n * cols]);
            }),
            Op::Add { a, b, cols } => {
                self.writing(a, |run, a| axpy(1.0, &run.buffers[b][..n * cols], &mut a[..n * cols]));
            }
        }
    }

    /// Linear layers of the same `n` rows. For quantised ones the rows are quantised once, and the pool is
    /// entered once.
    fn linears(&mut self, ops: &[Op], n: usize) {
        let mut layers = Vec::with_capacity(ops.len());
        for op in ops {
            let Op::Linear { x, ref layer, activation, out } = *op else { continue };
            watch(&mut self.watched, layer.weight, &self.buffers[x][..n * layer.inputs], layer.inputs);
            let out = std::mem::replace(&mut self.buffers[out], Buffer::scratch(0));
            layers.push((x, layer, activation, out));
        }
        let mut together: Vec<QuantLinear> = Vec::with_capacity(layers.len());
        for (x, layer, activation, out) in &mut layers {
            let bias = layer.bias.map(|b| self.tables[&b.0].values());
            let (x, y) = (&self.buffers[*x][..n * layer.inputs], &mut out[..n * layer.outputs]);
            match &self.linears[&layer.weight.0] {
                Matrix::Dense(weight) => {
                    let epilogue = Epilogue { bias, activation: *activation, pre_activation: None };
                    let (x, y) = (Mat::new(x, n, layer.inputs), MatMut::new(y, n, layer.outputs));
                    gemm_packed(x, weight, y, Write::Overwrite, epilogue);
                }
                Matrix::Quantized(weight) => {
                    if together.is_empty() {
                        self.quantized.quantize(x, layer.inputs);
                    }
                    together.push(QuantLinear { weight, bias, y });
                }
            }
        }
        if !together.is_empty() {
            quant_linears(&self.quantized, &mut together);
        }
        for (op, (_, layer, activation, mut y)) in ops.iter().zip(layers) {
            let Op::Linear { out, .. } = *op else { continue };
            let quantized = matches!(self.linears[&layer.weight.0], Matrix::Quantized(_));
            if let Some(kind) = activation.filter(|_| quantized) {
                let y = &mut y[..n * layer.outputs];
                let before = Buffer::from_slice(y);
                activation_forward(kind, &before, y);
            }
            self.buffers[out] = y;
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
        let (x, scale) = (&self.buffers[x][..y.len()], self.tables[&norm.scale.0].values());
        if norm.rms {
            rms_norm_forward(x, scale, norm.eps, y, rstd);
        } else {
            let shift = norm.shift.map(|s| self.tables[&s.0].values());
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
        let window = config.window_of(layer).unwrap_or(usize::MAX);
        let span = |i: usize| Span { lo: (i + 1).saturating_sub(window) as u32, hi: i as u32 + 1 };
        let mut shape = AttentionShape::contiguous(1, 1, 1, heads, kv_heads, dim);
        (shape.q_stride, shape.scale) = (qkv[0].2, config.attention_scale());
        let (mut singles, mut out) = (Vec::with_capacity(feeds.len()), out);
        for (feed, range) in feeds.iter_mut().zip(&rows.ranges) {
            let (count, len) = (range.len(), feed.sequence.len);
            let cache = &mut feed.sequence.caches[layer];
            let rows_of = |(slot, offset, stride): (Slot, usize, usize)| {
                &self.buffers[slot][range.start * stride + offset..]
            };
            cache.put(len, count, [rows_of(qkv[1]), rows_of(qkv[2])], qkv[1].2);
            let (cache, q) = (&*cache, rows_of(qkv[0]));
            let (of_feed, rest) = out.split_at_mut(count * heads * dim);
            out = rest;
            if count == 1 {
                singles.push(CachedQuery { cache, span: span(len), q, out: of_feed });
                continue;
            }
            let shape = AttentionShape { q_len: count, kv_len: len + count, ..shape };
            let spans: Vec<Span> = (len..len + count).map(span).collect();
            attention_cached(&shape, &spans, q, cache, of_feed, &mut self.lse[..heads * count]);
        }
        attention_cached_each(&shape, &mut singles);
    }
}

/// How many of the next operations are linear layers of the same rows: queries, keys and values, or gate and
/// up.
fn linears_together(ops: &[Op]) -> usize {
    let of = |op: &Op| if let Op::Linear { x, .. } = op { Some(*x) } else { None };
    let Some(first) = ops.first().and_then(of) else { return 0 };
    ops.iter().take_while(|op| of(op) == Some(first)).count()
}

/// Adds the squares of rows of `x` to a layer's sums.
fn watch(watched: &mut Option<HashMap<ParamId, (Vec<f64>, usize)>>, id: ParamId, x: &[f32], cols: usize) {
    let Some(watched) = watched else { return };
    let (sums, rows) = watched.entry(id).or_insert_with(|| (vec![0.0; cols], 0));
    for row in x.chunks_exact(cols) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x).powi(2));
        *rows += 1;
    }
}

/// Angles for `positions` positions: with the base of blocks that see everything, and of those with a window.
fn rope_tables(config: &DecoderConfig, positions: usize) -> [RopeTable; 2] {
    // Without windows the second table is never read.
    let local_positions = if config.sliding.is_some() { positions } else { 0 };
    [
        RopeTable::with_frequencies(&config.rope_frequencies(false), positions),
        RopeTable::with_frequencies(&config.rope_frequencies(true), local_positions),
    ]
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
