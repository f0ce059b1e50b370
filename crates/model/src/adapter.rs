//! Adapters in the format of PEFT: `adapter_config.json` says what they are, `adapter_model.safetensors` has A and B
//! of each layer under `base_model.model.<module>.lora_A.weight` and `lora_B`, and whatever else was trained, such as
//! a head, under its whole name.

use crate::error::ModelError;
use crate::executor::{ParamId, ParamSpec, Role};
use crate::folder::{read_json, visit_tensors};
use crate::lora::{Lora, LoraConfig, sizes};
use crate::weights::{StoredType, Weights, encode, write_json, write_tensors};
use hearth_tensor::Tensor;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// What PEFT puts in front of names.
const PREFIX: &str = "base_model.model.";
const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";

/// An adapter as its files have it, fitted to a model.
#[derive(Debug)]
pub struct Adapter {
    /// The updates.
    pub lora: Lora,
    /// A and B of each, in the order of [`Lora::specs`].
    pub tensors: Vec<Tensor>,
    /// Parameters of the model that the adapter replaces whole: `modules_to_save`.
    pub replaced: Vec<(ParamId, Tensor)>,
    /// The model that it was made for, as its configuration names it.
    pub base: String,
}

impl Adapter {
    /// Whether a folder holds an adapter.
    pub fn is_adapter(dir: &Path) -> bool {
        dir.join(CONFIG).is_file()
    }

    /// The model that the adapter in a folder was made for, as its configuration names it.
    ///
    /// # Errors
    /// If the folder has no readable `adapter_config.json`.
    pub fn base_of(dir: &Path) -> Result<String, ModelError> {
        let path = dir.join(CONFIG);
        if !path.is_file() {
            return Err(ModelError::NotAnAdapter { folder: dir.to_owned(), missing: CONFIG });
        }
        let json = read_json(&path)?;
        Ok(json["base_model_name_or_path"].as_str().unwrap_or_default().to_owned())
    }

    /// Opens an adapter for a model with the parameters `base`, whose names here differ from those of the class in
    /// `transformers` by `class_prefix`. `in_out` says how the architecture stores its matrices.
    ///
    /// # Errors
    /// If a file is missing or isn't what it should be, if the adapter is of a kind that isn't understood, or if it
    /// is for another model.
    pub fn open(
        dir: &Path,
        base: &[ParamSpec],
        class_prefix: &str,
        in_out: bool,
    ) -> Result<Self, ModelError> {
        let path = dir.join(CONFIG);
        let name = Self::base_of(dir)?;
        let config = config_of(&path, &read_json(&path)?)?;
        let file = dir.join(TENSORS);
        if !file.is_file() {
            return Err(ModelError::NotAnAdapter { folder: dir.to_owned(), missing: TENSORS });
        }
        let mut found = Found::read(&file, base, class_prefix)?;
        let mut chosen = Vec::new();
        for (&i, (a, b)) in &found.pairs {
            let (outputs, inputs) = sizes(&base[i].shape, in_out);
            let (Some(a), Some(b)) = (a, b) else {
                return Err(found.problem(format!("{}: lora_A or lora_B is missing", base[i].name)));
            };
            let rank = a.shape().first().copied().unwrap_or_default();
            if a.shape() != [rank, inputs] || b.shape() != [outputs, rank] || rank == 0 {
                return Err(found.problem(format!(
                    "{}: expected lora_A [r, {inputs}] and lora_B [{outputs}, r], got {:?} and {:?}",
                    base[i].name,
                    a.shape(),
                    b.shape()
                )));
            }
            chosen.push((i, rank));
        }
        if chosen.is_empty() && found.replaced.is_empty() {
            return Err(found.problem("there is no update in it".into()));
        }
        let lora = Lora::over(chosen, config, base, in_out);
        let pairs = std::mem::take(&mut found.pairs);
        let tensors = pairs.into_values().flat_map(|(a, b)| [a, b]).flatten().collect();
        Ok(Adapter { lora, tensors, replaced: found.replaced, base: name })
    }

