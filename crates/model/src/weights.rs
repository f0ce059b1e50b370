//! A model's parameters as tensors: initialised, copied from a file, saved as a folder that
//! `transformers` opens.

use crate::config::{DecoderConfig, Family};
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::executor::{Init, ParamId, ParamSpec, Role};
use crate::folder::{FolderModel, visit_tensors};
use crate::hf::{SpecialIds, config_to_json};
use crate::rope_scaling::RopeScaling;
use crate::source::Source;
use half::bf16;
use hearth_tensor::{HalfTensor, HalfType, Rng, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

/// One tensor a parameter, in the order of the decoder's specs.
#[derive(Clone, Debug)]
pub struct Weights {
    tensors: Vec<Tensor>,
    /// Parameters that are kept in 16 bits and not trained; their tensors have no values.
    halves: HashMap<usize, HalfTensor>,
}

/// How weights are stored in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// 32 bits: the same bits on reload.
    F32,
    /// 16 bits with the range of `f32`.
    Bf16,
}

impl StoredType {
    /// PyTorch's word for it.
    pub(crate) fn name(self) -> &'static str {
        if self == StoredType::F32 { "float32" } else { "bfloat16" }
    }
}

impl Weights {
    /// Random weights, by the specs' [`Init`]s; the same seed gives the same bits. With
    /// `zero_residual`, projections back into the residual stream start at zero.
    pub fn init(description: &impl AsRef<[ParamSpec]>, seed: u64, zero_residual: bool) -> Self {
        let mut rng = Rng::new(seed);
        let tensors = description.as_ref().iter().map(|spec| {
            let tensor = match spec.init {
                Init::Zeros => Tensor::zeros(&spec.shape),
                Init::Ones => Tensor::ones(&spec.shape),
                Init::Residual(_) if zero_residual => Tensor::zeros(&spec.shape),
                Init::Normal(std) | Init::Residual(std) => Tensor::randn(&spec.shape, std, &mut rng),
            };
            tensor.parameter()
        });
        Weights { tensors: tensors.collect(), halves: HashMap::new() }
    }

    /// No weights at all, of a model that has no tensors.
    pub fn none() -> Self {
        Weights { tensors: Vec::new(), halves: HashMap::new() }
    }

    /// Weights given in the order of the description's parameters.
    ///
    /// # Errors
    /// If a tensor's shape isn't its spec's.
    pub fn from_tensors(
        description: &impl AsRef<[ParamSpec]>,
        tensors: Vec<Tensor>,
    ) -> Result<Self, ModelError> {
        let problem = |problem| ModelError::Config { place: "weights".into(), problem };
        let specs = description.as_ref();
        if tensors.len() != specs.len() {
            return Err(problem(format!("expected {} tensors, got {}", specs.len(), tensors.len())));
        }
        for (spec, tensor) in specs.iter().zip(&tensors) {
            if tensor.shape() != spec.shape {
                let got = tensor.shape();
                return Err(problem(format!("{}: expected shape {:?}, got {got:?}", spec.name, spec.shape)));
            }
        }
        let tensors = tensors.into_iter().map(|t| t.parameter()).collect();
        Ok(Weights { tensors, halves: HashMap::new() })
    }

