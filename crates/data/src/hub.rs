//! Models of the Hugging Face hub: `hf:org/name[@revision]` for a folder, `hf:org/name/file.gguf[@revision]`
//! for one file of it.
//!
//! The crate `hf-hub` talks to the hub and keeps files in its usual layout, here in the folder `hub` of
//! Hearth's caches: `models--org--name/{blobs,refs,snapshots}`. What is there whole needs no network.
//! `HF_ENDPOINT` names another hub, `HF_TOKEN` opens gated repositories.

use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use serde_json::Value;

use crate::error::{DataError, Result};
use crate::fetch::file_sha256;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What a model folder may hold beside its weights; what a repository lacks of it is left out.
const DESCRIPTIONS: [&str; 13] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "README.md",
];

/// Marks a snapshot that has all the files of a model folder.
const WHOLE: &str = ".whole";

/// What comes after `hf:`.
#[derive(Debug, PartialEq, Eq)]
struct HubName<'a> {
    repo: String,
    file: Option<&'a str>,
    revision: &'a str,
}

impl<'a> HubName<'a> {
    fn parse(name: &'a str) -> Result<Self, String> {
        let (place, revision) = name.split_once('@').unwrap_or((name, "main"));
        let plain =
            |text: &str| Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
        let mut parts = place.splitn(3, '/');
        let (Some(owner), Some(repo)) = (parts.next(), parts.next()) else {
            return Err(format!("expected org/name after hf:, got {place:?}"));
        };
        let file = parts.next();
        let all = [Some(owner), Some(repo), file, Some(revision)];
        if all.into_iter().flatten().any(|part| part.is_empty() || !plain(part)) {
            return Err(format!("expected org/name, or org/name/file.gguf, after hf:, got {place:?}"));
        }
        if let Some(file) = file.filter(|file| !file.ends_with(".gguf")) {
            return Err(format!("{file} isn't a GGUF file; of other models the whole repository is named"));
        }
        Ok(HubName { repo: format!("{owner}/{repo}"), file, revision })
    }
}

/// Gets the model `name`, as written after `hf:`, into `home`, or finds it there; the path is that of the
/// model's folder, or of the GGUF file. `progress` hears the name of each file as it is fetched.
///
/// # Errors
/// If the name isn't one, the hub can't be reached or refuses, or the repository holds no such model.
pub fn fetch_hub(name: &str, home: &Path, progress: impl FnMut(&str)) -> Result<PathBuf> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    fetch_from(variable("HF_ENDPOINT").as_deref(), variable("HF_TOKEN"), name, home, progress)
}

fn fetch_from(
    other_hub: Option<&str>,
    token: Option<String>,
    name: &str,
    home: &Path,
    mut progress: impl FnMut(&str),
) -> Result<PathBuf> {
    let wrong =
        |problem: String, hint: String| DataError::ModelName { name: format!("hf:{name}"), problem, hint };
    let wanted = HubName::parse(name).map_err(|problem| {
        let hint = "names look like hf:org/name, hf:org/name@revision, hf:org/name/file.gguf";
        wrong(problem, hint.into())
    })?;
    let cache = Cache::new(home.join("hub"));
    let repo =
        |revision: &str| Repo::with_revision(wanted.repo.clone(), RepoType::Model, revision.to_owned());
    let cached = cache.repo(repo(wanted.revision));
    if let Some(found) = cached.get(wanted.file.unwrap_or(WHOLE)) {
        return Ok(shown(&wanted, found));
    }
    let endpoint = other_hub.unwrap_or("the Hugging Face hub");
    let failed = |error: ApiError| hub_error(name, endpoint, &error);
    let mut builder = ApiBuilder::from_cache(cache.clone()).with_progress(false).with_retries(2);
    if let Some(url) = other_hub {
        builder = builder.with_endpoint(url.trim_end_matches('/').to_owned());
    }
    let api: Api = builder.with_token(token).build().map_err(failed)?;
    let info = api.repo(repo(wanted.revision)).info().map_err(failed)?;
    if info.sha.is_empty() || !info.sha.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong(
            format!("the hub calls its commit {:?}, expected hexadecimal digits", info.sha),
            "check HF_ENDPOINT".into(),
        ));
    }
    let there: Vec<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    // By its commit, so that all files are of one, whatever is pushed meanwhile.
    let pinned = api.repo(repo(&info.sha));
    let mut get = |file: &str| {
        progress(file);
        let path = pinned.download(file).map_err(failed)?;
        checked(name, endpoint, &path)?;
        Ok::<PathBuf, DataError>(path)
    };
    let found = match wanted.file {
        Some(file) if there.contains(&file) => get(file)?,
        Some(file) => {
            return Err(wrong(format!("no file {file} in the repository"), gguf_hint(&wanted.repo, &there)));
        }
        None => {
            if !there.contains(&"config.json") || ![SINGLE, INDEX].iter().any(|file| there.contains(file)) {
                let problem = format!("the repository has no config.json with {SINGLE}");
                return Err(wrong(problem, gguf_hint(&wanted.repo, &there)));
            }
            let config = get("config.json")?;
            for file in DESCRIPTIONS.iter().filter(|file| **file != "config.json" && there.contains(file)) {
                get(file)?;
            }
            if there.contains(&SINGLE) {
                get(SINGLE)?;
            } else {
                let index = get(INDEX)?;
                for shard in shards(&index)? {
                    get(&shard)?;
                }
            }
            let whole = config.with_file_name(WHOLE);
            fs::write(&whole, "")?;
            whole
        }
    };
    // From here on the revision is found without asking.
    cached.create_ref(&info.sha)?;
    Ok(shown(&wanted, found))
}

