//! Muon: momentum, orthogonalised by a Newton–Schulz iteration (Jordan et al. 2024), for the
//! matrices of the hidden layers. NorMuon (Li et al. 2025) then evens out the rows.

use crate::arch::simd_fn;
use crate::buffer::Buffer;
use crate::gemm::{Mat, MatMut, Write, gemm, gemm_symmetric};
use crate::lanes::{read, total, vectors, write};
use crate::optim::{scale, sum_of_squares};
use crate::pool::{Shards, parallel_for};
use crate::profile::Work;
use crate::split::{Cut, Out, parallel_rows};

/// The quintic's coefficients: steepest at zero among those that settle near one, so that few steps
/// bring every singular value into about 0.7..1.2.
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Keeps a zero gradient finite.
const NORM_EPS: f64 = 1e-7;
/// Keeps a row finite that has had no gradient yet.
const ROW_EPS: f64 = 1e-8;

/// What a step needs beside the momentum.
///
/// With `g = grad_scale · grad`: `M ← momentum M + (1 - momentum) g`,
/// `U = newton_schulz(nesterov ? (1 - momentum) g + momentum M : M)`,
/// `p ← p (1 - lr · weight_decay) - lr √max(1, rows / cols) U`.
///
/// NorMuon (Li et al. 2025, algorithm 1) divides each row of U by the root of a running mean of its
/// squares, `v ← β₂ v + (1 - β₂) mean(u²)`, `u ← u / (√v + 1e-8)`, and then scales U to the Frobenius norm
/// that it had. The paper scales it to a root mean square of 0.2 instead; keeping the norm leaves Muon's
/// rate as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// The learning rate.
    pub lr: f32,
    /// The decay of the mean gradient.
    pub momentum: f32,
    /// Decoupled from the gradient, scaled by the learning rate.
    pub weight_decay: f32,
    /// β₂ of NorMuon, for matrices with `row_squares`.
    pub beta2: f32,
    /// Looks a step of momentum ahead.
    pub nesterov: bool,
    /// Newton–Schulz iterations; 5 is usual.
    pub ns_steps: usize,
    /// Multiplies the gradient: the factor of clipping, 1 without.
    pub grad_scale: f32,
}

impl Muon {
    /// What a step on a matrix `[rows, cols]` has to do: the products of the iteration, and a pass over
    /// the parameters, their gradient and the momentum.
    pub fn work(&self, rows: usize, cols: usize) -> Work {
        let (short, long) = (rows.min(cols), rows.max(cols));
        let product = |k| Work::product(short, k, short).flops;
        Work {
            flops: self.ns_steps as f64 * (2.0 * product(long) + product(short)),
            ..Work::values(5 * rows * cols)
        }
    }
}

/// A matrix that [`muon_steps`] updates.
#[derive(Debug)]
pub struct MuonMatrix<'a> {
    /// The parameter `[rows, cols]`, `rows` being the outputs of a linear layer.
    pub p: &'a mut [f32],
    /// Its gradient.
    pub grad: &'a [f32],
    /// Its momentum.
    pub momentum: &'a mut [f32],
    /// NorMuon's v, one a row; without it the step is Muon's.
    pub row_squares: Option<&'a mut [f32]>,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

/// Matrices of more values are updated one after another, each by all threads.
const LARGE: usize = 1 << 19;

/// [`muon_step`] on many matrices: small ones side by side, a thread each, as products of small matrices
/// leave little to share.
pub fn muon_steps(matrices: &mut [MuonMatrix], muon: &Muon) {
    // The largest first, so that no thread is left with a long one at the end.
    matrices.sort_by_key(|m| std::cmp::Reverse(m.rows * m.cols));
    let large = matrices.partition_point(|m| m.rows * m.cols > LARGE);
    let one = |m: &mut MuonMatrix| muon_step(m, muon);
    let (large, small) = matrices.split_at_mut(large);
    large.iter_mut().for_each(one);
    let count = small.len();
    let small = Shards::new(small);
    // SAFETY: each matrix is one task's.
    parallel_for(count, |i| one(&mut unsafe { small.part(i, 1) }[0]));
}

/// One step of [`Muon`] on a matrix.
///
/// # Panics
/// If a length doesn't fit.
pub fn muon_step(matrix: &mut MuonMatrix, muon: &Muon) {
    let MuonMatrix { p, grad, momentum, row_squares, rows, cols } = matrix;
    let (rows, cols) = (*rows, *cols);
    let len = rows * cols;
    assert_eq!((p.len(), grad.len(), momentum.len()), (len, len, len), "{rows}x{cols} matrices");
    if len == 0 {
        return;
    }
    let mut update = Buffer::scratch(len);
    let outs = [Out::Rows(momentum, 1), Out::Rows(&mut update, 1)];
    parallel_rows(Cut::new(len, 1), outs, |r, [momentum, update]| {
        momentum_chunk(&grad[r], momentum, update, muon);
    });
    newton_schulz(&mut update, rows, cols, muon.ns_steps);
    let aspect = (rows as f32 / cols as f32).max(1.0).sqrt();
    let keep = (1.0 - f64::from(muon.lr) * f64::from(muon.weight_decay)) as f32;
    let alpha = -muon.lr * aspect;
    let Some(row_squares) = row_squares else { return blend(p, keep, alpha, &update) };
    let mut alphas = row_factors(&update, row_squares, cols, muon.beta2);
    alphas.iter_mut().for_each(|factor| *factor *= alpha);
    parallel_rows(Cut::new(rows, cols), [Out::Rows(p, cols)], |r, [p]| {
        blend_rows(p, keep, &alphas[r.clone()], &update[r.start * cols..r.end * cols], cols);
    });
}

