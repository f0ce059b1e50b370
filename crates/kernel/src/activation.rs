//! Pointwise activations and the gated SwiGLU, forward and backward.

use crate::arch::{Simd, simd_fn};
use crate::lanes::{read, vectors, write};
use crate::math;
use crate::split::{Cut, Out, parallel_rows};

/// A pointwise activation. Φ is the standard normal distribution function, σ the logistic function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x Φ(x)`, the exact GELU (Hendrycks & Gimpel 2016; BERT).
    GeluErf,
    /// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`, GELU's tanh approximation (GPT-2).
    GeluTanh,
    /// `x σ(x)`, also called swish (Llama, Qwen).
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²` (So et al. 2021, Primer).
    Relu2,
    /// `tanh x`.
    Tanh,
    /// `σ(x) = 1 / (1 + e^-x)`.
    Sigmoid,
}

/// √(2/π)
const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBIC: f32 = 0.044_715;

/// `kind(x)`. A NaN stays NaN.
#[inline(always)]
pub(crate) fn apply<S: Simd>(s: S, kind: Activation, x: S::V) -> S::V {
    match kind {
        Activation::GeluErf => s.mul(x, math::normal(s, x).0),
        Activation::GeluTanh => s.mul(x, gelu_gate(s, x)),
        Activation::Silu => s.mul(x, math::sigmoid(s, x)),
        Activation::Relu => s.max(s.splat(0.0), x),
        Activation::Relu2 => {
            let r = s.max(s.splat(0.0), x);
            s.mul(r, r)
        }
        Activation::Tanh => math::tanh(s, x),
        Activation::Sigmoid => math::sigmoid(s, x),
    }
}

/// `(1 + tanh u) / 2 = σ(2u)` with `u = √(2/π) (x + 0.044715 x³)`: the logistic form keeps the digits
/// of the lower tail, which `1 + tanh` cancels.
#[inline(always)]
fn gelu_gate<S: Simd>(s: S, x: S::V) -> S::V {
    let cubic = s.fma(s.mul(x, x), s.splat(GELU_CUBIC), s.splat(1.0));
    math::sigmoid(s, s.mul(s.mul(x, s.splat(2.0 * GELU_SCALE)), cubic))
}

/// The derivative of `kind` at `x`. At the kink of ReLU it is 0.
#[inline(always)]
fn derivative<S: Simd>(s: S, kind: Activation, x: S::V) -> S::V {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    match kind {
        Activation::GeluErf => {
            let (cdf, pdf) = math::normal(s, x);
            s.fma(x, pdf, cdf)
        }
        Activation::GeluTanh => {
            // Beyond ±10 the slope is 0 or 1 to the last bit; bounded, the squares can't overflow.
            let x = s.max(s.splat(-10.0), s.min(s.splat(10.0), x));
            let gate = gelu_gate(s, x);
            // 2u'
            let inner = s.fma(s.mul(x, x), s.splat(6.0 * GELU_CUBIC * GELU_SCALE), s.splat(2.0 * GELU_SCALE));
            s.mul(gate, s.fma(s.mul(x, inner), s.sub(one, gate), one))
        }
        Activation::Silu => silu_derivative(s, x, math::sigmoid(s, x)),
        Activation::Relu => s.select_lt(zero, x, one, zero),
        Activation::Relu2 => s.mul(s.splat(2.0), s.max(zero, x)),
        Activation::Tanh => {
            let t = math::tanh(s, x);
            s.sub(one, s.mul(t, t))
        }
        Activation::Sigmoid => {
            let y = math::sigmoid(s, x);
            s.mul(y, s.sub(one, y))
        }
    }
}

/// `σ (1 + x (1 - σ))` with `σ = σ(x)`.
#[inline(always)]
fn silu_derivative<S: Simd>(s: S, x: S::V, sigma: S::V) -> S::V {
    let one = s.splat(1.0);
    s.mul(sigma, s.fma(x, s.sub(one, sigma), one))
}

/// Calls `$f(…, kind, …)` with `kind` a constant in each arm, so that each gets a loop of its own.
macro_rules! for_each_kind {
    ($kind:ident, $f:ident($($arg:expr),*)) => {
        match $kind {
            Activation::GeluErf => $f($($arg,)* Activation::GeluErf),
            Activation::GeluTanh => $f($($arg,)* Activation::GeluTanh),
            Activation::Silu => $f($($arg,)* Activation::Silu),
            Activation::Relu => $f($($arg,)* Activation::Relu),
            Activation::Relu2 => $f($($arg,)* Activation::Relu2),
            Activation::Tanh => $f($($arg,)* Activation::Tanh),
            Activation::Sigmoid => $f($($arg,)* Activation::Sigmoid),
        }
    };
}

#[inline(always)]
fn forward_loop<S: Simd>(s: S, x: &[f32], y: &mut [f32], kind: Activation) {
    vectors!(y.len(), |i, n| write(s, y, i, n, apply(s, kind, read(s, x, i, n))));
}

#[inline(always)]
fn backward_loop<S: Simd>(s: S, x: &[f32], dy: &[f32], dx: &mut [f32], kind: Activation) {
    vectors!(dx.len(), |i, n| {
        let slope = derivative(s, kind, read(s, x, i, n));
        write(s, dx, i, n, s.mul(slope, read(s, dy, i, n)));
    });
}

simd_fn! {
    fn forward_chunk(s, kind: Activation, x: &[f32], y: &mut [f32]) {
        for_each_kind!(kind, forward_loop(s, x, y))
    }
}

simd_fn! {
    fn backward_chunk(s, kind: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        for_each_kind!(kind, backward_loop(s, x, dy, dx))
    }
}

/// `y = kind(x)`, value by value.
///
/// # Panics
/// If the lengths differ.
pub fn activation_forward(kind: Activation, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    parallel_rows(Cut::new(x.len(), 1), [Out::Rows(y, 1)], |r, [y]| forward_chunk(kind, &x[r], y));
}

/// `dx = dy · kind'(x)`, where `x` is what [`activation_forward`] was given.
///
/// # Panics
/// If the lengths differ.
pub fn activation_backward(kind: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert_eq!((x.len(), dy.len()), (dx.len(), dx.len()));
    parallel_rows(Cut::new(x.len(), 1), [Out::Rows(dx, 1)], |r, [dx]| {
        backward_chunk(kind, &x[r.clone()], &dy[r], dx);
    });
}

