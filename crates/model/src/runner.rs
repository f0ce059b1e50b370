//! The planned executor, second half: runs a plan over rows of several sequences, each with its own
//! cache of keys and values.

use crate::config::DecoderConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::executor::ParamId;
use crate::layers::{Ids, Layers};
use crate::plan::{Op, Plan, Slot};
use crate::source::Source;
use crate::updates::{Adapted, Updates, push_adapted};
use hearth_kernel::Buffer;
use hearth_kernel::attention::{
    AttentionShape, CacheType, CachedQuery, KvCache, KvPages, Span, attention_cached, attention_cached_each,
};
use hearth_kernel::rope::{RopeTable, rope};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Most rows (tokens) in one pass; a longer prompt goes in parts.
pub const MAX_ROWS: usize = 256;

/// The keys and values of one sequence, and how far it has got.
///
/// A clone shares the pages that both begin with, to continue one prompt in several ways.
#[derive(Clone, Debug)]
pub struct Sequence {
    cache: KvCache,
    capacity: usize,
    len: usize,
    updates: Option<Arc<Updates>>,
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

    /// The adapter that its tokens go through.
    pub fn adapter(&self) -> Option<&Arc<Updates>> {
        self.updates.as_ref()
    }

    /// Forgets all but the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.cache.truncate(self.len);
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
    layers: Layers,
    /// Tokens of the last pass.
    rows: usize,
    lse: Buffer<f32>,
    chosen: Buffer<f32>,
    logits: Buffer<f32>,
    pages: Arc<KvPages>,
    /// For blocks that see everything, and for those with a sliding window; as long as the longest sequence.
    rope: Option<[RopeTable; 2]>,
}

