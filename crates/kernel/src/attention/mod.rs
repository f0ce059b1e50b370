//! Scaled dot-product attention, tiled: memory linear in T, no T×T matrix anywhere.
//!
//! `out = softmax(scale · q kᵀ) v` with an online softmax over tiles of keys (Dao et al. 2022,
//! FlashAttention, algorithm 1; the backward pass recomputes the scores, algorithm 4). Grouped-query
//! attention: query head h reads key-value head `h / (heads / kv_heads)`. Which keys a query sees is a
//! [`Span`]; causal, bidirectional, padded, packed and sliding-window attention are all spans.
//!
//! Tiles of keys are aligned to absolute positions, so a query's result is the same alone, in a
//! longer batch, or in a prefix processed in parts.

mod backward;
mod cache;
mod forward;
mod segments;
mod store;

pub use backward::{attention_backward, attention_backward_fused};
pub use cache::{CachedQuery, KvCache, KvPages, PAGE, attention_cached, attention_cached_each};
pub use forward::attention_forward;
pub use segments::attention_segments;
pub use store::CacheType;

/// Keys in a tile.
const TILE_K: usize = 64;
/// Queries, or keys, handled together where a mask may leave out a part: two register tiles.
const GROUP: usize = 24;

/// The keys `lo..hi` that a query may see; empty when `lo >= hi`, which gives a zero output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First visible key.
    pub lo: u32,
    /// One past the last visible key.
    pub hi: u32,
}

/// Sizes and layout: q is [B, q_len, heads, D], k and v are [B, kv_len, kv_heads, D].
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// B.
    pub batch: usize,
    /// Queries a batch row.
    pub q_len: usize,
    /// Keys a batch row.
    pub kv_len: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; divides `heads`.
    pub kv_heads: usize,
    /// D.
    pub head_dim: usize,
    /// Values between consecutive positions of q: `heads * D` when contiguous, more when q is a part
    /// of a fused projection.
    pub q_stride: usize,
    /// The same for k.
    pub k_stride: usize,
    /// The same for v.
    pub v_stride: usize,
    /// Multiplies the scores; usually `1 / sqrt(D)`.
    pub scale: f32,
}

impl AttentionShape {
    /// The shape of contiguous q, k and v, with the usual scale.
    pub fn contiguous(
        batch: usize,
        q_len: usize,
        kv_len: usize,
        heads: usize,
        kv_heads: usize,
        head_dim: usize,
    ) -> Self {
        AttentionShape {
            batch,
            q_len,
            kv_len,
            heads,
            kv_heads,
            head_dim,
            q_stride: heads * head_dim,
            k_stride: kv_heads * head_dim,
            v_stride: kv_heads * head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
        }
    }

    /// Query heads that share a key-value head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    fn check(&self, spans: &[Span], q: &[f32], k: &[f32], v: &[f32]) {
        assert_eq!(spans.len(), self.batch * self.q_len, "one span a query");
        assert!(spans.iter().all(|s| s.hi as usize <= self.kv_len), "a span ends after the last key");
        self.check_rows(q, k, v);
    }

    fn check_rows(&self, q: &[f32], k: &[f32], v: &[f32]) {
        assert!(self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads), "heads {self:?}");
        let least = |len: usize, stride: usize, heads: usize| match self.batch * len {
            0 => 0,
            n => (n - 1) * stride + heads * self.head_dim,
        };
        assert!(q.len() >= least(self.q_len, self.q_stride, self.heads), "q is too short");
        assert!(k.len() >= least(self.kv_len, self.k_stride, self.kv_heads), "k is too short");
        assert!(v.len() >= least(self.kv_len, self.v_stride, self.kv_heads), "v is too short");
    }
}

/// Every query sees itself and what came before it. With more keys than queries, the queries are the
/// last ones.
pub fn spans_causal(batch: usize, q_len: usize, kv_len: usize) -> Vec<Span> {
    assert!(q_len <= kv_len, "causal attention needs a key for each query");
    let row = (0..q_len).map(|i| Span { lo: 0, hi: (kv_len - q_len + i + 1) as u32 });
    std::iter::repeat_n(row, batch).flatten().collect()
}

/// Every query sees every key.
pub fn spans_full(batch: usize, q_len: usize, kv_len: usize) -> Vec<Span> {
    vec![Span { lo: 0, hi: kv_len as u32 }; batch * q_len]
}

/// Queries see keys of their own segment; `segments` is [B, T], equal within a document and
/// non-decreasing along a row.
pub fn spans_segments(segments: &[u32], batch: usize, causal: bool) -> Vec<Span> {
    let len = segments.len().checked_div(batch).unwrap_or(0);
    let mut spans = Vec::with_capacity(segments.len());
    for row in segments.chunks(len.max(1)) {
        let mut lo = 0;
        for i in 0..row.len() {
            if i > 0 && row[i] != row[i - 1] {
                lo = i;
            }
            let end = || i + row[i..].iter().take_while(|&&s| s == row[i]).count();
            let hi = if causal { i + 1 } else { end() };
            spans.push(Span { lo: lo as u32, hi: hi as u32 });
        }
    }
    spans
}

/// Row b has real tokens at `first[b]..end[b]`; queries there see only those (and with `causal`, none
/// after themselves), padding queries see nothing.
pub fn spans_padding(real: &[std::ops::Range<usize>], len: usize, causal: bool) -> Vec<Span> {
    let mut spans = Vec::with_capacity(real.len() * len);
    for range in real {
        for i in 0..len {
            let hi = match (range.contains(&i), causal) {
                (false, _) => range.start,
                (true, true) => i + 1,
                (true, false) => range.end,
            };
            spans.push(Span { lo: range.start as u32, hi: hi as u32 });
        }
    }
    spans
}

/// The keys that any of some queries sees, as a range.
fn union(spans: &[Span]) -> std::ops::Range<usize> {
    let seen = spans.iter().filter(|s| s.lo < s.hi);
    let lo = seen.clone().map(|s| s.lo).min().unwrap_or(0);
    let hi = seen.map(|s| s.hi).max().unwrap_or(0);
    lo as usize..hi as usize
}

/// Of the keys `first..first + keys`, how many from the first on the queries may see at all.
fn seen_of(spans: &[Span], first: usize, keys: usize) -> usize {
    union(spans).end.saturating_sub(first).min(keys)
}

/// Sets the scores `row[j]` of keys `first + j` outside `span` to minus infinity; true if any is left.
fn mask_row(row: &mut [f32], first: usize, span: Span) -> bool {
    let lo = (span.lo as usize).saturating_sub(first).min(row.len());
    let hi = (span.hi as usize).saturating_sub(first).min(row.len());
    if lo >= hi {
        row.fill(f32::NEG_INFINITY);
        return false;
    }
    row[..lo].fill(f32::NEG_INFINITY);
    row[hi..].fill(f32::NEG_INFINITY);
    true
}

#[cfg(test)]
mod tests;
