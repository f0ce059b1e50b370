//! Accuracy, F1, Matthews correlation and the confusion matrix of classes and of sets of labels, as
//! scikit-learn's `sklearn.metrics` computes them.

use super::{Counts, PrecisionRecall, macro_average, ratio};

/// The scores of a classifier that gives each example one of `n_classes` classes.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassScores {
    /// The share of examples whose class is right, which is also the micro-averaged F1.
    pub accuracy: f64,
    /// The unweighted mean over the classes that are in the gold or predicted ones; a class in neither
    /// doesn't count.
    pub macro_average: PrecisionRecall,
    /// Matthews correlation, −1–1; see [`Confusion::matthews`].
    pub matthews: f64,
    /// Counts of each class, in the order of their indices.
    pub per_class: Vec<Counts>,
    /// What was taken for what.
    pub confusion: Confusion,
}

/// The scores of `predicted` against `gold`, one class index an example; all 0 without examples.
///
/// # Panics
/// Where the two differ in length, or hold an index that isn't below `n_classes`.
pub fn classification(gold: &[usize], predicted: &[usize], n_classes: usize) -> ClassScores {
    Confusion::of(gold, predicted, n_classes).scores()
}

/// A confusion matrix: how many examples of each gold class were given each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    n_classes: usize,
    /// Row by row, `[n_classes, n_classes]`.
    counts: Vec<usize>,
}

impl Confusion {
    /// The matrix of `predicted` against `gold`, one class index an example.
    ///
    /// # Panics
    /// Where the two differ in length, or hold an index that isn't below `n_classes`.
    pub fn of(gold: &[usize], predicted: &[usize], n_classes: usize) -> Self {
        assert_eq!(gold.len(), predicted.len(), "a prediction for each gold class");
        let mut counts = vec![0; n_classes * n_classes];
        for (&gold, &predicted) in gold.iter().zip(predicted) {
            assert!(gold < n_classes && predicted < n_classes, "classes lie below {n_classes}");
            counts[gold * n_classes + predicted] += 1;
        }
        Confusion { n_classes, counts }
    }

    /// How many examples of class `gold` were taken for class `predicted`.
    pub fn count(&self, gold: usize, predicted: usize) -> usize {
        self.row(gold)[predicted]
    }

    /// The examples of class `gold`, by the class that they were given.
    pub fn row(&self, gold: usize) -> &[usize] {
        &self.counts[gold * self.n_classes..(gold + 1) * self.n_classes]
    }

    /// The number of classes.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// The number of examples.
    pub fn examples(&self) -> usize {
        self.counts.iter().sum()
    }

    /// The counts of class `class` against all others.
    pub fn class(&self, class: usize) -> Counts {
        Counts {
            correct: self.count(class, class),
            predicted: (0..self.n_classes).map(|gold| self.count(gold, class)).sum(),
            gold: self.row(class).iter().sum(),
        }
    }

    /// Matthews correlation for any number of classes (Gorodkin 2004, "Comparing two K-category
    /// assignments by a K-category correlation coefficient", eq. 8): the correlation of gold and predicted
    /// classes as one-hot vectors. 0 where all gold or all predicted classes are the same.
    pub fn matthews(&self) -> f64 {
        let total: Counts = (0..self.n_classes).map(|class| self.class(class)).sum();
        let examples = total.gold as f64;
        let (mut both, mut gold, mut predicted) = (0.0, 0.0, 0.0);
        for class in (0..self.n_classes).map(|class| self.class(class)) {
            both += class.gold as f64 * class.predicted as f64;
            gold += (class.gold as f64).powi(2);
            predicted += (class.predicted as f64).powi(2);
        }
        let covariance = total.correct as f64 * examples - both;
        let variances = (examples * examples - gold) * (examples * examples - predicted);
        if variances == 0.0 { 0.0 } else { covariance / variances.sqrt() }
    }

    /// All scores that follow from the matrix.
    pub fn scores(self) -> ClassScores {
        let per_class: Vec<Counts> = (0..self.n_classes).map(|class| self.class(class)).collect();
        let present: Vec<PrecisionRecall> =
            per_class.iter().filter(|c| c.gold + c.predicted > 0).map(Counts::scores).collect();
        let total: Counts = per_class.iter().copied().sum();
        ClassScores {
            accuracy: ratio(total.correct, total.gold),
            macro_average: macro_average(&present),
            matthews: self.matthews(),
            per_class,
            confusion: self,
        }
    }
}

/// The scores of a classifier that gives each example any number of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSetScores {
    /// The share of examples with exactly the right labels (scikit-learn's `accuracy_score`).
    pub subset_accuracy: f64,
    /// Over all pairs of an example and a label.
    pub micro_average: PrecisionRecall,
    /// The unweighted mean over all labels; one that is never given nor there counts as 0.
    pub macro_average: PrecisionRecall,
    /// Counts of each label, in the order of their indices.
    pub per_label: Vec<Counts>,
}

/// The scores of sets of labels: `gold[example][label]` and `predicted[example][label]` say whether an
/// example has a label. All 0 without examples.
///
/// # Panics
/// Where the two differ in shape.
pub fn multi_label(gold: &[Vec<bool>], predicted: &[Vec<bool>]) -> LabelSetScores {
    assert_eq!(gold.len(), predicted.len(), "a prediction for each example");
    let mut per_label = vec![Counts::default(); gold.first().map_or(0, Vec::len)];
    let mut right = 0;
    for (gold, predicted) in gold.iter().zip(predicted) {
        assert!(
            gold.len() == per_label.len() && predicted.len() == per_label.len(),
            "a value for each label"
        );
        right += usize::from(gold == predicted);
        for ((label, &gold), &predicted) in per_label.iter_mut().zip(gold).zip(predicted) {
            *label += Counts {
                correct: usize::from(gold && predicted),
                predicted: usize::from(predicted),
                gold: usize::from(gold),
            };
        }
    }
    let scores: Vec<PrecisionRecall> = per_label.iter().map(Counts::scores).collect();
    LabelSetScores {
        subset_accuracy: ratio(right, gold.len()),
        micro_average: per_label.iter().copied().sum::<Counts>().scores(),
        macro_average: macro_average(&scores),
        per_label,
    }
}
