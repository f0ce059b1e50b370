//! Attention against its definition in `f64`, and its gradients against finite differences.

use super::*;
use crate::arch::{Isa, with_isa};
use proptest::prelude::*;

fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The definition: `[B, T, H, D]`, a query at a time.
fn plain(shape: &AttentionShape, spans: &[Span], q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let (heads, dim) = (shape.heads, shape.head_dim);
    let mut out = vec![0.0; shape.batch * shape.q_len * heads * dim];
    for query in 0..shape.batch * shape.q_len {
        let batch = query / shape.q_len;
        for head in 0..heads {
            let kv_head = head / (heads / shape.kv_heads);
            let keys = spans[query].lo as usize..spans[query].hi as usize;
            let key_at = |j: usize, stride: usize| (batch * shape.kv_len + j) * stride + kv_head * dim;
            let score = |j: usize| -> f64 {
                let dot: f64 = (0..dim)
                    .map(|d| q[query * shape.q_stride + head * dim + d] * k[key_at(j, shape.k_stride) + d])
                    .sum();
                dot * f64::from(shape.scale)
            };
            let largest = keys.clone().map(score).fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = keys.clone().map(|j| (score(j) - largest).exp()).sum();
            for j in keys {
                let p = (score(j) - largest).exp() / total;
                for d in 0..dim {
                    out[(query * heads + head) * dim + d] += p * v[key_at(j, shape.v_stride) + d];
                }
            }
        }
    }
    out
}

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn forward(shape: &AttentionShape, spans: &[Span], q: &[f32], k: &[f32], v: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let queries = shape.batch * shape.q_len * shape.heads;
    let (mut out, mut lse) = (vec![9.0; queries * shape.head_dim], vec![9.0; queries]);
    attention_forward(shape, spans, q, k, v, &mut out, &mut lse);
    (out, lse)
}

