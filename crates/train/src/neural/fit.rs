//! From labelled sequences to a network with weights.

use crate::error::TrainError;
use crate::finetune::fit::{Event, Observer, fit};
use crate::finetune::settings::Settings;
use crate::neural::learner::{Example, NeuralLearner, Score};
use crate::neural::{Answer, Kind, Network, Shape};
use hearth_model::Weights;

/// A network that has learnt.
#[derive(Debug)]
pub struct Trained {
    /// The network.
    pub network: Network,
    /// Its weights after the epoch whose labels were the best.
    pub weights: Weights,
    /// What it makes of the held-out examples.
    pub labels: Vec<Vec<usize>>,
    /// Wall seconds of the steps.
    pub seconds: f64,
}

/// What there is to learn from and to judge by.
pub struct Examples<'a> {
    /// Examples to learn from.
    pub training: &'a [Example],
    /// Sequences to judge by.
    pub heldout: &'a [Vec<Vec<u32>>],
    /// How their labels are judged.
    pub score: &'a Score<'a>,
    /// Features.
    pub features: usize,
    /// Labels.
    pub labels: usize,
}

impl Shape {
    /// A small network, which learns from a thousand examples within a minute.
    fn small(kind: Kind, answer: Answer, features: usize, labels: usize) -> Self {
        let state = if answer == Answer::Text { 64 } else { 100 };
        Shape { kind, answer, features, embedding: 100, state, labels }
    }
}

/// Fewer epochs where the usual number would be more examples than this: the network is there to compare with.
const MOST_SEEN: f64 = 25_000.0;

/// Trains a small network, and keeps the weights of the epoch that `examples.score` finds best. `observer` may stop it.
///
/// # Errors
/// If the loss stops being a number.
pub fn fit_network(
    kind: Kind,
    answer: Answer,
    examples: &Examples,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Trained, TrainError> {
    let network = Network::new(Shape::small(kind, answer, examples.features, examples.labels));
    let weights = Weights::init(&network, seed, false);
    let usual: f64 = if answer == Answer::Text { 8.0 } else { 15.0 };
    let settings = Settings {
        seed,
        epochs: usual.min((MOST_SEEN / examples.training.len().max(1) as f64).ceil()),
        batch: 16,
        lr: 2e-3,
        weight_decay: 1e-2,
        warmup: 0.05,
        dropout: 0.5,
        clip: 5.0,
        pass_tokens: usize::MAX,
        patience: 5,
        ..Settings::default()
    };
    let mut learner = NeuralLearner {
        network: &network,
        training: examples.training,
        heldout: examples.heldout,
        score: examples.score,
        dropout: settings.dropout,
    };
    let mut quiet = Quiet(observer);
    let (fitted, look) = fit(&mut learner, weights, &settings, NeuralLearner::METRIC, &mut quiet)?;
    Ok(Trained { weights: fitted.weights, labels: look.labels, seconds: fitted.seconds, network })
}

/// Hears nothing of the steps, and may still stop them.
struct Quiet<'a>(&'a mut dyn Observer);

impl Observer for Quiet<'_> {
    fn say(&mut self, _: &str) {}

    fn event(&mut self, _: &Event) {}

    fn stop(&mut self) -> bool {
        self.0.stop()
    }
}
