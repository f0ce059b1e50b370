//! From labelled sequences to a network with weights.

use crate::error::TrainError;
use crate::finetune::fit::{Event, Fitted, Observer, fit};
use crate::finetune::settings::Settings;
use crate::neural::learner::{Example, NeuralLearner, Score};
use crate::neural::{Answer, Kind, Network, Shape};
use hearth_model::Weights;

/// A network that has learnt.
#[derive(Debug)]
pub struct Trained {
    /// The network.
    pub network: Network,
    /// How it went, with the weights after the epoch whose labels were the best.
    pub fitted: Fitted,
    /// What it makes of the held-out examples.
    pub labels: Vec<Vec<usize>>,
}

/// What there is to learn from and to judge by.
pub struct Examples<'a> {
    /// Examples to learn from.
    pub training: &'a [Example],
    /// Sequences to judge by.
    pub heldout: &'a [Vec<Vec<u32>>],
    /// How their labels are judged.
    pub score: &'a Score<'a>,
    /// What that is called.
    pub metric: &'static str,
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

/// How a small network is usually trained on so many examples.
pub fn usual_settings(answer: Answer, examples: usize, seed: u64) -> Settings {
    let usual: f64 = if answer == Answer::Text { 8.0 } else { 15.0 };
    Settings {
        seed,
        epochs: usual.min((MOST_SEEN / examples.max(1) as f64).ceil()),
        batch: 16,
        lr: 2e-3,
        weight_decay: 1e-2,
        warmup: 0.05,
        dropout: 0.5,
        clip: 5.0,
        pass_tokens: usize::MAX,
        patience: 5,
        ..Settings::default()
    }
}

/// Trains a small network, and keeps the weights of the look that `examples.score` finds best. `observer` may stop it.
///
/// # Errors
/// If the loss stops being a number.
pub fn fit_network(
    kind: Kind,
    answer: Answer,
    examples: &Examples,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<Trained, TrainError> {
    let network = Network::new(Shape::small(kind, answer, examples.features, examples.labels));
    let weights = Weights::init(&network, settings.seed, false);
    let mut learner = NeuralLearner {
        network: &network,
        training: examples.training,
        heldout: examples.heldout,
        score: examples.score,
        metric: examples.metric,
        dropout: settings.dropout,
    };
    let (fitted, look) = fit(&mut learner, weights, settings, examples.metric, None, observer)?;
    Ok(Trained { fitted, labels: look.labels, network })
}

/// An observer that hears nothing of the steps, and may still stop them.
pub struct Quiet<'a>(pub &'a mut dyn Observer);

impl Observer for Quiet<'_> {
    fn say(&mut self, _: &str) {}

    fn event(&mut self, _: &Event) {}

    fn stop(&mut self) -> bool {
        self.0.stop()
    }
}
