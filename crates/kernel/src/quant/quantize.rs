//! From values to blocks.

use super::fit::{Grid, iq4_nl, k_block, weighted_affine, weighted_symmetric};
use super::search::Range;
use super::{BlockType, LONGEST, SubBlocks, round};
use crate::arch::simd_fn;
use crate::pool::parallel_chunks_mut;
use crate::split::TASK;
use half::{bf16, f16};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why values can't be quantised. Rows and columns count from 0.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantizeError {
    /// A value is infinite or NaN.
    #[error("row {row}, column {column}: expected a finite number, got {value}")]
    NotFinite {
        /// The value's row.
        row: usize,
        /// The value's column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A value is too large for the half-precision steps of a block, or for a 16-bit format.
    #[error("row {row}, column {column}: {value:e} is too large for {kind}")]
    TooLarge {
        /// The value's row.
        row: usize,
        /// The value's column.
        column: usize,
        /// The value.
        value: f32,
        /// The format.
        kind: BlockType,
    },
    /// A row isn't a whole number of blocks.
    #[error("rows of {cols} values don't divide into {kind}'s blocks of {}", kind.block_len())]
    RowLength {
        /// Values in a row.
        cols: usize,
        /// The format.
        kind: BlockType,
    },
    /// A column's importance is negative, infinite or NaN.
    #[error("importance of column {column}: expected a finite number not below zero, got {value}")]
    Importance {
        /// The column.
        column: usize,
        /// Its importance.
        value: f32,
    },
}

/// Rounds `x`, rows of `cols` values, to blocks.
///
/// What is made small is `Σ importance[column] · error²`, by a search over steps, scales and minima;
/// `importance` is best the mean square of what the column is multiplied with, and only ratios
/// within a block matter. Without it all columns count the same, and the formats without sub-blocks
/// (Q4_0, Q4_1, Q5_0, Q5_1) are rounded as ggml's reference does, byte for byte. So is Q8_0 always.
///
/// Steps are half-precision numbers, so very small values lose bits, and below some 1e-7 become
/// zeros, as in ggml. The blocks don't depend on the number of threads or the instruction set.
///
/// # Errors
/// If a value isn't finite, or is so large that its block needs a step beyond half precision (65504):
/// the first such is named. If rows aren't whole blocks. If an importance is negative or not finite.
/// What `out` holds then is unspecified.
///
/// # Panics
/// If `x` isn't whole rows, `out` isn't as long as the blocks, or `importance` isn't `cols` long.
pub fn quantize(
    kind: BlockType,
    x: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), QuantizeError> {
    crate::split::rows_of(x.len(), cols);
    let (len, size) = (kind.block_len(), kind.block_bytes());
    if !cols.is_multiple_of(len) {
        return Err(QuantizeError::RowLength { cols, kind });
    }
    assert_eq!(Some(out.len()), kind.bytes_for(x.len()), "bytes for {} values of {kind}", x.len());
    if let Some(importance) = importance {
        assert_eq!(importance.len(), cols, "one importance a column");
        let wrong = |value: &f32| !(value.is_finite() && *value >= 0.0);
        if let Some(column) = importance.iter().position(wrong) {
            return Err(QuantizeError::Importance { column, value: importance[column] });
        }
    }
    let first_wrong = AtomicUsize::new(usize::MAX);
    parallel_chunks_mut(out, TASK / len * size, |i, out| {
        let start = i * TASK;
        let x = &x[start..][..out.len() / size * len];
        let wrong = match (kind.is_quantized(), importance) {
            (false, _) => plain_run(kind, x, out),
            (true, importance) => block_run(kind, x, importance, start % cols, out),
        };
        if let Some(at) = wrong {
            first_wrong.fetch_min(start + at, Ordering::Relaxed);
        }
    });
    let at = first_wrong.into_inner();
    let Some(&value) = x.get(at) else { return Ok(()) };
    let (row, column) = (at / cols, at % cols);
    Err(if value.is_finite() {
        QuantizeError::TooLarge { row, column, value, kind }
    } else {
        QuantizeError::NotFinite { row, column, value }
    })
}

