//! Small operations, enough to write any network with; methods of [`Tensor`](crate::Tensor).

mod arithmetic;
mod broadcast;
mod dropout;
mod index;
mod matmul;
mod pointwise;
mod reduce;
mod shape;

use crate::error::TensorError;

/// A shape seen from one axis: `outer` blocks of `size` rows of `inner` values.
#[derive(Clone, Copy)]
struct Axis {
    outer: usize,
    size: usize,
    inner: usize,
}

impl Axis {
    fn of(op: &'static str, shape: &[usize], axis: usize) -> Result<Self, TensorError> {
        if axis >= shape.len() {
            return Err(TensorError::range(op, "axis", axis as i64, shape.len()));
        }
        Ok(Axis {
            outer: shape[..axis].iter().product(),
            size: shape[axis],
            inner: shape[axis + 1..].iter().product(),
        })
    }
}

/// `shape` with another size at `axis`.
fn resized(shape: &[usize], axis: usize, size: usize) -> Vec<usize> {
    let mut shape = shape.to_vec();
    shape[axis] = size;
    shape
}