    /// Writes a safetensors file of these weights alone, in single precision, under the description's names.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, path: &Path, description: &impl AsRef<[ParamSpec]>) -> Result<(), ModelError> {
        let values = self.tensors.iter().map(|tensor| encode(tensor.data(), StoredType::F32));
        let all: Vec<(&ParamSpec, Vec<u8>)> = description.as_ref().iter().zip(values).collect();
        let named = all.iter().map(|(spec, bytes)| (spec.name.as_str(), &spec.shape[..], &bytes[..]));
        write_tensors(path, named, StoredType::F32)
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// If the file isn't one of exactly the description's tensors, or holds what isn't a number.
    pub fn read(path: &Path, description: &impl AsRef<[ParamSpec]>) -> Result<Self, ModelError> {
        let problem = |problem: String| ModelError::Weights { file: path.to_owned(), problem };
        let specs = description.as_ref();
        let mut found: HashMap<String, Tensor> = HashMap::new();
        visit_tensors(path, &[], |name, shape, rows| {
            let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
                return Err(problem(format!("{name}: the model has no such tensor")));
            };
            if shape != spec.shape {
                return Err(problem(format!("{name}: expected shape {:?}, got {shape:?}", spec.shape)));
            }
            let values = rows?.values();
            if values.iter().any(|value| !value.is_finite()) {
                return Err(problem(format!("{name}: it has a value that isn't a finite number")));
            }
            found.insert(name.to_owned(), Tensor::from_vec(values, shape)?);
            Ok(())
        })?;
        let take = |spec: &ParamSpec| {
            found.remove(&spec.name).ok_or_else(|| problem(format!("{}: the tensor is missing", spec.name)))
        };
        Self::from_tensors(description, specs.iter().map(take).collect::<Result<_, _>>()?)
    }

    /// Weights by their values, in the order of `decoder.specs()`.
    ///
    /// # Errors
    /// If there are more or fewer values than a spec's shape has.
    pub fn from_values(decoder: &Decoder, values: Vec<Vec<f32>>) -> Result<Self, ModelError> {
        let tensors = decoder.specs().iter().zip(values);
        let tensors = tensors.map(|(spec, values)| Ok(Tensor::from_vec(values, &spec.shape)?));
        Self::from_tensors(decoder, tensors.collect::<Result<_, ModelError>>()?)
    }

    /// A parameter.
    ///
    /// # Panics
    /// If it is kept in 16 bits.
    pub fn get(&self, id: ParamId) -> &Tensor {
        assert!(!self.halves.contains_key(&id.0), "parameter {} is kept in 16 bits", id.0);
        &self.tensors[id.0]
    }

    /// A parameter that is kept in 16 bits.
    pub fn half(&self, id: ParamId) -> Option<&HalfTensor> {
        self.halves.get(&id.0)
    }

    /// A parameter in single precision, however it is kept.
    pub fn widened(&self, id: ParamId) -> Tensor {
        self.half(id).map_or_else(|| self.tensors[id.0].clone(), HalfTensor::to_f32)
    }

    /// Freezes all parameters but those that `trained` names by their places: they get no gradient.
    pub fn freeze(&mut self, trained: impl Fn(usize) -> bool) {
        let tensors = self.tensors.iter_mut().enumerate();
        tensors.filter(|(i, _)| !trained(*i)).for_each(|(_, tensor)| *tensor = tensor.detach());
    }

    /// Keeps frozen matrices and tables in bf16.
    pub fn halve_frozen(&mut self) {
        for (i, tensor) in self.tensors.iter_mut().enumerate() {
            if tensor.rank() == 2 && !tensor.requires_grad() {
                self.halves.insert(i, HalfTensor::new(tensor, HalfType::Bf16));
                *tensor = Tensor::zeros(&[0]);
            }
        }
    }

    /// How many values are kept in 16 bits.
    pub fn halved_values(&self) -> usize {
        self.halves.values().map(|half| half.shape().iter().product::<usize>()).sum()
    }

    /// Keeps nothing in 16 bits.
    pub(crate) fn widen_all(&mut self) {
        for (i, half) in self.halves.drain() {
            self.tensors[i] = half.to_f32();
        }
    }

    /// Adds parameters at the end.
    pub(crate) fn extend(&mut self, tensors: impl Iterator<Item = Tensor>) {
        self.tensors.extend(tensors.map(|tensor| tensor.parameter()));
    }

    /// Takes the parameters from `len` on away.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.tensors.truncate(len);
    }

    /// Replaces a parameter's values.
    pub(crate) fn set(&mut self, id: ParamId, tensor: Tensor) {
        self.halves.remove(&id.0);
        self.tensors[id.0] = tensor;
    }

    /// All parameters.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// All parameters, to be updated.
    pub fn tensors_mut(&mut self) -> &mut [Tensor] {
        &mut self.tensors
    }

    /// Copies of what a source has, in single precision.
    ///
    /// # Errors
    /// If they don't have the description's shapes.
    pub fn of_source(description: &impl AsRef<[ParamSpec]>, source: &dyn Source) -> Result<Self, ModelError> {
        let tensors = description.as_ref().iter().enumerate().map(|(i, spec)| {
            // One at a time: what a file holds may be as large as memory.
            Ok(Tensor::from_slice(&source.stored(ParamId(i)).values(), &spec.shape)?)
        });
        Self::from_tensors(description, tensors.collect::<Result<_, ModelError>>()?)
    }

    /// Writes `model.safetensors` and returns the configuration that it stands for: GPT families
    /// trained without biases gain zero ones, which `transformers` expects. `head` are the parameters of a task's
    /// head, which stand behind those of the decoder.
    pub(crate) fn save(
        &self,
        path: &Path,
        decoder: &Decoder,
        head: &[ParamSpec],
        dtype: StoredType,
    ) -> Result<DecoderConfig, ModelError> {
        let mut config = decoder.config().clone();
        config.biases |= config.family.is_gpt();
        let published = Decoder::new(config.clone())?;
        let trained: HashMap<&str, &Tensor> =
            decoder.specs().iter().map(|s| s.name.as_str()).zip(&self.tensors).collect();
        let mut bytes: Vec<(&ParamSpec, Vec<u8>)> = published
            .specs()
            .iter()
            .map(|spec| {
                let bytes = match trained.get(spec.name.as_str()) {
                    Some(tensor) => {
                        let less = stored_less(&config, spec);
                        let mut values = Cow::Borrowed(tensor.data());
                        if less != 0.0 {
                            values.to_mut().iter_mut().for_each(|x| *x -= less);
                        }
                        encode(&values, dtype)
                    }
                    None => encode(&vec![0.0; spec.shape.iter().product()], dtype),
                };
                (spec, bytes)
            })
            .collect();
        let of_head = self.tensors[decoder.specs().len()..].iter().zip(head);
        bytes.extend(of_head.map(|(tensor, spec)| (spec, encode(tensor.data(), dtype))));
        let named = bytes.iter().map(|(spec, bytes)| (spec.name.as_str(), &spec.shape[..], &bytes[..]));
        write_tensors(path, named, dtype)?;
        Ok(config)
    }
}

