//! Linear support vector machines, one against the rest.
//!
//! Each machine minimises `½|w|² + C Σ_i max(0, 1 - y_i w·x_i)²` (L2 regularisation, squared hinge loss), where each
//! `x` has a last feature of 1 for the bias. The dual `min ½ α'Q̄α - Σα, α ≥ 0` with `Q̄ = Q + 1/(2C) I` is solved one
//! coordinate at a time in random order, with shrinking: Hsieh, Chang, Lin, Keerthi and Sundararajan, "A Dual
//! Coordinate Descent Method for Large-scale Linear SVM" (2008), algorithm 3. It is the method of LIBLINEAR, and so of
//! scikit-learn's `LinearSVC`.

use super::sparse::SparseRows;
use super::{ClassicalError, check_labels, check_length, check_positive, checked_serde, first_largest};
use hearth_kernel::pool::parallel_chunks_mut;
use serde::{Deserialize, Serialize};

/// How a machine is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SvmSettings {
    /// What a margin that is violated costs; larger fits closer.
    pub c: f64,
    /// Training ends once no coordinate's projected gradient differs more than this from another's.
    pub tolerance: f64,
    /// And after this many rounds over the texts at the latest.
    pub max_rounds: usize,
    /// Seed of the order of coordinates.
    pub seed: u64,
}

impl Default for SvmSettings {
    fn default() -> Self {
        SvmSettings { c: 1.0, tolerance: 1e-4, max_rounds: 1000, seed: 0 }
    }
}

/// A classifier of sparse rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct LinearSvm {
    n_features: usize,
    n_classes: usize,
    /// One a class. Two classes that exclude each other share one, which speaks for the second.
    machines: Vec<Machine>,
}

checked_serde!(LinearSvm);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Machine {
    /// `[n_features]`.
    weights: Vec<f32>,
    bias: f32,
    /// Whether it came to within the tolerance.
    converged: bool,
}

impl LinearSvm {
    /// Learns from `rows` of `labels`, each below `n_classes`.
    ///
    /// # Errors
    /// If there are no rows or not as many labels, a label isn't a class, or a setting can't be.
    pub fn fit(
        rows: &SparseRows,
        labels: &[usize],
        n_classes: usize,
        settings: &SvmSettings,
    ) -> Result<Self, ClassicalError> {
        check_labels(rows.len(), labels, n_classes)?;
        if n_classes == 2 {
            return Self::train(rows, 2, 1, settings, |_, row| labels[row] == 1);
        }
        Self::train(rows, n_classes, n_classes, settings, |class, row| labels[row] == class)
    }

    /// Learns from `rows` that have any number of labels each.
    ///
    /// # Errors
    /// As [`Self::fit`].
    pub fn fit_multi_label(
        rows: &SparseRows,
        labels: &[Vec<usize>],
        n_classes: usize,
        settings: &SvmSettings,
    ) -> Result<Self, ClassicalError> {
        check_length("lists of labels, one a text", rows.len(), labels.len())?;
        for (row, labels) in labels.iter().enumerate() {
            if let Some(&label) = labels.iter().find(|&&label| label >= n_classes) {
                let place = format!("text {row}");
                return Err(ClassicalError::Label { place, label, n_labels: n_classes });
            }
        }
        Self::train(rows, n_classes, n_classes, settings, |class, row| labels[row].contains(&class))
    }

    fn train(
        rows: &SparseRows,
        n_classes: usize,
        n_machines: usize,
        settings: &SvmSettings,
        is_positive: impl Fn(usize, usize) -> bool + Sync,
    ) -> Result<Self, ClassicalError> {
        check_positive("c", settings.c)?;
        check_positive("tolerance", settings.tolerance)?;
        let mut machines = vec![Machine::default(); n_machines];
        parallel_chunks_mut(&mut machines, 1, |class, machine| {
            let signs: Vec<f64> =
                (0..rows.len()).map(|row| if is_positive(class, row) { 1.0 } else { -1.0 }).collect();
            machine[0] = Dual::new(rows, &signs, settings).solve();
        });
        Ok(LinearSvm { n_features: rows.n_columns(), n_classes, machines })
    }

    /// How many classes there are.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Whether every machine came to within the tolerance before its rounds were over.
    pub fn converged(&self) -> bool {
        self.machines.iter().all(|machine| machine.converged)
    }

    /// `w·x + b` of each class for each row, `[N][n_classes]`: positive where the machine says yes.
    ///
    /// # Errors
    /// If `rows` has other columns than those learnt from.
    pub fn decision_values(&self, rows: &SparseRows) -> Result<Vec<Vec<f64>>, ClassicalError> {
        check_length("features", self.n_features, rows.n_columns())?;
        let of_row = |row: &[(u32, f32)]| -> Vec<f64> {
            let values = self.machines.iter().map(|machine| {
                let product = |&(column, value): &(u32, f32)| {
                    f64::from(machine.weights[column as usize]) * f64::from(value)
                };
                row.iter().map(product).sum::<f64>() + f64::from(machine.bias)
            });
            let values: Vec<f64> = values.collect();
            if values.len() < self.n_classes { vec![-values[0], values[0]] } else { values }
        };
        Ok(rows.rows().map(of_row).collect())
    }

