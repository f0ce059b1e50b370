//! `/api/runs`: how training goes, for the page's curves.

use crate::api::{Asked, answer};
use crate::app::App;
use crate::error::ApiError;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use std::io;
use std::sync::Arc;

/// Which events are wanted.
#[derive(Debug, Deserialize)]
pub struct Since {
    #[serde(default)]
    from: u64,
}

/// All runs, the latest first.
///
/// # Errors
/// If the search was broken off.
pub async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let runs = tokio::task::spawn_blocking(move || app.runs.list()).await;
    let runs = runs.map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(answer(&json!({ "runs": runs })))
}

/// Events of a run.
///
/// # Errors
/// If there is no such run, no event begins there, or its log can't be read.
pub async fn events(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Asked(Since { from }): Asked<Since>,
) -> Result<Response, ApiError> {
    let unknown =
        ApiError::new(StatusCode::NOT_FOUND, format!("there is no run {id:?}")).code("run_not_found");
    let told = tokio::task::spawn_blocking(move || app.runs.events(&id, from)).await;
    let told = told.map_err(|error| ApiError::internal(error.to_string()))?.ok_or(unknown)?;
    let told = told.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => ApiError::field("from", error.to_string()),
        _ => ApiError::internal(error.to_string()),
    });
    Ok(answer(&serde_json::to_value(told?).map_err(|error| ApiError::internal(error.to_string()))?))
}
