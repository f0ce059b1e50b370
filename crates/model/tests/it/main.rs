//! Integration tests of the model crate, in one binary.

mod encoder;
mod executors;
mod folder;
mod gguf;
mod updates;
