//! The keys and values of a sequence, kept in the panels that attention's products read, a page at a time.

use super::forward::{Forward, Keys, Online};
use super::store::{Along, CacheType, Panels};
use super::{AttentionShape, GROUP, Span, TILE_K};
use crate::buffer::Buffer;
use crate::gemm::{Mat, PackedTile};
use crate::pool::{Shards, parallel_for};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Tokens of a page: a tile of attention, so that a page is read whole.
pub const PAGE: usize = TILE_K;

/// What the caches of a model have in common, and how many pages they hold together.
#[derive(Debug)]
pub struct KvPages {
    kind: CacheType,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    alive: AtomicUsize,
}

impl KvPages {
    /// Pages for `layers` blocks of `kv_heads` heads of `head_dim` values.
    pub fn new(kind: CacheType, layers: usize, kv_heads: usize, head_dim: usize) -> Arc<Self> {
        Arc::new(KvPages { kind, layers, kv_heads, head_dim, alive: AtomicUsize::new(0) })
    }

    /// What keys and values are kept in.
    pub fn kind(&self) -> CacheType {
        self.kind
    }

    /// Pages that exist now, one that several caches share counted once.
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        let heads = self.layers * self.kv_heads;
        self.kind.bytes_of(heads * PackedTile::len(self.head_dim, PAGE))
            + self.kind.bytes_of(heads * PackedTile::len(PAGE, self.head_dim))
    }

    fn page(self: &Arc<Self>, keys: Panels, values: Panels) -> Arc<Page> {
        self.alive.fetch_add(1, Ordering::Relaxed);
        Arc::new(Page { keys, values, counted: self.clone() })
    }

    fn fresh(self: &Arc<Self>) -> Arc<Page> {
        let (heads, dim) = (self.layers * self.kv_heads, self.head_dim);
        let keys = Panels::new(self.kind, heads, dim, PAGE, Along::Column);
        self.page(keys, Panels::new(self.kind, heads, PAGE, dim, Along::Row))
    }
}

/// The keys and values of [`PAGE`] tokens in all blocks.
#[derive(Debug)]
struct Page {
    /// For each head of each block, transposed: [D, PAGE].
    keys: Panels,
    /// For each head of each block: [PAGE, D].
    values: Panels,
    counted: Arc<KvPages>,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.counted.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keys and values of one sequence in all blocks, packed as they come: nothing is packed again when a token attends
/// to all before it. A clone shares the pages; who writes to a shared page gets a copy of it first.
#[derive(Clone, Debug)]
pub struct KvCache {
    pages: Vec<Arc<Page>>,
    of: Arc<KvPages>,
}

impl KvCache {
    /// Holds nothing.
    pub fn new(of: &Arc<KvPages>) -> Self {
        KvCache { pages: Vec::new(), of: of.clone() }
    }

    /// Makes ready to [`put`](Self::put) the tokens `tokens`; those before stay.
    ///
    /// # Panics
    /// If there are none before.
    pub fn open(&mut self, tokens: Range<usize>) {
        for index in tokens.start / PAGE..tokens.end.div_ceil(PAGE) {
            match self.pages.get_mut(index) {
                Some(page) => {
                    if Arc::get_mut(page).is_none() {
                        *page = self.of.page(page.keys.clone(), page.values.clone());
                    }
                }
                None => {
                    assert_eq!(index, self.pages.len(), "a cache has no gap");
                    self.pages.push(self.of.fresh());
                }
            }
        }
    }

    /// Drops the pages that hold nothing of the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.pages.truncate(len.div_ceil(PAGE));
    }

    /// Sets the keys and values of the tokens from `first` on in a block: as many rows as `k` and `v` have, which
    /// begin `stride` values apart.
    ///
    /// # Panics
    /// If a row isn't there, or [`open`](Self::open) has made no room for it.
    pub fn put(&mut self, layer: usize, first: usize, rows: usize, [k, v]: [&[f32]; 2], stride: usize) {
        let (heads, dim) = (self.of.kv_heads, self.of.head_dim);
        let mut row = 0;
        while row < rows {
            let (index, at) = ((first + row) / PAGE, (first + row) % PAGE);
            let page = Arc::get_mut(&mut self.pages[index]).expect("an opened page is this cache's own");
            let count = (PAGE - at).min(rows - row);
            for i in 0..count {
                for head in 0..heads {
                    let from = (row + i) * stride + head * dim;
                    page.keys.put_column(layer * heads + head, at + i, &k[from..from + dim]);
                    page.values.put_row(layer * heads + head, at + i, &v[from..from + dim]);
                }
            }
            row += count;
        }
    }

