//! What can go wrong with a tokenizer, and what to do about it.

use std::path::PathBuf;

/// Shorthand for results of this crate.
pub type Result<T, E = TokenizerError> = std::result::Result<T, E>;

/// Anything that loading, training or using a tokenizer can fail with.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file could not be read or written; the message carries its path.
    #[error("{0}")]
    Io(#[from] std::io::Error),

    /// A folder holds none of the known tokenizer files.
    #[error(
        "no tokenizer in {path}: expected tokenizer.json, or encoder.json with vocab.bpe, or vocab.json with \
         merges.txt\nhint: {hint}"
    )]
    NoTokenizer {
        /// The folder that was searched.
        path: PathBuf,
        /// What to try.
        hint: &'static str,
    },

    /// A tokenizer file is there but does not say what it should.
    #[error("bad tokenizer file {path}: {problem}")]
    BadFile {
        /// The file, or a description of where the JSON came from.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },

    /// The requested vocabulary cannot hold even the bytes and the special tokens.
    #[error(
        "vocabulary too small: asked for {asked}, but 256 bytes and {specials} special tokens need at least \
         {needed}\nhint: raise the vocabulary size to {needed} or more"
    )]
    VocabularyTooSmall {
        /// The size asked for.
        asked: usize,
        /// How many special tokens were asked for.
        specials: usize,
        /// The smallest size that works.
        needed: usize,
    },

    /// There was no text to train on.
    #[error("the training text is empty\nhint: check that the files hold text in the field that is read")]
    EmptyCorpus,

    /// The text iterator handed to a trainer failed.
    #[error("{0}")]
    Text(Box<dyn std::error::Error + Send + Sync>),

    /// A special token is unusable.
    #[error("bad special token {token:?}: {problem}")]
    BadSpecial {
        /// The token as given.
        token: String,
        /// Why it cannot be used.
        problem: &'static str,
    },

    /// A character has no token, and there is no unknown token to stand for it.
    #[error(
        "character {character:?} (U+{code:04X}) at byte {position} is not in the vocabulary, and the tokenizer \
         has no unknown token\nhint: train the tokenizer on text that contains it, or use a byte-level tokenizer",
        code = *character as u32
    )]
    UnknownCharacter {
        /// The character.
        character: char,
        /// Its byte offset in the text.
        position: usize,
    },

    /// An id that no token has.
    #[error(
        "token id {id} at position {position} is not in the vocabulary of {vocab_size}\nhint: the ids come from \
         another tokenizer"
    )]
    UnknownId {
        /// The id.
        id: u32,
        /// Its index in the sequence.
        position: usize,
        /// One more than the largest id.
        vocab_size: usize,
    },

    /// A pre-tokenizer name that is not one of the known three.
    #[error("unknown pre-tokenizer {name:?}: expected one of gpt-2, llama-bpe, qwen2")]
    UnknownPreTokenizer {
        /// The name as given.
        name: String,
    },

    /// A tokenizer that no GGUF file can hold.
    #[error(
        "this tokenizer can't go into a GGUF file, because llama.cpp has none that means the same: {problem}\n\
         hint: keep the model as a folder"
    )]
    NoGguf {
        /// What differs.
        problem: String,
    },

    /// The encoding pipeline refused the text.
    #[error("cannot encode: {0}")]
    Encode(String),

    /// The decoding pipeline refused the ids.
    #[error("cannot decode: {0}")]
    Decode(String),
}

impl TokenizerError {
    /// Whether the input or the call was wrong, as against the machine failing; the command line
    /// maps this to exit code 2.
    pub fn is_input_error(&self) -> bool {
        match self {
            Self::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
            _ => true,
        }
    }
}
