//! The micro-kernel: an [`MR`]×[`NR`] tile of C in registers, one multiply-add a lane and k.

use super::{MR, Mat, NR};
use crate::activation::{Activation, apply};
use crate::arch::{LANES, Simd, simd_fn};

/// A block of A as the micro-kernel reads it: element (i, k) of panel p is at
/// `p * panel_stride + i * row_stride + k * depth_stride`, with one of the last two strides 1.
pub(super) struct Block<'a> {
    pub(super) data: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
    pub(super) panel_stride: usize,
}

impl<'a> Block<'a> {
    /// A block of a row-major A, not copied.
    pub(super) fn in_place(a: Mat<'a>, row: usize, k0: usize, depth: usize) -> Self {
        debug_assert!(k0 + depth <= a.cols);
        Block {
            data: &a.data[row * a.row_stride + k0..],
            row_stride: a.row_stride,
            depth_stride: 1,
            panel_stride: MR * a.row_stride,
        }
    }
}

/// A column of tiles of C, [`NR`] wide or less, and its share of the epilogue.
pub(super) struct Tile<'a> {
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activation: Option<Activation>,
    pub(super) pre_activation: Option<*mut f32>,
    pub(super) pre_stride: usize,
}

/// Multiplies all rows of a block with one panel of B.
///
/// # Safety
/// `tile` must lie in memory that no other thread touches; `a` must hold `tile.rows` rows as deep as
/// `b` has; `tile.cols <= NR`.
pub(super) unsafe fn run_block(a: &Block, b: &[f32], tile: &Tile, load_c: bool, last: bool) {
    run(a, b, tile, load_c, last);
}

/// The epilogue for a product over nothing.
///
/// # Safety
/// As for [`run_block`].
pub(super) unsafe fn finish_empty(tile: &Tile, accumulate: bool) {
    if !accumulate {
        for row in 0..tile.rows {
            // SAFETY: the caller vouches for the tile.
            unsafe { tile.c.add(row * tile.c_stride).write_bytes(0, tile.cols) };
        }
    }
    finish(tile);
}

simd_fn! {
    fn run(s, a: &Block, b: &[f32], tile: &Tile, load_c: bool, last: bool) {
        let mut row = 0;
        while row < tile.rows {
            let height = MR.min(tile.rows - row);
            let data = &a.data[row / MR * a.panel_stride..];
            // SAFETY: `run_block`'s caller vouches for the tile and the depth of the block.
            unsafe {
                let c = tile.c.add(row * tile.c_stride);
                let at = Place { a: data.as_ptr(), b, c, c_stride: tile.c_stride, cols: tile.cols, load_c };
                if a.depth_stride == 1 {
                    by_height::<S, true>(s, at, a.row_stride, height);
                } else {
                    by_height::<S, false>(s, at, a.depth_stride, height);
                }
            }
            row += height;
        }
        if last && (tile.bias.is_some() || tile.activation.is_some() || tile.pre_activation.is_some()) {
            finish_body(s, tile);
        }
    }
}

/// One register tile's operands.
#[derive(Clone, Copy)]
struct Place<'a> {
    a: *const f32,
    b: &'a [f32],
    c: *mut f32,
    c_stride: usize,
    cols: usize,
    load_c: bool,
}

#[inline(always)]
unsafe fn by_height<S: Simd, const K_CONTIGUOUS: bool>(s: S, at: Place, stride: usize, height: usize) {
    // SAFETY: passed on from the caller.
    unsafe {
        match height {
            6 => tile_product::<S, 6, K_CONTIGUOUS>(s, at, stride),
            5 => tile_product::<S, 5, K_CONTIGUOUS>(s, at, stride),
            4 => tile_product::<S, 4, K_CONTIGUOUS>(s, at, stride),
            3 => tile_product::<S, 3, K_CONTIGUOUS>(s, at, stride),
            2 => tile_product::<S, 2, K_CONTIGUOUS>(s, at, stride),
            _ => tile_product::<S, 1, K_CONTIGUOUS>(s, at, stride),
        }
    }
}

/// `R` rows of C. With `K_CONTIGUOUS`, `stride` lies between rows of A, otherwise between depths.
#[inline(always)]
unsafe fn tile_product<S: Simd, const R: usize, const K_CONTIGUOUS: bool>(s: S, at: Place, stride: usize) {
    // SAFETY: the caller vouches that A has R rows as deep as B, and for the tile of C.
    unsafe {
        let mut acc = [[s.splat(0.0); 2]; R];
        if at.load_c {
            for (r, line) in acc.iter_mut().enumerate() {
                *line = load_line(s, at.c.add(r * at.c_stride), at.cols);
            }
        }
        let depth = at.b.len() / NR;
        let mut b = at.b.as_ptr();
        let mut a = at.a;
        let step = if K_CONTIGUOUS { 1 } else { stride };
        let row = if K_CONTIGUOUS { stride } else { 1 };
        for _ in 0..depth {
            let (b0, b1) = (s.load(b), s.load(b.add(LANES)));
            for (r, line) in acc.iter_mut().enumerate() {
                let x = s.splat(*a.add(r * row));
                line[0] = s.fma(x, b0, line[0]);
                line[1] = s.fma(x, b1, line[1]);
            }
            b = b.add(NR);
            a = a.add(step);
        }
        for (r, line) in acc.into_iter().enumerate() {
            store_line(s, at.c.add(r * at.c_stride), line, at.cols);
        }
    }
}

#[inline(always)]
unsafe fn load_line<S: Simd>(s: S, p: *const f32, cols: usize) -> [S::V; 2] {
    // SAFETY: the caller vouches for `cols` readable values.
    unsafe {
        if cols >= NR {
            [s.load(p), s.load(p.add(LANES))]
        } else if cols >= LANES {
            [s.load(p), s.load_partial(p.add(LANES), cols - LANES)]
        } else {
            [s.load_partial(p, cols), s.splat(0.0)]
        }
    }
}

#[inline(always)]
unsafe fn store_line<S: Simd>(s: S, p: *mut f32, line: [S::V; 2], cols: usize) {
    // SAFETY: the caller vouches for `cols` writable values.
    unsafe {
        if cols >= NR {
            s.store(p, line[0]);
            s.store(p.add(LANES), line[1]);
        } else if cols >= LANES {
            s.store(p, line[0]);
            s.store_partial(p.add(LANES), line[1], cols - LANES);
        } else {
            s.store_partial(p, line[0], cols);
        }
    }
}

simd_fn! {
    fn finish(s, tile: &Tile) {
        finish_body(s, tile);
    }
}

/// Bias, pre-activation and activation over a column of tiles.
#[inline(always)]
fn finish_body<S: Simd>(s: S, tile: &Tile) {
    // SAFETY: `run_block`'s caller vouches for the tile; the plan checked the bias and the
    // pre-activation against the shape of C.
    unsafe {
        let bias = match tile.bias {
            Some(bias) => load_line(s, bias[..tile.cols].as_ptr(), tile.cols),
            None => [s.splat(0.0); 2],
        };
        for row in 0..tile.rows {
            let c = tile.c.add(row * tile.c_stride);
            let line = load_line(s, c, tile.cols);
            let mut line = [s.add(line[0], bias[0]), s.add(line[1], bias[1])];
            if let Some(pre) = tile.pre_activation {
                store_line(s, pre.add(row * tile.pre_stride), line, tile.cols);
            }
            if let Some(kind) = tile.activation {
                line = [apply(s, kind, line[0]), apply(s, kind, line[1])];
            }
            store_line(s, c, line, tile.cols);
        }
    }
}
