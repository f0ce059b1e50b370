//! The line through a few values that loses least when they are rounded to a small range of
//! integers: the heart of writing a block.
//!
//! Values `x` with weights `w` become codes `q` in `bottom..=top`; the line `scale · q + low` stands
//! for them, and `Σ w (scale · q + low − x)²` is what is lost. Taking the extremes of `x` for the
//! ends of the range is best for few values and wasteful for many, so lines a little steeper and
//! flatter are tried. For each one the values are rounded to codes, and the codes' own best line is
//! found by least squares. The idea is that of ggml's `make_qkx2_quants` and `make_qx_quants`.

/// What codes stand for: `scale · q + low`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Line {
    pub scale: f32,
    pub low: f32,
}

/// The range of the codes.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub bottom: f32,
    pub top: f32,
}

/// Whether a line's `low` is free, at most zero (the K formats store how far below zero it is), or
/// zero itself.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Low {
    Free,
    NotAbove,
    Zero,
}

/// Lines tried on either side of the one through the extremes. Twice as many, half as far apart,
/// lower the error by less than one part in a thousand.
const STEPS: i16 = 5;
/// How much of a code's width a step moves the end of the range.
const STEP: f32 = 0.2;

/// Sums `N` quantities over `0..M`, in eight lanes for the compiler to keep in vectors.
#[inline(always)]
pub(super) fn sums<const N: usize, const M: usize>(of: impl Fn(usize) -> [f32; N]) -> [f32; N] {
    let mut lanes = [[0.0f32; 8]; N];
    for first in (0..M).step_by(8) {
        for lane in 0..8 {
            let terms = of(first + lane);
            for (lanes, term) in lanes.iter_mut().zip(terms) {
                lanes[lane] += term;
            }
        }
    }
    lanes.map(|l| ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7])))
}

impl Range {
    /// Whether a code is in range.
    #[inline(always)]
    pub(super) fn holds(self, code: f32) -> bool {
        self.bottom <= code && code <= self.top
    }

    /// The code nearest to `x`, ties to even; the bottom for NaN.
    #[inline(always)]
    pub(super) fn nearest(self, x: f32) -> f32 {
        // Beyond this sum's size single precision has no fractions left, so adding rounds.
        const ROUND: f32 = 12_582_912.0;
        (x.max(self.bottom).min(self.top) + ROUND) - ROUND
    }
}

impl Line {
    /// The code for `x`.
    #[inline(always)]
    pub(super) fn code(self, range: Range, inverse: f32, x: f32) -> f32 {
        range.nearest((x - self.low) * inverse)
    }

    /// One over the scale, or 0 where that isn't a number, so that all values get the code nearest 0.
    #[inline(always)]
    pub(super) fn inverse(self) -> f32 {
        let inverse = 1.0 / self.scale;
        if inverse.is_finite() { inverse } else { 0.0 }
    }

    /// What is lost if each value gets its nearest code.
    #[inline(always)]
    pub(super) fn loss<const M: usize>(self, x: &[f32; M], w: &[f32; M], range: Range) -> f32 {
        let inverse = self.inverse();
        let [loss] = sums::<1, M>(|i| {
            let error = self.scale * self.code(range, inverse, x[i]) + self.low - x[i];
            [w[i] * error * error]
        });
        loss
    }

    /// The best line for the codes that this one gives, by weighted least squares; this one where
    /// the codes don't determine another.
    #[inline(always)]
    fn refined<const M: usize>(self, x: &[f32; M], w: &[f32; M], range: Range, low: Low) -> Line {
        let inverse = self.inverse();
        let [sw, sx, sq, sqq, sqx] = sums::<5, M>(|i| {
            let q = self.code(range, inverse, x[i]);
            let wq = w[i] * q;
            [w[i], w[i] * x[i], wq, wq * q, wq * x[i]]
        });
        let determinant = sw * sqq - sq * sq;
        if low != Low::Zero && determinant > 0.0 {
            let line =
                Line { scale: (sw * sqx - sx * sq) / determinant, low: (sqq * sx - sq * sqx) / determinant };
            if low == Low::Free || line.low <= 0.0 {
                return line;
            }
        }
        let through_zero = low != Low::Free && sqq > 0.0;
        if through_zero { Line { scale: sqx / sqq, low: 0.0 } } else { self }
    }

