//! Softmax and its logarithm over rows, forward and backward.
//!
//! A row of nothing but -∞ has no distribution: its softmax is defined as all zeros, as attention
//! gives zeros to a query that may see nothing, and its log-softmax as all -∞. A NaN anywhere in a
//! row makes the whole row NaN, as does +∞.

use crate::arch::{LANES, Simd, simd_fn};
use crate::lanes::{read, read_or, total, vectors, write};
use crate::math;
use crate::split::{Cut, Out, parallel_rows, rows_of};

/// `y = e^x / Σ e^x` over each row of `cols` values.
///
/// # Panics
/// If a length doesn't fit.
pub fn softmax_forward(x: &[f32], cols: usize, y: &mut [f32]) {
    by_rows(x, cols, y, softmax_rows);
}

/// `y = x - ln Σ e^x` over each row of `cols` values.
///
/// # Panics
/// If a length doesn't fit.
pub fn log_softmax_forward(x: &[f32], cols: usize, y: &mut [f32]) {
    by_rows(x, cols, y, log_softmax_rows);
}

/// The gradient of [`softmax_forward`] from its output: `dx = y (dy - Σ y dy)`, overwritten.
///
/// # Panics
/// If a length doesn't fit.
pub fn softmax_backward(y: &[f32], dy: &[f32], cols: usize, dx: &mut [f32]) {
    assert_eq!(y.len(), dy.len());
    let rows = rows_of(y.len(), cols);
    parallel_rows(Cut::new(rows, cols), [Out::Rows(dx, cols)], |r, [dx]| {
        let part = r.start * cols..r.end * cols;
        softmax_backward_rows(&y[part.clone()], &dy[part], cols, dx);
    });
}

/// The gradient of [`log_softmax_forward`] from its output: `dx = dy - e^y Σ dy`, overwritten.
///
/// # Panics
/// If a length doesn't fit.
pub fn log_softmax_backward(y: &[f32], dy: &[f32], cols: usize, dx: &mut [f32]) {
    assert_eq!(y.len(), dy.len());
    let rows = rows_of(y.len(), cols);
    parallel_rows(Cut::new(rows, cols), [Out::Rows(dx, cols)], |r, [dx]| {
        let part = r.start * cols..r.end * cols;
        log_softmax_backward_rows(&y[part.clone()], &dy[part], cols, dx);
    });
}

fn by_rows(x: &[f32], cols: usize, y: &mut [f32], kernel: fn(&[f32], usize, &mut [f32])) {
    let rows = rows_of(x.len(), cols);
    parallel_rows(Cut::new(rows, cols), [Out::Rows(y, cols)], |r, [y]| {
        kernel(&x[r.start * cols..r.end * cols], cols, y);
    });
}

/// The largest value of `x` that isn't NaN; -∞ if there is none.
#[inline(always)]
pub(crate) fn row_largest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut acc = [s.splat(f32::NEG_INFINITY); 4];
    // The accumulator as second operand survives a NaN.
    vectors!(x.len(), |i, n, j| acc[j] = s.max(read_or(s, x, i, n, f32::NEG_INFINITY), acc[j]));
    s.largest(s.max(s.max(acc[0], acc[1]), s.max(acc[2], acc[3])))
}

/// Writes `e^(x - shift)` to `y` and returns the sum.
#[inline(always)]
fn exponentials<S: Simd>(s: S, x: &[f32], shift: f32, y: &mut [f32]) -> f32 {
    let (shift, mut acc) = (s.splat(shift), [s.splat(0.0); 4]);
    vectors!(x.len(), |i, n, j| {
        // e^-∞ is exactly zero, so lanes past the end add nothing.
        let e = math::exp(s, s.sub(read_or(s, x, i, n, f32::NEG_INFINITY), shift));
        acc[j] = s.add(acc[j], e);
        write(s, y, i, n, e);
    });
    total(s, acc)
}

