//! Squared error and the correlations of Pearson and Spearman, as SciPy computes them.

/// The scores of predicted numbers against gold ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegressionScores {
    /// The mean squared error; 0 without examples.
    pub mean_squared_error: f64,
    /// Pearson's correlation; see [`pearson`].
    pub pearson: Option<f64>,
    /// Spearman's rank correlation; see [`spearman`].
    pub spearman: Option<f64>,
}

/// The scores of `predicted` against `gold`, one number an example.
///
/// # Panics
/// Where the two differ in length.
pub fn regression(gold: &[f64], predicted: &[f64]) -> RegressionScores {
    assert_eq!(gold.len(), predicted.len(), "a prediction for each gold number");
    let squares: f64 = gold.iter().zip(predicted).map(|(gold, predicted)| (gold - predicted).powi(2)).sum();
    RegressionScores {
        mean_squared_error: squares / gold.len().max(1) as f64,
        pearson: pearson(gold, predicted),
        spearman: spearman(gold, predicted),
    }
}

/// Pearson's correlation, −1–1. `None` where it isn't defined (SciPy's NaN): under two examples, or one of
/// the two is constant or not finite.
///
/// # Panics
/// Where the two differ in length.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "pairs of numbers");
    let constant = |values: &[f64]| values.iter().all(|v| *v == values[0]);
    if x.len() < 2 || constant(x) || constant(y) {
        return None;
    }
    let (x, y) = (centred_unit(x), centred_unit(y));
    let correlation: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
    // Rounding can lead past the ends.
    correlation.is_finite().then(|| correlation.clamp(-1.0, 1.0))
}

/// Spearman's rank correlation, −1–1: Pearson's of the ranks, equal numbers sharing the mean of their
/// ranks. `None` as for [`pearson`].
///
/// # Panics
/// Where the two differ in length.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    let nan = |values: &[f64]| values.iter().any(|v| v.is_nan());
    if nan(x) || nan(y) {
        return None;
    }
    pearson(&average_ranks(x), &average_ranks(y))
}

/// `values` less their mean, scaled to length one.
fn centred_unit(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let length = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt();
    values.iter().map(|v| (v - mean) / length).collect()
}

/// The rank of each number, from 1; equal numbers share the mean of the ranks that they take up.
fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (equal.len() + 1) as f64 / 2.0;
        for &place in equal {
            ranks[place] = rank;
        }
        before += equal.len();
    }
    ranks
}
