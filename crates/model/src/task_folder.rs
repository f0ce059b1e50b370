//! Folders of models with a head, as `transformers` writes and reads them: `config.json` names the class, the
//! kind of problem and the labels, `model.safetensors` has the head beside the architecture.

use crate::error::ModelError;
use crate::executor::ParamSpec;
use crate::folder::read_json;
use crate::folder_encoder::{EncoderFolder, write_encoder_tensors};
use crate::hf_encoder::encoder_config_to_json;
use crate::tape::TrainableEncoder;
use crate::task::{Backbone, Task, TaskModel};
use crate::weights::{StoredType, Weights, write_json};
use hearth_tensor::Tensor;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;

/// What the numbers of a head over sequences mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// One of the labels.
    SingleLabel,
    /// Any of the labels, each on its own.
    MultiLabel,
    /// A value.
    Regression,
}

impl Problem {
    const ALL: [(Problem, &'static str); 3] = [
        (Problem::SingleLabel, "single_label_classification"),
        (Problem::MultiLabel, "multi_label_classification"),
        (Problem::Regression, "regression"),
    ];

    /// `transformers`' word for it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(problem, _)| *problem == self).map_or("", |(_, name)| name)
    }
}

/// A folder of a model with a head, opened.
#[derive(Debug)]
pub struct TaskFolder {
    /// The model.
    pub model: TaskModel,
    /// Its parameters, those of the head among them.
    pub weights: Weights,
    /// The labels' names by their places among the head's numbers.
    pub labels: Vec<String>,
    /// What the numbers mean.
    pub problem: Problem,
}

/// How the names of classes with a head end, behind the architecture's.
const SEQUENCE: &str = "ForSequenceClassification";
const TOKENS: &str = "ForTokenClassification";
const SPAN: &str = "ForQuestionAnswering";

fn class_of(task: Task) -> &'static str {
    match task {
        Task::Sequence(_) => SEQUENCE,
        Task::Tokens(_) => TOKENS,
        Task::Span => SPAN,
    }
}

/// Puts a fresh head for `task` on a pretrained encoder's folder; what the encoder lacks is initialised from
/// `seed`. A head that the folder has is left out.
///
/// # Errors
/// Those of [`EncoderFolder::open`].
pub fn adapt_folder(
    dir: &Path,
    task: Task,
    seed: u64,
) -> Result<(TaskModel, Weights, Vec<usize>), ModelError> {
    let EncoderFolder { encoder, weights, .. } = EncoderFolder::open(dir)?;
    let named: HashMap<String, Tensor> =
        encoder.specs().iter().map(|s| s.name.clone()).zip(weights.tensors().iter().cloned()).collect();
    let model = TaskModel::new(Backbone::Encoder(TrainableEncoder::new(encoder)), task)?;
    let weights = model.weights(|spec| named.get(&spec.name).cloned(), seed)?;
    let specs = model.specs().iter().enumerate();
    let fresh = specs.filter(|(_, spec)| !named.contains_key(&spec.name)).map(|(i, _)| i).collect();
    Ok((model, weights, fresh))
}

