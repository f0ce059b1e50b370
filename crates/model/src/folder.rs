//! A model folder as it lies: weights stay in their safetensors files, mapped, in the precision that those
//! have.
//!
//! A folder has one file, or several with `model.safetensors.index.json`, which says what is in which. The
//! format is described in the `safetensors` repository; headers are checked there, and by the description of
//! the model here.

use crate::config::DecoderConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::executor::{ParamId, ParamSpec};
use crate::hf::config_from_json;
use crate::source::{FileBytes, RowOrder, Rows, Source, Stored};
use crate::weights::stored_less;
use hearth_kernel::mapped::MappedFile;
use hearth_kernel::quant::BlockType;
use hearth_tensor::Tensor;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A decoder in a folder of the Hugging Face layout.
#[derive(Debug)]
pub struct FolderModel {
    decoder: Decoder,
    params: Vec<Param>,
}

#[derive(Debug)]
enum Param {
    Rows(Rows),
    /// Changed on the way.
    Values(Vec<f32>),
}

impl FolderModel {
    /// Describes the model in a folder, and finds all its parameters.
    ///
    /// # Errors
    /// If a file is missing or damaged, the architecture isn't one that runs here, a setting isn't understood,
    /// or a tensor is missing, there twice, of another shape or type, or belongs to nothing.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        Self::read(dir, None)
    }

    /// A decoder without what turns its hidden states into words: in its place comes the head of a task, whose
    /// tensors go to `heads` if the folder has them.
    pub(crate) fn open_headless(dir: &Path, heads: &mut HashMap<String, Tensor>) -> Result<Self, ModelError> {
        Self::read(dir, Some(heads))
    }

    fn read(dir: &Path, mut heads: Option<&mut HashMap<String, Tensor>>) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        if !path.is_file() {
            return Err(ModelError::NotAModel { folder: dir.to_owned(), missing: "config.json" });
        }
        let mut config = config_from_json(&path.display().to_string(), &read_json(&path)?)?;
        config.tied_head |= heads.is_some();
        let decoder = Decoder::new(config)?;
        let files = weight_files(dir)?;
        let mut found: HashMap<usize, (Param, &Path)> = HashMap::new();
        for (file, expected) in &files {
            read_file(file, expected, &decoder, &mut found, heads.as_deref_mut())?;
        }
        let last = files.keys().next_back().map_or(dir, PathBuf::as_path);
        let missing = |spec: &ParamSpec| {
            problem(last, format!("no tensor {}, expected shape {:?}", spec.name, spec.shape))
        };
        let params = decoder
            .specs()
            .iter()
            .enumerate()
            .map(|(i, spec)| found.remove(&i).map(|(param, _)| param).ok_or_else(|| missing(spec)));
        let params = params.collect::<Result<_, _>>()?;
        Ok(FolderModel { decoder, params })
    }

    /// The description.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }
}

impl Source for FolderModel {
    fn stored(&self, id: ParamId) -> Stored<'_> {
        match &self.params[id.0] {
            Param::Rows(rows) => Stored::File(rows.clone()),
            Param::Values(values) => Stored::Values(values),
        }
    }
}

fn problem(file: &Path, problem: String) -> ModelError {
    ModelError::Weights { file: file.to_owned(), problem }
}

pub(crate) fn read_json(path: &Path) -> Result<Value, ModelError> {
    serde_json::from_str(&fs_err::read_to_string(path)?).map_err(|e| ModelError::Config {
        place: path.display().to_string(),
        problem: format!("not JSON: {e}"),
    })
}

/// The folder's weight files, each with the tensors that the index promises in it: none if there is one file.
pub(crate) fn weight_files(dir: &Path) -> Result<BTreeMap<PathBuf, Vec<String>>, ModelError> {
    let single = dir.join(SINGLE);
    if single.is_file() {
        return Ok(BTreeMap::from([(single, Vec::new())]));
    }
    let index = dir.join(INDEX);
    if !index.is_file() {
        return Err(ModelError::NotAModel { folder: dir.to_owned(), missing: SINGLE });
    }
    let error = |problem: String| ModelError::Config { place: index.display().to_string(), problem };
    let json = read_json(&index)?;
    let map = json["weight_map"].as_object();
    let map = map.ok_or_else(|| error("no weight_map, expected an object of tensors and files".into()))?;
    let mut files: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for (tensor, name) in map {
        let name = name
            .as_str()
            .ok_or_else(|| error(format!("tensor {tensor} is in {name}, expected a file's name")))?;
        // A shard is a file in the folder, never a path out of it.
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(error(format!("shard name {name:?} is a path, expected a file's name")));
        }
        files.entry(dir.join(name)).or_default().push(tensor.clone());
    }
    if let Some(missing) = files.keys().find(|file| !file.is_file()) {
        let name = missing.file_name().unwrap_or_default().to_string_lossy();
        return Err(error(format!(
            "shard {name} isn't in the folder, and {} tensors are in it\nhint: was the download cut short? get \
             the file again",
            files[missing].len()
        )));
    }
    Ok(files)
}

