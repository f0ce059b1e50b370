//! `model.json`, and the weights beside it.

use crate::error::TrainError;
use crate::neural::Network;
use fs_err as fs;
use hearth_model::Weights;
use hearth_tokenizer::replace_file;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FORMAT: &str = "hearth-baseline";
const VERSION: u32 = 1;
const MODEL: &str = "model.json";
const WEIGHTS: &str = "model.safetensors";

/// The file, with what a kind of model keeps in it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<M> {
    format: String,
    version: u32,
    task: String,
    labels: Vec<String>,
    model: M,
}

/// Whether a folder holds a model from before the Transformer.
pub fn is_baseline(dir: &Path) -> bool {
    dir.join(MODEL).is_file()
}

/// What the model of a folder was made for, `classify` or `tag`, if it is one from before the Transformer.
///
/// # Errors
/// If its file can't be read.
pub fn baseline_task(dir: &Path) -> Result<Option<String>, TrainError> {
    #[derive(Deserialize)]
    struct Named {
        task: String,
    }
    if !is_baseline(dir) {
        return Ok(None);
    }
    let text = fs_err::read(dir.join(MODEL))?;
    let named: Named = serde_json::from_slice(&text).map_err(|error| damaged(dir, error.to_string()))?;
    Ok(Some(named.task))
}

fn damaged(dir: &Path, problem: impl Into<String>) -> TrainError {
    TrainError::Recipe { place: dir.join(MODEL).display().to_string(), problem: problem.into() }
}

/// Writes a model; `model.json` comes last.
pub(super) fn write(
    dir: &Path,
    task: &str,
    labels: &[String],
    model: &impl Serialize,
    network: Option<(&Network, &Weights)>,
) -> Result<(), TrainError> {
    if let Some((network, weights)) = network {
        weights.write(&dir.join(WEIGHTS), network)?;
    }
    let labels = labels.to_vec();
    let file = File { format: FORMAT.to_owned(), version: VERSION, task: task.to_owned(), labels, model };
    let text = serde_json::to_string(&file).map_err(std::io::Error::from)?;
    Ok(replace_file(&dir.join(MODEL), (text + "\n").as_bytes())?)
}

/// Reads the labels of a model for `task`, and what it keeps.
pub(super) fn read<M: DeserializeOwned>(dir: &Path, task: &str) -> Result<(Vec<String>, M), TrainError> {
    #[derive(Deserialize)]
    struct Head {
        format: Option<String>,
        version: Option<u32>,
        task: Option<String>,
    }
    let text = fs::read_to_string(dir.join(MODEL))?;
    let not_json = |error: serde_json::Error| damaged(dir, format!("it isn't what it should be: {error}"));
    let head: Head = serde_json::from_str(&text).map_err(not_json)?;
    if head.format.as_deref() != Some(FORMAT) {
        return Err(damaged(
            dir,
            format!("its format is {:?}, expected {FORMAT}", head.format.unwrap_or_default()),
        ));
    }
    if head.version != Some(VERSION) {
        return Err(damaged(
            dir,
            format!(
                "its version is {:?}, expected {VERSION}\nhint: was it made by a newer hearth?",
                head.version
            ),
        ));
    }
    let its = head.task.unwrap_or_default();
    if its != task {
        return Err(damaged(
            dir,
            format!("it is for {its:?}, expected {task:?}\nhint: hearth {its} runs it"),
        ));
    }
    let file: File<M> = serde_json::from_str(&text).map_err(not_json)?;
    if file.labels.is_empty() {
        return Err(damaged(dir, "it has no label"));
    }
    Ok((file.labels, file.model))
}

/// The weights of a network with so many labels and features.
pub(super) fn read_weights(
    dir: &Path,
    network: &Network,
    (labels, features): (usize, usize),
) -> Result<Weights, TrainError> {
    let shape = network.shape();
    check(dir, "labels", labels, shape.labels)?;
    check(dir, "features", features, shape.features)?;
    Ok(Weights::read(&dir.join(WEIGHTS), network)?)
}

/// Refuses a model that counts something otherwise than its file.
pub(super) fn check(dir: &Path, what: &str, listed: usize, used: usize) -> Result<(), TrainError> {
    if listed == used {
        return Ok(());
    }
    Err(damaged(dir, format!("it lists {listed} {what}, but its model is for {used}")))
}
