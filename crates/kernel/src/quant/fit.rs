//! Blocks that lose little: lines through the values, then steps that hold the lines.

use super::SubBlocks;
use super::codes::IQ4_NL_VALUES;
use super::round::{half, half_outward};
use super::search::{Line, Low, Range, affine, sums, symmetric};

/// What a K format can hold: the range of its integers, of its scales, and the largest minimum.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub codes: Range,
    pub scales: Range,
    pub most_min: f32,
}

/// How often the two steps of a block are fitted to its integers and these to the steps.
const REFITS: usize = 2;

/// A block of a K format with sub-blocks of `M`.
///
/// Each sub-block has its own best line; the extreme ones fix the steps `d` and `dmin`. Then each
/// takes the scale and the minimum, among those next to its line's, that lose least. With all
/// integers chosen, least squares give better steps, and so on while it helps.
#[inline(always)]
pub(super) fn k_block<const M: usize>(x: &[f32], w: &[f32], grid: Grid, into: &mut SubBlocks) {
    let (x, w) = (x.as_chunks::<M>().0, w.as_chunks::<M>().0);
    let mut lines = [Line::default(); 16];
    for (line, (x, w)) in lines.iter_mut().zip(x.iter().zip(w)) {
        *line = if grid.codes.bottom < 0.0 {
            symmetric(x, w, -grid.codes.bottom)
        } else {
            affine(x, w, grid.codes.top, Low::NotAbove)
        };
    }
    let lines = &lines[..x.len()];
    let extreme = |a: f32, line: &Line| if line.scale.abs() > a.abs() { line.scale } else { a };
    let end = if grid.scales.bottom < 0.0 { grid.scales.bottom } else { grid.scales.top };
    let d = half_outward(lines.iter().fold(0.0, extreme) / end);
    let deepest = lines.iter().fold(0.0f32, |a, line| a.max(-line.low));
    let dmin = if grid.most_min > 0.0 { half_outward(deepest / grid.most_min) } else { 0.0 };

    let mut loss = settle(x, w, lines, grid, (d, dmin), into);
    for _ in 0..REFITS {
        let mut next = into.clone();
        let new = settle(x, w, lines, grid, better_steps(x, w, into), &mut next);
        if new < loss {
            (*into, loss) = (next, new);
        } else {
            break;
        }
    }
}

/// Fills a block whose steps are given with the scales, minima and integers that lose least, and
/// says how much that is.
#[inline(always)]
fn settle<const M: usize>(
    x: &[[f32; M]],
    w: &[[f32; M]],
    lines: &[Line],
    grid: Grid,
    (d, dmin): (f32, f32),
    into: &mut SubBlocks,
) -> f32 {
    (into.d, into.dmin) = (d, dmin);
    let mins = Range { bottom: 0.0, top: grid.most_min };
    let steps =
        |size: f32, step: f32, range: Range| if step == 0.0 { 0.0 } else { range.nearest(size / step) };
    let mut total = 0.0;
    for (s, (line, (x, w))) in lines.iter().zip(x.iter().zip(w)).enumerate() {
        let (scale, min) = (steps(line.scale, d, grid.scales), steps(-line.low, dmin, mins));
        let stored = |scale: f32, min: f32| Line { scale: d * scale, low: -(dmin * min) };
        let mut best = (scale, min, f32::INFINITY);
        for scale in [scale, scale - 1.0, scale + 1.0] {
            for min in [min, min - 1.0, min + 1.0] {
                if grid.scales.holds(scale) && mins.holds(min) {
                    let loss = stored(scale, min).loss(x, w, grid.codes);
                    if loss < best.2 {
                        best = (scale, min, loss);
                    }
                }
            }
        }
        let (scale, min, loss) = best;
        (into.scales[s], into.mins[s]) = (scale as i8, min as u8);
        assign(x, stored(scale, min), grid.codes, &mut into.q[s * M..][..M]);
        total += loss;
    }
    total
}

/// The integers nearest to a line, stored from 0 on.
#[inline(always)]
fn assign(x: &[f32], line: Line, codes: Range, q: &mut [u8]) {
    let inverse = line.inverse();
    for (q, &x) in q.iter_mut().zip(x) {
        *q = (line.code(codes, inverse, x) - codes.bottom) as u8;
    }
}

