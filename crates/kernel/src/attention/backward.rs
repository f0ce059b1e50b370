//! The backward pass of attention: scores are recomputed tile by tile from q, k and the log-sum-exp.

use super::{AttentionShape, GROUP, Span, TILE_K, mask_row, seen_of, union};
use crate::arch::simd_fn;
use crate::buffer::Buffer;
use crate::gemm::{Mat, MatMut, PackedTile, Write, gemm_tile};
use crate::lanes::{read, total, vectors, write};
use crate::math;
use crate::pool::{Shards, parallel_for};
use std::ops::Range;

/// Queries handled together: the depth of the products that sum over queries.
const TILE_Q: usize = 2 * GROUP;

/// Gradients of q, k and v, overwriting `dq`, `dk`, `dv`, which have the strides of q, k and v; what
/// lies between their rows stays untouched.
///
/// With P the probabilities and `delta = rowsum(dout ∘ out)`:
/// `dv = Pᵀ dout`, `dS = P ∘ (dout vᵀ - delta)`, `dq = scale dS k`, `dk = scale dSᵀ q`.
///
/// # Panics
/// If a slice is too short for `shape`, or a span ends after the last key.
#[allow(clippy::too_many_arguments, reason = "the operands of the operation's definition")]
pub fn attention_backward(
    shape: &AttentionShape,
    spans: &[Span],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    shape.check(spans, q, k, v);
    shape.check(spans, dq, dk, dv);
    let (dq, dk, dv) = (Shards::new(dq), Shards::new(dk), Shards::new(dv));
    Backward { shape, spans, q, k, v, out, lse, dout, dq, dk, dv }.run();
}

/// [`attention_backward`] for a fused projection: `qkv` and `dqkv` are [B, T, 3C] with C the width of
/// all heads together. Every value of `dqkv` is overwritten.
///
/// # Panics
/// If the shape isn't that of a fused projection, or a length doesn't fit.
#[allow(clippy::too_many_arguments, reason = "the operands of the operation's definition")]
pub fn attention_backward_fused(
    shape: &AttentionShape,
    spans: &[Span],
    qkv: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
) {
    let width = shape.heads * shape.head_dim;
    let stride = 3 * width;
    assert_eq!((shape.q_stride, shape.k_stride, shape.v_stride), (stride, stride, stride), "strides");
    assert_eq!((shape.kv_heads, shape.kv_len), (shape.heads, shape.q_len), "one key and value a query");
    assert_eq!(qkv.len(), shape.batch * shape.q_len * stride, "qkv must be [B, T, 3C]");
    assert_eq!(qkv.len(), dqkv.len(), "dqkv must be as long as qkv");
    if qkv.is_empty() {
        return;
    }
    let (q, k, v) = (qkv, &qkv[width..], &qkv[2 * width..]);
    shape.check(spans, q, k, v);
    let dq = Shards::new(dqkv);
    let (dk, dv) = (dq.tail(width), dq.tail(2 * width));
    Backward { shape, spans, q, k, v, out, lse, dout, dq, dk, dv }.run();
}

struct Backward<'a> {
    shape: &'a AttentionShape,
    spans: &'a [Span],
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    dout: &'a [f32],
    dq: Shards<f32>,
    dk: Shards<f32>,
    dv: Shards<f32>,
}

/// What a task keeps of its key-value head, packed, and its scratch.
struct Head<'a> {
    batch: usize,
    /// Kᵀ and Vᵀ [D, keys], for scores and their gradients.
    k_t: PackedTile<'a>,
    v_t: PackedTile<'a>,
    /// K [keys, D], for the gradient of q.
    k: PackedTile<'a>,
    scores: &'a mut [f32],
    dscores: &'a mut [f32],
    /// Q and dout of a tile of queries, packed.
    queries: &'a mut [f32],
    douts: &'a mut [f32],
    dq: &'a mut [f32],
    dk: &'a mut [f32],
    dv: &'a mut [f32],
}

