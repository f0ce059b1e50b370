//! Linear-chain conditional random fields: Lafferty, McCallum and Pereira, "Conditional Random Fields" (2001).
//!
//! `p(y | x) = exp(Σ_t Σ_{a in x_t} w[a, y_t] + Σ_t v[y_{t-1}, y_t]) / Z(x)`: each token has attributes, which are
//! strings, and each pair of an attribute and a tag that occurs in training has a weight, as has each pair of tags.
//! Training minimises `-Σ log p(y | x) + c1 Σ|w| + c2 Σw²` by L-BFGS, as CRFsuite does, to the same optimum.

pub(crate) mod chain;
mod template;
mod train;

pub use template::Template;

use super::{ClassicalError, Vocabulary, check_length, check_tags, checked_serde};
use chain::{Steps, Sums};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// How a CRF is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrfSettings {
    /// Weight of the L1 penalty; above 0 it leaves most weights at exactly 0.
    pub c1: f64,
    /// Weight of the L2 penalty.
    pub c2: f64,
    /// Iterations of L-BFGS at most.
    pub max_iterations: usize,
    /// Training ends once ten iterations lower the objective by less than this share.
    pub improvement: f64,
    /// An attribute that occurs fewer times is left out.
    pub min_count: usize,
    /// Whether pairs of tags that don't occur in training have weights too.
    pub all_transitions: bool,
}

impl Default for CrfSettings {
    fn default() -> Self {
        CrfSettings {
            c1: 0.1,
            c2: 0.1,
            max_iterations: 100,
            improvement: 1e-5,
            min_count: 1,
            all_transitions: true,
        }
    }
}

/// Where an iteration of training arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrfProgress {
    /// The iteration, counted from 1.
    pub iteration: usize,
    /// At most so many will come.
    pub max_iterations: usize,
    /// The objective with its penalties.
    pub objective: f64,
    /// The length of its gradient.
    pub gradient_norm: f64,
}

/// A linear-chain CRF over tokens that are given by their attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct LinearChainCrf {
    n_tags: usize,
    attributes: Vocabulary,
    /// Where each attribute's weights begin, and one more for the end.
    starts: Vec<usize>,
    /// Tag and weight.
    weights: Vec<(usize, f32)>,
    /// `[n_tags, n_tags]`: from, to.
    transitions: Vec<f32>,
}

checked_serde!(LinearChainCrf);