/// Shows each tensor of a file: name, shape, and what is stored, or why that can't be read.
pub(crate) fn visit_tensors(
    file: &Path,
    expected: &[String],
    mut visit: impl FnMut(&str, &[usize], Result<Rows, ModelError>) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let error = |text: String| problem(file, text);
    let mapped = Arc::new(FileBytes::Mapped(MappedFile::open(file)?));
    let whole = |e| error(format!("not a whole safetensors file: {e}"));
    let (header, metadata) = SafeTensors::read_metadata(mapped.all()).map_err(whole)?;
    if let Some(name) = expected.iter().find(|name| metadata.info(name).is_none()) {
        return Err(error(format!("no tensor {name}, which {INDEX} says is in this file")));
    }
    let data_start = header + size_of::<u64>();
    for (name, info) in metadata.tensors() {
        let kind = match info.dtype {
            Dtype::F32 => Ok(BlockType::F32),
            Dtype::F16 => Ok(BlockType::F16),
            Dtype::BF16 => Ok(BlockType::Bf16),
            other => Err(error(format!("{name}: expected F32, F16 or BF16, got {other:?}"))),
        };
        let (start, end) = info.data_offsets;
        let range = data_start + start..data_start + end;
        let cols = info.shape.last().copied().unwrap_or(1);
        let rows = kind.map(|kind| Rows::new(mapped.clone(), range, kind, cols, RowOrder::Same, false));
        visit(&name, &info.shape, rows)?;
    }
    Ok(())
}

/// Adds a file's tensors to `found`, under the places of the decoder's specs; those of a task's head go to `heads` if
/// one is expected.
fn read_file<'a>(
    file: &'a Path,
    expected: &[String],
    decoder: &Decoder,
    found: &mut HashMap<usize, (Param, &'a Path)>,
    mut heads: Option<&mut HashMap<String, Tensor>>,
) -> Result<(), ModelError> {
    let error = |text: String| problem(file, text);
    let config = decoder.config();
    let specs: HashMap<&str, usize> =
        decoder.specs().iter().enumerate().map(|(i, spec)| (spec.name.as_str(), i)).collect();
    visit_tensors(file, expected, |name, shape, rows| {
        let Some(i) = find_spec(&specs, name) else {
            if is_redundant(name, config) {
                return Ok(());
            }
            if let Some(heads) = heads.as_deref_mut().filter(|_| is_head(name)) {
                heads.insert(name.to_owned(), Tensor::from_vec(rows?.values(), shape)?);
                return Ok(());
            }
            return Err(error(format!(
                "tensor {name} belongs to no part of a {} of this configuration",
                config.family.model_type()
            )));
        };
        let spec = &decoder.specs()[i];
        if shape != spec.shape {
            return Err(error(format!("{name}: expected shape {:?}, got {shape:?}", spec.shape)));
        }
        let (rows, less) = (rows?, stored_less(config, spec));
        let param = match less == 0.0 {
            true => Param::Rows(rows),
            false => Param::Values(rows.values().into_iter().map(|x| x + less).collect()),
        };
        if let Some((_, first)) = found.insert(i, (param, file)) {
            return Err(error(format!(
                "tensor {name} is there twice, the other is in {}",
                first.file_name().unwrap_or_default().to_string_lossy()
            )));
        }
        Ok(())
    })
}

/// A parameter by its name, with or without the prefix of the model class.
fn find_spec(specs: &HashMap<&str, usize>, name: &str) -> Option<usize> {
    let prefixed = ["transformer.", "model."].map(|prefix| format!("{prefix}{name}"));
    specs.get(name).or_else(|| prefixed.iter().find_map(|n| specs.get(n.as_str()))).copied()
}

/// Layers that `transformers`' classes for tasks put on a decoder.
fn is_head(name: &str) -> bool {
    ["score.", "classifier."].iter().any(|prefix| name.starts_with(prefix))
}

/// Tensors that carry nothing: causal masks, tables of frequencies, a tied head written twice.
fn is_redundant(name: &str, config: &DecoderConfig) -> bool {
    [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"].iter().any(|end| name.ends_with(end))
        || (config.tied_head && name == "lm_head.weight")
}
