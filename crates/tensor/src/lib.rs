//! Tensors with reverse-mode automatic differentiation.
//!
//! A [`Tensor`] is a contiguous row-major array of `f32` that remembers, if anything it was made from
//! is a [`parameter`](Tensor::parameter), how to pass a gradient back. Coarse operations with
//! hand-written backward passes live in [`nn`]; small ones, enough to write any network with, are
//! methods of [`Tensor`].
//!
//! Learning XOR with a hidden layer:
//!
//! ```
//! use hearth_tensor::{Rng, Tensor, TensorError, nn};
//!
//! # fn main() -> Result<(), TensorError> {
//! let x = Tensor::from_vec(vec![0., 0., 0., 1., 1., 0., 1., 1.], &[4, 2])?;
//! let y = Tensor::from_vec(vec![0., 1., 1., 0.], &[4, 1])?;
//! let mut rng = Rng::new(3);
//! let mut parameters = [
//!     Tensor::randn(&[8, 2], 1.0, &mut rng).parameter(),
//!     Tensor::zeros(&[8]).parameter(),
//!     Tensor::randn(&[1, 8], 0.5, &mut rng).parameter(),
//! ];
//! let mut last = f32::INFINITY;
//! for _ in 0..500 {
//!     let [w1, b1, w2] = &parameters;
//!     let hidden = nn::linear(&x, w1, Some(b1), None)?.tanh();
//!     let error = nn::linear(&hidden, w2, None, None)?.sub(&y)?;
//!     let loss = error.mul(&error)?.mean();
//!     loss.backward()?;
//!     last = loss.item()?;
//!     drop((hidden, error, loss));
//!     for p in &mut parameters {
//!         let gradient = p.take_grad().expect("every parameter was used");
//!         for (w, g) in p.data_mut().iter_mut().zip(gradient.data()) {
//!             *w -= 0.3 * g;
//!         }
//!     }
//! }
//! assert!(last < 0.01, "{last}");
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod autograd;
mod error;
mod half;
pub mod nn;
mod ops;
mod rng;
mod tensor;

pub use autograd::{Grads, checkpoint, grad_enabled, no_grad};
pub use error::TensorError;
pub use half::{HalfTensor, HalfType};
pub use rng::Rng;
pub use tensor::Tensor;