/// `Σ e^(x - shift)`
#[inline(always)]
pub(crate) fn sum_of_exponentials<S: Simd>(s: S, x: &[f32], shift: f32) -> f32 {
    let (shift, mut acc) = (s.splat(shift), [s.splat(0.0); 4]);
    vectors!(x.len(), |i, n, j| {
        let e = math::exp(s, s.sub(read_or(s, x, i, n, f32::NEG_INFINITY), shift));
        acc[j] = s.add(acc[j], e);
    });
    total(s, acc)
}

/// In place, `x = e^(x - shift)`; returns the sum.
#[inline(always)]
pub(crate) fn exponentials_in_place<S: Simd>(s: S, x: &mut [f32], shift: f32) -> f32 {
    let (shift, mut acc) = (s.splat(shift), [s.splat(0.0); 4]);
    vectors!(x.len(), |i, n, j| {
        let e = math::exp(s, s.sub(read_or(s, x, i, n, f32::NEG_INFINITY), shift));
        acc[j] = s.add(acc[j], e);
        write(s, x, i, n, e);
    });
    total(s, acc)
}

/// Whether a row whose largest value is -∞ is nothing but -∞, rather than hiding a NaN.
fn is_empty_row(largest: f32, x: &[f32]) -> bool {
    largest == f32::NEG_INFINITY && !x.iter().any(|v| v.is_nan())
}

simd_fn! {
    fn softmax_rows(s, x: &[f32], cols: usize, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
            let largest = row_largest(s, x);
            if is_empty_row(largest, x) {
                y.fill(0.0);
                continue;
            }
            let scale = s.splat(1.0 / exponentials(s, x, largest, y));
            vectors!(cols, |i, n| write(s, y, i, n, s.mul(read(s, y, i, n), scale)));
        }
    }
}

simd_fn! {
    fn log_softmax_rows(s, x: &[f32], cols: usize, y: &mut [f32]) {
        for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
            let largest = row_largest(s, x);
            if is_empty_row(largest, x) {
                y.fill(f32::NEG_INFINITY);
                continue;
            }
            // The largest is taken off first: added to the logarithm it would swallow its digits.
            let log_sum = s.splat(sum_of_exponentials(s, x, largest).ln());
            let shift = s.splat(largest);
            vectors!(cols, |i, n| write(s, y, i, n, s.sub(s.sub(read(s, x, i, n), shift), log_sum)));
        }
    }
}

simd_fn! {
    fn softmax_backward_rows(s, y: &[f32], dy: &[f32], cols: usize, dx: &mut [f32]) {
        for ((y, dy), dx) in y.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols)) {
            let mut acc = [s.splat(0.0); 4];
            vectors!(cols, |i, n, j| acc[j] = s.fma(read(s, y, i, n), read(s, dy, i, n), acc[j]));
            let dot = s.splat(total(s, acc));
            vectors!(cols, |i, n| {
                write(s, dx, i, n, s.mul(read(s, y, i, n), s.sub(read(s, dy, i, n), dot)));
            });
        }
    }
}

simd_fn! {
    fn log_softmax_backward_rows(s, y: &[f32], dy: &[f32], cols: usize, dx: &mut [f32]) {
        for ((y, dy), dx) in y.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols)) {
            let mut acc = [s.splat(0.0); 4];
            vectors!(cols, |i, n, j| acc[j] = s.add(acc[j], read(s, dy, i, n)));
            let sum = s.splat(total(s, acc));
            vectors!(cols, |i, n| {
                let p = math::exp(s, read(s, y, i, n));
                write(s, dx, i, n, s.sub(read(s, dy, i, n), s.mul(p, sum)));
            });
        }
    }
}

simd_fn! {
    /// Each row's largest value; NaN where the row holds one.
    pub(crate) fn largest_of_rows(s, x: &[f32], cols: usize, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(cols).zip(out) {
            let mut acc = s.splat(f32::NEG_INFINITY);
            vectors!(cols, |i, n| {
                let v = read_or(s, x, i, n, f32::NEG_INFINITY);
                acc = s.select_nan(acc, acc, s.max(acc, v));
            });
            let mut lanes = [0.0; LANES];
            write(s, &mut lanes, 0, LANES, acc);
            let nan = lanes.iter().find(|v| v.is_nan());
            *out = nan.copied().unwrap_or_else(|| s.largest(acc));
        }
    }
}
