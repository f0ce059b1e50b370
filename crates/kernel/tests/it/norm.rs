//! LayerNorm and RMSNorm.

use crate::compare::{dot, everywhere, gradient, near, noise, wide};
use hearth_kernel::norm::*;
use proptest::prelude::*;

const EPS: f32 = 1e-5;

/// Values, means and reciprocal deviations of a plain LayerNorm.
fn plain_layer_norm(x: &[f64], gamma: &[f64], beta: &[f64]) -> [Vec<f64>; 3] {
    let cols = gamma.len() as f64;
    let [mut y, mut means, mut rstds] = [vec![], vec![], vec![]];
    for row in x.chunks(gamma.len()) {
        let mean = row.iter().sum::<f64>() / cols;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / cols;
        let rstd = 1.0 / (variance + f64::from(EPS)).sqrt();
        y.extend(row.iter().zip(gamma).zip(beta).map(|((x, g), b)| (x - mean) * rstd * g + b));
        means.push(mean);
        rstds.push(rstd);
    }
    [y, means, rstds]
}

fn plain_rms_norm(x: &[f64], gamma: &[f64]) -> [Vec<f64>; 2] {
    let [mut y, mut rstds] = [vec![], vec![]];
    for row in x.chunks(gamma.len()) {
        let square = row.iter().map(|x| x * x).sum::<f64>() / gamma.len() as f64;
        let rstd = 1.0 / (square + f64::from(EPS)).sqrt();
        y.extend(row.iter().zip(gamma).map(|(x, g)| x * rstd * g));
        rstds.push(rstd);
    }
    [y, rstds]
}

fn offset(x: Vec<f32>, by: f32) -> Vec<f32> {
    x.into_iter().map(|x| x + by).collect()
}

fn check_layer_norm_forward(rows: usize, cols: usize, with_beta: bool) {
    let x = offset(noise(rows * cols, 1, 2.0), 3.0);
    let (gamma, beta) = (noise(cols, 2, 1.0), noise(cols, 3, 1.0));
    let plain_beta = if with_beta { wide(&beta) } else { vec![0.0; cols] };
    let [want, want_mean, want_rstd] = plain_layer_norm(&wide(&x), &wide(&gamma), &plain_beta);
    let run = || {
        let [mut y, mut mean, mut rstd] = [vec![0.0; rows * cols], vec![0.0; rows], vec![0.0; rows]];
        layer_norm_forward(&x, &gamma, with_beta.then_some(&beta), EPS, &mut y, &mut mean, &mut rstd);
        [y, mean, rstd]
    };
    for (isa, [y, mean, rstd]) in everywhere(run) {
        // A row of one or two values may have next to no variance: its rstd magnifies rounding.
        let tolerance = 2e-6 * (1.0 + want_rstd.iter().cloned().fold(0.0, f64::max));
        near(isa, "y", &y, &want, tolerance);
        near(isa, "mean", &mean, &want_mean, 1e-6);
        near(isa, "rstd", &rstd, &want_rstd, tolerance);
    }
}

fn check_rms_norm_forward(rows: usize, cols: usize) {
    let (x, gamma) = (noise(rows * cols, 1, 2.0), noise(cols, 2, 1.0));
    let [want, want_rstd] = plain_rms_norm(&wide(&x), &wide(&gamma));
    let run = || {
        let [mut y, mut rstd] = [vec![0.0; rows * cols], vec![0.0; rows]];
        rms_norm_forward(&x, &gamma, EPS, &mut y, &mut rstd);
        [y, rstd]
    };
    for (isa, [y, rstd]) in everywhere(run) {
        near(isa, "y", &y, &want, 1e-6);
        near(isa, "rstd", &rstd, &want_rstd, 1e-6);
    }
}

/// `start + gradient`, for what the kernels add to.
fn added(start: &[f32], gradient: Vec<f64>) -> Vec<f64> {
    start.iter().zip(gradient).map(|(&s, g)| f64::from(s) + g).collect()
}

