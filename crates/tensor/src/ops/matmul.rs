//! The matrix product over stacks of matrices.

use crate::autograd::record;
use crate::error::TensorError;
use crate::ops::broadcast::{common_shape, repeat_to, sum_to};
use crate::tensor::Tensor;
use hearth_kernel::gemm::{Write, gemm_batched};

/// `a b` over stacks, the last two axes of either exchanged if asked; shapes are known to fit and the
/// stacks to be of one shape.
fn product(a: &Tensor, exchange_a: bool, b: &Tensor, exchange_b: bool) -> Tensor {
    let size = |t: &Tensor, exchanged: bool| {
        let [.., rows, cols] = *t.shape() else { unreachable!("matmul checked that there are two axes") };
        if exchanged { (cols, rows) } else { (rows, cols) }
    };
    let ((m, k), (_, n)) = (size(a, exchange_a), size(b, exchange_b));
    let stack = &a.shape()[..a.rank() - 2];
    let shape = [stack, &[m, n]].concat();
    let batch = stack.iter().product();
    Tensor::filled(&shape, |y| {
        gemm_batched(batch, a.data(), exchange_a, b.data(), exchange_b, y, m, k, n, Write::Overwrite);
    })
}

impl Tensor {
    /// The matrix product: [.., M, K] times [.., K, N] is [.., M, N]; the axes in front broadcast.
    ///
    /// # Errors
    /// If one has fewer than two axes, or the shapes don't fit.
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor, TensorError> {
        let misfit =
            || TensorError::shape("matmul", "[.., M, K] and [.., K, N]", &[self.shape(), other.shape()]);
        let ([front_a @ .., m, k], [front_b @ .., k_b, n]) = (self.shape(), other.shape()) else {
            return Err(misfit());
        };
        if k != k_b {
            return Err(misfit());
        }
        // One matrix on the right serves all rows on the left: a single tall product.
        if front_b.is_empty() && !front_a.is_empty() {
            let rows = self.len() / k.max(&1);
            let shape = [front_a, &[*m, *n]].concat();
            return match *k {
                0 => Ok(Tensor::zeros(&shape)),
                _ => self.reshape(&[rows, *k])?.matmul(other)?.reshape(&shape),
            };
        }
        let front = common_shape("matmul", front_a, front_b)?;
        let wide_a = repeat_to(self, &[&front[..], &[*m, *k]].concat());
        let wide_b = repeat_to(other, &[&front[..], &[*k, *n]].concat());
        let (shape_a, shape_b) = (self.shape().to_vec(), other.shape().to_vec());
        let y = product(&wide_a, false, &wide_b, false);
        Ok(record(y, &[self, other], move |dy, grads| {
            if grads.needs(0) {
                grads.add(0, sum_to(product(&dy, false, &wide_b, true), &shape_a));
            }
            if grads.needs(1) {
                grads.add(1, sum_to(product(&wide_a, true, &dy, false), &shape_b));
            }
        }))
    }
}