    /// Puts the updates behind the model's weights, to be trained further, and what it replaces into them.
    pub fn install(self, weights: &mut Weights) -> Lora {
        for (id, tensor) in self.replaced {
            let trained = weights.tensors()[id.index()].requires_grad();
            weights.set(id, if trained { tensor.parameter() } else { tensor });
        }
        weights.extend(self.tensors.into_iter());
        self.lora
    }

    /// What the model's parameters are with `weight` times the update in them, given what they are without.
    pub fn changed(
        &self,
        weight: f32,
        mut stored: impl FnMut(ParamId) -> Vec<f32>,
    ) -> Vec<(ParamId, Vec<f32>)> {
        let mut changed = Vec::new();
        for (i, spec) in self.replaced.iter() {
            changed.push((*i, spec.data().to_vec()));
        }
        for (id, layer) in self.lora.layers() {
            let mut values = stored(id);
            let [a, b] = [layer.a, layer.b].map(|part| &self.tensors[part.index() - self.lora.base()]);
            layer.add_to(&mut values, a, b, weight * layer.scale);
            changed.push((id, values));
        }
        changed
    }
}

/// The settings, and a refusal of what would change the meaning of the tensors.
fn config_of(path: &Path, json: &Value) -> Result<LoraConfig, ModelError> {
    let fail = |problem: String| Err(ModelError::Config { place: path.display().to_string(), problem });
    if json["peft_type"] != "LORA" {
        return fail(format!(
            "peft_type is {}, expected LORA, the only kind that is understood",
            json["peft_type"]
        ));
    }
    let is_on = |key: &str| match json.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    };
    let unknown = ["use_dora", "alpha_pattern", "layer_replication", "trainable_token_indices", "use_bdlora"];
    if let Some(key) = unknown.into_iter().find(|key| is_on(key)) {
        return fail(format!("{key} is {}, which isn't understood", json[key]));
    }
    if let Some(bias) = json.get("bias").filter(|bias| !bias.is_null() && *bias != "none") {
        return fail(format!("bias is {bias}, expected \"none\""));
    }
    let rank = json["r"].as_u64().unwrap_or_default() as usize;
    let alpha = json["lora_alpha"].as_f64().unwrap_or_default() as f32;
    if rank == 0 || alpha <= 0.0 {
        return fail(format!(
            "r is {} and lora_alpha {}, expected numbers above 0",
            json["r"], json["lora_alpha"]
        ));
    }
    if is_on("rank_pattern") && is_on("use_rslora") {
        return fail("rank_pattern together with use_rslora isn't understood".into());
    }
    let targets = json["target_modules"].as_array().into_iter().flatten();
    let targets = targets.filter_map(|target| target.as_str().map(str::to_owned)).collect();
    Ok(LoraConfig { rank, alpha, rank_stabilized: is_on("use_rslora"), targets })
}

/// The tensors of an adapter.
struct Found {
    file: PathBuf,
    /// A and B by the place of the weight that they update.
    pairs: BTreeMap<usize, (Option<Tensor>, Option<Tensor>)>,
    replaced: Vec<(ParamId, Tensor)>,
}

