//! Instruction sets: one vector trait, one implementation a set, chosen once at run time.
//!
//! A kernel is written once over [`Simd`] inside [`simd_fn!`], which compiles it for every
//! instruction set and dispatches on [`current`]. The seam for NEON is here: implement [`Simd`], add a
//! variant to [`Isa`], and an arm to the macro. AVX-512 is the matrix product's alone (`gemm::wide`):
//! the other kernels wait for memory more than for arithmetic, and run as AVX2 there.

use std::cell::Cell;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
pub(crate) mod scalar;

/// Number of `f32` lanes in one vector of [`Simd`].
pub(crate) const LANES: usize = 8;

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust over arrays of eight lanes; the reference that the others are tested against.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// The same with AVX-512F: matrix products in vectors of sixteen.
    Avx512,
}

impl Isa {
    /// The best set that this processor supports; `HEARTH_ISA=scalar` or `avx2` asks for less.
    pub fn detect() -> Isa {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let most = match std::env::var("HEARTH_ISA").as_deref() {
                Ok("scalar") => Isa::Scalar,
                Ok("avx2") => Isa::Avx2,
                _ => Isa::Avx512,
            };
            Isa::available().into_iter().rfind(|&isa| isa <= most).unwrap_or(Isa::Scalar)
        })
    }

    /// Every set that this processor supports, slowest first.
    pub fn available() -> Vec<Isa> {
        let mut sets = vec![Isa::Scalar];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            sets.push(Isa::Avx2);
            if is_x86_feature_detected!("avx512f") {
                sets.push(Isa::Avx512);
            }
        }
        sets
    }

    /// The name that `hearth doctor` prints.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "AVX2+FMA",
            Isa::Avx512 => "AVX-512",
        }
    }
}

thread_local! {
    static OVERRIDE: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// The set in force on this thread.
#[inline]
pub fn current() -> Isa {
    OVERRIDE.get().unwrap_or_else(Isa::detect)
}

/// Runs `f` with `isa` in force on this thread and on the pool's threads while they work for it.
///
/// # Panics
/// If the processor doesn't support `isa`.
pub fn with_isa<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    assert!(Isa::available().contains(&isa), "this processor doesn't support {isa:?}");
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    let _restore = Restore(OVERRIDE.replace(Some(isa)));
    f()
}

/// Puts the caller's set in force on a pool thread.
pub(crate) fn adopt(isa: Isa) {
    OVERRIDE.set(Some(isa));
}

/// Eight `f32` lanes and what kernels do with them. All methods inline into their caller, which
/// [`simd_fn!`] compiles with the instruction set enabled.
///
/// Values of the implementing types are proof that the processor has the instructions.
pub(crate) trait Simd: Copy {
    /// A vector of [`LANES`] values.
    type V: Copy;

    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `p` must be valid for reading [`LANES`] values; no alignment is asked.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// # Safety
    /// `p` must be valid for writing [`LANES`] values; no alignment is asked.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Reads the first `n < LANES` values; the other lanes are zero.
    /// # Safety
    /// `p` must be valid for reading `n` values.
    unsafe fn load_partial(self, p: *const f32, n: usize) -> Self::V;
    /// Writes the first `n < LANES` lanes.
    /// # Safety
    /// `p` must be valid for writing `n` values.
    unsafe fn store_partial(self, p: *mut f32, v: Self::V, n: usize);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the set can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; where either is NaN, `b`. So a NaN survives as the second operand, and an
    /// accumulator as the second operand is kept clean of them.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; where either is NaN, `b`.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    /// Nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^n` for an integral `n` in -126..=127; anything for NaN.
    fn exp2i(self, n: Self::V) -> Self::V;
    /// Lane by lane, `a < b ? x : y`; `y` where either is NaN.
    fn select_lt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// Lane by lane, `x` where `a` is NaN and `y` elsewhere.
    fn select_nan(self, a: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// The sign bit flipped.
    fn neg(self, a: Self::V) -> Self::V;
    /// The sign bit cleared.
    fn abs(self, a: Self::V) -> Self::V;
    /// The sum of the lanes, in a fixed order.
    fn sum(self, a: Self::V) -> f32;
    /// The largest lane.
    fn largest(self, a: Self::V) -> f32;

    /// Eight rows of eight, transposed.
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES];

    /// Eight signed bytes as `f32`.
    /// # Safety
    /// `p` must be valid for reading [`LANES`] values.
    unsafe fn load_i8(self, p: *const i8) -> Self::V;
    /// Eight bf16 values widened to `f32`.
    /// # Safety
    /// `p` must be valid for reading [`LANES`] values.
    unsafe fn load_bf16(self, p: *const half::bf16) -> Self::V;
    /// Eight IEEE half values widened to `f32`.
    /// # Safety
    /// `p` must be valid for reading [`LANES`] values.
    unsafe fn load_f16(self, p: *const half::f16) -> Self::V;
    /// Narrowed to IEEE half, nearest even.
    /// # Safety
    /// `p` must be valid for writing [`LANES`] values.
    unsafe fn store_f16(self, p: *mut half::f16, v: Self::V);
    /// Narrowed to bf16, nearest even; a NaN stays one.
    /// # Safety
    /// `p` must be valid for writing [`LANES`] values.
    unsafe fn store_bf16(self, p: *mut half::bf16, v: Self::V);
}

/// Defines a function whose body is compiled once an instruction set and dispatched at run time.
///
/// `simd_fn! { /// doc pub fn name(s, args…) -> R { body over s: impl Simd } }`
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($s:ident $(, $arg:ident: $ty:ty)* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "the arguments of the one kernel this wraps")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "as above")]
            fn body<S: $crate::arch::Simd>($s: S $(, $arg: $ty)*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments, reason = "as above")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function is compiled with, and only entered on processors with,
                // the instruction set that the token vouches for.
                let token = unsafe { $crate::arch::avx2::Avx2::new_unchecked() };
                body(token $(, $arg)*)
            }
            match $crate::arch::current() {
                // SAFETY: `current` only names a set that `Isa::available` found.
                #[cfg(target_arch = "x86_64")]
                $crate::arch::Isa::Avx2 | $crate::arch::Isa::Avx512 => unsafe { avx2($($arg),*) },
                _ => body($crate::arch::scalar::Scalar $(, $arg)*),
            }
        }
    };
}
pub(crate) use simd_fn;