impl Backward<'_> {
    fn run(&self) {
        let shape = self.shape;
        let size = shape.batch * shape.q_len * shape.heads * shape.head_dim;
        assert_eq!((self.out.len(), self.dout.len()), (size, size), "out and dout must be [B, T, H, D]");
        assert_eq!(self.lse.len(), shape.batch * shape.heads * shape.q_len, "lse must be [B, H, T]");
        // A task owns a key-value head of a batch row and all query heads that read it, so every sum has
        // one owner and a fixed order.
        parallel_for(shape.batch * shape.kv_heads, |task| {
            self.head(task / shape.kv_heads, task % shape.kv_heads);
        });
    }

    /// A part of q, k, v or dout: `rows` positions from `position` on, one head of each.
    fn rows<'m>(&self, x: &'m [f32], position: usize, rows: usize, stride: usize, head: usize) -> Mat<'m> {
        let dim = self.shape.head_dim;
        let start = position * stride + head * dim;
        Mat::strided(x.get(start..).unwrap_or_default(), rows, dim, stride, 1)
    }

    fn head(&self, batch: usize, kv_head: usize) {
        let (shape, dim, keys) = (self.shape, self.shape.head_dim, self.shape.kv_len);
        let (across, down) = (PackedTile::len(dim, keys), PackedTile::len(keys, dim));
        let tile = PackedTile::len(TILE_Q, dim);
        let lens = [across, across, down, TILE_Q * TILE_K, TILE_Q * TILE_K, tile, tile];
        let sums = [TILE_Q * dim, keys * dim, keys * dim];
        let mut memory = Buffer::scratch(lens.into_iter().chain(sums).sum());
        let mut rest = &mut memory[..];
        let mut take = |len: usize| rest.split_off_mut(..len).expect("the parts add up to the whole");
        let k = self.rows(self.k, batch * keys, keys, shape.k_stride, kv_head);
        let v = self.rows(self.v, batch * keys, keys, shape.v_stride, kv_head);
        let mut head = Head {
            batch,
            k_t: PackedTile::pack(k.t(), take(across)),
            v_t: PackedTile::pack(v.t(), take(across)),
            k: PackedTile::pack(k, take(down)),
            scores: take(TILE_Q * TILE_K),
            dscores: take(TILE_Q * TILE_K),
            queries: take(tile),
            douts: take(tile),
            dq: take(TILE_Q * dim),
            dk: take(keys * dim),
            dv: take(keys * dim),
        };
        head.dk.fill(0.0);
        head.dv.fill(0.0);
        for query_head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            for start in (0..shape.q_len).step_by(TILE_Q) {
                self.query_tile(&mut head, query_head, start);
            }
        }
        for key in 0..keys {
            let position = batch * keys + key;
            // SAFETY: this task owns the key-value head of this batch row.
            unsafe {
                let dk = self.dk.part(position * shape.k_stride + kv_head * dim, dim);
                dk.copy_from_slice(&head.dk[key * dim..][..dim]);
                let dv = self.dv.part(position * shape.v_stride + kv_head * dim, dim);
                dv.copy_from_slice(&head.dv[key * dim..][..dim]);
            }
        }
    }

    /// Takes in the queries `start..` of one head.
    fn query_tile(&self, kv: &mut Head, head: usize, start: usize) {
        let (shape, dim) = (self.shape, self.shape.head_dim);
        let rows = TILE_Q.min(shape.q_len - start);
        let position = kv.batch * shape.q_len + start;
        let spans = &self.spans[position..][..rows];
        let wide = shape.heads * dim;
        let mut delta = [0.0; TILE_Q];
        for (row, delta) in delta.iter_mut().enumerate().take(rows) {
            let at = (position + row) * wide + head * dim;
            *delta = dot(&self.out[at..at + dim], &self.dout[at..at + dim]);
        }
        let q = self.rows(self.q, position, rows, shape.q_stride, head);
        let dout = self.rows(self.dout, position, rows, wide, head);
        let packed_q = PackedTile::pack(q, kv.queries);
        let packed_dout = PackedTile::pack(dout, kv.douts);
        kv.dq[..rows * dim].fill(0.0);
        let lse = &self.lse[(kv.batch * shape.heads + head) * shape.q_len + start..][..rows];
        let seen = union(spans);
        for first in (seen.start / TILE_K * TILE_K..seen.end).step_by(TILE_K) {
            let keys = seen_of(spans, first, TILE_K.min(shape.kv_len - first));
            for row in (0..rows).step_by(GROUP) {
                let group = row..(row + GROUP).min(rows);
                let n = seen_of(&spans[group.clone()], first, keys);
                let place = Place { first, keys, n };
                let a = [q, dout].map(|m| m.part_of_rows(row, group.len()));
                let at = row * keys..group.end * keys;
                let b = [kv.k_t, kv.v_t].map(|m| m.columns(first, n));
                let tiles = [&mut kv.scores[at.clone()], &mut kv.dscores[at]];
                self.scores(a, b, tiles, &spans[group.clone()], &place, (&lse[group.clone()], &delta[group]));
            }
            let (p, ds) = (Mat::new(kv.scores, rows, keys), Mat::new(kv.dscores, rows, keys));
            for key in (0..keys).step_by(GROUP) {
                let n = GROUP.min(keys - key);
                let seeing = seeing(spans, first + key..first + key + n);
                let (from, count) = (seeing.start, seeing.len());
                let [p, ds] = [p, ds].map(|m| m.part_of_rows(from, count).columns(key, n).t());
                let at = (first + key) * dim..(first + key + n) * dim;
                let (dv, dk) = (&mut kv.dv[at.clone()], &mut kv.dk[at]);
                gemm_tile(p, packed_dout.rows(from, count), MatMut::new(dv, n, dim), Write::Accumulate);
                gemm_tile(ds, packed_q.rows(from, count), MatMut::new(dk, n, dim), Write::Accumulate);
            }
            for row in (0..rows).step_by(GROUP) {
                let group = row..(row + GROUP).min(rows);
                let n = seen_of(&spans[group.clone()], first, keys);
                let ds = ds.part_of_rows(row, group.len()).columns(0, n);
                let dq = MatMut::new(&mut kv.dq[row * dim..group.end * dim], group.len(), dim);
                gemm_tile(ds, kv.k.rows(first, n), dq, Write::Accumulate);
            }
        }
        for row in 0..rows {
            // SAFETY: this task owns the query heads that read its key-value head.
            let dq = unsafe { self.dq.part((position + row) * shape.q_stride + head * dim, dim) };
            dq.copy_from_slice(&kv.dq[row * dim..][..dim]);
        }
    }

    /// Probabilities and gradients of scores for some rows of a tile: from their queries and gradients
    /// of outputs `a`, and Kᵀ and Vᵀ; zeros from the `n` keys on that none of them sees.
    fn scores(
        &self,
        a: [Mat; 2],
        b: [PackedTile; 2],
        [p, ds]: [&mut [f32]; 2],
        spans: &[Span],
        &Place { first, keys, n }: &Place,
        (lse, delta): (&[f32], &[f32]),
    ) {
        let (rows, scale) = (spans.len(), self.shape.scale);
        gemm_tile(a[0], b[0], MatMut::strided(p, rows, n, keys), Write::Overwrite);
        gemm_tile(a[1], b[1], MatMut::strided(ds, rows, n, keys), Write::Overwrite);
        for (i, (p, ds)) in p.chunks_exact_mut(keys).zip(ds.chunks_exact_mut(keys)).enumerate() {
            if n > 0 && mask_row(&mut p[..n], first, spans[i]) {
                score_gradients(&mut p[..n], &mut ds[..n], scale, lse[i], delta[i]);
            } else {
                p[..n].fill(0.0);
                ds[..n].fill(0.0);
            }
            p[n..].fill(0.0);
            ds[n..].fill(0.0);
        }
    }
}

