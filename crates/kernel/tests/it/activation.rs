//! Activations and SwiGLU.

use crate::compare::{everywhere, near, noise, wide};
use hearth_kernel::activation::*;
use hearth_kernel::{Isa, with_isa};
use proptest::prelude::*;
use std::f64::consts::PI;

const ALL: [Activation; 7] = [
    Activation::GeluErf,
    Activation::GeluTanh,
    Activation::Silu,
    Activation::Relu,
    Activation::Relu2,
    Activation::Tanh,
    Activation::Sigmoid,
];

fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// Φ by Simpson's rule from 0.
fn normal_cdf(x: f64) -> f64 {
    let steps = 2 * (10.0 * x.abs()).ceil().max(10.0) as usize;
    let h = x / steps as f64;
    let weight = |i: usize| if i == 0 || i == steps { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
    0.5 + h / 3.0 * (0..=steps).map(|i| weight(i) * density(i as f64 * h)).sum::<f64>()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn plain(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::GeluErf => x * normal_cdf(x),
        Activation::GeluTanh => 0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        Activation::Silu => x * sigmoid(x),
        Activation::Relu => x.max(0.0),
        Activation::Relu2 => x.max(0.0).powi(2),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
    }
}

/// By differences, but at kinks, and where Φ comes from a sum whose length jumps.
fn slope(kind: Activation, x: f64) -> f64 {
    let step = if x > 0.0 { 1.0 } else { 0.0 };
    let (h, f) = (1e-4, |x| plain(kind, x));
    match kind {
        Activation::GeluErf => normal_cdf(x) + x * density(x),
        Activation::Relu => step,
        Activation::Relu2 => 2.0 * x * step,
        _ => (8.0 * (f(x + h) - f(x - h)) - (f(x + 2.0 * h) - f(x - 2.0 * h))) / (12.0 * h),
    }
}

fn check(kind: Activation, len: usize, scale: f32) {
    let (x, dy) = (noise(len, 1, scale), noise(len, 2, 1.0));
    let want: Vec<f64> = x.iter().map(|&x| plain(kind, x.into())).collect();
    let want_dx: Vec<f64> = x.iter().zip(&dy).map(|(&x, &d)| f64::from(d) * slope(kind, x.into())).collect();
    let run = || {
        let (mut y, mut dx) = (vec![0.0; len], vec![0.0; len]);
        activation_forward(kind, &x, &mut y);
        activation_backward(kind, &x, &dy, &mut dx);
        [y, dx]
    };
    for (isa, [y, dx]) in everywhere(run) {
        near(isa, &format!("{kind:?}"), &y, &want, 1e-6);
        near(isa, &format!("slope of {kind:?}"), &dx, &want_dx, 1e-6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn activations_equal_the_plain_loop(kind in 0..ALL.len(), len in 0usize..500, scale in 0.1f32..12.0) {
        check(ALL[kind], len, scale);
    }

    #[test]
    fn swiglu_equals_the_plain_loop(len in 0usize..40_000, scale in 0.1f32..12.0) {
        let (gate, up, dy) = (noise(len, 1, scale), noise(len, 2, 2.0), noise(len, 3, 1.0));
        let (g, u, d) = (wide(&gate), wide(&up), wide(&dy));
        let map = |f: &dyn Fn(usize) -> f64| (0..len).map(f).collect::<Vec<_>>();
        let want = map(&|i| g[i] * sigmoid(g[i]) * u[i]);
        let want_up = map(&|i| d[i] * g[i] * sigmoid(g[i]));
        let want_gate = map(&|i| d[i] * u[i] * sigmoid(g[i]) * (1.0 + g[i] * (1.0 - sigmoid(g[i]))));
        let run = || {
            let (mut y, mut dgate, mut dup) = (vec![0.0; len], vec![0.0; len], vec![0.0; len]);
            swiglu_forward(&gate, &up, &mut y);
            swiglu_backward(&gate, &up, &dy, &mut dgate, &mut dup);
            [y, dgate, dup]
        };
        for (isa, [y, dgate, dup]) in everywhere(run) {
            near(isa, "y", &y, &want, 1e-6);
            near(isa, "dgate", &dgate, &want_gate, 1e-6);
            near(isa, "dup", &dup, &want_up, 1e-6);
        }
    }
}

#[test]
fn many_tasks_equal_the_plain_loop() {
    for kind in ALL {
        check(kind, 50_001, 6.0);
    }
}

#[test]
fn nan_stays_and_large_values_stay_finite() {
    let x = [f32::NAN, 1e30, -1e30, 300.0, -300.0, 0.0];
    for isa in Isa::available() {
        for kind in ALL.into_iter().filter(|&k| k != Activation::Relu2) {
            let (mut y, mut dx) = ([0.0; 6], [0.0; 6]);
            with_isa(isa, || {
                activation_forward(kind, &x, &mut y);
                activation_backward(kind, &x, &[1.0; 6], &mut dx);
            });
            assert!(y[0].is_nan(), "{isa:?} {kind:?}");
            // The step function's slope has no place to carry it.
            assert!(dx[0].is_nan() || kind == Activation::Relu, "{isa:?} {kind:?}");
            assert!(y[1..].iter().chain(&dx[1..]).all(|v| v.is_finite()), "{isa:?} {kind:?}: {y:?} {dx:?}");
        }
    }
}
