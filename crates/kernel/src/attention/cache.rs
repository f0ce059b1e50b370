//! The keys and values of one sequence, kept in the panels that attention's products read.

use super::forward::{Forward, Keys, Online};
use super::{AttentionShape, GROUP, Span, TILE_K};
use crate::buffer::Buffer;
use crate::gemm::{Mat, PackedTile};
use crate::pool::{Shards, parallel_for};

/// Keys in a panel of keys, and values of a row in a panel of values.
const PANEL: usize = PackedTile::PANEL;

/// Keys and values of one sequence in one block, packed as they come: nothing is packed again when a token
/// attends to all before it.
#[derive(Debug)]
pub struct KvCache {
    /// For each head, panels of sixteen keys: [capacity / 16, D, 16].
    keys: Buffer<f32>,
    /// For each head, panels of sixteen values of every row: [D / 16, capacity, 16].
    values: Buffer<f32>,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
}

impl KvCache {
    /// Room for `capacity` tokens.
    pub fn new(capacity: usize, kv_heads: usize, head_dim: usize) -> Self {
        let capacity = capacity.next_multiple_of(PANEL);
        KvCache {
            keys: Buffer::scratch(kv_heads * capacity * head_dim),
            values: Buffer::scratch(kv_heads * capacity * head_dim.next_multiple_of(PANEL)),
            kv_heads,
            head_dim,
            capacity,
        }
    }

    /// Sets the keys and values of the tokens from `first` on: as many rows as `k` and `v` have, which begin
    /// `stride` values apart.
    ///
    /// # Panics
    /// If a row isn't there, or there is no room for it.
    pub fn put(&mut self, first: usize, rows: usize, [k, v]: [&[f32]; 2], stride: usize) {
        assert!(first + rows <= self.capacity, "{rows} rows from {first} on, room for {}", self.capacity);
        let dim = self.head_dim;
        for row in 0..rows {
            let at = first + row;
            for head in 0..self.kv_heads {
                let from = row * stride + head * dim;
                let panel = (head * self.capacity + at / PANEL * PANEL) * dim + at % PANEL;
                for (d, &x) in k[from..from + dim].iter().enumerate() {
                    self.keys[panel + d * PANEL] = x;
                }
                let padded = dim.next_multiple_of(PANEL);
                let of_head = &mut self.values[head * self.capacity * padded..][..self.capacity * padded];
                for (p, part) in v[from..from + dim].chunks(PANEL).enumerate() {
                    of_head[(p * self.capacity + at) * PANEL..][..part.len()].copy_from_slice(part);
                }
            }
        }
    }

    /// A copy of the first `len` tokens with room for `capacity`.
    pub fn with_capacity(&self, len: usize, capacity: usize) -> Self {
        let mut larger = Self::new(capacity.max(len), self.kv_heads, self.head_dim);
        let dim = self.head_dim;
        let kept = len.next_multiple_of(PANEL).min(self.capacity);
        for head in 0..self.kv_heads {
            let (from, to) = (head * self.capacity * dim, head * larger.capacity * dim);
            larger.keys[to..to + kept * dim].copy_from_slice(&self.keys[from..from + kept * dim]);
            for panel in 0..dim.div_ceil(PANEL) {
                let start = |capacity: usize| (head * dim.div_ceil(PANEL) + panel) * capacity * PANEL;
                let (from, to) = (start(self.capacity), start(larger.capacity));
                let rows = kept * PANEL;
                larger.values[to..to + rows].copy_from_slice(&self.values[from..from + rows]);
            }
        }
        larger
    }

    /// The keys, transposed [D, keys], and the values [keys, D] of a head.
    pub(super) fn head(&self, head: usize) -> (PackedTile<'_>, PackedTile<'_>) {
        let (dim, capacity) = (self.head_dim, self.capacity);
        let padded = dim.next_multiple_of(PANEL);
        let keys = &self.keys[head * capacity * dim..][..capacity * dim];
        let values = &self.values[head * capacity * padded..][..capacity * padded];
        (PackedTile::of_panels(keys, dim, capacity), PackedTile::of_panels(values, capacity, dim))
    }
}

/// Attention of some queries to a cache that holds their own keys and values too: `out` [q_len, heads, D].
/// The same bits as [`attention_forward`](super::attention_forward) on plain keys and values.
///
/// `shape.batch` must be 1, and `shape.kv_len` the tokens in the cache.
///
/// # Panics
/// If a slice is too short for `shape`, or the cache has other heads.
pub fn attention_cached(
    shape: &AttentionShape,
    spans: &[Span],
    q: &[f32],
    cache: &KvCache,
    out: &mut [f32],
    lse: &mut [f32],
) {
    assert_eq!((shape.batch, shape.kv_heads, shape.head_dim), (1, cache.kv_heads, cache.head_dim));
    assert!(shape.kv_len <= cache.capacity, "{} keys of {}", shape.kv_len, cache.capacity);
    assert_eq!(spans.len(), shape.q_len, "one span a query");
    assert!(spans.iter().all(|s| s.hi as usize <= shape.kv_len), "a span ends after the last key");
    let group = shape.group();
    if shape.q_len == 1 && group <= GROUP {
        assert!(q.len() >= shape.heads * shape.head_dim && out.len() >= shape.heads * shape.head_dim);
        let out = Shards::new(out);
        parallel_for(shape.kv_heads, |head| one_query(shape, spans[0], q, cache, head, &out));
        return;
    }
    Forward::new(shape, spans, q, Keys::Cache(cache), out, lse).run();
}

/// All query heads that read one head of the cache, as the rows of one product: keys are read once.
fn one_query(shape: &AttentionShape, span: Span, q: &[f32], cache: &KvCache, head: usize, out: &Shards<f32>) {
    let (dim, group) = (shape.head_dim, shape.group());
    let (k, v) = cache.head(head);
    let spans = [span; GROUP];
    let q = Mat::new(&q[head * group * dim..][..group * dim], group, dim);
    let mut state = Online::new(dim);
    state.reset();
    let (lo, hi) = (span.lo as usize, span.hi as usize);
    for first in (lo / TILE_K * TILE_K..hi).step_by(TILE_K) {
        let n = TILE_K.min(hi - first);
        state.absorb(q, k.columns(first, n), v.rows(first, n), &spans[..group], first, shape.scale);
    }
    for row in 0..group {
        // SAFETY: each query head belongs to one task.
        state.finish(row, unsafe { out.part((head * group + row) * dim, dim) });
    }
}
