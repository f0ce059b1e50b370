//! What all requests share, and which of them goes where.

use crate::api::{
    answer, chat, completions, conversations, embeddings, openapi, responses, runs, tasks, tokens,
};
use crate::conversations::Conversations;
use crate::door::{DoorOptions, guard_door};
use crate::error::ApiError;
use crate::guard::Guard;
use crate::keys::Keys;
use crate::metrics::{Metrics, measure};
use crate::models::{Entry, Models, TextModel};
use crate::page;
use crate::runs::Runs;
use crate::worker::Update;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Router, middleware};
use hearth_engine::Request;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// How requests are answered.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Tokens of an answer where none are asked for.
    pub usual_tokens: usize,
    /// The same for `/v1/completions`, where OpenAI's is 16.
    pub usual_completion: usize,
    /// A request may take so long.
    pub time_limit: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        ServeOptions { usual_tokens: 2048, usual_completion: 16, time_limit: Duration::from_secs(600) }
    }
}

/// What all requests share.
#[derive(Debug)]
pub struct App {
    /// The models.
    pub models: Models,
    /// How requests are answered.
    pub options: ServeOptions,
    /// Who may ask.
    pub keys: Keys,
    /// From where.
    pub door: DoorOptions,
    /// What may be said.
    pub guard: Guard,
    /// What was done.
    pub metrics: Metrics,
    /// What the page keeps, if it may.
    pub conversations: Option<Conversations>,
    /// Training runs that the page shows.
    pub runs: Runs,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The number of the key; requests of different callers take turns.
    pub client: u64,
}

impl App {
    /// Hands a request to a model.
    pub fn work(&self, caller: Caller, model: &TextModel, request: Request) -> UnboundedReceiver<Update> {
        model.worker.submit(request, caller.client, self.options.time_limit)
    }
}

/// All routes behind the door.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/classify", post(tasks::classify))
        .route("/v1/tag", post(tasks::tag))
        .route("/v1/models", get(list))
        .route("/v1/models/{id}", get(one))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/api/info", get(info))
        .route("/api/conversations", get(conversations::list))
        .route(
            "/api/conversations/{id}",
            get(conversations::get).put(conversations::put).delete(conversations::remove),
        )
        .route("/api/conversations/{id}/messages/{message}", put(conversations::say))
        .route("/api/runs", get(runs::list))
        .route("/api/runs/{id}", get(runs::events))
        .route("/", get(page::index))
        .route("/page.js", get(page::script))
        .route("/page.css", get(page::style))
        .route("/openapi.json", get(openapi::openapi))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(app.clone(), guard_door))
        .layer(middleware::from_fn_with_state(app.clone(), measure))
        .with_state(app)
}

async fn nothing(uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{method} isn't for {}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

fn described(app: &App, entry: &Entry) -> Value {
    json!({ "id": entry.id, "object": "model", "created": app.models.created(), "owned_by": "hearth" })
}

async fn list(State(app): State<Arc<App>>) -> Response {
    let data: Vec<Value> = app.models.entries().iter().map(|entry| described(&app, entry)).collect();
    answer(&json!({ "object": "list", "data": data }))
}

async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let found = app.models.entries().iter().find(|entry| entry.id == id);
    let entry = found.ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, format!("there is no model {id:?}")).code("model_not_found")
    })?;
    Ok(answer(&described(&app, entry)))
}

async fn info(State(app): State<Arc<App>>) -> Response {
    let mut models = Vec::new();
    for entry in app.models.entries() {
        let loaded = app.models.is_loaded(entry).await;
        models.push(json!({ "id": entry.id, "task": entry.task, "loaded": loaded }));
    }
    answer(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "models": models,
        "keeps_conversations": app.conversations.is_some(),
        "max_tokens": app.options.usual_tokens,
    }))
}

async fn health() -> Response {
    answer(&json!({ "status": "ok" }))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics.text(&app.models.loads().await);
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
