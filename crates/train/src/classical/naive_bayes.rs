//! Multinomial naive Bayes: McCallum and Nigam, "A Comparison of Event Models for Naive Bayes Text Classification"
//! (1998).
//!
//! A text of class `c` is drawn as n-grams, each by itself: `log p(c | x) = log p(c) + Σ_f x_f log p(f | c) + const`
//! with `p(f | c) = (N_cf + α) / (N_c + α F)`, where `N_cf` is the sum of feature `f` over the texts of class `c` and
//! `N_c` the sum over all `F` features. Equals scikit-learn's `MultinomialNB`.

use super::sparse::SparseRows;
use super::{ClassicalError, check_labels, check_length, check_positive, checked_serde};
use serde::{Deserialize, Serialize};

/// A classifier of sparse rows of counts; tf-idf values do as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct MultinomialNaiveBayes {
    n_features: usize,
    /// `log p(c)`; none for a class without training texts, which is never predicted.
    log_priors: Vec<Option<f32>>,
    /// `[n_features, n_classes]`: `log p(f | c)`.
    log_likelihoods: Vec<f32>,
}

checked_serde!(MultinomialNaiveBayes);

impl MultinomialNaiveBayes {
    /// Learns from `rows` of `labels`, each below `n_classes`; `alpha` smooths (1 is Laplace's).
    ///
    /// # Errors
    /// If there are no rows or not as many labels, a label isn't a class, a value is negative, or `alpha` isn't
    /// positive.
    pub fn fit(
        rows: &SparseRows,
        labels: &[usize],
        n_classes: usize,
        alpha: f64,
    ) -> Result<Self, ClassicalError> {
        check_labels(rows.len(), labels, n_classes)?;
        check_positive("alpha", alpha)?;
        let n_features = rows.n_columns();
        let mut texts = vec![0usize; n_classes];
        let mut sums = vec![alpha; n_features * n_classes];
        let mut totals = vec![alpha * n_features as f64; n_classes];
        for (number, (row, &label)) in rows.rows().zip(labels).enumerate() {
            texts[label] += 1;
            for &(feature, value) in row {
                if !(value >= 0.0 && value.is_finite()) {
                    let expected = "a count, or a number above 0";
                    return Err(ClassicalError::Value { row: number, value, expected });
                }
                sums[feature as usize * n_classes + label] += f64::from(value);
                totals[label] += f64::from(value);
            }
        }
        let log_likelihood = |(place, sum): (usize, &f64)| (sum.ln() - totals[place % n_classes].ln()) as f32;
        let log_likelihoods = sums.iter().enumerate().map(log_likelihood).collect();
        let prior = |&count: &usize| (count > 0).then(|| (count as f64 / rows.len() as f64).ln() as f32);
        let log_priors = texts.iter().map(prior).collect();
        Ok(MultinomialNaiveBayes { n_features, log_priors, log_likelihoods })
    }

    /// How many classes there are.
    pub fn n_classes(&self) -> usize {
        self.log_priors.len()
    }

    /// `log p(c | x)` of each class for each row: `[N][n_classes]`. A class without training texts has -∞.
    ///
    /// # Errors
    /// If `rows` has other columns than those learnt from.
    pub fn log_probabilities(&self, rows: &SparseRows) -> Result<Vec<Vec<f64>>, ClassicalError> {
        check_length("features", self.n_features, rows.n_columns())?;
        let n_classes = self.n_classes();
        let of_row = |row: &[(u32, f32)]| {
            let mut joint: Vec<f64> =
                self.log_priors.iter().map(|prior| prior.map_or(f64::NEG_INFINITY, f64::from)).collect();
            for &(feature, value) in row {
                let likelihoods = &self.log_likelihoods[feature as usize * n_classes..][..n_classes];
                for (sum, likelihood) in joint.iter_mut().zip(likelihoods) {
                    *sum += f64::from(value) * f64::from(*likelihood);
                }
            }
            let top = joint.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = top + joint.iter().map(|score| (score - top).exp()).sum::<f64>().ln();
            joint.iter_mut().for_each(|score| *score -= log_sum);
            joint
        };
        Ok(rows.rows().map(of_row).collect())
    }

    /// The likeliest class of each row; of equals, the first.
    ///
    /// # Errors
    /// As [`Self::log_probabilities`].
    pub fn predict(&self, rows: &SparseRows) -> Result<Vec<usize>, ClassicalError> {
        Ok(self.log_probabilities(rows)?.iter().map(|row| super::first_largest(row)).collect())
    }

    fn check(&self) -> Result<(), ClassicalError> {
        let damaged = |problem: &str| {
            Err(ClassicalError::Damaged { model: "naive Bayes classifier", problem: problem.into() })
        };
        if self.log_priors.iter().all(Option::is_none) {
            return damaged("no class has a prior");
        }
        match self.n_features.checked_mul(self.n_classes()) {
            Some(expected) if expected == self.log_likelihoods.len() => Ok(()),
            _ => damaged("not one likelihood for each feature and class"),
        }
    }
}
