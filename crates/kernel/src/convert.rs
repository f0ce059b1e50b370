//! Between `f32` and the two 16-bit formats: bf16 (its upper half) and IEEE half. Narrowing rounds
//! to the nearest, ties to even; what is too large becomes infinite, and NaN stays NaN.

use crate::arch::{LANES, simd_fn};
use crate::pool::parallel_chunks_mut;
use crate::split::TASK;
use half::{bf16, f16};

/// Narrows to bf16.
///
/// # Panics
/// If the lengths differ.
pub fn f32_to_bf16(src: &[f32], dst: &mut [bf16]) {
    in_chunks(src, dst, narrow_bf16);
}

/// Widens from bf16, exactly.
///
/// # Panics
/// If the lengths differ.
pub fn bf16_to_f32(src: &[bf16], dst: &mut [f32]) {
    in_chunks(src, dst, widen_bf16);
}

/// Narrows to IEEE half.
///
/// # Panics
/// If the lengths differ.
pub fn f32_to_f16(src: &[f32], dst: &mut [f16]) {
    in_chunks(src, dst, narrow_f16);
}

/// Widens from IEEE half, exactly.
///
/// # Panics
/// If the lengths differ.
pub fn f16_to_f32(src: &[f16], dst: &mut [f32]) {
    in_chunks(src, dst, widen_f16);
}

fn in_chunks<A: Sync, B: Send>(src: &[A], dst: &mut [B], convert: fn(&[A], &mut [B])) {
    assert_eq!(src.len(), dst.len());
    parallel_chunks_mut(dst, TASK, |i, dst| convert(&src[i * TASK..][..dst.len()], dst));
}

/// Runs `$vector` on whole vectors of `$src` and `$dst`, and on a padded copy of the tail.
macro_rules! convert {
    ($src:ident, $dst:ident, $zero:expr, $out_zero:expr, |$from:ident, $to:ident| $vector:expr) => {{
        let (whole, tail) = $src.as_chunks::<LANES>();
        let (out, out_tail) = $dst.as_chunks_mut::<LANES>();
        for ($from, $to) in whole.iter().zip(out) {
            $vector;
        }
        let (mut padded, mut result) = ([$zero; LANES], [$out_zero; LANES]);
        padded[..tail.len()].copy_from_slice(tail);
        {
            let ($from, $to) = (&padded, &mut result);
            $vector;
        }
        out_tail.copy_from_slice(&result[..tail.len()]);
    }};
}

simd_fn! {
    /// On this thread.
    pub(crate) fn narrow_bf16(s, src: &[f32], dst: &mut [bf16]) {
        convert!(src, dst, 0.0, bf16::ZERO, |from, to| {
            // SAFETY: arrays of `LANES` values.
            unsafe { s.store_bf16(to.as_mut_ptr(), s.load(from.as_ptr())) }
        })
    }
}

simd_fn! {
    /// On this thread.
    pub(crate) fn widen_bf16(s, src: &[bf16], dst: &mut [f32]) {
        convert!(src, dst, bf16::ZERO, 0.0, |from, to| {
            // SAFETY: arrays of `LANES` values.
            unsafe { s.store(to.as_mut_ptr(), s.load_bf16(from.as_ptr())) }
        })
    }
}

simd_fn! {
    /// On this thread.
    pub(crate) fn narrow_f16(s, src: &[f32], dst: &mut [f16]) {
        convert!(src, dst, 0.0, f16::ZERO, |from, to| {
            // SAFETY: arrays of `LANES` values.
            unsafe { s.store_f16(to.as_mut_ptr(), s.load(from.as_ptr())) }
        })
    }
}

simd_fn! {
    /// On this thread.
    pub(crate) fn widen_f16(s, src: &[f16], dst: &mut [f32]) {
        convert!(src, dst, f16::ZERO, 0.0, |from, to| {
            // SAFETY: arrays of `LANES` values.
            unsafe { s.store(to.as_mut_ptr(), s.load_f16(from.as_ptr())) }
        })
    }
}