#[inline(always)]
fn gated_loop<S: Simd>(s: S, gate: &[f32], up: &[f32], y: &mut [f32], kind: Activation) {
    vectors!(y.len(), |i, n| {
        let gate = apply(s, kind, read(s, gate, i, n));
        write(s, y, i, n, s.mul(gate, read(s, up, i, n)));
    });
}

simd_fn! {
    fn gated_chunk(s, kind: Activation, gate: &[f32], up: &[f32], y: &mut [f32]) {
        for_each_kind!(kind, gated_loop(s, gate, up, y))
    }
}

simd_fn! {
    fn swiglu_backward_chunk(s, gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        vectors!(dy.len(), |i, n| {
            let (g, d) = (read(s, gate, i, n), read(s, dy, i, n));
            let sigma = math::sigmoid(s, g);
            write(s, dup, i, n, s.mul(d, s.mul(g, sigma)));
            let through_up = s.mul(d, read(s, up, i, n));
            write(s, dgate, i, n, s.mul(through_up, silu_derivative(s, g, sigma)));
        });
    }
}

/// A gated linear unit: `y = kind(gate) · up`, value by value (Shazeer 2020, "GLU variants improve
/// Transformer"): SwiGLU with SiLU, GeGLU with GELU.
///
/// # Panics
/// If the lengths differ.
pub fn gated_forward(kind: Activation, gate: &[f32], up: &[f32], y: &mut [f32]) {
    assert_eq!((gate.len(), up.len()), (y.len(), y.len()));
    parallel_rows(Cut::new(gate.len(), 1), [Out::Rows(y, 1)], |r, [y]| {
        gated_chunk(kind, &gate[r.clone()], &up[r], y);
    });
}

/// [`gated_forward`] with SiLU.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu_forward(gate: &[f32], up: &[f32], y: &mut [f32]) {
    gated_forward(Activation::Silu, gate, up, y);
}

/// The gradients of [`swiglu_forward`]: `dgate = dy · up · silu'(gate)` and `dup = dy · silu(gate)`.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    assert_eq!((gate.len(), up.len(), dy.len()), (dgate.len(), dgate.len(), dgate.len()));
    let outs = [Out::Rows(dgate, 1), Out::Rows(dup, 1)];
    parallel_rows(Cut::new(gate.len(), 1), outs, |r, [dgate, dup]| {
        swiglu_backward_chunk(&gate[r.clone()], &up[r.clone()], &dy[r], dgate, dup);
    });
}
