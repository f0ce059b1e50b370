//! An encoder out of a Hugging Face folder: `config.json` of model type `bert` or `eurobert`, or, where that file says
//! nothing of the architecture, the shapes of the tensors.

use crate::encoder::{Encoder, EncoderConfig, EncoderFamily};
use crate::error::ModelError;
use crate::executor::ParamSpec;
use crate::folder::{read_json, visit_tensors, weight_files};
use crate::hf::ENCODERS;
use crate::hf_encoder::{encoder_config_from_json, encoder_config_to_json};
use crate::weights::{StoredType, Weights, encode, write_json, write_tensors};
use hearth_tensor::Tensor;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Heads of published BERTs by their hidden size, for folders that don't say: MiniLM, TinyBERT, and those of
/// Turc et al. 2019, Devlin et al. 2019.
const HEADS: [(usize, usize); 7] =
    [(128, 2), (256, 4), (312, 12), (384, 12), (512, 8), (768, 12), (1024, 16)];

/// An encoder of a folder.
#[derive(Debug)]
pub struct EncoderFolder {
    /// The description.
    pub encoder: Encoder,
    /// Its parameters.
    pub weights: Weights,
    /// Tensors of a head by their names, if a task's class wrote the folder.
    pub heads: HashMap<String, Tensor>,
    /// Whether `config.json` doesn't say what the model is, so that its sizes are those of its tensors, and its
    /// number of heads is that of published models of this width.
    pub guessed: bool,
}

impl EncoderFolder {
    /// Whether a folder's `config.json` is that of an encoder, or says nothing of the architecture.
    ///
    /// # Errors
    /// If the file isn't there, or isn't JSON.
    pub fn is_encoder(dir: &Path) -> Result<bool, ModelError> {
        let json = config_of(dir)?;
        Ok(json.get("model_type").is_none_or(|kind| ENCODERS.iter().any(|known| kind == known)))
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// If a file is missing or isn't what it should be, or if nothing says how many heads there are.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let json = config_of(dir)?;
        let guessed = json.get("model_type").is_none();
        let (config, mut found) = match guessed {
            true => {
                let found = Found::read(dir, EncoderFamily::Bert)?;
                (found.config(dir)?, found)
            }
            false => {
                let place = dir.join("config.json").display().to_string();
                let config = encoder_config_from_json(&place, &json)?;
                let found = Found::read(dir, config.family)?;
                (config, found)
            }
        };
        let pooler = found.tensors.contains_key("pooler.dense.weight");
        let encoder = Encoder::new(EncoderConfig { pooler, ..config })?;
        let mut tensors = Vec::with_capacity(encoder.specs().len());
        for spec in encoder.specs() {
            let missing = || format!("no tensor {}, expected shape {:?}", spec.name, spec.shape);
            let tensor = found.tensors.remove(&spec.name).ok_or_else(|| found.problem(missing()))?;
            if tensor.shape() != spec.shape {
                let got = tensor.shape();
                let name = &spec.name;
                return Err(found.problem(format!("{name}: expected shape {:?}, got {got:?}", spec.shape)));
            }
            tensors.push(tensor);
        }
        if let Some(name) = found.tensors.keys().next() {
            let kind = encoder.config().family.model_type();
            return Err(found.problem(format!("tensor {name} belongs to no part of a {kind}")));
        }
        let weights = Weights::from_tensors(&encoder, tensors)?;
        Ok(EncoderFolder { encoder, weights, heads: found.heads, guessed })
    }
}

