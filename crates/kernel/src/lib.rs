//! What must be fast: threads, buffers, matrix products, attention, norms, optimiser steps.
//!
//! The only crate with `unsafe` code. Every public function is safe: it checks lengths and shapes
//! before any pointer is formed. Results don't depend on the number of threads.
//!
//! Shape letters: B batch, T time (positions), C channels, H heads, D head dimension, V vocabulary,
//! M×K times K×N for matrix products.

pub mod activation;
mod arch;
pub mod attention;
pub mod buffer;
pub mod convert;
pub mod elementwise;
pub mod embedding;
pub mod gemm;
mod lanes;
pub mod loss;
pub mod mapped;
mod math;
pub mod muon;
pub mod norm;
pub mod optim;
pub mod peak;
pub mod pool;
pub mod profile;
pub mod qgemm;
pub mod quant;
pub mod rope;
pub mod softmax;
mod split;

pub use arch::{Isa, current as current_isa, with_isa};
pub use buffer::Buffer;
pub use half::{bf16, f16};
