//! Integration tests of the server, through its router and through a real socket, with a small model of random weights.

mod clients;
mod openai;
mod page;
mod sockets;
mod tasks;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use hearth_model::hf::SpecialIds;
use hearth_model::{Decoder, DecoderConfig, StoredType, Weights, save_folder};
use hearth_serve::app::{App, router};
use hearth_serve::keys::Key;
use hearth_serve::metrics::Metrics;
use hearth_serve::{Conversations, DoorOptions, Guard, Keys, ModelOptions, Models, Runs, ServeOptions};
use hearth_tokenizer::{BpeTrainer, END_OF_TEXT, PreTokenizer};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

const TEXT: &str =
    "The cat sat on the mat, and the cat's hat was on the mat too. 春眠不觉晓，处处闻啼鸟。🎉\n";
const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if tools %}tools: {{ tools | length }}\n{% endif %}\
                        {% if add_generation_prompt %}assistant:{% endif %}";

/// Writes a model that talks, if not sensibly.
fn write_model(dir: &Path, width: usize, context: usize, ends: bool) {
    let texts = [TEXT, TEXT].into_iter().map(|text| Ok::<_, std::io::Error>(text.to_owned()));
    let tokenizer = BpeTrainer::new(330, PreTokenizer::Qwen2).train(texts, |_| {}).expect("trains");
    let vocab = tokenizer.vocab_size().next_multiple_of(64);
    let config = DecoderConfig { tied_head: false, ..DecoderConfig::native(vocab, width, 2, context) };
    let decoder = Decoder::new(config).expect("valid");
    let mut weights = Weights::init(&decoder, 11, false);
    for tensor in weights.tensors_mut().iter_mut().filter(|t| t.shape().len() == 2) {
        tensor.data_mut().iter_mut().for_each(|x| *x *= 12.0);
    }
    let eos = tokenizer.id_of(END_OF_TEXT).filter(|_| ends);
    let mut config = tokenizer.config().clone();
    config.insert("chat_template".into(), TEMPLATE.into());
    if !ends {
        config.remove("eos_token");
    }
    std::fs::create_dir_all(dir).expect("made");
    tokenizer.with_config(config).save(dir).expect("saves");
    save_folder(dir, &decoder, &weights, SpecialIds { bos: None, eos }, StoredType::F32).expect("saves");
}

/// A server without a socket.
struct Room {
    app: Arc<App>,
    _dir: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        Self::with(|_| {}, Vec::new())
    }

    fn with(change: impl FnOnce(&mut (ModelOptions, ServeOptions, DoorOptions)), keys: Vec<Key>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        write_model(&dir.path().join("tiny"), 32, 400, true);
        Self::of(dir, change, keys, Vec::new())
    }

    /// A server whose model writes for as long as it may, slowly enough to be stopped.
    fn without_end(context: usize) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        write_model(&dir.path().join("tiny"), 512, context, false);
        Self::of(dir, |_| {}, Vec::new(), Vec::new())
    }

    /// A server with other models beside the first, which are written into a folder.
    fn with_more(write: impl FnOnce(&Path) -> Vec<(String, PathBuf)>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        write_model(&dir.path().join("tiny"), 32, 400, true);
        let more = write(dir.path());
        Self::of(dir, |_| {}, Vec::new(), more)
    }

    fn of(
        dir: tempfile::TempDir,
        change: impl FnOnce(&mut (ModelOptions, ServeOptions, DoorOptions)),
        keys: Vec<Key>,
        more: Vec<(String, PathBuf)>,
    ) -> Self {
        let models = ModelOptions { together: 8, waiting: 100, cache_bytes: 64 << 20, close_after: None };
        let mut options = (models, ServeOptions::default(), DoorOptions::default());
        options.1.usual_tokens = 24;
        change(&mut options);
        let named = [("tiny".to_owned(), dir.path().join("tiny"))].into_iter().chain(more).collect();
        let app = App {
            models: Models::new(named, options.0).expect("models"),
            options: options.1,
            keys: Keys::new(keys),
            door: options.2,
            guard: Guard::default(),
            metrics: Metrics::default(),
            conversations: Some(Conversations::in_memory().expect("a store")),
            runs: Runs::default(),
        };
        Room { app: Arc::new(app), _dir: dir }
    }

    async fn send(&self, request: Request<Body>) -> Response {
        router(self.app.clone()).oneshot(request).await.expect("answers")
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
        let request =
            Request::post(path).header(header::HOST, "localhost").body(body.into()).expect("a request");
        let response = self.send(request).await;
        let status = response.status();
        (status, text(response).await)
    }

    /// What must succeed.
    async fn done(&self, path: &str, body: Value) -> Value {
        let (status, text) = self.post(path, body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{path} {body}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// What must be refused with this status, about this field, with words that hold `part`.
    async fn refused(&self, path: &str, body: Value, status: u16, param: Option<&str>, part: &str) {
        let (got, text) = self.post(path, body.to_string()).await;
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let error = &json["error"];
        assert_eq!((got.as_u16(), error["param"].as_str()), (status, param), "{path} {body}: {text}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(part)), "{part}: {text}");
        assert!(error["type"].is_string(), "{text}");
    }

    /// The events of a stream, without the last.
    async fn events(&self, path: &str, body: Value) -> Vec<Value> {
        let (status, text) = self.post(path, body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let mut events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
        assert_eq!(events.pop(), Some("data: [DONE]"), "{text}");
        let json =
            |event: &&str| serde_json::from_str(event.strip_prefix("data: ").expect("data")).expect("JSON");
        events.iter().map(json).collect()
    }
}

async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn says(text: &str, more: Value) -> Value {
    let mut body = json!({ "model": "tiny", "messages": [{ "role": "user", "content": text }], "seed": 7 });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

const SECOND: Duration = Duration::from_secs(1);