/// The steps that lose least with a block's integers, scales and minima as they are; its own if
/// these don't determine better ones.
///
/// With `a = scale · (q − offset)` and `b = −min`, values are `d · a + dmin · b`.
#[inline(always)]
fn better_steps<const M: usize>(x: &[[f32; M]], w: &[[f32; M]], block: &SubBlocks) -> (f32, f32) {
    let [mut aa, mut ab, mut bb, mut ax, mut bx] = [0.0f32; 5];
    let codes = block.q.as_chunks::<M>().0;
    for (s, ((x, w), q)) in x.iter().zip(w).zip(codes).enumerate() {
        let [sw, sx, sq, sqq, sqx] = sums::<5, M>(|i| {
            let q = f32::from(i16::from(q[i]) - i16::from(block.offset));
            [w[i], w[i] * x[i], w[i] * q, w[i] * q * q, w[i] * q * x[i]]
        });
        let (scale, min) = (f32::from(block.scales[s]), f32::from(block.mins[s]));
        aa += scale * scale * sqq;
        ab -= scale * min * sq;
        bb += min * min * sw;
        ax += scale * sqx;
        bx -= min * sx;
    }
    let determinant = aa * bb - ab * ab;
    if determinant > 0.0 {
        (half((ax * bb - bx * ab) / determinant), half((bx * aa - ax * ab) / determinant))
    } else if aa > 0.0 && bb == 0.0 {
        (half(ax / aa), block.dmin)
    } else {
        (block.d, block.dmin)
    }
}

/// Q4_0 and Q5_0 with weights.
#[inline(always)]
pub(super) fn weighted_symmetric(x: &[f32; 32], w: &[f32; 32], reach: f32, into: &mut SubBlocks) {
    into.d = half(symmetric(x, w, reach).scale);
    let codes = Range { bottom: -reach, top: reach - 1.0 };
    assign(x, Line { scale: into.d, low: 0.0 }, codes, &mut into.q);
}

/// Q4_1 and Q5_1 with weights.
#[inline(always)]
pub(super) fn weighted_affine(x: &[f32; 32], w: &[f32; 32], top: f32, into: &mut SubBlocks) {
    let line = affine(x, w, top, Low::Free);
    (into.d, into.dmin) = (half(line.scale), -half(line.low));
    let stored = Line { scale: into.d, low: -into.dmin };
    assign(x, stored, Range { bottom: 0.0, top }, &mut into.q);
}

/// Halfway between neighbours of [`IQ4_NL_VALUES`], and how far apart they are.
const IQ4_NL_STEPS: [(f32, f32); 15] = {
    let mut steps = [(0.0, 0.0); 15];
    let mut i = 0;
    while i < 15 {
        let (low, high) = (IQ4_NL_VALUES[i] as f32, IQ4_NL_VALUES[i + 1] as f32);
        steps[i] = ((low + high) / 2.0, high - low);
        i += 1;
    }
    steps
};

/// The table's value nearest to `x`; the lowest for NaN.
#[inline(always)]
fn iq4_nl_nearest(x: f32) -> f32 {
    let lowest = f32::from(IQ4_NL_VALUES[0]);
    IQ4_NL_STEPS.iter().fold(lowest, |v, &(middle, step)| v + if x > middle { step } else { 0.0 })
}

/// IQ4_NL: steps that bring the largest value to either end of the table or near it are tried, each
/// followed by least squares.
#[inline(always)]
pub(super) fn iq4_nl(x: &[f32; 32], w: &[f32; 32], into: &mut SubBlocks) {
    let largest = x.iter().copied().fold(0.0f32, |a, x| if x.abs() > a.abs() { x } else { a });
    let inverse = |scale: f32| Line { scale, low: 0.0 }.inverse();
    let loss = |scale: f32| {
        let inverse = inverse(scale);
        let [loss] = sums::<1, 32>(|i| {
            let error = scale * iq4_nl_nearest(x[i] * inverse) - x[i];
            [w[i] * error * error]
        });
        loss
    };
    let plain = largest / f32::from(IQ4_NL_VALUES[0]);
    let mut best = (plain, loss(plain));
    for end in [IQ4_NL_VALUES[0], IQ4_NL_VALUES[15]] {
        for step in -7i8..=7 {
            let inverse = inverse(largest / (f32::from(end) + f32::from(step)));
            let [vv, vx] = sums::<2, 32>(|i| {
                let v = iq4_nl_nearest(x[i] * inverse);
                [w[i] * v * v, w[i] * v * x[i]]
            });
            let scale = vx / vv;
            let new = loss(scale);
            if new < best.1 {
                best = (scale, new);
            }
        }
    }
    into.d = half(best.0);
    let inverse = inverse(into.d);
    for (q, x) in into.q.iter_mut().zip(x) {
        *q = iq4_nl_nearest(x * inverse) as i8 as u8 ^ 0x80;
    }
}