simd_fn! {
    fn momentum_chunk(s, grad: &[f32], momentum: &mut [f32], update: &mut [f32], muon: &Muon) {
        let (grad_scale, mu) = (s.splat(muon.grad_scale), s.splat(muon.momentum));
        let fresh = s.splat(1.0 - muon.momentum);
        vectors!(grad.len(), |i, n| {
            let g = s.mul(fresh, s.mul(read(s, grad, i, n), grad_scale));
            let mean = s.fma(mu, read(s, momentum, i, n), g);
            write(s, momentum, i, n, mean);
            write(s, update, i, n, if muon.nesterov { s.fma(mu, mean, g) } else { mean });
        });
    }
}

/// Takes the squares of an update's rows into their running means, and returns what NorMuon multiplies each
/// row with: all zero if the update is.
fn row_factors(update: &[f32], row_squares: &mut [f32], cols: usize, beta2: f32) -> Buffer<f32> {
    let rows = update.len() / cols;
    assert_eq!(row_squares.len(), rows, "one mean square a row");
    let mut factors = Buffer::scratch(rows);
    parallel_rows(Cut::new(rows, cols), [Out::Rows(&mut factors, 1)], |r, [sums]| {
        squares_of_rows(&update[r.start * cols..r.end * cols], cols, sums);
    });
    let (mut before, mut after) = (0.0, 0.0);
    for (factor, mean) in factors.iter_mut().zip(row_squares) {
        let sum = f64::from(*factor);
        *mean = beta2 * *mean + (1.0 - beta2) * (sum / cols as f64) as f32;
        let divided = 1.0 / (f64::from(*mean).sqrt() + ROW_EPS);
        before += sum;
        after += divided * divided * sum;
        *factor = divided as f32;
    }
    let restore = if before > 0.0 { (before / after).sqrt() } else { 0.0 };
    factors.iter_mut().for_each(|factor| *factor *= restore as f32);
    factors
}

simd_fn! {
    fn squares_of_rows(s, x: &[f32], cols: usize, sums: &mut [f32]) {
        for (x, sum) in x.chunks_exact(cols).zip(sums) {
            let mut acc = [s.splat(0.0); 4];
            vectors!(cols, |i, n, j| {
                let v = read(s, x, i, n);
                acc[j] = s.fma(v, v, acc[j]);
            });
            *sum = total(s, acc);
        }
    }
}

simd_fn! {
    /// `y ← keep · y + alpha · x`, with an alpha for each row.
    fn blend_rows(s, y: &mut [f32], keep: f32, alphas: &[f32], x: &[f32], cols: usize) {
        let keep = s.splat(keep);
        for ((y, x), &alpha) in y.chunks_exact_mut(cols).zip(x.chunks_exact(cols)).zip(alphas) {
            let alpha = s.splat(alpha);
            vectors!(cols, |i, n| {
                let added = s.mul(alpha, read(s, x, i, n));
                write(s, y, i, n, s.fma(keep, read(s, y, i, n), added));
            });
        }
    }
}

/// Replaces `x` `[rows, cols]` by its nearest semi-orthogonal matrix, roughly: `x / ‖x‖`, and then
/// `steps` times `X ← a X + (b A + c A²) X` with `A = X Xᵀ`.
///
/// A is square in the rows; where those are the longer side, the same sum is taken as
/// `X ← a X + X (b A + c A²)` with `A = Xᵀ X`, which is the iteration on the transpose.
fn newton_schulz(x: &mut Buffer<f32>, rows: usize, cols: usize, steps: usize) {
    let norm = sum_of_squares(x).sqrt() + NORM_EPS;
    scale(x, (1.0 / norm) as f32);
    let (side, tall) = (rows.min(cols), rows > cols);
    let [a, b, c] = QUINTIC;
    let mut gram = Buffer::scratch(side * side);
    let mut poly = Buffer::scratch(side * side);
    let mut next = Buffer::scratch(rows * cols);
    for _ in 0..steps {
        let m = Mat::new(x, rows, cols);
        let (left, right) = if tall { (m.t(), m) } else { (m, m.t()) };
        gemm_symmetric(left, right, &mut gram);
        let square = Mat::new(&gram, side, side);
        gemm_symmetric(square, square, &mut poly);
        blend(&mut poly, c, b, &gram);
        blend(&mut next, 0.0, a, x);
        let (m, poly) = (Mat::new(x, rows, cols), Mat::new(&poly, side, side));
        let (left, right) = if tall { (m, poly) } else { (poly, m) };
        gemm(left, right, MatMut::new(&mut next, rows, cols), Write::Accumulate);
        std::mem::swap(x, &mut next);
    }
}

/// `y ← keep · y + alpha · x`; with `keep` zero, whatever `y` held.
fn blend(y: &mut [f32], keep: f32, alpha: f32, x: &[f32]) {
    parallel_rows(Cut::new(x.len(), 1), [Out::Rows(y, 1)], |r, [y]| blend_chunk(y, keep, alpha, &x[r]));
}

simd_fn! {
    fn blend_chunk(s, y: &mut [f32], keep: f32, alpha: f32, x: &[f32]) {
        let (factor, alpha) = (s.splat(keep), s.splat(alpha));
        vectors!(y.len(), |i, n| {
            let added = s.mul(alpha, read(s, x, i, n));
            let kept = if keep == 0.0 { added } else { s.fma(factor, read(s, y, i, n), added) };
            write(s, y, i, n, kept);
        });
    }
}
