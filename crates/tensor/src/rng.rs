//! Seeded random numbers that are the same on every machine.

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of random numbers: the same seed gives the same ones.
#[derive(Clone, Debug)]
pub struct Rng {
    stream: ChaCha8Rng,
    spare: Option<f32>,
}

impl Rng {
    /// A stream for `seed`.
    pub fn new(seed: u64) -> Self {
        Rng { stream: ChaCha8Rng::seed_from_u64(seed), spare: None }
    }

    /// Uniform in [0, 1), in steps of 2⁻²⁴.
    pub fn uniform(&mut self) -> f32 {
        (self.stream.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Standard normal, by Box and Muller's transform; computed in `f64` so that rounding in a
    /// platform's `ln` and `cos` almost never shows.
    pub fn normal(&mut self) -> f32 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let unit = |bits: u64| (bits >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0);
        let radius = (-2.0 * (1.0 - unit(self.stream.next_u64())).ln()).sqrt();
        let angle = std::f64::consts::TAU * unit(self.stream.next_u64());
        self.spare = Some((radius * angle.sin()) as f32);
        (radius * angle.cos()) as f32
    }

    /// Uniform in 0..limit; `limit` must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "nothing lies below 0");
        // Lemire's multiplication; the bias is under limit / 2^64.
        ((u128::from(self.stream.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.stream.next_u64()
    }
}
