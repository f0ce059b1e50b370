//! The most multiply-adds that this machine does a second: what matrix products are measured against.

use crate::arch::{LANES, current, simd_fn};
use crate::pool::{parallel_for, threads};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Multiply-adds that don't wait for each other: more than the units times their latency.
const CHAINS: usize = 12;
/// Rounds between looks at the clock.
const ROUNDS: usize = 1 << 14;

/// GFLOP/s of multiply-adds in registers, by all threads of the pool for `time`, the best of five runs.
pub fn fma_peak_gflops(time: Duration) -> f64 {
    let threads = threads();
    let run = |_| {
        let rounds: Vec<std::sync::atomic::AtomicUsize> = (0..threads).map(|_| Default::default()).collect();
        let start = Instant::now();
        parallel_for(threads, |i| {
            let mut done = 0;
            while start.elapsed() < time {
                black_box(multiply_adds());
                done += ROUNDS;
            }
            rounds[i].store(done, std::sync::atomic::Ordering::Relaxed);
        });
        let seconds = start.elapsed().as_secs_f64();
        let rounds: usize = rounds.into_iter().map(|r| r.into_inner()).sum();
        (rounds * CHAINS * 2 * lanes()) as f64 / seconds / 1e9
    };
    (0..5).map(run).fold(0.0, f64::max)
}

/// Values in a vector of the matrix product.
fn lanes() -> usize {
    match current() {
        #[cfg(target_arch = "x86_64")]
        crate::arch::Isa::Avx512 => wide::LANES,
        _ => LANES,
    }
}

/// [`ROUNDS`] times [`CHAINS`] vectors of multiply-adds.
fn multiply_adds() -> f32 {
    match current() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `current` only names a set that the processor has.
        crate::arch::Isa::Avx512 => unsafe { wide::multiply_adds() },
        _ => narrow_multiply_adds(),
    }
}

simd_fn! {
    fn narrow_multiply_adds(s) -> f32 {
        let (x, y) = (s.splat(black_box(0.5)), s.splat(black_box(0.5)));
        let mut acc = [s.splat(1.0); CHAINS];
        for _ in 0..ROUNDS {
            acc = acc.map(|a| s.fma(a, x, y));
        }
        acc.into_iter().map(|a| s.sum(a)).sum()
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{CHAINS, ROUNDS};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    pub(super) const LANES: usize = 16;

    /// # Safety
    /// The processor must have AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn multiply_adds() -> f32 {
        let (x, y) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.5)));
        let mut acc = [_mm512_set1_ps(1.0); CHAINS];
        for _ in 0..ROUNDS {
            for a in &mut acc {
                *a = _mm512_fmadd_ps(*a, x, y);
            }
        }
        acc.into_iter().map(|a| _mm512_reduce_add_ps(a)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_multiplies_at_all() {
        for isa in crate::Isa::available() {
            let gflops = crate::with_isa(isa, || fma_peak_gflops(Duration::from_millis(2)));
            assert!(gflops > 0.01 && gflops < 1e5, "{isa:?}: {gflops}");
        }
    }
}