    /// The better of this line, which loses `loss`, and what least squares make of `start`.
    #[inline(always)]
    fn or_better<const M: usize>(
        &mut self,
        loss: &mut f32,
        start: Line,
        (x, w): (&[f32; M], &[f32; M]),
        (range, low): (Range, Low),
    ) {
        let line = start.refined(x, w, range, low);
        let new = line.loss(x, w, range);
        // Scales beside minima have no sign.
        if new < *loss && (low == Low::Zero || line.scale >= 0.0) {
            (*self, *loss) = (line, new);
        }
    }
}

/// A line for codes from 0 to `top` whose start may differ from zero as `low` says. The scale isn't
/// negative. Never worse than the line through the extremes.
#[inline(always)]
pub(super) fn affine<const M: usize>(x: &[f32; M], w: &[f32; M], top: f32, low: Low) -> Line {
    let range = Range { bottom: 0.0, top };
    let least = x.iter().copied().fold(if low == Low::Free { f32::INFINITY } else { 0.0 }, f32::min);
    let span = x.iter().copied().fold(least, f32::max) - least;
    let mut best = Line { scale: span / top, low: least };
    if span <= 0.0 {
        return best;
    }
    let mut loss = best.loss(x, w, range);
    for step in -STEPS..=STEPS {
        let start = Line { scale: span / (top + STEP * f32::from(step)), low: least };
        best.or_better(&mut loss, start, (x, w), (range, low));
    }
    best.or_better(&mut loss, best, (x, w), (range, low));
    best
}

/// A line through zero for codes from `-half` to `half - 1`. The scale may have either sign: the
/// largest value gets the lowest code, the only one that has no opposite. Never worse than exactly
/// that.
#[inline(always)]
pub(super) fn symmetric<const M: usize>(x: &[f32; M], w: &[f32; M], half: f32) -> Line {
    let range = Range { bottom: -half, top: half - 1.0 };
    let largest = x.iter().copied().fold(0.0f32, |a, x| if x.abs() > a.abs() { x } else { a });
    let mut best = Line { scale: largest / -half, low: 0.0 };
    if largest == 0.0 {
        return best;
    }
    let mut loss = best.loss(x, w, range);
    for step in -STEPS..=STEPS {
        let start = Line { scale: -largest / (half + STEP * f32::from(step)), low: 0.0 };
        best.or_better(&mut loss, start, (x, w), (range, Low::Zero));
    }
    best.or_better(&mut loss, best, (x, w), (range, Low::Zero));
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONES: [f32; 16] = [1.0; 16];

    #[test]
    fn values_on_a_line_are_found_exactly() {
        let x: [f32; 16] = std::array::from_fn(|i| 0.5 * (i as f32) - 2.0);
        assert_eq!(affine(&x, &ONES, 15.0, Low::NotAbove), Line { scale: 0.5, low: -2.0 });
        let x = x.map(|x| x + 5.0);
        assert_eq!(affine(&x, &ONES, 15.0, Low::Free), Line { scale: 0.5, low: 3.0 });
        let x: [f32; 16] = std::array::from_fn(|i| 0.25 * (i as f32 - 8.0));
        assert_eq!(symmetric(&x, &ONES, 8.0), Line { scale: 0.25, low: 0.0 });
    }

    #[test]
    fn a_weight_draws_the_line_to_its_value() {
        let x: [f32; 16] = std::array::from_fn(|i| (i as f32 * 1.7).sin());
        for heavy in 0..16 {
            let mut w = ONES;
            w[heavy] = 1e4;
            let error = |line: Line, range: Range| {
                (line.scale * line.code(range, line.inverse(), x[heavy]) + line.low - x[heavy]).abs()
            };
            let range = Range { bottom: 0.0, top: 3.0 };
            assert!(error(affine(&x, &w, 3.0, Low::NotAbove), range) < 0.01, "value {heavy}");
            let range = Range { bottom: -4.0, top: 3.0 };
            assert!(error(symmetric(&x, &w, 4.0), range) < 0.01, "value {heavy}");
        }
    }

    #[test]
    fn equal_values_and_zeros_have_a_line() {
        for value in [0.0, 1.0, -1.0] {
            let x = [value; 16];
            for low in [Low::Free, Low::NotAbove] {
                let line = affine(&x, &ONES, 15.0, low);
                assert!(line.loss(&x, &ONES, Range { bottom: 0.0, top: 15.0 }) < 1e-12, "{value}");
            }
            let line = symmetric(&x, &ONES, 32.0);
            assert!(line.loss(&x, &ONES, Range { bottom: -32.0, top: 31.0 }) < 1e-12, "{value}");
        }
    }
}
