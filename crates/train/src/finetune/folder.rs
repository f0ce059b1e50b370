//! What a run of fine-tuning leaves: the model, its tokenizer, its card and its report.

use crate::checkpoint::SourceFile;
use crate::error::TrainError;
use crate::finetune::compare::Baseline;
use crate::finetune::fit::{Event, Fitted, Metrics};
use crate::finetune::report::{Report, Wrong};
use crate::finetune::settings::Settings;
use crate::metrics::classification::Confusion;
use crate::prepare::source_file;
use hearth_data::Holdout;
use hearth_data::labelled::{Example, Loaded};
use hearth_model::Weights;
use hearth_tokenizer::{Tokenizer, replace_file};
use serde_json::{Map, Value, json};
use std::path::Path;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of the best weights, on the held-out examples.
    pub metrics: Metrics,
    /// The labels, in the order of the head's numbers; none for a task without labels.
    pub labels: Vec<String>,
    /// Examples learnt from and held out.
    pub examples: (usize, usize),
    /// Examples of both that were longer than the model takes, and were cut.
    pub cut: usize,
    /// Steps after which the weights were best.
    pub best_step: u64,
    /// Wall seconds of the steps, without looks.
    pub seconds: f64,
    /// Examples and tokens learnt from.
    pub seen: (u64, u64),
    /// Whether it was stopped before the last step.
    pub stopped: bool,
    /// Cheap models on the same examples, if they were asked for.
    pub baselines: Vec<Baseline>,
}

/// Examples, divided.
pub(crate) struct Parts<X> {
    /// The files that they came from.
    pub(crate) sources: Vec<SourceFile>,
    /// What is learnt from.
    pub(crate) training: Vec<X>,
    /// What is judged by.
    pub(crate) heldout: Vec<X>,
}

/// Holds `heldout` out, or a share of `training` chosen by its hash.
pub(crate) fn parts<X: Example>(
    training: Loaded<X>,
    heldout: Option<Loaded<X>>,
    share: f64,
) -> Result<Parts<X>, TrainError> {
    let read = training.sources.iter().chain(heldout.iter().flat_map(|loaded| &loaded.sources));
    let sources = read.map(|source| source_file(&source.file)).collect::<Result<_, _>>()?;
    let (training, heldout) = match heldout {
        Some(heldout) => (training.examples, heldout.examples),
        None => training.hold_out(&Holdout::Hash { fraction: share, salt: "finetune".into() })?,
    };
    Ok(Parts { sources, training, heldout })
}

/// A run that is over, with all that its folder tells.
pub(crate) struct Finished<'a> {
    /// The contract's word for the task, and the report's.
    pub(crate) task: (&'static str, &'static str),
    /// How it was learnt, if there is something to say.
    pub(crate) settings: Option<&'a Settings>,
    pub(crate) seed: u64,
    pub(crate) sources: &'a [SourceFile],
    pub(crate) labels: Vec<String>,
    /// What the card says of this task alone.
    pub(crate) about: Map<String, Value>,
    pub(crate) examples: (usize, usize),
    pub(crate) cut: usize,
    pub(crate) fitted: Fitted,
    pub(crate) metrics: Metrics,
    /// The metric that chose the weights.
    pub(crate) metric: &'static str,
    /// Writes the weights, and last the file that makes the folder a model: `config.json`, or `model.json`.
    pub(crate) save: &'a dyn Fn(&Path, &Weights) -> Result<(), TrainError>,
    /// If the model has one.
    pub(crate) tokenizer: Option<&'a Tokenizer>,
    /// Most tokens of an example, where the model is for no longer ones.
    pub(crate) limit: Option<usize>,
    pub(crate) confusion: Option<Confusion>,
    pub(crate) wrong: Vec<Wrong>,
    pub(crate) baselines: Vec<Baseline>,
}

impl Finished<'_> {
    /// Writes the folder; what makes it a model comes last.
    pub(crate) fn write(self, out: &Path) -> Result<Outcome, TrainError> {
        fs_err::create_dir_all(out)?;
        if let Some(tokenizer) = self.tokenizer {
            let mut config = tokenizer.config().clone();
            config.extend(self.limit.map(|limit| ("model_max_length".to_owned(), json!(limit))));
            tokenizer.with_config(config).save(out)?;
        }
        if !self.fitted.events.is_empty() {
            write_events(&out.join("run.jsonl"), &self.fitted.events)?;
        }
        let report = Report {
            title: self.task.1,
            metrics: &self.metrics,
            events: &self.fitted.events,
            metric: self.metric,
            confusion: self.confusion.as_ref().map(|confusion| (confusion, &self.labels[..])),
            baselines: &self.baselines,
            wrong: &self.wrong,
        };
        replace_file(&out.join("report.html"), report.html()?.as_bytes())?;
        let card = serde_json::to_string_pretty(&self.card()).map_err(std::io::Error::from)?;
        replace_file(&out.join("hearth.json"), (card + "\n").as_bytes())?;
        (self.save)(out, &self.fitted.weights)?;
        let Fitted { best_step, seconds, seen, stopped, .. } = self.fitted;
        let Finished { metrics, labels, examples, cut, baselines, .. } = self;
        Ok(Outcome { metrics, labels, examples, cut, best_step, seconds, seen, stopped, baselines })
    }

    fn card(&self) -> serde_json::Value {
        let mut card = json!({
            "made_by": concat!("hearth ", env!("CARGO_PKG_VERSION")),
            "task": self.task.0,
            "data": {
                "files": self.sources,
                "training_examples": self.examples.0,
                "heldout_examples": self.examples.1,
                "cut": self.cut,
            },
            "seed": self.seed,
            "training": {
                "best_step": self.fitted.best_step,
                "examples": self.fitted.seen.0,
                "tokens": self.fitted.seen.1,
                "seconds": self.fitted.seconds,
                "threads": hearth_kernel::pool::threads(),
                "instructions": format!("{:?}", hearth_kernel::current_isa()),
            },
            "metrics": self.metrics,
        });
        if let Some(settings) = self.settings {
            card["settings"] = json!(settings);
        }
        if !self.labels.is_empty() {
            card["labels"] = json!(self.labels);
        }
        for (name, value) in &self.about {
            card[name] = value.clone();
        }
        if !self.baselines.is_empty() {
            card["baselines"] = json!(self.baselines);
        }
        card
    }
}

fn write_events(path: &Path, events: &[Event]) -> Result<(), TrainError> {
    let mut text = String::new();
    for event in events {
        text += &serde_json::to_string(event).map_err(std::io::Error::from)?;
        text.push('\n');
    }
    Ok(replace_file(path, text.as_bytes())?)
}