/// The path for the user: the file, or the folder that the mark is in.
fn shown(wanted: &HubName, found: PathBuf) -> PathBuf {
    match (wanted.file, found.parent()) {
        (None, Some(folder)) => folder.to_owned(),
        _ => found,
    }
}

/// The files that an index names.
fn shards(index: &Path) -> Result<Vec<String>> {
    let problem = |problem: String| DataError::record(index, 1, problem);
    let json: Value = serde_json::from_str(&fs::read_to_string(index)?)
        .map_err(|error| problem(format!("expected JSON: {error}")))?;
    let map = json["weight_map"].as_object();
    let map = map.ok_or_else(|| problem("expected an object weight_map".into()))?;
    let mut files: Vec<String> = map.values().filter_map(Value::as_str).map(str::to_owned).collect();
    files.sort_unstable();
    files.dedup();
    match files.iter().find(|file| Path::new(file).file_name() != Some(file.as_ref())) {
        Some(path) => Err(problem(format!("shard name {path:?} is a path, expected a file's name"))),
        None => Ok(files),
    }
}

/// Compares a large file with its name in the cache, which the hub makes of its SHA-256.
fn checked(name: &str, endpoint: &str, path: &Path) -> Result<()> {
    let blob = fs::canonicalize(path)?;
    let expected = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_sha256 = expected.len() == 64 && expected.bytes().all(|b| b.is_ascii_hexdigit());
    if is_sha256 && file_sha256(path)? != expected {
        fs::remove_file(path)?;
        fs::remove_file(&blob)?;
        return Err(DataError::Hub {
            name: format!("hf:{name}"),
            endpoint: endpoint.to_owned(),
            problem: format!("{} isn't what the hub's checksum says", path.display()),
            hint: "the file was cut short or changed on its way; try again",
        });
    }
    Ok(())
}

/// Which GGUF files a repository has.
fn gguf_hint(repo: &str, there: &[&str]) -> String {
    let files: Vec<&str> = there.iter().copied().filter(|file| file.ends_with(".gguf")).collect();
    match files.as_slice() {
        [] => "only repositories with config.json and safetensors, or with GGUF files, run here".into(),
        files => format!("it has GGUF files; name one, as in hf:{repo}/{}: {}", files[0], files.join(", ")),
    }
}

fn hub_error(name: &str, endpoint: &str, error: &ApiError) -> DataError {
    let status = match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        _ => None,
    };
    let hint = match status {
        Some(401 | 403) => {
            "there is no such repository, or it is gated or private: accept its terms on the hub, and set HF_TOKEN to \
             a token of yours"
        }
        Some(404) => "check the spelling of organisation, name and revision",
        Some(429) => "the hub asks to wait; a token in HF_TOKEN is given more",
        _ => {
            "check the network connection; HF_ENDPOINT names a mirror; what was fetched before needs no network"
        }
    };
    DataError::Hub {
        name: format!("hf:{name}"),
        endpoint: endpoint.to_owned(),
        problem: error.to_string(),
        hint,
    }
}

#[cfg(test)]
mod tests;
