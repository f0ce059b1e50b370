//! Small pointwise operations and sums over rows and columns: what a network is written with where
//! no fused kernel serves.

use crate::arch::{Simd, simd_fn};
use crate::buffer::Buffer;
use crate::lanes::{add_to, read, total, vectors, write};
use crate::math;
use crate::softmax::largest_of_rows;
use crate::split::{Cut, Out, parallel_rows, rows_of};

/// An operation on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `-x`
    Neg,
    /// `e^x`
    Exp,
    /// `ln x`
    Log,
    /// `√x`
    Sqrt,
    /// `x²`
    Square,
    /// `|x|`
    Abs,
    /// `1 / x`
    Recip,
    /// `sin x`
    Sin,
    /// `cos x`
    Cos,
}

/// An operation on two values. `Max` and `Min` give NaN where either is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`
    Div,
    /// The larger.
    Max,
    /// The smaller.
    Min,
}

/// `y = op(x)`, value by value.
///
/// # Panics
/// If the lengths differ.
pub fn unary_forward(op: Unary, x: &[f32], y: &mut [f32]) {
    parallel_rows(Cut::new(x.len(), 1), [Out::Rows(y, 1)], |r, [y]| unary_chunk(op, &x[r], y));
}

/// `dx = dy · op'(x)`, overwritten, where `y = op(x)`. The slope of `|x|` at 0 is 0.
///
/// # Panics
/// If the lengths differ.
pub fn unary_backward(op: Unary, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!((x.len(), y.len(), dy.len()), (dx.len(), dx.len(), dx.len()));
    parallel_rows(Cut::new(x.len(), 1), [Out::Rows(dx, 1)], |r, [dx]| {
        unary_backward_chunk(op, &x[r.clone()], &y[r.clone()], &dy[r], dx);
    });
}

simd_fn! {
    fn unary_chunk(s, op: Unary, x: &[f32], y: &mut [f32]) {
        /// A loop for each operation, so that the choice is made once.
        macro_rules! each {
            (|$v:ident| $f:expr) => {
                vectors!(y.len(), |i, n| {
                    let $v = read(s, x, i, n);
                    write(s, y, i, n, $f);
                })
            };
        }
        match op {
            Unary::Neg => each!(|v| s.neg(v)),
            Unary::Exp => each!(|v| math::exp_unbounded(s, v)),
            Unary::Sqrt => each!(|v| s.sqrt(v)),
            Unary::Square => each!(|v| s.mul(v, v)),
            Unary::Abs => each!(|v| s.abs(v)),
            Unary::Recip => each!(|v| s.div(s.splat(1.0), v)),
            // Rare enough that the standard library's scalar functions do.
            Unary::Log => y.iter_mut().zip(x).for_each(|(y, x)| *y = x.ln()),
            Unary::Sin => y.iter_mut().zip(x).for_each(|(y, x)| *y = x.sin()),
            Unary::Cos => y.iter_mut().zip(x).for_each(|(y, x)| *y = x.cos()),
        }
    }
}

simd_fn! {
    fn unary_backward_chunk(s, op: Unary, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
        /// A loop for each operation over the input or the output, and dy.
        macro_rules! each {
            ($from:ident, |$v:ident, $d:ident| $f:expr) => {
                vectors!(dx.len(), |i, n| {
                    let ($v, $d) = (read(s, $from, i, n), read(s, dy, i, n));
                    write(s, dx, i, n, $f);
                })
            };
        }
        let zero = s.splat(0.0);
        match op {
            Unary::Neg => each!(dy, |_v, d| s.neg(d)),
            Unary::Exp => each!(y, |v, d| s.mul(d, v)),
            Unary::Log => each!(x, |v, d| s.div(d, v)),
            Unary::Sqrt => each!(y, |v, d| s.div(s.mul(s.splat(0.5), d), v)),
            Unary::Square => each!(x, |v, d| s.mul(s.mul(s.splat(2.0), v), d)),
            Unary::Abs => each!(x, |v, d| s.select_lt(zero, v, d, s.select_lt(v, zero, s.neg(d), s.mul(v, d)))),
            Unary::Recip => each!(y, |v, d| s.neg(s.mul(d, s.mul(v, v)))),
            Unary::Sin => dx.iter_mut().zip(dy).zip(x).for_each(|((dx, dy), x)| *dx = dy * x.cos()),
            Unary::Cos => dx.iter_mut().zip(dy).zip(x).for_each(|((dx, dy), x)| *dx = -dy * x.sin()),
        }
    }
}

/// `y = op(a, b)`, value by value.
///
/// # Panics
/// If the lengths differ.
pub fn binary(op: Binary, a: &[f32], b: &[f32], y: &mut [f32]) {
    assert_eq!((a.len(), b.len()), (y.len(), y.len()));
    parallel_rows(Cut::new(a.len(), 1), [Out::Rows(y, 1)], |r, [y]| {
        binary_chunk(op, &a[r.clone()], &b[r], y)
    });
}

/// `y = op(a, row)` with `row` repeated for each row of `a`.
///
/// # Panics
/// If a length doesn't fit.
pub fn binary_row(op: Binary, a: &[f32], row: &[f32], y: &mut [f32]) {
    let cols = row.len();
    let rows = rows_of(a.len(), cols);
    parallel_rows(Cut::new(rows, cols), [Out::Rows(y, cols)], |r, [y]| {
        let a = &a[r.start * cols..r.end * cols];
        for (a, y) in a.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
            binary_chunk(op, a, row, y);
        }
    });
}

