//! Draws that depend on a seed and a place in the run, and on nothing else.
//!
//! Each (seed, purpose, number) opens its own ChaCha stream, so a run resumes by its counters
//! alone. The arithmetic is spelled out here, so that no release of a library can change a run.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What draws are for; each purpose has streams of its own.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// Offsets of random windows, numbered by step.
    Windows = 1,
    /// Phase and order of windows, numbered by epoch.
    Epoch = 2,
    /// Order of documents, numbered by epoch.
    Documents = 3,
    /// Masked tokens, numbered by batch.
    Masks = 4,
}

/// A stream of draws.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(seed: u64, purpose: Purpose, number: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = purpose as u8;
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(number);
        Self(generator)
    }

    /// A number below `bound`, which must not be 0. Its bias is under `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// `0..n` in random order (Fisher and Yates).
    pub(crate) fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for last in (1..n).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}
