//! Room for what is deeply nested: sums of thousands of terms in a template, lists within lists in what it
//! makes. Each is walked over by functions that call themselves, and a stack that overflows ends the process.

use crate::error::{EngineError, Result};
use std::panic::resume_unwind;
use std::thread::{Builder, scope};

/// For a template of the largest size, a level a byte.
const STACK_BYTES: usize = 128 << 20;
/// For values: a level takes some six steps to make, and up to 1.3 KiB when two values are compared.
const STACK_BYTES_A_STEP: usize = 256;

/// Calls `work` on a stack that what a template of the largest size and `fuel` steps nest can't overflow. Only the
/// part of it that is used takes memory.
///
/// # Errors
/// If the system gives no such stack.
pub(super) fn with_stack<T: Send>(fuel: u64, work: impl FnOnce() -> T + Send) -> Result<T> {
    let steps = usize::try_from(fuel).unwrap_or(usize::MAX);
    let bytes = STACK_BYTES.saturating_add(steps.saturating_mul(STACK_BYTES_A_STEP));
    scope(|scope| {
        let thread = Builder::new().stack_size(bytes).spawn_scoped(scope, work).map_err(|error| {
            let problem = format!("a stack of {bytes} bytes to render it on: {error}");
            EngineError::Template { line: None, problem }
        })?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
