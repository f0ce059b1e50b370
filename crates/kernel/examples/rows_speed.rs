//! GB/s of row-wise kernels over ten million values, counting each stream once:
//! `cargo run --release -p hearth-kernel --example rows_speed`.

use hearth_kernel::activation::{Activation, activation_forward, swiglu_backward};
use hearth_kernel::loss::{CrossEntropy, cross_entropy_backward_in_place};
use hearth_kernel::norm::{layer_norm_backward, rms_norm_backward, rms_norm_forward};
use hearth_kernel::optim::{AdamW, adamw_step, sum_of_squares};
use std::time::Instant;

const COLS: usize = 768;
const ROWS: usize = 13_020;
const LEN: usize = ROWS * COLS;

/// `streams`: how many arrays of `values` floats are read or written.
fn measure(name: &str, streams: usize, values: usize, mut run: impl FnMut()) {
    run();
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    let best = (0..7).map(time).fold(f64::MAX, f64::min);
    println!("{name:22} {:6.2} ms {:6.1} GB/s", best * 1e3, (4 * streams * values) as f64 / best / 1e9);
}

fn main() {
    let (x, mut y, mut z) = (vec![0.5f32; LEN], vec![0.25f32; LEN], vec![0f32; LEN]);
    let (mut m, mut v) = (vec![0f32; LEN], vec![0f32; LEN]);
    let gamma = vec![1f32; COLS];
    let (mut mean, mut rstd) = (vec![0f32; ROWS], vec![1f32; ROWS]);
    mean.fill(0.1);
    let [mut dgamma, mut dbeta] = [vec![0f32; COLS], vec![0f32; COLS]];
    let (beta1, beta2, eps) = (0.9, 0.95, 1e-8);
    let adamw = AdamW { lr: 1e-3, beta1, beta2, eps, weight_decay: 0.1, step: 3, grad_scale: 1.0 };
    measure("sum_of_squares", 1, LEN, || assert!(sum_of_squares(&x) > 0.0));
    measure("adamw_step", 7, LEN, || adamw_step(&mut y, &x, &mut m, &mut v, &adamw));
    measure("rms_norm_forward", 2, LEN, || rms_norm_forward(&x, &gamma, 1e-6, &mut y, &mut rstd));
    measure("rms_norm_backward", 3, LEN, || {
        rms_norm_backward(&x, &gamma, &rstd, &y, &mut z, &mut dgamma);
    });
    measure("layer_norm_backward", 3, LEN, || {
        layer_norm_backward(&x, &gamma, &mean, &rstd, &y, &mut z, &mut dgamma, Some(&mut dbeta));
    });
    measure("gelu_erf", 2, LEN, || activation_forward(Activation::GeluErf, &x, &mut y));
    measure("gelu_tanh", 2, LEN, || activation_forward(Activation::GeluTanh, &x, &mut y));
    measure("swiglu_backward", 5, LEN, || swiglu_backward(&x, &y, &m, &mut v, &mut z));
    let (vocab, tokens) = (50_304, 200);
    let (targets, mut losses) = (vec![7; tokens], vec![0f32; tokens]);
    let loss = CrossEntropy::default();
    let mut logits = vec![0.5f32; vocab * tokens];
    measure("cross_entropy_backward", 2, vocab * tokens, || {
        cross_entropy_backward_in_place(&mut logits, vocab, &targets, &loss, 1.0, &mut losses);
    });
}
