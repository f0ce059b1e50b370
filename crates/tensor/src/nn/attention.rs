//! Scaled dot-product attention (Vaswani et al. 2017, section 3.2) without a T×T matrix, and rotary
//! positions.

use crate::autograd::record;
use crate::error::TensorError;
use crate::tensor::Tensor;
use hearth_kernel::Buffer;
use hearth_kernel::attention::{
    AttentionShape, Span, attention_backward, attention_backward_fused, attention_forward,
};
use hearth_kernel::profile::{Work, operation, pass};
use hearth_kernel::rope::{RopeTable, rope as rotate};
use std::sync::Arc;

fn check_spans(op: &'static str, spans: &[Span], queries: usize, keys: usize) -> Result<(), TensorError> {
    if spans.len() != queries {
        let expected = format!("{queries} spans, one a query");
        return Err(TensorError::Shape { op, expected, got: spans.len().to_string() });
    }
    match spans.iter().find(|s| s.hi as usize > keys) {
        Some(span) => Err(TensorError::range(op, "the end of a span", i64::from(span.hi), keys + 1)),
        None => Ok(()),
    }
}

/// `products` of a query with a key, of D values each, for every key that a query sees.
fn work(shape: &AttentionShape, spans: &[Span], products: usize) -> Work {
    let pairs: u64 = spans.iter().map(|s| u64::from(s.hi.saturating_sub(s.lo))).sum();
    let (heads, dim) = (shape.heads as f64, shape.head_dim as f64);
    let values = shape.batch * (shape.q_len * shape.heads + shape.kv_len * shape.kv_heads) * shape.head_dim;
    Work { flops: (2 * products) as f64 * dim * heads * pairs as f64, ..Work::values(products * values) }
}

/// Attention of `q` [B, Tq, H, D] over `k` and `v` [B, Tk, Hkv, D], where H is a multiple of Hkv
/// (grouped-query attention, Ainslie et al. 2023). `spans` [B, Tq] says which keys each query sees;
/// one that sees none gives zeros. Returns [B, Tq, H, D].
///
/// # Errors
/// If the shapes don't agree, or a span ends after the last key.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spans: &Arc<[Span]>,
    scale: f32,
) -> Result<Tensor, TensorError> {
    let op = "attention";
    let mismatch = || {
        let expected = "q [B, Tq, H, D], k and v [B, Tk, Hkv, D] with H a multiple of Hkv";
        TensorError::shape(op, expected, &[q.shape(), k.shape(), v.shape()])
    };
    let (&[b, tq, h, d], &[bk, tk, hkv, dk]) = (q.shape(), k.shape()) else { return Err(mismatch()) };
    if (b, d) != (bk, dk) || k.shape() != v.shape() || hkv == 0 || h % hkv != 0 {
        return Err(mismatch());
    }
    check_spans(op, spans, b * tq, tk)?;
    let shape = AttentionShape { scale, ..AttentionShape::contiguous(b, tq, tk, h, hkv, d) };
    let mut lse = Buffer::scratch(b * h * tq);
    let out = Tensor::filled(q.shape(), |out| {
        operation(
            "attention",
            String::new,
            || work(&shape, spans, 2),
            || {
                attention_forward(&shape, spans, q.data(), k.data(), v.data(), out, &mut lse);
            },
        );
    });
    let (q1, k1, v1, out1, spans) = (q.detach(), k.detach(), v.detach(), out.clone(), spans.clone());
    Ok(record(out, &[q, k, v], move |dout, grads| {
        let (mut dk, mut dv) = (Buffer::scratch(k1.len()), Buffer::scratch(v1.len()));
        let dq = Tensor::filled(q1.shape(), |dq| {
            let (q, k, v, out) = (q1.data(), k1.data(), v1.data(), out1.data());
            operation(
                "attention, gradient",
                String::new,
                || work(&shape, &spans, 5),
                || {
                    attention_backward(&shape, &spans, q, k, v, out, &lse, dout.data(), dq, &mut dk, &mut dv);
                },
            );
        });
        grads.add(0, dq);
        grads.add(1, Tensor::from_buffer(dk, k1.shape()));
        grads.add(2, Tensor::from_buffer(dv, v1.shape()));
    }))
}

