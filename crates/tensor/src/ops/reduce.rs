//! Sums, means, largest values and softmax along an axis.

use crate::autograd::record;
use crate::error::TensorError;
use crate::ops::broadcast::repeat_to;
use crate::ops::{Axis, resized};
use crate::tensor::Tensor;
use hearth_kernel::elementwise::{column_sum, row_sum};
use hearth_kernel::softmax::{log_softmax_backward, log_softmax_forward, softmax_backward, softmax_forward};

/// Which row of each column along an axis holds its largest value; a NaN counts as the largest.
fn largest_rows(x: &[f32], axis: Axis) -> Vec<u32> {
    let Axis { outer, size, inner } = axis;
    let mut rows = vec![0; outer * inner];
    for block in 0..outer {
        for column in 0..inner {
            let at = |row: usize| x[(block * size + row) * inner + column];
            let better = |best: usize, row: usize| {
                let (a, b) = (at(best), at(row));
                if b > a || (b.is_nan() && !a.is_nan()) { row } else { best }
            };
            rows[block * inner + column] = (1..size).fold(0, better) as u32;
        }
    }
    rows
}

/// The shape of a reduction over `axis`.
fn reduced(shape: &[usize], axis: usize, keep: bool) -> Vec<usize> {
    let mut shape = resized(shape, axis, 1);
    if !keep {
        shape.remove(axis);
    }
    shape
}

impl Tensor {
    /// The sum of all values, a scalar.
    pub fn sum(&self) -> Tensor {
        let mut total = [0.0];
        if !self.is_empty() {
            row_sum(self.data(), self.len(), &mut total);
        }
        let shape = self.shape().to_vec();
        record(Tensor::scalar(total[0]), &[self], move |dy, grads| {
            grads.add(0, Tensor::full(&shape, dy.data()[0]));
        })
    }

    /// The mean of all values, a scalar; NaN if there are none.
    pub fn mean(&self) -> Tensor {
        self.sum().scale(1.0 / self.len() as f32)
    }

    /// The sum along `axis`, which stays with size 1 if `keep`, and else goes.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn sum_axis(&self, axis: usize, keep: bool) -> Result<Tensor, TensorError> {
        let along = Axis::of("sum_axis", self.shape(), axis)?;
        let Axis { outer, size, inner } = along;
        let mut y = Tensor::zeros(&reduced(self.shape(), axis, keep));
        if self.is_empty() {
            // A sum over nothing is 0.
        } else if inner == 1 {
            row_sum(self.data(), size, y.data_mut());
        } else {
            let blocks = self.data().chunks_exact(size * inner);
            blocks.zip(y.data_mut().chunks_exact_mut(inner)).for_each(|(x, y)| column_sum(x, inner, y));
        }
        debug_assert_eq!(y.len(), outer * inner);
        let (shape, kept) = (self.shape().to_vec(), reduced(self.shape(), axis, true));
        Ok(record(y, &[self], move |dy, grads| grads.add(0, repeat_to(&dy.reshaped(&kept), &shape))))
    }

    /// The mean along `axis`; see [`sum_axis`](Tensor::sum_axis).
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn mean_axis(&self, axis: usize, keep: bool) -> Result<Tensor, TensorError> {
        let sum = self.sum_axis(axis, keep)?;
        Ok(sum.scale(1.0 / self.shape()[axis] as f32))
    }

    /// The largest value along `axis`, NaN where there is one; its gradient goes to the first such
    /// value.
    ///
    /// # Errors
    /// If there is no such axis, or it holds nothing.
    pub fn max_axis(&self, axis: usize, keep: bool) -> Result<Tensor, TensorError> {
        let rows = self.argmax_axis(axis)?;
        let kept = reduced(self.shape(), axis, true);
        self.gather(axis, &rows, 1)?.reshape(&if keep { kept } else { reduced(self.shape(), axis, false) })
    }

    /// Where along `axis` the largest values are, row-major over the other axes; the first of equals.
    ///
    /// # Errors
    /// If there is no such axis, or it holds nothing.
    pub fn argmax_axis(&self, axis: usize) -> Result<Vec<u32>, TensorError> {
        let along = Axis::of("argmax_axis", self.shape(), axis)?;
        if along.size == 0 {
            return Err(TensorError::shape("argmax_axis", "an axis that isn't empty", &[self.shape()]));
        }
        Ok(largest_rows(self.data(), along))
    }

    /// `e^x / Σ e^x` over the last axis; a row of minus infinities gives zeros.
    ///
    /// # Errors
    /// If this is a scalar or its last axis is empty.
    pub fn softmax(&self) -> Result<Tensor, TensorError> {
        let cols = self.last_axis("softmax")?;
        let y = Tensor::filled(self.shape(), |y| softmax_forward(self.data(), cols, y));
        let saved = y.detach();
        Ok(record(y, &[self], move |dy, grads| {
            let dx = Tensor::filled(saved.shape(), |dx| softmax_backward(saved.data(), dy.data(), cols, dx));
            grads.add(0, dx);
        }))
    }

    /// `x - ln Σ e^x` over the last axis.
    ///
    /// # Errors
    /// If this is a scalar or its last axis is empty.
    pub fn log_softmax(&self) -> Result<Tensor, TensorError> {
        let cols = self.last_axis("log_softmax")?;
        let y = Tensor::filled(self.shape(), |y| log_softmax_forward(self.data(), cols, y));
        let saved = y.detach();
        Ok(record(y, &[self], move |dy, grads| {
            let dx =
                Tensor::filled(saved.shape(), |dx| log_softmax_backward(saved.data(), dy.data(), cols, dx));
            grads.add(0, dx);
        }))
    }

    fn last_axis(&self, op: &'static str) -> Result<usize, TensorError> {
        match self.shape().last() {
            Some(&cols) if cols > 0 => Ok(cols),
            _ => Err(TensorError::shape(op, "a last axis that isn't empty", &[self.shape()])),
        }
    }
}
