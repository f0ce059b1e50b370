//! Networks from before the Transformer, learnt from labelled examples alone: convolutions over words (Kim 2014) and
//! recurrent layers in both directions (Graves & Schmidhuber 2005), for texts and for tags, these with a conditional
//! random field on top if wanted (Huang, Xu & Yu 2015).
//!
//! A token is a bag of features: the word, or what a [`Template`](crate::classical::crf::Template) sees at its place.
//! Their vectors are added up, so that a feature that wasn't learnt from simply isn't there.
//!
//! Shape letters: N tokens of all sequences, B sequences, D a feature's vector, S what a token's state has, K labels.

mod crf;
mod features;
mod fit;
mod learner;

pub use crf::crf_loss;
pub use features::Features;
pub use fit::{Examples, Quiet, Trained, fit_network, usual_settings};
pub use learner::{Example, NeuralLearner};

use crate::classical::crf::chain::Steps;
use crate::error::TrainError;
use hearth_kernel::activation::Activation;
use hearth_model::Weights;
use hearth_model::executor::{Init, ParamSpec, Role};
use hearth_tensor::nn::{self, Cell};
use hearth_tensor::{Tensor, no_grad};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What goes over the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Filters over 3, 4 and 5 tokens.
    Cnn,
    /// A plain recurrent layer in both directions.
    Rnn,
    /// LSTMs in both directions.
    Lstm,
    /// GRUs in both directions.
    Gru,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Cnn, Kind::Rnn, Kind::Lstm, Kind::Gru];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cnn => "CNN",
            Kind::Rnn => "RNN",
            Kind::Lstm => "LSTM",
            Kind::Gru => "GRU",
        }
    }

    /// The word that commands take.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Cnn => "cnn",
            Kind::Rnn => "rnn",
            Kind::Lstm => "lstm",
            Kind::Gru => "gru",
        }
    }

    fn cell(self) -> Option<Cell> {
        match self {
            Kind::Cnn => None,
            Kind::Rnn => Some(Cell::Rnn),
            Kind::Lstm => Some(Cell::Lstm),
            Kind::Gru => Some(Cell::Gru),
        }
    }
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// One label a sequence.
    Text,
    /// One label a token, each on its own.
    Tags,
    /// One label a token, the likeliest row of them.
    TagsInARow,
}

/// Sizes of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// What goes over the tokens.
    pub kind: Kind,
    /// What is answered.
    pub answer: Answer,
    /// Features.
    pub features: usize,
    /// D.
    pub embedding: usize,
    /// Values of a state in each direction, or filters of each width.
    pub state: usize,
    /// K.
    pub labels: usize,
}

/// Tokens that a filter sees.
const WIDTHS: [usize; 3] = [3, 4, 5];

/// A network without weights.
#[derive(Clone, Debug)]
pub struct Network {
    shape: Shape,
    specs: Vec<ParamSpec>,
}

impl AsRef<[ParamSpec]> for Network {
    fn as_ref(&self) -> &[ParamSpec] {
        &self.specs
    }
}

/// Tokens, each as the numbers of its features.
pub type Tokens = [Vec<u32>];

impl Network {
    /// A network of these sizes.
    pub fn new(shape: Shape) -> Self {
        let mut specs = Vec::new();
        let mut add = |name: String, shape: &[usize], role| {
            let init = match role {
                Role::Embedding => Init::Normal(0.1),
                Role::Vector => Init::Zeros,
                // Keeps the size of what goes through (Glorot & Bengio 2010).
                Role::Matrix | Role::Head => {
                    Init::Normal((2.0 / shape.iter().sum::<usize>().max(1) as f32).sqrt())
                }
            };
            specs.push(ParamSpec { name, shape: shape.to_vec(), init, role });
        };
        let Shape { embedding: d, state, labels, .. } = shape;
        add("embedding.weight".into(), &[shape.features, d], Role::Embedding);
        let width = match shape.kind.cell() {
            None => {
                for width in WIDTHS {
                    add(format!("convolution_{width}.weight"), &[state, width * d], Role::Matrix);
                    add(format!("convolution_{width}.bias"), &[state], Role::Vector);
                }
                WIDTHS.len() * state
            }
            Some(cell) => {
                let gates = cell.gates() * state;
                for end in ["l0", "l0_reverse"] {
                    add(format!("recurrent.weight_ih_{end}"), &[gates, d], Role::Matrix);
                    add(format!("recurrent.weight_hh_{end}"), &[gates, state], Role::Matrix);
                    add(format!("recurrent.bias_ih_{end}"), &[gates], Role::Vector);
                    add(format!("recurrent.bias_hh_{end}"), &[gates], Role::Vector);
                }
                2 * state
            }
        };
        add("head.weight".into(), &[labels, width], Role::Head);
        add("head.bias".into(), &[labels], Role::Vector);
        if shape.answer == Answer::TagsInARow {
            add("transitions".into(), &[labels, labels], Role::Vector);
        }
        Network { shape, specs }
    }