fn check_forward(shape: &AttentionShape, spans: &[Span]) {
    let q = noise(shape.batch * shape.q_len * shape.q_stride, 1);
    let k = noise(shape.batch * shape.kv_len * shape.k_stride, 2);
    let v = noise(shape.batch * shape.kv_len * shape.v_stride, 3);
    let want = plain(shape, spans, &widen(&q), &widen(&k), &widen(&v));
    for isa in Isa::available() {
        let (got, _) = with_isa(isa, || forward(shape, spans, &q, &k, &v));
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!((f64::from(*got) - want).abs() < 3e-6, "{isa:?} {shape:?} at {i}: {got} != {want}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn equals_the_definition(
        batch in 1usize..3, len in 1usize..150, kv_heads in 1usize..3, group in 1usize..3, dim in 1usize..40,
        mask in 0..4, cut in 1usize..100, extra in 0usize..7,
    ) {
        let mut shape = AttentionShape::contiguous(batch, len, len, kv_heads * group, kv_heads, dim);
        (shape.q_stride, shape.k_stride) = (shape.q_stride + extra, shape.k_stride + extra);
        let segments: Vec<u32> = (0..batch * len).map(|i| (i % len / cut) as u32).collect();
        let real: Vec<_> = (0..batch).map(|b| (cut + b).min(len) / 2..(cut + b).min(len)).collect();
        let spans = match mask {
            0 => spans_causal(batch, len, len),
            1 => spans_full(batch, len, len),
            2 => spans_segments(&segments, batch, cut % 2 == 0),
            _ => spans_padding(&real, len, cut % 2 == 0),
        };
        check_forward(&shape, &spans);
    }

    #[test]
    fn fewer_queries_than_keys_are_the_last_ones(q_len in 1usize..60, before in 0usize..150) {
        let shape = AttentionShape::contiguous(1, q_len, q_len + before, 2, 1, 16);
        let (q, k, v) = (noise((q_len + before) * 32, 4), noise((q_len + before) * 16, 5), noise((q_len + before) * 16, 6));
        let whole = AttentionShape { q_len: q_len + before, ..shape };
        let (all, _) = forward(&whole, &spans_causal(1, q_len + before, q_len + before), &q, &k, &v);
        let (part, _) = forward(&shape, &spans_causal(1, q_len, q_len + before), &q[before * 32..], &k, &v);
        prop_assert_eq!(&all[before * 32..], &part[..], "the same bits in parts as at once");
    }
}

proptest! {
    #[test]
    fn a_sequence_beside_others_has_the_bits_it_has_alone(
        lens in prop::collection::vec(0usize..140, 1..5), kv_heads in 1usize..3, group in 1usize..3, dim in 1usize..40,
    ) {
        let total: usize = lens.iter().sum();
        let shape = AttentionShape::contiguous(1, total, total, kv_heads * group, kv_heads, dim);
        let (wide, narrow) = (shape.q_stride, shape.k_stride);
        let (q, k, v) = (noise(total * wide, 7), noise(total * narrow, 8), noise(total * narrow, 9));
        let mut segments = Vec::new();
        for len in lens {
            let start = segments.last().map_or(0, |s: &std::ops::Range<usize>| s.end);
            segments.push(start..start + len);
        }
        let mut out = vec![9.0; total * wide];
        attention_segments(&shape, &segments, &q, &k, &v, &mut out);
        for segment in segments.into_iter().filter(|s| !s.is_empty()) {
            let len = segment.len();
            let part = |x: &[f32], stride: usize| x[segment.start * stride..segment.end * stride].to_vec();
            let alone = AttentionShape { q_len: len, kv_len: len, ..shape };
            let (q, k, v) = (part(&q, wide), part(&k, narrow), part(&v, narrow));
            let (want, _) = forward(&alone, &spans_full(1, len, len), &q, &k, &v);
            prop_assert_eq!(part(&out, wide), want);
        }
    }
}

#[test]
fn gradients_match_finite_differences_of_the_definition() {
    for (shape, spans) in [
        (AttentionShape::contiguous(2, 5, 5, 4, 2, 3), spans_causal(2, 5, 5)),
        (AttentionShape::contiguous(1, 70, 70, 2, 1, 2), spans_causal(1, 70, 70)),
        (AttentionShape::contiguous(1, 4, 7, 2, 2, 5), spans_full(1, 4, 7)),
        (AttentionShape::contiguous(1, 6, 6, 2, 1, 4), spans_segments(&[0, 0, 1, 1, 1, 2], 1, true)),
        (AttentionShape::contiguous(2, 4, 4, 1, 1, 4), spans_padding(&[1..4, 0..2], 4, true)),
    ] {
        check_gradients(&shape, &spans);
    }
}

fn check_gradients(shape: &AttentionShape, spans: &[Span]) {
    let q = noise(shape.batch * shape.q_len * shape.q_stride, 1);
    let k = noise(shape.batch * shape.kv_len * shape.k_stride, 2);
    let v = noise(shape.batch * shape.kv_len * shape.v_stride, 3);
    let (out, lse) = forward(shape, spans, &q, &k, &v);
    let dout = noise(out.len(), 4);
    let (mut dq, mut dk, mut dv) = (vec![9.0; q.len()], vec![9.0; k.len()], vec![9.0; v.len()]);
    attention_backward(shape, spans, &q, &k, &v, &out, &lse, &dout, &mut dq, &mut dk, &mut dv);
    let inputs = [widen(&q), widen(&k), widen(&v)];
    let loss = |x: &[Vec<f64>; 3]| -> f64 {
        plain(shape, spans, &x[0], &x[1], &x[2]).iter().zip(&dout).map(|(o, d)| o * f64::from(*d)).sum()
    };
    for (which, got) in [dq, dk, dv].into_iter().enumerate() {
        for i in 0..got.len() {
            let mut moved = inputs.clone();
            moved[which][i] += 1e-5;
            let up = loss(&moved);
            moved[which][i] -= 2e-5;
            let want = (up - loss(&moved)) / 2e-5;
            assert!(
                (f64::from(got[i]) - want).abs() < 1e-5,
                "{shape:?} input {which} at {i}: {} != {want}",
                got[i]
            );
        }
    }
}

/// What a cache keeps of heads of `dim` values.
fn kept(kind: CacheType, x: &[f32], dim: usize) -> Vec<f32> {
    let block = |x: &[f32]| -> Vec<f32> {
        let scale = x.iter().fold(0.0f32, |m, x| m.max(x.abs())) / 127.0;
        let short = half::f16::from_f32(scale).to_f32();
        x.iter().map(|x| (x / scale).round() * short).collect()
    };
    match kind {
        CacheType::F32 => x.to_vec(),
        CacheType::F16 => x.iter().map(|&x| half::f16::from_f32(x).to_f32()).collect(),
        CacheType::Q8_0 => x.chunks(dim).flat_map(|head| head.chunks(32)).flat_map(block).collect(),
    }
}

#[test]
fn a_cache_attends_to_what_it_keeps() {
    for (dim, window) in [(16, usize::MAX), (40, usize::MAX), (64, 30), (128, usize::MAX)] {
        let (before, q_len, heads, kv_heads) = (70, 9, 4, 2);
        let shape = AttentionShape::contiguous(1, q_len, before + q_len, heads, kv_heads, dim);
        let q = noise(q_len * heads * dim, 1);
        let [k, v] = [2, 3].map(|seed| noise((before + q_len) * kv_heads * dim, seed));
        let span = |i: usize| Span { lo: (i + 1).saturating_sub(window) as u32, hi: i as u32 + 1 };
        let spans: Vec<Span> = (before..before + q_len).map(span).collect();
        for kind in CacheType::ALL {
            for isa in Isa::available() {
                with_isa(isa, || {
                    let (want, _) = forward(&shape, &spans, &q, &kept(kind, &k, dim), &kept(kind, &v, dim));
                    let pages = KvPages::new(kind, 2, kv_heads, dim);
                    let mut beginning = KvCache::new(&pages);
                    let stride = kv_heads * dim;
                    beginning.open(0..before);
                    beginning.put(1, 0, before, [&k, &v], stride);
                    // Two caches with one beginning; what is in the other must not be seen here.
                    let mut cache = beginning.clone();
                    for cache in [&mut cache, &mut beginning] {
                        cache.open(before..before + q_len);
                        cache.put(1, before, q_len, [&k[before * stride..], &v[before * stride..]], stride);
                        cache.put(0, before, q_len, [&v, &k], stride);
                    }
                    beginning.put(1, before, q_len, [&q, &q], 0);
                    assert_eq!(pages.alive(), 3, "the first page is shared");
                    let (mut got, mut lse) = (vec![9.0; want.len()], vec![9.0; q_len * heads]);
                    attention_cached(&shape, &spans, &q, (&cache, 1), &mut got, &mut lse);
                    assert_eq!(got, want, "{kind:?} {isa:?}, heads of {dim}");
                    // The last two queries, each alone.
                    let row = heads * dim;
                    let mut rows = got[..2 * row].chunks_exact_mut(row);
                    let mut queries = [q_len - 2, q_len - 1].map(|i| CachedQuery {
                        cache: &cache,
                        span: spans[i],
                        q: &q[i * row..][..row],
                        out: rows.next().expect("two rows"),
                    });
                    attention_cached_each(&shape, 1, &mut queries);
                    assert_eq!(got[..2 * row], want[(q_len - 2) * row..], "{kind:?} {isa:?} alone, {dim}");
                });
            }
        }
    }
}
