//! L-BFGS, and OWL-QN for objectives with an L1 penalty.
//!
//! Liu and Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization" (1989); Andrew and Gao,
//! "Scalable Training of L1-Regularized Log-Linear Models" (2007). Steps are found by backtracking: to the strong
//! Wolfe conditions without L1, to sufficient decrease within the orthant with it.
//!
//! The crates were no help: argmin brings a framework, `lbfgs` 0.3 has neither a line search nor L1, and `liblbfgs` 0.1,
//! a port of the C library with dependencies of 2022, prints errors of its line search and can end in `unimplemented!`.

use super::ClassicalError;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// How many earlier steps the curvature is estimated from.
const MEMORY: usize = 6;
/// Tries of a step's length.
const MAX_TRIES: usize = 40;
/// How much of the decrease that the slope promises a step must bring.
const SUFFICIENT: f64 = 1e-4;
/// How much of the slope may be left after a step.
const CURVATURE: f64 = 0.9;
/// The improvement is measured over so many iterations.
const PERIOD: usize = 10;

/// When to stop, and what to add to the objective.
#[derive(Clone, Debug)]
pub(super) struct Lbfgs {
    /// Adds `c1 Σ|x|`.
    pub c1: f64,
    pub max_iterations: usize,
    /// Ends at a gradient of this length, as a share of that of `x`.
    pub gradient_tolerance: f64,
    /// Ends once the last ten iterations improved the objective by less than this share.
    pub improvement: f64,
}

/// Where an iteration arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub iteration: usize,
    /// With the penalty.
    pub objective: f64,
    pub gradient_norm: f64,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A step and the change of gradient along it.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    /// 1 / (step · change)
    rho: f64,
}

impl Lbfgs {
    /// Moves `x` to a minimum of `objective`, which writes its gradient, plus `c1 Σ|x|`. After each iteration
    /// `progress` may stop it. Returns the last objective, with the penalty.
    pub(super) fn minimize(
        &self,
        x: &mut Vec<f64>,
        mut objective: impl FnMut(&[f64], &mut [f64]) -> f64,
        mut progress: impl FnMut(Arrived) -> ControlFlow<()>,
    ) -> Result<f64, ClassicalError> {
        let penalty = |x: &[f64]| self.c1 * x.iter().map(|x| x.abs()).sum::<f64>();
        let mut gradient = vec![0.0; x.len()];
        let mut value = objective(x, &mut gradient) + penalty(x);
        if !value.is_finite() {
            return Err(ClassicalError::NotFinite { iteration: 0 });
        }
        let mut steepest = self.steepest(x, &gradient);
        let mut pairs: VecDeque<Pair> = VecDeque::new();
        let mut values = VecDeque::from([value]);
        for iteration in 1..=self.max_iterations {
            if dot(&steepest, &steepest).sqrt() <= self.gradient_tolerance * dot(x, x).sqrt().max(1.0) {
                break;
            }
            let mut direction = two_loops(&pairs, &steepest);
            if self.c1 > 0.0 {
                for (d, s) in direction.iter_mut().zip(&steepest) {
                    if *d * s <= 0.0 {
                        *d = 0.0;
                    }
                }
            }
            let mut slope = -dot(&direction, &steepest);
            if slope >= 0.0 {
                pairs.clear();
                direction.clone_from(&steepest);
                slope = -dot(&direction, &steepest);
            }
            let first = if pairs.is_empty() { 1.0 / dot(&direction, &direction).sqrt() } else { 1.0 };
            let search = Search { from: x, value, slope, steepest: &steepest, direction: &direction, first };
            let Some((to, new_gradient, new_value)) = self.search(&search, &mut objective, &penalty) else {
                if pairs.is_empty() {
                    // Nothing is lower, to rounding.
                    break;
                }
                // The curvature misleads; once more, straight down.
                pairs.clear();
                continue;
            };
            let step: Vec<f64> = to.iter().zip(x.iter()).map(|(to, from)| to - from).collect();
            let change: Vec<f64> = new_gradient.iter().zip(&gradient).map(|(new, old)| new - old).collect();
            let curvature = dot(&step, &change);
            if curvature > 1e-12 * dot(&change, &change) {
                if pairs.len() == MEMORY {
                    pairs.pop_front();
                }
                pairs.push_back(Pair { step, change, rho: 1.0 / curvature });
            }
            (*x, gradient, value) = (to, new_gradient, new_value);
            steepest = self.steepest(x, &gradient);
            let gradient_norm = dot(&steepest, &steepest).sqrt();
            if !gradient_norm.is_finite() {
                return Err(ClassicalError::NotFinite { iteration });
            }
            if progress(Arrived { iteration, objective: value, gradient_norm }).is_break() {
                break;
            }
            values.push_back(value);
            if values.len() > PERIOD {
                let before = values.pop_front().unwrap_or(value);
                if before - value < self.improvement * value.abs() {
                    break;
                }
            }
        }
        Ok(value)
    }

    /// The direction of steepest descent: minus the gradient, or with L1 minus the pseudo-gradient.
    fn steepest(&self, x: &[f64], gradient: &[f64]) -> Vec<f64> {
        let c1 = self.c1;
        let of_one = |(&x, &g): (&f64, &f64)| {
            if x > 0.0 {
                -(g + c1)
            } else if x < 0.0 {
                -(g - c1)
            } else if g + c1 < 0.0 {
                -(g + c1)
            } else if g - c1 > 0.0 {
                -(g - c1)
            } else {
                0.0
            }
        };
        x.iter().zip(gradient).map(of_one).collect()
    }

