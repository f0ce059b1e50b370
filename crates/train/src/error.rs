//! What can go wrong in training, and what to do about it.

use std::path::PathBuf;

/// An error of a training run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A file can't be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The model, or its files.
    #[error(transparent)]
    Model(#[from] hearth_model::ModelError),
    /// The corpus, or its shards.
    #[error(transparent)]
    Data(#[from] hearth_data::DataError),
    /// The tokenizer, or its files.
    #[error(transparent)]
    Tokenizer(#[from] hearth_tokenizer::TokenizerError),
    /// Drawing a sample.
    #[error(transparent)]
    Engine(#[from] hearth_engine::EngineError),
    /// An operation on tensors.
    #[error(transparent)]
    Tensor(#[from] hearth_tensor::TensorError),
    /// A classifier or tagger of the classical kind.
    #[error(transparent)]
    Classical(#[from] crate::classical::ClassicalError),
    /// A recipe that can't be.
    #[error("{place}: {problem}")]
    Recipe {
        /// The recipe's file, or the flag.
        place: String,
        /// What was found and expected.
        problem: String,
    },
    /// A checkpoint that can't be resumed from.
    #[error("{path}: {problem}", path = path.display())]
    Checkpoint {
        /// The checkpoint's file or folder.
        path: PathBuf,
        /// What was found and expected.
        problem: String,
    },
    /// A folder that can't take this run.
    #[error("{folder}: {problem}", folder = folder.display())]
    Folder {
        /// The run's folder.
        folder: PathBuf,
        /// What was found, and what to do.
        problem: String,
    },
    /// Stopped before there was anything to keep.
    #[error("stopped before the first step")]
    Stopped,
    /// The curves couldn't be drawn.
    #[error("drawing the curves: {problem}")]
    Plot {
        /// What the plotting library says.
        problem: String,
    },
    /// The run went wrong numerically.
    #[error(
        "{what} is not a finite number at step {step}\nhint: the last checkpoint is good; a lower learning rate or a longer warm-up usually helps"
    )]
    NotFinite {
        /// What isn't finite.
        what: &'static str,
        /// The step.
        step: u64,
    },
}

impl TrainError {
    /// Whether the input or the call was wrong, rather than the run.
    pub fn is_usage(&self) -> bool {
        match self {
            TrainError::Data(e) => e.kind() == hearth_data::ErrorKind::Input,
            TrainError::Io(e) => e.kind() == std::io::ErrorKind::NotFound,
            TrainError::Engine(e) => e.is_input_error(),
            TrainError::Recipe { .. } | TrainError::Checkpoint { .. } | TrainError::Folder { .. } => true,
            TrainError::Classical(_) => true,
            TrainError::Model(e) => !matches!(e, hearth_model::ModelError::Io(_)),
            TrainError::Tokenizer(e) => e.is_input_error(),
            _ => false,
        }
    }
}
