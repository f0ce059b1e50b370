//! Integration tests of the command line, in one binary: the real `hearth` in folders of its own.

mod answer;
mod bad_input;
mod baseline;
#[path = "../../../engine/tests/it/bert_folder.rs"]
mod bert_folder;
mod commands;
mod embed;
mod finetune_text;
mod full_disk;
mod interrupted;
#[cfg(unix)]
mod packages;
mod real_text;
mod starts;

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A folder to work in; relative paths in messages are the same everywhere.
struct Room(TempDir);

/// What a command said and how it ended.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Room {
    fn new() -> Self {
        Room(tempfile::tempdir().expect("a temporary folder"))
    }

    /// A room with `text.txt` and `tiny.toml`.
    fn furnished() -> Self {
        let room = Room::new();
        room.write("text.txt", text(1200));
        room.write("tiny.toml", recipe(40));
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("in the room")).expect("made");
        std::fs::write(path, content).expect("written");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn copy(&self, from: &str, to: &str) {
        self.write(to, self.read(from));
    }

    /// The command line, ready to run here, with no cache but this room's.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
        command.args(args).current_dir(self.0.path()).env("HEARTH_HOME", self.path("cache"));
        command
    }

    /// Runs `hearth` with arguments that have no spaces.
    fn hearth(&self, args: &str) -> Said {
        self.run(&args.split_whitespace().collect::<Vec<_>>())
    }

    fn run(&self, args: &[&str]) -> Said {
        self.command(args).output().expect("runs").into()
    }

    /// Runs what must succeed.
    fn done(&self, args: &str) -> Said {
        let said = self.hearth(args);
        assert_eq!(said.code, Some(0), "hearth {args}: {}", said.err);
        said
    }

    /// Runs what must be refused with exactly these words, and leave everything as it was.
    fn refused(&self, args: &str, expect: &str) {
        assert_eq!(self.refusal(args).trim_end(), expect, "hearth {args}");
    }

    /// Runs what must be refused with words that begin so and hold all `parts`.
    fn refused_with(&self, args: &str, beginning: &str, parts: &[&str]) {
        let message = self.refusal(args);
        assert!(message.starts_with(beginning), "hearth {args}: expected {beginning:?}, got {message}");
        for part in parts {
            assert!(message.contains(part), "hearth {args}: no {part:?} in {message}");
        }
    }

    fn refusal(&self, args: &str) -> String {
        let before = self.listing();
        let said = self.hearth(&format!("{args} -q"));
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "hearth {args}: {}", said.err);
        assert_eq!(self.listing(), before, "hearth {args}: something was left behind, or taken away");
        said.err
    }

    /// Every file and folder but the cache, with sizes.
    fn listing(&self) -> BTreeSet<(PathBuf, u64)> {
        fn walk(dir: &Path, found: &mut BTreeSet<(PathBuf, u64)>) {
            for entry in std::fs::read_dir(dir).expect("readable").map(|e| e.expect("readable")) {
                let (path, meta) = (entry.path(), entry.metadata().expect("readable"));
                found.insert((path.clone(), if meta.is_file() { meta.len() } else { 0 }));
                if meta.is_dir() && path.file_name() != Some("cache".as_ref()) {
                    walk(&path, found);
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(self.0.path(), &mut found);
        found.retain(|(path, _)| path.file_name() != Some("cache".as_ref()));
        found
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    /// The JSON object on the last line of stdout.
    fn json(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_default();
        let json: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
        assert!(json.is_object(), "{json}");
        json
    }
}

/// The files in a folder that only their owner may read.
#[cfg(unix)]
fn private_files(dir: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable").map(|e| e.expect("readable")) {
        let (path, meta) = (entry.path(), entry.metadata().expect("readable"));
        if meta.is_dir() {
            found.extend(private_files(&path));
        } else if meta.permissions().mode() & 0o044 != 0o044 {
            found.push(path);
        }
    }
    found
}

/// Each key holds a number above 0.
fn positive(json: &Value, keys: &[&str]) {
    for key in keys {
        assert!(json[key].as_f64().is_some_and(|x| x > 0.0), "{key} is {} in {json}", json[key]);
    }
}

/// Sentences that a model learns quickly, and never the same text twice in a row.
fn text(sentences: usize) -> String {
    let parts = [
        ["The cat", "A dog", "My friend", "The old king", "Her sister"],
        ["saw", "liked", "chased", "found", "painted"],
        ["the red house.\n", "a small bird.\n", "the river.\n", "an apple.\n", "the moon.\n"],
    ];
    let mut state = 1u32;
    let mut pick = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % 5
    };
    (0..sentences).map(|_| parts.map(|part| part[pick()]).join(" ")).collect()
}

/// A run of a second or less.
fn recipe(steps: u64) -> String {
    format!(
        "seed = 7\n\
         [data]\nholdout = 0.1\n\
         [tokenizer]\nvocab_size = 300\n\
         [model]\ndepth = 1\nhidden_size = 32\ncontext = 32\n\
         [train]\nbatch = 4\nsteps = {steps}\nngram_order = 2\neval_tokens = 512\nsample_tokens = 8\n"
    )
}