/// Writes the parameters of an encoder with a head, `specs`, into `model.safetensors`: those of the encoder come first,
/// and get the prefix of the classes with a head.
pub(crate) fn write_encoder_tensors(
    dir: &Path,
    encoder: &Encoder,
    specs: &[ParamSpec],
    weights: &Weights,
    dtype: StoredType,
) -> Result<(), ModelError> {
    let under_head = encoder.specs().len();
    let tensors: Vec<(String, &[usize], Vec<u8>)> = specs
        .iter()
        .zip(weights.tensors())
        .enumerate()
        .map(|(i, (spec, tensor))| {
            let prefix = if i < under_head { encoder.config().family.name_prefix() } else { "" };
            (format!("{prefix}{}", spec.name), &spec.shape[..], encode(tensor.data(), dtype))
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| (name.as_str(), *shape, &bytes[..]));
    write_tensors(&dir.join("model.safetensors"), views, dtype)
}

/// Writes an encoder without a head, as `transformers` has it in `BertModel` or `EuroBertModel`: `model.safetensors`
/// and `config.json`, the latter last, so that a folder that has one is whole.
///
/// # Errors
/// If the disk fails.
pub fn save_encoder_folder(
    dir: &Path,
    encoder: &Encoder,
    weights: &Weights,
    dtype: StoredType,
) -> Result<(), ModelError> {
    fs_err::create_dir_all(dir)?;
    let bytes: Vec<Vec<u8>> = weights.tensors().iter().map(|tensor| encode(tensor.data(), dtype)).collect();
    let named = encoder.specs().iter().zip(&bytes);
    let named = named.map(|(spec, bytes)| (spec.name.as_str(), &spec.shape[..], &bytes[..]));
    write_tensors(&dir.join("model.safetensors"), named, dtype)?;
    write_json(&dir.join("config.json"), &encoder_config_to_json(encoder.config(), dtype.name()))
}

fn config_of(dir: &Path) -> Result<Value, ModelError> {
    let path = dir.join("config.json");
    match path.is_file() {
        true => read_json(&path),
        false => Err(ModelError::NotAModel { folder: dir.to_owned(), missing: "config.json" }),
    }
}

/// Heads of tasks, which the hidden states don't need.
fn is_head(name: &str) -> bool {
    ["cls.", "classifier.", "qa_outputs.", "lm_head.", "dense."].iter().any(|prefix| name.starts_with(prefix))
}

/// All tensors of a folder but what carries nothing, without the prefix.
struct Found {
    file: PathBuf,
    tensors: HashMap<String, Tensor>,
    heads: HashMap<String, Tensor>,
}

impl Found {
    fn read(dir: &Path, family: EncoderFamily) -> Result<Self, ModelError> {
        let prefix = family.name_prefix();
        let files = weight_files(dir)?;
        let file = files.keys().next().cloned().unwrap_or_else(|| dir.to_owned());
        let mut found = Found { file, tensors: HashMap::new(), heads: HashMap::new() };
        for (file, expected) in &files {
            visit_tensors(file, expected, |name, shape, rows| {
                let bare = name.strip_prefix(prefix).unwrap_or(name);
                if bare == "embeddings.position_ids" {
                    return Ok(());
                }
                let tensor = Tensor::from_vec(rows?.values(), shape)?;
                let list = if is_head(bare) { &mut found.heads } else { &mut found.tensors };
                if list.insert(bare.to_owned(), tensor).is_some() {
                    let problem = format!("tensor {bare} is there with and without {prefix}");
                    return Err(ModelError::Weights { file: file.clone(), problem });
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    fn problem(&self, problem: String) -> ModelError {
        ModelError::Weights { file: self.file.clone(), problem }
    }

    /// The sizes that the tensors' shapes tell.
    fn config(&self, dir: &Path) -> Result<EncoderConfig, ModelError> {
        let shape = |name: &str| match self.tensors.get(name).map(Tensor::shape) {
            Some(&[rows, cols]) => Ok((rows, cols)),
            _ => Err(ModelError::Config {
                place: dir.join("config.json").display().to_string(),
                problem: format!(
                    "model_type is missing, and the tensors aren't a bert's: there is no matrix {name}\n\
                     hint: put the config.json of the model itself there"
                ),
            }),
        };
        let (vocab_size, hidden_size) = shape("embeddings.word_embeddings.weight")?;
        let known = HEADS.iter().find(|(width, _)| *width == hidden_size);
        let Some(&(_, n_heads)) = known else {
            return Err(ModelError::Config {
                place: dir.join("config.json").display().to_string(),
                problem: format!(
                    "model_type and num_attention_heads are missing; the tensors tell all sizes but the number \
                     of heads, and no published bert of width {hidden_size} is known here\nhint: add \
                     \"model_type\": \"bert\" and the sizes, as transformers writes them"
                ),
            });
        };
        let block = |i: usize| format!("encoder.layer.{i}.intermediate.dense.weight");
        let n_layers = (0..).take_while(|&i| self.tensors.contains_key(&block(i))).count();
        let positions = shape("embeddings.position_embeddings.weight")?.0;
        Ok(EncoderConfig {
            intermediate_size: shape(&block(0))?.0,
            n_types: shape("embeddings.token_type_embeddings.weight")?.0,
            ..EncoderConfig::bert(vocab_size, hidden_size, n_layers, n_heads, positions)
        })
    }
}
