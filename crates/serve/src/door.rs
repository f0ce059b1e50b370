//! The door: which requests come in at all. Host and Origin against DNS rebinding and other pages' scripts, keys, and
//! limits of size and time for bodies.

use crate::app::{App, Caller};
use crate::error::ApiError;
use crate::keys::Scope;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What the door lets in.
#[derive(Clone, Debug)]
pub struct DoorOptions {
    /// Names that a Host header may have beside those of the loopback; none are checked where this server listens on
    /// other addresses and keys are needed.
    pub hosts: Vec<String>,
    /// Pages of other origins that may ask, such as `https://example.org`.
    pub origins: Vec<String>,
    /// Whether the server listens on the loopback alone.
    pub loopback: bool,
    /// Most bytes of a body.
    pub body_bytes: usize,
    /// A body has to be there after so long.
    pub body_time: Duration,
}

impl Default for DoorOptions {
    fn default() -> Self {
        DoorOptions {
            hosts: Vec::new(),
            origins: Vec::new(),
            loopback: true,
            body_bytes: 8 << 20,
            body_time: Duration::from_secs(30),
        }
    }
}

/// Lets a request in, with who asks, or says why not.
pub async fn guard_door(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let origin = match check_origin(&app.door, request.headers()) {
        Ok(origin) => origin,
        Err(error) => return error.into_response(),
    };
    let mut response = if request.method() == Method::OPTIONS && origin.is_some() {
        preflight()
    } else {
        match enter(&app, &mut request).await {
            Ok(()) => next.run(request).await,
            Err(error) => error.into_response(),
        }
    };
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn preflight() -> Response {
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, allowed).into_response()
}

/// Checks Host and Origin; gives the origin back if it is another one that may ask.
fn check_origin(door: &DoorOptions, headers: &HeaderMap) -> Result<Option<HeaderValue>, ApiError> {
    let refused = |message: String| Err(ApiError::new(StatusCode::FORBIDDEN, message).code("wrong_origin"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = name_of(host);
    let is_known = is_loopback(name) || door.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
    if !is_known && (door.loopback || !door.hosts.is_empty()) {
        return refused(format!("this server isn't called {name:?}"));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
    let text = origin.to_str().unwrap_or_default();
    let own = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
        return Ok(None);
    }
    if door.origins.iter().any(|known| known == text) {
        return Ok(Some(origin.clone()));
    }
    refused(format!("pages of {text} may not ask this server"))
}

/// A Host header without its port.
fn name_of(host: &str) -> &str {
    if let Some(end) = host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        return &host[1..=end];
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Checks the key, and reads the body.
async fn enter(app: &App, request: &mut Request) -> Result<(), ApiError> {
    let scope = match request.uri().path() {
        "/health" | "/" | "/page.js" | "/page.css" => None,
        "/metrics" => Some(Scope::Metrics),
        _ => Some(Scope::Models),
    };
    if let Some(scope) = scope {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let client = app.keys.admit(given.and_then(bearer), scope)?;
        request.extensions_mut().insert(Caller { client });
    }
    let body = std::mem::replace(request.body_mut(), Body::empty());
    *request.body_mut() = Body::from(read(body, &app.door).await?);
    Ok(())
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

async fn read(body: Body, door: &DoorOptions) -> Result<Bytes, ApiError> {
    let whole = Limited::new(body, door.body_bytes).collect();
    let Ok(whole) = tokio::time::timeout(door.body_time, whole).await else {
        let message = format!("the body wasn't there after {} s", door.body_time.as_secs());
        return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message).code("slow_body"));
    };
    match whole {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body is larger than {} bytes", door.body_bytes);
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message).code("body_too_large"))
        }
        Err(error) => Err(ApiError::bad(format!("the body didn't come: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(door: &DoorOptions, host: &str, origin: Option<&str>) -> Result<bool, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).expect("a header"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).expect("a header"));
        }
        check_origin(door, &headers).map(|other| other.is_some()).map_err(|error| error.status.as_u16())
    }

    #[test]
    fn only_the_loopbacks_names_come_in_unless_told() {
        let door = DoorOptions { origins: vec!["https://a.example".into()], ..DoorOptions::default() };
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080", "127.0.0.2:1", "LOCALHOST"] {
            assert_eq!(status(&door, host, None), Ok(false), "{host}");
            assert_eq!(status(&door, host, Some(&format!("http://{host}"))), Ok(false), "{host}");
        }
        for host in ["evil.example:8080", "", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil.example"]
        {
            assert_eq!(status(&door, host, None), Err(403), "{host}");
        }
        for origin in ["http://evil.example", "null", "http://localhost:81", "file://"] {
            assert_eq!(status(&door, "localhost:8080", Some(origin)), Err(403), "{origin}");
        }
        assert_eq!(status(&door, "localhost:8080", Some("https://a.example")), Ok(true));
        let named =
            DoorOptions { hosts: vec!["box.example".into()], loopback: false, ..DoorOptions::default() };
        assert_eq!(status(&named, "box.example:8080", None), Ok(false));
        assert_eq!(status(&named, "other.example", None), Err(403));
        let open = DoorOptions { loopback: false, ..DoorOptions::default() };
        assert_eq!(status(&open, "anything.example", None), Ok(false));
    }
}
