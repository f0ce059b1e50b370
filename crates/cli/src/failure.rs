//! Errors on their way out: what is printed, and with which code the process ends.

use hearth_data::{DataError, ErrorKind};
use hearth_engine::EngineError;
use hearth_model::ModelError;
use hearth_tokenizer::TokenizerError;
use hearth_train::TrainError;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// Something about the call that no library judges.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The user stopped the work; what is to be said about it.
#[derive(Debug)]
pub struct Stopped(pub String);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stopped {}

const FAILED: u8 = 1;
const WRONG_INPUT: u8 = 2;
const INTERRUPTED: u8 = 130;

/// Prints `error` and gives the exit code: 1 failed, 2 the input or the call was wrong, 130 interrupted.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let io_kind = error.chain().find_map(|e| e.downcast_ref::<io::Error>()).map(io::Error::kind);
    if io_kind == Some(io::ErrorKind::BrokenPipe) {
        // Whoever read our output has had enough.
        return ExitCode::SUCCESS;
    }
    if matches!(error.downcast_ref(), Some(TrainError::Stopped)) {
        eprintln!("{error}");
        return ExitCode::from(INTERRUPTED);
    }
    if matches!(error.downcast_ref(), Some(EngineError::Interrupted)) {
        eprintln!("interrupted");
        return ExitCode::from(INTERRUPTED);
    }
    if let Some(Stopped(message)) = error.downcast_ref() {
        eprintln!("{message}");
        return ExitCode::from(INTERRUPTED);
    }
    let mut last = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let text = cause.to_string();
        // A transparent error repeats its source.
        if text != last && !last.ends_with(&text) {
            eprintln!("{}{text}", if depth == 0 { "error: " } else { "caused by: " });
        }
        last = text;
    }
    let full = error.chain().any(|e| e.to_string().contains("No space left on device"));
    if full {
        eprintln!("hint: the disk is full; make room, or write elsewhere");
    }
    ExitCode::from(if full || error.chain().any(is_wrong_input) { WRONG_INPUT } else { FAILED })
}

fn is_wrong_input(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<TrainError>() {
        return error.is_usage();
    }
    if let Some(error) = error.downcast_ref::<EngineError>() {
        return error.is_input_error();
    }
    if let Some(error) = error.downcast_ref::<TokenizerError>() {
        return error.is_input_error();
    }
    if let Some(error) = error.downcast_ref::<DataError>() {
        return error.kind() == ErrorKind::Input;
    }
    if let Some(error) = error.downcast_ref::<ModelError>() {
        return !matches!(error, ModelError::Io(_) | ModelError::Tensor(_));
    }
    let missing = [io::ErrorKind::NotFound, io::ErrorKind::IsADirectory, io::ErrorKind::InvalidData];
    error.is::<Usage>() || error.downcast_ref::<io::Error>().is_some_and(|e| missing.contains(&e.kind()))
}
