//! What the panels of a cache are kept in: single or half precision, or bytes with a scale.

use crate::arch::{LANES, simd_fn};
use crate::buffer::Buffer;
use crate::convert::{narrow_f16, widen_f16};
use crate::gemm::PackedTile;
use half::f16;
use std::ops::Range;

/// Columns of a panel.
pub(super) const PANEL: usize = PackedTile::PANEL;
/// Values that share a scale in [`CacheType::Q8_0`].
const BLOCK: usize = 32;

/// What keys and values are kept in while a sequence lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheType {
    /// As they were computed.
    F32,
    /// IEEE half: half the memory, to eleven bits.
    F16,
    /// Bytes, with a half-precision scale for each 32 of a head (GGUF's Q8_0): about a quarter of the memory.
    Q8_0,
}

impl CacheType {
    /// All of them.
    pub const ALL: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Q8_0];

    /// The name in lower case, as commands take it.
    pub fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::Q8_0 => "q8_0",
        }
    }

    /// Bytes of so many values, in whole blocks.
    pub(super) fn bytes_of(self, values: usize) -> usize {
        match self {
            CacheType::F32 => 4 * values,
            CacheType::F16 => 2 * values,
            CacheType::Q8_0 => values + 2 * values.div_ceil(BLOCK),
        }
    }
}

/// A matrix for each head, in panels: [heads, columns / 16, rows, 16].
#[derive(Clone, Debug)]
pub(super) struct Panels {
    rows: usize,
    cols: usize,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Single(Buffer<f32>),
    Half(Buffer<f16>),
    Quantized { codes: Buffer<i8>, scales: Buffer<f16>, along: Along },
}

/// Which way 32 values with a common scale lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    /// In a column; scales are [heads, columns / 16, rows / 32, 16].
    Column,
    /// In a row, across two panels; scales are [heads, columns / 32, rows].
    Row,
}

impl Panels {
    pub(super) fn new(kind: CacheType, heads: usize, rows: usize, cols: usize, along: Along) -> Self {
        let size = heads * PackedTile::len(rows, cols);
        let values = match kind {
            CacheType::F32 => Values::Single(Buffer::scratch(size)),
            CacheType::F16 => Values::Half(Buffer::scratch(size)),
            CacheType::Q8_0 => Values::Quantized {
                codes: Buffer::scratch(size),
                scales: Buffer::scratch(heads * scales_shape(rows, cols, along).iter().product::<usize>()),
                along,
            },
        };
        Panels { rows, cols, values }
    }

    fn panels(&self) -> usize {
        self.cols.div_ceil(PANEL)
    }

    /// Sets a column of a head's matrix.
    pub(super) fn put_column(&mut self, head: usize, col: usize, x: &[f32]) {
        let panel = head * self.panels() + col / PANEL;
        let (start, lane) = (panel * self.rows * PANEL, col % PANEL);
        match &mut self.values {
            Values::Single(to) => {
                x.iter().enumerate().for_each(|(row, &x)| to[start + row * PANEL + lane] = x)
            }
            Values::Half(to) => {
                let mut halves = [f16::ZERO; BLOCK];
                for (block, x) in x.chunks(BLOCK).enumerate() {
                    narrow_f16(x, &mut halves[..x.len()]);
                    for (row, &half) in halves[..x.len()].iter().enumerate() {
                        to[start + (block * BLOCK + row) * PANEL + lane] = half;
                    }
                }
            }
            Values::Quantized { codes, scales, .. } => {
                for (block, x) in x.chunks(BLOCK).enumerate() {
                    let (scale, quantized) = quantize(x);
                    scales[(panel * self.rows.div_ceil(BLOCK) + block) * PANEL + lane] = scale;
                    for (row, &code) in quantized[..x.len()].iter().enumerate() {
                        codes[start + (block * BLOCK + row) * PANEL + lane] = code;
                    }
                }
            }
        }
    }

    /// Sets a row of a head's matrix.
    pub(super) fn put_row(&mut self, head: usize, row: usize, x: &[f32]) {
        let (panels, rows) = (self.panels(), self.rows);
        let start = |panel: usize| ((head * panels + panel) * rows + row) * PANEL;
        match &mut self.values {
            Values::Single(to) => {
                for (panel, x) in x.chunks(PANEL).enumerate() {
                    to[start(panel)..][..x.len()].copy_from_slice(x);
                }
            }
            Values::Half(to) => {
                for (panel, x) in x.chunks(PANEL).enumerate() {
                    narrow_f16(x, &mut to[start(panel)..][..x.len()]);
                }
            }
            Values::Quantized { codes, scales, .. } => {
                for (block, x) in x.chunks(BLOCK).enumerate() {
                    let (scale, quantized) = quantize(x);
                    scales[(head * panels.div_ceil(BLOCK / PANEL) + block) * rows + row] = scale;
                    for (half, part) in quantized[..x.len()].chunks(PANEL).enumerate() {
                        codes[start(block * (BLOCK / PANEL) + half)..][..part.len()].copy_from_slice(part);
                    }
                }
            }
        }
    }

