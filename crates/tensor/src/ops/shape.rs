//! Other shapes over the same values.

use crate::autograd::record;
use crate::error::TensorError;
use crate::tensor::Tensor;

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
}
