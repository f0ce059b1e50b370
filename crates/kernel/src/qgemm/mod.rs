//! Products with quantised weights: `y = x Wᵀ + b` with W in a block format and x in eight bits.
//!
//! W is repacked once into panels of sixteen outputs (see `pack.rs`) at the width that the file has; x is
//! quantised a block of 32 values at a time as it comes ([`QuantizedRows`]). Within a block everything is
//! integer arithmetic and exact; across blocks each output is one chain of multiply-adds over k, whatever
//! the rows beside it, the threads or the instruction set: the same bits always.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod pack;
mod plain;
mod rows;
#[cfg(target_arch = "x86_64")]
mod wide;

use crate::arch::{self, Isa};
use crate::pool::{self, Shards, parallel_for};
use half::f16;
pub use pack::QuantMatrix;
pub use rows::QuantizedRows;
use rows::RowTile;

/// Outputs side by side in a panel.
const PANEL: usize = 16;
/// Values of a row that share a scale of x.
const BLOCK: usize = 32;
/// Consecutive values of a row that lie side by side in a panel, and are multiplied by one instruction.
const GROUP: usize = 4;
/// Blocks of W that share a scale of scales in the nested formats.
const NESTED: usize = 8;
/// Below this many multiply-adds, entering the pool costs more than it saves.
const SERIAL_WORK: usize = 1 << 16;
/// Tasks a thread, so that one that is held up leaves little undone.
const TASKS_PER_THREAD: usize = 4;

/// How codes lie in a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codes {
    /// Four bits, and this many more in planes of one bit.
    Nibbles { planes: usize },
    /// Eight bits.
    Bytes,
}

impl Codes {
    /// Bytes of one block of a panel.
    const fn block_bytes(self) -> usize {
        match self {
            Codes::Nibbles { planes } => PANEL * BLOCK / 2 + planes * PANEL * BLOCK / 8,
            Codes::Bytes => PANEL * BLOCK,
        }
    }
}

/// How codes become values: `value = scale · (code - offset) + min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    codes: Codes,
    /// The offset's binary logarithm; none without an offset.
    shift: Option<u32>,
    /// Scales are for 16 values instead of 32.
    fine: bool,
    /// Scales are small integers, times a scale for 256 values.
    nested: bool,
    /// There are minima.
    mins: bool,
}

/// Sixteen outputs of W.
#[derive(Clone, Copy)]
struct Panel<'a> {
    shape: Shape,
    /// Blocks along k.
    blocks: usize,
    codes: &'a [u8],
    /// Scales, or scales of scales: sixteen a block, or a superblock.
    d: &'a [f16],
    /// Minima, or what scales them (negated); empty without minima.
    dmin: &'a [f16],
    /// Nested scales: sixteen a block, twice if fine.
    scales: &'a [i8],
    /// Nested minima.
    mins: &'a [u8],
}

impl Panel<'_> {
    /// Checks every length that the kernels rely on.
    fn check(&self) {
        let parts = if self.shape.fine { 2 } else { 1 };
        let scales = if self.shape.nested { self.blocks.div_ceil(NESTED) } else { self.blocks } * PANEL;
        let nested = if self.shape.nested { self.blocks * parts * PANEL } else { 0 };
        assert_eq!(self.codes.len(), self.blocks * self.shape.codes.block_bytes());
        assert_eq!((self.d.len(), self.scales.len()), (scales, nested));
        let (dmin, mins) = if self.shape.mins { (scales, nested) } else { (0, 0) };
        assert_eq!((self.dmin.len(), self.mins.len()), (dmin, mins));
    }
}

/// Where a tile of y goes.
struct Place<'a> {
    out: *mut f32,
    stride: usize,
    cols: usize,
    /// Added to each row; as many as there are columns.
    bias: Option<&'a [f32]>,
}

/// One of the layers that [`quant_linears`] applies.
#[derive(Debug)]
pub struct QuantLinear<'a> {
    /// W
    pub weight: &'a QuantMatrix,
    /// One value an output.
    pub bias: Option<&'a [f32]>,
    /// `x Wᵀ + bias`, [rows, outputs], contiguous.
    pub y: &'a mut [f32],
}

/// `y = x Wᵀ + bias` for one layer.
///
/// # Panics
/// If the shapes don't agree.
pub fn quant_linear(x: &QuantizedRows, weight: &QuantMatrix, bias: Option<&[f32]>, y: &mut [f32]) {
    quant_linears(x, &mut [QuantLinear { weight, bias, y }]);
}

/// Several layers of the same x in one go: the pool is entered once.
///
/// # Panics
/// If the shapes don't agree.
pub fn quant_linears(x: &QuantizedRows, layers: &mut [QuantLinear]) {
    let rows = x.rows();
    let (mut targets, mut panels, mut work) = (Vec::with_capacity(layers.len()), 0, 0);
    for QuantLinear { weight, bias, y } in layers {
        let outputs = weight.outputs();
        assert_eq!(x.cols(), weight.inputs(), "x is {rows}x{}, W takes {}", x.cols(), weight.inputs());
        assert_eq!(y.len(), rows * outputs, "y must be {rows}x{outputs}");
        assert!(bias.is_none_or(|b| b.len() == outputs), "one bias an output");
        targets.push(Target { weight, bias: *bias, y: Shards::new(y), first: panels });
        panels += outputs.div_ceil(PANEL);
        work += rows * outputs * weight.inputs();
    }
    let threads = if work < SERIAL_WORK { 1 } else { pool::threads_here() };
    let tasks = if threads == 1 { 1 } else { (threads * TASKS_PER_THREAD).min(panels) };
    let kernel = kernel();
    parallel_for(tasks, |task| {
        for i in task * panels / tasks..(task + 1) * panels / tasks {
            let target = targets.iter().rfind(|t| t.first <= i).expect("the first begins at 0");
            target.panel(x, i - target.first, kernel);
        }
    });
}

