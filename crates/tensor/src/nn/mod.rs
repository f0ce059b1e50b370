//! Coarse operations with hand-written backward passes: what Transformers spend their time in.
//!
//! Shape letters: B batch, T time, N rows (B·T), C channels, H heads, D head dimension, V vocabulary.

mod attention;
mod embedding;
mod linear;
mod loss;
mod norm;
mod recurrent;

pub use attention::{attention, attention_qkv, rope};
pub use embedding::{embedding, sum_rows};
pub use linear::{activation, add_low_rank, linear, linear_half, linear_in_out, swiglu};
pub use loss::{CrossEntropyOptions, LossOutput, binary_cross_entropy, cross_entropy, linear_cross_entropy};
pub use norm::{layer_norm, rms_norm};
pub use recurrent::{Cell, recurrent};