/// Converts to a format without blocks; the first value that is or becomes infinite or NaN.
fn plain_run(kind: BlockType, x: &[f32], out: &mut [u8]) -> Option<usize> {
    fn narrow<const N: usize>(
        x: &[f32],
        out: &mut [u8],
        bytes: impl Fn(f32) -> ([u8; N], bool),
    ) -> Option<usize> {
        let mut pairs = x.iter().zip(out.as_chunks_mut::<N>().0);
        pairs.position(|(&x, out)| {
            let finite;
            (*out, finite) = bytes(x);
            !finite
        })
    }
    match kind {
        BlockType::F16 => narrow(x, out, |x| {
            let half = f16::from_f32(x);
            (half.to_le_bytes(), half.is_finite())
        }),
        BlockType::Bf16 => narrow(x, out, |x| {
            let half = bf16::from_f32(x);
            (half.to_le_bytes(), half.is_finite())
        }),
        _ => narrow(x, out, |x| (x.to_le_bytes(), x.is_finite())),
    }
}

simd_fn! {
    /// Rounds whole blocks, the first of which begins in column `column`; the first value that isn't
    /// finite, or the largest of the first block whose steps aren't.
    fn block_run(
        _s,
        kind: BlockType,
        x: &[f32],
        importance: Option<&[f32]>,
        column: usize,
        out: &mut [u8],
    ) -> Option<usize> {
        let len = kind.block_len();
        let (mut block, mut weights) = (SubBlocks::default(), [1.0; LONGEST]);
        block.offset = kind.offset();
        let mut column = column;
        for (i, (x, out)) in x.chunks_exact(len).zip(out.chunks_exact_mut(kind.block_bytes())).enumerate() {
            if let Some(at) = x.iter().position(|x| !x.is_finite()) {
                return Some(i * len + at);
            }
            let weighted = importance.is_some_and(|all| relative(&all[column..][..len], &mut weights));
            round_block(kind, x, &weights[..len], weighted, &mut block);
            if !(block.d.is_finite() && block.dmin.is_finite()) {
                let larger = |a: usize, b: usize| if x[b].abs() > x[a].abs() { b } else { a };
                return Some(i * len + (0..len).fold(0, larger));
            }
            block.encode(kind, out);
            column += len;
            if importance.is_some_and(|all| column == all.len()) {
                column = 0;
            }
        }
        None
    }
}

/// The weights of a block, the largest of them 1 so that sums stay in range. If all are zero, the
/// block's values count the same, and this returns false.
fn relative(importance: &[f32], weights: &mut [f32; LONGEST]) -> bool {
    let most = importance.iter().copied().fold(0.0, f32::max);
    for (weight, importance) in weights.iter_mut().zip(importance) {
        *weight = if most > 0.0 { importance / most } else { 1.0 };
    }
    most > 0.0
}

/// Fills `block` with what stands for `x`; its `offset` is the format's.
#[inline(always)]
fn round_block(kind: BlockType, x: &[f32], w: &[f32], weighted: bool, block: &mut SubBlocks) {
    let grid = |bottom, top, scales: (f32, f32), most_min| Grid {
        codes: Range { bottom, top },
        scales: Range { bottom: scales.0, top: scales.1 },
        most_min,
    };
    match kind {
        BlockType::Q2K => k_block::<16>(x, w, grid(0.0, 3.0, (0.0, 15.0), 15.0), block),
        BlockType::Q3K => k_block::<16>(x, w, grid(-4.0, 3.0, (-32.0, 31.0), 0.0), block),
        BlockType::Q4K => k_block::<32>(x, w, grid(0.0, 15.0, (0.0, 63.0), 63.0), block),
        BlockType::Q5K => k_block::<32>(x, w, grid(0.0, 31.0, (0.0, 63.0), 63.0), block),
        BlockType::Q6K => k_block::<16>(x, w, grid(-32.0, 31.0, (-128.0, 127.0), 0.0), block),
        _ => {
            let (Some(x), Some(w)) = (x.as_array::<32>(), w.as_array::<32>()) else {
                panic!("a block of {kind} has 32 values, not {}", x.len())
            };
            match (kind, weighted) {
                (BlockType::Q4_0, false) => round::symmetric(x, 8, block),
                (BlockType::Q4_0, true) => weighted_symmetric(x, w, 8.0, block),
                (BlockType::Q5_0, false) => round::symmetric(x, 16, block),
                (BlockType::Q5_0, true) => weighted_symmetric(x, w, 16.0, block),
                (BlockType::Q4_1, false) => round::affine(x, 15, block),
                (BlockType::Q4_1, true) => weighted_affine(x, w, 15.0, block),
                (BlockType::Q5_1, false) => round::affine(x, 31, block),
                (BlockType::Q5_1, true) => weighted_affine(x, w, 31.0, block),
                (BlockType::Iq4Nl, _) => iq4_nl(x, w, block),
                _ => round::eight_bits(x, block),
            }
        }
    }
}
