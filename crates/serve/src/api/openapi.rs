//! `GET /openapi.json`: what may be asked for, and the shapes of what is answered.

use crate::api::answer;
use crate::error::ApiError;
use axum::response::Response;
use serde_json::Value;

const DESCRIPTION: &str = include_str!("../openapi.json");

/// The description.
///
/// # Errors
/// Never, as long as the file that is part of the binary is JSON.
pub async fn openapi() -> Result<Response, ApiError> {
    let told: Result<Value, _> = serde_json::from_str(DESCRIPTION);
    let mut told = told.map_err(|error| ApiError::internal(error.to_string()))?;
    told["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    Ok(answer(&told))
}