    /// Its sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Parameters, in the order of the weights.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The logits of labels: [B, K] of texts, else [N, K]. `dropout` is a probability and a seed.
    ///
    /// # Errors
    /// If a feature or the weights don't fit.
    pub fn logits(
        &self,
        weights: &Weights,
        sequences: &[&Tokens],
        dropout: (f32, u64),
    ) -> Result<Tensor, TrainError> {
        let get = |place: usize| &weights.tensors()[place];
        let drop = |x: Tensor, which: u64| match dropout.0 > 0.0 {
            true => x.dropout(dropout.0, dropout.1.wrapping_mul(2).wrapping_add(which)),
            false => Ok(x),
        };
        let lengths: Vec<usize> = sequences.iter().map(|tokens| tokens.len()).collect();
        let x = drop(self.embed(get(0), sequences)?, 0)?;
        let states = match self.shape.kind.cell() {
            None => {
                let filters = WIDTHS.iter().enumerate().map(|(i, &width)| {
                    let windows = unfold(&x, &lengths, width)?;
                    Ok(nn::linear(&windows, get(1 + 2 * i), Some(get(2 + 2 * i)), Some(Activation::Relu))?)
                });
                filters.collect::<Result<Vec<_>, TrainError>>()?
            }
            Some(cell) => {
                let directions = [(1, false), (5, true)].map(|(first, reverse)| {
                    let brought = nn::linear(&x, get(first), Some(get(first + 2)), None)?;
                    nn::recurrent(cell, &brought, get(first + 1), get(first + 3), &lengths, reverse)
                });
                directions.into_iter().collect::<Result<Vec<_>, _>>()?
            }
        };
        let mut states = Tensor::concat(&states.iter().collect::<Vec<_>>(), 1)?;
        if self.shape.answer == Answer::Text {
            // The largest value over time (Collobert et al. 2011).
            let largest = ranges(&lengths).map(|range| states.slice(0, range)?.max_axis(0, true));
            let largest = largest.collect::<Result<Vec<_>, _>>()?;
            states = Tensor::concat(&largest.iter().collect::<Vec<_>>(), 0)?;
        }
        let head = self.head();
        Ok(nn::linear(&drop(states, 1)?, get(head), Some(get(head + 1)), None)?)
    }

    fn head(&self) -> usize {
        if self.shape.kind == Kind::Cnn { 1 + 2 * WIDTHS.len() } else { 9 }
    }

