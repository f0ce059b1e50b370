//! Learning a network from labelled sequences, by the loop of fine-tuning.

use crate::error::TrainError;
use crate::finetune::fit::{Learner, Metrics};
use crate::neural::{Answer, Network, Tokens, crf_loss};
use hearth_model::Weights;
use hearth_model::executor::ParamSpec;
use hearth_tensor::Tensor;
use hearth_tensor::nn::{CrossEntropyOptions, cross_entropy};

/// A sequence with its labels: one of a text, else one a token.
#[derive(Clone, Debug, Default)]
pub struct Example {
    /// Features of each token.
    pub tokens: Vec<Vec<u32>>,
    /// The right labels.
    pub labels: Vec<usize>,
}

/// Scores the labels of all held-out examples: the higher, the better.
pub type Score<'a> = dyn Fn(&[Vec<usize>]) -> f64 + 'a;

/// A network that learns.
pub struct NeuralLearner<'a> {
    /// The network.
    pub network: &'a Network,
    /// Examples to learn from.
    pub training: &'a [Example],
    /// Sequences to judge by.
    pub heldout: &'a [Vec<Vec<u32>>],
    /// How their labels are judged.
    pub score: &'a Score<'a>,
    /// What that is called.
    pub metric: &'static str,
    /// Probability of zeroing a value of what comes in and of what the head sees.
    pub dropout: f32,
}

/// Labels of the held-out examples.
#[derive(Clone, Debug)]
pub struct NeuralLook {
    metrics: Metrics,
    /// Those labels.
    pub labels: Vec<Vec<usize>>,
}

impl AsRef<Metrics> for NeuralLook {
    fn as_ref(&self) -> &Metrics {
        &self.metrics
    }
}

impl Learner for NeuralLearner<'_> {
    type Look = NeuralLook;

    fn specs(&self) -> &[ParamSpec] {
        self.network.specs()
    }

    fn examples(&self) -> usize {
        self.training.len()
    }

    fn tokens(&self, example: usize) -> usize {
        self.training[example].tokens.len()
    }

    fn weight(&self, examples: &[usize]) -> usize {
        examples.iter().map(|&i| self.training[i].labels.len()).sum()
    }

    fn loss(&mut self, weights: &Weights, examples: &[usize], step: u64) -> Result<Tensor, TrainError> {
        let sequences: Vec<&Tokens> = examples.iter().map(|&i| self.training[i].tokens.as_slice()).collect();
        let logits = self.network.logits(weights, &sequences, (self.dropout, step))?;
        let labels: Vec<&[usize]> = examples.iter().map(|&i| self.training[i].labels.as_slice()).collect();
        match (self.network.shape().answer, self.network.transitions(weights)) {
            (Answer::TagsInARow, Some(transitions)) => crf_loss(&logits, transitions, &labels),
            _ => {
                let targets: Vec<i32> = labels.concat().into_iter().map(|label| label as i32).collect();
                Ok(cross_entropy(&logits, &targets, &CrossEntropyOptions::default())?.loss)
            }
        }
    }

    fn look(&mut self, weights: &Weights) -> Result<NeuralLook, TrainError> {
        let sequences: Vec<&Tokens> = self.heldout.iter().map(Vec::as_slice).collect();
        let labels = self.network.predict(weights, &sequences)?;
        let metrics = Metrics::from([(self.metric.to_owned(), (self.score)(&labels))]);
        Ok(NeuralLook { metrics, labels })
    }
}
