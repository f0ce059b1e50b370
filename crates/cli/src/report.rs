//! What `generate`, its beam search and `chat` say about a generation alike.

use hearth_engine::Timings;
use serde_json::{Value, json};

/// The JSON result of `generate`: what was written, and how fast.
pub fn completions(listed: Vec<Value>, timings: &Timings) -> Value {
    json!({
        "completions": listed,
        "prompt_tokens": timings.prompt_tokens,
        "prompt_tokens_per_second": timings.prompt_speed(),
        "generate_tokens_per_second": timings.generate_speed(),
        "first_token_ms": timings.first_token_seconds * 1e3,
    })
}

/// Why a text ends before it is as long as it may be.
pub const CONTEXT_FULL: &str = "the model's context is full";

/// What became of tokens that a full context had no more room for.
pub fn dropped(tokens: &str, keep: usize) -> String {
    format!("the context was full: {tokens} tokens after the first {keep} were dropped")
}
