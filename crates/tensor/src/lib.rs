//! Tensors with reverse-mode automatic differentiation over coarse operations.
#![forbid(unsafe_code)]
