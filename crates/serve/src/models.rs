//! The models that are served: named, opened when they are first asked for, closed when nobody has for a while.

use crate::error::ApiError;
use crate::worker::{Worker, WorkerOptions};
use axum::http::StatusCode;
use hearth_engine::{ChatTemplate, EmbedOptions, Embedder, Engine, EngineError, SpecialRules};
use hearth_model::{Adapter, EncoderFolder, gguf::Gguf};
use hearth_tokenizer::Tokenizer;
use hearth_train::TrainError;
use hearth_train::baseline::{AnyClassifier, AnyTagger, baseline_task};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// It talks, and continues texts.
    Chat,
    /// It continues texts.
    Completion,
    /// It makes vectors of texts.
    Embedding,
    /// It gives texts labels.
    Classify,
    /// It gives words tags.
    Tag,
}

/// How models are run.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// Most continuations of a model at once.
    pub together: usize,
    /// Most requests that wait for a model.
    pub waiting: usize,
    /// Bytes that the keys and values of a model may take.
    pub cache_bytes: usize,
    /// After so long without a request a model is closed; none: never.
    pub close_after: Option<Duration>,
}

/// All models.
#[derive(Debug)]
pub struct Models {
    entries: Vec<Entry>,
    slots: Vec<Slot>,
    options: ModelOptions,
    created: u64,
}

/// A name.
#[derive(Debug)]
pub struct Entry {
    /// What requests call it.
    pub id: String,
    /// What it is for.
    pub task: Task,
    slot: usize,
    /// The adapter that its requests go through.
    adapter: Option<usize>,
}

/// A model in memory, or not.
#[derive(Debug)]
struct Slot {
    path: PathBuf,
    task: Task,
    adapters: Vec<PathBuf>,
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    model: Option<Model>,
    used: Option<Instant>,
}

/// A model in memory.
#[derive(Clone, Debug)]
pub enum Model {
    /// It continues texts.
    Text(Arc<TextModel>),
    /// It makes vectors.
    Embedding(Arc<Mutex<Embedder>>),
    /// It gives texts labels.
    Classify(Arc<Mutex<AnyClassifier>>),
    /// It gives words tags.
    Tag(Arc<Mutex<AnyTagger>>),
}

/// A model that continues texts, with all that is needed to make requests of texts.
#[derive(Debug)]
pub struct TextModel {
    /// Its thread.
    pub worker: Worker,
    /// Its tokens.
    pub tokenizer: Tokenizer,
    /// What begins and ends texts.
    pub special: SpecialRules,
    /// Most tokens of a prompt and its continuation.
    pub context: usize,
    /// Of the model, then of each adapter.
    templates: Vec<Option<ChatTemplate>>,
}

impl TextModel {
    /// The chat template of requests with this adapter.
    pub fn template(&self, adapter: Option<usize>) -> Option<&ChatTemplate> {
        self.templates[adapter.map_or(0, |adapter| adapter + 1)].as_ref()
    }
}