impl LinearChainCrf {
    /// Learns from sentences whose tokens have `attributes` and `tags`, each tag below `n_tags`. `progress` is called
    /// after each iteration and may end the training there.
    ///
    /// # Errors
    /// If there is no token, tags and tokens differ in number, a tag isn't below `n_tags`, a setting can't be, or the
    /// objective stops being finite.
    pub fn fit(
        attributes: &[Vec<Vec<String>>],
        tags: &[Vec<usize>],
        n_tags: usize,
        settings: &CrfSettings,
        progress: impl FnMut(CrfProgress) -> ControlFlow<()>,
    ) -> Result<Self, ClassicalError> {
        check_tags(attributes, tags, n_tags)?;
        for (setting, value) in [("c1", settings.c1), ("c2", settings.c2)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(ClassicalError::Setting { setting, value, expected: "0 or a number above it" });
            }
        }
        train::fit(attributes, tags, n_tags, settings, progress)
    }

    /// The likeliest tags of a sentence.
    pub fn tag(&self, attributes: &[Vec<String>]) -> Vec<usize> {
        self.steps().viterbi(&self.scores(attributes))
    }

    /// The probability of each tag for each token of a sentence, `[T][n_tags]`.
    pub fn marginals(&self, attributes: &[Vec<String>]) -> Vec<Vec<f64>> {
        if attributes.is_empty() {
            return Vec::new();
        }
        let mut sums = Sums::default();
        let mut expected_steps = vec![0.0; self.n_tags * self.n_tags];
        sums.run(&self.steps(), &self.scores(attributes), &mut expected_steps);
        sums.marginals().chunks_exact(self.n_tags).map(<[f64]>::to_vec).collect()
    }

    /// How many tags there are.
    pub fn n_tags(&self) -> usize {
        self.n_tags
    }

    /// How many weights of attributes there are that aren't 0.
    pub fn n_weights(&self) -> usize {
        self.weights.len()
    }

    /// The weight of an attribute for a tag; 0 for what wasn't learnt.
    pub fn weight(&self, attribute: &str, tag: usize) -> f32 {
        let Some(id) = self.attributes.id(attribute) else { return 0.0 };
        let mut weights = self.weights[self.starts[id]..self.starts[id + 1]].iter();
        weights.find(|&&(known, _)| known == tag).map_or(0.0, |&(_, weight)| weight)
    }

    /// The weight of a step from one tag to the next.
    ///
    /// # Panics
    /// If a tag isn't below [`Self::n_tags`].
    pub fn transition(&self, from: usize, to: usize) -> f32 {
        assert!(from < self.n_tags && to < self.n_tags, "tags {from}, {to} of {}", self.n_tags);
        self.transitions[from * self.n_tags + to]
    }

    fn steps(&self) -> Steps {
        Steps::new(self.n_tags, self.transitions.iter().map(|&weight| f64::from(weight)).collect())
    }

    /// `[T, n_tags]`.
    fn scores(&self, attributes: &[Vec<String>]) -> Vec<f64> {
        let mut scores = vec![0.0; attributes.len() * self.n_tags];
        for (token, row) in attributes.iter().zip(scores.chunks_exact_mut(self.n_tags)) {
            for id in token.iter().filter_map(|attribute| self.attributes.id(attribute)) {
                for &(tag, weight) in &self.weights[self.starts[id]..self.starts[id + 1]] {
                    row[tag] += f64::from(weight);
                }
            }
        }
        scores
    }

    fn check(&self) -> Result<(), ClassicalError> {
        check_length("places of weights", self.attributes.len() + 1, self.starts.len())?;
        let square = self.n_tags.checked_mul(self.n_tags);
        let fits = self.n_tags > 0
            && square == Some(self.transitions.len())
            && self.starts.is_sorted()
            && self.starts.last() == Some(&self.weights.len())
            && self.weights.iter().all(|&(tag, _)| tag < self.n_tags);
        if fits {
            return Ok(());
        }
        let problem = "weights don't fit attributes and tags".into();
        Err(ClassicalError::Damaged { model: "conditional random field", problem })
    }
}

/// A CRF with the template that makes attributes of tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrfTagger {
    template: Template,
    crf: LinearChainCrf,
}

impl CrfTagger {
    /// Learns from `sentences` of tokens with `tags`, each below `n_tags`, by the attributes of `template`.
    ///
    /// # Errors
    /// As [`LinearChainCrf::fit`].
    pub fn fit(
        sentences: &[Vec<String>],
        tags: &[Vec<usize>],
        n_tags: usize,
        template: Template,
        settings: &CrfSettings,
        progress: impl FnMut(CrfProgress) -> ControlFlow<()>,
    ) -> Result<Self, ClassicalError> {
        let attributes: Vec<_> = sentences.iter().map(|sentence| template.attributes(sentence)).collect();
        let crf = LinearChainCrf::fit(&attributes, tags, n_tags, settings, progress)?;
        Ok(CrfTagger { template, crf })
    }

    /// The likeliest tags of a sentence.
    pub fn tag(&self, sentence: &[String]) -> Vec<usize> {
        self.crf.tag(&self.template.attributes(sentence))
    }

    /// The probability of each tag for each token of a sentence, `[T][n_tags]`.
    pub fn marginals(&self, sentence: &[String]) -> Vec<Vec<f64>> {
        self.crf.marginals(&self.template.attributes(sentence))
    }

    /// The CRF itself.
    pub fn crf(&self) -> &LinearChainCrf {
        &self.crf
    }
}
