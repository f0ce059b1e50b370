//! What cheap models make of the same examples: a model that doesn't beat them isn't worth serving.

use crate::classical::naive_bayes::MultinomialNaiveBayes;
use crate::classical::ngrams::{NgramSettings, NgramVectorizer, Weighting};
use crate::classical::svm::{LinearSvm, SvmSettings};
use crate::error::TrainError;
use crate::metrics::classification::classification;
use hearth_data::labelled::{ClassifyExample, Label};
use serde::Serialize;
use std::time::Instant;

/// A cheap model on the held-out examples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Baseline {
    /// What it is.
    pub name: &'static str,
    /// The share of the examples whose label, or of the words whose tag, is right.
    pub accuracy: f64,
    /// The mean over the labels of each one's F1, or that of spans.
    pub f1: f64,
    /// Wall seconds of learning, without what turns texts into n-grams.
    pub seconds: f64,
}

/// Naive Bayes over counts of words and pairs of words, and a linear support vector machine over the same weighted by
/// tf-idf; characters for scripts without spaces. Examples of one label each.
///
/// # Errors
/// If the texts have no n-gram in common.
pub fn baselines(
    training: &[ClassifyExample],
    heldout: &[ClassifyExample],
    labels: &[String],
    seed: u64,
) -> Result<Vec<Baseline>, TrainError> {
    let (train_texts, train_labels) = (joined(training), places(training, labels));
    let (held_texts, held_labels) = (joined(heldout), places(heldout, labels));
    let texts: Vec<&str> = train_texts.iter().map(String::as_str).collect();
    let held: Vec<&str> = held_texts.iter().map(String::as_str).collect();
    let n = labels.len();
    let rows = |weighting| {
        let vectorizer =
            NgramVectorizer::fit(&texts, &NgramSettings { weighting, ..NgramSettings::default() })?;
        Ok::<_, TrainError>((vectorizer.transform(&texts), vectorizer.transform(&held)))
    };
    let score = |name, predicted: &[usize], seconds| {
        let found = classification(&held_labels, predicted, n);
        Baseline { name, accuracy: found.accuracy, f1: found.macro_average.f1, seconds }
    };
    let (rows_train, rows_held) = rows(Weighting::Counts)?;
    let started = Instant::now();
    let bayes = MultinomialNaiveBayes::fit(&rows_train, &train_labels, n, 1.0)?;
    let bayes = score("naive Bayes", &bayes.predict(&rows_held)?, started.elapsed().as_secs_f64());
    let (rows_train, rows_held) = rows(Weighting::TfIdf)?;
    let started = Instant::now();
    let svm = LinearSvm::fit(&rows_train, &train_labels, n, &SvmSettings { seed, ..SvmSettings::default() })?;
    let svm = score("linear SVM", &svm.predict(&rows_held)?, started.elapsed().as_secs_f64());
    Ok(vec![bayes, svm])
}

fn joined(examples: &[ClassifyExample]) -> Vec<String> {
    let both = |e: &ClassifyExample| match &e.second {
        Some(second) => format!("{}\n{second}", e.text),
        None => e.text.clone(),
    };
    examples.iter().map(both).collect()
}

/// Labels by their places; the caller has seen that each is known.
fn places(examples: &[ClassifyExample], labels: &[String]) -> Vec<usize> {
    let place = |e: &ClassifyExample| match &e.label {
        Label::One(label) => labels.iter().position(|known| known == label).unwrap_or_default(),
        Label::Several(_) | Label::Number(_) => 0,
    };
    examples.iter().map(place).collect()
}
