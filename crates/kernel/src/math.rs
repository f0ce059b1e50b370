//! Elementary functions over vectors: exponential, logistic, hyperbolic tangent, the normal
//! distribution. The stated errors are checked against `f64` below. A NaN stays NaN throughout.

use crate::arch::Simd;

/// Below this [`exp`] is zero: `e^x` would leave the normal numbers.
const EXP_LOWEST: f32 = -87.3;
/// From here on [`exp`] saturates.
const EXP_HIGHEST: f32 = 88.0;

/// `e^x` within 2 units in the last place for `x` in -87.3..=88; 0 below that, which makes
/// `e^-inf` exact; above it saturates at `e^88`, 1.7e38. For the whole range see [`exp_unbounded`].
///
/// Range reduction by `x = n ln 2 + r`, then a degree-7 polynomial in `r` (Cody & Waite 1980).
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // A NaN passes as the second operand.
    let lowest = s.splat(EXP_LOWEST);
    let bounded = s.max(lowest, s.min(s.splat(EXP_HIGHEST), x));
    let n = s.round(s.mul(bounded, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts: the first has few enough bits that n times it is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), bounded);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    // Taylor coefficients; on |r| <= ln2/2 the truncated tail is below half a unit.
    let mut p = s.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = s.fma(p, r, s.splat(c));
    }
    s.select_lt(x, lowest, s.splat(0.0), s.mul(p, s.exp2i(n)))
}

/// `e^x` within 5 units in the last place wherever that is a normal number, and infinite where it
/// is beyond `f32`: the square of `e^(x/2)` runs through the whole range.
#[inline(always)]
pub(crate) fn exp_unbounded<S: Simd>(s: S, x: S::V) -> S::V {
    let root = exp(s, s.mul(x, s.splat(0.5)));
    s.mul(root, root)
}

/// The logistic function `1 / (1 + e^-x)`, within 3e-7 relative for `x >= -87`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.neg(x))))
}

/// `tanh x`, within 5e-7 relative.
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

