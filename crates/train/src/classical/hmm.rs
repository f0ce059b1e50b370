//! A hidden Markov tagger: Brants, "TnT, a Statistical Part-of-Speech Tagger" (2000).
//!
//! Tags follow each other as a second-order Markov chain and each emits its token:
//! `argmax Π_i p(t_i | t_{i-2}, t_{i-1}) p(w_i | t_i)`, times `p(end | t_{T-1}, t_T)`. Transition probabilities are
//! trigram, bigram and unigram frequencies, mixed by deleted interpolation (section 2.2). A token of the training
//! text has the tags that it had there. Another has the tags of rare tokens with the same last letters, by successive
//! abstraction from short suffixes to long ones, in one table for tokens with a capital first letter and one for others
//! (section 2.3). Where TnT keeps a beam, the search here is exact.

use super::{ClassicalError, check_length, check_tags, checked_serde};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tokens that are at most so frequent teach what unknown ones look like.
const RARE: u64 = 10;
/// Letters of the longest suffix.
const LONGEST_SUFFIX: usize = 10;
/// What no training text has still has this probability, so that every sentence has a tagging.
const LEAST: f64 = 1e-12;

/// A tagger of tokens in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct HmmTagger {
    n_tags: usize,
    /// `[n_tags + 1, n_tags + 1, n_tags + 1]`: `log p(t | before the last, last)`. The last index of each is the edge
    /// of a sentence.
    transitions: Vec<f32>,
    /// How often each known token had each of its tags.
    tokens: BTreeMap<String, Vec<(usize, u64)>>,
    /// How often each tag occurs.
    tag_counts: Vec<u64>,
    /// For tokens with a small and with a capital first letter: how often a suffix of rare ones had each tag.
    suffixes: [BTreeMap<String, Vec<(usize, u64)>>; 2],
    /// The weight of a shorter suffix beside a longer: the standard deviation of the tags' frequencies.
    theta: f32,
}

checked_serde!(HmmTagger);

impl HmmTagger {
    /// Learns from `sentences` of tokens with `tags`, each below `n_tags`.
    ///
    /// # Errors
    /// If there is no token, tags and tokens differ in number, or a tag isn't below `n_tags`.
    pub fn fit(
        sentences: &[Vec<String>],
        tags: &[Vec<usize>],
        n_tags: usize,
    ) -> Result<Self, ClassicalError> {
        check_tags(sentences, tags, n_tags)?;
        let mut tokens: BTreeMap<String, Vec<(usize, u64)>> = BTreeMap::new();
        let mut tag_counts = vec![0; n_tags];
        for (token, &tag) in sentences.iter().flatten().zip(tags.iter().flatten()) {
            tag_counts[tag] += 1;
            match tokens.get_mut(token) {
                Some(counts) => add(counts, tag, 1),
                None => {
                    tokens.insert(token.clone(), vec![(tag, 1)]);
                }
            }
        }
        let mut suffixes: [BTreeMap<String, Vec<(usize, u64)>>; 2] = Default::default();
        for (token, counts) in &tokens {
            if counts.iter().map(|&(_, count)| count).sum::<u64>() > RARE {
                continue;
            }
            let table = &mut suffixes[usize::from(is_capital(token))];
            for suffix in suffixes_of(token) {
                let known = table.entry(suffix.to_owned()).or_default();
                counts.iter().for_each(|&(tag, count)| add(known, tag, count));
            }
        }
        let total = tag_counts.iter().sum::<u64>() as f64;
        let mean = 1.0 / n_tags as f64;
        let deviation = |&count: &u64| (count as f64 / total - mean).powi(2);
        let variance = tag_counts.iter().map(deviation).sum::<f64>() / (n_tags.max(2) - 1) as f64;
        let transitions = transitions(tags, n_tags);
        Ok(HmmTagger { n_tags, transitions, tokens, tag_counts, suffixes, theta: variance.sqrt() as f32 })
    }

    /// Tags.
    pub fn n_tags(&self) -> usize {
        self.n_tags
    }

    /// The likeliest tags of a sentence; of equals, the smallest.
    pub fn tag(&self, sentence: &[String]) -> Vec<usize> {
        if sentence.is_empty() {
            return Vec::new();
        }
        let edge = self.n_tags;
        let edges = vec![(edge, 0.0)];
        let candidates: Vec<Vec<(usize, f64)>> = sentence.iter().map(|token| self.emissions(token)).collect();
        // Scores of the pairs (tag before, tag) that end at a token, by their places among the candidates.
        let mut scores = vec![0.0];
        // For each token and pair, the place of the best tag two before.
        let mut back: Vec<Vec<usize>> = Vec::with_capacity(sentence.len());
        let (mut earlier, mut last) = (&edges, &edges);
        for current in &candidates {
            let mut next = Vec::with_capacity(last.len() * current.len());
            let mut from = Vec::with_capacity(next.capacity());
            for (place, &(tag, _)) in last.iter().enumerate() {
                for &(next_tag, emission) in current {
                    let path = |(before, &(first, _)): (usize, &(usize, f64))| {
                        (scores[before * last.len() + place] + self.transition(first, tag, next_tag), before)
                    };
                    let (score, before) = best(earlier.iter().enumerate().map(path));
                    next.push(score + emission);
                    from.push(before);
                }
            }
            scores = next;
            back.push(from);
            (earlier, last) = (last, current);
        }
        let width = last.len();
        let ending = |place: usize| {
            let (first, second) = (earlier[place / width].0, last[place % width].0);
            (scores[place] + self.transition(first, second, edge), place)
        };
        let (_, mut pair) = best((0..scores.len()).map(ending));
        let mut tags = vec![0; sentence.len()];
        for token in (0..sentence.len()).rev() {
            let width = candidates[token].len();
            tags[token] = candidates[token][pair % width].0;
            let width_before = if token == 0 { 1 } else { candidates[token - 1].len() };
            pair = back[token][pair] * width_before + pair / width;
        }
        tags
    }

