//! Finding a CRF's weights.

use super::chain::{Steps, Sums};
use super::{CrfProgress, CrfSettings, LinearChainCrf};
use crate::classical::lbfgs::Lbfgs;
use crate::classical::{ClassicalError, Vocabulary};
use hearth_kernel::pool::parallel_chunks_mut;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Sentences are worked on in so many parts at a time. It is fixed, so that sums have one order whatever the number of
/// threads.
const PARTS: usize = 4;

/// A sentence by the numbers of its attributes.
struct Sentence {
    /// Where each token's attributes begin, and one more for the end.
    starts: Vec<usize>,
    attributes: Vec<u32>,
    tags: Vec<usize>,
}

/// Training sentences, and which weights there are.
struct Problem {
    n_tags: usize,
    sentences: Vec<Sentence>,
    /// Where each attribute's weights begin, and one more for the end.
    starts: Vec<usize>,
    /// The tag of each attribute's weight.
    tags: Vec<usize>,
    /// The pairs of tags that have weights, which stand behind those of the attributes.
    transitions: Vec<(usize, usize)>,
    c2: f64,
}

/// What a part of the sentences adds to the objective and its gradient.
struct Part {
    loss: f64,
    gradient: Vec<f64>,
    expected_steps: Vec<f64>,
    scores: Vec<f64>,
    sums: Sums,
}

pub(super) fn fit(
    attributes: &[Vec<Vec<String>>],
    tags: &[Vec<usize>],
    n_tags: usize,
    settings: &CrfSettings,
    mut progress: impl FnMut(CrfProgress) -> ControlFlow<()>,
) -> Result<LinearChainCrf, ClassicalError> {
    let (names, problem) = Problem::new(attributes, tags, n_tags, settings);
    let mut weights = vec![0.0; problem.n_weights()];
    let mut parts: Vec<Part> = (0..PARTS).map(|_| Part::new(&problem)).collect();
    let solver = Lbfgs {
        c1: settings.c1,
        max_iterations: settings.max_iterations,
        gradient_tolerance: 1e-5,
        improvement: settings.improvement,
    };
    solver.minimize(
        &mut weights,
        |weights, gradient| problem.objective(weights, gradient, &mut parts),
        |arrived| {
            progress(CrfProgress {
                iteration: arrived.iteration,
                max_iterations: settings.max_iterations,
                objective: arrived.objective,
                gradient_norm: arrived.gradient_norm,
            })
        },
    )?;
    Ok(problem.model(&names, &weights))
}

impl Part {
    fn new(problem: &Problem) -> Self {
        Part {
            loss: 0.0,
            gradient: vec![0.0; problem.n_weights()],
            expected_steps: vec![0.0; problem.n_tags * problem.n_tags],
            scores: Vec::new(),
            sums: Sums::default(),
        }
    }
}

impl Problem {
    fn new(
        attributes: &[Vec<Vec<String>>],
        tags: &[Vec<usize>],
        n_tags: usize,
        settings: &CrfSettings,
    ) -> (Vocabulary, Self) {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for name in attributes.iter().flatten().flatten() {
            *counts.entry(name).or_default() += 1;
        }
        let frequent = counts.into_iter().filter(|&(_, count)| count >= settings.min_count);
        let names = Vocabulary::new(frequent.map(|(name, _)| name.to_owned()).collect());
        let ids: HashMap<&str, u32> =
            names.names().iter().enumerate().map(|(id, name)| (name.as_str(), id as u32)).collect();
        let mut pairs: Vec<(u32, usize)> = Vec::new();
        let mut transitions: Vec<(usize, usize)> = Vec::new();
        let mut sentences = Vec::new();
        for (tokens, tags) in attributes.iter().zip(tags).filter(|(tokens, _)| !tokens.is_empty()) {
            let mut sentence = Sentence { starts: vec![0], attributes: Vec::new(), tags: tags.clone() };
            for (token, &tag) in tokens.iter().zip(tags) {
                let known = token.iter().filter_map(|name| ids.get(name.as_str()).copied());
                sentence.attributes.extend(known);
                let start = sentence.starts[sentence.starts.len() - 1];
                pairs.extend(sentence.attributes[start..].iter().map(|&id| (id, tag)));
                sentence.starts.push(sentence.attributes.len());
            }
            transitions.extend(tags.windows(2).map(|pair| (pair[0], pair[1])));
            sentences.push(sentence);
        }
        if settings.all_transitions {
            transitions = (0..n_tags * n_tags).map(|pair| (pair / n_tags, pair % n_tags)).collect();
        }
        transitions.sort_unstable();
        transitions.dedup();
        pairs.sort_unstable();
        pairs.dedup();
        let starts = (0..=names.len()).map(|id| pairs.partition_point(|&(known, _)| (known as usize) < id));
        let starts = starts.collect();
        let tags = pairs.into_iter().map(|(_, tag)| tag).collect();
        (names, Problem { n_tags, sentences, starts, tags, transitions, c2: settings.c2 })
    }

    fn n_weights(&self) -> usize {
        self.tags.len() + self.transitions.len()
    }

    fn steps(&self, weights: &[f64]) -> Steps {
        let mut scores = vec![0.0; self.n_tags * self.n_tags];
        for (&(from, to), &weight) in self.transitions.iter().zip(&weights[self.tags.len()..]) {
            scores[from * self.n_tags + to] = weight;
        }
        Steps::new(self.n_tags, scores)
    }

