//! What cheap models make of the same examples: a model that doesn't beat them isn't worth serving.

use crate::baseline::{TagKind, TagModel, TextKind, TextModel, one_text};
use crate::error::TrainError;
use crate::finetune::fit::Observer;
use crate::finetune::settings::Settings;
use crate::finetune::tag::{TagLearner, measure_tags};
use crate::metrics::classification::classification;
use crate::neural::{Answer, Quiet, usual_settings};
use hearth_data::labelled::{ClassifyExample, Label, TagExample};
use serde::Serialize;

/// A cheap model on the held-out examples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Baseline {
    /// What it is.
    pub name: &'static str,
    /// The share of the examples whose label, or of the words whose tag, is right.
    pub accuracy: f64,
    /// The mean over the labels of each one's F1, or that of spans.
    pub f1: f64,
    /// Wall seconds of learning.
    pub seconds: f64,
}

/// Each kind of text model from before the Transformer. Examples of one label each.
///
/// # Errors
/// If the texts have no n-gram in common, or a loss stops being a number.
pub fn baselines(
    training: &[ClassifyExample],
    heldout: &[ClassifyExample],
    labels: &[String],
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<Vec<Baseline>, TrainError> {
    let (train_texts, train_labels) = (joined(training), places(training, labels));
    let (held_texts, held_labels) = (joined(heldout), places(heldout, labels));
    let texts: Vec<&str> = train_texts.iter().map(String::as_str).collect();
    let held: Vec<&str> = held_texts.iter().map(String::as_str).collect();
    let own = usual_settings(Answer::Text, texts.len(), settings.seed);
    let own = Settings { max_tokens: settings.max_tokens, ..own };
    let mut all = Vec::new();
    for kind in TextKind::ALL {
        observer.say(&format!("{} on the same examples", kind.name()));
        let (training, heldout) = ((&texts[..], &train_labels[..]), (&held[..], &held_labels[..]));
        let (model, fitted) =
            TextModel::fit(kind, training, heldout, labels, &own, &mut Quiet(&mut *observer))?;
        let found = classification(&held_labels, &model.predict(&held)?, labels.len());
        let (accuracy, f1) = (found.accuracy, found.macro_average.f1);
        all.push(Baseline { name: kind.name(), accuracy, f1, seconds: fitted.seconds });
    }
    Ok(all)
}

/// Each kind of tagger from before the Transformer. `labels` are in alphabetical order.
///
/// # Errors
/// If no feature occurs twice, or a loss stops being a number.
pub(crate) fn taggers(
    training: &[TagExample],
    heldout: &[TagExample],
    labels: &[String],
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Vec<Baseline>, TrainError> {
    let split = |examples: &[TagExample]| -> (Vec<Vec<String>>, Vec<Vec<String>>) {
        examples.iter().map(|e| (e.tokens.clone(), e.tags.clone())).unzip()
    };
    let (sentences, tags) = split(training);
    let (held, gold) = split(heldout);
    let words: Vec<&[String]> = held.iter().map(Vec::as_slice).collect();
    let own = usual_settings(Answer::TagsInARow, sentences.len(), seed);
    let metric = TagLearner::metric(labels);
    let mut all = Vec::new();
    for kind in TagKind::ALL {
        observer.say(&format!("{} on the same sentences", kind.name()));
        let (training, heldout) = ((&sentences[..], &tags[..]), (&held[..], &gold[..]));
        let (model, fitted) =
            TagModel::fit(kind, training, heldout, labels, (&own, metric), &mut Quiet(&mut *observer))?;
        let found = measure_tags(labels, &model.tag(&words)?, &gold);
        let (accuracy, f1) = (found["accuracy"], found["span_f1"]);
        all.push(Baseline { name: kind.name(), accuracy, f1, seconds: fitted.seconds });
    }
    Ok(all)
}

/// Texts, those of a pair on two lines.
pub(crate) fn joined(examples: &[ClassifyExample]) -> Vec<String> {
    examples.iter().map(|e| one_text(&(e.text.as_str(), e.second.as_deref()))).collect()
}

/// Labels by their places; the caller has seen that each is known.
pub(crate) fn places(examples: &[ClassifyExample], labels: &[String]) -> Vec<usize> {
    let place = |e: &ClassifyExample| match &e.label {
        Label::One(label) => labels.iter().position(|known| known == label).unwrap_or_default(),
        Label::Several(_) | Label::Number(_) => 0,
    };
    examples.iter().map(place).collect()
}
