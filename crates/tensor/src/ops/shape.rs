//! Other shapes, orders and parts of the same values.

use crate::autograd::record;
use crate::error::TensorError;
use crate::ops::broadcast::walk;
use crate::ops::{Axis, resized};
use crate::tensor::Tensor;
use std::ops::Range;

/// `x` with its axes in the order `axes`, without a history.
fn reordered(x: &Tensor, axes: &[usize]) -> Tensor {
    let mut strides = vec![1; x.rank()];
    for axis in (1..x.rank()).rev() {
        strides[axis - 1] = strides[axis] * x.shape()[axis];
    }
    let shape: Vec<usize> = axes.iter().map(|&a| x.shape()[a]).collect();
    let strides = axes.iter().map(|&a| strides[a]).collect();
    Tensor::filled(&shape, |y| {
        for (y, source) in y.iter_mut().zip(walk(shape.clone(), strides)) {
            *y = x.data()[source];
        }
    })
}

/// The rows `range` along an axis, without a history.
fn rows_of(x: &Tensor, axis: usize, along: Axis, range: Range<usize>) -> Tensor {
    let Axis { size, inner, .. } = along;
    Tensor::filled(&resized(x.shape(), axis, range.len()), |y| {
        let blocks = x.data().chunks_exact((size * inner).max(1));
        for (x, y) in blocks.zip(y.chunks_exact_mut((range.len() * inner).max(1))) {
            y.copy_from_slice(&x[range.start * inner..range.end * inner]);
        }
    })
}

/// Writes `x` over the rows of `y` from `start` on along an axis of which `y` has `along.size`.
fn place_rows(y: &mut [f32], along: Axis, start: usize, x: &Tensor, rows: usize) {
    let Axis { size, inner, .. } = along;
    let blocks = x.data().chunks_exact((rows * inner).max(1));
    for (y, x) in y.chunks_exact_mut((size * inner).max(1)).zip(blocks) {
        y[start * inner..][..rows * inner].copy_from_slice(x);
    }
}

impl Tensor {
    /// The same values in the same order under another shape; nothing is copied.
    ///
    /// # Errors
    /// If the shape holds another number of values.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor, TensorError> {
        if shape.iter().product::<usize>() != self.len() {
            let expected = format!("a shape of {} values", self.len());
            return Err(TensorError::shape("reshape", expected, &[self.shape(), shape]));
        }
        let old: Vec<usize> = self.shape().to_vec();
        Ok(record(self.reshaped(shape), &[self], move |dy, grads| grads.add(0, dy.reshaped(&old))))
    }

    /// The axes in another order: axis `i` of the result is axis `axes[i]` of this.
    ///
    /// # Errors
    /// If `axes` doesn't name each axis once.
    pub fn permute(&self, axes: &[usize]) -> Result<Tensor, TensorError> {
        let mut back = vec![usize::MAX; self.rank()];
        for (to, &from) in axes.iter().enumerate() {
            if let Some(slot) = back.get_mut(from) {
                *slot = to;
            }
        }
        if axes.len() != self.rank() || back.contains(&usize::MAX) {
            let expected = format!("each of {} axes once", self.rank());
            return Err(TensorError::shape("permute", expected, &[axes]));
        }
        let y = reordered(self, axes);
        Ok(record(y, &[self], move |dy, grads| grads.add(0, reordered(&dy, &back))))
    }

    /// Two axes exchanged.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Tensor, TensorError> {
        let mut axes: Vec<usize> = (0..self.rank()).collect();
        if let Some(axis) = [a, b].into_iter().find(|&axis| axis >= self.rank()) {
            return Err(TensorError::range("transpose", "axis", axis as i64, self.rank()));
        }
        axes.swap(a, b);
        self.permute(&axes)
    }

    /// The part `range` along `axis`.
    ///
    /// # Errors
    /// If there is no such axis, or the range leaves it.
    pub fn slice(&self, axis: usize, range: Range<usize>) -> Result<Tensor, TensorError> {
        let along = Axis::of("slice", self.shape(), axis)?;
        if range.start > range.end || range.end > along.size {
            let expected = format!("a range within 0..{} of axis {axis}", along.size);
            let got = format!("{}..{}", range.start, range.end);
            return Err(TensorError::Shape { op: "slice", expected, got });
        }
        let y = rows_of(self, axis, along, range.clone());
        let shape = self.shape().to_vec();
        Ok(record(y, &[self], move |dy, grads| {
            let mut dx = Tensor::zeros(&shape);
            place_rows(dx.data_mut(), along, range.start, &dy, range.len());
            grads.add(0, dx);
        }))
    }

    /// Tensors one after another along `axis`; their other axes are equal.
    ///
    /// # Errors
    /// If there are none, or the shapes don't fit.
    pub fn concat(tensors: &[&Tensor], axis: usize) -> Result<Tensor, TensorError> {
        let Some(first) = tensors.first() else {
            return Err(TensorError::shape("concat", "at least one tensor", &[]));
        };
        Axis::of("concat", first.shape(), axis)?;
        let fits = |t: &&Tensor| {
            t.rank() == first.rank() && resized(t.shape(), axis, 0) == resized(first.shape(), axis, 0)
        };
        if !tensors.iter().all(fits) {
            let shapes: Vec<&[usize]> = tensors.iter().map(|t| t.shape()).collect();
            return Err(TensorError::shape(
                "concat",
                format!("shapes that differ only at axis {axis}"),
                &shapes,
            ));
        }
        let sizes: Vec<usize> = tensors.iter().map(|t| t.shape()[axis]).collect();
        let shape = resized(first.shape(), axis, sizes.iter().sum());
        let along = Axis::of("concat", &shape, axis)?;
        let y = Tensor::filled(&shape, |y| {
            let mut start = 0;
            for (tensor, &rows) in tensors.iter().zip(&sizes) {
                place_rows(y, along, start, tensor, rows);
                start += rows;
            }
        });
        Ok(record(y, tensors, move |dy, grads| {
            let mut start = 0;
            for (i, &rows) in sizes.iter().enumerate() {
                if grads.needs(i) {
                    grads.add(i, rows_of(&dy, axis, along, start..start + rows));
                }
                start += rows;
            }
        }))
    }
}