impl TaskFolder {
    /// Opens a folder that [`save_task_folder`] or `transformers` wrote.
    ///
    /// # Errors
    /// If a file is missing or isn't what it should be, or if the class isn't one with a head that runs here.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let json = read_json(&path)?;
        let fail = |problem: String| ModelError::Config { place: path.display().to_string(), problem };
        let class = json["architectures"][0].as_str().unwrap_or_default();
        let labels = labels_of(&json).map_err(&fail)?;
        let count = labels.len();
        let EncoderFolder { encoder, weights, mut heads, .. } = EncoderFolder::open(dir)?;
        let prefix = encoder.config().family.class_prefix();
        let task = match class.strip_prefix(prefix).unwrap_or_default() {
            SEQUENCE => Task::Sequence(count),
            TOKENS => Task::Tokens(count),
            SPAN => Task::Span,
            _ => {
                return Err(fail(format!(
                    "architectures is {class:?}, which has no head that runs here; {prefix}{SEQUENCE} and the like \
                     have\nhint: hearth finetune puts one on a model"
                )));
            }
        };
        let pooling = json.get("classifier_pooling").and_then(Value::as_str).unwrap_or("late");
        if prefix == "EuroBert" && matches!(task, Task::Sequence(_)) && pooling != "late" {
            return Err(fail(format!("classifier_pooling {pooling:?} isn't supported, only \"late\" is")));
        }
        let problem = match json.get("problem_type").and_then(Value::as_str) {
            None if count == 1 => Problem::Regression,
            None => Problem::SingleLabel,
            Some(name) => {
                let known = Problem::ALL.iter().find(|(_, known)| *known == name);
                known.ok_or_else(|| fail(format!("problem_type {name:?} isn't known")))?.0
            }
        };
        let mut named: HashMap<String, Tensor> =
            encoder.specs().iter().map(|s| s.name.clone()).zip(weights.tensors().iter().cloned()).collect();
        let model = TaskModel::new(Backbone::Encoder(TrainableEncoder::new(encoder)), task)?;
        named.extend(heads.drain());
        let check = |spec: &ParamSpec| match named.get(&spec.name) {
            Some(tensor) if tensor.shape() == spec.shape => Ok(()),
            Some(tensor) => {
                let (name, got) = (&spec.name, tensor.shape());
                Err(fail(format!("{name}: expected shape {:?}, got {got:?}", spec.shape)))
            }
            None => Err(fail(format!("no tensor {}, expected shape {:?}", spec.name, spec.shape))),
        };
        model.specs().iter().try_for_each(check)?;
        let weights = model.weights(|spec| named.get(&spec.name).cloned(), 0)?;
        Ok(TaskFolder { model, weights, labels, problem })
    }
}

/// `id2label`, by its numbers.
fn labels_of(json: &Value) -> Result<Vec<String>, String> {
    let Some(map) = json.get("id2label").and_then(Value::as_object) else {
        return Ok((0..2).map(|i| format!("LABEL_{i}")).collect());
    };
    (0..map.len())
        .map(|i| match map.get(&i.to_string()).and_then(Value::as_str) {
            Some(name) => Ok(name.to_owned()),
            None => Err(format!("id2label has {} labels and none of number {i}", map.len())),
        })
        .collect()
}

/// Writes `model.safetensors` and `config.json`, the latter last, so that a folder that has one is whole.
///
/// # Errors
/// If the disk fails, or for an architecture whose heads aren't written yet.
pub fn save_task_folder(
    dir: &Path,
    model: &TaskModel,
    weights: &Weights,
    labels: &[String],
    problem: Problem,
    dtype: StoredType,
) -> Result<(), ModelError> {
    let Backbone::Encoder(encoder) = model.backbone() else {
        let problem = "a decoder's head can't be written yet".to_owned();
        return Err(ModelError::Config { place: dir.display().to_string(), problem });
    };
    fs_err::create_dir_all(dir)?;
    let encoder = encoder.encoder();
    write_encoder_tensors(dir, encoder, model.specs(), weights, dtype)?;
    let family = encoder.config().family;
    let mut json = encoder_config_to_json(encoder.config(), dtype.name());
    json["architectures"] = json!([format!("{}{}", family.class_prefix(), class_of(model.task()))]);
    let by_number: Map<String, Value> =
        labels.iter().enumerate().map(|(i, label)| (i.to_string(), json!(label))).collect();
    let by_label: Map<String, Value> =
        labels.iter().enumerate().map(|(i, label)| (label.clone(), json!(i))).collect();
    if model.task() != Task::Span {
        json["id2label"] = by_number.into();
        json["label2id"] = by_label.into();
    }
    if let Task::Sequence(_) = model.task() {
        json["problem_type"] = json!(problem.name());
    }
    write_json(&dir.join("config.json"), &json)
}
