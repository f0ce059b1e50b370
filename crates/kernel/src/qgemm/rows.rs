//! Rows of x in eight bits, a scale for each block of 32 values.

use super::{BLOCK, GROUP};
use crate::arch::{LANES, simd_fn};
use crate::buffer::Buffer;
use crate::pool::{Shards, parallel_for};

/// Rows that lie interleaved, four values of each at a time.
pub(super) const WIDTH: usize = 4;
/// Rows quantised by one task.
const ROWS_PER_TASK: usize = 4 * WIDTH;
/// Blocks whose largest value is below count as zeros: its reciprocal would overflow.
const TINY: f32 = 1e-30;

/// Rows of x: `x ≈ scale · code` with codes in -127..=127.
///
/// A block with a value that isn't finite gets a scale that is NaN, so that it shows in the result.
#[derive(Debug)]
pub struct QuantizedRows {
    rows: usize,
    cols: usize,
    codes: Buffer<i8>,
    /// One a block.
    scales: Buffer<f32>,
    /// Sums of codes, negated: one a block.
    sums: Buffer<i32>,
    /// The same for each half of a block.
    half_sums: Buffer<i32>,
    /// `scale · sum of codes`: one a block.
    totals: Buffer<f32>,
    /// The same for each half of a block.
    half_totals: Buffer<f32>,
}

/// Some rows: `groups` times `width` interleaved ones.
#[derive(Clone, Copy)]
pub(super) struct RowTile<'a> {
    pub(super) groups: usize,
    pub(super) width: usize,
    /// Blocks along k.
    pub(super) blocks: usize,
    /// [groups, blocks, 8, width, 4]
    pub(super) codes: &'a [i8],
    /// [groups, blocks, width]
    pub(super) scales: &'a [f32],
    /// [groups, blocks, width]
    pub(super) sums: &'a [i32],
    /// [groups, blocks, 2, width]
    pub(super) half_sums: &'a [i32],
    /// [groups, blocks, width]
    pub(super) totals: &'a [f32],
    /// [groups, blocks, 2, width]
    pub(super) half_totals: &'a [f32],
}

impl QuantizedRows {
    /// Room for nothing yet.
    pub fn new() -> Self {
        QuantizedRows {
            rows: 0,
            cols: 0,
            codes: Buffer::scratch(0),
            scales: Buffer::scratch(0),
            sums: Buffer::scratch(0),
            half_sums: Buffer::scratch(0),
            totals: Buffer::scratch(0),
            half_totals: Buffer::scratch(0),
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Takes in `x`, rows of `cols` values.
    ///
    /// # Panics
    /// If `cols` isn't a multiple of 32, or `x` isn't whole rows.
    pub fn quantize(&mut self, x: &[f32], cols: usize) {
        assert!(cols > 0 && cols.is_multiple_of(BLOCK), "rows of {cols} values aren't blocks of {BLOCK}");
        assert!(x.len().is_multiple_of(cols), "{} values aren't rows of {cols}", x.len());
        let (rows, blocks) = (x.len() / cols, cols / BLOCK);
        (self.rows, self.cols) = (rows, cols);
        if self.codes.len() < x.len() {
            self.codes = Buffer::scratch(x.len());
            self.scales = Buffer::scratch(rows * blocks);
            self.sums = Buffer::scratch(rows * blocks);
            self.totals = Buffer::scratch(rows * blocks);
            self.half_sums = Buffer::scratch(2 * rows * blocks);
            self.half_totals = Buffer::scratch(2 * rows * blocks);
        }
        let (codes, scales) = (Shards::new(&mut self.codes), Shards::new(&mut self.scales));
        let (sums, half_sums) = (Shards::new(&mut self.sums), Shards::new(&mut self.half_sums));
        let (totals, half_totals) = (Shards::new(&mut self.totals), Shards::new(&mut self.half_totals));
        parallel_for(rows.div_ceil(ROWS_PER_TASK), |task| {
            let mut row = task * ROWS_PER_TASK;
            let end = (row + ROWS_PER_TASK).min(rows);
            while row < end {
                let width = width_at(row, rows);
                let (first, of_tile) = (row * blocks, width * blocks);
                // SAFETY: a group of rows belongs to one task, and each array has a row's part for each.
                let mut out = unsafe {
                    Out {
                        width,
                        codes: codes.part(row * cols, width * cols),
                        scales: scales.part(first, of_tile),
                        sums: sums.part(first, of_tile),
                        half_sums: half_sums.part(2 * first, 2 * of_tile),
                        totals: totals.part(first, of_tile),
                        half_totals: half_totals.part(2 * first, 2 * of_tile),
                    }
                };
                for r in 0..width {
                    quantize_row(&x[(row + r) * cols..][..cols], r, &mut out);
                }
                row += width;
            }
        });
    }

    /// The tile that begins at `row`, of at most `most` rows.
    pub(super) fn tile(&self, row: usize, most: usize) -> RowTile<'_> {
        let width = width_at(row, self.rows);
        let whole = (self.rows - row) / WIDTH;
        let groups = if width == WIDTH { whole.min(most / WIDTH) } else { 1 };
        let blocks = self.cols / BLOCK;
        let (first, count) = (row * blocks, groups * width * blocks);
        RowTile {
            groups,
            width,
            blocks,
            codes: &self.codes[row * self.cols..][..count * BLOCK],
            scales: &self.scales[first..][..count],
            sums: &self.sums[first..][..count],
            half_sums: &self.half_sums[2 * first..][..2 * count],
            totals: &self.totals[first..][..count],
            half_totals: &self.half_totals[2 * first..][..2 * count],
        }
    }
}

impl Default for QuantizedRows {
    fn default() -> Self {
        Self::new()
    }
}

/// How many rows are interleaved from `row` on: four while there are as many, then two, then one.
fn width_at(row: usize, rows: usize) -> usize {
    match rows - row {
        0 | 1 => 1,
        2 | 3 => 2,
        _ => WIDTH,
    }
}

/// A group of interleaved rows, to be written.
struct Out<'a> {
    width: usize,
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
    half_sums: &'a mut [i32],
    totals: &'a mut [f32],
    half_totals: &'a mut [f32],
}

