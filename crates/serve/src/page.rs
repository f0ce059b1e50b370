//! The web page: three files, built from `web/` and part of the binary.
//!
//! What a model writes is shown on it, so the page may run nothing but its own script, and load nothing from elsewhere.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

const INDEX: &[u8] = include_bytes!("../page/index.html");
const SCRIPT: &[u8] = include_bytes!("../page/page.js");
const STYLE: &[u8] = include_bytes!("../page/page.css");

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub async fn index(headers: HeaderMap) -> Response {
    file(INDEX, "text/html; charset=utf-8", &headers)
}

/// Its script.
pub async fn script(headers: HeaderMap) -> Response {
    file(SCRIPT, "text/javascript; charset=utf-8", &headers)
}

/// Its style.
pub async fn style(headers: HeaderMap) -> Response {
    file(STYLE, "text/css; charset=utf-8", &headers)
}

/// A file, or the word that it hasn't changed since it was last asked for.
fn file(bytes: &'static [u8], kind: &'static str, asked: &HeaderMap) -> Response {
    let hash = Sha256::digest(bytes);
    let tag = hash[..8].iter().fold(String::from("\""), |text, byte| text + &format!("{byte:02x}")) + "\"";
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}