/// Opens a model folder for training: its description and its weights, in single precision.
///
/// # Errors
/// Those of [`FolderModel::open`].
pub fn load_folder(dir: &Path) -> Result<(Decoder, Weights), ModelError> {
    let model = FolderModel::open(dir)?;
    let weights = Weights::of_source(model.decoder(), &model)?;
    Ok((model.decoder().clone(), weights))
}

/// Whether a folder's `config.json` can say what the model is.
pub(crate) fn check_has_words(dir: &Path, config: &DecoderConfig) -> Result<(), ModelError> {
    match config.rope_scaling {
        Some(RopeScaling::Divisors(_)) => Err(ModelError::Config {
            place: dir.display().to_string(),
            problem:
                "config.json has no words for the divisors of this model's rotary embedding\nhint: a GGUF \
                      file has"
                    .into(),
        }),
        _ => Ok(()),
    }
}

/// Writes `config.json`, `generation_config.json` and `model.safetensors`; `config.json` comes last,
/// so a folder that has one is whole.
pub fn save_folder(
    dir: &Path,
    decoder: &Decoder,
    weights: &Weights,
    ids: SpecialIds,
    dtype: StoredType,
) -> Result<(), ModelError> {
    check_has_words(dir, decoder.config())?;
    fs_err::create_dir_all(dir)?;
    let config = weights.save(&dir.join("model.safetensors"), decoder, &[], dtype)?;
    let generation = json!({ "bos_token_id": ids.bos, "eos_token_id": ids.eos, "do_sample": true });
    write_json(&dir.join("generation_config.json"), &generation)?;
    write_json(&dir.join("config.json"), &config_to_json(&config, ids, dtype.name()))
}

/// Writes a safetensors file: names, shapes, and values that are encoded already.
pub(crate) fn write_tensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
    dtype: StoredType,
) -> Result<(), ModelError> {
    let stored = if dtype == StoredType::F32 { Dtype::F32 } else { Dtype::BF16 };
    let weights_error = |problem: String| ModelError::Weights { file: path.to_owned(), problem };
    let mut views = Vec::new();
    for (name, shape, bytes) in tensors {
        let view = TensorView::new(stored, shape.to_vec(), bytes);
        views.push((name, view.map_err(|e| weights_error(e.to_string()))?));
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let blob = safetensors::serialize(views, Some(metadata)).map_err(|e| weights_error(e.to_string()))?;
    write_whole(path, &blob)
}

pub(crate) fn write_json(path: &Path, json: &Value) -> Result<(), ModelError> {
    let text = serde_json::to_string_pretty(json).map_err(std::io::Error::from)?;
    write_whole(path, (text + "\n").as_bytes())
}

/// Replaces a file whole: written beside, synced, renamed.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    replace_with(path, |file| Ok(file.write_all(bytes)?))
}

/// Replaces a file whole by what `write` puts into the new one.
pub(crate) fn replace_with(
    path: &Path,
    write: impl FnOnce(&mut fs_err::File) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let partial = path.with_added_extension("partial");
    let replace = || {
        let mut file = fs_err::File::create(&partial)?;
        write(&mut file)?;
        file.sync_all()?;
        fs_err::rename(&partial, path)?;
        Ok(())
    };
    replace().inspect_err(|_: &ModelError| {
        // The disk may be full: what was written of it must not stay.
        drop(fs_err::remove_file(&partial));
    })
}

/// How much less than it is a parameter is in `transformers`' files: Gemma's norms multiply by one more.
pub(crate) fn stored_less(config: &DecoderConfig, spec: &ParamSpec) -> f32 {
    if config.family == Family::Gemma3 && spec.role == Role::Vector { 1.0 } else { 0.0 }
}

pub(crate) fn encode(values: &[f32], dtype: StoredType) -> Vec<u8> {
    match dtype {
        StoredType::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        StoredType::Bf16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
    }
}
