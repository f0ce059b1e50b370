//! Sums and maxima over all taggings of a sentence.
//!
//! `T` tokens, `K` tags. A tagging's score is the sum of its tokens' scores and of the scores of the steps between
//! them. Forward and backward sums are scaled at each token (Rabiner 1989), so nothing is too small or too large.

/// Scores of steps from tag to tag.
pub(crate) struct Steps {
    n_tags: usize,
    /// `[K, K]`: from, to.
    scores: Vec<f64>,
    /// `exp(scores - largest)`.
    exponentials: Vec<f64>,
    largest: f64,
}

impl Steps {
    /// From scores `[K, K]`.
    pub(crate) fn new(n_tags: usize, scores: Vec<f64>) -> Self {
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exponentials = scores.iter().map(|score| (score - largest).exp()).collect();
        Steps { n_tags, scores, exponentials, largest }
    }

    pub(crate) fn score(&self, from: usize, to: usize) -> f64 {
        self.scores[from * self.n_tags + to]
    }

    /// The best tags for token scores `[T, K]`; of equals, the smallest.
    pub(crate) fn viterbi(&self, tokens: &[f64]) -> Vec<usize> {
        let n_tags = self.n_tags;
        let Some(first) = tokens.get(..n_tags) else { return Vec::new() };
        let mut scores = first.to_vec();
        let mut back: Vec<usize> = Vec::with_capacity(tokens.len());
        for row in tokens[n_tags..].chunks_exact(n_tags) {
            let reach = |to: usize| {
                let mut best = (f64::NEG_INFINITY, 0);
                for (from, &score) in scores.iter().enumerate() {
                    let score = score + self.score(from, to);
                    if score > best.0 {
                        best = (score, from);
                    }
                }
                back.push(best.1);
                best.0 + row[to]
            };
            scores = (0..n_tags).map(reach).collect();
        }
        let mut tags = vec![crate::classical::first_largest(&scores)];
        for row in back.chunks_exact(n_tags).rev() {
            tags.push(row[tags[tags.len() - 1]]);
        }
        tags.reverse();
        tags
    }
}

/// Probabilities of the tags of one sentence; its buffers serve one sentence after another.
#[derive(Default)]
pub(crate) struct Sums {
    /// `[T, K]`: scaled forward sums, then marginals.
    marginals: Vec<f64>,
    backward: Vec<f64>,
    /// `[T, K]`: exponentials of the tokens' scores.
    tokens: Vec<f64>,
    scales: Vec<f64>,
}

