//! What came before neural models: classifiers on n-grams, and taggers of words in a row.
//!
//! They learn in seconds, and a neural model that doesn't beat them isn't worth serving. Texts become
//! [`sparse`] rows by [`ngrams`]; [`naive_bayes`] and [`svm`] classify rows. [`hmm`] and [`crf`] tag sentences.
//!
//! All are deterministic, with any number of threads, and `serde` saves and loads them: what is loaded has been
//! checked, so a damaged file is an error and never a panic. Weights are kept in `f32`, which decimal text gives back
//! to the bit.
//!
//! The well-kept crates for the linear ones can't do this. In linfa-bayes and linfa-svm 0.8 and in smartcore
//! 0.7, `fit` takes dense matrices only: 25,000 texts by 50,000 n-grams are 10 GB of `f64`, against 40 MB as
//! sparse rows of 200 n-grams. Their support vector machines work on kernels between all pairs of texts, by
//! sequential minimal optimisation; smartcore's naive Bayes takes whole counts only. `liblinear` 1.0 does take
//! sparse rows, but it binds C++, needs a compiler for that, and has had no release since 2019.

pub mod crf;
pub mod hmm;
mod lbfgs;
pub mod naive_bayes;
pub mod ngrams;
pub mod sparse;
pub mod svm;
mod vocabulary;

pub use hearth_tokenizer::is_spaceless;
pub use vocabulary::Vocabulary;

/// What can be wrong with what a classical model is given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClassicalError {
    /// Two slices that go together have different lengths.
    #[error("{what}: expected {expected}, got {got}")]
    Length {
        /// What was counted.
        what: String,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// A label or tag outside the set.
    #[error("{place}: label {label} of {n_labels}\nhint: labels count from 0")]
    Label {
        /// The text or sentence, counted from 0.
        place: String,
        /// The label.
        label: usize,
        /// How many labels there are.
        n_labels: usize,
    },
    /// Nothing to learn from.
    #[error("{what}")]
    Empty {
        /// What is missing, and what to do.
        what: &'static str,
    },
    /// A setting that can't be.
    #[error("{setting} = {value}: expected {expected}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// What would do.
        expected: &'static str,
    },
    /// A value that the model can't take.
    #[error("row {row}: value {value}: expected {expected}")]
    Value {
        /// The row, counted from 0.
        row: usize,
        /// The value.
        value: f32,
        /// What would do.
        expected: &'static str,
    },
    /// A saved model whose parts don't fit together.
    #[error("saved {model}: {problem}\nhint: the file is damaged, or not one of Hearth's")]
    Damaged {
        /// Which model.
        model: &'static str,
        /// What doesn't fit.
        problem: String,
    },
    /// Training went wrong numerically.
    #[error(
        "the objective is not a finite number at iteration {iteration}\nhint: a larger c2 keeps weights small"
    )]
    NotFinite {
        /// The iteration.
        iteration: usize,
    },
}

/// Checks that `what` has `expected` elements.
fn check_length(what: &str, expected: usize, got: usize) -> Result<(), ClassicalError> {
    if expected == got { Ok(()) } else { Err(ClassicalError::Length { what: what.into(), expected, got }) }
}

/// Checks a setting that must be a positive number.
fn check_positive(setting: &'static str, value: f64) -> Result<(), ClassicalError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(ClassicalError::Setting { setting, value, expected: "a number above 0" })
}

/// Checks that there are `rows` labels, all below `n_labels`.
fn check_labels(rows: usize, labels: &[usize], n_labels: usize) -> Result<(), ClassicalError> {
    check_length("labels, one a text", rows, labels.len())?;
    if rows == 0 {
        return Err(ClassicalError::Empty { what: "no text to learn from" });
    }
    match labels.iter().position(|&label| label >= n_labels) {
        None => Ok(()),
        Some(row) => {
            Err(ClassicalError::Label { place: format!("text {row}"), label: labels[row], n_labels })
        }
    }
}

/// Checks that each sentence has as many tags as tokens, all below `n_tags`.
fn check_tags<T>(sentences: &[Vec<T>], tags: &[Vec<usize>], n_tags: usize) -> Result<(), ClassicalError> {
    check_length("lists of tags, one a sentence", sentences.len(), tags.len())?;
    for (number, (sentence, tags)) in sentences.iter().zip(tags).enumerate() {
        if sentence.len() != tags.len() {
            check_length(&format!("sentence {number}: tags"), sentence.len(), tags.len())?;
        }
        if let Some(&label) = tags.iter().find(|&&tag| tag >= n_tags) {
            let place = format!("sentence {number}");
            return Err(ClassicalError::Label { place, label, n_labels: n_tags });
        }
    }
    if sentences.iter().all(Vec::is_empty) {
        return Err(ClassicalError::Empty { what: "no token to learn from" });
    }
    Ok(())
}

/// The index of the largest number; of equals, the first.
fn first_largest(numbers: &[f64]) -> usize {
    let mut best = 0;
    for (index, &number) in numbers.iter().enumerate() {
        if number > numbers[best] {
            best = index;
        }
    }
    best
}

/// Derives `Deserialize` so that a value is checked by its `check` before anyone sees it. The type derives both
/// with `#[serde(remote = "Self")]`.
macro_rules! checked_serde {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$type>::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = <$type>::deserialize(deserializer)?;
                value.check().map_err(serde::de::Error::custom)?;
                Ok(value)
            }
        }
    };
}
use checked_serde;
