//! The forward pass of attention.

use super::{AttentionShape, GROUP, KvCache, Span, TILE_K, mask_row, seen_of, union};
use crate::arch::{LANES, simd_fn};
use crate::buffer::Buffer;
use crate::gemm::{Mat, MatMut, PackedTile, Write, gemm_tile};
use crate::lanes::{read, vectors, write};
use crate::math;
use crate::pool::{Shards, parallel_for};
use std::ops::Range;

/// Tasks to aim at, so that a few threads are evenly busy; keys and values are packed once a task.
const TASKS: usize = 16;

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
    Forward::new(shape, spans, q, Keys::Rows { k, v }, out, lse).run();
}

/// Where keys and values are.
pub(super) enum Keys<'a> {
    /// As projections left them.
    Rows { k: &'a [f32], v: &'a [f32] },
    /// Packed, and which block's.
    Cache(&'a KvCache, usize),
}

pub(super) struct Forward<'a> {
    shape: &'a AttentionShape,
    spans: &'a [Span],
    q: &'a [f32],
    keys: Keys<'a>,
    out: Shards<f32>,
    lse: Shards<f32>,
}

impl<'a> Forward<'a> {
    pub(super) fn new(
        shape: &'a AttentionShape,
        spans: &'a [Span],
        q: &'a [f32],
        keys: Keys<'a>,
        out: &'a mut [f32],
        lse: &'a mut [f32],
    ) -> Self {
        let (batch, heads, q_len) = (shape.batch, shape.heads, shape.q_len);
        assert_eq!(out.len(), batch * q_len * heads * shape.head_dim, "out must be [B, T, H, D]");
        assert_eq!(lse.len(), batch * heads * q_len, "lse must be [B, H, T]");
        Forward { shape, spans, q, keys, out: Shards::new(out), lse: Shards::new(lse) }
    }

    pub(super) fn run(&self) {
        let (shape, q_len) = (self.shape, self.shape.q_len);
        let owners = shape.batch * shape.kv_heads;
        let groups = q_len.div_ceil(GROUP);
        let parts = TASKS.div_ceil(owners.max(1)).clamp(1, groups.max(1));
        let len = groups.div_ceil(parts) * GROUP;
        // The last queries of a causal mask see the most keys: start with them.
        parallel_for(owners * parts, |task| {
            let (owner, part) = (task % owners, parts - 1 - task / owners);
            let queries = (part * len).min(q_len)..((part + 1) * len).min(q_len);
            self.part(owner / shape.kv_heads, owner % shape.kv_heads, queries);
        });
    }

    /// Some queries of a batch row, for all heads that read one key-value head.
    fn part(&self, batch: usize, kv_head: usize, queries: Range<usize>) {
        let (shape, dim) = (self.shape, self.shape.head_dim);
        let seen = union(&self.spans[batch * shape.q_len..][queries.clone()]);
        // Tiles lie at multiples of TILE_K whatever the span.
        let base = seen.start / TILE_K * TILE_K;
        let keys = seen.end.saturating_sub(base);
        let tiles = keys.div_ceil(TILE_K);
        let size = match self.keys {
            Keys::Cache(cache, _) => tiles * cache.memory(),
            Keys::Rows { .. } => PackedTile::len(dim, keys) + PackedTile::len(keys, dim),
        };
        let mut memory = Buffer::scratch(size);
        let tiles: Vec<[PackedTile; 2]> = match self.keys {
            Keys::Cache(cache, layer) => {
                cache.tiles(layer, kv_head, base..base + keys, &mut memory).collect()
            }
            Keys::Rows { k, v } => {
                let rows = |x, stride: usize| -> Mat {
                    let data: &[f32] = x;
                    let start = (batch * shape.kv_len + base) * stride + kv_head * dim;
                    Mat::strided(data.get(start..).unwrap_or_default(), keys, dim, stride, 1)
                };
                let (for_keys, for_values) = memory.split_at_mut(PackedTile::len(dim, keys));
                let k = PackedTile::pack(rows(k, shape.k_stride).t(), for_keys);
                let v = PackedTile::pack(rows(v, shape.v_stride), for_values);
                let part = |first| {
                    let n = TILE_K.min(keys - first);
                    [k.columns(first, n), v.rows(first, n)]
                };
                (0..keys).step_by(TILE_K).map(part).collect()
            }
        };
        let mut state = Online::new(dim);
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            for start in queries.clone().step_by(GROUP) {
                let count = GROUP.min(queries.end - start);
                let position = batch * shape.q_len + start;
                let spans = &self.spans[position..position + count];
                let q = &self.q[position * shape.q_stride + head * dim..];
                let q = Mat::strided(q, count, dim, shape.q_stride, 1);
                let seen = union(spans);
                state.reset();
                for first in (seen.start / TILE_K * TILE_K..seen.end).step_by(TILE_K) {
                    let n = seen_of(spans, first, TILE_K.min(shape.kv_len - first));
                    let [k, v] = tiles[(first - base) / TILE_K];
                    let (k, v) = (k.columns(0, n), v.rows(0, n));
                    state.absorb(q, k, v, spans, first, shape.scale);
                }
                for row in 0..count {
                    let at = ((position + row) * shape.heads + head) * dim;
                    let lse_at = (batch * shape.heads + head) * shape.q_len + start + row;
                    // SAFETY: each (batch, query, head) belongs to one task, which visits it once.
                    let (out, lse) = unsafe { (self.out.part(at, dim), self.lse.part(lse_at, 1)) };
                    lse[0] = state.finish(row, out);
                }
            }
        }
    }
}

