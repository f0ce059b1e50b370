//! Matrix products: `C = A·B` or `C += A·B` for all transposes, with fused epilogues.
//!
//! B is packed into panels of `NR` columns, A is read in blocks of rows, and a micro-kernel keeps
//! an `MR`×`NR` tile of C in registers (Goto & van de Geijn 2008; BLIS, Van Zee & van de Geijn 2015).
//! Each element of C is one chain of multiply-adds over k = 0, 1, …, K-1, whatever the blocking, the
//! number of rows or the number of threads: a row's result doesn't depend on its company.

mod micro;
mod pack;
mod thin;
mod tile;
#[cfg(target_arch = "x86_64")]
mod wide;

use crate::activation::Activation;
use crate::buffer::Buffer;
use crate::pool::{self, Shards, parallel_for};
use micro::{Block, Panels, Tile, panels_at_a_time, run_block};
pub use pack::PackedMatrix;
use pack::{pack_rows, pack_transposed_rows};
pub(crate) use tile::{PackedTile, gemm_tile};

/// Rows of a panel of packed A: one or two register tiles.
const MR: usize = 12;
/// Columns of a panel of packed B.
const NR: usize = 2 * crate::arch::LANES;
/// Depth of a block: the tile's rows of A (24 KB) stay in the first-level cache, the panels of B (32 KB each)
/// in the second: a wide tile reads 128 bytes of B for twelve cycles of multiply-adds. What is added up in
/// one go needn't be read from C again.
const KC: usize = 512;
/// Most rows in a block of A: with [`KC`], 192 KB in the second-level cache.
const MC: usize = 96;
/// Most columns packed at a time: with [`KC`], 4 MB of B that every block of rows reads again from the
/// second- or last-level cache.
const NC: usize = 2048;
/// Up to so many values, all of B is packed at once: entering the pool for each [`KC`] rows would cost
/// more than it saves.
const WHOLE_B: usize = 1 << 20;
/// A block of A is packed if it's multiplied with more panels of B than this.
const REUSED_PANELS: usize = 16;
/// Columns of a symmetric product are computed in so many parts, each down to the diagonal only.
const SYMMETRIC_PARTS: usize = 4;
/// Below this many multiply-adds, entering the pool costs more than it saves.
const SERIAL_WORK: usize = 1 << 17;

/// A read-only M×N view of a slice: element (i, j) is at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A contiguous row-major matrix.
    ///
    /// # Panics
    /// If `data` is shorter than `rows * cols`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols, 1)
    }

    /// A view with given strides, in elements.
    ///
    /// # Panics
    /// If an element would lie outside `data`, or neither stride is 1.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Self {
        if rows > 0 && cols > 0 {
            let last = (rows - 1) * row_stride + (cols - 1) * col_stride;
            assert!(last < data.len(), "a {rows}x{cols} view needs {} values, got {}", last + 1, data.len());
        }
        assert!(row_stride == 1 || col_stride == 1 || rows <= 1 || cols <= 1, "one stride must be 1");
        Mat { data, rows, cols, row_stride, col_stride }
    }

    /// M.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Mat {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Rows `start..start+len`.
    pub(crate) fn part_of_rows(self, start: usize, len: usize) -> Self {
        Mat { data: &self.data[start * self.row_stride..], rows: len, ..self }
    }

    /// Columns `start..start+len`.
    pub(crate) fn columns(self, start: usize, len: usize) -> Self {
        Mat { data: &self.data[start * self.col_stride..], cols: len, ..self }
    }

    /// Whether consecutive elements of a row lie side by side.
    fn row_major(&self) -> bool {
        self.col_stride == 1 || self.cols <= 1
    }
}

/// A mutable row-major M×N view.
#[derive(Debug)]
pub struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// A contiguous row-major matrix.
    ///
    /// # Panics
    /// If `data` is shorter than `rows * cols`.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major view with `row_stride` elements between rows.
    ///
    /// # Panics
    /// If an element would lie outside `data`, or rows would overlap.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows <= 1 || row_stride >= cols, "rows of {cols} overlap at a stride of {row_stride}");
        if rows > 0 && cols > 0 {
            let last = (rows - 1) * row_stride + cols;
            assert!(last <= data.len(), "a {rows}x{cols} view needs {last} values, got {}", data.len());
        }
        MatMut { data, rows, cols, row_stride }
    }
}