fn quantize_row(x: &[f32], r: usize, out: &mut Out) {
    let width = out.width;
    let mut codes = [0i8; BLOCK];
    for (block, x) in x.chunks_exact(BLOCK).enumerate() {
        let scale = quantize_block(x, &mut codes);
        let sum = |part: &[i8]| part.iter().map(|&c| i32::from(c)).sum::<i32>();
        let halves = [sum(&codes[..BLOCK / 2]), sum(&codes[BLOCK / 2..])];
        let groups = BLOCK / GROUP;
        for (g, four) in codes.chunks_exact(GROUP).enumerate() {
            out.codes[((block * groups + g) * width + r) * GROUP..][..GROUP].copy_from_slice(four);
        }
        let at = block * width + r;
        out.scales[at] = scale;
        out.sums[at] = -(halves[0] + halves[1]);
        out.totals[at] = scale * (halves[0] + halves[1]) as f32;
        for (part, half) in halves.into_iter().enumerate() {
            let at = (2 * block + part) * width + r;
            out.half_sums[at] = -half;
            out.half_totals[at] = scale * half as f32;
        }
    }
}

simd_fn! {
    /// Codes of 32 values; returns their scale.
    fn quantize_block(s, x: &[f32], codes: &mut [i8; BLOCK]) -> f32 {
        assert_eq!(x.len(), BLOCK);
        let zero = s.splat(0.0);
        let (mut largest, mut probe) = (zero, zero);
        let mut v = [zero; BLOCK / LANES];
        for (i, v) in v.iter_mut().enumerate() {
            // SAFETY: `x` has 32 values by the assertion.
            *v = unsafe { s.load(x.as_ptr().add(i * LANES)) };
            largest = s.max(s.abs(*v), largest);
            // Infinity and NaN times zero are NaN, and stay in the sum.
            probe = s.fma(*v, zero, probe);
        }
        let (largest, probe) = (s.largest(largest), s.sum(probe));
        if !(largest >= TINY && probe == 0.0) {
            codes.fill(0);
            return if probe == 0.0 { 0.0 } else { f32::NAN };
        }
        let inverse = s.splat(127.0 / largest);
        let mut rounded = [0f32; BLOCK];
        for (i, v) in v.into_iter().enumerate() {
            // SAFETY: `rounded` has 32 values.
            unsafe { s.store(rounded.as_mut_ptr().add(i * LANES), s.round(s.mul(v, inverse))) };
        }
        for (code, x) in codes.iter_mut().zip(rounded) {
            // SAFETY: finite, and at most 127 from zero up to a rounding that `round` took away.
            *code = unsafe { x.to_int_unchecked::<i32>() } as i8;
        }
        largest / 127.0
    }
}
