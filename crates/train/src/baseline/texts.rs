//! Texts to labels: naive Bayes, a linear support vector machine, and networks over words.

use super::file::{check, read, read_weights, write};
use crate::classical::naive_bayes::MultinomialNaiveBayes;
use crate::classical::ngrams::{NgramSettings, NgramVectorizer, Weighting};
use crate::classical::svm::{LinearSvm, SvmSettings};
use crate::error::TrainError;
use crate::finetune::fit::{Fitted, Observer};
use crate::finetune::settings::Settings;
use crate::neural::{
    Answer, Example, Examples, Features, Kind, Network, Shape, TOGETHER, Tokens, fit_network,
};
use hearth_engine::{Problem, TextPair, highest, to_scores};
use hearth_model::Weights;
use hearth_tensor::no_grad;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;

/// A kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// Naive Bayes over counts of words and pairs of words.
    NaiveBayes,
    /// A linear support vector machine over the same, weighted by tf-idf.
    Svm,
    /// A network over words.
    Network(Kind),
}

impl TextKind {
    /// All of them.
    pub const ALL: [TextKind; 6] = [
        TextKind::NaiveBayes,
        TextKind::Svm,
        TextKind::Network(Kind::Cnn),
        TextKind::Network(Kind::Rnn),
        TextKind::Network(Kind::Lstm),
        TextKind::Network(Kind::Gru),
    ];

    /// The word that commands take.
    pub fn word(self) -> &'static str {
        match self {
            TextKind::NaiveBayes => "naive-bayes",
            TextKind::Svm => "svm",
            TextKind::Network(kind) => kind.word(),
        }
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            TextKind::NaiveBayes => "naive Bayes",
            TextKind::Svm => "linear SVM",
            TextKind::Network(kind) => kind.name(),
        }
    }

    /// The kind that a word names.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// A model that gives texts labels.
