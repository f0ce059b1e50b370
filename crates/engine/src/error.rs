//! What can go wrong between a text and its continuation, and what to do about it.

use hearth_model::ModelError;
use hearth_tokenizer::TokenizerError;
use std::path::PathBuf;

/// Shorthand for results of this crate.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Anything that opening or running a model with its tokenizer can fail with.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model, or its files.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// The tokenizer, or its files.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),

    /// A file can't be read; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),

    /// A file beside the model says something that can't be.
    #[error("{path}: {problem}", path = path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// Expected and got.
        problem: String,
    },

    /// The tokenizer makes ids that the model has no rows for.
    #[error(
        "{place}: the tokenizer has {tokenizer} entries, but the model's vocabulary only {model}\nhint: the \
         two don't belong together; use the tokenizer that the model was trained with"
    )]
    VocabularyMismatch {
        /// The folder, or what was being put together.
        place: String,
        /// Entries of the tokenizer.
        tokenizer: usize,
        /// V.
        model: usize,
    },

    /// A chat template that isn't one, or that doesn't come to an end, or that refuses a conversation.
    #[error("chat template{at}: {problem}", at = line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Template {
        /// The line of the template, from one.
        line: Option<usize>,
        /// What is wrong.
        problem: String,
    },

    /// What was written doesn't do what it was made from.
    #[error(
        "{path}: {what} aren't those of the model it was made from, so it wasn't kept\nhint: this is a \
         mistake in Hearth, or of the disk; please report it with the model's name", path = path.display()
    )]
    Export {
        /// The file or folder.
        path: PathBuf,
        /// What differs.
        what: String,
    },

    /// An empty prompt, and no token that could begin a text.
    #[error(
        "the prompt is empty, and the tokenizer has no token that begins a text (neither bos, nor eos, nor \
         <|endoftext|>)\nhint: give at least one character to continue from"
    )]
    EmptyPrompt,

    /// A text with a gap, and a model that can't fill it in.
    #[error(
        "the model can't fill in a middle: its tokenizer has {missing}\nhint: take a model that was trained for \
         it, such as Qwen2.5-Coder or StarCoder2; or give a prompt without a suffix"
    )]
    NoInfill {
        /// The tokens that it lacks.
        missing: String,
    },

    /// A prompt that leaves no room for a single token.
    #[error(
        "the prompt has {tokens} tokens, but the model's context holds {context}, the continuation included\n\
         hint: shorten the prompt to at most {most} tokens", most = context.saturating_sub(1)
    )]
    PromptTooLong {
        /// Tokens of the prompt, one that was put in front included.
        tokens: usize,
        /// Tokens that fit.
        context: usize,
    },

    /// A pair of texts for a model that would see them as one.
    #[error(
        "text {} is a pair, and the model's tokenizer puts no token between two texts, so that it would see one\nhint: \
         start from an encoder, such as a bert, or put both into one text",
        text + 1
    )]
    NothingBetween {
        /// Its index.
        text: usize,
    },

    /// A request that can't be carried out.
    #[error("request {request}: {problem}")]
    Request {
        /// Its index.
        request: usize,
        /// Expected, got, what to do.
        problem: String,
    },

    /// A sampling setting outside its range.
    #[error("sampling: {name} is {got}, expected {expected}")]
    Sampling {
        /// The setting.
        name: &'static str,
        /// Its value.
        got: String,
        /// Its range.
        expected: &'static str,
    },

    /// A setting of a beam search outside its range.
    #[error("beam search: {name} is {got}, expected {expected}")]
    BeamSearch {
        /// The setting.
        name: &'static str,
        /// Its value.
        got: String,
        /// Its range.
        expected: String,
    },

    /// A constraint that isn't one, or that no output of this vocabulary can fulfil.
    #[error("{kind}: {problem}")]
    Constraint {
        /// Which kind of constraint.
        kind: &'static str,
        /// Where, and what is wrong.
        problem: String,
    },

    /// A draft model that doesn't fit the model, or drafts that can't be made.
    #[error("draft: {problem}")]
    Draft {
        /// Expected, got, what to do.
        problem: String,
    },

    /// The model's output isn't a distribution.
    #[error(
        "the model's logits at position {position} aren't finite numbers\nhint: its weights are damaged, or its \
         training diverged; go back to an earlier checkpoint"
    )]
    NotFinite {
        /// Tokens before the one that was to be predicted.
        position: usize,
    },

    /// An embedding isn't a vector of numbers.
    #[error(
        "the vector of text {} isn't finite numbers\nhint: the model's weights are damaged, or its training \
         diverged", text + 1
    )]
    VectorNotFinite {
        /// Its index among those that were given.
        text: usize,
    },

    /// Every token is ruled out.
    #[error(
        "no token is left to choose at position {position}\nhint: raise no_repeat_ngram (or set it to 0), or \
         remove biases of minus infinity"
    )]
    NothingLeft {
        /// Tokens before the one that was to be chosen.
        position: usize,
    },

    /// A window for scoring that doesn't fit the model.
    #[error("a scoring window of {ctx} tokens doesn't fit: expected 2 to {context}, the model's context")]
    BadWindow {
        /// Tokens a window.
        ctx: usize,
        /// Tokens that fit.
        context: usize,
    },

    /// Too little text to score.
    #[error("the text has {tokens} tokens, but scoring it needs at least {needed}\nhint: {hint}")]
    TooShort {
        /// Tokens of the text.
        tokens: usize,
        /// Tokens that would do.
        needed: usize,
        /// What helps.
        hint: &'static str,
    },

    /// An adapter that can't go beside a model's weights.
    #[error("{folder}: {problem}", folder = folder.display())]
    Adapter {
        /// The adapter's folder.
        folder: PathBuf,
        /// Expected, got, what to do.
        problem: String,
    },

    /// No more requests are taken on for now.
    #[error("{waiting} requests wait already\nhint: try again when some of them have ended")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
    },

    /// The model failed while it worked on this and other requests.
    #[error("the model failed: {problem}")]
    Failed {
        /// What was wrong.
        problem: String,
    },

    /// The caller stopped the work.
    #[error("stopped before the end")]
    Interrupted,
}

impl EngineError {
    /// Whether the input or the call was wrong, as against the machine or the weights failing; the
    /// command line maps this to exit code 2.
    pub fn is_input_error(&self) -> bool {
        let missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        match self {
            Self::Io(error) | Self::Model(ModelError::Io(error)) => missing(error),
            Self::Tokenizer(error) => error.is_input_error(),
            Self::Model(ModelError::Tensor(_)) | Self::NotFinite { .. } | Self::VectorNotFinite { .. } => {
                false
            }
            Self::Interrupted | Self::QueueFull { .. } | Self::Failed { .. } => false,
            _ => true,
        }
    }
}
