//! Cross-entropy.

use crate::compare::{everywhere, gradient, near, noise, wide};
use hearth_kernel::loss::*;
use proptest::prelude::*;

fn plain(x: &[f64], cols: usize, targets: &[i32], loss: &CrossEntropy) -> Vec<f64> {
    let (s, z) = (f64::from(loss.label_smoothing), f64::from(loss.z_loss));
    let row = |(row, &target): (&[f64], &i32)| {
        if target == IGNORED {
            return 0.0;
        }
        let largest = row.iter().cloned().fold(f64::MIN, f64::max);
        let lse = largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
        let mean = row.iter().map(|x| lse - x).sum::<f64>() / cols as f64;
        (1.0 - s) * (lse - row[target as usize]) + s * mean + z * lse * lse
    };
    x.chunks(cols).zip(targets).map(row).collect()
}

fn targets_for(rows: usize, cols: usize) -> Vec<i32> {
    let target = |i: usize| if i % 5 == 3 { IGNORED } else { ((i * 7919) % cols) as i32 };
    (0..rows).map(target).collect()
}

fn check(rows: usize, cols: usize, loss: CrossEntropy, scale: f32, want_gradient: Option<&[f64]>) {
    let (x, targets) = (noise(rows * cols, 1, 4.0), targets_for(rows, cols));
    let want = plain(&wide(&x), cols, &targets, &loss);
    let run = || {
        let (mut losses, mut again, mut grad) = (vec![9.0; rows], vec![9.0; rows], x.clone());
        cross_entropy_forward(&x, cols, &targets, &loss, &mut losses);
        cross_entropy_backward_in_place(&mut grad, cols, &targets, &loss, scale, &mut again);
        [losses, again, grad]
    };
    for (isa, [losses, again, grad]) in everywhere(run) {
        near(isa, "losses", &losses, &want, 2e-6);
        assert_eq!(losses, again, "{isa:?}: both functions give the same losses");
        if let Some(want) = want_gradient {
            near(isa, "gradient", &grad, want, 3e-6);
        }
        for (row, &target) in grad.chunks(cols).zip(&targets) {
            assert!(target != IGNORED || row.iter().all(|g| *g == 0.0));
            // Without z-loss a row's gradient sums to zero.
            let sum: f64 = row.iter().map(|&g| f64::from(g)).sum();
            assert!(loss.z_loss != 0.0 || sum.abs() < 1e-5, "{isa:?}: a row's gradient sums to {sum}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn equals_differences(rows in 0usize..8, cols in 1usize..60, smoothing: bool, z: bool, scale in 0.1f32..3.0) {
        let loss = CrossEntropy {
            label_smoothing: if smoothing { 0.1 } else { 0.0 },
            z_loss: if z { 1e-2 } else { 0.0 },
        };
        let (x, targets) = (wide(&noise(rows * cols, 1, 4.0)), targets_for(rows, cols));
        let total = |x: &[f64]| f64::from(scale) * plain(x, cols, &targets, &loss).iter().sum::<f64>();
        check(rows, cols, loss, scale, Some(&gradient(total, &x)));
    }

    #[test]
    fn losses_equal_the_plain_loop(rows in 0usize..12, cols in 1usize..6000, smoothing: bool) {
        let loss = CrossEntropy { label_smoothing: if smoothing { 0.2 } else { 0.0 }, z_loss: 0.0 };
        check(rows, cols, loss, 1.0, None);
    }
}

#[test]
fn a_large_vocabulary_and_large_logits_keep_their_digits() {
    check(3, 50_304, CrossEntropy { label_smoothing: 0.1, z_loss: 1e-4 }, 0.25, None);
    let logits = [1000.0, 1001.0, 999.0];
    let mut losses = [0.0];
    cross_entropy_forward(&logits, 3, &[1], &CrossEntropy::default(), &mut losses);
    let want = (1.0 + (-1f64).exp() + (-2f64).exp()).ln();
    assert!((f64::from(losses[0]) - want).abs() < 1e-6, "{} != {want}", losses[0]);
}
