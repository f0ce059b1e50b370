//! The keys and values of one sequence, kept in the panels that attention's products read.

use super::forward::{Forward, Keys, Online};
use super::store::{Along, CacheType, PANEL, Panels};
use super::{AttentionShape, GROUP, Span, TILE_K};
use crate::buffer::Buffer;
use crate::gemm::{Mat, PackedTile};
use crate::pool::{Shards, parallel_for};
use std::ops::Range;

/// Keys and values of one sequence in one block, packed as they come: nothing is packed again when a token
/// attends to all before it.
#[derive(Debug)]
pub struct KvCache {
    /// For each head, transposed: [D, capacity].
    keys: Panels,
    /// For each head: [capacity, D].
    values: Panels,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
}

impl KvCache {
    /// Room for `capacity` tokens.
    pub fn new(kind: CacheType, capacity: usize, kv_heads: usize, head_dim: usize) -> Self {
        let capacity = capacity.next_multiple_of(PANEL);
        KvCache {
            keys: Panels::new(kind, kv_heads, head_dim, capacity, Along::Column),
            values: Panels::new(kind, kv_heads, capacity, head_dim, Along::Row),
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
        for row in 0..rows {
            for head in 0..self.kv_heads {
                let from = row * stride + head * self.head_dim;
                let of_head = from..from + self.head_dim;
                self.keys.put_column(head, first + row, &k[of_head.clone()]);
                self.values.put_row(head, first + row, &v[of_head]);
            }
        }
    }

    /// A copy of the first `len` tokens with room for `capacity`.
    pub fn with_capacity(&self, len: usize, capacity: usize) -> Self {
        let capacity = capacity.max(len).next_multiple_of(PANEL);
        let (kept, dim) = (len.next_multiple_of(PANEL).min(self.capacity), self.head_dim);
        KvCache {
            keys: self.keys.resized([dim, kept], [dim, capacity]),
            values: self.values.resized([kept, dim], [capacity, dim]),
            capacity,
            ..*self
        }
    }

    /// Values of memory that [`head`](Self::head) needs for so many keys.
    pub(super) fn memory(&self, keys: usize) -> [usize; 2] {
        [self.keys.memory(self.head_dim, keys), self.values.memory(keys, self.head_dim)]
    }

    /// The keys, transposed [D, keys], and the values [keys, D] of a head; the first one begins a panel.
    pub(super) fn head<'a>(
        &'a self,
        head: usize,
        keys: Range<usize>,
        [for_keys, for_values]: [&'a mut [f32]; 2],
    ) -> (PackedTile<'a>, PackedTile<'a>) {
        let dim = self.head_dim;
        let k = self.keys.tile(head, 0..dim, keys.clone(), for_keys);
        (k, self.values.tile(head, keys, 0..dim, for_values))
    }
}

/// Attention of some queries to a cache that holds their own keys and values too: `out` [q_len, heads, D].
/// The same bits as [`attention_forward`](super::attention_forward) on what the cache made of them.
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
    let [for_keys, for_values] = cache.memory(TILE_K);
    let mut memory = Buffer::scratch(for_keys + for_values);
    let spans = [span; GROUP];
    let q = Mat::new(&q[head * group * dim..][..group * dim], group, dim);
    let mut state = Online::new(dim);
    state.reset();
    let (lo, hi) = (span.lo as usize, span.hi as usize);
    for first in (lo / TILE_K * TILE_K..hi).step_by(TILE_K) {
        let n = TILE_K.min(hi - first);
        let (k, v) = cache.head(head, first..first + n, memory.split_at_mut(for_keys).into());
        state.absorb(q, k, v, &spans[..group], first, shape.scale);
    }
    for row in 0..group {
        // SAFETY: each query head belongs to one task.
        state.finish(row, unsafe { out.part((head * group + row) * dim, dim) });
    }
}
