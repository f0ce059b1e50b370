//! The backward pass of attention: scores are recomputed tile by tile from q, k and the log-sum-exp.

use super::forward::exponentials;
use super::{AttentionShape, Span, TILE_K, TILE_Q, mask_row, union};
use crate::buffer::Buffer;
use crate::gemm::{Mat, MatMut, Write, gemm};
use crate::pool::{Shards, parallel_for};

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

/// Scratch tiles of one task.
struct Tiles {
    scores: Buffer<f32>,
    dscores: Buffer<f32>,
    delta: [f32; TILE_Q],
    dq: Buffer<f32>,
    dk: Buffer<f32>,
    dv: Buffer<f32>,
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

    fn head(&self, batch: usize, kv_head: usize) {
        let (shape, dim) = (self.shape, self.shape.head_dim);
        let mut tiles = Tiles {
            scores: Buffer::scratch(TILE_Q * TILE_K),
            dscores: Buffer::scratch(TILE_Q * TILE_K),
            delta: [0.0; TILE_Q],
            dq: Buffer::scratch(TILE_Q * dim),
            dk: Buffer::zeros(shape.kv_len * dim),
            dv: Buffer::zeros(shape.kv_len * dim),
        };
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            for start in (0..shape.q_len).step_by(TILE_Q) {
                self.query_tile(batch, head, kv_head, start, &mut tiles);
            }
        }
        for key in 0..shape.kv_len {
            let position = batch * shape.kv_len + key;
            // SAFETY: this task owns the key-value head of this batch row.
            unsafe {
                let dk = self.dk.part(position * shape.k_stride + kv_head * dim, dim);
                dk.copy_from_slice(&tiles.dk[key * dim..][..dim]);
                let dv = self.dv.part(position * shape.v_stride + kv_head * dim, dim);
                dv.copy_from_slice(&tiles.dv[key * dim..][..dim]);
            }
        }
    }

    fn query_tile(&self, batch: usize, head: usize, kv_head: usize, start: usize, tiles: &mut Tiles) {
        let (shape, dim) = (self.shape, self.shape.head_dim);
        let rows = TILE_Q.min(shape.q_len - start);
        let first_query = batch * shape.q_len + start;
        let spans = &self.spans[first_query..][..rows];
        let lse = &self.lse[(batch * shape.heads + head) * shape.q_len + start..][..rows];
        let at = (first_query * shape.heads + head) * dim;
        let wide = shape.heads * dim;
        for (row, delta) in tiles.delta.iter_mut().enumerate().take(rows) {
            let (o, d) = (&self.out[at + row * wide..][..dim], &self.dout[at + row * wide..][..dim]);
            *delta = o.iter().zip(d).map(|(o, d)| o * d).sum();
        }
        let q =
            Mat::strided(&self.q[first_query * shape.q_stride + head * dim..], rows, dim, shape.q_stride, 1);
        let dout = Mat::strided(&self.dout[at..], rows, dim, wide, 1);
        tiles.dq[..rows * dim].fill(0.0);
        let seen = union(spans);
        for first in (seen.start / TILE_K * TILE_K..seen.end).step_by(TILE_K) {
            let keys = TILE_K.min(shape.kv_len - first);
            let position = batch * shape.kv_len + first;
            let k = Mat::strided(
                &self.k[position * shape.k_stride + kv_head * dim..],
                keys,
                dim,
                shape.k_stride,
                1,
            );
            let v = Mat::strided(
                &self.v[position * shape.v_stride + kv_head * dim..],
                keys,
                dim,
                shape.v_stride,
                1,
            );
            gemm(q, k.t(), MatMut::new(&mut tiles.scores, rows, keys), Write::Overwrite);
            gemm(dout, v.t(), MatMut::new(&mut tiles.dscores, rows, keys), Write::Overwrite);
            for row in 0..rows {
                let p = &mut tiles.scores[row * keys..][..keys];
                let ds = &mut tiles.dscores[row * keys..][..keys];
                if mask_row(p, first, spans[row]) {
                    exponentials(p, shape.scale, lse[row]);
                } else {
                    p.fill(0.0);
                }
                let delta = tiles.delta[row];
                for (ds, p) in ds.iter_mut().zip(&*p) {
                    *ds = p * (*ds - delta) * shape.scale;
                }
            }
            let p = Mat::new(&tiles.scores, rows, keys);
            let ds = Mat::new(&tiles.dscores, rows, keys);
            let kv = first * dim..(first + keys) * dim;
            gemm(p.t(), dout, MatMut::new(&mut tiles.dv[kv.clone()], keys, dim), Write::Accumulate);
            gemm(ds.t(), q, MatMut::new(&mut tiles.dk[kv], keys, dim), Write::Accumulate);
            gemm(ds, k, MatMut::new(&mut tiles.dq, rows, dim), Write::Accumulate);
        }
        for row in 0..rows {
            // SAFETY: this task owns the query heads that read its key-value head.
            let dq = unsafe { self.dq.part((first_query + row) * shape.q_stride + head * dim, dim) };
            dq.copy_from_slice(&tiles.dq[row * dim..][..dim]);
        }
    }
}
