//! Pointwise activations.
use crate::arch::Simd;
use crate::math;

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x Φ(x)
    GeluErf,
    /// tanh approximation
    GeluTanh,
    /// x σ(x)
    Silu,
    /// max(x, 0)
    Relu,
    /// max(x, 0)²
    Relu2,
    /// tanh
    Tanh,
    /// logistic
    Sigmoid,
}

#[inline(always)]
pub(crate) fn apply<S: Simd>(s: S, kind: Activation, x: S::V) -> S::V {
    match kind {
        Activation::GeluErf => s.mul(x, math::normal(s, x).0),
        Activation::GeluTanh => {
            let u = s.mul(s.fma(s.mul(s.mul(x, x), x), s.splat(0.044715), x), s.splat(0.797_884_6));
            s.mul(s.mul(x, s.splat(0.5)), s.add(s.splat(1.0), math::tanh(s, u)))
        }
        Activation::Silu => s.mul(x, math::sigmoid(s, x)),
        Activation::Relu => s.max(x, s.splat(0.0)),
        Activation::Relu2 => {
            let r = s.max(x, s.splat(0.0));
            s.mul(r, r)
        }
        Activation::Tanh => math::tanh(s, x),
        Activation::Sigmoid => math::sigmoid(s, x),
    }
}
