//! Arithmetic on two tensors with broadcasting, and with numbers.

use crate::autograd::record;
use crate::error::TensorError;
use crate::ops::broadcast::{common_shape, repeat_to, sum_to};
use crate::tensor::Tensor;
use hearth_kernel::elementwise::{Binary, binary, binary_row, binary_scalar};
use hearth_kernel::profile::pass;

/// `op(a, b)` without a history.
fn apply(op: Binary, a: &Tensor, b: &Tensor, shape: &[usize]) -> Tensor {
    let a = repeat_to(a, shape);
    let is_row = b.rank() <= shape.len() && &shape[shape.len() - b.rank()..] == b.shape() && !b.is_empty();
    Tensor::filled(shape, |y| {
        pass("arithmetic", 2 * a.len() + b.len(), || match b.data() {
            [b] => binary_scalar(op, a.data(), *b, y),
            row if is_row => binary_row(op, a.data(), row, y),
            _ => binary(op, a.data(), repeat_to(b, shape).data(), y),
        });
    })
}

/// `op(a, b)` with the gradients `dy · da` and `dy · db`, where `slopes` gives da and db from a, b
/// and y, all of one shape.
fn recorded(
    name: &'static str,
    op: Binary,
    a: &Tensor,
    b: &Tensor,
    slopes: impl FnOnce(Tensor, &Tensor, &Tensor) -> [Tensor; 2] + Send + 'static,
) -> Result<Tensor, TensorError> {
    let shape = common_shape(name, a.shape(), b.shape())?;
    let (saved_a, saved_b) = (a.detach(), b.detach());
    Ok(record(apply(op, a, b, &shape), &[a, b], move |dy, grads| {
        let [da, db] = slopes(dy, &saved_a, &saved_b);
        if grads.needs(0) {
            grads.add(0, sum_to(da, saved_a.shape()));
        }
        if grads.needs(1) {
            grads.add(1, sum_to(db, saved_b.shape()));
        }
    }))
}

/// A product without a history; `b` broadcasts to `a`.
fn times(a: &Tensor, b: &Tensor) -> Tensor {
    apply(Binary::Mul, a, b, a.shape())
}

/// `dy` where `chosen(a, b)`, half of it where they are equal, as PyTorch has it.
fn routed(dy: &Tensor, a: &Tensor, b: &Tensor, first: impl Fn(f32, f32) -> bool) -> [Tensor; 2] {
    let (a, b) = (repeat_to(a, dy.shape()), repeat_to(b, dy.shape()));
    let share = |a: f32, b: f32| match (a == b, first(a, b)) {
        (true, _) => 0.5,
        (false, true) => 1.0,
        (false, false) => 0.0,
    };
    let part = |second: bool| {
        Tensor::filled(dy.shape(), |y| {
            for (i, y) in y.iter_mut().enumerate() {
                let share = share(a.data()[i], b.data()[i]);
                *y = dy.data()[i] * if second { 1.0 - share } else { share };
            }
        })
    };
    [part(false), part(true)]
}

impl Tensor {
    /// `self + other`, broadcasting.
    ///
    /// # Errors
    /// If the shapes don't broadcast.
    pub fn add(&self, other: &Tensor) -> Result<Tensor, TensorError> {
        recorded("add", Binary::Add, self, other, |dy, _, _| [dy.clone(), dy])
    }

    /// `self - other`, broadcasting.
    ///
    /// # Errors
    /// If the shapes don't broadcast.
    pub fn sub(&self, other: &Tensor) -> Result<Tensor, TensorError> {
        recorded("sub", Binary::Sub, self, other, |dy, _, _| {
            let minus = times(&dy, &Tensor::scalar(-1.0));
            [dy, minus]
        })
    }

    /// `self · other`, value by value, broadcasting.
    ///
    /// # Errors
    /// If the shapes don't broadcast.
    pub fn mul(&self, other: &Tensor) -> Result<Tensor, TensorError> {
        recorded("mul", Binary::Mul, self, other, |dy, a, b| [times(&dy, b), times(&dy, a)])
    }

    /// `self / other`, value by value, broadcasting.
    ///
    /// # Errors
    /// If the shapes don't broadcast.
    pub fn div(&self, other: &Tensor) -> Result<Tensor, TensorError> {
        recorded("div", Binary::Div, self, other, |dy, a, b| {
            let da = apply(Binary::Div, &dy, b, dy.shape());
            let db = times(&apply(Binary::Div, &da, b, dy.shape()), a);
            [da, times(&db, &Tensor::scalar(-1.0))]
        })
    }

    /// The larger of each pair, broadcasting; NaN if either is.
    ///
    /// # Errors
    /// If the shapes don't broadcast.
    pub fn maximum(&self, other: &Tensor) -> Result<Tensor, TensorError> {
        recorded("maximum", Binary::Max, self, other, |dy, a, b| routed(&dy, a, b, |a, b| a > b))
    }

    /// The smaller of each pair, broadcasting; NaN if either is.
    ///
    /// # Errors
    /// If the shapes don't broadcast.
    pub fn minimum(&self, other: &Tensor) -> Result<Tensor, TensorError> {
        recorded("minimum", Binary::Min, self, other, |dy, a, b| routed(&dy, a, b, |a, b| a < b))
    }

    /// `self · factor`.
    pub fn scale(&self, factor: f32) -> Tensor {
        let y = times(self, &Tensor::scalar(factor));
        record(y, &[self], move |dy, grads| grads.add(0, times(&dy, &Tensor::scalar(factor))))
    }

    /// `self + number`.
    pub fn add_scalar(&self, number: f32) -> Tensor {
        let y = apply(Binary::Add, self, &Tensor::scalar(number), self.shape());
        record(y, &[self], |dy, grads| grads.add(0, dy))
    }
}
