//! From labelled examples to the folder of a model from before the Transformer, with its card and its report.

use super::tags::{TagKind, TagModel};
use super::texts::{TextKind, TextModel};
use crate::checkpoint::SourceFile;
use crate::error::TrainError;
use crate::finetune::Outcome;
use crate::finetune::classify::{Answer, measure};
use crate::finetune::compare::{joined, places};
use crate::finetune::fit::{Fitted, Metrics, Observer};
use crate::finetune::folder::{Finished, Parts, parts};
use crate::finetune::report::Wrong;
use crate::finetune::run::{add_interval, labels_of, wrong};
use crate::finetune::run_tag::wrong as wrong_tags;
use crate::finetune::settings::Settings;
use crate::finetune::tag::{TagLearner, measure_tags};
use crate::metrics::classification::Confusion;
use hearth_data::labelled::{ClassifyExample, Label, Loaded, TagExample};
use hearth_model::{Problem, Weights};
use serde_json::Map;
use std::collections::BTreeSet;
use std::path::Path;

/// Learns a model that gives texts one label each, and writes it into `out`. Held-out examples are `heldout`, or a
/// share of `training` chosen by the hash of the text. Pairs of texts are taken as one text of two lines.
///
/// # Errors
/// If the examples can't be used, or the disk fails; nothing is written then.
pub fn finetune_texts(
    kind: TextKind,
    training: Loaded<ClassifyExample>,
    heldout: Option<Loaded<ClassifyExample>>,
    settings: &Settings,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    settings.check()?;
    let Parts { sources, training, heldout } = parts(training, heldout, settings.holdout)?;
    let (labels, problem) = labels_of(&training)?;
    let bad = |place: &str, problem: String| Err(TrainError::Recipe { place: place.to_owned(), problem });
    if problem != Problem::SingleLabel {
        let hint = "hint: a pretrained model can learn several labels, or a value";
        return bad("labels", format!("{} is for one label an example\n{hint}", kind.name()));
    }
    if heldout.is_empty() {
        return bad("examples", "none are held out\nhint: give more data, or a larger --holdout".to_owned());
    }
    let known = |e: &&ClassifyExample| matches!(&e.label, Label::One(label) if !labels.contains(label));
    if let Some(ClassifyExample { label: Label::One(label), .. }) = heldout.iter().find(known) {
        let all = labels.join(", ");
        return bad("held-out examples", format!("label {label:?} isn't among those to learn from: {all}"));
    }
    say(
        observer,
        (training.len(), heldout.len()),
        "examples",
        &format!("{} labels", labels.len()),
        kind.name(),
    );
    let (train_texts, train_labels) = (joined(&training), places(&training, &labels));
    let (held_texts, held_labels) = (joined(&heldout), places(&heldout, &labels));
    let texts: Vec<&str> = train_texts.iter().map(String::as_str).collect();
    let held: Vec<&str> = held_texts.iter().map(String::as_str).collect();
    let both = ((&texts[..], &train_labels[..]), (&held[..], &held_labels[..]));
    let (model, fitted) = TextModel::fit(kind, both.0, both.1, &labels, settings, observer)?;
    let answers: Vec<Answer> = held_labels.iter().map(|&place| Answer::Label(place)).collect();
    let answers: Vec<&Answer> = answers.iter().collect();
    let mut judgement = measure(&answers, model.scores(&held)?, labels.len(), model.has_probabilities());
    add_interval(&mut judgement, &answers);
    let wrong = wrong(&heldout, &judgement, &answers, &labels);
    let done = Done {
        task: ("classify", "Classification"),
        kind: kind.word(),
        settings: matches!(kind, TextKind::Network(_)).then_some(settings),
        seed: settings.seed,
        sources: &sources,
        labels,
        examples: (training.len(), heldout.len()),
        fitted,
        metrics: judgement.metrics,
        metric: "accuracy",
        confusion: judgement.confusion,
        wrong,
    };
    done.write(out, &|dir| model.save(dir))
}

