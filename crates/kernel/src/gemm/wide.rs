//! The micro-kernel for AVX-512: a 12×32 tile, two panels of B side by side.
//!
//! 24 of 32 registers accumulate; a step over k loads two vectors of B and twelve values of A for 24
//! multiply-adds of sixteen lanes, so that loads stay well behind arithmetic.

use super::micro::{Block, Panels, Tile};
use super::{MR, NR};
use std::arch::x86_64::*;

/// Panels of B that are multiplied together.
pub(super) const PANELS: usize = 2;
const _: () = assert!(NR == 16 && MR == 12, "the tile is a panel of A high and two of B wide");

/// As [`run_block`](super::micro::run_block), without the epilogue.
///
/// # Safety
/// As there, and the processor must have AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn run(a: &Block, b: &Panels, tile: &Tile, load_c: bool) {
    assert!(b.depth * NR <= b.data.len() && tile.cols <= PANELS * NR);
    let second = if tile.cols > NR {
        assert!(b.stride + b.depth * NR <= b.data.len());
        Some(b.data[b.stride..].as_ptr())
    } else {
        None
    };
    let contiguous = a.depth_stride == 1;
    let mut row = 0;
    while row < tile.rows {
        let height = MR.min(tile.rows - row);
        // SAFETY: the caller vouches for the tile and the rows of A, the assertions for B.
        unsafe {
            let c = tile.c.add(row * tile.c_stride);
            let first = b.data.as_ptr();
            let at = Place { a: a.row(row), b: [first, second.unwrap_or(first)], depth: b.depth, c, load_c };
            let masks = [lanes(tile.cols), lanes(tile.cols.saturating_sub(NR))];
            let stride = if contiguous { a.row_stride } else { a.depth_stride };
            match (second.is_some(), contiguous) {
                (true, true) => by_height::<2, true>(&at, stride, tile.c_stride, masks, height),
                (true, false) => by_height::<2, false>(&at, stride, tile.c_stride, masks, height),
                (false, true) => by_height::<1, true>(&at, stride, tile.c_stride, masks, height),
                (false, false) => by_height::<1, false>(&at, stride, tile.c_stride, masks, height),
            }
        }
        row += height;
    }
}

/// The mask of the first `n` lanes, all from sixteen on.
fn lanes(n: usize) -> __mmask16 {
    ((1u32 << n.min(NR)) - 1) as __mmask16
}

/// One register tile's operands.
struct Place {
    a: *const f32,
    b: [*const f32; PANELS],
    depth: usize,
    c: *mut f32,
    load_c: bool,
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn by_height<const W: usize, const K_CONTIGUOUS: bool>(
    at: &Place,
    stride: usize,
    c_stride: usize,
    masks: [__mmask16; PANELS],
    height: usize,
) {
    macro_rules! heights {
        ($($rows:literal)*) => {
            match height {
                // SAFETY: passed on from the caller.
                $($rows => unsafe { tile_product::<$rows, W, K_CONTIGUOUS>(at, stride, c_stride, masks) },)*
                _ => unreachable!("a tile has at most {MR} rows"),
            }
        };
    }
    heights!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// `R` rows and `W` vectors of C. With `K_CONTIGUOUS`, `stride` lies between rows of A, otherwise
/// between depths.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn tile_product<const R: usize, const W: usize, const K_CONTIGUOUS: bool>(
    at: &Place,
    stride: usize,
    c_stride: usize,
    masks: [__mmask16; PANELS],
) {
    // SAFETY: the caller vouches that A has R rows as deep as B, and for the tile of C.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); W]; R];
        if at.load_c {
            for (r, line) in acc.iter_mut().enumerate() {
                for (w, v) in line.iter_mut().enumerate() {
                    *v = _mm512_maskz_loadu_ps(masks[w], at.c.add(r * c_stride + w * NR));
                }
            }
        }
        // The tile below comes next: where C is larger than the caches, its lines arrive in the meantime.
        for r in 0..R {
            for w in 0..W {
                _mm_prefetch::<_MM_HINT_ET0>(at.c.wrapping_add((MR + r) * c_stride + w * NR).cast());
            }
        }
        let (mut a, mut b) = (at.a, at.b);
        let (step, row) = if K_CONTIGUOUS { (1, stride) } else { (stride, 1) };
        for _ in 0..at.depth {
            let mut line_b = [_mm512_setzero_ps(); W];
            for (w, v) in line_b.iter_mut().enumerate() {
                *v = _mm512_loadu_ps(b[w]);
                b[w] = b[w].add(NR);
            }
            for (r, line) in acc.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(r * row));
                for (w, v) in line.iter_mut().enumerate() {
                    *v = _mm512_fmadd_ps(x, line_b[w], *v);
                }
            }
            a = a.add(step);
        }
        for (r, line) in acc.into_iter().enumerate() {
            for (w, v) in line.into_iter().enumerate() {
                _mm512_mask_storeu_ps(at.c.add(r * c_stride + w * NR), masks[w], v);
            }
        }
    }
}
