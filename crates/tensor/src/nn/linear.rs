//! The linear layer with its bias and activation in one pass, and the activations alone.

use crate::autograd::{Grads, record, recording};
use crate::error::TensorError;
use crate::half::HalfTensor;
use crate::tensor::Tensor;
use hearth_kernel::Buffer;
use hearth_kernel::activation::{
    Activation, activation_backward, activation_forward, swiglu_backward, swiglu_forward,
};
use hearth_kernel::elementwise::column_sum;
use hearth_kernel::gemm::{Epilogue, Mat, MatMut, Write, gemm, gemm_with};
use hearth_kernel::optim::scale as scale_values;
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
    product("linear", x, Weight::Single(weight), bias, activation, false)
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
    product("linear_in_out", x, Weight::Single(weight), bias, activation, true)
}

/// [`linear`], or [`linear_in_out`], over a weight in 16 bits, which gets no gradient. It is widened where it is
/// multiplied, and never kept in 32 bits.
///
/// # Errors
/// If the shapes don't agree.
pub fn linear_half(
    x: &Tensor,
    weight: &HalfTensor,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
    in_out: bool,
) -> Result<Tensor, TensorError> {
    product("linear_half", x, Weight::Half(weight), bias, activation, in_out)
}

/// `y + scale · (x Aᵀ) Bᵀ`, an update of low rank r to what a linear layer made of x (Hu et al. 2022, section 4.1):
/// y [.., out], x [.., in], `a` [r, in], `b` [out, r].
///
/// # Errors
/// If the shapes don't agree.
pub fn add_low_rank(
    mut y: Tensor,
    x: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scale: f32,
) -> Result<Tensor, TensorError> {
    let mismatch = || {
        let shapes = [y.shape(), x.shape(), a.shape(), b.shape()];
        TensorError::shape("add_low_rank", "y [.., out], x [.., in], a [r, in] and b [out, r]", &shapes)
    };
    let (&[rank, inputs], &[outputs, inner]) = (a.shape(), b.shape()) else { return Err(mismatch()) };
    let rows = x.len() / inputs.max(1);
    if inner != rank || x.shape().last() != Some(&inputs) || y.len() != rows * outputs {
        return Err(mismatch());
    }
    let detail = move || format!("{inputs}→{rank}→{outputs}");
    let work = move || Work::product(rows, rank, inputs + outputs);
    let mut inner = Buffer::scratch(rows * rank);
    operation("low rank", detail, work, || {
        let x = Mat::new(x.data(), rows, inputs);
        gemm(x, Mat::new(a.data(), rank, inputs).t(), MatMut::new(&mut inner, rows, rank), Write::Overwrite);
        scale_values(&mut inner, scale);
        let b = Mat::new(b.data(), outputs, rank);
        let y = MatMut::new(y.data_mut(), rows, outputs);
        gemm(Mat::new(&inner, rows, rank), b.t(), y, Write::Accumulate);
    });
    let (saved_x, saved_a, saved_b) = (x.detach(), a.detach(), b.detach());
    Ok(record(y.detach(), &[&y, x, a, b], move |dy, grads| {
        let d = Mat::new(dy.data(), rows, outputs);
        let mut dinner = Buffer::scratch(rows * rank);
        operation(
            "low rank, gradients",
            detail,
            || [work(), work()].into_iter().sum(),
            || {
                let b = Mat::new(saved_b.data(), outputs, rank);
                gemm(d, b, MatMut::new(&mut dinner, rows, rank), Write::Overwrite);
                scale_values(&mut dinner, scale);
                let dinner = Mat::new(&dinner, rows, rank);
                grads.accumulate(1, saved_x.shape(), |dx, write| {
                    let a = Mat::new(saved_a.data(), rank, inputs);
                    gemm(dinner, a, MatMut::new(dx, rows, inputs), write);
                });
                grads.accumulate(2, &[rank, inputs], |da, write| {
                    let x = Mat::new(saved_x.data(), rows, inputs);
                    gemm(dinner.t(), x, MatMut::new(da, rank, inputs), write);
                });
                grads.accumulate(3, &[outputs, rank], |db, write| {
                    gemm(d.t(), Mat::new(&inner, rows, rank), MatMut::new(db, outputs, rank), write);
                });
            },
        );
        grads.add(0, dy);
    }))
}

