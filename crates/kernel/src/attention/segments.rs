//! Bidirectional attention of sequences that lie side by side, without padding.

use super::forward::Online;
use super::{AttentionShape, GROUP, Span, TILE_K};
use crate::buffer::Buffer;
use crate::gemm::{Mat, PackedTile};
use crate::pool::{Shards, parallel_for};
use std::ops::Range;

/// Attention within each of several sequences, whose rows are `segments` of q, k and v: `out`
/// [rows, heads, D]. Every row sees all of its own sequence and nothing else. Rows in no segment are left as
/// they are.
///
/// Tiles of keys begin where their sequence does, so a row has the same bits whatever lies beside it; they are
/// those of [`attention_forward`](super::attention_forward) on the sequence alone. `shape.batch` must be 1.
///
/// # Panics
/// If a slice is too short for `shape`, or segments overlap, don't ascend, or end after the last row.
pub fn attention_segments(
    shape: &AttentionShape,
    segments: &[Range<usize>],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
) {
    shape.check_rows(q, k, v);
    assert_eq!((shape.batch, shape.kv_len), (1, shape.q_len), "sequences side by side are one batch row");
    assert_eq!(out.len(), shape.q_len * shape.heads * shape.head_dim, "out must be [rows, H, D]");
    let mut end = 0;
    for segment in segments {
        assert!(end <= segment.start && segment.start <= segment.end, "segment {segment:?} after {end}");
        end = segment.end;
    }
    assert!(end <= shape.q_len, "a segment ends at {end} of {} rows", shape.q_len);
    let out = Shards::new(out);
    parallel_for(segments.len() * shape.kv_heads, |task| {
        one_head(shape, segments[task / shape.kv_heads].clone(), task % shape.kv_heads, q, [k, v], &out);
    });
}

/// One sequence, for all query heads that read one key-value head.
fn one_head(
    shape: &AttentionShape,
    segment: Range<usize>,
    kv_head: usize,
    q: &[f32],
    [k, v]: [&[f32]; 2],
    out: &Shards<f32>,
) {
    let (dim, len) = (shape.head_dim, segment.len());
    if len == 0 {
        return;
    }
    fn rows(x: &[f32], first: usize, column: usize, len: usize, dim: usize, stride: usize) -> Mat<'_> {
        Mat::strided(&x[first * stride + column..], len, dim, stride, 1)
    }
    let mut memory = Buffer::scratch(PackedTile::len(dim, len) + PackedTile::len(len, dim));
    let (packed_k, packed_v) = memory.split_at_mut(PackedTile::len(dim, len));
    let column = kv_head * dim;
    let k = PackedTile::pack(rows(k, segment.start, column, len, dim, shape.k_stride).t(), packed_k);
    let v = PackedTile::pack(rows(v, segment.start, column, len, dim, shape.v_stride), packed_v);
    let spans = [Span { lo: 0, hi: len as u32 }; GROUP];
    let mut state = Online::new(dim);
    for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
        for start in (0..len).step_by(GROUP) {
            let count = GROUP.min(len - start);
            let q = rows(q, segment.start + start, head * dim, count, dim, shape.q_stride);
            state.reset();
            for first in (0..len).step_by(TILE_K) {
                let n = TILE_K.min(len - first);
                let (k, v) = (k.columns(first, n), v.rows(first, n));
                state.absorb(q, k, v, &spans[..count], first, shape.scale);
            }
            for row in 0..count {
                let at = ((segment.start + start + row) * shape.heads + head) * dim;
                // SAFETY: each row and head belongs to one task, which visits it once: segments don't overlap.
                state.finish(row, unsafe { out.part(at, dim) });
            }
        }
    }
}