fn check_layer_norm_backward(rows: usize, cols: usize, with_beta: bool) {
    let (x, dy) = (noise(rows * cols, 1, 2.0), noise(rows * cols, 4, 1.0));
    let (gamma, beta, start) = (noise(cols, 2, 1.0), noise(cols, 3, 1.0), noise(cols, 5, 1.0));
    let (wx, wg, wb, wd) = (wide(&x), wide(&gamma), wide(&beta), wide(&dy));
    let [_, mean, rstd] = plain_layer_norm(&wx, &wg, &wb);
    let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
    let (mean, rstd) = (narrow(&mean), narrow(&rstd));
    let loss = |x: &[f64], g: &[f64], b: &[f64]| dot(&plain_layer_norm(x, g, b)[0], &wd);
    let want_dx = gradient(|x| loss(x, &wg, &wb), &wx);
    let want_dgamma = added(&start, gradient(|g| loss(&wx, g, &wb), &wg));
    let want_dbeta = added(&start, gradient(|b| loss(&wx, &wg, b), &wb));
    let run = || {
        let [mut dx, mut dgamma, mut dbeta] = [vec![9.0; rows * cols], start.clone(), start.clone()];
        let dbeta_out = with_beta.then_some(&mut dbeta[..]);
        layer_norm_backward(&x, &gamma, &mean, &rstd, &dy, &mut dx, &mut dgamma, dbeta_out);
        [dx, dgamma, dbeta]
    };
    for (isa, [dx, dgamma, dbeta]) in everywhere(run) {
        near(isa, "dx", &dx, &want_dx, 2e-5);
        near(isa, "dgamma", &dgamma, &want_dgamma, 2e-5);
        near(isa, "dbeta", &dbeta, &if with_beta { want_dbeta.clone() } else { wide(&start) }, 2e-5);
    }
}

fn check_rms_norm_backward(rows: usize, cols: usize) {
    let (x, dy) = (noise(rows * cols, 1, 2.0), noise(rows * cols, 4, 1.0));
    let (gamma, start) = (noise(cols, 2, 1.0), noise(cols, 5, 1.0));
    let (wx, wg, wd) = (wide(&x), wide(&gamma), wide(&dy));
    let rstd: Vec<f32> = plain_rms_norm(&wx, &wg)[1].iter().map(|&v| v as f32).collect();
    let loss = |x: &[f64], g: &[f64]| dot(&plain_rms_norm(x, g)[0], &wd);
    let want_dx = gradient(|x| loss(x, &wg), &wx);
    let want_dgamma = added(&start, gradient(|g| loss(&wx, g), &wg));
    let run = || {
        let [mut dx, mut dgamma] = [vec![9.0; rows * cols], start.clone()];
        rms_norm_backward(&x, &gamma, &rstd, &dy, &mut dx, &mut dgamma);
        [dx, dgamma]
    };
    for (isa, [dx, dgamma]) in everywhere(run) {
        near(isa, "dx", &dx, &want_dx, 2e-5);
        near(isa, "dgamma", &dgamma, &want_dgamma, 2e-5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn layer_norm_equals_the_plain_loop(rows in 0usize..40, cols in 3usize..600, beta: bool) {
        check_layer_norm_forward(rows, cols, beta);
    }

    #[test]
    fn rms_norm_equals_the_plain_loop(rows in 0usize..40, cols in 1usize..600) {
        check_rms_norm_forward(rows, cols);
    }

    // Few columns have rows of nearly equal values, where differences say little.
    #[test]
    fn layer_norm_gradients_equal_differences(rows in 0usize..8, cols in 7usize..60, beta: bool) {
        check_layer_norm_backward(rows, cols, beta);
    }

    #[test]
    fn rms_norm_gradients_equal_differences(rows in 0usize..8, cols in 4usize..60) {
        check_rms_norm_backward(rows, cols);
    }
}

#[test]
fn partial_sums_of_many_chunks_add_up() {
    // Five chunks and a bit; the gradients of gamma and beta are plain sums.
    let (rows, cols) = (167, 2051);
    let (x, dy, gamma) = (noise(rows * cols, 1, 1.0), noise(rows * cols, 2, 1.0), noise(cols, 3, 1.0));
    let (mean, rstd) = (noise(rows, 4, 0.1), offset(noise(rows, 5, 0.5), 1.7));
    let at = |r: usize, c: usize| (f64::from(x[r * cols + c]), f64::from(dy[r * cols + c]));
    let sum = |f: &dyn Fn(usize, usize) -> f64| {
        (0..cols).map(|c| (0..rows).map(|r| f(r, c)).sum()).collect::<Vec<f64>>()
    };
    let layer = |r: usize, c: usize| at(r, c).1 * (at(r, c).0 - f64::from(mean[r])) * f64::from(rstd[r]);
    let rms = |r: usize, c: usize| at(r, c).1 * at(r, c).0 * f64::from(rstd[r]);
    let want = [sum(&layer), sum(&|r, c| at(r, c).1), sum(&rms)];
    let run = || {
        let mut dx = vec![0.0; x.len()];
        let [mut dgamma, mut dbeta, mut dgamma_rms] = [vec![0.0; cols], vec![0.0; cols], vec![0.0; cols]];
        layer_norm_backward(&x, &gamma, &mean, &rstd, &dy, &mut dx, &mut dgamma, Some(&mut dbeta));
        rms_norm_backward(&x, &gamma, &rstd, &dy, &mut dx, &mut dgamma_rms);
        [dgamma, dbeta, dgamma_rms]
    };
    for (isa, got) in everywhere(run) {
        for (got, want) in got.iter().zip(&want) {
            near(isa, "sum", got, want, 1e-5);
        }
    }
}
