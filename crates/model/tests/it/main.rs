//! Integration tests of the model crate, in one binary.

mod executors;
mod folder;
mod gguf;
