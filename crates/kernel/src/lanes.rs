//! Loops over slices a vector at a time: whole vectors first, then a tail that reads and writes no
//! further than the slice.

use crate::arch::{LANES, Simd, simd_fn};

/// Runs a body over the vectors of a slice's `len` values: `vectors!(len, |i, n| …)` with `i` the
/// first value and `n` how many there are, [`LANES`] in all but the last.
///
/// With a third name, `vectors!(len, |i, n, j| …)`, four vectors are taken at a time and `j` counts
/// them 0..4: reductions keep one accumulator for each, so that additions don't wait on each other.
macro_rules! vectors {
    ($len:expr, |$i:ident, $n:ident| $body:expr) => {{
        let len: usize = $len;
        let mut at = 0;
        while at + $crate::arch::LANES <= len {
            let ($i, $n) = (at, $crate::arch::LANES);
            $body;
            at += $crate::arch::LANES;
        }
        if at < len {
            let ($i, $n) = (at, len - at);
            $body;
        }
    }};
    ($len:expr, |$i:ident, $n:ident, $j:ident| $body:expr) => {{
        let len: usize = $len;
        let mut at = 0;
        while at + 4 * $crate::arch::LANES <= len {
            for $j in 0..4usize {
                let ($i, $n) = (at + $j * $crate::arch::LANES, $crate::arch::LANES);
                $body;
            }
            at += 4 * $crate::arch::LANES;
        }
        let $j = 0usize;
        while at + $crate::arch::LANES <= len {
            let ($i, $n) = (at, $crate::arch::LANES);
            $body;
            at += $crate::arch::LANES;
        }
        if at < len {
            let ($i, $n) = (at, len - at);
            $body;
        }
    }};
}
pub(crate) use vectors;

/// The `n <= LANES` values of `x` from `i` on; further lanes are zero.
#[inline(always)]
pub(crate) fn read<S: Simd>(s: S, x: &[f32], i: usize, n: usize) -> S::V {
    let part = &x[i..i + n];
    if n >= LANES {
        // SAFETY: `part` holds at least `LANES` values.
        unsafe { s.load(part.as_ptr()) }
    } else {
        // SAFETY: `part` holds `n` values.
        unsafe { s.load_partial(part.as_ptr(), n) }
    }
}

/// As [`read`], with `fill` in the lanes past the end.
#[inline(always)]
pub(crate) fn read_or<S: Simd>(s: S, x: &[f32], i: usize, n: usize, fill: f32) -> S::V {
    if n >= LANES {
        return read(s, x, i, n);
    }
    let mut lanes = [fill; LANES];
    lanes[..n].copy_from_slice(&x[i..i + n]);
    read(s, &lanes, 0, LANES)
}

/// Writes the first `n <= LANES` lanes of `v` to `y` from `i` on.
#[inline(always)]
pub(crate) fn write<S: Simd>(s: S, y: &mut [f32], i: usize, n: usize, v: S::V) {
    let part = &mut y[i..i + n];
    if n >= LANES {
        // SAFETY: `part` holds at least `LANES` values.
        unsafe { s.store(part.as_mut_ptr(), v) }
    } else {
        // SAFETY: `part` holds `n` values.
        unsafe { s.store_partial(part.as_mut_ptr(), v, n) }
    }
}

/// The sum of the four accumulators of an unrolled loop, and of their lanes.
#[inline(always)]
pub(crate) fn total<S: Simd>(s: S, acc: [S::V; 4]) -> f32 {
    s.sum(s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3])))
}

simd_fn! {
    /// `y += x`
    pub(crate) fn add_to(s, y: &mut [f32], x: &[f32]) {
        assert_eq!(x.len(), y.len());
        vectors!(y.len(), |i, n| write(s, y, i, n, s.add(read(s, y, i, n), read(s, x, i, n))));
    }
}
