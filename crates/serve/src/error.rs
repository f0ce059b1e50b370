//! Errors in the shape of OpenAI's API: a status, and `{"error": {message, type, param, code}}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hearth_engine::EngineError;
use hearth_train::TrainError;
use serde_json::{Value, json};

/// What a request gets that can't be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is wrong.
    pub message: String,
    /// The field that is, if one is.
    pub param: Option<String>,
    /// A word for programs.
    pub code: Option<&'static str>,
    /// Seconds after which to try again.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// An error of this status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// A request that asks for what can't be.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The same, of a field.
    pub fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        ApiError { param: Some(param.into()), ..Self::bad(message) }
    }

    /// The same with a word for programs.
    #[must_use]
    pub fn code(self, code: &'static str) -> Self {
        ApiError { code: Some(code), ..self }
    }

    /// Something failed here.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// It took too long.
    pub fn timed_out() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the request took longer than this server allows")
            .code("timeout")
    }

    /// The body.
    pub fn json(&self) -> Value {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code } })
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        ApiError::of(&error)
    }
}

impl From<TrainError> for ApiError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Engine(error) => ApiError::of(&error),
            error => ApiError::internal(error.to_string()),
        }
    }
}

impl ApiError {
    /// What an error of the engine is to whoever asked.
    pub fn of(error: &EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::QueueFull { .. } => ApiError {
                retry_after: Some(1),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, message).code("queue_full")
            },
            EngineError::PromptTooLong { .. } => Self::bad(message).code("context_length_exceeded"),
            // Requests carry a number of their own, which says nothing to who made this one.
            EngineError::Request { problem, .. } => Self::bad(problem.clone()),
            EngineError::Interrupted => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down")
                    .code("shutting_down")
            }
            error if error.is_input_error() => Self::bad(message),
            _ => Self::internal(message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::body::Body::from(self.json().to_string())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
