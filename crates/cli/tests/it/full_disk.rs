//! A disk that fills up while a model is trained (Linux).
#![cfg(target_os = "linux")]

use crate::{Room, Said, recipe};
use std::process::Command;

fn shell(room: &Room, script: &str) -> Said {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(room.path("")).env("HEARTH", env!("CARGO_BIN_EXE_hearth"));
    command.output().expect("a shell").into()
}

/// No file may grow beyond 150 kB, which a checkpoint does: the run fails, and goes on to the same bits
/// when the limit is gone.
#[test]
fn a_write_that_fails_leaves_nothing_half_written() {
    let room = Room::furnished();
    room.write("tiny.toml", format!("{}checkpoint_every = 10\n", recipe(30)));
    let said = shell(
        &room,
        "trap '' XFSZ; ulimit -f 300; exec \"$HEARTH\" pretrain tiny.toml --data text.txt --out run -q",
    );
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.starts_with("error: ") && said.err.contains("run/checkpoints/"), "{}", said.err);
    assert!(said.err.contains("File too large"), "{}", said.err);
    let left = std::fs::read_dir(room.path("run/checkpoints")).expect("is there").count();
    assert_eq!(left, 0, "a half-written checkpoint");
    assert!(!room.path("run/config.json").exists() && !room.path("run/model.safetensors").exists());

    room.done("pretrain tiny.toml --data text.txt --out run --resume -q");
    room.done("pretrain tiny.toml --data text.txt --out straight -q");
    assert_eq!(room.read("run/model.safetensors"), room.read("straight/model.safetensors"));
}

/// A file system of 300 kB, where the kernel lets us mount one.
#[test]
fn a_full_disk_is_named() {
    let room = Room::furnished();
    room.write("full/.keep", "");
    let mount = "mount -t tmpfs -o size=300k tmpfs full";
    let probe = Command::new("unshare").args(["-Urm", "sh", "-c", mount]).current_dir(room.path("")).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let script = format!(
        "{mount} && {{ \"$HEARTH\" pretrain tiny.toml --data text.txt --out full/run -q; echo $?; \
         ls -A full/run/checkpoints; }}"
    );
    let said: Said = Command::new("unshare")
        .args(["-Urm", "sh", "-c", &script])
        .current_dir(room.path(""))
        .env("HEARTH", env!("CARGO_BIN_EXE_hearth"))
        .output()
        .expect("runs")
        .into();
    let hint = "hint: the disk is full; make room, or write elsewhere";
    assert!(said.err.contains("full/run/checkpoints/") && said.err.contains(hint), "{}", said.err);
    assert_eq!(said.out, "2\n", "the code, and no half-written checkpoint");
}