/// A tile's first key, how many there are, and how many some rows may see.
struct Place {
    first: usize,
    keys: usize,
    n: usize,
}

/// The queries, from the first to the last, that see any of the keys.
fn seeing(spans: &[Span], keys: Range<usize>) -> Range<usize> {
    let sees = |s: &Span| s.lo < s.hi && (s.lo as usize) < keys.end && s.hi as usize > keys.start;
    let first = spans.iter().position(sees).unwrap_or(0);
    let end = spans.iter().rposition(sees).map_or(first, |last| last + 1);
    first..end
}

simd_fn! {
    /// From scores and dP: `p = exp(scale p - lse)`, `ds = scale p (ds - delta)`.
    fn score_gradients(s, p: &mut [f32], ds: &mut [f32], scale: f32, lse: f32, delta: f32) {
        let (scale, shift, delta) = (s.splat(scale), s.splat(-lse), s.splat(delta));
        let (floor, zero) = (s.splat(-87.0), s.splat(0.0));
        vectors!(p.len(), |i, n| {
            let t = s.fma(read(s, p, i, n), scale, shift);
            let e = s.select_lt(t, floor, zero, math::exp(s, t));
            write(s, p, i, n, e);
            write(s, ds, i, n, s.mul(s.mul(e, s.sub(read(s, ds, i, n), delta)), scale));
        });
    }
}

simd_fn! {
    fn dot(s, x: &[f32], y: &[f32]) -> f32 {
        let mut acc = [s.splat(0.0); 4];
        vectors!(x.len(), |i, n, j| acc[j] = s.fma(read(s, x, i, n), read(s, y, i, n), acc[j]));
        total(s, acc)
    }
}