/// What happens to the old contents of C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// `C = A·B`
    Overwrite,
    /// `C += A·B`
    Accumulate,
}

/// What is done to a tile of C while it is still in the first-level cache:
/// `C = activation(C + bias)`, keeping `C + bias` where a backward pass will want it.
#[derive(Default, Debug)]
pub struct Epilogue<'a> {
    /// One value a column.
    pub bias: Option<&'a [f32]>,
    /// Applied after the bias.
    pub activation: Option<Activation>,
    /// Receives the values before the activation; contiguous M×N.
    pub pre_activation: Option<&'a mut [f32]>,
}

/// `C = A·B` or `C += A·B`.
///
/// # Panics
/// If the shapes don't agree.
pub fn gemm(a: Mat, b: Mat, c: MatMut, write: Write) {
    gemm_with(a, b, c, write, Epilogue::default());
}

/// [`gemm`] with an [`Epilogue`].
///
/// # Panics
/// If the shapes don't agree.
pub fn gemm_with(a: Mat, b: Mat, c: MatMut, write: Write, epilogue: Epilogue) {
    assert_eq!(a.cols, b.rows, "{}x{} times {}x{}", a.rows, a.cols, b.rows, b.cols);
    let plan = Plan::new(a, b.cols, c, write, epilogue);
    let depth = if b.rows * b.cols.min(NC) <= WHOLE_B { b.rows.max(1) } else { KC };
    for start in (0..b.cols).step_by(NC) {
        let columns = b.columns(start, NC.min(b.cols - start));
        for k0 in (0..b.rows).step_by(depth) {
            let packed = PackedMatrix::pack(columns.part_of_rows(k0, depth.min(b.rows - k0)));
            plan.multiply(&packed, start, k0);
        }
    }
}

/// `C = A·B` or `C += A·B` for a B packed once and used often; the same bits as [`gemm_with`].
///
/// # Panics
/// If the shapes don't agree.
pub fn gemm_packed(a: Mat, b: &PackedMatrix, c: MatMut, write: Write, epilogue: Epilogue) {
    assert_eq!(a.cols, b.rows(), "{}x{} times {}x{}", a.rows, a.cols, b.rows(), b.cols());
    Plan::new(a, b.cols(), c, write, epilogue).multiply(b, 0, 0);
}

/// `batch` independent products over contiguous stacks. With `ta`, each A is stored [K, M]; with
/// `tb`, each B is stored [N, K].
///
/// # Panics
/// If a slice's length isn't what the shapes ask.
#[allow(clippy::too_many_arguments, reason = "the classic signature of a batched product")]
pub fn gemm_batched(
    batch: usize,
    a: &[f32],
    ta: bool,
    b: &[f32],
    tb: bool,
    c: &mut [f32],
    m: usize,
    k: usize,
    n: usize,
    write: Write,
) {
    assert_eq!((a.len(), b.len(), c.len()), (batch * m * k, batch * k * n, batch * m * n));
    let one = |i: usize, c: &mut [f32]| {
        let (a, b) = (&a[i * m * k..][..m * k], &b[i * k * n..][..k * n]);
        let a = if ta { Mat::new(a, k, m).t() } else { Mat::new(a, m, k) };
        let b = if tb { Mat::new(b, n, k).t() } else { Mat::new(b, k, n) };
        gemm(a, b, MatMut::new(c, m, n), write);
    };
    if batch < pool::threads() || batch * m * n * k < SERIAL_WORK {
        c.chunks_mut((m * n).max(1)).take(batch).enumerate().for_each(|(i, c)| one(i, c));
    } else {
        pool::parallel_chunks_mut(c, (m * n).max(1), one);
    }
}