/// The standard normal distribution: `(Φ(x), φ(x))`, within 3e-7 and 1e-7 absolute.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{Isa, simd_fn, with_isa};
    use crate::lanes::{read, vectors, write};

    simd_fn! {
        fn exp_all(s, x: &[f32], y: &mut [f32]) {
            vectors!(y.len(), |i, n| write(s, y, i, n, exp(s, read(s, x, i, n))));
        }
    }
    simd_fn! {
        fn exp_unbounded_all(s, x: &[f32], y: &mut [f32]) {
            vectors!(y.len(), |i, n| write(s, y, i, n, exp_unbounded(s, read(s, x, i, n))));
        }
    }
    simd_fn! {
        fn sigmoid_all(s, x: &[f32], y: &mut [f32]) {
            vectors!(y.len(), |i, n| write(s, y, i, n, sigmoid(s, read(s, x, i, n))));
        }
    }
    simd_fn! {
        fn tanh_all(s, x: &[f32], y: &mut [f32]) {
            vectors!(y.len(), |i, n| write(s, y, i, n, tanh(s, read(s, x, i, n))));
        }
    }
    simd_fn! {
        fn cdf_all(s, x: &[f32], y: &mut [f32]) {
            vectors!(y.len(), |i, n| write(s, y, i, n, normal(s, read(s, x, i, n)).0));
        }
    }
    simd_fn! {
        fn pdf_all(s, x: &[f32], y: &mut [f32]) {
            vectors!(y.len(), |i, n| write(s, y, i, n, normal(s, read(s, x, i, n)).1));
        }
    }

    /// Evenly spaced points and, around zero, points closer and closer to it.
    fn grid(lo: f32, hi: f32) -> Vec<f32> {
        let steps = 400_000;
        let even = (0..=steps).map(|i| lo + (hi - lo) * (i as f32 / steps as f32));
        let near_zero = (0..2000).flat_map(|i| {
            let x = 2f32.powf(-i as f32 / 40.0);
            [x, -x]
        });
        even.chain(near_zero.filter(|x| (lo..=hi).contains(x))).collect()
    }

    fn evaluate(f: fn(&[f32], &mut [f32]), isa: Isa, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        with_isa(isa, || f(x, &mut y));
        y
    }

    /// The largest error over the grid, by `error(got, want)`, is at most `bound`.
    fn check(
        f: fn(&[f32], &mut [f32]),
        truth: fn(f64) -> f64,
        (lo, hi): (f32, f32),
        error: fn(f64, f64) -> f64,
        bound: f64,
    ) {
        let x = grid(lo, hi);
        for isa in Isa::available() {
            let y = evaluate(f, isa, &x);
            let errors = x.iter().zip(&y).map(|(&x, &y)| (error(f64::from(y), truth(f64::from(x))), x));
            let worst = errors.fold((0.0, 0.0), |a, b| if b.0 > a.0 || b.0.is_nan() { b } else { a });
            println!("{isa:?}: worst error {:.3e} at {}", worst.0, worst.1);
            assert!(
                worst.0 <= bound,
                "{isa:?}: error {:e} at {}, expected at most {bound:e}",
                worst.0,
                worst.1
            );
        }
    }

    /// In units of the last place of the wanted value.
    fn units(got: f64, want: f64) -> f64 {
        let ulp = 2f64.powi(want.abs().log2().floor() as i32 - 23);
        (got - want).abs() / ulp
    }

    fn relative(got: f64, want: f64) -> f64 {
        if want == 0.0 { got.abs() } else { ((got - want) / want).abs() }
    }

    fn absolute(got: f64, want: f64) -> f64 {
        (got - want).abs()
    }

    /// Φ by Simpson's rule from 0, exact to about 1e-13.
    fn normal_cdf(x: f64) -> f64 {
        let steps = 2 * (10.0 * x.abs()).ceil().max(10.0) as usize;
        let h = x / steps as f64;
        let weight = |i: usize| if i == 0 || i == steps { 1.0 } else { 2.0 + 2.0 * (i % 2) as f64 };
        0.5 + h / 3.0 * (0..=steps).map(|i| weight(i) * normal_pdf(i as f64 * h)).sum::<f64>()
    }

    fn normal_pdf(x: f64) -> f64 {
        (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    #[test]
    fn exp_is_within_two_units() {
        check(exp_all, f64::exp, (EXP_LOWEST, EXP_HIGHEST), units, 2.0);
    }

    #[test]
    fn unbounded_exp_is_within_five_units() {
        check(exp_unbounded_all, f64::exp, (-87.3, 88.7), units, 5.0);
    }

    #[test]
    fn sigmoid_is_within_its_bound() {
        check(sigmoid_all, |x| 1.0 / (1.0 + (-x).exp()), (-87.0, 87.0), relative, 3e-7);
    }

    #[test]
    fn tanh_is_within_its_bound() {
        check(tanh_all, f64::tanh, (-20.0, 20.0), relative, 5e-7);
    }

    #[test]
    fn the_normal_distribution_is_within_its_bound() {
        check(cdf_all, normal_cdf, (-9.0, 9.0), absolute, 3e-7);
        check(pdf_all, normal_pdf, (-9.0, 9.0), absolute, 1e-7);
    }

    #[test]
    fn specials_go_where_they_should() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let x = [-inf, inf, nan, 0.0, -0.0, -1e4, 1e4, f32::MIN_POSITIVE, 1e-45];
        for isa in Isa::available() {
            let at = |f: fn(&[f32], &mut [f32])| evaluate(f, isa, &x);
            let (e, u, g, t, c, p) =
                (at(exp_all), at(exp_unbounded_all), at(sigmoid_all), at(tanh_all), at(cdf_all), at(pdf_all));
            for (name, y) in
                [("exp", &e), ("unbounded", &u), ("sigmoid", &g), ("tanh", &t), ("cdf", &c), ("pdf", &p)]
            {
                assert!(y[2].is_nan(), "{isa:?}: {name} of NaN is {}", y[2]);
                assert!(y.iter().enumerate().all(|(i, v)| i == 2 || !v.is_nan()), "{isa:?}: {name} is {y:?}");
            }
            assert_eq!((e[0], e[3], e[4], e[5]), (0.0, 1.0, 1.0, 0.0));
            assert!(e[1].is_finite() && e[1] > 1.6e38);
            assert_eq!((u[0], u[1], u[3], u[5], u[6]), (0.0, inf, 1.0, 0.0, inf));
            assert!(g[0] < 1e-38 && g[1] == 1.0 && g[3] == 0.5);
            assert_eq!((t[0], t[1], t[3], t[7]), (-1.0, 1.0, 0.0, f32::MIN_POSITIVE));
            assert_eq!((c[0], c[1]), (0.0, 1.0));
            assert!((c[3] - 0.5).abs() < 1e-7);
            assert_eq!((p[0], p[1]), (0.0, 0.0));
        }
    }
}
