//! The micro-kernel: a tile of C in registers, one multiply-add a lane and k.
//!
//! Here for AVX2 and plain Rust, 6×16; [`wide`](super::wide) has AVX-512's. All read one layout.

use super::{MR, Mat, NR};
use crate::activation::{Activation, apply};
#[cfg(target_arch = "x86_64")]
use crate::arch::{Isa, current};
use crate::arch::{LANES, Simd, simd_fn};

/// Rows of the register tile: with [`NR`] columns, twelve of sixteen registers accumulate.
const TILE_ROWS: usize = 6;
const _: () = assert!(MR.is_multiple_of(TILE_ROWS));

/// A block of A as the micro-kernel reads it: element (i, k) of panel p is at
/// `p * panel_stride + i * row_stride + k * depth_stride`, with one of the last two strides 1.
pub(super) struct Block<'a> {
    pub(super) data: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
    pub(super) panel_stride: usize,
}

impl<'a> Block<'a> {
    /// A block of A, not copied.
    pub(super) fn in_place(a: Mat<'a>, row: usize, k0: usize, depth: usize) -> Self {
        debug_assert!(k0 + depth <= a.cols);
        if a.row_major() {
            let data = &a.data[row * a.row_stride + k0..];
            Block { data, row_stride: a.row_stride, depth_stride: 1, panel_stride: MR * a.row_stride }
        } else {
            let data = &a.data[k0 * a.col_stride + row..];
            Block { data, row_stride: 1, depth_stride: a.col_stride, panel_stride: MR }
        }
    }
}

impl Block<'_> {
    /// Where row `row` of the block begins; the rows to the next multiple of [`MR`] follow in its panel.
    pub(super) fn row(&self, row: usize) -> *const f32 {
        self.data[row / MR * self.panel_stride + row % MR * self.row_stride..].as_ptr()
    }
}

/// Some panels of packed B, one after another: `depth` rows of [`NR`] values each, from the start of
/// `data`, and `stride` values from panel to panel.
pub(super) struct Panels<'a> {
    pub(super) data: &'a [f32],
    pub(super) depth: usize,
    pub(super) stride: usize,
}

/// How many panels [`run_block`] takes at a time.
pub(super) fn panels_at_a_time() -> usize {
    match current() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => super::wide::PANELS,
        _ => 1,
    }
}

/// A column of tiles of C, as wide as some panels or less, and its share of the epilogue.
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

/// Multiplies all rows of a block with the panels of B that are taken at a time.
///
/// # Safety
/// `tile` must lie in memory that no other thread touches; `a` must hold `tile.rows` rows as deep as
/// `b` has; `b` must hold the panels that `tile.cols` need, `panels_at_a_time()` at most.
pub(super) unsafe fn run_block(a: &Block, b: &Panels, tile: &Tile, load_c: bool, last: bool) {
    match current() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `current` only names a set that the processor has; the rest is the caller's promise.
        Isa::Avx512 => unsafe { super::wide::run(a, b, tile, load_c) },
        _ => run(a, b, tile, load_c),
    }
    if last {
        // SAFETY: passed on from the caller.
        unsafe { epilogue(tile) };
    }
}

/// Bias and activation over a product that is complete.
///
/// # Safety
/// `tile` must lie in memory that no other thread touches.
pub(super) unsafe fn epilogue(tile: &Tile) {
    if tile.bias.is_some() || tile.activation.is_some() || tile.pre_activation.is_some() {
        finish(tile);
    }
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
    fn run(s, a: &Block, b: &Panels, tile: &Tile, load_c: bool) {
        let b = &b.data[..b.depth * NR];
        let mut row = 0;
        while row < tile.rows {
            let height = TILE_ROWS.min(tile.rows - row);
            // SAFETY: `run_block`'s caller vouches for the tile and the depth of the block.
            unsafe {
                let c = tile.c.add(row * tile.c_stride);
                let at = Place { a: a.row(row), b, c, c_stride: tile.c_stride, cols: tile.cols, load_c };
                if a.depth_stride == 1 {
                    by_height::<S, true>(s, at, a.row_stride, height);
                } else {
                    by_height::<S, false>(s, at, a.depth_stride, height);
                }
            }
            row += height;
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
    /// Bias, pre-activation and activation over a column of tiles.
    fn finish(s, tile: &Tile) {
        for left in (0..tile.cols).step_by(NR) {
            let cols = NR.min(tile.cols - left);
            // SAFETY: `run_block`'s caller vouches for the tile; the plan checked the bias and the
            // pre-activation against the shape of C.
            unsafe {
                let bias = match tile.bias {
                    Some(bias) => load_line(s, bias[left..left + cols].as_ptr(), cols),
                    None => [s.splat(0.0); 2],
                };
                for row in 0..tile.rows {
                    let c = tile.c.add(row * tile.c_stride + left);
                    let line = load_line(s, c, cols);
                    let mut line = [s.add(line[0], bias[0]), s.add(line[1], bias[1])];
                    if let Some(pre) = tile.pre_activation {
                        store_line(s, pre.add(row * tile.pre_stride + left), line, cols);
                    }
                    if let Some(kind) = tile.activation {
                        line = [apply(s, kind, line[0]), apply(s, kind, line[1])];
                    }
                    store_line(s, c, line, cols);
                }
            }
        }
    }
}
