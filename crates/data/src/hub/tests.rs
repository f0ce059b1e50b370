//! A tiny hub on the loopback interface, which answers as the real one does.

use super::*;
use crate::error::ErrorKind;
use crate::shard::hex;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

type Files = &'static [(&'static str, &'static str)];

/// Serves the repository `org/tiny` for as long as `asks` runs; returns what was asked for, and with which
/// authorisation.
fn served(files: Files, etag: fn(&str) -> String, asks: impl FnOnce(&str)) -> Vec<(String, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = mpsc::channel::<()>();
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for stream in listener.incoming() {
            if stopped.try_recv().is_ok() {
                break;
            }
            asked.extend(stream.ok().and_then(|stream| answer(stream, files, etag)));
        }
        asked
    });
    asks(&format!("http://{address}"));
    stop.send(()).expect("it listens");
    drop(TcpStream::connect(address));
    server.join().expect("ends")
}

fn answer(mut stream: TcpStream, files: Files, etag: fn(&str) -> String) -> Option<(String, String)> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let value = headers.iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        });
        value.unwrap_or_default()
    };
    let siblings: Vec<Value> =
        files.iter().map(|(name, _)| serde_json::json!({ "rfilename": name })).collect();
    let info = serde_json::json!({ "sha": SHA, "siblings": siblings }).to_string();
    let resolve = format!("/org/tiny/resolve/{SHA}/");
    let content = match path.strip_prefix(&resolve) {
        Some(name) => files.iter().find(|(known, _)| *known == name).map(|(_, content)| *content),
        None if path.starts_with("/api/models/org/tiny/revision/") => Some(info.as_str()),
        None => None,
    };
    let (status, body, extra) = match content {
        Some(content) => {
            let start: usize = header("range")
                .strip_prefix("bytes=")
                .and_then(|r| r.split('-').next()?.parse().ok())
                .unwrap_or(0);
            let end = if header("range").ends_with("0-0") { 1.min(content.len()) } else { content.len() };
            let range =
                format!("content-range: bytes {start}-{}/{}\r\n", end.saturating_sub(1), content.len());
            let etag = format!("etag: \"{}\"\r\nx-repo-commit: {SHA}\r\n", etag(content));
            ("206 Partial Content", &content[start..end], range + &etag)
        }
        None if path.contains("gated") => ("401 Unauthorized", "", String::new()),
        None => ("404 Not Found", "", String::new()),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{extra}\r\n{body}")
        .ok()?;
    Some((path, header("authorization")))
}

fn sha256(content: &str) -> String {
    hex(&Sha256::digest(content))
}

const SHARDED: Files = &[
    ("config.json", "{}"),
    ("tokenizer.json", "{\"a\":1}"),
    ("pytorch_model.bin", "not wanted"),
    (
        "model.safetensors.index.json",
        r#"{"weight_map":{"x":"a.safetensors","y":"b.safetensors","z":"a.safetensors"}}"#,
    ),
    ("a.safetensors", "first"),
    ("b.safetensors", "second"),
    ("c.safetensors", "in no index"),
    ("tiny-q8.gguf", "GGUF"),
];

#[test]
fn a_folder_is_fetched_once_and_then_needs_no_network() {
    let home = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    let mut folder = PathBuf::new();
    let asked = served(SHARDED, sha256, |hub| {
        let token = Some("secret".to_owned());
        folder =
            fetch_from(Some(hub), token, "org/tiny", home.path(), |file| seen.push(file.to_owned())).unwrap();
    });
    let wanted = ["config.json", "tokenizer.json", INDEX, "a.safetensors", "b.safetensors"];
    assert_eq!(seen, wanted);
    for file in wanted {
        let expected = SHARDED.iter().find(|(name, _)| *name == file).unwrap().1;
        assert_eq!(fs::read_to_string(folder.join(file)).unwrap(), expected, "{file}");
    }
    assert!(folder.starts_with(home.path()));
    assert!(asked.iter().all(|(_, authorization)| authorization == "Bearer secret"), "{asked:?}");
    // Nobody listens any more.
    let nobody = "http://127.0.0.1:9";
    assert_eq!(fetch_from(Some(nobody), None, "org/tiny", home.path(), |_| {}).unwrap(), folder);
    let error = fetch_from(Some(nobody), None, "org/tiny@other", home.path(), |_| {}).unwrap_err();
    assert!(error.to_string().contains("could not be fetched from http://127.0.0.1:9: "), "{error}");
    assert!(error.to_string().contains("HF_ENDPOINT names a mirror"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Environment);
}

#[test]
fn one_file_of_a_repository() {
    let home = tempfile::tempdir().unwrap();
    let mut path = PathBuf::new();
    let asked = served(
        SHARDED,
        |_| "short".into(),
        |hub| {
            path = fetch_from(Some(hub), None, "org/tiny/tiny-q8.gguf@v1", home.path(), |_| {}).unwrap();
        },
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "GGUF");
    assert_eq!(asked[0].0, "/api/models/org/tiny/revision/v1");
    assert!(asked.iter().all(|(_, authorization)| authorization.is_empty()), "{asked:?}");
    assert_eq!(
        fetch_from(Some("http://127.0.0.1:9"), None, "org/tiny/tiny-q8.gguf@v1", home.path(), |_| {})
            .unwrap(),
        path
    );
}

#[test]
fn what_the_hub_does_not_have_is_said() {
    let home = tempfile::tempdir().unwrap();
    served(&[("tiny-q8.gguf", "GGUF")], sha256, |hub| {
        for (name, expect) in [
            (
                "org/tiny",
                "no config.json with model.safetensors\nhint: it has GGUF files; name one, as in hf:org/tiny/tiny-q8.gguf",
            ),
            ("org/tiny/other.gguf", "no file other.gguf in the repository\nhint: it has GGUF files"),
            ("org/none", "check the spelling"),
            ("org/gated", "set HF_TOKEN"),
        ] {
            let error = fetch_from(Some(hub), None, name, home.path(), |_| {}).unwrap_err().to_string();
            assert!(error.starts_with(&format!("hf:{name}")) && error.contains(expect), "{error}");
        }
    });
}

#[test]
fn a_changed_file_is_not_kept() {
    let home = tempfile::tempdir().unwrap();
    served(
        SHARDED,
        |_| "0".repeat(64),
        |hub| {
            let error = fetch_from(Some(hub), None, "org/tiny", home.path(), |_| {}).unwrap_err().to_string();
            assert!(error.contains("isn't what the hub's checksum says"), "{error}");
        },
    );
    let repo = home.path().join("hub/models--org--tiny");
    assert!(!repo.join("snapshots").join(SHA).join("config.json").exists());
}

#[test]
fn names_are_read() {
    let name = |repo: &str, file, revision| Ok(HubName { repo: repo.into(), file, revision });
    for (text, expect) in [
        ("org/name", name("org/name", None, "main")),
        ("org/name@refs/pr/1", name("org/name", None, "refs/pr/1")),
        ("org/name/sub/x.gguf@v2", name("org/name", Some("sub/x.gguf"), "v2")),
    ] {
        assert_eq!(HubName::parse(text), expect, "{text}");
    }
    for text in [
        "",
        "org",
        "org/",
        "/name",
        "org/..",
        "org/name@",
        "org/name@../x",
        "org/name/model.bin",
        "org/name/../x.gguf",
    ] {
        assert!(HubName::parse(text).is_err(), "{text}");
    }
    let error = fetch_from(Some("http://127.0.0.1:9"), None, "org", Path::new("."), |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
}
