//! LayerNorm and RMSNorm over rows, forward and backward.
//!
//! Inputs are rows of `cols = gamma.len()` values; `rows = x.len() / cols`. With `cols = head_dim`
//! RMSNorm is QK-norm. Statistics are kept one a row for the backward pass.

use crate::arch::{Simd, simd_fn};
use crate::buffer::Buffer;
use crate::lanes::{add_to, read, total, vectors, write};
use crate::split::{Cut, Out, parallel_rows, rows_of};

/// `y = (x - mean) · rstd · gamma + beta` a row, with `rstd = 1 / √(variance + eps)` and the biased
/// variance (Ba et al. 2016). Also writes each row's `mean` and `rstd`.
///
/// # Panics
/// If a length doesn't fit.
pub fn layer_norm_forward(
    x: &[f32],
    gamma: &[f32],
    beta: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let cols = gamma.len();
    let rows = rows_of(x.len(), cols);
    assert!(beta.is_none_or(|b| b.len() == cols), "beta must have {cols} values");
    let outs = [Out::Rows(y, cols), Out::Rows(mean, 1), Out::Rows(rstd, 1)];
    parallel_rows(Cut::new(rows, cols), outs, |r, [y, mean, rstd]| {
        layer_norm_rows(&x[r.start * cols..r.end * cols], gamma, beta, eps, y, mean, rstd);
    });
}

simd_fn! {
    fn layer_norm_rows(
        s,
        x: &[f32],
        gamma: &[f32],
        beta: Option<&[f32]>,
        eps: f32,
        y: &mut [f32],
        mean: &mut [f32],
        rstd: &mut [f32],
    ) {
        let cols = gamma.len();
        let stats = mean.iter_mut().zip(rstd);
        for ((x, y), (mean, rstd)) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)).zip(stats) {
            let mut acc = [s.splat(0.0); 4];
            vectors!(cols, |i, n, j| acc[j] = s.add(acc[j], read(s, x, i, n)));
            *mean = total(s, acc) / cols as f32;
            // About the mean: x² - mean² would cancel.
            *rstd = 1.0 / (sum_of_squares_about(s, x, *mean) / cols as f32 + eps).sqrt();
            let (scale, shift) = (s.splat(*rstd), s.splat(*mean));
            vectors!(cols, |i, n| {
                let normed = s.mul(s.sub(read(s, x, i, n), shift), scale);
                let g = read(s, gamma, i, n);
                let out = match beta {
                    Some(beta) => s.fma(normed, g, read(s, beta, i, n)),
                    None => s.mul(normed, g),
                };
                write(s, y, i, n, out);
            });
        }
    }
}

/// The sum of `(x - mean)²`.
#[inline(always)]
fn sum_of_squares_about<S: Simd>(s: S, x: &[f32], mean: f32) -> f32 {
    let shift = s.splat(mean);
    let mut acc = [s.splat(0.0); 4];
    let whole = x.len() / crate::arch::LANES * crate::arch::LANES;
    vectors!(whole, |i, n, j| {
        let d = s.sub(read(s, x, i, n), shift);
        acc[j] = s.fma(d, d, acc[j]);
    });
    // The tail apart: its empty lanes would each count as `mean²`.
    let tail: f32 = x[whole..].iter().map(|x| (x - mean) * (x - mean)).sum();
    total(s, acc) + tail
}

/// The gradients of [`layer_norm_forward`]. With `x̂ = (x - mean) rstd` and `g = dy · gamma`:
/// `dx = rstd (g - mean(g) - x̂ mean(g x̂))`, overwritten; `dgamma += Σ dy x̂` and `dbeta += Σ dy`
/// over rows.
///
/// # Panics
/// If a length doesn't fit.
#[allow(clippy::too_many_arguments, reason = "what the forward pass kept, and a gradient for each input")]
pub fn layer_norm_backward(
    x: &[f32],
    gamma: &[f32],
    mean: &[f32],
    rstd: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: Option<&mut [f32]>,
) {
    let cols = gamma.len();
    let rows = rows_of(x.len(), cols);
    assert_eq!((mean.len(), rstd.len(), dy.len()), (rows, rows, x.len()));
    assert_eq!(dgamma.len(), cols);
    let cut = Cut::for_partial_sums(rows, cols);
    // One row of partial sums a chunk for gamma, and one for beta where it's wanted.
    let beta_cols = if dbeta.is_some() { cols } else { 0 };
    let mut for_gamma = Buffer::scratch(cut.chunks() * cols);
    let mut for_beta = Buffer::scratch(cut.chunks() * beta_cols);
    let outs =
        [Out::Rows(dx, cols), Out::Chunks(&mut for_gamma, cols), Out::Chunks(&mut for_beta, beta_cols)];
    parallel_rows(cut, outs, |r, [dx, dgamma, dbeta]| {
        let part = r.start * cols..r.end * cols;
        let (mean, rstd) = (&mean[r.clone()], &rstd[r]);
        layer_norm_backward_rows(&x[part.clone()], gamma, mean, rstd, &dy[part], dx, dgamma, dbeta);
    });
    for_gamma.chunks_exact(cols).for_each(|part| add_to(dgamma, part));
    if let Some(dbeta) = dbeta {
        assert_eq!(dbeta.len(), cols);
        for_beta.chunks_exact(cols).for_each(|part| add_to(dbeta, part));
    }
}

