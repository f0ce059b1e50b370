//! Rows of a table by their ids.

use crate::autograd::record;
use crate::error::TensorError;
use crate::tensor::Tensor;
use hearth_kernel::embedding::{embedding_backward, embedding_forward};
use hearth_kernel::gemm::Write;
use hearth_kernel::profile::pass;

/// Row `ids[n]` of `table` [V, C] for each n: [N, C].
///
/// # Errors
/// If the table isn't of two dimensions, or an id lies outside it.
pub fn embedding(table: &Tensor, ids: &[u32]) -> Result<Tensor, TensorError> {
    let &[rows, cols] = table.shape() else {
        return Err(TensorError::shape("embedding", "a table [V, C]", &[table.shape()]));
    };
    if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
        return Err(TensorError::range("embedding", "id", i64::from(*id), rows));
    }
    let values = ids.len() * cols;
    let y = Tensor::filled(&[ids.len(), cols], |y| {
        pass("embedding", 2 * values, || {
            embedding_forward(table.data(), cols, ids, y);
        });
    });
    let ids = ids.to_vec();
    Ok(record(y, &[table], move |dy, grads| {
        grads.accumulate(0, &[rows, cols], |dtable, write| {
            pass("embedding, gradient", 2 * values, || {
                if write == Write::Overwrite {
                    dtable.fill(0.0);
                }
                embedding_backward(&ids, cols, dy.data(), dtable);
            });
        });
    }))
}

/// The transpose of [`embedding`]: row n of the result [rows, C] is the sum of the rows m of `x` [M, C] with
/// `places[m] = n`.
///
/// # Errors
/// If `x` isn't of two dimensions and M rows, or a place isn't below `rows`.
pub fn sum_rows(x: &Tensor, places: &[u32], rows: usize) -> Result<Tensor, TensorError> {
    let &[count, cols] = x.shape() else {
        return Err(TensorError::shape("sum_rows", "rows [M, C]", &[x.shape()]));
    };
    if count != places.len() {
        let expected = format!("{count} places, one a row");
        return Err(TensorError::Shape { op: "sum_rows", expected, got: places.len().to_string() });
    }
    if let Some(place) = places.iter().find(|&&place| place as usize >= rows) {
        return Err(TensorError::range("sum_rows", "place", i64::from(*place), rows));
    }
    let mut y = Tensor::zeros(&[rows, cols]);
    pass("sums of rows", 2 * x.len(), || embedding_backward(places, cols, x.data(), y.data_mut()));
    let places = places.to_vec();
    Ok(record(y, &[x], move |dy, grads| {
        grads.add(
            0,
            Tensor::filled(&[count, cols], |dx| {
                pass("sums of rows, gradient", 2 * dx.len(), || {
                    embedding_forward(dy.data(), cols, &places, dx);
                });
            }),
        );
    }))
}
