//! Picking values by index along an axis, and adding them back.

use crate::autograd::record;
use crate::error::TensorError;
use crate::ops::{Axis, resized};
use crate::tensor::Tensor;

/// Calls `f(value, place)` for each index: the value's number among the indices, and the place along
/// the axis of the indexed tensor that it names.
fn each_place(index: &[u32], rows: usize, along: Axis, mut f: impl FnMut(usize, usize)) {
    let Axis { size, inner, .. } = along;
    for (i, &row) in index.iter().enumerate() {
        let (block, column) = (i / (rows * inner), i % inner);
        f(i, (block * size + row as usize) * inner + column);
    }
}

fn gathered(x: &[f32], index: &[u32], rows: usize, along: Axis, y: &mut [f32]) {
    each_place(index, rows, along, |i, place| y[i] = x[place]);
}

fn scattered(x: &[f32], index: &[u32], rows: usize, along: Axis, y: &mut [f32]) {
    each_place(index, rows, along, |i, place| y[place] += x[i]);
}

fn check(
    op: &'static str,
    shape: &[usize],
    axis: usize,
    index: &[u32],
    rows: usize,
) -> Result<Axis, TensorError> {
    let along = Axis::of(op, shape, axis)?;
    let wanted: usize = along.outer * rows * along.inner;
    if index.len() != wanted {
        let expected = format!("{wanted} indices, {:?} of them", resized(shape, axis, rows));
        return Err(TensorError::Shape { op, expected, got: index.len().to_string() });
    }
    match index.iter().find(|&&i| i as usize >= along.size) {
        Some(&i) => Err(TensorError::range(op, "index", i64::from(i), along.size)),
        None => Ok(along),
    }
}

impl Tensor {
    /// Along `axis`, the values that `index` names: `y[a][r][b] = x[a][index[a][r][b]][b]` with `rows`
    /// values r, where `index` is row-major in this shape with `rows` at `axis` (PyTorch's `gather`).
    ///
    /// # Errors
    /// If there is no such axis, or the indices are too many, too few or out of range.
    pub fn gather(&self, axis: usize, index: &[u32], rows: usize) -> Result<Tensor, TensorError> {
        let along = check("gather", self.shape(), axis, index, rows)?;
        let y = Tensor::filled(&resized(self.shape(), axis, rows), |y| {
            gathered(self.data(), index, rows, along, y);
        });
        let (index, shape) = (index.to_vec(), self.shape().to_vec());
        Ok(record(y, &[self], move |dy, grads| {
            let mut dx = Tensor::zeros(&shape);
            scattered(dy.data(), &index, rows, along, dx.data_mut());
            grads.add(0, dx);
        }))
    }

    /// This with the values of `source` added where `index` says along `axis`, in order:
    /// `y[a][index[a][r][b]][b] += source[a][r][b]` (PyTorch's `scatter_add`).
    ///
    /// # Errors
    /// If there is no such axis, the shapes differ elsewhere, or the indices aren't one a value of
    /// `source` and within range.
    pub fn scatter_add(&self, axis: usize, index: &[u32], source: &Tensor) -> Result<Tensor, TensorError> {
        let rows = source.shape().get(axis).copied().unwrap_or(0);
        let along = check("scatter_add", self.shape(), axis, index, rows)?;
        if resized(self.shape(), axis, rows) != source.shape() {
            let expected = format!("shapes that differ only at axis {axis}");
            return Err(TensorError::shape("scatter_add", expected, &[self.shape(), source.shape()]));
        }
        let mut y = self.detach();
        scattered(source.data(), index, rows, along, y.data_mut());
        let (index, shape) = (index.to_vec(), source.shape().to_vec());
        Ok(record(y, &[self, source], move |dy, grads| {
            if grads.needs(1) {
                grads.add(1, Tensor::filled(&shape, |d| gathered(dy.data(), &index, rows, along, d)));
            }
            grads.add(0, dy);
        }))
    }
}