    /// The class of the largest decision value of each row; of equals, the first.
    ///
    /// # Errors
    /// As [`Self::decision_values`].
    pub fn predict(&self, rows: &SparseRows) -> Result<Vec<usize>, ClassicalError> {
        Ok(self.decision_values(rows)?.iter().map(|row| first_largest(row)).collect())
    }

    fn check(&self) -> Result<(), ClassicalError> {
        let shared = self.n_classes == 2 && self.machines.len() == 1;
        let fits = self.machines.iter().all(|machine| machine.weights.len() == self.n_features);
        if fits && !self.machines.is_empty() && (shared || self.machines.len() == self.n_classes) {
            return Ok(());
        }
        Err(ClassicalError::Damaged {
            model: "support vector machine",
            problem: "not one weight for each feature and class".into(),
        })
    }
}

/// The dual problem of one machine.
struct Dual<'a> {
    rows: &'a SparseRows,
    signs: &'a [f64],
    settings: &'a SvmSettings,
    /// `1 / (2C)`, on the diagonal of `Q̄`.
    diagonal: f64,
    /// `Q̄_ii = |x_i|² + 1 + 1/(2C)`.
    curvatures: Vec<f64>,
    alphas: Vec<f64>,
    /// `Σ_i α_i y_i x_i`, and last the bias.
    weights: Vec<f64>,
}

impl<'a> Dual<'a> {
    fn new(rows: &'a SparseRows, signs: &'a [f64], settings: &'a SvmSettings) -> Self {
        let diagonal = 0.5 / settings.c;
        let square = |row: &[(u32, f32)]| row.iter().map(|&(_, v)| f64::from(v) * f64::from(v)).sum::<f64>();
        Dual {
            rows,
            signs,
            settings,
            diagonal,
            curvatures: rows.rows().map(|row| square(row) + 1.0 + diagonal).collect(),
            alphas: vec![0.0; rows.len()],
            weights: vec![0.0; rows.n_columns() + 1],
        }
    }

    fn solve(mut self) -> Machine {
        let n = self.rows.len();
        let mut order: Vec<usize> = (0..n).collect();
        let mut active = n;
        let mut random = SplitMix(self.settings.seed);
        // A coordinate at 0 whose gradient is above this is left out for a while.
        let mut shrink_above = f64::INFINITY;
        let mut converged = false;
        for _ in 0..self.settings.max_rounds {
            for place in 0..active {
                order.swap(place, place + random.below(active - place));
            }
            let (mut largest, mut smallest) = (f64::NEG_INFINITY, f64::INFINITY);
            let mut place = 0;
            while place < active {
                let row = order[place];
                let gradient = self.gradient(row);
                let at_bound = self.alphas[row] == 0.0;
                if at_bound && gradient > shrink_above {
                    active -= 1;
                    order.swap(place, active);
                    continue;
                }
                let projected = if at_bound { gradient.min(0.0) } else { gradient };
                largest = largest.max(projected);
                smallest = smallest.min(projected);
                if projected.abs() > 1e-12 {
                    self.step(row, gradient);
                }
                place += 1;
            }
            if largest - smallest <= self.settings.tolerance {
                if active == n {
                    converged = true;
                    break;
                }
                // What was left out is looked at once more.
                (active, shrink_above) = (n, f64::INFINITY);
            } else {
                shrink_above = if largest > 0.0 { largest } else { f64::INFINITY };
            }
        }
        let bias = self.weights.pop().unwrap_or_default() as f32;
        Machine { weights: self.weights.iter().map(|&w| w as f32).collect(), bias, converged }
    }

    /// `∂/∂α_i` of the dual: `y_i w·x_i - 1 + α_i / (2C)`.
    fn gradient(&self, row: usize) -> f64 {
        let bias = self.weights[self.weights.len() - 1];
        let product = |&(column, value): &(u32, f32)| self.weights[column as usize] * f64::from(value);
        let margin = self.signs[row] * (self.rows.row(row).iter().map(product).sum::<f64>() + bias);
        margin - 1.0 + self.diagonal * self.alphas[row]
    }

    /// Moves `α_i` to its minimum, and the weights along.
    fn step(&mut self, row: usize, gradient: f64) {
        let alpha = (self.alphas[row] - gradient / self.curvatures[row]).max(0.0);
        let change = (alpha - self.alphas[row]) * self.signs[row];
        self.alphas[row] = alpha;
        for &(column, value) in self.rows.row(row) {
            self.weights[column as usize] += change * f64::from(value);
        }
        if let Some(bias) = self.weights.last_mut() {
            *bias += change;
        }
    }
}

/// The generator SplitMix64: Steele, Lea and Flood (2014). Spelled out, so that no release of a library can change a
/// run.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}
