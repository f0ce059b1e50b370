//! How far a metric can be trusted: percentile bootstrap intervals over examples (Efron and Tibshirani
//! 1993, "An Introduction to the Bootstrap", chapter 13), and of the difference of two systems on the same
//! examples (Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation").
//!
//! A metric is a function of places of examples, some of them repeated, so that it fits means and F1 alike:
//!
//! ```
//! use hearth_train::metrics::bootstrap::{Bootstrap, mean};
//! let right = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0];
//! let interval = Bootstrap::default().interval(right.len(), mean(&right)).unwrap();
//! assert_eq!(interval.value, 0.75);
//! assert!(interval.low < 0.75 && 0.75 < interval.high);
//! ```

use hearth_tensor::Rng;

/// How to resample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// How often examples are drawn anew; must not be 0.
    pub resamples: usize,
    /// The seed of the draws: the same one gives the same interval.
    pub seed: u64,
    /// The share of resamples that the interval holds, 0–1.
    pub confidence: f64,
}

impl Default for Bootstrap {
    /// 1,000 resamples, 95 %.
    fn default() -> Self {
        Bootstrap { resamples: 1000, seed: 0, confidence: 0.95 }
    }
}

/// A value and where it would lie on other examples of the same kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The value on the examples themselves.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// By how much one system is better than another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The first system's metric less the second's.
    pub interval: Interval,
    /// The share of resamples in which the first is better, those where both are equal counting half.
    pub wins: f64,
}

impl Bootstrap {
    /// The interval of `metric` over `examples` examples; `None` without examples, or where the metric
    /// isn't a number (NaN) on some draw.
    ///
    /// `metric` gets the places of as many examples as there are, drawn with replacement.
    pub fn interval(&self, examples: usize, metric: impl Fn(&[usize]) -> f64) -> Option<Interval> {
        let all: Vec<usize> = (0..examples).collect();
        let values = self.draw(examples, &metric)?;
        self.interval_of(metric(&all), &values)
    }

    /// The interval of the difference of two systems' metrics, both on the same draws; `None` as for
    /// [`Bootstrap::interval`].
    pub fn difference(
        &self,
        examples: usize,
        first: impl Fn(&[usize]) -> f64,
        second: impl Fn(&[usize]) -> f64,
    ) -> Option<Difference> {
        let all: Vec<usize> = (0..examples).collect();
        let difference = |places: &[usize]| first(places) - second(places);
        let values = self.draw(examples, difference)?;
        let wins: f64 =
            values.iter().map(|&v| if v == 0.0 { 0.5 } else { f64::from(u8::from(v > 0.0)) }).sum();
        let interval = self.interval_of(difference(&all), &values)?;
        Some(Difference { interval, wins: wins / values.len() as f64 })
    }

    /// The metric of each resample, in increasing order.
    fn draw(&self, examples: usize, metric: impl Fn(&[usize]) -> f64) -> Option<Vec<f64>> {
        assert!(self.resamples > 0, "at least one resample");
        if examples == 0 {
            return None;
        }
        let mut rng = Rng::new(self.seed);
        let mut places = vec![0; examples];
        let mut values = Vec::with_capacity(self.resamples);
        for _ in 0..self.resamples {
            places.fill_with(|| rng.below(examples as u64) as usize);
            values.push(metric(&places));
        }
        values.sort_by(f64::total_cmp);
        values.iter().all(|v| !v.is_nan()).then_some(values)
    }

    fn interval_of(&self, value: f64, sorted: &[f64]) -> Option<Interval> {
        let tail = (1.0 - self.confidence) / 2.0;
        let (low, high) = (quantile(sorted, tail), quantile(sorted, 1.0 - tail));
        (!value.is_nan()).then_some(Interval { value, low, high })
    }
}

/// The metric that is the mean of a score an example: accuracy, exact match, reciprocal rank and so on.
pub fn mean(scores: &[f64]) -> impl Fn(&[usize]) -> f64 {
    move |places| places.iter().map(|&place| scores[place]).sum::<f64>() / places.len() as f64
}

/// The quantile `share` (0–1) of numbers in increasing order, between two of them by linear interpolation
/// (NumPy's default).
///
/// # Panics
/// Where there are no numbers.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}