impl Runner {
    /// Packs the parameters of `decoder`.
    pub fn new(decoder: Decoder, source: &dyn Source) -> Result<Self, ModelError> {
        let plan = Plan::of(&decoder)?;
        let config = decoder.config();
        let layers = Layers::pack(&plan, Some(decoder.head()), source, MAX_ROWS, None)?;
        let rope = (!config.family.is_gpt()).then(|| rope_tables(config, 0));
        let cache_type = if layers.single_precision { CacheType::F32 } else { CacheType::F16 };
        Ok(Runner {
            layers,
            pages: pages_of(decoder.config(), cache_type),
            rows: 0,
            lse: Buffer::scratch(MAX_ROWS * config.n_heads.max(1)),
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

    /// What sequences made from now on keep keys and values in. Unless this is called: half precision, or
    /// single if the file has weights in single precision.
    pub fn set_cache_type(&mut self, cache_type: CacheType) {
        self.pages = pages_of(self.decoder.config(), cache_type);
    }

    /// The pages of keys and values that sequences hold.
    pub fn pages(&self) -> &KvPages {
        &self.pages
    }

    /// An empty sequence with room for `capacity` tokens, at most the model's positions.
    pub fn sequence(&mut self, capacity: usize) -> Result<Sequence, ModelError> {
        self.adapted_sequence(capacity, None)
    }

    /// The same, whose tokens go through an adapter of this model.
    pub fn adapted_sequence(
        &mut self,
        capacity: usize,
        updates: Option<Arc<Updates>>,
    ) -> Result<Sequence, ModelError> {
        self.prepare(capacity)?;
        Ok(Sequence { cache: KvCache::new(&self.pages), capacity, len: 0, updates })
    }

    /// Makes room for `capacity` tokens in a sequence that may have less, at most the model's positions.
    pub fn reserve(&mut self, sequence: &mut Sequence, capacity: usize) -> Result<(), ModelError> {
        self.prepare(capacity)?;
        sequence.capacity = sequence.capacity.max(capacity);
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
        for feed in feeds.iter_mut() {
            let len = feed.sequence.len;
            feed.sequence.cache.open(len..len + feed.tokens.len());
        }
        let ops = std::mem::take(&mut self.plan.ops);
        let mut next = 0;
        while next < ops.len() {
            next += self.step(&ops[next..], &rows, feeds);
        }
        self.plan.ops = ops;
        self.rows = rows.tokens.len();
        for feed in feeds.iter_mut() {
            feed.sequence.len += feed.tokens.len();
        }
        self.head(&rows);
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

    /// The final hidden states [N, C] of the tokens of the last pass, in the order of its feeds.
    pub fn hidden(&self) -> &[f32] {
        &self.layers.buffers[self.plan.hidden][..self.rows * self.decoder.config().hidden_size]
    }

    /// Begins to measure what goes into each linear layer.
    pub fn watch_inputs(&mut self) {
        self.layers.watch_inputs();
    }

    /// The mean square of each input of each linear layer since [`watch_inputs`](Self::watch_inputs).
    pub fn watched_inputs(&mut self) -> HashMap<ParamId, Vec<f32>> {
        self.layers.watched_inputs()
    }

    /// Output head over the chosen rows of the hidden states.
    fn head(&mut self, Rows { chosen, adapted_chosen, .. }: &Rows) {
        let config = self.decoder.config();
        let (c, v) = (config.hidden_size, config.vocab_size);
        if self.chosen.len() < chosen.len() * c {
            self.chosen = Buffer::scratch(chosen.len() * c);
            self.logits = Buffer::scratch(chosen.len() * v);
        }
        let hidden = &self.layers.buffers[self.plan.hidden];
        for (to, &row) in self.chosen.chunks_exact_mut(c).zip(chosen) {
            to.copy_from_slice(&hidden[row * c..(row + 1) * c]);
        }
        let (x, out) = (&self.chosen[..chosen.len() * c], &mut self.logits[..chosen.len() * v]);
        self.layers.head(self.decoder.head(), x, out, adapted_chosen);
    }

    /// Runs the operation that `ops` begins with; returns how many were run.
    fn step(&mut self, ops: &[Op], rows: &Rows, feeds: &mut [Feed]) -> usize {
        match ops[0] {
            Op::Rope { layer, x, heads, cols } => {
                let local = self.decoder.config().window_of(layer).is_some();
                let table =
                    &self.rope.as_ref().expect("a description with RoPE has tables")[usize::from(local)];
                let x = &mut self.layers.buffers[x][..rows.tokens.len() * cols];
                rope(x, &rows.positions, heads, table, false);
            }
            Op::Attention { layer, q, k, v, out } => {
                let config = self.decoder.config();
                let (q_cols, kv_cols) =
                    (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
                self.attention(layer, [(q, 0, q_cols), (k, 0, kv_cols), (v, 0, kv_cols)], out, rows, feeds);
            }
            Op::AttentionFused { layer, qkv, out } => {
                let c = self.decoder.config().hidden_size;
                let parts = [0, c, 2 * c].map(|offset| (qkv, offset, 3 * c));
                self.attention(layer, parts, out, rows, feeds);
            }
            _ => {
                let Rows { tokens, positions, adapted, .. } = rows;
                let ids = Ids { tokens, positions, types: &[], adapted };
                return self.layers.step(ops, &ids);
            }
        }
        1
    }

    /// Appends keys and values to each sequence's cache, then attends to all of it. `qkv` gives each
    /// one's buffer, first column and row stride.
    fn attention(
        &mut self,
        layer: usize,
        qkv: [(Slot, usize, usize); 3],
        out: Slot,
        rows: &Rows,
        feeds: &mut [Feed],
    ) {
        let (lse, config) = (&mut self.lse, self.decoder.config());
        let (heads, kv_heads, dim) = (config.n_heads, config.n_kv_heads, config.head_dim);
        let window = config.window_of(layer).unwrap_or(usize::MAX);
        let span = |i: usize| Span { lo: (i + 1).saturating_sub(window) as u32, hi: i as u32 + 1 };
        let mut shape = AttentionShape::contiguous(1, 1, 1, heads, kv_heads, dim);
        (shape.q_stride, shape.scale) = (qkv[0].2, config.attention_scale());
        self.layers.writing(out, |layers, out| {
            let (mut singles, mut out) = (Vec::with_capacity(feeds.len()), out);
            for (feed, range) in feeds.iter_mut().zip(&rows.ranges) {
                let (count, len) = (range.len(), feed.sequence.len);
                let cache = &mut feed.sequence.cache;
                let rows_of = |(slot, offset, stride): (Slot, usize, usize)| {
                    &layers.buffers[slot][range.start * stride + offset..]
                };
                cache.put(layer, len, count, [rows_of(qkv[1]), rows_of(qkv[2])], qkv[1].2);
                let (cache, q) = (&*cache, rows_of(qkv[0]));
                let (of_feed, rest) = out.split_at_mut(count * heads * dim);
                out = rest;
                if count == 1 {
                    singles.push(CachedQuery { cache, span: span(len), q, out: of_feed });
                    continue;
                }
                let shape = AttentionShape { q_len: count, kv_len: len + count, ..shape };
                let spans: Vec<Span> = (len..len + count).map(span).collect();
                attention_cached(&shape, &spans, q, (cache, layer), of_feed, &mut lse[..heads * count]);
            }
            attention_cached_each(&shape, layer, &mut singles);
        });
    }
}

fn pages_of(config: &DecoderConfig, kind: CacheType) -> Arc<KvPages> {
    KvPages::new(kind, config.n_layers, config.n_kv_heads, config.head_dim)
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
    /// Rows with an adapter, and those among the chosen ones, counted in these.
    adapted: Vec<Adapted>,
    adapted_chosen: Vec<Adapted>,
}

impl Rows {
    fn gather(decoder: &Decoder, feeds: &[Feed]) -> Result<Self, ModelError> {
        let vocab_size = decoder.config().vocab_size;
        let mut rows = Rows {
            tokens: vec![],
            positions: vec![],
            ranges: vec![],
            chosen: vec![],
            adapted: vec![],
            adapted_chosen: vec![],
        };
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
            let chosen_before = rows.chosen.len();
            match feed.logits {
                Logits::None => {}
                Logits::Last => rows.chosen.extend((start + count).checked_sub(1).filter(|_| count > 0)),
                Logits::All => rows.chosen.extend(start..start + count),
            }
            if let Some(updates) = &feed.sequence.updates {
                push_adapted(&mut rows.adapted, start..start + count, updates);
                push_adapted(&mut rows.adapted_chosen, chosen_before..rows.chosen.len(), updates);
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
