//! What can go wrong with a model's files, and what to do about it.

use std::path::PathBuf;

/// An error about a model or its files.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file can't be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A configuration that can't be.
    #[error("{place}: {problem}")]
    Config {
        /// The file, or what was being configured.
        place: String,
        /// What was found and expected.
        problem: String,
    },
    /// A folder that isn't a model.
    #[error("{folder}: no {missing}, so this isn't a model folder\nhint: a model folder holds config.json, model.safetensors and tokenizer.json", folder = folder.display())]
    NotAModel {
        /// The folder.
        folder: PathBuf,
        /// The file that's missing.
        missing: &'static str,
    },
    /// A folder that isn't an adapter.
    #[error("{folder}: no {missing}, so this isn't the folder of an adapter\nhint: one in PEFT's format holds adapter_config.json and adapter_model.safetensors", folder = folder.display())]
    NotAnAdapter {
        /// The folder.
        folder: PathBuf,
        /// The file that's missing.
        missing: &'static str,
    },
    /// A weights file that isn't what the configuration asks for.
    #[error("{file}: {problem}", file = file.display())]
    Weights {
        /// The file.
        file: PathBuf,
        /// Tensor, expected, got.
        problem: String,
    },
    /// More tokens than the model has positions, or than a cache has room for.
    #[error("{got} tokens don't fit: {what} has room for {limit}\nhint: {hint}")]
    Context {
        /// What ran out.
        what: &'static str,
        /// Tokens asked for.
        got: usize,
        /// Tokens there is room for.
        limit: usize,
        /// What helps.
        hint: &'static str,
    },
    /// A token id outside the vocabulary.
    #[error(
        "token id {id} is outside the model's vocabulary of {vocab_size}\nhint: was the text encoded with another model's tokenizer?"
    )]
    TokenId {
        /// The id.
        id: u32,
        /// V.
        vocab_size: usize,
    },
    /// An operation on tensors failed.
    #[error(transparent)]
    Tensor(#[from] hearth_tensor::TensorError),
}