    /// The weights of steps from one label to the next [K, K], if it has them.
    pub fn transitions<'w>(&self, weights: &'w Weights) -> Option<&'w Tensor> {
        (self.shape.answer == Answer::TagsInARow).then(|| &weights.tensors()[self.specs.len() - 1])
    }

    /// The sums of the vectors of each token's features [N, D].
    fn embed(&self, table: &Tensor, sequences: &[&Tokens]) -> Result<Tensor, TrainError> {
        let tokens: Vec<&Vec<u32>> = sequences.iter().flat_map(|tokens| tokens.iter()).collect();
        let (mut ids, mut places) = (Vec::new(), Vec::new());
        for (place, features) in (0..).zip(&tokens) {
            ids.extend_from_slice(features);
            places.resize(ids.len(), place);
        }
        if ids.is_empty() {
            return Ok(Tensor::zeros(&[tokens.len(), self.shape.embedding]));
        }
        Ok(nn::sum_rows(&nn::embedding(table, &ids)?, &places, tokens.len())?)
    }

    /// The labels of each sequence: one of a text, else one a token. A sequence's labels don't depend on the others.
    ///
    /// # Errors
    /// If a feature or the weights don't fit.
    pub fn predict(&self, weights: &Weights, sequences: &[&Tokens]) -> Result<Vec<Vec<usize>>, TrainError> {
        let k = self.shape.labels;
        let steps = self.transitions(weights).map(|transitions| {
            Steps::new(k, transitions.data().iter().map(|&weight| f64::from(weight)).collect())
        });
        let mut labels = Vec::with_capacity(sequences.len());
        for batch in sequences.chunks(TOGETHER) {
            let logits = no_grad(|| self.logits(weights, batch, (0.0, 0)))?;
            let lengths: Vec<usize> = match self.shape.answer {
                Answer::Text => vec![1; batch.len()],
                _ => batch.iter().map(|tokens| tokens.len()).collect(),
            };
            for range in ranges(&lengths) {
                let rows = &logits.data()[range.start * k..range.end * k];
                labels.push(match &steps {
                    Some(steps) => steps.viterbi(&rows.iter().map(|&x| f64::from(x)).collect::<Vec<_>>()),
                    None => rows.chunks_exact(k).map(hearth_engine::highest).collect(),
                });
            }
        }
        Ok(labels)
    }
}

/// Sequences that are judged at once.
pub(crate) const TOGETHER: usize = 32;

/// Rows of sequences that lie one behind the other.
fn ranges(lengths: &[usize]) -> impl Iterator<Item = Range<usize>> {
    let mut end = 0;
    lengths.iter().map(move |length| {
        end += length;
        end - length..end
    })
}

/// For each token the vectors of the `width` tokens around it, side by side [N, width D]; zeros beyond either end.
fn unfold(x: &Tensor, lengths: &[usize], width: usize) -> Result<Tensor, TrainError> {
    let (n, d) = (x.shape()[0], x.shape()[1]);
    let padded = Tensor::concat(&[x, &Tensor::zeros(&[1, d])], 0)?;
    let mut rows = Vec::with_capacity(n * width);
    for range in ranges(lengths) {
        for row in range.clone() {
            let around = (0..width).map(|i| (row + i).checked_sub(width / 2).filter(|at| range.contains(at)));
            rows.extend(around.map(|at| at.unwrap_or(n) as u32));
        }
    }
    Ok(nn::embedding(&padded, &rows)?.reshape(&[n, width * d])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_of_their_own_sequence() {
        let x = Tensor::from_vec((1..=5).map(|i| i as f32).collect(), &[5, 1]).expect("the shape");
        let windows = unfold(&x, &[2, 3], 3).expect("unfolds");
        let expected = [[0.0, 1.0, 2.0], [1.0, 2.0, 0.0], [0.0, 3.0, 4.0], [3.0, 4.0, 5.0], [4.0, 5.0, 0.0]];
        assert_eq!(windows.data(), expected.concat());
        // An even width has one more token in front.
        let windows = unfold(&x, &[5], 4).expect("unfolds");
        assert_eq!(windows.data()[..8], [0.0, 0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn company_changes_no_logits() {
        let sequences: [&Tokens; 3] =
            [&[vec![0, 3], vec![], vec![1]], &[vec![2]], &[vec![1], vec![1, 2], vec![3], vec![0], vec![2]]];
        for kind in Kind::ALL {
            for answer in [Answer::Text, Answer::Tags, Answer::TagsInARow] {
                let shape = Shape { kind, answer, features: 4, embedding: 5, state: 6, labels: 3 };
                let network = Network::new(shape);
                let weights = Weights::init(&network, 1, false);
                let together = network.logits(&weights, &sequences, (0.0, 0)).expect("runs");
                let alone: Vec<f32> = sequences
                    .iter()
                    .flat_map(|one| network.logits(&weights, &[one], (0.0, 0)).expect("runs").data().to_vec())
                    .collect();
                assert_eq!(together.data(), alone, "{kind:?} {answer:?}");
            }
        }
    }
}
