//! Optimiser steps over flat parameters, and the few vector operations around them.

use crate::arch::simd_fn;
use crate::lanes::{read, total, vectors, write};
use crate::split::{Cut, Out, parallel_rows};

/// AdamW: what a step needs beside the state (Loshchilov & Hutter 2019; Kingma & Ba 2015).
///
/// With `g = grad_scale · grad` and `t = step`, in the order of PyTorch's `AdamW`:
/// `p ← p (1 - lr · weight_decay)`, `m ← β₁ m + (1 - β₁) g`, `v ← β₂ v + (1 - β₂) g²`,
/// `p ← p - lr · (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + eps)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate.
    pub lr: f32,
    /// β₁, the decay of the mean gradient.
    pub beta1: f32,
    /// β₂, the decay of the mean squared gradient.
    pub beta2: f32,
    /// Added to the root, outside it.
    pub eps: f32,
    /// Decoupled from the gradient, scaled by the learning rate.
    pub weight_decay: f32,
    /// The number of this step; the first is 1.
    pub step: u64,
    /// Multiplies the gradient: the factor of clipping, 1 without.
    pub grad_scale: f32,
}

/// One step of [`AdamW`] in one pass over the parameters `p`, their gradient and the moments `m`
/// and `v`.
///
/// # Panics
/// If the lengths differ, or `step` is 0.
pub fn adamw_step(p: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], adamw: &AdamW) {
    assert!(adamw.step >= 1, "the first step is number 1");
    let outs = [Out::Rows(p, 1), Out::Rows(m, 1), Out::Rows(v, 1)];
    let factors = Factors::new(adamw);
    parallel_rows(Cut::new(grad.len(), 1), outs, |r, [p, m, v]| {
        adamw_chunk(p, &grad[r], m, v, &factors);
    });
}

/// The step's scalars, worked out in `f64`: `1 - β₂` alone would lose half its digits in `f32`.
struct Factors {
    grad_scale: f32,
    keep: f32,
    beta1: f32,
    blend1: f32,
    beta2: f32,
    blend2: f32,
    step_size: f32,
    root_scale: f32,
    eps: f32,
}

impl Factors {
    fn new(a: &AdamW) -> Self {
        // The decimal that was meant: 0.95 rather than 0.949999988.
        let (beta1, beta2) = (shortest(a.beta1), shortest(a.beta2));
        let correction = |beta: f64| 1.0 - beta.powf(a.step as f64);
        Factors {
            grad_scale: a.grad_scale,
            keep: (1.0 - f64::from(a.lr) * f64::from(a.weight_decay)) as f32,
            beta1: a.beta1,
            blend1: (1.0 - beta1) as f32,
            beta2: a.beta2,
            blend2: (1.0 - beta2) as f32,
            step_size: (f64::from(a.lr) / correction(beta1)) as f32,
            root_scale: (1.0 / correction(beta2).sqrt()) as f32,
            eps: a.eps,
        }
    }
}

/// The decimal number of fewest digits that rounds to `x`, as an `f64`.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

simd_fn! {
    fn adamw_chunk(s, p: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], f: &Factors) {
        let (grad_scale, keep, eps) = (s.splat(f.grad_scale), s.splat(f.keep), s.splat(f.eps));
        let (beta1, blend1) = (s.splat(f.beta1), s.splat(f.blend1));
        let (beta2, blend2) = (s.splat(f.beta2), s.splat(f.blend2));
        let (step_size, root_scale) = (s.splat(f.step_size), s.splat(f.root_scale));
        vectors!(grad.len(), |i, n| {
            let g = s.mul(read(s, grad, i, n), grad_scale);
            let mean = s.fma(beta1, read(s, m, i, n), s.mul(blend1, g));
            let square = s.fma(beta2, read(s, v, i, n), s.mul(blend2, s.mul(g, g)));
            let root = s.fma(s.sqrt(square), root_scale, eps);
            let step = s.mul(step_size, s.div(mean, root));
            write(s, m, i, n, mean);
            write(s, v, i, n, square);
            write(s, p, i, n, s.sub(s.mul(read(s, p, i, n), keep), step));
        });
    }
}

/// `Σ x²`: chunks in `f32`, their sum in `f64`. For norms of gradients.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let cut = Cut::new(x.len(), 1);
    let mut sums = vec![0.0; cut.chunks()];
    parallel_rows(cut, [Out::Chunks(&mut sums, 1)], |r, [sum]| sum[0] = squares_of_chunk(&x[r]));
    sums.iter().map(|&sum| f64::from(sum)).sum()
}

simd_fn! {
    fn squares_of_chunk(s, x: &[f32]) -> f32 {
        let mut acc = [s.splat(0.0); 4];
        vectors!(x.len(), |i, n, j| {
            let v = read(s, x, i, n);
            acc[j] = s.fma(v, v, acc[j]);
        });
        total(s, acc)
    }
}

/// `x ← f · x`
pub fn scale(x: &mut [f32], f: f32) {
    parallel_rows(Cut::new(x.len(), 1), [Out::Rows(x, 1)], |_, [x]| scale_chunk(x, f));
}

simd_fn! {
    fn scale_chunk(s, x: &mut [f32], f: f32) {
        let f = s.splat(f);
        vectors!(x.len(), |i, n| write(s, x, i, n, s.mul(read(s, x, i, n), f)));
    }
}

/// `y ← alpha · x + y`
///
/// # Panics
/// If the lengths differ.
pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    parallel_rows(Cut::new(x.len(), 1), [Out::Rows(y, 1)], |r, [y]| axpy_chunk(alpha, &x[r], y));
}

simd_fn! {
    fn axpy_chunk(s, alpha: f32, x: &[f32], y: &mut [f32]) {
        let alpha = s.splat(alpha);
        vectors!(y.len(), |i, n| write(s, y, i, n, s.fma(alpha, read(s, x, i, n), read(s, y, i, n))));
    }
}
