//! How good a fine-tuned model's answers are: one file a kind of task.
//!
//! Plain functions over slices of gold and predicted values, without tensors or models, each equal to the
//! script that the field reports with: scikit-learn for [`classification`], SciPy for [`regression`],
//! seqeval for [`spans`], SQuAD's and CMRC 2018's scripts for [`answers`], trec_eval for [`ranking`].
//! [`calibration`] says whether probabilities can be believed, and [`bootstrap`] how far any of these numbers
//! can be trusted.
//!
//! Scores lie in 0–1 (correlations in −1–1), never in percent. Where a script divides by zero and warns,
//! the score here is 0, as the script's is.

pub mod answers;
pub mod bootstrap;
pub mod calibration;
pub mod classification;
pub mod ranking;
pub mod regression;
pub mod spans;
mod words;

/// Precision, recall and F1 of one class, or averaged over several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PrecisionRecall {
    /// Of what was predicted, the share that is right; 0 where nothing was predicted.
    pub precision: f64,
    /// Of what is there, the share that was found; 0 where nothing is there.
    pub recall: f64,
    /// The harmonic mean of both; 0 where both are 0.
    pub f1: f64,
}

/// What [`PrecisionRecall`] is worked out from; counts add up over examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Predicted and right (true positives).
    pub correct: usize,
    /// Predicted.
    pub predicted: usize,
    /// There to be found (the support).
    pub gold: usize,
}

impl Counts {
    /// The scores of these counts.
    pub fn scores(&self) -> PrecisionRecall {
        let precision = ratio(self.correct, self.predicted);
        let recall = ratio(self.correct, self.gold);
        PrecisionRecall { precision, recall, f1: ratio(2 * self.correct, self.predicted + self.gold) }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.correct += other.correct;
        self.predicted += other.predicted;
        self.gold += other.gold;
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Counts::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// The unweighted mean of the scores, class by class (F1 is the mean of the F1s); 0 without classes.
fn macro_average(classes: &[PrecisionRecall]) -> PrecisionRecall {
    let n = classes.len().max(1) as f64;
    PrecisionRecall {
        precision: classes.iter().map(|c| c.precision).sum::<f64>() / n,
        recall: classes.iter().map(|c| c.recall).sum::<f64>() / n,
        f1: classes.iter().map(|c| c.f1).sum::<f64>() / n,
    }
}

/// `part / whole`, and 0 where the whole is empty.
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
