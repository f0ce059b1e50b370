//! The forward pass of attention.

use super::{AttentionShape, Span, TILE_K, TILE_Q, mask_row, union};
use crate::arch::{LANES, simd_fn};
use crate::buffer::Buffer;
use crate::gemm::{Mat, MatMut, Write, gemm};
use crate::math;
use crate::pool::{Shards, parallel_for};

/// `out` [B, q_len, heads, D] and `lse` [B, heads, q_len], the log of each softmax's denominator,
/// which the backward pass needs.
///
/// # Panics
/// If a slice is too short for `shape`, or a span ends after the last key.
pub fn attention_forward(
    shape: &AttentionShape,
    spans: &[Span],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
) {
    shape.check(spans, q, k, v);
    let (heads, q_len, dim) = (shape.heads, shape.q_len, shape.head_dim);
    assert_eq!(out.len(), shape.batch * q_len * heads * dim, "out must be [B, T, H, D]");
    assert_eq!(lse.len(), shape.batch * heads * q_len, "lse must be [B, H, T]");
    let (out, lse) = (Shards::new(out), Shards::new(lse));
    let tiles = q_len.div_ceil(TILE_Q);
    // The last tiles of a causal mask are the longest: start with them.
    parallel_for(shape.batch * heads * tiles, |task| {
        let tile = tiles - 1 - task % tiles;
        let (batch, head) = (task / tiles / heads, task / tiles % heads);
        let start = tile * TILE_Q;
        let rows = TILE_Q.min(q_len - start);
        let spans = &spans[batch * q_len + start..][..rows];
        let mut state = Online::new(rows, dim);
        let q = Mat::strided(
            &q[(batch * q_len + start) * shape.q_stride + head * dim..],
            rows,
            dim,
            shape.q_stride,
            1,
        );
        let kv_head = head / shape.group();
        let seen = union(spans);
        // Tiles lie at multiples of TILE_K whatever the span.
        for first in (seen.start / TILE_K * TILE_K..seen.end).step_by(TILE_K) {
            let keys = TILE_K.min(shape.kv_len - first);
            let at = |x, stride: usize| -> Mat {
                let start = (batch * shape.kv_len + first) * stride + kv_head * dim;
                let data: &[f32] = x;
                Mat::strided(&data[start..], keys, dim, stride, 1)
            };
            state.absorb(q, at(k, shape.k_stride), at(v, shape.v_stride), spans, first, shape.scale);
        }
        for row in 0..rows {
            let position = batch * q_len + start + row;
            // SAFETY: each (batch, query, head) belongs to one task, which visits it once.
            let (out, lse) = unsafe {
                (
                    out.part((position * heads + head) * dim, dim),
                    lse.part((batch * heads + head) * q_len + start + row, 1),
                )
            };
            lse[0] = state.finish(row, out);
        }
    });
}

/// The running softmax of a tile of queries: unnormalised output, largest score and denominator.
struct Online {
    scores: Buffer<f32>,
    sum: Buffer<f32>,
    largest: [f32; TILE_Q],
    denominator: [f32; TILE_Q],
    rows: usize,
    dim: usize,
}

impl Online {
    fn new(rows: usize, dim: usize) -> Self {
        Online {
            scores: Buffer::scratch(TILE_Q * TILE_K),
            sum: Buffer::zeros(TILE_Q * dim),
            largest: [f32::NEG_INFINITY; TILE_Q],
            denominator: [0.0; TILE_Q],
            rows,
            dim,
        }
    }

    /// Takes in the keys and values `first..`.
    fn absorb(&mut self, q: Mat, k: Mat, v: Mat, spans: &[Span], first: usize, scale: f32) {
        let (rows, keys) = (self.rows, k.rows());
        gemm(q, k.t(), MatMut::new(&mut self.scores, rows, keys), Write::Overwrite);
        for (row, span) in spans.iter().enumerate() {
            let scores = &mut self.scores[row * keys..][..keys];
            let sum = &mut self.sum[row * self.dim..][..self.dim];
            if !mask_row(scores, first, *span) {
                scores.fill(0.0);
                continue;
            }
            let before = self.largest[row];
            let largest = before.max(largest_of(scores) * scale);
            if before < largest && before > f32::NEG_INFINITY {
                let shrink = (before - largest).exp();
                self.denominator[row] *= shrink;
                sum.iter_mut().for_each(|x| *x *= shrink);
            }
            self.largest[row] = largest;
            self.denominator[row] += exponentials(scores, scale, largest);
        }
        let scores = Mat::new(&self.scores, rows, keys);
        gemm(scores, v, MatMut::new(&mut self.sum, rows, self.dim), Write::Accumulate);
    }

    /// Writes the output of a row; returns its log-sum-exp (minus infinity if it saw nothing).
    fn finish(&self, row: usize, out: &mut [f32]) -> f32 {
        let denominator = self.denominator[row];
        let factor = if denominator > 0.0 { 1.0 / denominator } else { 0.0 };
        for (o, x) in out.iter_mut().zip(&self.sum[row * self.dim..]) {
            *o = x * factor;
        }
        if denominator == 0.0 { f32::NEG_INFINITY } else { self.largest[row] + denominator.ln() }
    }
}

simd_fn! {
    fn largest_of(s, x: &[f32]) -> f32 {
        let mut chunks = x.chunks_exact(LANES);
        let mut largest = s.splat(f32::NEG_INFINITY);
        for chunk in &mut chunks {
            // SAFETY: the chunk has eight values.
            largest = s.max(unsafe { s.load(chunk.as_ptr()) }, largest);
        }
        chunks.remainder().iter().fold(s.largest(largest), |m, &x| m.max(x))
    }
}

simd_fn! {
    /// `x = exp(scale * x - offset)`, with the sum of the results; minus infinity gives exactly zero.
    pub(super) fn exponentials(s, x: &mut [f32], scale: f32, offset: f32) -> f32 {
        let (factor, shift) = (s.splat(scale), s.splat(-offset));
        let (floor, zero) = (s.splat(-87.0), s.splat(0.0));
        let mut sum = zero;
        let mut at = 0;
        while at < x.len() {
            let n = LANES.min(x.len() - at);
            // SAFETY: `n` values are left at `at`.
            unsafe {
                let p = x.as_mut_ptr().add(at);
                let raw = if n == LANES { s.load(p) } else { s.load_partial(p, n) };
                let t = s.fma(raw, factor, shift);
                let e = s.select_lt(t, floor, zero, math::exp(s, t));
                if n == LANES {
                    s.store(p, e);
                    sum = s.add(sum, e);
                } else {
                    s.store_partial(p, e, n);
                    // Lanes past the end hold exp(-offset), not zero: read them back as zeros.
                    sum = s.add(sum, s.load_partial(p, n));
                }
            }
            at += LANES;
        }
        s.sum(sum)
    }
}