    /// A step that is long enough and brings enough: where it leads, the gradient and the value there.
    fn search(
        &self,
        search: &Search,
        objective: &mut impl FnMut(&[f64], &mut [f64]) -> f64,
        penalty: &impl Fn(&[f64]) -> f64,
    ) -> Option<(Vec<f64>, Vec<f64>, f64)> {
        let mut gradient = vec![0.0; search.from.len()];
        let (mut length, mut too_short, mut too_long) = (search.first, 0.0, f64::INFINITY);
        for _ in 0..MAX_TRIES {
            let to = if self.c1 > 0.0 { search.within_orthant(length) } else { search.at(length) };
            let value = objective(&to, &mut gradient) + penalty(&to);
            let promised = if self.c1 > 0.0 {
                let moved = to.iter().zip(search.from).zip(search.steepest);
                -moved.map(|((to, from), s)| (to - from) * s).sum::<f64>()
            } else {
                length * search.slope
            };
            let enough = value <= search.value + SUFFICIENT * promised;
            let slope = dot(&gradient, search.direction);
            if !enough || (self.c1 == 0.0 && slope > -CURVATURE * search.slope) {
                too_long = length;
            } else if self.c1 == 0.0 && slope < CURVATURE * search.slope {
                too_short = length;
            } else {
                return Some((to, gradient, value));
            }
            length = if too_long.is_finite() { 0.5 * (too_short + too_long) } else { 2.0 * length };
        }
        None
    }
}

/// A line to search along.
struct Search<'a> {
    from: &'a [f64],
    value: f64,
    slope: f64,
    steepest: &'a [f64],
    direction: &'a [f64],
    /// The length to try first.
    first: f64,
}

impl Search<'_> {
    fn at(&self, length: f64) -> Vec<f64> {
        self.from.iter().zip(self.direction).map(|(x, d)| x + length * d).collect()
    }

    /// The same, with 0 for what would change its sign.
    fn within_orthant(&self, length: f64) -> Vec<f64> {
        let mut to = self.at(length);
        for ((to, &from), &steepest) in to.iter_mut().zip(self.from).zip(self.steepest) {
            let orthant = if from == 0.0 { steepest } else { from };
            if *to * orthant <= 0.0 {
                *to = 0.0;
            }
        }
        to
    }
}

/// The inverse Hessian's estimate times the direction of steepest descent.
fn two_loops(pairs: &VecDeque<Pair>, steepest: &[f64]) -> Vec<f64> {
    let mut direction = steepest.to_vec();
    let add = |direction: &mut [f64], by: f64, along: &[f64]| {
        direction.iter_mut().zip(along).for_each(|(d, a)| *d += by * a);
    };
    let mut weights = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let weight = pair.rho * dot(&pair.step, &direction);
        add(&mut direction, -weight, &pair.change);
        weights.push(weight);
    }
    if let Some(last) = pairs.back() {
        let scale = 1.0 / (last.rho * dot(&last.change, &last.change));
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for (pair, weight) in pairs.iter().zip(weights.into_iter().rev()) {
        let back = pair.rho * dot(&pair.change, &direction);
        add(&mut direction, weight - back, &pair.step);
    }
    direction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimize(c1: f64, objective: impl FnMut(&[f64], &mut [f64]) -> f64, start: &[f64]) -> Vec<f64> {
        let settings = Lbfgs { c1, max_iterations: 500, gradient_tolerance: 1e-10, improvement: 0.0 };
        let mut x = start.to_vec();
        settings.minimize(&mut x, objective, |_| ControlFlow::Continue(())).expect("finite");
        x
    }

    fn check_close(got: &[f64], expected: &[f64]) {
        let close = got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-6);
        assert!(close && got.len() == expected.len(), "expected {expected:?}, got {got:?}");
    }

    #[test]
    fn rosenbrocks_valley_is_walked_to_its_end() {
        let valley = |x: &[f64], g: &mut [f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            (g[0], g[1]) = (-2.0 * a - 400.0 * x[0] * b, 200.0 * b);
            a * a + 100.0 * b * b
        };
        check_close(&minimize(0.0, valley, &[-1.2, 1.0]), &[1.0, 1.0]);
    }

    #[test]
    fn l1_shrinks_to_exactly_zero() {
        // Each x is soft(target, c1 / weight).
        let (targets, weights) = ([3.0, -2.0, 0.1, -0.4, 1.0], [1.0, 2.0, 1.0, 1.0, 0.25]);
        let bowl = |x: &[f64], g: &mut [f64]| {
            (0..5).for_each(|i| g[i] = weights[i] * (x[i] - targets[i]));
            (0..5).map(|i| 0.5 * weights[i] * (x[i] - targets[i]).powi(2)).sum()
        };
        let got = minimize(0.5, bowl, &[0.0; 5]);
        check_close(&got, &[2.5, -1.75, 0.0, 0.0, 0.0]);
        assert!(got[2..].iter().all(|&x| x == 0.0), "{got:?}");
    }

    #[test]
    fn an_objective_that_is_not_finite_is_an_error() {
        let settings = Lbfgs { c1: 0.0, max_iterations: 5, gradient_tolerance: 0.0, improvement: 0.0 };
        let result = settings.minimize(&mut vec![1.0], |_, _| f64::NAN, |_| ControlFlow::Continue(()));
        assert_eq!(result, Err(ClassicalError::NotFinite { iteration: 0 }));
    }
}