    fn check(&self, shape: &AttentionShape, keys: usize) {
        assert_eq!(
            (shape.kv_heads, shape.head_dim),
            (self.of.kv_heads, self.of.head_dim),
            "heads of the cache"
        );
        let room = self.pages.len() * PAGE;
        assert!(keys <= room, "{keys} keys of {room}");
    }

    /// Values of memory that [`tiles`](Self::tiles) needs for each page.
    pub(super) fn memory(&self) -> usize {
        let dim = self.of.head_dim;
        match self.of.kind {
            CacheType::F32 => 0,
            CacheType::F16 | CacheType::Q8_0 => PackedTile::len(dim, PAGE) + PackedTile::len(PAGE, dim),
        }
    }

    /// The keys, transposed [D, keys], and the values [keys, D] of a head, a page at a time; the first key begins a
    /// page.
    pub(super) fn tiles<'a>(
        &'a self,
        layer: usize,
        head: usize,
        keys: Range<usize>,
        mut memory: &'a mut [f32],
    ) -> impl Iterator<Item = [PackedTile<'a>; 2]> {
        let (head, dim, of_page) = (layer * self.of.kv_heads + head, self.of.head_dim, self.memory());
        keys.clone().step_by(PAGE).map(move |first| {
            let (page, count) = (&self.pages[first / PAGE], PAGE.min(keys.end - first));
            let (mine, rest) = std::mem::take(&mut memory).split_at_mut(of_page);
            memory = rest;
            let (for_keys, for_values) = mine.split_at_mut(of_page.min(PackedTile::len(dim, PAGE)));
            let k = page.keys.tile(head, 0..dim, 0..count, for_keys);
            [k, page.values.tile(head, 0..count, 0..dim, for_values)]
        })
    }
}

/// Attention of some queries to what a cache holds of a block, their own keys and values: `out` [q_len, heads, D].
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
    (cache, layer): (&KvCache, usize),
    out: &mut [f32],
    lse: &mut [f32],
) {
    assert_eq!(shape.batch, 1);
    cache.check(shape, shape.kv_len);
    assert_eq!(spans.len(), shape.q_len, "one span a query");
    assert!(spans.iter().all(|s| s.hi as usize <= shape.kv_len), "a span ends after the last key");
    Forward::new(shape, spans, q, Keys::Cache(cache, layer), out, lse).run();
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
pub fn attention_cached_each(shape: &AttentionShape, layer: usize, queries: &mut [CachedQuery]) {
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
        one_query(shape, &queries[query], [layer, head], &outs[query]);
    });
}

/// All query heads that read one head of the cache, some at a time as the rows of one product: keys are read
/// once.
fn one_query(shape: &AttentionShape, query: &CachedQuery, [layer, head]: [usize; 2], out: &Shards<f32>) {
    let (dim, group) = (shape.head_dim, shape.group());
    let mut memory = Buffer::scratch(query.cache.memory());
    let spans = [query.span; GROUP];
    let mut state = Online::new(dim);
    let (lo, hi) = (query.span.lo as usize, query.span.hi as usize);
    for first_head in (head * group..(head + 1) * group).step_by(GROUP) {
        let rows = GROUP.min((head + 1) * group - first_head);
        let q = Mat::new(&query.q[first_head * dim..][..rows * dim], rows, dim);
        state.reset();
        for first in (lo / TILE_K * TILE_K..hi).step_by(TILE_K) {
            let keys = first..(first + TILE_K).min(hi);
            for [k, v] in query.cache.tiles(layer, head, keys, &mut memory) {
                state.absorb(q, k, v, &spans[..rows], first, shape.scale);
            }
        }
        for row in 0..rows {
            // SAFETY: each query head belongs to one task.
            state.finish(row, unsafe { out.part((first_head + row) * dim, dim) });
        }
    }
}
