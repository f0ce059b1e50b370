//! Tests of tensors through their public interface.

mod autograd;
mod gradcheck;
mod nn;
mod ops;
