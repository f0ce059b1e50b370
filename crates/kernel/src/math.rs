//! Elementary functions over vectors: exponential, logistic, hyperbolic tangent, the normal
//! distribution. Errors are stated in units that a test checks against `f64`.

use crate::arch::Simd;

/// `e^x`, within 2 units in the last place for `x` in -87..=88; below that it goes to zero
/// gracefully, above it saturates near the largest float.
///
/// Range reduction by `x = n ln 2 + r`, then a degree-6 polynomial in `r` (Cody & Waite 1980).
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.max(s.min(x, s.splat(88.0)), s.splat(-87.3));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts: the first has few enough bits that n times it is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    // Taylor coefficients; on |r| <= ln2/2 the truncated tail is below half a unit.
    let mut p = s.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = s.fma(p, r, s.splat(c));
    }
    s.mul(p, s.exp2i(n))
}

/// The logistic function `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.neg(x))))
}

/// `tanh x`, within 3e-7 relative.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    let e = exp(s, s.add(x, x));
    let large = s.sub(one, s.div(s.splat(2.0), s.add(e, one)));
    // Near zero the subtraction would cancel: the odd Taylor series instead.
    let x2 = s.mul(x, x);
    let mut p = s.splat(-1382.0 / 155_925.0);
    for c in [62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0] {
        p = s.fma(p, x2, s.splat(c));
    }
    s.select_lt(x2, s.splat(0.09), s.mul(x, p), large)
}

/// The standard normal distribution: `(Φ(x), φ(x))`, each within 2e-7 absolute.
///
/// Φ by the complementary error function of Abramowitz & Stegun 7.1.26, whose exponential is also
/// the density's, so that GELU and its derivative cost one `exp`.
#[inline(always)]
pub(crate) fn normal<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let z = s.mul(s.abs(x), s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let e = exp(s, s.neg(s.mul(z, z)));
    let t = s.div(s.splat(1.0), s.fma(z, s.splat(0.327_591_1), s.splat(1.0)));
    let mut p = s.splat(1.061_405_4);
    for c in [-1.453_152, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        p = s.fma(p, t, s.splat(c));
    }
    let upper = s.mul(s.mul(s.splat(0.5), s.mul(p, t)), e);
    let cdf = s.select_lt(x, s.splat(0.0), upper, s.sub(s.splat(1.0), upper));
    (cdf, s.mul(e, s.splat(0.398_942_3)))
}
