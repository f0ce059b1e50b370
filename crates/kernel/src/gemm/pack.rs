//! Packing: B into panels of sixteen columns, blocks of A into rows side by side.

use super::micro::Block;
use super::{MR, Mat, NR};
use crate::arch::{LANES, simd_fn};
use crate::buffer::Buffer;
use crate::pool::parallel_chunks_mut;

/// Panels packed by one task: 128 columns, so that each row of B is read in runs of 512 bytes.
const PANELS_PER_TASK: usize = 8;

/// Rows of B packed before going on to the next panel: panels often lie a multiple of a page apart, and
/// writing to one after another would use a few sets of the first-level cache again and again.
const ROWS_AT_A_TIME: usize = 16;

/// A K×N matrix in panels of `NR` columns, each panel K rows deep, the last one padded with zeros:
/// the layout that the micro-kernel reads front to back.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    data: Buffer<f32>,
    rows: usize,
    cols: usize,
}

impl PackedMatrix {
    /// Packs `b`.
    pub fn pack(b: Mat) -> Self {
        let panel_len = b.rows * NR;
        let panels = b.cols.div_ceil(NR);
        let mut data = Buffer::scratch(panels * panel_len);
        parallel_chunks_mut(&mut data, (PANELS_PER_TASK * panel_len).max(1), |task, chunk| {
            let first = task * PANELS_PER_TASK * NR;
            let cols = (PANELS_PER_TASK * NR).min(b.cols - first);
            pack_serial(b.columns(first, cols), chunk);
        });
        PackedMatrix { data, rows: b.rows, cols: b.cols }
    }

    /// K.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// N.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Panels from `i` on, each K rows of [`NR`] values, the first one from row `row`.
    pub(super) fn panels(&self, i: usize, row: usize) -> &[f32] {
        &self.data[(i * self.rows + row) * NR..]
    }
}

/// Packs `b` on this thread.
pub(super) fn pack_serial(b: Mat, out: &mut [f32]) {
    if b.row_major() {
        pack_panels(b.data, b.row_stride, b.rows, b.cols, out);
    } else {
        pack_panels_transposed(b.data, b.col_stride, b.rows, b.cols, out);
    }
}

simd_fn! {
    /// Packs rows that are contiguous in memory.
    fn pack_panels(s, b: &[f32], row_stride: usize, rows: usize, cols: usize, out: &mut [f32]) {
        let (full, rest) = (cols / NR, cols % NR);
        assert!(rows == 0 || (rows - 1) * row_stride + cols <= b.len());
        assert!(out.len() >= cols.div_ceil(NR) * rows * NR);
        for start in (0..rows).step_by(ROWS_AT_A_TIME) {
            let some = start..(start + ROWS_AT_A_TIME).min(rows);
            for panel in 0..full {
                for row in some.clone() {
                    // SAFETY: `panel` is a full one, so sixteen columns from `panel * NR` on are in `b`
                    // and the row of the panel is in `out` by the assertions above.
                    unsafe {
                        let from = b.as_ptr().add(row * row_stride + panel * NR);
                        let to = out.as_mut_ptr().add((panel * rows + row) * NR);
                        s.store(to, s.load(from));
                        s.store(to.add(LANES), s.load(from.add(LANES)));
                    }
                }
            }
            for row in some.filter(|_| rest > 0) {
                let to = &mut out[(full * rows + row) * NR..][..NR];
                to[..rest].copy_from_slice(&b[row * row_stride + full * NR..][..rest]);
                to[rest..].fill(0.0);
            }
        }
    }
}

simd_fn! {
    /// Packs columns that are contiguous in memory: eight by eight through registers.
    fn pack_panels_transposed(s, b: &[f32], col_stride: usize, rows: usize, cols: usize, out: &mut [f32]) {
        assert!(cols == 0 || (cols - 1) * col_stride + rows <= b.len());
        assert!(out.len() >= cols.div_ceil(NR) * rows * NR);
        for group in (0..cols).step_by(LANES) {
            let to = &mut out[group / NR * rows * NR..][..rows * NR];
            let offset = group % NR;
            let width = LANES.min(cols - group);
            let mut row = 0;
            if width == LANES {
                while row + LANES <= rows {
                    // SAFETY: columns `group..group+8` and rows `row..row+8` are in `b` by the
                    // assertion; `to` has sixteen columns a row and `offset` is 0 or 8.
                    unsafe {
                        let tile = std::array::from_fn(|i| s.load(b.as_ptr().add((group + i) * col_stride + row)));
                        for (i, v) in s.transpose(tile).into_iter().enumerate() {
                            s.store(to.as_mut_ptr().add((row + i) * NR + offset), v);
                        }
                    }
                    row += LANES;
                }
            }
            for row in row..rows {
                let line = &mut to[row * NR + offset..][..LANES];
                for (i, x) in line.iter_mut().enumerate() {
                    *x = if i < width { b[(group + i) * col_stride + row] } else { 0.0 };
                }
            }
            if group + LANES >= cols && offset == 0 {
                // The upper half of the last panel has no columns at all.
                to.chunks_exact_mut(NR).for_each(|line| line[LANES..].fill(0.0));
            }
        }
    }
}

/// Copies a block of a row-major A, so that its rows share cache sets and pages no longer.
pub(super) fn pack_rows<'s>(
    a: Mat,
    row: usize,
    rows: usize,
    k0: usize,
    depth: usize,
    scratch: &'s mut [f32],
) -> Block<'s> {
    for (i, to) in scratch.chunks_exact_mut(depth).take(rows).enumerate() {
        let start = (row + i) * a.row_stride + k0;
        to.copy_from_slice(&a.data[start..start + depth]);
    }
    Block { data: scratch, row_stride: depth, depth_stride: 1, panel_stride: MR * depth }
}

/// Packs a block of a column-major A: panels of [`MR`] rows, each `depth` deep.
pub(super) fn pack_transposed_rows<'s>(
    a: Mat,
    row: usize,
    rows: usize,
    k0: usize,
    depth: usize,
    scratch: &'s mut [f32],
) -> Block<'s> {
    let (full, rest) = (rows / MR, rows % MR);
    for k in 0..depth {
        let from = &a.data[(k0 + k) * a.col_stride + row..][..rows];
        let at = |panel: usize| (panel * depth + k) * MR;
        for (panel, from) in from.chunks_exact(MR).enumerate() {
            scratch[at(panel)..][..MR].copy_from_slice(from);
        }
        if rest > 0 {
            scratch[at(full)..][..rest].copy_from_slice(&from[full * MR..]);
        }
    }
    Block { data: scratch, row_stride: 1, depth_stride: MR, panel_stride: MR * depth }
}