/// `y = op(a, b)` with one `b` for all.
///
/// # Panics
/// If the lengths differ.
pub fn binary_scalar(op: Binary, a: &[f32], b: f32, y: &mut [f32]) {
    parallel_rows(Cut::new(a.len(), 1), [Out::Rows(y, 1)], |r, [y]| binary_scalar_chunk(op, &a[r], b, y));
}

/// Calls `$f(…, op)` with `op` a constant in each arm, so that each gets a loop of its own.
macro_rules! for_each_op {
    ($op:ident, $f:ident($($arg:expr),*)) => {
        match $op {
            Binary::Add => $f($($arg,)* Binary::Add),
            Binary::Sub => $f($($arg,)* Binary::Sub),
            Binary::Mul => $f($($arg,)* Binary::Mul),
            Binary::Div => $f($($arg,)* Binary::Div),
            Binary::Max => $f($($arg,)* Binary::Max),
            Binary::Min => $f($($arg,)* Binary::Min),
        }
    };
}

#[inline(always)]
fn combine<S: Simd>(s: S, op: Binary, a: S::V, b: S::V) -> S::V {
    match op {
        Binary::Add => s.add(a, b),
        Binary::Sub => s.sub(a, b),
        Binary::Mul => s.mul(a, b),
        Binary::Div => s.div(a, b),
        // Of two operands the second's NaN survives; the first's is put back.
        Binary::Max => s.select_nan(a, a, s.max(a, b)),
        Binary::Min => s.select_nan(a, a, s.min(a, b)),
    }
}

#[inline(always)]
fn binary_loop<S: Simd>(s: S, a: &[f32], b: &[f32], y: &mut [f32], op: Binary) {
    vectors!(y.len(), |i, n| write(s, y, i, n, combine(s, op, read(s, a, i, n), read(s, b, i, n))));
}

#[inline(always)]
fn binary_scalar_loop<S: Simd>(s: S, a: &[f32], b: f32, y: &mut [f32], op: Binary) {
    let b = s.splat(b);
    vectors!(y.len(), |i, n| write(s, y, i, n, combine(s, op, read(s, a, i, n), b)));
}

simd_fn! {
    fn binary_chunk(s, op: Binary, a: &[f32], b: &[f32], y: &mut [f32]) {
        for_each_op!(op, binary_loop(s, a, b, y))
    }
}

simd_fn! {
    fn binary_scalar_chunk(s, op: Binary, a: &[f32], b: f32, y: &mut [f32]) {
        for_each_op!(op, binary_scalar_loop(s, a, b, y))
    }
}

/// `out[c] += Σ x[r, c]` over rows of `cols = out.len()` values: the gradient of a bias.
///
/// # Panics
/// If a length doesn't fit.
pub fn column_sum(x: &[f32], cols: usize, out: &mut [f32]) {
    let rows = rows_of(x.len(), cols);
    assert_eq!(out.len(), cols);
    let cut = Cut::for_partial_sums(rows, cols);
    let mut partial = Buffer::scratch(cut.chunks() * cols);
    parallel_rows(cut, [Out::Chunks(&mut partial, cols)], |r, [sum]| {
        column_sum_chunk(&x[r.start * cols..r.end * cols], sum);
    });
    partial.chunks_exact(cols).for_each(|part| add_to(out, part));
}

simd_fn! {
    fn column_sum_chunk(s, x: &[f32], sum: &mut [f32]) {
        let cols = sum.len();
        sum.fill(0.0);
        // Four rows at a time: a quarter of the traffic to `sum`.
        let fours = x.chunks_exact(4 * cols);
        let rest = fours.remainder();
        for rows in fours {
            vectors!(cols, |i, n| {
                let a = s.add(read(s, rows, i, n), read(s, rows, cols + i, n));
                let b = s.add(read(s, rows, 2 * cols + i, n), read(s, rows, 3 * cols + i, n));
                write(s, sum, i, n, s.add(read(s, sum, i, n), s.add(a, b)));
            });
        }
        for row in rest.chunks_exact(cols) {
            vectors!(cols, |i, n| write(s, sum, i, n, s.add(read(s, sum, i, n), read(s, row, i, n))));
        }
    }
}

/// `out[r] = Σ x[r, c]` over rows of `cols` values.
///
/// # Panics
/// If a length doesn't fit.
pub fn row_sum(x: &[f32], cols: usize, out: &mut [f32]) {
    let rows = rows_of(x.len(), cols);
    parallel_rows(Cut::new(rows, cols), [Out::Rows(out, 1)], |r, [out]| {
        row_sum_chunk(&x[r.start * cols..r.end * cols], cols, out);
    });
}

simd_fn! {
    fn row_sum_chunk(s, x: &[f32], cols: usize, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(cols).zip(out) {
            let mut acc = [s.splat(0.0); 4];
            vectors!(cols, |i, n, j| acc[j] = s.add(acc[j], read(s, x, i, n)));
            *out = total(s, acc);
        }
    }
}

/// `out[r] = max x[r, c]` over rows of `cols` values; NaN where the row holds one.
///
/// # Panics
/// If a length doesn't fit.
pub fn row_max(x: &[f32], cols: usize, out: &mut [f32]) {
    let rows = rows_of(x.len(), cols);
    parallel_rows(Cut::new(rows, cols), [Out::Rows(out, 1)], |r, [out]| {
        largest_of_rows(&x[r.start * cols..r.end * cols], cols, out);
    });
}
