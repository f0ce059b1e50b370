//! Small pointwise operations and reductions.

use crate::compare::{everywhere, near, noise, wide};
use hearth_kernel::elementwise::*;
use hearth_kernel::{Isa, with_isa};
use proptest::prelude::*;

const UNARY: [Unary; 9] = [
    Unary::Neg,
    Unary::Exp,
    Unary::Log,
    Unary::Sqrt,
    Unary::Square,
    Unary::Abs,
    Unary::Recip,
    Unary::Sin,
    Unary::Cos,
];
const BINARY: [Binary; 6] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min];

/// Value and slope.
fn plain_unary(op: Unary, x: f64) -> (f64, f64) {
    match op {
        Unary::Neg => (-x, -1.0),
        Unary::Exp => (x.exp(), x.exp()),
        Unary::Log => (x.ln(), 1.0 / x),
        Unary::Sqrt => (x.sqrt(), 0.5 / x.sqrt()),
        Unary::Square => (x * x, 2.0 * x),
        Unary::Abs => (x.abs(), x.signum()),
        Unary::Recip => (1.0 / x, -1.0 / (x * x)),
        Unary::Sin => (x.sin(), x.cos()),
        Unary::Cos => (x.cos(), -x.sin()),
    }
}

fn plain_binary(op: Binary, a: f32, b: f32) -> f32 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn unary_equals_the_plain_loop(op in 0..UNARY.len(), len in 0usize..40_000) {
        let op = UNARY[op];
        let (mut x, dy) = (noise(len, 1, 5.0), noise(len, 2, 1.0));
        if matches!(op, Unary::Log | Unary::Sqrt | Unary::Recip) {
            x.iter_mut().for_each(|x| *x = x.abs() + 0.01);
        }
        let (want, want_dx): (Vec<f64>, Vec<f64>) = x.iter().zip(&dy).map(|(&x, &d)| {
            let (value, slope) = plain_unary(op, x.into());
            (value, f64::from(d) * slope)
        }).unzip();
        let run = || {
            let (mut y, mut dx) = (vec![0.0; len], vec![9.0; len]);
            unary_forward(op, &x, &mut y);
            unary_backward(op, &x, &y, &dy, &mut dx);
            [y, dx]
        };
        for (isa, [y, dx]) in everywhere(run) {
            near(isa, &format!("{op:?}"), &y, &want, 6e-7);
            near(isa, &format!("slope of {op:?}"), &dx, &want_dx, 1e-6);
        }
    }

    #[test]
    fn binary_equals_the_plain_loop(op in 0..BINARY.len(), rows in 0usize..40, cols in 1usize..700, scalar in 0.1f32..3.0) {
        let (op, len) = (BINARY[op], rows * cols);
        let (a, b, row) = (noise(len, 1, 2.0), noise(len, 2, 2.0), noise(cols, 3, 2.0));
        let want: Vec<f32> = (0..len).map(|i| plain_binary(op, a[i], b[i])).collect();
        let want_row: Vec<f32> = (0..len).map(|i| plain_binary(op, a[i], row[i % cols])).collect();
        let want_scalar: Vec<f32> = a.iter().map(|&a| plain_binary(op, a, scalar)).collect();
        let run = || {
            let [mut y, mut by_row, mut by_scalar] = [vec![9.0; len], vec![9.0; len], vec![9.0; len]];
            binary(op, &a, &b, &mut y);
            binary_row(op, &a, &row, &mut by_row);
            binary_scalar(op, &a, scalar, &mut by_scalar);
            [y, by_row, by_scalar]
        };
        for (isa, got) in everywhere(run) {
            assert!(got == [want.clone(), want_row.clone(), want_scalar.clone()], "{isa:?}: {op:?} differs");
        }
    }

    #[test]
    fn reductions_equal_the_plain_loop(rows in 0usize..150, cols in 1usize..1500) {
        let (x, start) = (noise(rows * cols, 1, 1.0), noise(cols, 2, 1.0));
        let wx = wide(&x);
        let mut want_columns = wide(&start);
        wx.chunks(cols).for_each(|row| want_columns.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
        let want_sums: Vec<f64> = wx.chunks(cols).map(|row| row.iter().sum()).collect();
        let want_max: Vec<f32> = x.chunks(cols).map(|row| row.iter().copied().fold(f32::MIN, f32::max)).collect();
        let run = || {
            let [mut columns, mut sums, mut largest] = [start.clone(), vec![9.0; rows], vec![9.0; rows]];
            column_sum(&x, cols, &mut columns);
            row_sum(&x, cols, &mut sums);
            row_max(&x, cols, &mut largest);
            [columns, sums, largest]
        };
        for (isa, [columns, sums, largest]) in everywhere(run) {
            near(isa, "column sums", &columns, &want_columns, 1e-5);
            near(isa, "row sums", &sums, &want_sums, 1e-5);
            assert!(largest == want_max, "{isa:?}: row maxima differ");
        }
    }
}

#[test]
fn nan_and_infinity_go_where_they_should() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let (a, b) = ([nan, 1.0, -inf, inf], [1.0, nan, 2.0, 2.0]);
    for isa in Isa::available() {
        with_isa(isa, || {
            for op in BINARY {
                let mut y = [0.0; 4];
                binary(op, &a, &b, &mut y);
                assert!(y[0].is_nan() && y[1].is_nan(), "{isa:?}: {op:?} gives {y:?}");
                assert_eq!(&y[2..], &[plain_binary(op, -inf, 2.0), plain_binary(op, inf, 2.0)]);
            }
            for op in UNARY {
                let (mut y, mut dx) = ([0.0], [0.0]);
                unary_forward(op, &[nan], &mut y);
                unary_backward(op, &[nan], &y, &[nan], &mut dx);
                assert!(y[0].is_nan() && dx[0].is_nan(), "{isa:?}: {op:?} gives {y:?}, {dx:?}");
            }
            let mut y = [9.0; 4];
            unary_forward(Unary::Exp, &[-inf, inf, 89.0, -200.0], &mut y);
            assert_eq!(y, [0.0, inf, inf, 0.0]);
            unary_backward(Unary::Abs, &[0.0, -2.0, 2.0, -0.0], &[0.0, 2.0, 2.0, 0.0], &[1.0; 4], &mut y);
            assert_eq!(y, [0.0, -1.0, 1.0, 0.0]);
            // A NaN early, late, in the tail; and rows without one beside them.
            for at in [0, 8, 15, 16, 18] {
                let mut x = [[1.0; 19], [-inf; 19], [2.0; 19]].concat();
                x[at] = nan;
                let mut largest = [0.0; 3];
                row_max(&x, 19, &mut largest);
                assert!(largest[0].is_nan() && largest[1..] == [-inf, 2.0], "{isa:?}: {largest:?}");
            }
        });
    }
}
