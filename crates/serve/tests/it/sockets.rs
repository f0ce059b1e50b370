//! Through a real socket: clients that leave, that are slow, and the end.

use crate::{Room, SECOND, says};
use hearth_serve::{Server, ServerLimits};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// A server that listens, and the word that ends it.
pub async fn started(
    room: &Room,
    limits: ServerLimits,
) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let server = Server::start(([127, 0, 0, 1], 0).into(), room.app.clone(), limits).await.expect("listens");
    let address = server.address().expect("an address");
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    (address, stop, running)
}

async fn request(address: SocketAddr, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sends");
    stream.write_all(body.as_bytes()).await.expect("sends");
    stream
}

async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("reads");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_is_forgotten() {
    let room = Room::new();
    let (address, stop, running) = started(&room, ServerLimits::default()).await;
    let long =
        says("The cat", json!({ "stream": true, "max_tokens": 370, "ignore_eos": true, "n": 8 })).to_string();
    let mut leaving = request(address, &long).await;
    let mut some = [0; 64];
    assert!(leaving.read(&mut some).await.expect("reads") > 0);
    drop(leaving);
    let start = Instant::now();
    // The next one needs all places, so it only begins when the one that left is gone.
    let next = says("The dog", json!({ "max_tokens": 4, "n": 8 })).to_string();
    let answer = rest(request(address, &next).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, model, _) =
        room.app.models.text(None, &[hearth_serve::models::Task::Chat]).await.expect("the model");
    while model.worker.load().running.load(Ordering::Relaxed) > 0 {
        assert!(start.elapsed() < 20 * SECOND, "something still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(model);
    stop.send(()).expect("runs");
    running.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_broken_connections_cost_only_themselves() {
    let room = Room::with(|options| options.2.body_time = SECOND / 4, Vec::new());
    let limits = ServerLimits { header_time: SECOND / 4, ..ServerLimits::default() };
    let (address, stop, running) = started(&room, limits).await;
    // Headers that never end, a body that never comes, and headers that are too large.
    let mut headers = TcpStream::connect(address).await.expect("connects");
    headers.write_all(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nx-a: ").await.expect("sends");
    let mut body = TcpStream::connect(address).await.expect("connects");
    let head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{\"prompt\"";
    body.write_all(head.as_bytes()).await.expect("sends");
    let mut large = TcpStream::connect(address).await.expect("connects");
    let _ = large
        .write_all(
            format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "a".repeat(200_000))
                .as_bytes(),
        )
        .await;
    let fine = rest(request(address, &says("a", json!({ "max_tokens": 2 })).to_string()).await).await;
    assert!(fine.starts_with("HTTP/1.1 200"), "{fine}");
    assert!(rest(body).await.starts_with("HTTP/1.1 408"));
    let mut answer = Vec::new();
    let _ = headers.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    let mut answer = Vec::new();
    let _ = large.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    stop.send(()).expect("runs");
    running.await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_lets_requests_finish_or_cancels_them() {
    let room = Room::new();
    let limits = ServerLimits { grace: SECOND / 10, ..ServerLimits::default() };
    let (address, stop, running) = started(&room, limits).await;
    let long = says("The cat", json!({ "max_tokens": 370, "ignore_eos": true, "n": 8 })).to_string();
    let waiting = request(address, &long).await;
    tokio::time::sleep(SECOND / 20).await;
    stop.send(()).expect("runs");
    let start = Instant::now();
    running.await.expect("ends");
    assert!(start.elapsed() < 10 * SECOND, "the end takes {:?}", start.elapsed());
    let answer = rest(waiting).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{answer}");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