/// [`attention`] over a fused projection `qkv` [B, T, 3C] of `heads` heads: queries, then keys, then
/// values, each C wide. Returns [B, T, C].
///
/// # Errors
/// If the shapes don't agree, or a span ends after the last key.
pub fn attention_qkv(
    qkv: &Tensor,
    heads: usize,
    spans: &Arc<[Span]>,
    scale: f32,
) -> Result<Tensor, TensorError> {
    let op = "attention_qkv";
    let mismatch =
        || TensorError::shape(op, format!("[B, T, 3C] with C a multiple of {heads} heads"), &[qkv.shape()]);
    let &[b, t, wide] = qkv.shape() else { return Err(mismatch()) };
    if heads == 0 || wide == 0 || wide % (3 * heads) != 0 {
        return Err(mismatch());
    }
    let width = wide / 3;
    check_spans(op, spans, b * t, t)?;
    let shape = AttentionShape {
        scale,
        q_stride: wide,
        k_stride: wide,
        v_stride: wide,
        ..AttentionShape::contiguous(b, t, t, heads, heads, width / heads)
    };
    let mut lse = Buffer::scratch(b * heads * t);
    let out = Tensor::filled(&[b, t, width], |out| {
        let x = qkv.data();
        let part = |i: usize| x.get(i * width..).unwrap_or_default();
        operation(
            "attention",
            String::new,
            || work(&shape, spans, 2),
            || {
                attention_forward(&shape, spans, x, part(1), part(2), out, &mut lse);
            },
        );
    });
    let (saved, out1, spans) = (qkv.detach(), out.clone(), spans.clone());
    Ok(record(out, &[qkv], move |dout, grads| {
        let dqkv = Tensor::filled(saved.shape(), |dqkv| {
            operation(
                "attention, gradient",
                String::new,
                || work(&shape, &spans, 5),
                || {
                    attention_backward_fused(
                        &shape,
                        &spans,
                        saved.data(),
                        out1.data(),
                        &lse,
                        dout.data(),
                        dqkv,
                    );
                },
            );
        });
        grads.add(0, dqkv);
    }))
}

/// Rotary positions (Su et al. 2021) in the `rotate_half` convention: dimension i turns with
/// i + D/2. `x` [B, T, H, D], `positions` [B·T].
///
/// # Errors
/// If the shapes don't agree or a position lies outside the table.
pub fn rope(x: &Tensor, positions: &Arc<[u32]>, table: &Arc<RopeTable>) -> Result<Tensor, TensorError> {
    let op = "rope";
    let dim = table.head_dim();
    let &[b, t, heads, d] = x.shape() else {
        return Err(TensorError::shape(op, format!("[B, T, H, {dim}]"), &[x.shape()]));
    };
    if d != dim || positions.len() != b * t {
        let expected = format!("[B, T, H, {dim}] and B·T positions");
        return Err(TensorError::shape(op, expected, &[x.shape(), &[positions.len()]]));
    }
    if let Some(p) = positions.iter().find(|&&p| p as usize >= table.max_positions()) {
        return Err(TensorError::range(op, "position", i64::from(*p), table.max_positions()));
    }
    let mut y = x.detach();
    let values = x.len();
    pass("rope", 2 * values, || {
        rotate(y.data_mut(), positions, heads, table, false);
    });
    let (positions, table) = (positions.clone(), table.clone());
    Ok(record(y, &[x], move |mut dy, grads| {
        pass("rope, gradient", 2 * values, || {
            rotate(dy.data_mut(), &positions, heads, &table, true);
        });
        grads.add(0, dy);
    }))
}
