//! Listening: connections with limits on headers and time, and an orderly end.

use crate::app::{App, router};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// What bounds connections.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Most connections at once; more wait to be taken.
    pub connections: usize,
    /// A request's headers have to be there after so long.
    pub header_time: Duration,
    /// Most bytes of headers.
    pub header_bytes: usize,
    /// At the end, requests have so long to finish before they are cancelled.
    pub grace: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            connections: 1024,
            header_time: Duration::from_secs(10),
            header_bytes: 64 << 10,
            grace: Duration::from_secs(10),
        }
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    app: Arc<App>,
    limits: ServerLimits,
}

/// How long to wait after a connection couldn't be taken, as when files run out.
const PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Listens on an address.
    ///
    /// # Errors
    /// If the address can't be had.
    pub async fn start(address: SocketAddr, app: Arc<App>, limits: ServerLimits) -> std::io::Result<Self> {
        Ok(Server { listener: TcpListener::bind(address).await?, app, limits })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system doesn't say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is ready. Then no connection is taken any more, requests under way have a while to finish,
    /// and what is left is cancelled.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Server { listener, app, limits } = self;
        let idle = tokio::spawn({
            let app = app.clone();
            async move { app.models.close_idle().await }
        });
        let router = router(app.clone());
        let places = Arc::new(Semaphore::new(limits.connections));
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let taken = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, taken) = tokio::select! {
                taken = taken => taken,
                () = &mut stop => break,
            };
            let Ok((stream, _)) = taken else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // Small pieces of a stream should leave at once.
            let _ = stream.set_nodelay(true);
            let router = router.clone();
            let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
                router.clone().oneshot(request.map(axum::body::Body::new))
            });
            let connection = Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_time)
                .max_buf_size(limits.header_bytes)
                .serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                // A connection that breaks off concerns nobody else.
                let _ = connection.await;
                drop(place);
            });
        }
        drop(listener);
        idle.abort();
        let finish = graceful.shutdown();
        let _ = tokio::time::timeout(limits.grace, finish).await;
        app.models.close().await;
    }
}