    fn transition(&self, first: usize, second: usize, third: usize) -> f64 {
        let side = self.n_tags + 1;
        f64::from(self.transitions[(first * side + second) * side + third])
    }

    /// The tags that `token` may have, ascending, with `log p(token | tag)` up to a constant.
    fn emissions(&self, token: &str) -> Vec<(usize, f64)> {
        if let Some(counts) = self.tokens.get(token) {
            let share =
                |&(tag, count): &(usize, u64)| (tag, (count as f64 / self.tag_counts[tag] as f64).ln());
            return counts.iter().map(share).collect();
        }
        let total = self.tag_counts.iter().sum::<u64>() as f64;
        let mut shares: Vec<f64> = self.tag_counts.iter().map(|&count| count as f64 / total).collect();
        let priors = shares.clone();
        let theta = f64::from(self.theta);
        let table = &self.suffixes[usize::from(is_capital(token))];
        for suffix in suffixes_of(token) {
            let Some(counts) = table.get(suffix) else { break };
            let sum = counts.iter().map(|&(_, count)| count).sum::<u64>() as f64;
            let mut seen = vec![0.0; self.n_tags];
            counts.iter().for_each(|&(tag, count)| seen[tag] = count as f64 / sum);
            for (share, seen) in shares.iter_mut().zip(seen) {
                *share = (seen + theta * *share) / (1.0 + theta);
            }
        }
        // Bayes: p(suffix | tag) is in proportion to p(tag | suffix) / p(tag).
        let emission = |tag: usize| (tag, (shares[tag] / priors[tag]).max(LEAST).ln());
        (0..self.n_tags).filter(|&tag| self.tag_counts[tag] > 0).map(emission).collect()
    }

    fn check(&self) -> Result<(), ClassicalError> {
        check_length("tags", self.n_tags, self.tag_counts.len())?;
        check_length("transitions", (self.n_tags + 1).pow(3), self.transitions.len())?;
        let lists = self.tokens.values().chain(self.suffixes.iter().flat_map(BTreeMap::values));
        let known = |&(tag, _): &(usize, u64)| self.tag_counts.get(tag).is_some_and(|&count| count > 0);
        if self.tag_counts.iter().any(|&count| count > 0)
            && lists.clone().all(|list| !list.is_empty() && list.iter().all(known))
        {
            return Ok(());
        }
        let problem = "a token without tags, or with a tag that doesn't occur".into();
        Err(ClassicalError::Damaged { model: "hidden Markov tagger", problem })
    }
}

/// Adds to the count of a tag in a list that ascends by tag.
fn add(counts: &mut Vec<(usize, u64)>, tag: usize, count: u64) {
    match counts.binary_search_by_key(&tag, |&(known, _)| known) {
        Ok(place) => counts[place].1 += count,
        Err(place) => counts.insert(place, (tag, count)),
    }
}

/// The first of the greatest, with what goes with it.
fn best(scored: impl Iterator<Item = (f64, usize)>) -> (f64, usize) {
    scored.fold((f64::NEG_INFINITY, 0), |best, next| if next.0 > best.0 { next } else { best })
}

fn is_capital(token: &str) -> bool {
    token.chars().next().is_some_and(char::is_uppercase)
}

/// The suffixes of a token, from its last letter to the longest.
fn suffixes_of(token: &str) -> impl Iterator<Item = &str> {
    token.char_indices().rev().take(LONGEST_SUFFIX).map(|(start, _)| &token[start..])
}

