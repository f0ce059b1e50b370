//! Dropout.

use crate::autograd::record;
use crate::error::TensorError;
use crate::rng::Rng;
use crate::tensor::Tensor;

impl Tensor {
    /// Zeroes each value with probability `p` and divides the others by `1 - p` (Srivastava et al.
    /// 2014). The same seed zeroes the same places.
    ///
    /// # Errors
    /// If `p` isn't in 0..1.
    pub fn dropout(&self, p: f32, seed: u64) -> Result<Tensor, TensorError> {
        if !(0.0..1.0).contains(&p) {
            let expected = "a probability of at least 0 and below 1".to_owned();
            return Err(TensorError::Shape { op: "dropout", expected, got: p.to_string() });
        }
        let mask = move |x: &Tensor| {
            let (mut rng, keep) = (Rng::new(seed), 1.0 / (1.0 - p));
            Tensor::filled(x.shape(), |y| {
                for (y, x) in y.iter_mut().zip(x.data()) {
                    *y = if rng.uniform() < p { 0.0 } else { x * keep };
                }
            })
        };
        // The mask is drawn again on the way back rather than kept.
        Ok(record(mask(self), &[self], move |dy, grads| grads.add(0, mask(&dy))))
    }
}