impl Models {
    /// Models by name and path; the folder of an adapter whose model is among them shares that model's weights.
    ///
    /// # Errors
    /// If a name comes twice, or a path is no model.
    pub fn new(named: Vec<(String, PathBuf)>, options: ModelOptions) -> Result<Self, TrainError> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut models = Models { entries: Vec::new(), slots: Vec::new(), options, created };
        let same = |a: &Path, b: &Path| match (a.canonicalize(), b.canonicalize()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        };
        let (adapters, whole): (Vec<_>, Vec<_>) =
            named.iter().partition(|(_, path)| Adapter::is_adapter(path));
        for (id, path) in whole {
            models.add(id, path, task_of(path)?);
        }
        for (id, path) in adapters {
            let base = PathBuf::from(Adapter::base_of(path)?);
            match models.slots.iter().position(|slot| same(&slot.path, &base)) {
                Some(slot) => {
                    models.slots[slot].adapters.push(path.clone());
                    let adapter = Some(models.slots[slot].adapters.len() - 1);
                    let task = chat_or_completion(path, models.slots[slot].task)?;
                    models.entries.push(Entry { id: id.clone(), task, slot, adapter });
                }
                None => models.add(id, path, task_of(path)?),
            }
        }
        // In the order in which they were named.
        let place = |entry: &Entry| named.iter().position(|(id, _)| *id == entry.id);
        models.entries.sort_by_key(place);
        if let Some(twice) = models.entries.windows(2).find(|pair| pair[0].id == pair[1].id) {
            let problem =
                format!("two models are called {:?}\nhint: NAME=PATH gives one another name", twice[0].id);
            let path = models.slots[twice[1].slot].path.clone();
            return Err(EngineError::BadFile { path, problem }.into());
        }
        Ok(models)
    }

    fn add(&mut self, id: &str, path: &Path, task: Task) {
        let slot = self.slots.len();
        self.slots.push(Slot {
            path: path.to_owned(),
            task,
            adapters: Vec::new(),
            state: Default::default(),
        });
        self.entries.push(Entry { id: id.to_owned(), task, slot, adapter: None });
    }

    /// All names.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// When they began to be served, in seconds since 1970.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Whether a model is in memory.
    pub async fn is_loaded(&self, entry: &Entry) -> bool {
        self.slots[entry.slot].state.lock().await.model.is_some()
    }

    /// The entry with a name; where none is given, the first for one of `tasks`.
    ///
    /// # Errors
    /// If there is none, or it is for something else.
    pub fn entry(&self, name: Option<&str>, tasks: &[Task]) -> Result<&Entry, ApiError> {
        let found = match name {
            Some(name) => self.entries.iter().find(|entry| entry.id == name),
            None => self.entries.iter().find(|entry| tasks.contains(&entry.task)),
        };
        let Some(entry) = found else {
            let names: Vec<&str> = self.entries.iter().map(|entry| entry.id.as_str()).collect();
            let message =
                format!("there is no model {:?}; there are {}", name.unwrap_or_default(), names.join(", "));
            return Err(ApiError {
                param: Some("model".into()),
                ..ApiError::new(StatusCode::NOT_FOUND, message).code("model_not_found")
            });
        };
        if tasks.contains(&entry.task) {
            return Ok(entry);
        }
        let task = serde_json::to_value(entry.task).unwrap_or_default();
        let message =
            format!("the model {:?} is for {}, not for this", entry.id, task.as_str().unwrap_or_default());
        Err(ApiError::field("model", message).code("wrong_model"))
    }

    /// A model in memory; it is opened if it isn't.
    ///
    /// # Errors
    /// If it can't be opened.
    pub async fn open(&self, entry: &Entry) -> Result<Model, ApiError> {
        let slot = &self.slots[entry.slot];
        let mut state = slot.state.lock().await;
        state.used = Some(Instant::now());
        if let Some(model) = &state.model {
            return Ok(model.clone());
        }
        let (path, task) = (slot.path.clone(), slot.task);
        let options = WorkerOptions {
            adapters: slot.adapters.clone(),
            together: self.options.together,
            waiting: self.options.waiting,
            cache_bytes: self.options.cache_bytes,
        };
        let opened = tokio::task::spawn_blocking(move || open(&path, task, options)).await;
        let model = opened.map_err(|error| ApiError::internal(error.to_string()))??;
        state.model = Some(model.clone());
        Ok(model)
    }

    /// The model that continues texts under a name, and the adapter to go through.
    ///
    /// # Errors
    /// As [`entry`](Self::entry) and [`open`](Self::open).
    pub async fn text(
        &self,
        name: Option<&str>,
        tasks: &[Task],
    ) -> Result<(&Entry, Arc<TextModel>, Option<usize>), ApiError> {
        let entry = self.entry(name, tasks)?;
        match self.open(entry).await? {
            Model::Text(model) => Ok((entry, model, entry.adapter)),
            _ => Err(ApiError::field("model", "the model doesn't continue texts").code("wrong_model")),
        }
    }

    /// What the models in memory do now, by name.
    pub async fn loads(&self) -> Vec<(&str, Arc<TextModel>)> {
        let mut loads = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.adapter.is_none()) {
            if let Some(Model::Text(model)) = &self.slots[entry.slot].state.lock().await.model {
                loads.push((entry.id.as_str(), model.clone()));
            }
        }
        loads
    }

    /// Closes models that nobody has used for a while, now and then, for as long as this runs.
    pub async fn close_idle(&self) {
        let Some(after) = self.options.close_after else { return };
        loop {
            tokio::time::sleep((after / 4).clamp(Duration::from_millis(50), Duration::from_secs(5))).await;
            for slot in &self.slots {
                let Ok(mut state) = slot.state.try_lock() else { continue };
                let idle = state.used.is_some_and(|used| used.elapsed() >= after);
                if idle && state.model.as_ref().is_some_and(Model::is_unused) {
                    let model = state.model.take();
                    // Its thread is waited for, which may take a moment.
                    drop(tokio::task::spawn_blocking(move || drop(model)));
                }
            }
        }
    }

    /// Closes all models; what is under way is cancelled.
    pub async fn close(&self) {
        for slot in &self.slots {
            let model = slot.state.lock().await.model.take();
            let _ = tokio::task::spawn_blocking(move || drop(model)).await;
        }
    }
}