    /// `-Σ log p(y | x) + c2 Σw²`; writes its gradient.
    fn objective(&self, weights: &[f64], gradient: &mut [f64], parts: &mut [Part]) -> f64 {
        let steps = self.steps(weights);
        let each = self.sentences.len().div_ceil(PARTS);
        parallel_chunks_mut(parts, 1, |number, part| {
            let part = &mut part[0];
            part.loss = 0.0;
            part.gradient.fill(0.0);
            part.expected_steps.fill(0.0);
            for sentence in self.sentences.iter().skip(number * each).take(each) {
                self.add_sentence(sentence, weights, &steps, part);
            }
            let of_transitions = &mut part.gradient[self.tags.len()..];
            for (gradient, &(from, to)) in of_transitions.iter_mut().zip(&self.transitions) {
                *gradient += part.expected_steps[from * self.n_tags + to];
            }
        });
        let mut value = 0.0;
        for (gradient, &weight) in gradient.iter_mut().zip(weights) {
            *gradient = 2.0 * self.c2 * weight;
            value += self.c2 * weight * weight;
        }
        for part in parts {
            gradient.iter_mut().zip(&part.gradient).for_each(|(sum, part)| *sum += part);
            value += part.loss;
        }
        value
    }

    fn add_sentence(&self, sentence: &Sentence, weights: &[f64], steps: &Steps, part: &mut Part) {
        let n_tags = self.n_tags;
        let tokens = || sentence.starts.windows(2).map(|ends| &sentence.attributes[ends[0]..ends[1]]);
        let of_attribute = |id: u32| self.starts[id as usize]..self.starts[id as usize + 1];
        part.scores.clear();
        part.scores.resize(sentence.tags.len() * n_tags, 0.0);
        for (ids, row) in tokens().zip(part.scores.chunks_exact_mut(n_tags)) {
            for place in ids.iter().flat_map(|&id| of_attribute(id)) {
                row[self.tags[place]] += weights[place];
            }
        }
        part.loss += part.sums.run(steps, &part.scores, &mut part.expected_steps);
        for pair in sentence.tags.windows(2) {
            part.loss -= steps.score(pair[0], pair[1]);
            part.expected_steps[pair[0] * n_tags + pair[1]] -= 1.0;
        }
        let rows = part.sums.marginals().chunks_exact(n_tags);
        for (((ids, marginals), scores), &tag) in
            tokens().zip(rows).zip(part.scores.chunks_exact(n_tags)).zip(&sentence.tags)
        {
            part.loss -= scores[tag];
            for place in ids.iter().flat_map(|&id| of_attribute(id)) {
                let expected = marginals[self.tags[place]];
                part.gradient[place] += if self.tags[place] == tag { expected - 1.0 } else { expected };
            }
        }
    }

    /// The model without the weights that are 0.
    fn model(&self, names: &Vocabulary, weights: &[f64]) -> LinearChainCrf {
        let mut kept = Vec::new();
        let mut starts = vec![0];
        let mut of_tags = Vec::new();
        for (id, name) in names.names().iter().enumerate() {
            let range = self.starts[id]..self.starts[id + 1];
            let all = self.tags[range.clone()].iter().zip(&weights[range]);
            of_tags.extend(all.map(|(&tag, &weight)| (tag, weight as f32)).filter(|&(_, w)| w != 0.0));
            if of_tags.len() > starts[starts.len() - 1] {
                kept.push(name.clone());
                starts.push(of_tags.len());
            }
        }
        let mut transitions = vec![0.0; self.n_tags * self.n_tags];
        for (&(from, to), &weight) in self.transitions.iter().zip(&weights[self.tags.len()..]) {
            transitions[from * self.n_tags + to] = weight as f32;
        }
        let attributes = Vocabulary::new(kept);
        LinearChainCrf { n_tags: self.n_tags, attributes, starts, weights: of_tags, transitions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let names = |text: &str| -> Vec<Vec<String>> {
            text.split('|').map(|token| token.split(' ').map(str::to_owned).collect()).collect()
        };
        let attributes = ["a b|a|c b a", "c", "b|b c|a a|c"].map(names);
        let tags = [vec![0, 1, 2], vec![1], vec![2, 0, 0, 1]];
        for all_transitions in [false, true] {
            let settings = CrfSettings { c2: 0.3, all_transitions, ..CrfSettings::default() };
            let (_, problem) = Problem::new(&attributes, &tags, 3, &settings);
            let mut parts: Vec<Part> = (0..PARTS).map(|_| Part::new(&problem)).collect();
            let n = problem.n_weights();
            let mut weights: Vec<f64> = (0..n).map(|i| (i as f64 * 1.7).sin()).collect();
            let (mut gradient, mut other) = (vec![0.0; n], vec![0.0; n]);
            problem.objective(&weights, &mut gradient, &mut parts);
            for place in 0..n {
                let (weight, step) = (weights[place], 1e-5);
                weights[place] = weight + step;
                let above = problem.objective(&weights, &mut other, &mut parts);
                weights[place] = weight - step;
                let below = problem.objective(&weights, &mut other, &mut parts);
                weights[place] = weight;
                let expected = (above - below) / (2.0 * step);
                assert!(
                    (gradient[place] - expected).abs() < 1e-7,
                    "{place}: {expected}, {}",
                    gradient[place]
                );
            }
        }
    }
}
