//! AdamW and the vector operations around it.

use crate::compare::{everywhere, near, noise, wide};
use hearth_kernel::optim::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn ten_steps_of_adamw_equal_the_plain_loop(len in 0usize..20_000, decay: bool, beta2_high: bool) {
        let (lr, beta1, eps, clip) = (1e-3, 0.9, 1e-8, 0.7);
        let beta2 = if beta2_high { 0.999 } else { 0.95 };
        let weight_decay = if decay { 0.1 } else { 0.0 };
        let start = noise(len, 1, 1.0);
        let grads: Vec<Vec<f32>> = (0..10).map(|step| noise(len, 10 + step, 0.1)).collect();
        let (mut p, mut m, mut v) = (wide(&start), vec![0.0; len], vec![0.0; len]);
        for (step, grad) in grads.iter().enumerate() {
            let t = step as i32 + 1;
            for i in 0..len {
                let g = clip * f64::from(grad[i]);
                p[i] *= 1.0 - lr * weight_decay;
                m[i] = beta1 * m[i] + (1.0 - beta1) * g;
                v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
                let root = (v[i] / (1.0 - beta2.powi(t))).sqrt() + eps;
                p[i] -= lr * (m[i] / (1.0 - beta1.powi(t))) / root;
            }
        }
        let run = || {
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; len], vec![0.0; len]);
            for (step, grad) in (1..).zip(&grads) {
                let adamw = AdamW {
                    lr: lr as f32,
                    beta1: beta1 as f32,
                    beta2: beta2 as f32,
                    eps: eps as f32,
                    weight_decay: weight_decay as f32,
                    step,
                    grad_scale: clip as f32,
                };
                adamw_step(&mut p, grad, &mut m, &mut v, &adamw);
            }
            [p, m, v]
        };
        for (isa, [got_p, got_m, got_v]) in everywhere(run) {
            near(isa, "p", &got_p, &p, 5e-7);
            near(isa, "m", &got_m, &m, 1e-7);
            near(isa, "v", &got_v, &v, 1e-8);
        }
    }

    #[test]
    fn vector_operations_equal_the_plain_loop(len in 0usize..100_000, f in -3.0f32..3.0) {
        let (x, y) = (noise(len, 1, 1.0), noise(len, 2, 1.0));
        let want_square: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
        let want_scaled: Vec<f64> = x.iter().map(|&x| f64::from(x) * f64::from(f)).collect();
        let want_sum: Vec<f64> = x.iter().zip(&y).map(|(&x, &y)| f64::from(f) * f64::from(x) + f64::from(y)).collect();
        let run = || {
            let (mut scaled, mut sum) = (x.clone(), y.clone());
            scale(&mut scaled, f);
            axpy(f, &x, &mut sum);
            let square = sum_of_squares(&x);
            // Both halves of the number, so that its bits are compared too.
            [scaled, sum, vec![square as f32, (square - f64::from(square as f32)) as f32]]
        };
        for (isa, [scaled, sum, square]) in everywhere(run) {
            near(isa, "scaled", &scaled, &want_scaled, 1e-7);
            near(isa, "sum", &sum, &want_sum, 2e-7);
            near(isa, "square", &square[..1], &[want_square], 2e-6);
        }
    }
}