/// The running softmax of a group of queries: unnormalised output, largest score and denominator.
pub(super) struct Online {
    scores: Buffer<f32>,
    sum: Buffer<f32>,
    largest: [f32; GROUP],
    denominator: [f32; GROUP],
    dim: usize,
}

impl Online {
    pub(super) fn new(dim: usize) -> Self {
        Online {
            scores: Buffer::scratch(GROUP * TILE_K),
            sum: Buffer::scratch(GROUP * dim),
            largest: [0.0; GROUP],
            denominator: [0.0; GROUP],
            dim,
        }
    }

    pub(super) fn reset(&mut self) {
        self.sum.fill(0.0);
        self.largest.fill(f32::NEG_INFINITY);
        self.denominator.fill(0.0);
    }

    /// Takes in the keys and values `first..`, of which the last is one that some query sees.
    pub(super) fn absorb(
        &mut self,
        q: Mat,
        k: PackedTile,
        v: PackedTile,
        spans: &[Span],
        first: usize,
        scale: f32,
    ) {
        let (rows, keys) = (q.rows(), k.n_cols());
        gemm_tile(q, k, MatMut::new(&mut self.scores, rows, keys), Write::Overwrite);
        for (row, span) in spans.iter().enumerate() {
            let scores = &mut self.scores[row * keys..][..keys];
            if !mask_row(scores, first, *span) {
                scores.fill(0.0);
                continue;
            }
            let before = self.largest[row];
            let largest = before.max(largest_of(scores) * scale);
            if before < largest && before > f32::NEG_INFINITY {
                let shrink = (before - largest).exp();
                self.denominator[row] *= shrink;
                multiply(&mut self.sum[row * self.dim..][..self.dim], shrink);
            }
            self.largest[row] = largest;
            self.denominator[row] += exponentials(scores, scale, largest);
        }
        let scores = Mat::new(&self.scores, rows, keys);
        gemm_tile(scores, v, MatMut::new(&mut self.sum, rows, self.dim), Write::Accumulate);
    }

    /// Writes the output of a row; returns its log-sum-exp (minus infinity if it saw nothing).
    pub(super) fn finish(&self, row: usize, out: &mut [f32]) -> f32 {
        let denominator = self.denominator[row];
        let factor = if denominator > 0.0 { 1.0 / denominator } else { 0.0 };
        for (o, x) in out.iter_mut().zip(&self.sum[row * self.dim..]) {
            *o = x * factor;
        }
        if denominator == 0.0 { f32::NEG_INFINITY } else { self.largest[row] + denominator.ln() }
    }
}

simd_fn! {
    fn multiply(s, x: &mut [f32], factor: f32) {
        let factor = s.splat(factor);
        vectors!(x.len(), |i, n| write(s, x, i, n, s.mul(read(s, x, i, n), factor)));
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
    fn exponentials(s, x: &mut [f32], scale: f32, offset: f32) -> f32 {
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
