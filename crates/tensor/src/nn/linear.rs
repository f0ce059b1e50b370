//! The linear layer with its bias and activation in one pass, and the activations alone.

use crate::autograd::{Grads, record, recording};
use crate::error::TensorError;
use crate::tensor::Tensor;
use hearth_kernel::Buffer;
use hearth_kernel::activation::{
    Activation, activation_backward, activation_forward, swiglu_backward, swiglu_forward,
};
use hearth_kernel::elementwise::column_sum;
use hearth_kernel::gemm::{Epilogue, Mat, MatMut, Write, gemm, gemm_with};
use hearth_kernel::profile::{Work, operation, pass};

/// `y = activation(x Wᵀ + b)`: x [.., in], `weight` [out, in] as PyTorch's `nn.Linear`, `bias` `[out]`.
///
/// # Errors
/// If the shapes don't agree.
pub fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
) -> Result<Tensor, TensorError> {
    product("linear", x, weight, bias, activation, false)
}

/// `y = activation(x W + b)`: x [.., in], `weight` [in, out] as GPT-2's `Conv1D`, `bias` `[out]`.
///
/// # Errors
/// If the shapes don't agree.
pub fn linear_in_out(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
) -> Result<Tensor, TensorError> {
    product("linear_in_out", x, weight, bias, activation, true)
}

/// The weight as [in, out].
fn oriented(weight: &[f32], inputs: usize, outputs: usize, in_out: bool) -> Mat<'_> {
    if in_out { Mat::new(weight, inputs, outputs) } else { Mat::new(weight, outputs, inputs).t() }
}

fn product(
    op: &'static str,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
    in_out: bool,
) -> Result<Tensor, TensorError> {
    let order = if in_out { "[in, out]" } else { "[out, in]" };
    let mismatch =
        || TensorError::shape(op, format!("x [.., in] and weight {order}"), &[x.shape(), weight.shape()]);
    let &[first, second] = weight.shape() else { return Err(mismatch()) };
    let (inputs, outputs) = if in_out { (first, second) } else { (second, first) };
    if x.shape().last() != Some(&inputs) {
        return Err(mismatch());
    }
    if let Some(bias) = bias.filter(|b| b.shape() != [outputs]) {
        return Err(TensorError::shape(op, format!("a bias [{outputs}]"), &[bias.shape()]));
    }
    let rows = x.shape()[..x.rank() - 1].iter().product::<usize>();
    let mut shape = x.shape().to_vec();
    shape[x.rank() - 1] = outputs;
    let mut operands = vec![x, weight];
    operands.extend(bias);
    let keep = activation.is_some() && recording(&operands);
    let mut before = keep.then(|| Buffer::scratch(rows * outputs));
    let detail = move || format!("{inputs}→{outputs}");
    let work = move || Work::product(rows, inputs, outputs);
    let y = Tensor::filled(&shape, |y| {
        let epilogue =
            Epilogue { bias: bias.map(Tensor::data), activation, pre_activation: before.as_deref_mut() };
        let a = Mat::new(x.data(), rows, inputs);
        let b = oriented(weight.data(), inputs, outputs, in_out);
        operation("linear", detail, work, || {
            gemm_with(a, b, MatMut::new(y, rows, outputs), Write::Overwrite, epilogue);
        });
    });
    let (saved_x, saved_w, has_bias) = (x.detach(), weight.detach(), bias.is_some());
    Ok(record(y, &operands, move |mut dy, grads: &mut Grads| {
        if let (Some(kind), Some(before)) = (activation, before) {
            let mut inner = Buffer::scratch(dy.len());
            pass("activation, gradient", 3 * before.len(), || {
                activation_backward(kind, &before, dy.data(), &mut inner);
            });
            dy = Tensor::from_buffer(inner, dy.shape());
        }
        let d = Mat::new(dy.data(), rows, outputs);
        grads.accumulate(0, saved_x.shape(), |dx, write| {
            let w = oriented(saved_w.data(), inputs, outputs, in_out);
            operation("linear, input's gradient", detail, work, || {
                gemm(d, w.t(), MatMut::new(dx, rows, inputs), write);
            });
        });
        grads.accumulate(1, saved_w.shape(), |dw, write| {
            let x = Mat::new(saved_x.data(), rows, inputs);
            operation("linear, weight's gradient", detail, work, || match in_out {
                true => gemm(x.t(), d, MatMut::new(dw, inputs, outputs), write),
                false => gemm(d.t(), x, MatMut::new(dw, outputs, inputs), write),
            });
        });
        if has_bias {
            grads.accumulate(2, &[outputs], |db, write| {
                if write == Write::Overwrite {
                    db.fill(0.0);
                }
                pass("bias, gradient", rows * outputs, || {
                    column_sum(dy.data(), outputs, db);
                });
            });
        }
    }))
}

/// `y = activation(x)`, value by value.
pub fn activation(x: &Tensor, kind: Activation) -> Tensor {
    let values = x.len();
    let y = Tensor::filled(x.shape(), |y| {
        pass("activation", 2 * values, || {
            activation_forward(kind, x.data(), y);
        });
    });
    let saved = x.detach();
    record(y, &[x], move |dy, grads| {
        let dx = Tensor::filled(saved.shape(), |dx| {
            pass("activation, gradient", 3 * values, || {
                activation_backward(kind, saved.data(), dy.data(), dx);
            });
        });
        grads.add(0, dx);
    })
}

/// `y = silu(gate) · up` (Shazeer 2020).
///
/// # Errors
/// If the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor, TensorError> {
    if gate.shape() != up.shape() {
        return Err(TensorError::shape("swiglu", "two of one shape", &[gate.shape(), up.shape()]));
    }
    let values = gate.len();
    let y = Tensor::filled(gate.shape(), |y| {
        pass("swiglu", 3 * values, || {
            swiglu_forward(gate.data(), up.data(), y);
        });
    });
    let (saved_gate, saved_up) = (gate.detach(), up.detach());
    Ok(record(y, &[gate, up], move |dy, grads| {
        let mut dup = Buffer::scratch(dy.len());
        let dgate = Tensor::filled(dy.shape(), |dgate| {
            pass("swiglu, gradient", 5 * values, || {
                swiglu_backward(saved_gate.data(), saved_up.data(), dy.data(), dgate, &mut dup);
            });
        });
        grads.add(0, dgate);
        grads.add(1, Tensor::from_buffer(dup, dy.shape()));
    }))
}