    /// A part of a head's matrix in single precision; the columns begin with a panel.
    pub(super) fn tile<'a>(
        &'a self,
        head: usize,
        rows: Range<usize>,
        cols: Range<usize>,
        memory: &'a mut [f32],
    ) -> PackedTile<'a> {
        let (panels, of_head) = (self.panels(), self.panels() * self.rows * PANEL);
        if let Values::Single(values) = &self.values {
            let all = PackedTile::of_panels(&values[head * of_head..][..of_head], self.rows, self.cols);
            return all.columns(cols.start, cols.len()).rows(rows.start, rows.len());
        }
        assert!(cols.start.is_multiple_of(PANEL) && cols.end <= self.cols && rows.end <= self.rows);
        let wanted = cols.start / PANEL..cols.end.div_ceil(PANEL);
        for (panel, to) in wanted.zip(memory.chunks_exact_mut((rows.len() * PANEL).max(1))) {
            let first = ((head * panels + panel) * self.rows + rows.start) * PANEL;
            match &self.values {
                Values::Single(_) => unreachable!("returned above"),
                Values::Half(values) => widen_f16(&values[first..][..to.len()], to),
                Values::Quantized { codes, scales, along: Along::Column } => {
                    let blocks = self.rows.div_ceil(BLOCK);
                    let scales = &scales[(head * panels + panel) * blocks * PANEL..][..blocks * PANEL];
                    by_columns(&codes[first..][..to.len()], scales, rows.start, to);
                }
                Values::Quantized { codes, scales, along: Along::Row } => {
                    let block = head * panels.div_ceil(BLOCK / PANEL) + panel / (BLOCK / PANEL);
                    let scales = &scales[block * self.rows + rows.start..][..rows.len()];
                    by_rows(&codes[first..][..to.len()], scales, to);
                }
            }
        }
        PackedTile::of_panels(memory, rows.len(), cols.len())
    }
}

/// Scales of a head: how many panels (or pairs of them), rows and lanes.
fn scales_shape(rows: usize, cols: usize, along: Along) -> [usize; 3] {
    match along {
        Along::Column => [cols.div_ceil(PANEL), rows.div_ceil(BLOCK), PANEL],
        Along::Row => [cols.div_ceil(BLOCK), rows, 1],
    }
}

/// Up to 32 values as bytes, as GGUF's Q8_0 has them: the largest becomes ±127.
fn quantize(x: &[f32]) -> (f16, [i8; BLOCK]) {
    let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut codes = [0; BLOCK];
    codes.iter_mut().zip(x).for_each(|(code, x)| *code = (x * inverse).round() as i8);
    // A value that isn't finite makes the scale so, and is found in the logits.
    let finite = x.iter().all(|x| x.is_finite());
    (if finite { f16::from_f32(scale) } else { f16::NAN }, codes)
}

simd_fn! {
    /// Rows from `first` on, whose scales lie side by side for each 32 of them.
    fn by_columns(s, codes: &[i8], scales: &[f16], first: usize, out: &mut [f32]) {
        for (i, (codes, out)) in codes.chunks_exact(PANEL).zip(out.chunks_exact_mut(PANEL)).enumerate() {
            let scales = &scales[(first + i) / BLOCK * PANEL..][..PANEL];
            for lane in (0..PANEL).step_by(LANES) {
                // SAFETY: all three have sixteen values.
                unsafe {
                    let code = s.load_i8(codes.as_ptr().add(lane));
                    let scale = s.load_f16(scales.as_ptr().add(lane));
                    s.store(out.as_mut_ptr().add(lane), s.mul(code, scale));
                }
            }
        }
    }
}

simd_fn! {
    /// Rows with a scale each.
    fn by_rows(s, codes: &[i8], scales: &[f16], out: &mut [f32]) {
        for ((codes, scale), out) in codes.chunks_exact(PANEL).zip(scales).zip(out.chunks_exact_mut(PANEL)) {
            let scale = s.splat(scale.to_f32());
            for lane in (0..PANEL).step_by(LANES) {
                // SAFETY: both have sixteen values.
                unsafe {
                    let code = s.load_i8(codes.as_ptr().add(lane));
                    s.store(out.as_mut_ptr().add(lane), s.mul(code, scale));
                }
            }
        }
    }
}
