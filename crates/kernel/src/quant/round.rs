//! The formats without sub-blocks, rounded as ggml's reference does: the largest value fixes the
//! step. Blocks come out equal to its, byte for byte.

use super::SubBlocks;
use half::f16;

/// Rounded to half precision, as steps are stored.
#[inline(always)]
pub(super) fn half(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// The next half-precision number that isn't nearer to zero. Near zero these are few, and a step
/// that is too small couldn't reach the largest value.
#[inline(always)]
pub(super) fn half_outward(x: f32) -> f32 {
    let nearest = f16::from_f32(x);
    let inward = nearest.to_f32().abs() < x.abs();
    f16::from_bits(nearest.to_bits() + u16::from(inward)).to_f32()
}

/// One over a step, or 0 for a step of 0.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Q4_0 and Q5_0: the value largest in size becomes `-half_range`, the one code without an opposite.
#[inline(always)]
pub(super) fn symmetric(x: &[f32], half_range: u8, into: &mut SubBlocks) {
    let reach = f32::from(half_range);
    let largest = x.iter().copied().fold(0.0f32, |a, x| if x.abs() > a.abs() { x } else { a });
    let d = largest / -reach;
    let inverse = inverse(d);
    into.d = half(d);
    for (q, x) in into.q.iter_mut().zip(x) {
        *q = ((x * inverse + (reach + 0.5)) as u8).min(2 * half_range - 1);
    }
}

/// Q4_1 and Q5_1: the smallest value becomes 0, the largest `top`.
#[inline(always)]
pub(super) fn affine(x: &[f32], top: u8, into: &mut SubBlocks) {
    let least = x.iter().copied().fold(f32::INFINITY, f32::min);
    let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let d = (most - least) / f32::from(top);
    let inverse = inverse(d);
    (into.d, into.dmin) = (half(d), -half(least));
    for (q, x) in into.q.iter_mut().zip(x) {
        *q = (((x - least) * inverse + 0.5) as u8).min(top);
    }
}

/// Q8_0: the value largest in size becomes 127 or -127. Ties are rounded away from zero.
#[inline(always)]
pub(super) fn eight_bits(x: &[f32], into: &mut SubBlocks) {
    let d = x.iter().fold(0.0f32, |a, x| a.max(x.abs())) / 127.0;
    let inverse = inverse(d);
    into.d = half(d);
    for (q, x) in into.q.iter_mut().zip(x) {
        *q = ((x * inverse).round() as i8 as u8) ^ 0x80;
    }
}
