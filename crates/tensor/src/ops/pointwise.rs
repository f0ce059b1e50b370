//! Operations on each value by itself, and choosing between two tensors.

use crate::autograd::record;
use crate::error::TensorError;
use crate::nn;
use crate::ops::broadcast::{common_shape, repeat_to, sum_to};
use crate::tensor::Tensor;
use hearth_kernel::activation::Activation;
use hearth_kernel::elementwise::{Unary, unary_backward, unary_forward};

fn unary(op: Unary, x: &Tensor) -> Tensor {
    let y = Tensor::filled(x.shape(), |y| unary_forward(op, x.data(), y));
    let (saved_x, saved_y) = (x.detach(), y.detach());
    record(y, &[x], move |dy, grads| {
        let dx = Tensor::filled(saved_x.shape(), |dx| {
            unary_backward(op, saved_x.data(), saved_y.data(), dy.data(), dx);
        });
        grads.add(0, dx);
    })
}

/// `a` where `condition` is (or, with `inverted`, isn't) something other than 0, and 0 elsewhere.
fn masked(a: &Tensor, condition: &Tensor, inverted: bool) -> Tensor {
    Tensor::filled(a.shape(), |y| {
        for ((y, a), c) in y.iter_mut().zip(a.data()).zip(condition.data()) {
            *y = if (*c != 0.0) != inverted { *a } else { 0.0 };
        }
    })
}

impl Tensor {
    /// `-x`
    pub fn neg(&self) -> Tensor {
        unary(Unary::Neg, self)
    }

    /// `e^x`
    pub fn exp(&self) -> Tensor {
        unary(Unary::Exp, self)
    }

    /// `ln x`; NaN below 0, minus infinity at 0.
    pub fn log(&self) -> Tensor {
        unary(Unary::Log, self)
    }

    /// `√x`; NaN below 0.
    pub fn sqrt(&self) -> Tensor {
        unary(Unary::Sqrt, self)
    }

    /// `x²`
    pub fn square(&self) -> Tensor {
        unary(Unary::Square, self)
    }

    /// `|x|`; its slope at 0 is 0.
    pub fn abs(&self) -> Tensor {
        unary(Unary::Abs, self)
    }

    /// `1 / x`
    pub fn recip(&self) -> Tensor {
        unary(Unary::Recip, self)
    }

    /// `sin x`
    pub fn sin(&self) -> Tensor {
        unary(Unary::Sin, self)
    }

    /// `cos x`
    pub fn cos(&self) -> Tensor {
        unary(Unary::Cos, self)
    }

    /// `tanh x`
    pub fn tanh(&self) -> Tensor {
        nn::activation(self, Activation::Tanh)
    }

    /// `1 / (1 + e^-x)`
    pub fn sigmoid(&self) -> Tensor {
        nn::activation(self, Activation::Sigmoid)
    }

    /// `max(x, 0)`; its slope at 0 is 0.
    pub fn relu(&self) -> Tensor {
        nn::activation(self, Activation::Relu)
    }

    /// `a` where `self` is something other than 0 and `b` elsewhere, all three broadcasting; no
    /// gradient flows to the condition. (PyTorch's `where`, which is a keyword here.)
    ///
    /// # Errors
    /// If the shapes don't broadcast.
    pub fn where_cond(&self, a: &Tensor, b: &Tensor) -> Result<Tensor, TensorError> {
        let shape = common_shape("where_cond", a.shape(), b.shape())?;
        let shape = common_shape("where_cond", self.shape(), &shape)?;
        let condition = repeat_to(self, &shape);
        let (wide_a, wide_b) = (repeat_to(a, &shape), repeat_to(b, &shape));
        let y = Tensor::filled(&shape, |y| {
            for (i, y) in y.iter_mut().enumerate() {
                let from = if condition.data()[i] != 0.0 { &wide_a } else { &wide_b };
                *y = from.data()[i];
            }
        });
        let (shape_a, shape_b) = (a.shape().to_vec(), b.shape().to_vec());
        Ok(record(y, &[a, b], move |dy, grads| {
            if grads.needs(0) {
                grads.add(0, sum_to(masked(&dy, &condition, false), &shape_a));
            }
            if grads.needs(1) {
                grads.add(1, sum_to(masked(&dy, &condition, true), &shape_b));
            }
        }))
    }
}
