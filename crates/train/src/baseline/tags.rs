//! Words to tags: a hidden Markov model, a conditional random field, and networks under one.

use super::file::{check, read, read_weights, write};
use crate::classical::crf::{CrfSettings, CrfTagger, Template};
use crate::classical::hmm::HmmTagger;
use crate::error::TrainError;
use crate::finetune::fit::{Fitted, Observer};
use crate::finetune::settings::Settings;
use crate::finetune::tag::measure_tags;
use crate::neural::{Answer, Example, Examples, Features, Kind, Network, Shape, Tokens, fit_network};
use hearth_model::Weights;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

/// A kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// A hidden Markov model of second order.
    Hmm,
    /// A conditional random field over what stands around each word.
    Crf,
    /// A network over the same, under a conditional random field.
    Network(Kind),
}

impl TagKind {
    /// All of them.
    pub const ALL: [TagKind; 6] = [
        TagKind::Hmm,
        TagKind::Crf,
        TagKind::Network(Kind::Cnn),
        TagKind::Network(Kind::Rnn),
        TagKind::Network(Kind::Lstm),
        TagKind::Network(Kind::Gru),
    ];

    /// The word that commands take.
    pub fn word(self) -> &'static str {
        match self {
            TagKind::Hmm => "hmm",
            TagKind::Crf => "crf",
            TagKind::Network(kind) => kind.word(),
        }
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            TagKind::Hmm => "hidden Markov",
            TagKind::Crf => "CRF",
            TagKind::Network(Kind::Cnn) => "CNN and CRF",
            TagKind::Network(Kind::Rnn) => "RNN and CRF",
            TagKind::Network(Kind::Lstm) => "LSTM and CRF",
            TagKind::Network(Kind::Gru) => "GRU and CRF",
        }
    }

    /// The kind that a word names.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// A model that gives words tags.
#[derive(Debug)]
pub struct TagModel {
    labels: Vec<String>,
    body: Body,
    /// Of a network.
    network: Option<(Network, Weights)>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Body {
    Hmm { model: HmmTagger },
    Crf { model: CrfTagger },
    Network { shape: Shape, features: Features },
}

const TASK: &str = "tag";

/// Sentences with their tags.
pub type Tagged<'a> = (&'a [Vec<String>], &'a [Vec<String>]);

impl TagModel {
    /// Learns a model of a kind from `training`; a network keeps the weights that are best on `heldout`, by `metric`.
    /// Says how it went, too. `labels` are in alphabetical order.
    ///
    /// # Errors
    /// If there is nothing to learn from, a loss stops being a number, or the caller breaks off.
    pub fn fit(
        kind: TagKind,
        training: Tagged,
        heldout: Tagged,
        labels: &[String],
        (settings, metric): (&Settings, &'static str),
        observer: &mut dyn Observer,
    ) -> Result<(Self, Fitted), TrainError> {
        let (sentences, tags) = training;
        let place = |tag: &String| labels.binary_search(tag).unwrap_or_default();
        let places: Vec<Vec<usize>> = tags.iter().map(|tags| tags.iter().map(place).collect()).collect();
        let (n, started) = (labels.len(), Instant::now());
        let template = Template::for_sentences(sentences);
        let (body, network, mut fitted) = match kind {
            TagKind::Hmm => (Body::Hmm { model: HmmTagger::fit(sentences, &places, n)? }, None, None),
            TagKind::Crf => {
                let crf = CrfSettings::default();
                let stop =
                    |_| if observer.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
                let model = CrfTagger::fit(sentences, &places, n, template, &crf, stop)?;
                (Body::Crf { model }, None, None)
            }
            TagKind::Network(kind) => {
                let features = Features::of_sentences(sentences, template)?;
                let pairs = sentences.iter().zip(&places);
                let examples: Vec<Example> = pairs
                    .map(|(words, tags)| Example { tokens: features.sentence(words), labels: tags.clone() })
                    .collect();
                let held: Vec<Vec<Vec<u32>>> =
                    heldout.0.iter().map(|words| features.sentence(words)).collect();
                let score = |found: &[Vec<usize>]| measure_tags(labels, found, heldout.1)[metric];
                let examples = Examples {
                    training: &examples,
                    heldout: &held,
                    score: &score,
                    metric,
                    features: features.len(),
                    labels: n,
                };
                let trained = fit_network(kind, Answer::TagsInARow, &examples, settings, observer)?;
                let shape = trained.network.shape().clone();
                let network = Some((trained.network, trained.fitted.weights.clone()));
                (Body::Network { shape, features }, network, Some(trained.fitted))
            }
        };
        let fitted = fitted.take().unwrap_or_else(|| Fitted::at_once(sentences.len(), started));
        Ok((TagModel { labels: labels.to_vec(), body, network }, fitted))
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// If it isn't one of such a model, or is damaged.
    pub fn open(dir: &Path) -> Result<Self, TrainError> {
        let (labels, body) = read::<Body>(dir, TASK)?;
        let network = match &body {
            Body::Hmm { model } => {
                check(dir, "tags", labels.len(), model.n_tags())?;
                None
            }
            Body::Crf { model } => {
                check(dir, "tags", labels.len(), model.crf().n_tags())?;
                None
            }
            Body::Network { shape, features } => {
                check(dir, "answers a word", 1, usize::from(shape.answer == Answer::TagsInARow))?;
                let network = Network::new(shape.clone());
                let weights = read_weights(dir, &network, (labels.len(), features.len()))?;
                Some((network, weights))
            }
        };
        Ok(TagModel { labels, body, network })
    }

    /// Writes it into a folder.
    pub(super) fn save(&self, dir: &Path) -> Result<(), TrainError> {
        let network = self.network.as_ref().map(|(network, weights)| (network, weights));
        write(dir, TASK, &self.labels, &self.body, network)
    }

    /// All tags that the model knows.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The tag of each word of each sentence, as places among [`labels`](Self::labels).
    ///
    /// # Errors
    /// If the model doesn't fit itself.
    pub fn tag(&self, sentences: &[&[String]]) -> Result<Vec<Vec<usize>>, TrainError> {
        // Models of chains have nothing to say of a sentence without words.
        let of = |tag: &dyn Fn(&[String]) -> Vec<usize>| {
            let one = |words: &&[String]| if words.is_empty() { Vec::new() } else { tag(words) };
            Ok(sentences.iter().map(one).collect())
        };
        match &self.body {
            Body::Hmm { model } => of(&|words| model.tag(words)),
            Body::Crf { model } => of(&|words| model.tag(words)),
            Body::Network { features, .. } => {
                let Some((network, weights)) = &self.network else { return Ok(Vec::new()) };
                let tokens: Vec<Vec<Vec<u32>>> =
                    sentences.iter().map(|words| features.sentence(words)).collect();
                let some: Vec<&Tokens> = tokens.iter().map(Vec::as_slice).filter(|t| !t.is_empty()).collect();
                let mut found = network.predict(weights, &some)?.into_iter();
                let one = |tokens: &Vec<Vec<u32>>| match tokens.is_empty() {
                    true => Vec::new(),
                    false => found.next().unwrap_or_default(),
                };
                Ok(tokens.iter().map(one).collect())
            }
        }
    }
}
