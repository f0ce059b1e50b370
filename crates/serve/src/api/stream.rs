//! Server-sent events: a request's pieces as they come.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde_json::Value;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Where a stream's events go. Whoever reads may have left: that shows in [`is_gone`](Events::is_gone).
#[derive(Clone, Debug)]
pub struct Events(UnboundedSender<Bytes>);

impl Events {
    /// An event.
    pub fn send(&self, json: &Value) {
        let _ = self.0.send(Bytes::from(format!("data: {json}\n\n")));
    }

    /// An event with its name before it.
    pub fn named(&self, name: &str, json: &Value) {
        let _ = self.0.send(Bytes::from(format!("event: {name}\ndata: {json}\n\n")));
    }

    /// The last one.
    pub fn done(&self) {
        let _ = self.0.send(Bytes::from_static(b"data: [DONE]\n\n"));
    }

    /// Until nobody reads any more.
    pub async fn is_gone(&self) {
        self.0.closed().await;
    }
}

struct Pieces(UnboundedReceiver<Bytes>);

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(Ok))
    }
}

/// A stream of events, and where they go.
pub fn events() -> (Events, Response) {
    let (sender, receiver) = unbounded_channel();
    let mut response = (StatusCode::OK, Body::from_stream(Pieces(receiver))).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (Events(sender), response)
}
