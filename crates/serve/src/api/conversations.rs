//! `/api/conversations`: what the page keeps, and finds again.

use crate::api::{Asked, answer, read};
use crate::app::{App, Caller};
use crate::conversations::{Conversations, Head, Said, StoreError};
use crate::error::ApiError;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

/// Lines of a list, where none are asked for, and at most.
const USUAL_LINES: u32 = 50;
const MOST_LINES: u32 = 200;
/// Characters of an identifier.
const LONGEST_ID: usize = 64;
/// Characters of a title.
const LONGEST_TITLE: usize = 200;

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Unknown(_) => {
                ApiError::new(StatusCode::NOT_FOUND, message).code("conversation_not_found")
            }
            _ => ApiError::internal(message),
        }
    }
}

/// Does something with the conversations of whoever asks, away from the threads that must not wait for a disk.
async fn stored<T: Send + 'static>(
    app: &Arc<App>,
    caller: Caller,
    work: impl FnOnce(&Conversations, &str) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let app = app.clone();
    let work = move || {
        let store = app.conversations.as_ref().ok_or_else(|| {
            let message = "this server keeps no conversations";
            ApiError::new(StatusCode::NOT_FOUND, message).code("not_kept")
        })?;
        Ok(work(store, app.keys.name(caller.client))?)
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::internal(error.to_string()))?
}

fn json_of(value: &impl Serialize) -> Result<Response, ApiError> {
    let json = serde_json::to_value(value).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(answer(&json))
}

fn check_id(id: &str) -> Result<(), ApiError> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if id.is_empty() || id.len() > LONGEST_ID || !id.bytes().all(is_fine) {
        let message = format!("an identifier has 1 to {LONGEST_ID} letters, digits, - and _");
        return Err(ApiError::field("id", message));
    }
    Ok(())
}

/// What of a list is wanted.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    query: Option<String>,
    limit: Option<u32>,
    skip: Option<u32>,
}

/// Lines of the latest conversations, or of those where words come up.
///
/// # Errors
/// If they can't be read.
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(wanted): Asked<Wanted>,
) -> Result<Response, ApiError> {
    let limit = wanted.limit.unwrap_or(USUAL_LINES);
    if !(1..=MOST_LINES).contains(&limit) {
        return Err(ApiError::field("limit", format!("{limit}, expected 1 to {MOST_LINES}")));
    }
    let (limit, skip) = (limit as usize, wanted.skip.unwrap_or(0) as usize);
    let lines =
        stored(&app, caller, move |store, owner| store.list(owner, wanted.query.as_deref(), limit, skip));
    let lines = lines.await?;
    let more = lines.len() == limit;
    json_of(&json!({ "conversations": lines, "more": more }))
}

/// A conversation with all that was said in it.
///
/// # Errors
/// If there is none.
pub async fn get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    json_of(&stored(&app, caller, move |store, owner| store.get(owner, &id)).await?)
}

/// Begins a conversation, or says anew what it is.
///
/// # Errors
/// If it can't be kept.
pub async fn put(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, ApiError> {
    check_id(&id)?;
    let head: Head = read(&body)?;
    if head.title.chars().count() > LONGEST_TITLE {
        return Err(ApiError::field("title", format!("longer than {LONGEST_TITLE} characters")));
    }
    let done = json!({ "id": id });
    stored(&app, caller, move |store, owner| store.put(owner, &id, &head)).await?;
    Ok(answer(&done))
}

/// Removes a conversation.
///
/// # Errors
/// If there is none.
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let done = json!({ "id": id, "deleted": true });
    let removed = stored(&app, caller, move |store, owner| match store.remove(owner, &id)? {
        true => Ok(()),
        false => Err(StoreError::Unknown(id)),
    });
    removed.await?;
    Ok(answer(&done))
}

/// Adds a message to a conversation, or says anew what it is.
///
/// # Errors
/// If there is no such conversation, or it can't be kept.
pub async fn say(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((id, message)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, ApiError> {
    check_id(&message)?;
    let said: Said = read(&body)?;
    let done = json!({ "id": message });
    stored(&app, caller, move |store, owner| store.say(owner, &id, &message, &said)).await?;
    Ok(answer(&done))
}