/// `C = A·B` for a product that is known to be symmetric, such as `X·Xᵀ`: what lies below the diagonal
/// is mostly copied from above.
///
/// # Panics
/// If the shapes don't agree.
pub fn gemm_symmetric(a: Mat, b: Mat, c: &mut [f32]) {
    let n = a.rows;
    assert_eq!((b.cols, c.len()), (n, n * n), "a symmetric product is square");
    let width = n.div_ceil(SYMMETRIC_PARTS).next_multiple_of(2 * NR);
    for left in (0..n).step_by(width) {
        let right = (left + width).min(n);
        let part = MatMut::strided(&mut c[left..], right, right - left, n);
        gemm(a.part_of_rows(0, right), b.columns(left, right - left), part, Write::Overwrite);
    }
    for row in 1..n {
        for col in 0..row / width * width {
            c[row * n + col] = c[col * n + row];
        }
    }
}

/// A product with everything known but B.
struct Plan<'a> {
    a: Mat<'a>,
    c: Shards<f32>,
    c_stride: usize,
    cols: usize,
    accumulate: bool,
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    pre_activation: Option<Shards<f32>>,
}

impl<'a> Plan<'a> {
    fn new(a: Mat<'a>, cols: usize, c: MatMut<'a>, write: Write, epilogue: Epilogue<'a>) -> Self {
        assert_eq!((c.rows, c.cols), (a.rows, cols), "C must be {}x{cols}", a.rows);
        if let Some(bias) = epilogue.bias {
            assert_eq!(bias.len(), cols, "one bias a column");
        }
        if let Some(pre) = &epilogue.pre_activation {
            assert!(pre.len() >= a.rows * cols, "pre_activation must hold {}x{cols}", a.rows);
        }
        let plan = Plan {
            a,
            c_stride: c.row_stride,
            c: Shards::new(c.data),
            cols,
            accumulate: write == Write::Accumulate,
            bias: epilogue.bias,
            activation: epilogue.activation,
            pre_activation: epilogue.pre_activation.map(Shards::new),
        };
        if a.cols == 0 {
            plan.finish_empty();
        }
        plan
    }

    /// K = 0: the product is zero, the epilogue still applies.
    fn finish_empty(&self) {
        for row in 0..self.a.rows {
            for col in (0..self.cols).step_by(NR) {
                let tile = self.tile(row, col, 1, NR.min(self.cols - col));
                // SAFETY: rows and panels are visited one at a time, within C.
                unsafe { micro::finish_empty(&tile, self.accumulate) };
            }
        }
    }

