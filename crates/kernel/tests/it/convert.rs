//! Conversions against the `half` crate, bit for bit.

use crate::compare::{everywhere, noise};
use hearth_kernel::convert::*;
use hearth_kernel::{Isa, bf16, f16, with_isa};
use proptest::prelude::*;

/// Every upper half of an `f32`, with lower halves at, below and above the ties.
fn patterns() -> Vec<f32> {
    let low = [0, 1, 0x0fff, 0x1000, 0x1001, 0x2000, 0x7fff, 0x8000, 0x8001, 0xffff];
    (0..=0xffffu32).flat_map(|high| low.map(|low| f32::from_bits(high << 16 | low))).collect()
}

#[test]
fn narrowing_rounds_to_nearest_even() {
    let x = patterns();
    for isa in Isa::available() {
        let (mut b, mut h) = (vec![bf16::ZERO; x.len()], vec![f16::ZERO; x.len()]);
        with_isa(isa, || {
            f32_to_bf16(&x, &mut b);
            f32_to_f16(&x, &mut h);
        });
        for ((x, b), h) in x.iter().zip(&b).zip(&h) {
            if x.is_nan() {
                assert!(b.is_nan() && h.is_nan(), "{isa:?}: NaN {:#x} is lost", x.to_bits());
            } else {
                assert_eq!(b.to_bits(), bf16::from_f32(*x).to_bits(), "{isa:?}: bf16 of {x:e}");
                assert_eq!(h.to_bits(), f16::from_f32(*x).to_bits(), "{isa:?}: f16 of {x:e}");
            }
        }
    }
}

#[test]
fn widening_is_exact() {
    let b: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    let h: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    for isa in Isa::available() {
        let (mut from_b, mut from_h) = (vec![0.0; b.len()], vec![0.0; h.len()]);
        with_isa(isa, || {
            bf16_to_f32(&b, &mut from_b);
            f16_to_f32(&h, &mut from_h);
        });
        let same = |got: f32, want: f32| got == want || got.is_nan() && want.is_nan();
        assert!(from_b.iter().zip(&b).all(|(got, b)| same(*got, b.to_f32())), "{isa:?}");
        assert!(from_h.iter().zip(&h).all(|(got, h)| same(*got, h.to_f32())), "{isa:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn any_length_goes_there_and_back(len in 0usize..40_000) {
        let x = noise(len, 1, 100.0);
        let run = || {
            let (mut b, mut h) = (vec![bf16::ONE; len], vec![f16::ONE; len]);
            f32_to_bf16(&x, &mut b);
            f32_to_f16(&x, &mut h);
            let (mut from_b, mut from_h) = (vec![9.0; len], vec![9.0; len]);
            bf16_to_f32(&b, &mut from_b);
            f16_to_f32(&h, &mut from_h);
            [from_b, from_h]
        };
        let want_b: Vec<f32> = x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
        let want_h: Vec<f32> = x.iter().map(|&x| f16::from_f32(x).to_f32()).collect();
        for (isa, got) in everywhere(run) {
            assert!(got == [want_b.clone(), want_h.clone()], "{isa:?}");
        }
    }
}
