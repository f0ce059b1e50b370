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

    fn check(&self, shape: &AttentionShape, keys: usize) {
        assert_eq!((shape.kv_heads, shape.head_dim), (self.kv_heads, self.head_dim), "heads of the cache");
        assert!(keys <= self.capacity, "{keys} keys of {}", self.capacity);
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
    assert_eq!(shape.batch, 1);
    cache.check(shape, shape.kv_len);
    assert_eq!(spans.len(), shape.q_len, "one span a query");
    assert!(spans.iter().all(|s| s.hi as usize <= shape.kv_len), "a span ends after the last key");
    Forward::new(shape, spans, q, Keys::Cache(cache), out, lse).run();
}

/// The query of the newest token of a sequence.
#[derive(Debug)]
pub struct CachedQuery<'a> {
    /// The sequence's keys and values, the query's own among them.
    pub cache: &'a KvCache,
    /// Those that it sees.
    pub span: Span,
    /// [heads, D].
    pub q: &'a [f32],
    /// [heads, D].
    pub out: &'a mut [f32],
}

/// Attention of one query of each of several sequences; the pool is entered once. The same bits as
/// [`attention_cached`] for each. Of `shape` only the heads and the scale count.
///
/// # Panics
/// If a slice is too short, or a cache has other heads.
pub fn attention_cached_each(shape: &AttentionShape, queries: &mut [CachedQuery]) {
    let width = shape.heads * shape.head_dim;
    let mut outs = Vec::with_capacity(queries.len());
    for query in queries.iter_mut() {
        query.cache.check(shape, query.span.hi as usize);
        assert!(
            query.q.len() >= width && query.out.len() >= width,
            "a query and its result have {width} values"
        );
        outs.push(Shards::new(query.out));
    }
    let queries: &[CachedQuery] = queries;
    parallel_for(queries.len() * shape.kv_heads, |task| {
        let (query, head) = (task / shape.kv_heads, task % shape.kv_heads);
        one_query(shape, &queries[query], head, &outs[query]);
    });
}

/// All query heads that read one head of the cache, some at a time as the rows of one product: keys are read
/// once.
fn one_query(shape: &AttentionShape, query: &CachedQuery, head: usize, out: &Shards<f32>) {
    let (dim, group) = (shape.head_dim, shape.group());
    let [for_keys, for_values] = query.cache.memory(TILE_K);
    let mut memory = Buffer::scratch(for_keys + for_values);
    let (for_keys, for_values) = memory.split_at_mut(for_keys);
    let spans = [query.span; GROUP];
    let mut state = Online::new(dim);
    let (lo, hi) = (query.span.lo as usize, query.span.hi as usize);
    for first_head in (head * group..(head + 1) * group).step_by(GROUP) {
        let rows = GROUP.min((head + 1) * group - first_head);
        let q = Mat::new(&query.q[first_head * dim..][..rows * dim], rows, dim);
        state.reset();
        for first in (lo / TILE_K * TILE_K..hi).step_by(TILE_K) {
            let keys = first..(first + TILE_K).min(hi);
            let (k, v) = query.cache.head(head, keys, [for_keys, for_values]);
            state.absorb(q, k, v, &spans[..rows], first, shape.scale);
        }
        for row in 0..rows {
            // SAFETY: each query head belongs to one task.
            state.finish(row, unsafe { out.part((first_head + row) * dim, dim) });
        }
    }
}