    /// Where the tile at (row, col) lies, and its part of the epilogue.
    fn tile(&self, row: usize, col: usize, rows: usize, cols: usize) -> Tile<'_> {
        // SAFETY: only the pointer is formed here; who writes through it vouches for the tile.
        let c = unsafe { self.c.part(row * self.c_stride + col, 0) }.as_mut_ptr();
        let pre = self.pre_activation.as_ref().map(|p| {
            // SAFETY: as above.
            unsafe { p.part(row * self.cols + col, 0) }.as_mut_ptr()
        });
        Tile {
            c,
            c_stride: self.c_stride,
            rows,
            cols,
            bias: self.bias.map(|b| &b[col..]),
            activation: self.activation,
            pre_activation: pre,
            pre_stride: self.cols,
        }
    }

    /// Multiplies with the rows `first_k..` and columns `first_col..` of B, which `b` holds.
    fn multiply(&self, b: &PackedMatrix, first_col: usize, first_k: usize) {
        let (m, n, k) = (self.a.rows, b.cols(), b.rows());
        if m == 0 || n == 0 || k == 0 {
            return;
        }
        if m <= thin::MOST_ROWS && self.a.row_major() && k == self.a.cols {
            return self.multiply_thin(b, first_col);
        }
        let panels = n.div_ceil(NR);
        let threads = if m * n * k < SERIAL_WORK { 1 } else { pool::threads_here() };
        // Enough tasks to even out the threads, as few rows of blocks as the cache allows: each reads all
        // of B. The split has no influence on the result.
        let wanted = if threads == 1 { 1 } else { 4 * threads };
        let row_panels = m.div_ceil(MR);
        let row_blocks = row_panels.div_ceil(MC / MR).next_multiple_of(threads).min(row_panels);
        let col_blocks = wanted.div_ceil(row_blocks).clamp(1, panels);
        let panels_per_task = panels.div_ceil(col_blocks).next_multiple_of(panels_at_a_time());
        let col_blocks = panels.div_ceil(panels_per_task);
        let first_row = |block: usize| (block * row_panels / row_blocks * MR).min(m);
        parallel_for(row_blocks * col_blocks, |task| {
            let (block, panel) = (task / col_blocks, task % col_blocks * panels_per_task);
            let (row, row_end) = (first_row(block), first_row(block + 1));
            let panel_end = (panel + panels_per_task).min(panels);
            self.run_task(b, first_col, first_k, row, row_end - row, panel..panel_end);
        });
    }

    /// As [`multiply`](Self::multiply), for few rows and a B that has all of K.
    fn multiply_thin(&self, b: &PackedMatrix, first_col: usize) {
        let (m, n, k) = (self.a.rows, b.cols(), b.rows());
        let panels = n.div_ceil(NR);
        let threads = if m * n * k < SERIAL_WORK { 1 } else { pool::threads_here() };
        let tasks = if threads == 1 { 1 } else { (4 * threads).min(panels) };
        parallel_for(tasks, |task| {
            let range = task * panels / tasks..(task + 1) * panels / tasks;
            let col = range.start * NR;
            let cols = (range.len() * NR).min(n - col);
            let tile = self.tile(0, first_col + col, m, cols);
            let at = thin::Thin {
                a: self.a.data,
                a_stride: self.a.row_stride,
                rows: m,
                depth: k,
                load_c: self.accumulate,
                c: tile.c,
                c_stride: tile.c_stride,
            };
            thin::multiply(&at, b.values(), range, cols);
            // SAFETY: tasks own disjoint columns of C, all rows of them.
            unsafe { micro::epilogue(&tile) };
        });
    }

    /// Rows `row..row+rows` of C times some panels of B.
    fn run_task(
        &self,
        b: &PackedMatrix,
        first_col: usize,
        first_k: usize,
        row: usize,
        rows: usize,
        panels: std::ops::Range<usize>,
    ) {
        let (k, together) = (b.rows(), panels_at_a_time());
        let mut scratch = Buffer::<f32>::scratch(rows.next_multiple_of(MR) * KC + NR);
        let mut widened = Buffer::<f32>::scratch(if b.is_half() { together * NR * KC } else { 0 });
        for k0 in (0..k).step_by(KC) {
            let depth = KC.min(k - k0);
            let a_k0 = first_k + k0;
            let a = match (self.a.row_major(), panels.len() > REUSED_PANELS) {
                (true, true) => pack_rows(self.a, row, rows, a_k0, depth, &mut scratch),
                (false, true) => pack_transposed_rows(self.a, row, rows, a_k0, depth, &mut scratch),
                (_, false) => Block::in_place(self.a, row, a_k0, depth),
            };
            for panel in panels.clone().step_by(together) {
                let col = panel * NR;
                let cols = (together.min(panels.end - panel) * NR).min(b.cols() - col);
                let tile = self.tile(row, first_col + col, rows, cols);
                let count = together.min(panels.end - panel);
                let (data, stride) = b.panels(panel, count, k0, depth, &mut widened);
                let b_panels = Panels { data, depth, stride };
                let (load_c, last) = (self.accumulate || a_k0 > 0, a_k0 + depth == self.a.cols);
                // SAFETY: tasks own disjoint row and panel ranges of C, `tile` lies within them, `a` holds
                // `rows` rows of `depth` values, and `b_panels` as many panels as the tile is wide.
                unsafe { run_block(&a, &b_panels, &tile, load_c, last) };
            }
        }
    }
}

#[cfg(test)]
mod tests;