impl Sums {
    /// Works out the marginals of token scores `[T, K]`, `T > 0`, and adds the expected number of each step to
    /// `expected_steps` `[K, K]`. Returns `log Z`, the logarithm of the sum of all taggings' exponentials.
    pub(crate) fn run(&mut self, steps: &Steps, tokens: &[f64], expected_steps: &mut [f64]) -> f64 {
        let n_tags = steps.n_tags;
        let length = tokens.len() / n_tags;
        let mut log_z = steps.largest * (length - 1) as f64;
        self.tokens.clear();
        self.scales.clear();
        for row in tokens.chunks_exact(n_tags) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            self.tokens.extend(row.iter().map(|score| (score - largest).exp()));
            log_z += largest;
        }
        self.marginals.clear();
        self.marginals.resize(tokens.len(), 0.0);
        for token in 0..length {
            let (before, rest) = self.marginals.split_at_mut(token * n_tags);
            let row = &mut rest[..n_tags];
            if token == 0 {
                row.fill(1.0);
            } else {
                let before = &before[(token - 1) * n_tags..];
                for (from, exponentials) in before.iter().zip(steps.exponentials.chunks_exact(n_tags)) {
                    row.iter_mut().zip(exponentials).for_each(|(sum, step)| *sum += from * step);
                }
            }
            row.iter_mut().zip(&self.tokens[token * n_tags..]).for_each(|(sum, own)| *sum *= own);
            let scale: f64 = row.iter().sum();
            row.iter_mut().for_each(|sum| *sum /= scale);
            self.scales.push(scale);
            log_z += scale.ln();
        }
        self.backward.clear();
        self.backward.resize(n_tags, 1.0);
        let mut reached = vec![0.0; n_tags];
        for token in (1..length).rev() {
            // What a step to each tag of this token is worth.
            let own = self.tokens[token * n_tags..].iter();
            for ((reached, own), backward) in reached.iter_mut().zip(own).zip(&self.backward) {
                *reached = own * backward / self.scales[token];
            }
            let (before, here) = self.marginals.split_at_mut(token * n_tags);
            here[..n_tags].iter_mut().zip(&self.backward).for_each(|(forward, back)| *forward *= back);
            let before = &before[(token - 1) * n_tags..];
            for (from, &forward) in before.iter().enumerate() {
                let exponentials = &steps.exponentials[from * n_tags..][..n_tags];
                let expected = &mut expected_steps[from * n_tags..][..n_tags];
                let mut sum = 0.0;
                for ((step, reached), expected) in exponentials.iter().zip(&reached).zip(expected) {
                    let worth = step * reached;
                    *expected += forward * worth;
                    sum += worth;
                }
                self.backward[from] = sum;
            }
        }
        self.marginals[..n_tags].iter_mut().zip(&self.backward).for_each(|(forward, back)| *forward *= back);
        log_z
    }

    /// `[T, K]`: the probability of each tag for each token.
    pub(crate) fn marginals(&self) -> &[f64] {
        &self.marginals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All taggings of `length` tokens with their scores.
    fn all(steps: &Steps, tokens: &[f64]) -> Vec<(Vec<usize>, f64)> {
        let (n_tags, length) = (steps.n_tags, tokens.len() / steps.n_tags);
        let tagging = |code: usize| -> Vec<usize> {
            (0..length as u32).map(|i| code / n_tags.pow(i) % n_tags).collect()
        };
        let scored = |code| {
            let tags = tagging(code);
            let own: f64 = tags.iter().enumerate().map(|(i, tag)| tokens[i * n_tags + tag]).sum();
            let between: f64 = tags.windows(2).map(|pair| steps.score(pair[0], pair[1])).sum();
            (tags, own + between)
        };
        (0..n_tags.pow(length as u32)).map(scored).collect()
    }

    #[test]
    fn sums_and_maxima_are_those_over_all_taggings() {
        // Large scores would overflow without scaling.
        for (length, size) in [(1, 2.0), (4, 2.0), (5, 900.0)] {
            let score = |i: usize| size * ((i * 7919 % 97) as f64 / 97.0 - 0.5);
            let steps = Steps::new(3, (0..9).map(score).collect());
            let tokens: Vec<f64> = (20..20 + 3 * length).map(score).collect();
            let all = all(&steps, &tokens);
            let top = all.iter().fold(f64::NEG_INFINITY, |top, (_, score)| top.max(*score));
            let sum: f64 = all.iter().map(|(_, score)| (score - top).exp()).sum();
            let mut expected_steps = vec![0.0; 9];
            let mut sums = Sums::default();
            let log_z = sums.run(&steps, &tokens, &mut expected_steps);
            assert!((log_z - top - sum.ln()).abs() < 1e-9, "log Z: got {log_z}");
            let (mut marginals, mut counts) = (vec![0.0; 3 * length], vec![0.0; 9]);
            for (tags, score) in &all {
                let probability = (score - top).exp() / sum;
                tags.iter().enumerate().for_each(|(i, tag)| marginals[i * 3 + tag] += probability);
                tags.windows(2).for_each(|pair| counts[pair[0] * 3 + pair[1]] += probability);
            }
            let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(close(sums.marginals(), &marginals), "marginals: {:?}, {marginals:?}", sums.marginals());
            assert!(close(&expected_steps, &counts), "steps: {expected_steps:?}, {counts:?}");
            let best = all.iter().find(|(_, score)| *score == top).map(|(tags, _)| tags.clone());
            assert_eq!(Some(steps.viterbi(&tokens)), best);
        }
    }
}