/// `log p(t3 | t1, t2)` by deleted interpolation, `[n_tags + 1]³`.
fn transitions(tags: &[Vec<usize>], n_tags: usize) -> Vec<f32> {
    let side = n_tags + 1;
    let mut unigrams = vec![0.0; side];
    let mut bigrams = vec![0.0; side * side];
    let mut trigrams = vec![0.0; side * side * side];
    // Sums over what follows, which are the denominators.
    let (mut after_one, mut after_two) = (vec![0.0; side], vec![0.0; side * side]);
    for sentence in tags.iter().filter(|sentence| !sentence.is_empty()) {
        let (mut first, mut second) = (n_tags, n_tags);
        for &third in sentence.iter().chain([&n_tags]) {
            unigrams[third] += 1.0;
            bigrams[second * side + third] += 1.0;
            trigrams[(first * side + second) * side + third] += 1.0;
            after_one[second] += 1.0;
            after_two[first * side + second] += 1.0;
            (first, second) = (second, third);
        }
    }
    let total: f64 = unigrams.iter().sum();
    let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    // Each trigram votes, as often as it occurs, for the order that predicts it best when it is itself left out.
    let mut votes = [0.0; 3];
    for (place, &count) in trigrams.iter().enumerate().filter(|&(_, &count)| count > 0.0) {
        let (first, second, third) = (place / side / side, place / side % side, place % side);
        let without = [
            ratio(unigrams[third] - 1.0, total - 1.0),
            ratio(bigrams[second * side + third] - 1.0, after_one[second] - 1.0),
            ratio(count - 1.0, after_two[first * side + second] - 1.0),
        ];
        let (_, order) = best(without.into_iter().zip([0, 1, 2]));
        votes[order] += count;
    }
    let sum: f64 = votes.iter().sum();
    let mixed = |place: usize| {
        let (first, second, third) = (place / side / side, place / side % side, place % side);
        let orders = [
            ratio(unigrams[third], total),
            ratio(bigrams[second * side + third], after_one[second]),
            ratio(trigrams[place], after_two[first * side + second]),
        ];
        let probability: f64 = votes.iter().zip(orders).map(|(vote, order)| vote / sum * order).sum();
        probability.max(LEAST).ln() as f32
    };
    (0..trigrams.len()).map(mixed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    /// Determiner 0, noun 1, verb 2.
    fn tagger() -> HmmTagger {
        let sentences: Vec<Vec<String>> =
            ["the dog walks", "a cat talks", "the walks end", "the talks end", "a walker stalks the dog"]
                .map(words)
                .to_vec();
        let tags = [vec![0, 1, 2], vec![0, 1, 2], vec![0, 1, 2], vec![0, 1, 2], vec![0, 1, 2, 0, 1]];
        HmmTagger::fit(&sentences, &tags, 4).expect("good data")
    }

    /// The score of one tagging, straight from the definition.
    fn score(tagger: &HmmTagger, sentence: &[String], tags: &[usize]) -> f64 {
        let edge = tagger.n_tags;
        let (mut first, mut second, mut sum) = (edge, edge, 0.0);
        for (token, &tag) in sentence.iter().zip(tags) {
            let emission = tagger.emissions(token).into_iter().find(|&(known, _)| known == tag);
            sum += tagger.transition(first, second, tag) + emission.map_or(f64::NEG_INFINITY, |(_, e)| e);
            (first, second) = (second, tag);
        }
        sum + tagger.transition(first, second, edge)
    }

    #[test]
    fn the_search_finds_the_best_of_all_taggings() {
        let tagger = tagger();
        for text in ["the walks", "walks talks", "a blorps walks a the dog", "new", "cat dog talks The end"] {
            let sentence = words(text);
            let all = (0..4usize.pow(sentence.len() as u32))
                .map(|code| (0..sentence.len() as u32).map(|i| code / 4usize.pow(i) % 4).collect::<Vec<_>>());
            let scores = all.map(|tags| score(&tagger, &sentence, &tags));
            let expected = scores.fold(f64::NEG_INFINITY, f64::max);
            let got = score(&tagger, &sentence, &tagger.tag(&sentence));
            assert!((got - expected).abs() < 1e-9, "{text}: expected {expected}, got {got}");
        }
        assert!(tagger.tag(&[]).is_empty());
    }

    #[test]
    fn context_and_suffixes_decide() {
        let tagger = tagger();
        assert_eq!(tagger.tag(&words("the dog talks")), [0, 1, 2]);
        assert_eq!(tagger.tag(&words("a talks end")), [0, 1, 2]);
        assert_eq!(tagger.tag(&words("the zebra balks")), [0, 1, 2]);
    }

    #[test]
    fn transitions_are_probabilities() {
        let tags = [vec![0, 1, 0], vec![1, 1], vec![], vec![0, 0, 1, 1]];
        let table = transitions(&tags, 2);
        // After the contexts that occur; (0, 0) is followed by 1 alone, but mixed with lower orders.
        for (first, second) in [(2, 2), (2, 0), (0, 1), (0, 0), (1, 1), (2, 1)] {
            let row = &table[(first * 3 + second) * 3..][..3];
            let sum: f64 = row.iter().map(|log| f64::from(*log).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-6, "({first}, {second}): {sum}");
        }
    }

    #[test]
    fn a_saved_tagger_is_the_same_and_a_damaged_one_is_refused() {
        let tagger = tagger();
        let text = serde_json::to_string(&tagger).expect("plain data");
        let loaded: HmmTagger = serde_json::from_str(&text).expect("what was written");
        let sentence = words("the blorps talks end");
        assert_eq!(loaded.tag(&sentence), tagger.tag(&sentence));
        for damaged in [text.replace(r#""n_tags":4"#, r#""n_tags":3"#), text.replace("[[1,", "[[3,")] {
            assert_ne!(damaged, text);
            assert!(serde_json::from_str::<HmmTagger>(&damaged).is_err());
        }
    }
}
