//! `POST /tokenize` and `/detokenize`.

use crate::api::{answer, read};
use crate::app::App;
use crate::error::ApiError;
use crate::models::{Task, TextModel};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Debug, Deserialize)]
struct Text {
    model: Option<String>,
    content: String,
    /// Recognise special tokens that are spelled out.
    parse_special: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Tokens {
    model: Option<String>,
    tokens: Vec<u32>,
}

async fn model(app: &App, name: Option<&str>) -> Result<Arc<TextModel>, ApiError> {
    Ok(app.models.text(name, &[Task::Chat, Task::Completion]).await?.1)
}

/// The tokens of a text.
///
/// # Errors
/// If a character has no token.
pub async fn tokenize(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, ApiError> {
    let Text { model: name, content, parse_special } = read(&body)?;
    let model = model(&app, name.as_deref()).await?;
    let ids = match parse_special.unwrap_or(false) {
        true => model.tokenizer.encode_with_special(&content),
        false => model.tokenizer.encode(&content),
    };
    let ids = ids.map_err(|error| ApiError::field("content", error.to_string()))?;
    let token = |&id: &u32| {
        let bytes = model.tokenizer.token_bytes(id).unwrap_or_default();
        json!({ "id": id, "piece": String::from_utf8_lossy(bytes) })
    };
    Ok(answer(&json!({ "tokens": ids.iter().map(token).collect::<Vec<Value>>() })))
}

/// The text of tokens.
///
/// # Errors
/// If an id has no token.
pub async fn detokenize(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, ApiError> {
    let Tokens { model: name, tokens } = read(&body)?;
    let model = model(&app, name.as_deref()).await?;
    let text = model.tokenizer.decode(&tokens, false);
    let text = text.map_err(|error| ApiError::field("tokens", error.to_string()))?;
    Ok(answer(&json!({ "content": text })))
}