/// Learns a model that gives words tags, and writes it into `out`. Held-out sentences are `heldout`, or a share of
/// `training` chosen by the hash of the tokens.
///
/// # Errors
/// If the sentences can't be used, or the disk fails; nothing is written then.
pub fn finetune_tags(
    kind: TagKind,
    training: Loaded<TagExample>,
    heldout: Option<Loaded<TagExample>>,
    settings: &Settings,
    out: &Path,
    observer: &mut dyn Observer,
) -> Result<Outcome, TrainError> {
    settings.check()?;
    let Parts { sources, training, heldout } = parts(training, heldout, settings.holdout)?;
    if training.is_empty() || heldout.is_empty() {
        let problem = "there are none to learn from, or none held out\nhint: give more data, or --valid F";
        return Err(TrainError::Recipe { place: "sentences".into(), problem: problem.to_owned() });
    }
    let labels: BTreeSet<&String> = training.iter().flat_map(|e| &e.tags).collect();
    let labels: Vec<String> = labels.into_iter().cloned().collect();
    say(
        observer,
        (training.len(), heldout.len()),
        "sentences",
        &format!("{} tags", labels.len()),
        kind.name(),
    );
    let split = |examples: &[TagExample]| -> (Vec<Vec<String>>, Vec<Vec<String>>) {
        examples.iter().map(|e| (e.tokens.clone(), e.tags.clone())).unzip()
    };
    let (sentences, tags) = split(&training);
    let (held, gold) = split(&heldout);
    let metric = TagLearner::metric(&labels);
    let both = ((&sentences[..], &tags[..]), (&held[..], &gold[..]));
    let (model, fitted) = TagModel::fit(kind, both.0, both.1, &labels, (settings, metric), observer)?;
    let words: Vec<&[String]> = held.iter().map(Vec::as_slice).collect();
    let found = model.tag(&words)?;
    let done = Done {
        task: ("tag", "Tagging"),
        kind: kind.word(),
        settings: matches!(kind, TagKind::Network(_)).then_some(settings),
        seed: settings.seed,
        sources: &sources,
        examples: (training.len(), heldout.len()),
        fitted,
        metrics: measure_tags(&labels, &found, &gold),
        metric,
        confusion: None,
        wrong: wrong_tags(&heldout, &found, &labels),
        labels,
    };
    done.write(out, &|dir| model.save(dir))
}

fn say(observer: &mut dyn Observer, (training, held): (usize, usize), what: &str, labels: &str, name: &str) {
    observer.say(&format!(
        "{training} {what} to learn from, {held} held out; {labels}; a model of its own: {name}"
    ));
}

/// A run that is over.
struct Done<'a> {
    task: (&'static str, &'static str),
    kind: &'static str,
    settings: Option<&'a Settings>,
    seed: u64,
    sources: &'a [SourceFile],
    labels: Vec<String>,
    examples: (usize, usize),
    fitted: Fitted,
    metrics: Metrics,
    metric: &'static str,
    confusion: Option<Confusion>,
    wrong: Vec<Wrong>,
}

impl Done<'_> {
    fn write(
        self,
        out: &Path,
        save: &dyn Fn(&Path) -> Result<(), TrainError>,
    ) -> Result<Outcome, TrainError> {
        Finished {
            task: self.task,
            settings: self.settings,
            seed: self.seed,
            sources: self.sources,
            labels: self.labels,
            about: Map::from_iter([("model".to_owned(), self.kind.into())]),
            examples: self.examples,
            cut: 0,
            fitted: self.fitted,
            metrics: self.metrics,
            metric: self.metric,
            save: &|dir: &Path, _: &Weights| save(dir),
            tokenizer: None,
            limit: None,
            confusion: self.confusion,
            wrong: self.wrong,
            baselines: Vec::new(),
        }
        .write(out)
    }
}
