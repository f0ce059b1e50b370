//! What the page needs beside OpenAI's interface: its own files, conversations, and training runs.

use crate::{Room, text};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use hearth_serve::Runs;
use hearth_serve::keys::{Key, Scope};
use serde_json::{Value, json};

impl Room {
    /// The status and the body of a request with a key, or without.
    async fn ask(&self, method: Method, path: &str, body: Value, key: Option<&str>) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.send(request.body(body).expect("a request")).await;
        let status = response.status().as_u16();
        (status, serde_json::from_str(&text(response).await).expect("JSON"))
    }
}

#[tokio::test]
async fn the_page_may_run_nothing_but_its_script() {
    let (key, _) = Key::new("somebody", vec![Scope::Models], None);
    let room = Room::with(|_| {}, vec![key]);
    for (path, kind) in [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        let get = |tag: Option<&str>| {
            let request = Request::get(path).header(header::HOST, "localhost");
            let request = request.header(header::IF_NONE_MATCH, tag.unwrap_or("\"other\""));
            room.send(request.body(Body::empty()).expect("a request"))
        };
        let response = get(None).await;
        let headers = response.headers().clone();
        assert_eq!(response.status(), StatusCode::OK, "{path}: no key is needed to see it");
        assert!(headers[header::CONTENT_TYPE].to_str().expect("text").starts_with(kind), "{path}");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        let again = get(headers[header::ETAG].to_str().ok()).await;
        assert_eq!((again.status(), text(again).await.len()), (StatusCode::NOT_MODIFIED, 0), "{path}");
        let body = text(response).await;
        assert!(body.len() > 100, "{path}: {body}");
    }
}

#[tokio::test]
async fn conversations_are_kept_for_their_owner() {
    let (ann, anns) = Key::new("ann", vec![Scope::Models], None);
    let (bob, bobs) = Key::new("bob", vec![Scope::Models], None);
    let room = Room::with(|_| {}, vec![ann, bob]);
    let (ann, bob) = (Some(anns.as_str()), Some(bobs.as_str()));
    let head = json!({ "title": "Cats", "model": "tiny", "settings": { "temperature": 0.5 }, "leaf": "m1" });
    let said = json!({ "parent": null, "role": "user", "content": "Where is the cat?", "detail": {} });
    let (put, get) = (Method::PUT, Method::GET);
    let path = "/api/conversations/c1";
    assert_eq!(room.ask(put.clone(), path, head.clone(), ann).await.0, 200);
    for _ in 0..2 {
        assert_eq!(room.ask(put.clone(), &format!("{path}/messages/m1"), said.clone(), ann).await.0, 200);
    }
    let (status, told) = room.ask(get.clone(), path, Value::Null, ann).await;
    assert_eq!(
        (status, &told["title"], &told["settings"], &told["leaf"]),
        (200, &head["title"], &head["settings"], &head["leaf"])
    );
    assert_eq!(told["messages"].as_array().map(Vec::len), Some(1));
    assert_eq!(told["messages"][0]["content"], said["content"]);
    let found = |key, words: &'static str| {
        let (room, get) = (&room, get.clone());
        async move {
            let path = format!("/api/conversations?query={words}");
            let (status, told) = room.ask(get, &path, Value::Null, key).await;
            assert_eq!(status, 200, "{told}");
            told["conversations"].as_array().expect("a list").len()
        }
    };
    assert_eq!((found(ann, "cat").await, found(ann, "dog").await, found(bob, "cat").await), (1, 0, 0));

    // What isn't somebody's isn't there; what makes no sense is refused.
    assert_eq!(room.ask(get.clone(), path, Value::Null, bob).await.0, 404);
    assert_eq!(room.ask(put.clone(), &format!("{path}/messages/m1"), said.clone(), bob).await.0, 404);
    assert_eq!(room.ask(Method::DELETE, path, Value::Null, bob).await.0, 404);
    assert_eq!(room.ask(get.clone(), path, Value::Null, None).await.0, 401);
    for (path, body) in [
        ("/api/conversations/a.b", head.clone()),
        ("/api/conversations/c2", json!({ "title": "x".repeat(201), "model": null, "leaf": null })),
        ("/api/conversations/c2", json!({ "model": null, "leaf": null })),
        ("/api/conversations/c1/messages/m2", json!({ "parent": null, "role": "system", "content": "" })),
        ("/api/conversations/c1/messages/%2e%2e", said.clone()),
    ] {
        let (status, told) = room.ask(put.clone(), path, body, ann).await;
        assert!(status == 400 && told["error"]["message"].is_string(), "{path}: {status} {told}");
    }
    for query in ["limit=many", "limit=0", "limit=201", "skip=-1"] {
        let path = format!("/api/conversations?{query}");
        let (status, told) = room.ask(get.clone(), &path, Value::Null, ann).await;
        assert!(status == 400 && told["error"]["message"].is_string(), "{query}: {told}");
    }
    assert_eq!(room.ask(Method::DELETE, path, Value::Null, ann).await.0, 200);
    assert_eq!(room.ask(get, path, Value::Null, ann).await.0, 404);
}

#[tokio::test]
async fn a_server_that_keeps_nothing_says_so() {
    let mut room = Room::new();
    std::sync::Arc::get_mut(&mut room.app).expect("nobody else has it").conversations = None;
    let (_, info) = room.ask(Method::GET, "/api/info", Value::Null, None).await;
    assert_eq!(info["keeps_conversations"], false);
    let (status, told) = room.ask(Method::GET, "/api/conversations", Value::Null, None).await;
    assert_eq!((status, told["error"]["code"].as_str()), (404, Some("not_kept")));
}

#[tokio::test]
async fn runs_are_told_piece_by_piece() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("first")).expect("made");
    let log = "{\"event\":\"start\",\"steps\":2}\n{\"event\":\"step\",\"step\":1,\"loss\":2.5}\n";
    std::fs::write(dir.path().join("first/run.jsonl"), log).expect("written");
    let mut room = Room::new();
    std::sync::Arc::get_mut(&mut room.app).expect("nobody else has it").runs =
        Runs::new(vec![dir.path().to_owned()]);
    let get = |path: String| {
        let room = &room;
        async move { room.ask(Method::GET, &path, Value::Null, None).await }
    };
    let (_, told) = get("/api/runs".into()).await;
    assert_eq!(told["runs"][0]["name"], "first");
    let id = told["runs"][0]["id"].as_str().expect("an id").to_owned();
    let (status, told) = get(format!("/api/runs/{id}")).await;
    assert_eq!(
        (status, &told["events"][1]["loss"], &told["next"], &told["end"]),
        (200, &json!(2.5), &json!(log.len()), &json!(true))
    );
    let (_, told) = get(format!("/api/runs/{id}?from={}", log.len())).await;
    assert_eq!((&told["events"], &told["next"]), (&json!([]), &json!(log.len())));
    for path in ["/api/runs/first", "/api/runs/..%2f..%2fetc"] {
        assert_eq!(get(path.into()).await.0, 404, "{path}");
    }
    for from in ["-1", "5"] {
        assert_eq!(get(format!("/api/runs/{id}?from={from}")).await.0, 400, "{from}");
    }
}
