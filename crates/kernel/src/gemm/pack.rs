//! Packing: B into panels of sixteen columns, blocks of A into rows side by side.
//!
//! A B that is kept may stay in half precision; its panels are widened a piece at a time, in the first-level
//! cache, as they are multiplied.

use super::micro::Block;
use super::{MR, Mat, NR};
use crate::arch::{LANES, simd_fn};
use crate::buffer::{Buffer, Element};
use crate::convert::{narrow_bf16, narrow_f16, widen_bf16, widen_f16};
use crate::pool::{Shards, parallel_chunks_mut, parallel_for};
use crate::quant::{BlockType, dequantize};
use half::{bf16, f16};

/// Panels packed by one task: 128 columns, so that each row of B is read in runs of 512 bytes.
const PANELS_PER_TASK: usize = 8;

/// Rows of B packed before going on to the next panel: panels often lie a multiple of a page apart, and
/// writing to one after another would use a few sets of the first-level cache again and again.
const ROWS_AT_A_TIME: usize = 16;

/// A K×N matrix in panels of `NR` columns, each panel K rows deep, the last one padded with zeros:
/// the layout that the micro-kernel reads front to back.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    data: Values,
    rows: usize,
    cols: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Values {
    Single(Buffer<f32>),
    Half(Buffer<f16>),
    Brain(Buffer<bf16>),
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
        PackedMatrix { data: Values::Single(data), rows: b.rows, cols: b.cols }
    }

    /// Packs a W that lies in a file as rows [outputs, inputs] of a type: B is its transpose. Output `i` is
    /// row `row_of(i)`. Half precision stays half; quantised types become single precision.
    ///
    /// # Panics
    /// If `bytes` isn't as long as it has to be.
    pub fn pack_rows(
        kind: BlockType,
        bytes: &[u8],
        outputs: usize,
        inputs: usize,
        row_of: impl Fn(usize) -> usize + Sync,
    ) -> Self {
        assert_eq!(Some(bytes.len()), kind.bytes_for(outputs * inputs), "{outputs}x{inputs} {}", kind.name());
        let row_bytes = inputs / kind.block_len() * kind.block_bytes();
        Self::pack_panels(kind, inputs, outputs, |i, out| {
            let cols = NR.min(outputs - i * NR);
            let mut rows = Buffer::scratch(cols * inputs);
            for (col, row) in rows.chunks_exact_mut(inputs).enumerate() {
                dequantize(kind, &bytes[row_of(i * NR + col) * row_bytes..][..row_bytes], row);
            }
            pack_serial(Mat::new(&rows, cols, inputs).t(), out);
        })
    }

    /// Packs a W that lies in a file as rows [inputs, outputs] of single or half precision values: B itself.
    ///
    /// # Panics
    /// If `bytes` isn't as long as it has to be, or holds blocks.
    pub fn pack_in_out(kind: BlockType, bytes: &[u8], inputs: usize, outputs: usize) -> Self {
        assert_eq!(Some(bytes.len()), kind.bytes_for(inputs * outputs), "{inputs}x{outputs} {}", kind.name());
        assert_eq!(kind.block_len(), 1, "values one by one, got {}", kind.name());
        let size = kind.block_bytes();
        Self::pack_panels(kind, inputs, outputs, |i, out| {
            let cols = NR.min(outputs - i * NR);
            for (row, out) in out.chunks_exact_mut(NR).enumerate() {
                dequantize(kind, &bytes[(row * outputs + i * NR) * size..][..cols * size], &mut out[..cols]);
                out[cols..].fill(0.0);
            }
        })
    }

    /// Packs with a function that fills panel `i`, in the precision of `kind`.
    fn pack_panels(
        kind: BlockType,
        rows: usize,
        cols: usize,
        panel: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let panel_len = rows * NR;
        let len = cols.div_ceil(NR) * panel_len;
        let data = match kind {
            BlockType::F16 => Values::Half(narrowed(len, panel_len, panel, narrow_f16)),
            BlockType::Bf16 => Values::Brain(narrowed(len, panel_len, panel, narrow_bf16)),
            _ => {
                let mut all = Buffer::scratch(len);
                parallel_chunks_mut(&mut all, panel_len.max(1), panel);
                Values::Single(all)
            }
        };
        PackedMatrix { data, rows, cols }
    }

    /// K.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// N.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The panels, one after another.
    pub(super) fn values(&self) -> &Values {
        &self.data
    }

    /// Whether [`panels`](Self::panels) needs memory to widen into.
    pub(super) fn is_half(&self) -> bool {
        !matches!(self.data, Values::Single(_))
    }

    /// `count` panels from `i` on, `depth` rows of [`NR`] values each from row `row`, and how far apart they
    /// begin. Those in half precision are widened into `memory`.
    pub(super) fn panels<'a>(
        &'a self,
        i: usize,
        count: usize,
        row: usize,
        depth: usize,
        memory: &'a mut [f32],
    ) -> (&'a [f32], usize) {
        let start = |panel: usize| (panel * self.rows + row) * NR;
        if let Values::Single(data) = &self.data {
            return (&data[start(i)..], self.rows * NR);
        }
        for (panel, to) in (i..i + count).zip(memory.chunks_exact_mut(depth * NR)) {
            let from = start(panel)..start(panel) + depth * NR;
            match &self.data {
                Values::Single(_) => {}
                Values::Half(data) => widen_f16(&data[from], to),
                Values::Brain(data) => widen_bf16(&data[from], to),
            }
        }
        (memory, depth * NR)
    }
}

/// Packs panel by panel in single precision, and narrows each.
fn narrowed<T: Element + Send>(
    len: usize,
    panel_len: usize,
    panel: impl Fn(usize, &mut [f32]) + Sync,
    narrow: fn(&[f32], &mut [T]),
) -> Buffer<T> {
    let panels = len.checked_div(panel_len).unwrap_or(0);
    let mut data = Buffer::scratch(len);
    let all = Shards::new(&mut data);
    parallel_for(panels, |i| {
        let mut wide = Buffer::scratch(panel_len);
        panel(i, &mut wide);
        // SAFETY: each panel belongs to one task.
        narrow(&wide, unsafe { all.part(i * panel_len, panel_len) });
    });
    data
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