/// A layer in the making.
struct Target<'a> {
    weight: &'a QuantMatrix,
    bias: Option<&'a [f32]>,
    y: Shards<f32>,
    /// Panels of the layers before.
    first: usize,
}

impl Target<'_> {
    /// All rows of a panel's outputs. No two tasks may have the same panel.
    fn panel(&self, x: &QuantizedRows, i: usize, kernel: Kernel) {
        let panel = self.weight.panel(i);
        panel.check();
        let (rows, outputs) = (x.rows(), self.weight.outputs());
        let (col, mut row) = (i * PANEL, 0);
        let cols = PANEL.min(outputs - col);
        let bias = self.bias.map(|b| &b[col..col + cols]);
        while row < rows {
            let tile = x.tile(row, kernel.most_rows());
            // SAFETY: only the pointer is formed here; the tile's rows and columns lie within y.
            let out = unsafe { self.y.part(row * outputs + col, 0) }.as_mut_ptr();
            let place = Place { out, stride: outputs, cols, bias };
            // SAFETY: tasks own disjoint panels, `place` lies in y, the panel's lengths were checked, and the
            // kernel is one that this processor runs.
            unsafe { kernel.run(&panel, &tile, &place) };
            row += tile.groups * tile.width;
        }
    }
}

/// A way to compute a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Wide,
}

/// The best for the instruction set in force.
fn kernel() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    match arch::current() {
        Isa::Avx512 if wide::available() => return Kernel::Wide,
        Isa::Avx512 | Isa::Avx2 => return Kernel::Avx2,
        Isa::Scalar => {}
    }
    Kernel::Plain
}

impl Kernel {
    /// Rows of x that a tile may have.
    fn most_rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Wide => wide::MOST_ROWS,
            _ => rows::WIDTH,
        }
    }

    /// # Safety
    /// `place` must be valid for the tile's rows and `place.cols <= PANEL` columns, the panel checked, and
    /// the processor must have the instructions.
    unsafe fn run(self, panel: &Panel, tile: &RowTile, place: &Place) {
        match self {
            // SAFETY: passed on from the caller.
            Kernel::Plain => unsafe { plain::run(panel, tile, place) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kernel::Avx2 => unsafe { avx2::run(panel, tile, place) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kernel::Wide => unsafe { wide::run(panel, tile, place) },
        }
    }
}

/// Calls `$run::<groups, width, codes, shift, fine, nested, mins>` for the shape of a panel: the shapes that the block
/// formats have, `codes` being the number of planes, or [`BYTES`]. Everything that a loop would ask of a shape is known
/// when it is compiled.
macro_rules! by_shape {
    ($run:ident, $shape:expr, [$($fixed:tt)*], $args:tt) => {{
        let Shape { codes, shift, fine, nested, mins } = $shape;
        match (codes, shift, fine, nested, mins) {
            (Codes::Nibbles { planes: 0 }, None, false, false, true) => $run::<$($fixed)* 0, 0, false, false, true> $args,
            (Codes::Nibbles { planes: 0 }, None, false, true, true) => $run::<$($fixed)* 0, 0, false, true, true> $args,
            (Codes::Nibbles { planes: 0 }, None, true, true, true) => $run::<$($fixed)* 0, 0, true, true, true> $args,
            (Codes::Nibbles { planes: 0 }, Some(2), true, true, false) => $run::<$($fixed)* 0, 2, true, true, false> $args,
            (Codes::Nibbles { planes: 0 }, Some(3), false, false, false) => $run::<$($fixed)* 0, 3, false, false, false> $args,
            (Codes::Nibbles { planes: 1 }, None, false, false, true) => $run::<$($fixed)* 1, 0, false, false, true> $args,
            (Codes::Nibbles { planes: 1 }, None, false, true, true) => $run::<$($fixed)* 1, 0, false, true, true> $args,
            (Codes::Nibbles { planes: 1 }, Some(4), false, false, false) => $run::<$($fixed)* 1, 4, false, false, false> $args,
            (Codes::Nibbles { planes: 2 }, Some(5), true, true, false) => $run::<$($fixed)* 2, 5, true, true, false> $args,
            (Codes::Bytes, Some(7), false, false, false) => $run::<$($fixed)* { $crate::qgemm::BYTES }, 7, false, false, false> $args,
            shape => unreachable!("no block format has the shape {shape:?}"),
        }
    }};
}
use by_shape;

/// [`Codes::Bytes`] as a number beside those of planes.
const BYTES: usize = 8;

/// [`Codes::block_bytes`] by the number in [`by_shape`].
const fn block_bytes(codes: usize) -> usize {
    if codes == BYTES { Codes::Bytes.block_bytes() } else { (Codes::Nibbles { planes: codes }).block_bytes() }
}

#[cfg(test)]
mod tests;
