//! The reference implementation of [`Simd`]: arrays of eight, in plain Rust.

use super::{LANES, Simd};
use std::array::from_fn;

/// The token of the reference set; every processor has it.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

type V = [f32; LANES];

impl Simd for Scalar {
    type V = V;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller vouches for eight readable values.
        from_fn(|i| unsafe { *p.add(i) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        for (i, x) in v.into_iter().enumerate() {
            // SAFETY: the caller vouches for eight writable values.
            unsafe { *p.add(i) = x };
        }
    }
    #[inline(always)]
    unsafe fn load_partial(self, p: *const f32, n: usize) -> V {
        // SAFETY: the caller vouches for `n` readable values.
        from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_partial(self, p: *mut f32, v: V, n: usize) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: the caller vouches for `n` writable values.
            unsafe { *p.add(i) = x };
        }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        from_fn(|i| a[i].sqrt())
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        from_fn(|i| a[i].round_ties_even())
    }
    #[inline(always)]
    fn exp2i(self, n: V) -> V {
        from_fn(|i| f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn select_lt(self, a: V, b: V, x: V, y: V) -> V {
        from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn select_nan(self, a: V, x: V, y: V) -> V {
        from_fn(|i| if a[i].is_nan() { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn neg(self, a: V) -> V {
        a.map(|x| -x)
    }
    #[inline(always)]
    fn abs(self, a: V) -> V {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        let q: [f32; 4] = from_fn(|i| a[i] + a[i + 4]);
        (q[0] + q[2]) + (q[1] + q[3])
    }
    #[inline(always)]
    fn largest(self, a: V) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
    #[inline(always)]
    fn transpose(self, rows: [V; LANES]) -> [V; LANES] {
        from_fn(|i| from_fn(|j| rows[j][i]))
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8) -> V {
        // SAFETY: the caller vouches for eight readable values.
        from_fn(|i| f32::from(unsafe { *p.add(i) }))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const half::bf16) -> V {
        // SAFETY: the caller vouches for eight readable values.
        from_fn(|i| unsafe { *p.add(i) }.to_f32())
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const half::f16) -> V {
        // SAFETY: the caller vouches for eight readable values.
        from_fn(|i| unsafe { *p.add(i) }.to_f32())
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut half::f16, v: V) {
        for (i, x) in v.into_iter().enumerate() {
            // SAFETY: the caller vouches for eight writable values.
            unsafe { *p.add(i) = half::f16::from_f32(x) };
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut half::bf16, v: V) {
        for (i, x) in v.into_iter().enumerate() {
            // SAFETY: the caller vouches for eight writable values.
            unsafe { *p.add(i) = half::bf16::from_f32(x) };
        }
    }
}
