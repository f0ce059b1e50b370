//! Products of a few rows, as decoding has them: B is read once, straight from memory, so what counts is that
//! enough multiply-adds are under way at a time.
//!
//! Each element is still one chain over k; eight vectors of chains run side by side. Half precision is widened
//! on its way into a register.

use super::NR;
use super::pack::Values;
use crate::arch::{LANES, Simd, simd_fn};
use half::{bf16, f16};

/// Rows that are few.
pub(super) const MOST_ROWS: usize = 4;
/// Panels of B that one row is multiplied with at a time.
const PANELS: usize = 4;

/// Rows of A, columns of C, and what is to become of them.
pub(super) struct Thin<'a> {
    /// `rows` of `depth` values, `a_stride` apart.
    pub(super) a: &'a [f32],
    pub(super) a_stride: usize,
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) load_c: bool,
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
}

simd_fn! {
    /// Multiplies with the panels `panels` of `b`, which have `cols` columns from C's first one on.
    ///
    /// Callers vouch that C has the rows and columns, and that nobody else touches them.
    pub(super) fn multiply(s, at: &Thin, b: &Values, panels: std::ops::Range<usize>, cols: usize) {
        match b {
            Values::Single(data) => by_rows(s, at, data, panels, cols),
            Values::Half(data) => by_rows(s, at, data, panels, cols),
            Values::Brain(data) => by_rows(s, at, data, panels, cols),
        }
    }
}

#[inline(always)]
fn by_rows<S: Simd, T: Weight>(s: S, at: &Thin, b: &[T], panels: std::ops::Range<usize>, cols: usize) {
    assert!((1..=MOST_ROWS).contains(&at.rows) && at.a.len() >= (at.rows - 1) * at.a_stride + at.depth);
    assert!(panels.end * at.depth * NR <= b.len() && cols <= panels.len() * NR);
    let together = PANELS / at.rows.next_power_of_two();
    for first in panels.clone().step_by(together) {
        let count = together.min(panels.end - first);
        let done = (first - panels.start) * NR;
        let b = &b[first * at.depth * NR..][..count * at.depth * NR];
        // SAFETY: the caller vouches for C, the assertions for A and B.
        unsafe {
            let c = at.c.add(done);
            let cols = cols - done;
            match (at.rows, count) {
                (1, 4) => tile::<S, T, 1, 4>(s, at, b, c, cols),
                (1, 3) => tile::<S, T, 1, 3>(s, at, b, c, cols),
                (1, 2) => tile::<S, T, 1, 2>(s, at, b, c, cols),
                (1, _) => tile::<S, T, 1, 1>(s, at, b, c, cols),
                (2, 2) => tile::<S, T, 2, 2>(s, at, b, c, cols),
                (2, _) => tile::<S, T, 2, 1>(s, at, b, c, cols),
                (3, _) => tile::<S, T, 3, 1>(s, at, b, c, cols),
                _ => tile::<S, T, 4, 1>(s, at, b, c, cols),
            }
        }
    }
}

/// `R` rows with `W` panels.
#[inline(always)]
unsafe fn tile<S: Simd, T: Weight, const R: usize, const W: usize>(
    s: S,
    at: &Thin,
    b: &[T],
    c: *mut f32,
    cols: usize,
) {
    // SAFETY: the caller vouches for C's rows and columns; A has R rows and B has W panels of `depth` rows.
    unsafe {
        let mut acc = [[[s.splat(0.0); 2]; W]; R];
        if at.load_c {
            each::<R, W>(cols, |r, w, half, n| {
                let from = c.add(r * at.c_stride + w * NR + half * LANES);
                acc[r][w][half] = if n == LANES { s.load(from) } else { s.load_partial(from, n) };
            });
        }
        let b = b.as_ptr();
        for k in 0..at.depth {
            for w in 0..W {
                let row = b.add((w * at.depth + k) * NR);
                let line = [T::load(s, row), T::load(s, row.add(LANES))];
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = s.splat(*at.a.as_ptr().add(r * at.a_stride + k));
                    for (acc, line) in acc[w].iter_mut().zip(line) {
                        *acc = s.fma(x, line, *acc);
                    }
                }
            }
        }
        each::<R, W>(cols, |r, w, half, n| {
            let to = c.add(r * at.c_stride + w * NR + half * LANES);
            let v = acc[r][w][half];
            if n == LANES { s.store(to, v) } else { s.store_partial(to, v, n) }
        });
    }
}

/// Visits the vectors of a tile that has `cols` columns, with how many lanes each has.
#[inline(always)]
fn each<const R: usize, const W: usize>(cols: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
    for r in 0..R {
        for w in 0..W {
            for half in 0..2 {
                let n = cols.saturating_sub(w * NR + half * LANES).min(LANES);
                if n > 0 {
                    f(r, w, half, n);
                }
            }
        }
    }
}

/// A type that B may be kept in.
trait Weight: Copy {
    /// Eight of them, widened.
    ///
    /// # Safety
    /// `p` must be valid for reading [`LANES`] values.
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V;
}

impl Weight for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe { s.load(p) }
    }
}

impl Weight for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe { s.load_f16(p) }
    }
}

impl Weight for bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const Self) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe { s.load_bf16(p) }
    }
}
