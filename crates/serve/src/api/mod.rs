//! What may be asked for, and the shapes of what is answered: OpenAI's interface, and what the page needs beside it.

pub mod chat;
pub mod completions;
pub mod conversations;
pub mod dialogue;
pub mod embeddings;
pub mod logprobs;
pub mod openapi;
pub mod params;
pub mod responses;
pub mod runs;
pub mod stream;
pub mod tasks;
pub mod tokens;
pub mod tools;

use crate::error::ApiError;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hearth_engine::{FinishReason, Finished};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Reads a body of JSON; an error names the field.
///
/// # Errors
/// If it isn't JSON, or a field isn't what it should be.
pub fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            ApiError { param: (path != ".").then_some(path), ..ApiError::bad(inner.to_string()) }
        } else {
            ApiError::bad(format!("the body isn't JSON: {inner}")).code("invalid_json")
        }
    })?;
    reader
        .end()
        .map_err(|error| ApiError::bad(format!("the body isn't JSON: {error}")).code("invalid_json"))?;
    Ok(value)
}

/// What stands behind the `?` of an address; an error has the shape of all others.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Asked(asked)),
            Err(rejection) => Err(ApiError::bad(rejection.body_text())),
        }
    }
}

/// An answer of JSON.
pub fn answer(json: &Value) -> Response {
    let mut response = (StatusCode::OK, Body::from(json.to_string())).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A new id that begins with `prefix`.
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}-{:032x}", rand::random::<u128>())
}

/// How OpenAI calls why a continuation ended.
pub fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::Eos | FinishReason::Cancelled => "stop",
        FinishReason::Length | FinishReason::ContextFull => "length",
    }
}

/// Tokens that a request took, and how long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    prompt: usize,
    cached: usize,
    completion: usize,
    prompt_ms: f64,
    predicted_ms: f64,
}

impl Usage {
    /// Adds a continuation; the prompt of a request counts once.
    pub fn add(&mut self, finished: &Finished, first_of_prompt: bool) {
        let Ok(completion) = &finished.completion else { return };
        if first_of_prompt {
            self.prompt += completion.prompt_tokens;
            self.cached += finished.reused_tokens;
        }
        self.completion += completion.tokens.len();
        self.prompt_ms =
            self.prompt_ms.max((finished.times.waited + finished.times.prompt).as_secs_f64() * 1e3);
        self.predicted_ms = self.predicted_ms.max(finished.times.generate.as_secs_f64() * 1e3);
    }

    /// Tokens of prompts and continuations.
    pub fn tokens(&self) -> (usize, usize) {
        (self.prompt, self.completion)
    }

    /// OpenAI's `usage`.
    pub fn json(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": { "cached_tokens": self.cached },
        })
    }

    /// How long it took.
    pub fn timings(&self) -> Value {
        let rate = if self.predicted_ms > 0.0 {
            (self.completion.saturating_sub(1)) as f64 / self.predicted_ms * 1e3
        } else {
            0.0
        };
        json!({
            "prompt_ms": self.prompt_ms,
            "predicted_ms": self.predicted_ms,
            "predicted_per_second": rate,
        })
    }
}
