//! Rotary embeddings stretched for contexts longer than those of pretraining: what each pair's frequency is
//! divided by.

use std::f64::consts::TAU;

/// How frequencies change.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// All are divided by one factor (Chen et al. 2023, "Position Interpolation").
    Linear {
        /// The factor.
        factor: f32,
    },
    /// Llama 3's (Dubey et al. 2024; `llama3` in `transformers`): a pair that turns round fewer than
    /// `low_freq_factor` times in the original context is divided by the factor, one that turns more than
    /// `high_freq_factor` times is left, and those between are mixed.
    Llama3 {
        /// The factor.
        factor: f32,
        /// Turns in the original context up to which the factor holds in full.
        low_freq_factor: f32,
        /// Turns from which on nothing changes.
        high_freq_factor: f32,
        /// The context of pretraining.
        original_positions: usize,
    },
    /// One divisor a pair, as GGUF files have them.
    Divisors(Vec<f32>),
}

impl RopeScaling {
    /// Llama 3's with the turns of the published models.
    pub fn llama3(factor: f32, original_positions: usize) -> Self {
        RopeScaling::Llama3 { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_positions }
    }

    /// The scaling that a file's divisors stand for: Llama 3's, whose words `config.json` has, if one with the
    /// turns of the published models gives the same to the precision of the file.
    pub fn of_divisors(divisors: Vec<f32>, frequencies: &[f64]) -> Self {
        let factor = divisors.last().copied().unwrap_or(1.0);
        let same = |candidate: &RopeScaling| {
            let theirs = candidate.divisors(frequencies);
            theirs.len() == divisors.len()
                && theirs.iter().zip(&divisors).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs())
        };
        (4..=20).map(|bits| Self::llama3(factor, 1 << bits)).find(same).unwrap_or(Self::Divisors(divisors))
    }

    /// Divides each frequency.
    pub(crate) fn apply(&self, frequencies: &mut [f64]) {
        frequencies.iter_mut().enumerate().for_each(|(i, f)| *f /= self.divisor(i, *f));
    }

    /// What each frequency is divided by.
    pub(crate) fn divisors(&self, frequencies: &[f64]) -> Vec<f32> {
        frequencies.iter().enumerate().map(|(i, f)| self.divisor(i, *f) as f32).collect()
    }

    fn divisor(&self, pair: usize, frequency: f64) -> f64 {
        match self {
            RopeScaling::Linear { factor } => f64::from(*factor),
            RopeScaling::Divisors(divisors) => f64::from(divisors[pair]),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
                let turns = *original_positions as f64 * frequency / TAU;
                let (low, high) = (f64::from(*low_freq_factor), f64::from(*high_freq_factor));
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                1.0 / ((1.0 - kept) / f64::from(*factor) + kept)
            }
        }
    }

    /// Checks that frequencies of heads of `head_dim` stay positive numbers.
    pub(crate) fn validate(&self, head_dim: usize) -> Result<(), String> {
        let good = |x: f32| x.is_finite() && x > 0.0;
        match self {
            RopeScaling::Linear { factor } | RopeScaling::Llama3 { factor, .. } if !good(*factor) => {
                Err(format!("a rotary embedding scaled by {factor}, expected a number above 0"))
            }
            RopeScaling::Llama3 {
                low_freq_factor: low, high_freq_factor: high, original_positions, ..
            } if !(good(*low) && good(*high) && low < high && *original_positions > 0) => Err(format!(
                "a rotary embedding scaled between {low} and {high} turns in {original_positions} positions, \
                     expected numbers above 0, the second greater than the first"
            )),
            RopeScaling::Divisors(divisors) if divisors.len() != head_dim / 2 => Err(format!(
                "{} divisors of the rotary embedding, expected {}, one a pair of a head's dimensions",
                divisors.len(),
                head_dim / 2
            )),
            RopeScaling::Divisors(divisors) => match divisors.iter().find(|x| !good(**x)) {
                Some(x) => Err(format!("a rotary frequency divided by {x}, expected a number above 0")),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_are_those_of_llama_3_2() {
        let frequencies: Vec<f64> = (0..32).map(|i| 500_000f64.powf(-2.0 * f64::from(i) / 64.0)).collect();
        let scaling = RopeScaling::llama3(32.0, 8192);
        let divisors = scaling.divisors(&frequencies);
        // Pairs that turn more than four times, some between, and those that turn less than once.
        assert_eq!(divisors[..14], [1.0; 14]);
        assert!(divisors[15] > 1.0 && divisors[16] < 32.0 && divisors[15] < divisors[16]);
        assert_eq!(divisors[18..], [32.0; 14]);
        assert_eq!(RopeScaling::of_divisors(divisors.clone(), &frequencies), scaling);
        let odd: Vec<f32> = divisors.iter().map(|x| x * 1.5).collect();
        assert_eq!(RopeScaling::of_divisors(odd.clone(), &frequencies), RopeScaling::Divisors(odd));
    }
}
