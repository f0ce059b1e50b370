//! Products of tiles that fit the caches, on the calling thread: for kernels that have their own tasks
//! and keep their operands packed, such as attention.

use super::micro::{Block, Panels, Tile, panels_at_a_time, run_block};
use super::pack::pack_serial;
use super::{Mat, MatMut, NR, Write};

/// A matrix in panels, in memory of the caller's.
#[derive(Clone, Copy)]
pub(crate) struct PackedTile<'a> {
    data: &'a [f32],
    rows: usize,
    first: usize,
    depth: usize,
    cols: usize,
}

impl<'a> PackedTile<'a> {
    /// Columns of a panel.
    pub(crate) const PANEL: usize = NR;

    /// A matrix that lies in panels already.
    pub(crate) fn of_panels(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert!(data.len() >= Self::len(rows, cols), "{rows}x{cols} in panels");
        PackedTile { data, rows, first: 0, depth: rows, cols }
    }

    /// How much memory a matrix takes, in values.
    pub(crate) fn len(rows: usize, cols: usize) -> usize {
        rows * cols.next_multiple_of(NR)
    }

    /// Packs `b`.
    pub(crate) fn pack(b: Mat, memory: &'a mut [f32]) -> Self {
        let memory = &mut memory[..Self::len(b.rows, b.cols)];
        pack_serial(b, memory);
        PackedTile { data: memory, rows: b.rows, first: 0, depth: b.rows, cols: b.cols }
    }

    /// N.
    pub(crate) fn n_cols(&self) -> usize {
        self.cols
    }

    /// Rows `first..first + depth`.
    pub(crate) fn rows(self, first: usize, depth: usize) -> Self {
        assert!(first + depth <= self.depth);
        PackedTile { first: self.first + first, depth, ..self }
    }

    /// Columns `first..first + cols`, where `first` begins a panel.
    pub(crate) fn columns(self, first: usize, cols: usize) -> Self {
        assert!(first.is_multiple_of(NR) && first + cols <= self.cols);
        PackedTile { data: &self.data[first * self.rows..], cols, ..self }
    }
}

/// `C = A·B` or `C += A·B`, each element one chain of multiply-adds as in [`gemm`](super::gemm).
pub(crate) fn gemm_tile(a: Mat, b: PackedTile, c: MatMut, write: Write) {
    assert_eq!((a.rows, a.cols, b.cols), (c.rows, b.depth, c.cols), "a product of tiles");
    if a.cols == 0 {
        if write == Write::Overwrite {
            (0..c.rows).for_each(|i| c.data[i * c.row_stride..][..c.cols].fill(0.0));
        }
        return;
    }
    let block = Block::in_place(a, 0, 0, a.cols);
    let together = panels_at_a_time() * NR;
    for col in (0..b.cols).step_by(together) {
        let cols = together.min(b.cols - col);
        let panels =
            Panels { data: &b.data[col * b.rows + b.first * NR..], depth: b.depth, stride: b.rows * NR };
        let tile = Tile {
            c: c.data[col..].as_mut_ptr(),
            c_stride: c.row_stride,
            rows: c.rows,
            cols,
            bias: None,
            activation: None,
            pre_activation: None,
            pre_stride: 0,
        };
        // SAFETY: C is borrowed mutably and holds rows and columns by its constructor; A and the panels
        // are as deep as each other by the assertion.
        unsafe { run_block(&block, &panels, &tile, write == Write::Accumulate, true) };
    }
}
