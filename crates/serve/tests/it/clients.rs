//! Real clients: the `openai` package of Python, and a browser. They need more than Rust, so `cargo xtask clients`, which
//! installs it, runs these.

use crate::Room;
use crate::sockets::started;
use crate::tasks::write_embedder;
use hearth_serve::{Runs, ServerLimits};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// Runs a script with a server's address; what it prints is shown if it fails.
async fn run(room: &Room, program: &str, script: PathBuf, args: &[&Path]) {
    let (address, stop, running) = started(room, ServerLimits::default()).await;
    let mut command = Command::new(program);
    command.arg(script).arg(format!("http://{address}")).args(args);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    stop.send(()).expect("runs");
    running.await.expect("ends");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {}\n{out}\n{err}", output.status);
    print!("{out}");
}

fn from_environment(name: &str) -> PathBuf {
    let value = std::env::var_os(name);
    PathBuf::from(value.unwrap_or_else(|| panic!("{name} isn't set: cargo xtask clients does that")))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python's openai: cargo xtask clients"]
async fn openais_own_client() {
    let python = from_environment("HEARTH_CLIENTS_PYTHON");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/openai_client.py");
    let room = Room::with_more(|dir| {
        write_embedder(&dir.join("vectors"));
        vec![("vectors".to_owned(), dir.join("vectors"))]
    });
    run(&room, &python.to_string_lossy(), script, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js, playwright-core and Chromium: cargo xtask clients"]
async fn the_page_in_a_browser() {
    let pictures = from_environment("HEARTH_CLIENTS_PICTURES");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/tests/page.mjs");
    let mut room = Room::without_end(30_000);
    // A run to be shown.
    let runs = tempfile::tempdir().expect("a folder");
    let mut log = String::from("{\"event\":\"start\",\"step\":0,\"steps\":120}\n");
    for step in 1..=120 {
        let loss = 2.0 + 3.0 / f64::from(step).sqrt();
        log += &format!(
            "{{\"event\":\"step\",\"step\":{step},\"loss\":{loss},\"lr_factor\":1.0,\"grad_norm\":0.5,\"tokens_per_second\":900.0,\"seconds\":{step}}}\n"
        );
        if step % 40 == 0 {
            log += &format!("{{\"event\":\"eval\",\"step\":{step},\"val_loss\":{}}}\n", loss + 0.1);
            log += &format!("{{\"event\":\"sample\",\"step\":{step},\"text\":\"<b>sample {step}</b>\"}}\n");
        }
    }
    std::fs::create_dir(runs.path().join("first")).expect("made");
    std::fs::write(runs.path().join("first/run.jsonl"), log).expect("written");
    std::sync::Arc::get_mut(&mut room.app).expect("nobody else has it").runs =
        Runs::new(vec![runs.path().to_owned()]);
    run(&room, "node", script, &[&pictures]).await;
}
