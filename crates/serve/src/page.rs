//! The web page: three files, built from `web/` and part of the binary.
//!
//! What a model writes is shown on it, so the page may run nothing but its own script, and load nothing from elsewhere.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const INDEX: &[u8] = include_bytes!("../page/index.html");
const SCRIPT: &[u8] = include_bytes!("../page/page.js");
const STYLE: &[u8] = include_bytes!("../page/page.css");

/// Names this build's page: what a browser has of another is asked for anew.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let hash = [INDEX, SCRIPT, STYLE].into_iter().fold(Sha256::new(), Digest::chain_update).finalize();
    let digits: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
});

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
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == TAG.as_bytes());
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&TAG) {
        headers.insert(header::ETAG, tag);
    }
    response
}
