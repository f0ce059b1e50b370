//! Checkpoints: everything a run needs to go on to the same bits, written whole.
//!
//! `checkpoints/step-00000100/` holds `state.safetensors` (parameters and optimiser state, `f32`) and
//! `state.json`. A checkpoint is written into a hidden folder beside and renamed once it is on disk.

use crate::error::TrainError;
use crate::optimizer::{Moments, Optimizer};
use hearth_kernel::mapped::MappedFile;
use hearth_model::Weights;
use hearth_model::executor::ParamSpec;
use hearth_tensor::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Steps done.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Energy of the processor's package so far, where the machine tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// Where the batches stand.
    pub batches: hearth_data::BatchState,
    /// Hash of the tokenizer that the shards were made with.
    pub tokenizer_hash: String,
    /// Hashes of the shards.
    pub data_hash: String,
    /// The files that the shards were made from.
    pub sources: Vec<SourceFile>,
}

/// A file that a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its name, without the folders that lead to it.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of its bytes, in hexadecimal.
    pub sha256: String,
}

/// The checkpoints of a run.
#[derive(Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    keep: usize,
}

/// How the name of a folder begins that is being written, or removed.
const PARTIAL: &str = ".writing-";
const STATE: &str = "state.json";
const TENSORS: &str = "state.safetensors";

impl Checkpoints {
    /// The checkpoints under a run's folder, of which the last `keep` stay.
    pub fn new(run: &Path, keep: usize) -> Self {
        Checkpoints { dir: run.join("checkpoints"), keep: keep.max(1) }
    }

    /// Removes what a run that was killed left half-written or half-removed.
    pub fn sweep(&self) -> Result<(), TrainError> {
        if self.dir.is_dir() {
            for entry in fs_err::read_dir(&self.dir)? {
                let path = entry?.path();
                if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PARTIAL)) {
                    fs_err::remove_dir_all(path)?;
                }
            }
        }
        Ok(())
    }

    /// All whole checkpoints, oldest first.
    pub fn list(&self) -> Result<Vec<PathBuf>, TrainError> {
        if !self.dir.is_dir() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs_err::read_dir(&self.dir)? {
            let path = entry?.path();
            let whole = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("step-"));
            if whole && path.join(STATE).is_file() {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// The newest whole checkpoint.
    pub fn latest(&self) -> Result<Option<PathBuf>, TrainError> {
        Ok(self.list()?.pop())
    }

    /// Writes a checkpoint, then removes those that are too old.
    pub fn save(
        &self,
        specs: &[ParamSpec],
        weights: &Weights,
        optimizer: &Optimizer,
        state: &RunState,
    ) -> Result<PathBuf, TrainError> {
        fs_err::create_dir_all(&self.dir)?;
        let name = format!("step-{:08}", state.step);
        let target = self.dir.join(&name);
        let temporary = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(&self.dir)?;
        write_synced(&temporary.path().join(TENSORS), &tensors_blob(specs, weights, optimizer, &target)?)?;
        let json = serde_json::to_vec_pretty(state).map_err(std::io::Error::from)?;
        write_synced(&temporary.path().join(STATE), &json)?;
        if target.exists() {
            self.remove(&target)?;
        }
        fs_err::rename(temporary.path(), &target)?;
        // The folder was renamed away: nothing is left for the guard to delete.
        drop(temporary.keep());
        let list = self.list()?;
        for old in &list[..list.len().saturating_sub(self.keep)] {
            self.remove(old)?;
        }
        Ok(target)
    }

    /// Takes a checkpoint out of the list at once, so that no crash leaves a part of it there.
    fn remove(&self, checkpoint: &Path) -> Result<(), TrainError> {
        let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
        let doomed = self.dir.join(format!("{PARTIAL}{name}"));
        fs_err::rename(checkpoint, &doomed)?;
        Ok(fs_err::remove_dir_all(doomed)?)
    }

    /// Reads a checkpoint back into weights and optimiser.
    pub fn load(
        path: &Path,
        specs: &[ParamSpec],
        weights: &mut Weights,
        optimizer: &mut Optimizer,
    ) -> Result<RunState, TrainError> {
        let problem = |problem: String| TrainError::Checkpoint { path: path.to_owned(), problem };
        let json = fs_err::read(path.join(STATE))?;
        let state: RunState = serde_json::from_slice(&json)
            .map_err(|e| problem(format!("{STATE} isn't what was written: {e}")))?;
        let mapped = MappedFile::open(&path.join(TENSORS))?;
        let parsed = SafeTensors::deserialize(mapped.bytes())
            .map_err(|e| problem(format!("{TENSORS} isn't whole: {e}")))?;
        let read = |kind: &str, name: &str, into: &mut [f32]| {
            let view = parsed.tensor(&format!("{kind}.{name}")).map_err(|_| {
                problem(format!("{TENSORS} has no {kind} of {name}; was the recipe changed?"))
            })?;
            if view.dtype() != Dtype::F32 || view.data().len() != into.len() * 4 {
                let got = view.shape();
                return Err(problem(format!(
                    "{kind} of {name} has shape {got:?}, expected {} values",
                    into.len()
                )));
            }
            for (x, bytes) in into.iter_mut().zip(view.data().chunks_exact(4)) {
                *x = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            Ok(())
        };
        for (spec, tensor) in specs.iter().zip(weights.tensors_mut()) {
            read("param", &spec.name, tensor.data_mut())?;
        }
        optimizer.restore(state.step, |i, moments| match moments {
            Moments::Adam(m, v) => {
                read("m", &specs[i].name, m)?;
                read("v", &specs[i].name, v)
            }
            Moments::Muon(momentum) => read("momentum", &specs[i].name, momentum),
            Moments::Normuon(momentum, row_squares) => {
                read("momentum", &specs[i].name, momentum)?;
                read("row_squares", &specs[i].name, row_squares)
            }
        })?;
        Ok(state)
    }
}

/// Parameters and optimiser state as one safetensors file.
fn tensors_blob(
    specs: &[ParamSpec],
    weights: &Weights,
    optimizer: &Optimizer,
    path: &Path,
) -> Result<Vec<u8>, TrainError> {
    let mut named: Vec<(String, &[usize], &[f32])> = Vec::new();
    let tensors: &[Tensor] = weights.tensors();
    for ((spec, tensor), moments) in specs.iter().zip(tensors).zip(optimizer.moments()) {
        let shape = &spec.shape[..];
        let mut push = |kind: &str, shape, data| named.push((format!("{kind}.{}", spec.name), shape, data));
        push("param", shape, tensor.data());
        match moments {
            Moments::Adam(m, v) => {
                push("m", shape, m);
                push("v", shape, v);
            }
            Moments::Muon(momentum) => push("momentum", shape, momentum),
            Moments::Normuon(momentum, row_squares) => {
                push("momentum", shape, momentum);
                push("row_squares", &shape[..1], row_squares);
            }
        }
    }
    let bytes: Vec<Vec<u8>> =
        named.iter().map(|(_, _, data)| data.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let problem = |e: safetensors::SafeTensorError| TrainError::Checkpoint {
        path: path.into(),
        problem: e.to_string(),
    };
    let mut views = Vec::with_capacity(named.len());
    for ((name, shape, _), bytes) in named.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(problem)?;
        views.push((name.as_str(), view));
    }
    safetensors::serialize(views, None).map_err(problem)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let mut file = fs_err::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}