#[derive(Debug)]
pub struct TextModel {
    labels: Vec<String>,
    body: Body,
    /// Of a network.
    network: Option<(Network, Weights)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Body {
    NaiveBayes { vectorizer: NgramVectorizer, model: MultinomialNaiveBayes },
    Svm { vectorizer: NgramVectorizer, model: LinearSvm },
    Network { shape: Shape, features: Features, max_tokens: usize },
}

/// Texts with the places of their labels.
pub type Labelled<'a> = (&'a [&'a str], &'a [usize]);

impl TextModel {
    /// Learns a model of a kind from `training`; a network keeps the weights that are best on `heldout`. Says how it
    /// went, too.
    ///
    /// # Errors
    /// If the texts have nothing in common, or a loss stops being a number.
    pub fn fit(
        kind: TextKind,
        training: Labelled,
        heldout: Labelled,
        labels: &[String],
        settings: &Settings,
        observer: &mut dyn Observer,
    ) -> Result<(Self, Fitted), TrainError> {
        let (texts, places) = training;
        let n = labels.len();
        let vectorizer =
            |weighting| NgramVectorizer::fit(texts, &NgramSettings { weighting, ..NgramSettings::default() });
        let started = Instant::now();
        let (body, network, mut fitted) = match kind {
            TextKind::NaiveBayes => {
                let vectorizer = vectorizer(Weighting::Counts)?;
                let model = MultinomialNaiveBayes::fit(&vectorizer.transform(texts), places, n, 1.0)?;
                (Body::NaiveBayes { vectorizer, model }, None, None)
            }
            TextKind::Svm => {
                let vectorizer = vectorizer(Weighting::TfIdf)?;
                let svm = SvmSettings { seed: settings.seed, ..SvmSettings::default() };
                let model = LinearSvm::fit(&vectorizer.transform(texts), places, n, &svm)?;
                (Body::Svm { vectorizer, model }, None, None)
            }
            TextKind::Network(kind) => {
                let features = Features::of_texts(texts)?;
                let max_tokens = settings.max_tokens;
                let tokens = |text: &&str| features.text(text, max_tokens);
                let one = |(text, &label)| Example { tokens: tokens(text), labels: vec![label] };
                let examples: Vec<Example> = texts.iter().zip(places).map(one).collect();
                let held: Vec<Vec<Vec<u32>>> = heldout.0.iter().map(tokens).collect();
                let score = |found: &[Vec<usize>]| {
                    let right = found.iter().zip(heldout.1).filter(|(found, right)| found[0] == **right);
                    right.count() as f64 / found.len().max(1) as f64
                };
                let examples = Examples {
                    training: &examples,
                    heldout: &held,
                    score: &score,
                    metric: "accuracy",
                    features: features.len(),
                    labels: n,
                };
                let trained = fit_network(kind, Answer::Text, &examples, settings, observer)?;
                let shape = trained.network.shape().clone();
                let network = Some((trained.network, trained.fitted.weights.clone()));
                (Body::Network { shape, features, max_tokens }, network, Some(trained.fitted))
            }
        };
        let fitted = fitted.take().unwrap_or_else(|| Fitted::at_once(texts.len(), started));
        Ok((TextModel { labels: labels.to_vec(), body, network }, fitted))
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// If it isn't one of such a model, or is damaged.
    pub fn open(dir: &Path) -> Result<Self, TrainError> {
        let (labels, body) = read::<Body>(dir, TASK)?;
        let network = match &body {
            Body::NaiveBayes { vectorizer, model } => {
                check(dir, "labels", labels.len(), model.n_classes())?;
                model.log_probabilities(&vectorizer.transform(&[""]))?;
                None
            }
            Body::Svm { vectorizer, model } => {
                check(dir, "labels", labels.len(), model.n_classes())?;
                model.decision_values(&vectorizer.transform(&[""]))?;
                None
            }
            Body::Network { shape, features, .. } => {
                check(dir, "answers a text", 1, usize::from(shape.answer == Answer::Text))?;
                let network = Network::new(shape.clone());
                let weights = read_weights(dir, &network, (labels.len(), features.len()))?;
                Some((network, weights))
            }
        };
        Ok(TextModel { labels, body, network })
    }

    /// Writes it into a folder.
    pub(super) fn save(&self, dir: &Path) -> Result<(), TrainError> {
        let network = self.network.as_ref().map(|(network, weights)| (network, weights));
        write(dir, TASK, &self.labels, &self.body, network)
    }

    /// The labels, in the order of the scores.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Whether scores are probabilities; those of a support vector machine are distances from its planes.
    pub fn has_probabilities(&self) -> bool {
        !matches!(self.body, Body::Svm { .. })
    }

    /// For each text a number a label; the largest decides.
    ///
    /// # Errors
    /// If the model doesn't fit itself.
    pub fn scores(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, TrainError> {
        match &self.body {
            Body::NaiveBayes { vectorizer, model } => {
                let rows = model.log_probabilities(&vectorizer.transform(texts))?;
                Ok(rows.iter().map(|row| row.iter().map(|log| log.exp() as f32).collect()).collect())
            }
            Body::Svm { vectorizer, model } => {
                let rows = model.decision_values(&vectorizer.transform(texts))?;
                Ok(rows.iter().map(|row| both(row, self.labels.len())).collect())
            }
            Body::Network { features, max_tokens, .. } => {
                let Some((network, weights)) = &self.network else { return Ok(Vec::new()) };
                let mut scores = Vec::with_capacity(texts.len());
                for batch in texts.chunks(TOGETHER) {
                    let tokens: Vec<_> = batch.iter().map(|text| features.text(text, *max_tokens)).collect();
                    let sequences: Vec<&Tokens> = tokens.iter().map(Vec::as_slice).collect();
                    let logits = no_grad(|| network.logits(weights, &sequences, (0.0, 0)))?;
                    for row in logits.data().chunks_exact(self.labels.len()) {
                        let mut row = row.to_vec();
                        to_scores(&mut row, Problem::SingleLabel);
                        scores.push(row);
                    }
                }
                Ok(scores)
            }
        }
    }

    /// The place of each text's label.
    ///
    /// # Errors
    /// As [`scores`](Self::scores).
    pub fn predict(&self, texts: &[&str]) -> Result<Vec<usize>, TrainError> {
        Ok(self.scores(texts)?.iter().map(|scores| highest(scores)).collect())
    }
}

const TASK: &str = "classify";

/// A machine for two labels speaks for the second.
fn both(row: &[f64], labels: usize) -> Vec<f32> {
    match row {
        [second] if labels == 2 => vec![-*second as f32, *second as f32],
        row => row.iter().map(|&x| x as f32).collect(),
    }
}

/// A text, or a pair of them as one: two lines.
pub fn one_text((first, second): &TextPair) -> String {
    match second {
        Some(second) => format!("{first}\n{second}"),
        None => (*first).to_owned(),
    }
}
