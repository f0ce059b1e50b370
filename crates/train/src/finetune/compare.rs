//! What cheap models make of the same examples: a model that doesn't beat them isn't worth serving.

use crate::classical::crf::Template;
use crate::classical::naive_bayes::MultinomialNaiveBayes;
use crate::classical::ngrams::{NgramSettings, NgramVectorizer, Weighting};
use crate::classical::svm::{LinearSvm, SvmSettings};
use crate::error::TrainError;
use crate::finetune::fit::Observer;
use crate::finetune::settings::Settings;
use crate::metrics::classification::classification;
use crate::neural::{Answer, Example, Examples, Features, Kind, fit_network};
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
/// tf-idf, characters for scripts without spaces; then networks over words. Examples of one label each.
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
    let svm = LinearSvm::fit(
        &rows_train,
        &train_labels,
        n,
        &SvmSettings { seed: settings.seed, ..SvmSettings::default() },
    )?;
    let svm = score("linear SVM", &svm.predict(&rows_held)?, started.elapsed().as_secs_f64());
    let mut all = vec![bayes, svm];
    let features = Features::of_texts(&texts)?;
    let tokens = |text: &&str| features.text(text, settings.max_tokens);
    let training: Vec<Example> = texts
        .iter()
        .zip(&train_labels)
        .map(|(text, &label)| Example { tokens: tokens(text), labels: vec![label] })
        .collect();
    let heldout: Vec<Vec<Vec<u32>>> = held.iter().map(tokens).collect();
    let right = |found: &[Vec<usize>]| {
        found.iter().zip(&held_labels).filter(|(found, right)| found[0] == **right).count() as f64
    };
    let examples = Examples {
        training: &training,
        heldout: &heldout,
        score: &right,
        features: features.len(),
        labels: n,
    };
    for kind in Kind::ALL {
        observer.say(&format!("a {} on the same examples", kind.name()));
        let trained = fit_network(kind, Answer::Text, &examples, settings.seed, observer)?;
        all.push(score(kind.name(), &trained.labels.concat(), trained.seconds));
    }
    Ok(all)
}

/// Names a baseline's tags of the held-out sentences, and the seconds that it took to train, and judges them.
type Judge<'a> = dyn Fn(&'static str, &[Vec<usize>], f64) -> Baseline + 'a;

/// Networks under a conditional random field on tagged sentences; `score` judges the tags of `heldout`.
///
/// # Errors
/// If no feature occurs twice, or a loss stops being a number.
pub(crate) fn neural_taggers(
    training: (&[Vec<String>], &[Vec<usize>]),
    heldout: &[Vec<String>],
    score: &Judge<'_>,
    labels: usize,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Vec<Baseline>, TrainError> {
    let features = Features::of_sentences(training.0, Template::for_sentences(training.0))?;
    let pairs = training.0.iter().zip(training.1);
    let examples: Vec<Example> = pairs
        .map(|(words, tags)| Example { tokens: features.sentence(words), labels: tags.clone() })
        .collect();
    let heldout: Vec<Vec<Vec<u32>>> = heldout.iter().map(|words| features.sentence(words)).collect();
    let f1 = |found: &[Vec<usize>]| {
        let judged = score("", found, 0.0);
        // Where tags make no spans, the share that is right decides.
        judged.f1 + judged.accuracy * 1e-3
    };
    let examples =
        Examples { training: &examples, heldout: &heldout, score: &f1, features: features.len(), labels };
    let mut all = Vec::new();
    for (kind, name) in
        Kind::ALL.into_iter().zip(["CNN and CRF", "RNN and CRF", "LSTM and CRF", "GRU and CRF"])
    {
        observer.say(&format!("a {} under a conditional random field on the same sentences", kind.name()));
        let trained = fit_network(kind, Answer::TagsInARow, &examples, seed, observer)?;
        all.push(score(name, &trained.labels, trained.seconds));
    }
    Ok(all)
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
