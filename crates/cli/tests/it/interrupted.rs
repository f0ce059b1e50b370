//! Runs that are stopped or killed go on to the same bits (Unix).
#![cfg(unix)]

use crate::{Room, Said, recipe, text};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RUN: &str = "pretrain tiny.toml --data text.txt --out run";

fn start(room: &Room, args: &str) -> Child {
    let args: Vec<&str> = args.split_whitespace().collect();
    room.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

/// The lines that a process says until one begins with `beginning`, which is the last of them.
fn said_until(child: &mut Child, beginning: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut reader = BufReader::new(child.stderr.take().expect("piped"));
    while lines.last().is_none_or(|line: &String| !line.starts_with(beginning)) {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("reads") > 0, "{beginning:?} isn't among {lines:?}");
        lines.push(line.trim_end().to_owned());
    }
    child.stderr = Some(reader.into_inner());
    lines
}

/// The status line and body of a request to a server whose address stands at the end of `line`.
fn get(line: &str, path: &str) -> String {
    let address = line.rsplit_once("http://").expect("an address").1;
    let mut stream = TcpStream::connect(address).expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("reads");
    answer
}

#[test]
fn a_server_ends_cleanly() {
    let room = Room::furnished();
    room.done("pretrain tiny.toml --data text.txt --out model -q");
    let mut child = start(&room, "serve model --port 0 --conversations kept.sqlite --runs .");
    let line = said_until(&mut child, "serving model on").pop().expect("a line");
    assert!(get(&line, "/health").starts_with("HTTP/1.1 200"));
    assert!(get(&line, "/api/runs").contains("\"name\":\"model\""), "the runs below are told");
    assert!(room.path("kept.sqlite").exists());
    signal(&child, "-TERM");
    let said: Said = child.wait_with_output().expect("ends").into();
    assert_eq!((said.code, said.out.as_str(), said.err.trim()), (Some(0), "", "stopped"));
}

#[test]
fn quickstart_ends_by_serving_what_it_made() {
    let room = Room::new();
    room.write("mine.txt", text(3000));
    let mut child = start(&room, "quickstart --data mine.txt --minutes 0.03 --out mine --json");
    let line = said_until(&mut child, "serving mine on").pop().expect("a line");
    let info = get(&line, "/api/info");
    assert!(info.contains("\"id\":\"mine\"") && info.contains("\"task\":\"completion\""), "{info}");
    assert!(get(&line, "/api/runs").contains("\"name\":\"mine\""), "its curves are there");
    assert!(get(&line, "/").contains("<title>Hearth</title>"));
    signal(&child, "-INT");
    let said: Said = child.wait_with_output().expect("ends").into();
    assert_eq!(said.json()["path"], "mine", "{}", said.err);
}