impl Found {
    fn read(file: &Path, base: &[ParamSpec], class_prefix: &str) -> Result<Self, ModelError> {
        let places: HashMap<&str, usize> =
            base.iter().enumerate().map(|(i, spec)| (spec.name.as_str(), i)).collect();
        let place =
            |name: &str| places.get(name).or_else(|| places.get(name.strip_prefix(class_prefix)?)).copied();
        let mut found = Found { file: file.to_owned(), pairs: BTreeMap::new(), replaced: Vec::new() };
        visit_tensors(file, &[], |name, shape, rows| {
            let bare = name.strip_prefix(PREFIX).unwrap_or(name).replace(".default.", ".");
            let part = [".lora_A.weight", ".lora_B.weight"].iter().position(|end| bare.ends_with(end));
            let whole = match part {
                Some(_) => bare[..bare.len() - ".lora_A.weight".len()].to_owned() + ".weight",
                None => bare.replace(".modules_to_save.", "."),
            };
            let fits = |i: &usize| part.is_none() || base[*i].role == Role::Matrix;
            let Some(i) = place(&whole).filter(fits) else {
                return Err(found.problem(format!("tensor {name} belongs to no layer of this model")));
            };
            let tensor = Tensor::from_vec(rows?.values(), shape)?;
            match part {
                Some(0) => found.pairs.entry(i).or_default().0 = Some(tensor),
                Some(_) => found.pairs.entry(i).or_default().1 = Some(tensor),
                None if shape != base[i].shape => {
                    let expect = &base[i].shape;
                    return Err(found.problem(format!("{name}: expected shape {expect:?}, got {shape:?}")));
                }
                None => found.replaced.push((ParamId(i), tensor)),
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn problem(&self, problem: String) -> ModelError {
        ModelError::Weights { file: self.file.clone(), problem }
    }
}

/// What an adapter's configuration says of the model.
#[derive(Clone, Copy, Debug)]
pub struct AdapterOf<'a> {
    /// The model that it is for: a path or a name.
    pub base: &'a str,
    /// `CAUSAL_LM`, `SEQ_CLS`, `TOKEN_CLS`, `QUESTION_ANS` or `FEATURE_EXTRACTION`.
    pub task: &'a str,
    /// What the class in `transformers` puts in front of the names of parameters here.
    pub class_prefix: &'a str,
    /// How many parameters belong under that prefix: those before the head's.
    pub prefixed: usize,
}

/// Writes an adapter: the updates of `lora`, and those parameters of `specs` outside them that are trained.
///
/// # Errors
/// If the disk fails.
pub fn save_adapter(
    dir: &Path,
    lora: &Lora,
    specs: &[ParamSpec],
    weights: &Weights,
    of: &AdapterOf,
) -> Result<(), ModelError> {
    fs_err::create_dir_all(dir)?;
    let all: Vec<&ParamSpec> = specs[..lora.base()].iter().chain(lora.specs()).collect();
    let kept = |(i, tensor): &(usize, &Tensor)| *i >= lora.base() || tensor.requires_grad();
    let mut modules: Vec<&str> = Vec::new();
    let mut tensors: Vec<(String, &[usize], Vec<u8>)> = Vec::new();
    for (i, tensor) in weights.tensors().iter().enumerate().filter(kept) {
        let spec = all[i];
        let prefix = if i < of.prefixed || i >= lora.base() { of.class_prefix } else { "" };
        if i < lora.base() {
            // In full: PEFT compares ends, and BERT's `pooler.dense` is one of many that end in `dense`.
            modules.push(spec.name.rsplit_once('.').map_or(spec.name.as_str(), |(module, _)| module));
        }
        let name = format!("{PREFIX}{prefix}{}", spec.name);
        tensors.push((name, &spec.shape, encode(tensor.data(), StoredType::F32)));
    }
    modules.dedup();
    let targets = lora.targets();
    // Layers that are called like those with an update, and have none, such as a pooler's.
    let excluded: Vec<&str> = (0..lora.base())
        .filter(|i| lora.of(ParamId(*i)).is_none())
        .filter_map(|i| all[i].name.strip_suffix(".weight"))
        .filter(|module| module.rsplit('.').next().is_some_and(|end| targets.contains(&end)))
        .collect();
    let or_null = |modules: Vec<&str>| if modules.is_empty() { Value::Null } else { json!(modules) };
    let views = tensors.iter().map(|(name, shape, bytes)| (name.as_str(), *shape, &bytes[..]));
    write_tensors(&dir.join(TENSORS), views, StoredType::F32)?;
    let config = lora.config();
    let ranks: Map<String, Value> =
        lora.other_ranks().map(|(module, rank)| (module.to_owned(), json!(rank))).collect();
    let json = json!({
        "peft_type": "LORA",
        "task_type": of.task,
        "base_model_name_or_path": of.base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "rank_pattern": ranks,
        "use_rslora": config.rank_stabilized,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": lora.in_out(),
        "target_modules": targets,
        "exclude_modules": or_null(excluded),
        "modules_to_save": or_null(modules),
        "inference_mode": true,
    });
    write_json(&dir.join(CONFIG), &json)
}
