//! Training runs below some folders: what their `run.jsonl` tells, while it is being written.
//!
//! A run is named by a hash of its place, and only what was found can be asked for: no name from outside becomes a path.

use fs_err as fs;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The file that a run leaves.
const LOG: &str = "run.jsonl";
/// Folders in folders are looked at so deep, and so many at most.
const DEEPEST: usize = 3;
const MOST_FOLDERS: usize = 10_000;
/// Bytes of events that are told at once.
const PIECE: u64 = 1 << 20;

/// Where runs are looked for.
#[derive(Clone, Debug, Default)]
pub struct Runs(Vec<PathBuf>);

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// What to ask for.
    pub id: String,
    /// Its folder, as seen from where runs are looked for.
    pub name: String,
    /// Bytes of its log.
    pub bytes: u64,
    /// The last change, in milliseconds since 1970.
    pub updated: u64,
    #[serde(skip)]
    log: PathBuf,
}

/// Events of a run, from a place in its log on.
#[derive(Debug, Serialize)]
pub struct Events {
    /// Each as the run wrote it.
    pub events: Vec<Box<RawValue>>,
    /// Where the next ones begin.
    pub next: u64,
    /// Whether that is the end of what is there now.
    pub end: bool,
}

impl Runs {
    /// Runs in these folders and below.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Runs(folders)
    }

    /// All that are there now, the latest first. Folders that can't be read count as empty.
    pub fn list(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        for root in &self.0 {
            let mut left = vec![(root.clone(), 0)];
            let mut seen = 0;
            while let Some((folder, depth)) = left.pop() {
                runs.extend(run_in(root, &folder));
                seen += 1;
                if depth == DEEPEST || seen > MOST_FOLDERS {
                    continue;
                }
                let inside = fs::read_dir(&folder).into_iter().flatten().flatten();
                // A link could lead round in circles.
                let folders = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                let shown = folders.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
                left.extend(shown.map(|entry| (entry.path(), depth + 1)));
            }
        }
        runs.sort_by(|a, b| (b.updated, &a.name).cmp(&(a.updated, &b.name)));
        runs.dedup_by(|a, b| a.id == b.id);
        runs
    }

    /// Whole events of a run from a byte of its log on; none if there is no such run.
    ///
    /// # Errors
    /// If no event begins there, the log can't be read, or a line of it is no JSON.
    pub fn events(&self, id: &str, from: u64) -> Option<io::Result<Events>> {
        let run = self.list().into_iter().find(|run| run.id == id)?;
        Some(events_of(&run.log, from))
    }
}

fn run_in(root: &Path, folder: &Path) -> Option<Run> {
    let log = folder.join(LOG);
    let about = fs::metadata(&log).ok().filter(std::fs::Metadata::is_file)?;
    let updated = about.modified().ok()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
    let place = folder.canonicalize().ok()?;
    let hash = Sha256::digest(place.as_os_str().as_encoded_bytes());
    let id = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    let inner = folder.strip_prefix(root).unwrap_or(folder);
    let name = if inner.as_os_str().is_empty() { place.file_name()?.as_ref() } else { inner };
    Some(Run { id, name: name.display().to_string(), bytes: about.len(), updated, log })
}

fn events_of(log: &Path, from: u64) -> io::Result<Events> {
    let mut file = fs::File::open(log)?;
    let length = file.metadata()?.len();
    // A run that was begun again has a shorter log.
    let from = if from > length { 0 } else { from };
    if let Some(before) = from.checked_sub(1) {
        let mut byte = [0];
        file.seek(SeekFrom::Start(before))?;
        file.read_exact(&mut byte)?;
        if byte != [b'\n'] {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no event begins at byte {from}"),
            ));
        }
    }
    let mut bytes = Vec::new();
    file.take(PIECE).read_to_end(&mut bytes)?;
    // The last line may still be on its way.
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let mut events = Vec::new();
    for line in bytes[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        events.push(serde_json::from_slice(line).map_err(|error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: a line is no JSON: {error}", log.display()),
            )
        })?);
    }
    let next = from + whole as u64;
    Ok(Events { events, next, end: from + bytes.len() as u64 >= length || whole == 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_and_told_as_they_grow() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("runs/a/run.jsonl", "{\"event\":\"start\"}\n{\"event\":\"step\",\"loss\":1.50}\n{\"event\":");
        write("runs/b/notes.txt", "");
        write("1/2/3/4/run.jsonl", "{}\n");
        write(".hidden/run.jsonl", "{}\n");
        let runs = Runs::new(vec![dir.path().to_owned(), dir.path().join("runs")]);
        let found = runs.list();
        let names: Vec<&str> = found.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let id = &found[0].id;
        let told = runs.events(id, 0).expect("a run").expect("read");
        let texts: Vec<&str> = told.events.iter().map(|event| event.get()).collect();
        assert_eq!(texts, ["{\"event\":\"start\"}", "{\"event\":\"step\",\"loss\":1.50}"]);
        assert!(told.end);
        assert!(
            runs.events(id, 3).expect("a run").expect_err("inside a line").to_string().contains("byte 3")
        );
        write(
            "runs/a/run.jsonl",
            "{\"event\":\"start\"}\n{\"event\":\"step\",\"loss\":1.50}\n{\"event\":\"done\"}\n",
        );
        let more = runs.events(id, told.next).expect("a run").expect("read");
        assert_eq!(more.events[0].get(), "{\"event\":\"done\"}");
        let again = runs.events(id, 1 << 40).expect("a run").expect("read");
        assert_eq!(again.events.len(), 3, "a shorter log is told from its beginning");
        for id in ["", "../runs/a", "runs/a", "/etc"] {
            assert!(runs.events(id, 0).is_none(), "{id}");
        }
        write("runs/a/run.jsonl", "nonsense\n");
        assert!(runs.events(id, 0).expect("a run").expect_err("no JSON").to_string().contains("run.jsonl"));
    }
}