/// The records of `run.jsonl` so far; a line that is being written doesn't count.
fn records(room: &Room) -> Vec<Value> {
    let text = std::fs::read_to_string(room.path("run/run.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn steps(room: &Room) -> Vec<u64> {
    let of = |r: &Value| r["step"].as_u64().filter(|_| r["event"] == "step");
    records(room).iter().filter_map(of).collect()
}

/// Steps of the whole checkpoints.
fn checkpoints(room: &Room) -> Vec<u64> {
    let entries = std::fs::read_dir(room.path("run/checkpoints")).into_iter().flatten().flatten();
    let step = |name: String| name.strip_prefix("step-")?.parse().ok();
    let mut found: Vec<u64> =
        entries.filter_map(|e| step(e.file_name().to_string_lossy().into_owned())).collect();
    found.sort_unstable();
    found
}

fn wait_until(child: &mut Child, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert_eq!(child.try_wait().expect("waits"), None, "ended before it could be stopped");
        assert!(start.elapsed() < Duration::from_secs(60), "nothing happens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn room(steps: u64, checkpoint_every: u64) -> Room {
    let room = Room::furnished();
    room.write("tiny.toml", format!("{}checkpoint_every = {checkpoint_every}\n", recipe(steps)));
    room.done("pretrain tiny.toml --data text.txt --out straight -q");
    room
}

/// The resumed run is the uninterrupted one: its bits, and each step once in its log.
fn check_same(room: &Room, of: u64) {
    assert_eq!(steps(room), (1..=of).collect::<Vec<_>>());
    assert!(
        room.read("run/model.safetensors") == room.read("straight/model.safetensors"),
        "the resumed run came to other bits than the uninterrupted one"
    );
    let losses = |name: &str| -> Vec<Value> {
        let text = String::from_utf8(room.read(name)).expect("text");
        let records = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
        records.filter(|r| r["event"] == "step").map(|r| r["loss"].clone()).collect()
    };
    assert_eq!(losses("run/run.jsonl"), losses("straight/run.jsonl"));
}

#[test]
fn ctrl_c_stops_cleanly_and_resume_finishes() {
    let room = room(600, 100);
    let mut child = start(&room, RUN);
    wait_until(&mut child, || steps(&room).len() > 30);
    signal(&child, "-INT");
    let said: Said = child.wait_with_output().expect("ends").into();
    assert_eq!((said.code, said.out.as_str()), (Some(130), ""), "{}", said.err);
    let done = *steps(&room).last().expect("some");
    assert!(done < 600);
    let again = "pretrain run/recipe.toml --out run --resume";
    let expect = format!("stopped after step {done} of 600; go on with\n  hearth {again}\n");
    assert!(said.err.ends_with(&expect), "{}", said.err);
    assert_eq!(checkpoints(&room).last(), Some(&done), "a clean stop loses no step");
    assert!(!room.path("run/config.json").exists(), "an unfinished run is no model");

    let resumed = room.done(&format!("{again} --json"));
    assert!(resumed.err.contains(&format!("resuming after step {done}\n")), "{}", resumed.err);
    assert_eq!(resumed.json()["steps"], 600);
    check_same(&room, 600);
}

#[test]
fn a_request_to_terminate_is_as_clean() {
    let room = room(400, 100);
    let mut child = start(&room, RUN);
    wait_until(&mut child, || steps(&room).len() > 5);
    signal(&child, "-TERM");
    let said: Said = child.wait_with_output().expect("ends").into();
    assert_eq!(said.code, Some(130), "{}", said.err);
    room.done(&format!("{RUN} --resume -q"));
    check_same(&room, 400);
}

#[test]
fn a_killed_run_loses_the_steps_since_its_checkpoint_only() {
    let room = room(600, 50);
    let mut child = start(&room, RUN);
    wait_until(&mut child, || checkpoints(&room).last().is_some_and(|&last| last >= 100));
    signal(&child, "-KILL");
    child.wait_with_output().expect("ends");
    let last = *checkpoints(&room).last().expect("some");
    assert!(*steps(&room).last().expect("some") < last + 50 + 1);

    let resumed = room.done(&format!("{RUN} --resume"));
    assert!(resumed.err.contains(&format!("resuming after step {last}\n")), "{}", resumed.err);
    check_same(&room, 600);
}

/// A checkpoint each step, killed again and again wherever it happens to be: in preparation, in a step,
/// in the middle of writing a checkpoint.
#[test]
fn kills_at_any_moment() {
    let room = room(60, 1);
    for delay_ms in [3, 25, 70, 90, 110, 130] {
        let mut child = start(&room, &format!("{RUN} --resume"));
        std::thread::sleep(Duration::from_millis(delay_ms));
        // It may have finished on a fast machine; killing what has ended is no error here.
        let _ = child.kill();
        child.wait_with_output().expect("ends");
    }
    room.done(&format!("{RUN} --resume -q"));
    check_same(&room, 60);
    let left: Vec<_> = std::fs::read_dir(room.path("run/checkpoints"))
        .expect("is there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    assert_eq!(left.len(), 2, "half-written or half-removed checkpoints stay: {left:?}");
}
