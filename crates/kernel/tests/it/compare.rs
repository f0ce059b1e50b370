//! How these tests make inputs, run kernels and compare.

use hearth_kernel::{Isa, pool::set_threads, with_isa};
use std::sync::{Mutex, PoisonError};

/// A deterministic stand-in for random numbers, in -scale..scale.
pub fn noise(len: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
    };
    std::iter::repeat_with(next).skip(4).take(len).collect()
}

pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// What `run` gives on each instruction set; one thread and two must give the same bits.
pub fn everywhere<const N: usize>(run: impl Fn() -> [Vec<f32>; N]) -> Vec<(Isa, [Vec<f32>; N])> {
    // The number of threads is the process's; one test at a time may set it.
    static THREADS: Mutex<()> = Mutex::new(());
    let _guard = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let bits = |outputs: &[Vec<f32>; N]| -> Vec<Vec<u32>> {
        outputs.iter().map(|o| o.iter().map(|x| x.to_bits()).collect()).collect()
    };
    let on = |isa| {
        set_threads(1);
        let alone = with_isa(isa, &run);
        set_threads(2);
        let shared = with_isa(isa, &run);
        assert!(bits(&alone) == bits(&shared), "{isa:?}: two threads give other bits than one");
        (isa, alone)
    };
    Isa::available().into_iter().map(on).collect()
}

/// Asserts `|got - want| <= tolerance (1 + |want|)` throughout.
#[track_caller]
pub fn near(isa: Isa, what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{isa:?}: length of {what}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs() / (1.0 + want.abs());
        assert!(error <= tolerance, "{isa:?}: {what}[{i}] is {got}, expected {want}: error {error:e}");
    }
}

/// The gradient of `f` at `x` by central differences of fourth order.
pub fn gradient(f: impl Fn(&[f64]) -> f64, x: &[f64]) -> Vec<f64> {
    let h = 1e-3;
    let mut at = x.to_vec();
    (0..x.len())
        .map(|i| {
            let mut moved = |by: f64| {
                at[i] = x[i] + by;
                let value = f(&at);
                at[i] = x[i];
                value
            };
            (8.0 * (moved(h) - moved(-h)) - (moved(2.0 * h) - moved(-2.0 * h))) / (12.0 * h)
        })
        .collect()
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