simd_fn! {
    fn layer_norm_backward_rows(
        s,
        x: &[f32],
        gamma: &[f32],
        mean: &[f32],
        rstd: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) {
        let cols = gamma.len();
        dgamma.fill(0.0);
        dbeta.fill(0.0);
        let rows = x.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols));
        for (((x, dy), dx), (&mean, &rstd)) in rows.zip(mean.iter().zip(rstd)) {
            let (shift, scale) = (s.splat(mean), s.splat(rstd));
            let (mut sum_g, mut sum_gx) = ([s.splat(0.0); 4], [s.splat(0.0); 4]);
            vectors!(cols, |i, n, j| {
                let d = read(s, dy, i, n);
                let normed = s.mul(s.sub(read(s, x, i, n), shift), scale);
                // Past the end both gamma and dy are zero, so `normed` there counts for nothing.
                let g = s.mul(d, read(s, gamma, i, n));
                sum_g[j] = s.add(sum_g[j], g);
                sum_gx[j] = s.fma(g, normed, sum_gx[j]);
                write(s, dgamma, i, n, s.fma(d, normed, read(s, dgamma, i, n)));
            });
            if !dbeta.is_empty() {
                vectors!(cols, |i, n| write(s, dbeta, i, n, s.add(read(s, dbeta, i, n), read(s, dy, i, n))));
            }
            let mean_g = s.splat(total(s, sum_g) / cols as f32);
            let mean_gx = s.splat(total(s, sum_gx) / cols as f32);
            vectors!(cols, |i, n| {
                let normed = s.mul(s.sub(read(s, x, i, n), shift), scale);
                let g = s.mul(read(s, dy, i, n), read(s, gamma, i, n));
                let centred = s.sub(s.sub(g, mean_g), s.mul(normed, mean_gx));
                write(s, dx, i, n, s.mul(centred, scale));
            });
        }
    }
}

/// `y = x · rstd · gamma` a row, with `rstd = 1 / √(mean(x²) + eps)` (Zhang & Sennrich 2019). Also
/// writes each row's `rstd`.
///
/// # Panics
/// If a length doesn't fit.
pub fn rms_norm_forward(x: &[f32], gamma: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
    let cols = gamma.len();
    let rows = rows_of(x.len(), cols);
    parallel_rows(Cut::new(rows, cols), [Out::Rows(y, cols), Out::Rows(rstd, 1)], |r, [y, rstd]| {
        rms_norm_rows(&x[r.start * cols..r.end * cols], gamma, eps, y, rstd);
    });
}

simd_fn! {
    fn rms_norm_rows(s, x: &[f32], gamma: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
        let cols = gamma.len();
        for ((x, y), rstd) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)).zip(rstd) {
            let mut acc = [s.splat(0.0); 4];
            vectors!(cols, |i, n, j| {
                let v = read(s, x, i, n);
                acc[j] = s.fma(v, v, acc[j]);
            });
            *rstd = 1.0 / (total(s, acc) / cols as f32 + eps).sqrt();
            let scale = s.splat(*rstd);
            vectors!(cols, |i, n| {
                write(s, y, i, n, s.mul(s.mul(read(s, x, i, n), scale), read(s, gamma, i, n)));
            });
        }
    }
}

/// The gradients of [`rms_norm_forward`]. With `x̂ = x rstd` and `g = dy · gamma`:
/// `dx = rstd (g - x̂ mean(g x̂))`, overwritten; `dgamma += Σ dy x̂` over rows.
///
/// # Panics
/// If a length doesn't fit.
pub fn rms_norm_backward(
    x: &[f32],
    gamma: &[f32],
    rstd: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
) {
    let cols = gamma.len();
    let rows = rows_of(x.len(), cols);
    assert_eq!((rstd.len(), dy.len(), dgamma.len()), (rows, x.len(), cols));
    let cut = Cut::for_partial_sums(rows, cols);
    let mut partial = Buffer::scratch(cut.chunks() * cols);
    parallel_rows(cut, [Out::Rows(dx, cols), Out::Chunks(&mut partial, cols)], |r, [dx, dgamma]| {
        let part = r.start * cols..r.end * cols;
        rms_norm_backward_rows(&x[part.clone()], gamma, &rstd[r], &dy[part], dx, dgamma);
    });
    partial.chunks_exact(cols).for_each(|part| add_to(dgamma, part));
}

simd_fn! {
    fn rms_norm_backward_rows(
        s,
        x: &[f32],
        gamma: &[f32],
        rstd: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        dgamma: &mut [f32],
    ) {
        let cols = gamma.len();
        dgamma.fill(0.0);
        let rows = x.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols));
        for (((x, dy), dx), &rstd) in rows.zip(rstd) {
            let scale = s.splat(rstd);
            let mut sum_gx = [s.splat(0.0); 4];
            vectors!(cols, |i, n, j| {
                let d = read(s, dy, i, n);
                let normed = s.mul(read(s, x, i, n), scale);
                sum_gx[j] = s.fma(s.mul(d, read(s, gamma, i, n)), normed, sum_gx[j]);
                write(s, dgamma, i, n, s.fma(d, normed, read(s, dgamma, i, n)));
            });
            let mean_gx = s.splat(total(s, sum_gx) / cols as f32);
            vectors!(cols, |i, n| {
                let normed = s.mul(read(s, x, i, n), scale);
                let g = s.mul(read(s, dy, i, n), read(s, gamma, i, n));
                write(s, dx, i, n, s.mul(s.sub(g, s.mul(normed, mean_gx)), scale));
            });
        }
    }
}
