//! Exact match and F1 of extracted answers, as SQuAD's scripts (v1.1 and v2.0) and CMRC 2018's compute them
//! (Rajpurkar et al. 2016, section 6.1, and 2018; Cui et al. 2019, section 4).
//!
//! Each function scores one prediction against all gold answers to its question and keeps the best; the
//! score of a run is the mean over its questions.

use super::words::{is_space, words};
use std::collections::HashMap;

/// The scores of one answer, each the best over the gold answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AnswerScore {
    /// 1 where a gold answer is the same after normalisation, else 0.
    pub exact: f64,
    /// The F1 of the tokens shared with a gold answer, 0–1.
    pub f1: f64,
}

impl AnswerScore {
    /// The better of both, exact match and F1 apart.
    fn or(self, other: Self) -> Self {
        AnswerScore { exact: self.exact.max(other.exact), f1: self.f1.max(other.f1) }
    }
}

/// SQuAD v1.1: each question has an answer. 0 where `gold` has none.
pub fn squad_v1(prediction: &str, gold: &[&str]) -> AnswerScore {
    let prediction = normalise(prediction);
    let score = |gold: &&str| {
        let gold = normalise(gold);
        AnswerScore { exact: flag(gold == prediction), f1: word_f1(&gold, &prediction) }
    };
    gold.iter().map(score).fold(AnswerScore::default(), AnswerScore::or)
}

/// SQuAD v2.0: an empty prediction says that there is no answer, and so does `gold` without any (or with
/// none that holds more than articles and punctuation): right where both agree.
pub fn squad_v2(prediction: &str, gold: &[&str]) -> AnswerScore {
    let prediction = normalise(prediction);
    let mut gold: Vec<String> =
        gold.iter().map(|gold| normalise(gold)).filter(|gold| !gold.is_empty()).collect();
    if gold.is_empty() {
        gold.push(String::new());
    }
    let score = |gold: &String| {
        let exact = flag(*gold == prediction);
        let empty = gold.is_empty() || prediction.is_empty();
        let f1 = if empty { exact } else { word_f1(gold, &prediction) };
        AnswerScore { exact, f1 }
    };
    gold.iter().map(score).fold(AnswerScore::default(), AnswerScore::or)
}

/// CMRC 2018, for Chinese: punctuation doesn't count; the tokens are Chinese characters and, between them,
/// the words of other scripts; what is shared is the longest run of tokens that both have. 0 where `gold`
/// has no answer.
///
/// Words are cut as NLTK's `word_tokenize` cuts them, with the stretch between two Chinese characters as one
/// sentence (the script asks a trained model; none of the 10,659 gold answers of its trial and development
/// parts comes out differently).
pub fn cmrc(prediction: &str, gold: &[&str]) -> AnswerScore {
    let (plain, segments) = (without_punctuation(prediction), mixed_segments(prediction));
    let score = |gold: &&str| {
        let exact = flag(without_punctuation(gold) == plain);
        let gold = mixed_segments(gold);
        let shared = longest_common_run(&gold, &segments);
        AnswerScore { exact, f1: f1_of(shared, gold.len(), segments.len()) }
    };
    gold.iter().map(score).fold(AnswerScore::default(), AnswerScore::or)
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// An answer as SQuAD compares it: in lower case, without ASCII punctuation, without the words a, an and
/// the, its words a space apart.
pub fn normalise(answer: &str) -> String {
    let plain: String = answer.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut text = String::with_capacity(plain.len());
    // An article is a whole stretch of letters and digits, even beside other signs: "“the”" has one.
    let mut rest = plain.as_str();
    while let Some(first) = rest.chars().next() {
        let word = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != word).unwrap_or(rest.len());
        let (stretch, after) = rest.split_at(end);
        text.push_str(if matches!(stretch, "a" | "an" | "the") { " " } else { stretch });
        rest = after;
    }
    text.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The F1 of the words that two normalised answers share, repetitions included.
fn word_f1(gold: &str, prediction: &str) -> f64 {
    let gold: Vec<&str> = gold.split_terminator(' ').collect();
    let prediction: Vec<&str> = prediction.split_terminator(' ').collect();
    let mut left: HashMap<&str, usize> = HashMap::new();
    for &word in &gold {
        *left.entry(word).or_default() += 1;
    }
    let mut shared = 0;
    for word in &prediction {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    f1_of(shared, gold.len(), prediction.len())
}

/// The F1 of `shared` tokens of `gold` and `predicted` ones, 0 where none are shared.
fn f1_of(shared: usize, gold: usize, predicted: usize) -> f64 {
    if shared == 0 { 0.0 } else { 2.0 * shared as f64 / (gold + predicted) as f64 }
}

/// The signs that CMRC's script leaves out. (It lists `……` too, which is no single character and so stays.)
const PUNCTUATION: &str = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』";

/// An answer as CMRC compares it: in lower case, trimmed, then without punctuation.
fn without_punctuation(answer: &str) -> String {
    answer.to_lowercase().trim_matches(is_space).chars().filter(|c| !PUNCTUATION.contains(*c)).collect()
}

/// The tokens of an answer for CMRC's F1.
fn mixed_segments(answer: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut other = String::new();
    for c in without_punctuation(answer).chars() {
        if matches!(c, '\u{4e00}'..='\u{9fa5}') {
            segments.extend(words(&std::mem::take(&mut other)));
            segments.push(c.to_string());
        } else {
            other.push(c);
        }
    }
    segments.extend(words(&other));
    segments
}

/// The length of the longest run of tokens that is in both.
fn longest_common_run(a: &[String], b: &[String]) -> usize {
    // runs[j]: the length of the common run that ends at the last token of `a` seen and at b[j - 1].
    let mut runs = vec![0; b.len() + 1];
    let mut longest = 0;
    for left in a {
        for (j, right) in b.iter().enumerate().rev() {
            runs[j + 1] = if left == right { runs[j] + 1 } else { 0 };
            longest = longest.max(runs[j + 1]);
        }
    }
    longest
}