impl Entry {
    /// The adapter that its requests go through.
    pub fn adapter(&self) -> Option<usize> {
        self.adapter
    }
}

impl Model {
    /// Whether no request holds it.
    fn is_unused(&self) -> bool {
        match self {
            Model::Text(model) => Arc::strong_count(model) == 1,
            Model::Embedding(model) => Arc::strong_count(model) == 1,
            Model::Classify(model) => Arc::strong_count(model) == 1,
            Model::Tag(model) => Arc::strong_count(model) == 1,
        }
    }
}

fn open(path: &Path, task: Task, options: WorkerOptions) -> Result<Model, TrainError> {
    Ok(match task {
        Task::Embedding => {
            Model::Embedding(Arc::new(Mutex::new(Embedder::open(path, &EmbedOptions::default())?)))
        }
        Task::Classify => Model::Classify(Arc::new(Mutex::new(AnyClassifier::open(path)?))),
        Task::Tag => Model::Tag(Arc::new(Mutex::new(AnyTagger::open(path)?))),
        Task::Chat | Task::Completion => {
            let adapters = options.adapters.len();
            let path = path.to_owned();
            let describe = move |engine: &Engine| {
                let numbers = std::iter::once(None).chain((0..adapters).map(Some));
                let templates = numbers.map(|adapter| ChatTemplate::of(engine.tokenizer_of(adapter)));
                let templates = templates.collect::<Result<Vec<_>, _>>()?;
                Ok((engine.tokenizer().clone(), engine.special().clone(), engine.context(), templates))
            };
            let (worker, told) = Worker::start(move || Engine::open(&path), options, describe)?;
            let (tokenizer, special, context, templates) = told;
            Model::Text(Arc::new(TextModel { worker, tokenizer, special, context, templates }))
        }
    })
}

/// What a model is for, by its files.
fn task_of(path: &Path) -> Result<Task, TrainError> {
    match baseline_task(path)?.as_deref() {
        None => {}
        Some("tag") => return Ok(Task::Tag),
        Some(_) => return Ok(Task::Classify),
    }
    if path.is_file() {
        let file = Gguf::open(path)?;
        if file.get::<&str>("general.architecture")? == "bert" {
            return Ok(Task::Embedding);
        }
        let template = file.find::<&str>("tokenizer.chat_template")?;
        return Ok(if template.is_some() { Task::Chat } else { Task::Completion });
    }
    let config = path.join("config.json");
    let architecture = match fs_err::read_to_string(&config) {
        Ok(text) => {
            let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            json["architectures"][0].as_str().unwrap_or_default().to_owned()
        }
        Err(_) => String::new(),
    };
    if architecture.ends_with("ForSequenceClassification") {
        return Ok(Task::Classify);
    }
    if architecture.ends_with("ForTokenClassification") {
        return Ok(Task::Tag);
    }
    // What sentence-transformers opens embeds, be it a decoder.
    let embeds = path.join("modules.json").is_file();
    if config.is_file() && (embeds || EncoderFolder::is_encoder(path)?) {
        return Ok(Task::Embedding);
    }
    Ok(chat_or_completion(path, Task::Completion)?)
}

/// Whether a folder brings a chat template; `otherwise` if it brings no tokenizer.
fn chat_or_completion(path: &Path, otherwise: Task) -> Result<Task, EngineError> {
    if !path.join("tokenizer.json").is_file() {
        return Ok(otherwise);
    }
    let talks = ChatTemplate::of(&Tokenizer::from_folder(path)?)?.is_some();
    Ok(if talks { Task::Chat } else { Task::Completion })
}

/// Locks what a request that panicked may have held: each call begins afresh.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
