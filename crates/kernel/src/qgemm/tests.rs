//! Every instruction set against plain loops, and those against decoded weights.

use super::*;
use crate::arch::with_isa;
use crate::quant::{BlockType, dequantize};
use proptest::prelude::*;

/// Formats that are multiplied as integers.
fn formats() -> Vec<BlockType> {
    BlockType::ALL.iter().copied().filter(|&kind| QuantMatrix::takes(kind)).collect()
}

/// A small generator of its own, so that a failure repeats.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 56) as u8
    }

    fn value(&mut self) -> f32 {
        (f32::from(self.next()) - 127.5) / 64.0 + f32::from(self.next()) / 16_384.0
    }
}

/// Random blocks with scales of a sane size: the format's half-precision fields are between 0.5 and 2.
fn blocks(kind: BlockType, values: usize, random: &mut Bytes) -> Vec<u8> {
    let halves: &[usize] = match kind {
        BlockType::Q4_0 | BlockType::Q5_0 | BlockType::Q8_0 | BlockType::Iq4Nl => &[0],
        BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4K | BlockType::Q5K => &[0, 2],
        BlockType::Q2K => &[80, 82],
        BlockType::Q3K => &[108],
        BlockType::Q6K => &[208],
        BlockType::F32 | BlockType::F16 | BlockType::Bf16 => &[],
    };
    let mut bytes: Vec<u8> =
        (0..values / kind.block_len() * kind.block_bytes()).map(|_| random.next()).collect();
    for block in bytes.chunks_exact_mut(kind.block_bytes()) {
        for &at in halves {
            let scale = f16::from_f32(0.5 + f32::from(random.next()) / 170.0);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

struct Case {
    w: QuantMatrix,
    dense: Vec<f32>,
    x: Vec<f32>,
    quantized: QuantizedRows,
    bias: Vec<f32>,
}

fn case(kind: BlockType, rows: usize, outputs: usize, inputs: usize, seed: u64) -> Case {
    let mut random = Bytes(seed);
    let bytes = blocks(kind, outputs * inputs, &mut random);
    let mut dense = vec![0.0; outputs * inputs];
    dequantize(kind, &bytes, &mut dense);
    let x: Vec<f32> = (0..rows * inputs).map(|_| random.value()).collect();
    let mut quantized = QuantizedRows::new();
    quantized.quantize(&x, inputs);
    let bias = (0..outputs).map(|_| random.value()).collect();
    Case { w: QuantMatrix::pack(kind, &bytes, outputs, inputs, |i| i), dense, x, quantized, bias }
}

impl Case {
    fn product(&self, isa: Isa) -> Vec<f32> {
        let mut y = vec![f32::NAN; self.quantized.rows() * self.w.outputs()];
        with_isa(isa, || quant_linear(&self.quantized, &self.w, Some(&self.bias), &mut y));
        y
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_set_gives_the_bits_of_plain_loops(
        rows in 1usize..28, outputs in 1usize..40, blocks in 1usize..3, seed: u64
    ) {
        for kind in formats() {
            let case = case(kind, rows, outputs, blocks * 256, seed);
            let plain = case.product(Isa::Scalar);
            for isa in Isa::available() {
                prop_assert_eq!(&case.product(isa), &plain, "{} on {}", kind.name(), isa.name());
            }
        }
    }

    #[test]
    fn plain_loops_multiply_what_the_blocks_decode_to(rows in 1usize..6, outputs in 1usize..20, seed: u64) {
        for kind in formats() {
            let inputs = 512;
            let case = case(kind, rows, outputs, inputs, seed);
            let y = case.product(Isa::Scalar);
            for (i, y) in y.iter().enumerate() {
                let (row, output) = (i / outputs, i % outputs);
                let (x, w) = (&case.x[row * inputs..][..inputs], &case.dense[output * inputs..][..inputs]);
                let exact: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                let size: f64 = x.iter().zip(w).map(|(x, w)| (f64::from(*x) * f64::from(*w)).abs()).sum();
                let exact = exact + f64::from(case.bias[output]);
                // Eight bits leave x off by up to 1/254 of a block's largest value.
                prop_assert!((f64::from(*y) - exact).abs() <= 0.004 * size, "{}: {y} {exact}", kind.name());
            }
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_alone_and_in_company() {
    for kind in formats() {
        let all = case(kind, 23, 50, 256, 7);
        let together = all.product(arch::current());
        for row in 0..23 {
            let mut x = QuantizedRows::new();
            x.quantize(&all.x[row * 256..][..256], 256);
            let mut y = vec![0.0; 50];
            quant_linear(&x, &all.w, Some(&all.bias), &mut y);
            assert_eq!(y, together[row * 50..][..50], "{} row {row}", kind.name());
        }
    }
}

#[test]
fn what_is_not_finite_shows_in_the_result_and_zeros_are_zero() {
    let mut case = case(BlockType::Q8_0, 3, 16, 64, 1);
    case.x[70] = f32::INFINITY;
    case.x[..64].fill(0.0);
    case.quantized.quantize(&case.x, 64);
    let y = case.product(arch::current());
    assert_eq!(y[..16], case.bias[..]);
    assert!(y[16..32].iter().all(|y| y.is_nan()) && y[32..].iter().all(|y| y.is_finite()));
}

#[test]
fn the_extremes_of_both_sides_do_not_overflow() {
    let mut block = f16::from_f32(1.0).to_le_bytes().to_vec();
    block.extend([0x80u8; 32]);
    let w = QuantMatrix::pack(BlockType::Q8_0, &block, 1, 32, |i| i);
    for sign in [1.0, -1.0] {
        let mut x = QuantizedRows::new();
        x.quantize(&[sign * 127.0; 32], 32);
        for isa in Isa::available() {
            let mut y = [0.0];
            with_isa(isa, || quant_linear(&x, &w, None, &mut y));
            assert_eq!(y[0], -sign * 128.0 * 127.0 * 32.0, "{}", isa.name());
        }
    }
}
