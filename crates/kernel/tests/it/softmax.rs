//! Softmax and log-softmax.

use crate::compare::{dot, everywhere, gradient, near, noise, wide};
use hearth_kernel::softmax::*;
use hearth_kernel::{Isa, with_isa};
use proptest::prelude::*;

fn plain_log_softmax(x: &[f64], cols: usize) -> Vec<f64> {
    let row = |row: &[f64]| {
        let largest = row.iter().cloned().fold(f64::MIN, f64::max);
        let lse = largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
        row.iter().map(|x| x - lse).collect::<Vec<_>>()
    };
    x.chunks(cols).flat_map(row).collect()
}

fn plain_softmax(x: &[f64], cols: usize) -> Vec<f64> {
    plain_log_softmax(x, cols).into_iter().map(f64::exp).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn forward_equals_the_plain_loop(rows in 0usize..40, cols in 1usize..700, scale in 0.1f32..30.0) {
        let x = noise(rows * cols, 1, scale);
        let want = plain_softmax(&wide(&x), cols);
        let want_log = plain_log_softmax(&wide(&x), cols);
        let run = || {
            let (mut y, mut log) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            softmax_forward(&x, cols, &mut y);
            log_softmax_forward(&x, cols, &mut log);
            [y, log]
        };
        for (isa, [y, log]) in everywhere(run) {
            near(isa, "softmax", &y, &want, 1e-6);
            near(isa, "log_softmax", &log, &want_log, 1e-6);
        }
    }

    #[test]
    fn gradients_equal_differences(rows in 0usize..6, cols in 1usize..50) {
        let (x, dy) = (noise(rows * cols, 1, 3.0), noise(rows * cols, 2, 1.0));
        let (wx, wd) = (wide(&x), wide(&dy));
        let want = gradient(|x| dot(&plain_softmax(x, cols), &wd), &wx);
        let want_log = gradient(|x| dot(&plain_log_softmax(x, cols), &wd), &wx);
        let narrow = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect::<Vec<_>>();
        let (y, log) = (narrow(plain_softmax(&wx, cols)), narrow(plain_log_softmax(&wx, cols)));
        let run = || {
            let (mut dx, mut dx_log) = (vec![9.0; x.len()], vec![9.0; x.len()]);
            softmax_backward(&y, &dy, cols, &mut dx);
            log_softmax_backward(&log, &dy, cols, &mut dx_log);
            [dx, dx_log]
        };
        for (isa, [dx, dx_log]) in everywhere(run) {
            near(isa, "softmax", &dx, &want, 2e-6);
            near(isa, "log_softmax", &dx_log, &want_log, 5e-6);
        }
    }
}

#[test]
fn masked_rows_and_nan_do_as_documented() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for isa in Isa::available() {
        for cols in [1, 3, 8, 37, 64] {
            let mut x = noise(5 * cols, 1, 1.0);
            x[cols..2 * cols].fill(-inf);
            x[2 * cols..3 * cols].fill(-inf);
            x[3 * cols - 1] = nan;
            x[3 * cols] = nan;
            if cols > 1 {
                x[4 * cols] = -inf;
            }
            let (mut y, mut log) = (vec![7.0; x.len()], vec![7.0; x.len()]);
            with_isa(isa, || {
                softmax_forward(&x, cols, &mut y);
                log_softmax_forward(&x, cols, &mut log);
            });
            assert!(y[..cols].iter().all(|v| *v > 0.0));
            assert!(y[cols..2 * cols].iter().all(|v| *v == 0.0), "{isa:?}: a row of -inf gives zeros");
            assert!(log[cols..2 * cols].iter().all(|v| *v == -inf));
            for row in [2, 3] {
                let row = row * cols..(row + 1) * cols;
                assert!(y[row.clone()].iter().all(|v| v.is_nan()), "{isa:?}: NaN reaches its whole row");
                assert!(log[row].iter().all(|v| v.is_nan()));
            }
            if cols > 1 {
                assert_eq!((y[4 * cols], log[4 * cols]), (0.0, -inf));
                assert!(y[4 * cols + 1..].iter().all(|v| *v > 0.0));
            }
        }
    }
}
