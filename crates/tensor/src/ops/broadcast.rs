//! Broadcasting as NumPy and PyTorch have it: shapes are aligned at their last dimension, and a
//! dimension of 1, or one that is missing, is repeated.

use crate::autograd::record;
use crate::error::TensorError;
use crate::tensor::Tensor;
use hearth_kernel::elementwise::column_sum;

/// The shape that two shapes broadcast to.
pub(crate) fn common_shape(op: &'static str, a: &[usize], b: &[usize]) -> Result<Vec<usize>, TensorError> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(TensorError::shape(op, "shapes that broadcast", &[a, b])),
        })
        .collect()
}

/// For each value of `big`, in order, the index of the value of `small` that it is a repeat of.
fn sources(small: &[usize], big: &[usize]) -> impl Iterator<Item = usize> {
    let missing = big.len() - small.len();
    let mut strides = vec![0; big.len()];
    let mut stride = 1;
    for axis in (0..small.len()).rev() {
        if small[axis] > 1 {
            strides[missing + axis] = stride;
        }
        stride *= small[axis];
    }
    walk(big.to_vec(), strides)
}

/// The offsets of a walk through `shape` in row-major order, with a stride for each dimension.
pub(crate) fn walk(shape: Vec<usize>, strides: Vec<usize>) -> impl Iterator<Item = usize> {
    let mut index = vec![0; shape.len()];
    let mut offset = 0;
    (0..shape.iter().product()).map(move |_| {
        let here = offset;
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            offset += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            offset -= index[axis] * strides[axis];
            index[axis] = 0;
        }
        here
    })
}

/// `x` repeated to `shape`, without a history.
pub(crate) fn repeat_to(x: &Tensor, shape: &[usize]) -> Tensor {
    if x.shape() == shape {
        return x.detach();
    }
    Tensor::filled(shape, |y| {
        for (y, source) in y.iter_mut().zip(sources(x.shape(), shape)) {
            *y = x.data()[source];
        }
    })
}

/// The sum of `x` over what was repeated to get it from `shape`: the gradient of broadcasting.
pub(crate) fn sum_to(x: Tensor, shape: &[usize]) -> Tensor {
    if x.shape() == shape {
        return x;
    }
    let mut sum = Tensor::zeros(shape);
    let suffix = x.rank() >= shape.len() && &x.shape()[x.rank() - shape.len()..] == shape;
    if suffix && !sum.is_empty() {
        let cols = sum.len();
        column_sum(x.data(), cols, sum.data_mut());
    } else {
        let out = sum.data_mut();
        for (x, source) in x.data().iter().zip(sources(shape, x.shape())) {
            out[source] += x;
        }
    }
    sum
}

impl Tensor {
    /// Repeats dimensions of 1, and missing ones in front, to reach `shape`.
    ///
    /// # Errors
    /// If this doesn't broadcast to `shape`.
    pub fn expand(&self, shape: &[usize]) -> Result<Tensor, TensorError> {
        if common_shape("expand", self.shape(), shape)? != shape {
            return Err(TensorError::shape("expand", "a shape that this repeats to", &[self.shape(), shape]));
        }
        let own = self.shape().to_vec();
        Ok(record(repeat_to(self, shape), &[self], move |dy, grads| grads.add(0, sum_to(dy, &own))))
    }
}