/// A weight as it is kept.
#[derive(Clone, Copy)]
enum Weight<'a> {
    Single(&'a Tensor),
    Half(&'a HalfTensor),
}

/// What the way back needs of a weight.
enum SavedWeight {
    Single(Tensor),
    Half(HalfTensor),
}

impl Weight<'_> {
    fn shape(&self) -> &[usize] {
        match self {
            Weight::Single(weight) => weight.shape(),
            Weight::Half(weight) => weight.shape(),
        }
    }

    fn saved(&self) -> SavedWeight {
        match self {
            Weight::Single(weight) => SavedWeight::Single(weight.detach()),
            Weight::Half(weight) => SavedWeight::Half((*weight).clone()),
        }
    }
}

impl SavedWeight {
    fn widened(&self) -> Tensor {
        match self {
            SavedWeight::Single(weight) => weight.clone(),
            SavedWeight::Half(weight) => weight.to_f32(),
        }
    }
}

/// The weight as [in, out].
fn oriented(weight: &[f32], inputs: usize, outputs: usize, in_out: bool) -> Mat<'_> {
    if in_out { Mat::new(weight, inputs, outputs) } else { Mat::new(weight, outputs, inputs).t() }
}

fn product(
    op: &'static str,
    x: &Tensor,
    weight: Weight,
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
    let constant = Tensor::scalar(0.0);
    let saved_w = weight.saved();
    let mut operands = vec![x, if let Weight::Single(weight) = weight { weight } else { &constant }];
    operands.extend(bias);
    let keep = activation.is_some() && recording(&operands);
    let mut before = keep.then(|| Buffer::scratch(rows * outputs));
    let detail = move || format!("{inputs}→{outputs}");
    let work = move || Work::product(rows, inputs, outputs);
    let wide = saved_w.widened();
    let y = Tensor::filled(&shape, |y| {
        let epilogue =
            Epilogue { bias: bias.map(Tensor::data), activation, pre_activation: before.as_deref_mut() };
        let a = Mat::new(x.data(), rows, inputs);
        let b = oriented(wide.data(), inputs, outputs, in_out);
        operation("linear", detail, work, || {
            gemm_with(a, b, MatMut::new(y, rows, outputs), Write::Overwrite, epilogue);
        });
    });
    drop(wide);
    // A weight that isn't trained doesn't need what went in.
    let saved_x = operands[1].requires_grad().then(|| x.detach());
    let (x_shape, has_bias) = (x.shape().to_vec(), bias.is_some());
    Ok(record(y, &operands, move |mut dy, grads: &mut Grads| {
        if let (Some(kind), Some(before)) = (activation, before) {
            let mut inner = Buffer::scratch(dy.len());
            pass("activation, gradient", 3 * before.len(), || {
                activation_backward(kind, &before, dy.data(), &mut inner);
            });
            dy = Tensor::from_buffer(inner, dy.shape());
        }
        let d = Mat::new(dy.data(), rows, outputs);
        grads.accumulate(0, &x_shape, |dx, write| {
            let wide = saved_w.widened();
            let w = oriented(wide.data(), inputs, outputs, in_out);
            operation("linear, input's gradient", detail, work, || {
                gemm(d, w.t(), MatMut::new(dx, rows, inputs), write);
            });
        });
        if let Some(saved_x) = saved_x {
            let shape = if in_out { [inputs, outputs] } else { [outputs, inputs] };
            grads.accumulate(1, &shape, |dw, write| {
                let x = Mat::new(saved_x.data(), rows, inputs);
                operation("linear, weight's gradient", detail, work, || match in_out {
                    true => gemm(x.t(), d, MatMut::new(dw, inputs, outputs), write),
                    false => gemm(d.t(), x, MatMut::new(dw, outputs, inputs), write),
                });
            });
        }
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
