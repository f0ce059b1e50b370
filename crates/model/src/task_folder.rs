//! Folders of models with a head, as `transformers` writes and reads them: `config.json` names the class, the
//! kind of problem and the labels, `model.safetensors` has the head beside the architecture.

use crate::config::{DecoderConfig, Family};
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::executor::ParamSpec;
use crate::folder::{FolderModel, read_json};
use crate::folder_encoder::{EncoderFolder, write_encoder_tensors};
use crate::hf::{SpecialIds, config_to_json};
use crate::hf_encoder::encoder_config_to_json;
use crate::tape::{Trainable, TrainableEncoder};
use crate::task::{Backbone, Task, TaskModel};
use crate::weights::{StoredType, Weights, check_has_words, write_json};
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

/// An architecture in a folder, and what is there of its parameters and of a head, by name.
struct Base {
    backbone: Backbone,
    named: HashMap<String, Tensor>,
    heads: HashMap<String, Tensor>,
}

impl Base {
    fn open(dir: &Path) -> Result<Self, ModelError> {
        if EncoderFolder::is_encoder(dir)? {
            let EncoderFolder { encoder, weights, heads, .. } = EncoderFolder::open(dir)?;
            let backbone = Backbone::Encoder(TrainableEncoder::new(encoder));
            return Ok(Base { heads, ..Self::of(backbone, &weights)? });
        }
        let mut heads = HashMap::new();
        let folder = FolderModel::open_headless(dir, &mut heads)?;
        let weights = Weights::of_source(folder.decoder(), &folder)?;
        let backbone = Backbone::Decoder(Trainable::new(folder.decoder().clone()));
        Ok(Base { heads, ..Self::of(backbone, &weights)? })
    }

    fn of(backbone: Backbone, weights: &Weights) -> Result<Self, ModelError> {
        let named = backbone.specs().iter().map(|s| s.name.clone()).zip(weights.tensors().iter().cloned());
        let named = named.collect();
        let backbone = match backbone {
            Backbone::Decoder(model) => {
                // In the place of what turns hidden states into words comes the head of a task.
                let config = DecoderConfig { tied_head: true, ..model.decoder().config().clone() };
                Backbone::Decoder(Trainable::new(Decoder::new(config)?))
            }
            encoder => encoder,
        };
        Ok(Base { backbone, named, heads: HashMap::new() })
    }

    fn adapt(self, task: Task, seed: u64) -> Result<Adapted, ModelError> {
        let Base { backbone, named, .. } = self;
        let model = TaskModel::new(backbone, task)?;
        let weights = model.weights(|spec| named.get(&spec.name).cloned(), seed)?;
        let specs = model.specs().iter().enumerate();
        let fresh = specs.filter(|(_, spec)| !named.contains_key(&spec.name)).map(|(i, _)| i).collect();
        Ok((model, weights, fresh))
    }
}

/// A model with a fresh head, its weights, and the places of those that the pretrained model lacked.
pub type Adapted = (TaskModel, Weights, Vec<usize>);

/// Puts a fresh head for `task` on a pretrained model's folder; what the model lacks is initialised from `seed`. A
/// head that the folder has is left out.
///
/// # Errors
/// Those of [`EncoderFolder::open`] and [`FolderModel::open`], or if the architecture has no head for the task.
pub fn adapt_folder(dir: &Path, task: Task, seed: u64) -> Result<Adapted, ModelError> {
    Base::open(dir)?.adapt(task, seed)
}

/// The same for a model that is open. What turns a decoder's hidden states into words is left out.
///
/// # Errors
/// If the architecture has no head for the task.
pub fn adapt_backbone(
    backbone: Backbone,
    weights: &Weights,
    task: Task,
    seed: u64,
) -> Result<Adapted, ModelError> {
    Base::of(backbone, weights)?.adapt(task, seed)
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
        let tasks = [Task::Sequence(labels.len()), Task::Tokens(labels.len()), Task::Span];
        let Some(task) = tasks.into_iter().find(|task| class.ends_with(class_of(*task))) else {
            return Err(fail(format!(
                "architectures is {class:?}, which has no head that runs here; Bert{SEQUENCE} and the like have\nhint: \
                 hearth finetune puts one on a model"
            )));
        };
        let pooling = json.get("classifier_pooling").and_then(Value::as_str).unwrap_or("late");
        if class.starts_with("EuroBert") && matches!(task, Task::Sequence(_)) && pooling != "late" {
            return Err(fail(format!("classifier_pooling {pooling:?} isn't supported, only \"late\" is")));
        }
        let problem = match json.get("problem_type").and_then(Value::as_str) {
            None if labels.len() == 1 => Problem::Regression,
            None => Problem::SingleLabel,
            Some(name) => {
                let known = Problem::ALL.iter().find(|(_, known)| *known == name);
                known.ok_or_else(|| fail(format!("problem_type {name:?} isn't known")))?.0
            }
        };
        let Base { backbone, mut named, heads } = Base::open(dir)?;
        let model = TaskModel::new(backbone, task)?;
        let expected = model.class_prefix();
        if class.strip_suffix(class_of(task)) != Some(expected.as_str()) {
            return Err(fail(format!(
                "architectures is {class:?}, and the model is one that belongs to {expected}{}",
                class_of(task)
            )));
        }
        named.extend(heads);
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

impl TaskModel {
    /// How the names of `transformers`' classes for this architecture begin.
    fn class_prefix(&self) -> String {
        match self.backbone() {
            Backbone::Encoder(model) => model.encoder().config().family.class_prefix().to_owned(),
            Backbone::Decoder(model) => {
                let config = model.decoder().config();
                let json = config_to_json(config, SpecialIds::default(), "");
                let class = json["architectures"][0].as_str().unwrap_or_default();
                match config.family {
                    // The class that writes words is that of the one with pictures.
                    Family::Gemma3 => "Gemma3Text".to_owned(),
                    _ => class.trim_end_matches("ForCausalLM").trim_end_matches("LMHeadModel").to_owned(),
                }
            }
        }
    }
}

/// Writes `model.safetensors` and `config.json`, the latter last, so that a folder that has one is whole. `padding` is
/// the token that `transformers` fills the shorter sequences of a batch with: a decoder's class looks for the last
/// token that is another one.
///
/// # Errors
/// If the disk fails, or `config.json` has no words for the architecture.
pub fn save_task_folder(
    dir: &Path,
    model: &TaskModel,
    weights: &Weights,
    labels: &[String],
    problem: Problem,
    padding: Option<u32>,
    dtype: StoredType,
) -> Result<(), ModelError> {
    let mut json = match model.backbone() {
        Backbone::Encoder(encoder) => {
            fs_err::create_dir_all(dir)?;
            let encoder = encoder.encoder();
            write_encoder_tensors(dir, encoder, model.specs(), weights, dtype)?;
            encoder_config_to_json(encoder.config(), dtype.name())
        }
        Backbone::Decoder(decoder) => {
            let decoder = decoder.decoder();
            check_has_words(dir, decoder.config())?;
            fs_err::create_dir_all(dir)?;
            let head = &model.specs()[decoder.specs().len()..];
            let config = weights.save(&dir.join("model.safetensors"), decoder, head, dtype)?;
            let mut json = config_to_json(&config, SpecialIds::default(), dtype.name());
            json["pad_token_id"] = json!(padding);
            json
        }
    };
    json["architectures"] = json!([format!("{}{}", model.class_prefix(), class_of(model.task()))]);
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
