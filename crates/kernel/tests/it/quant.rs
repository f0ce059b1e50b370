//! Block formats: golden blocks of the Python package `gguf`, error budgets, and hard inputs.

use crate::compare::{everywhere, noise};
use hearth_kernel::f16;
use hearth_kernel::quant::{BlockType, QuantizeError, dequantize, first_not_finite, quantize};
use proptest::prelude::*;
use safetensors::SafeTensors;

const GOLDEN: &[u8] = include_bytes!("../golden/quant.safetensors");

fn golden(name: &str) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(GOLDEN).expect("golden file");
    tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).data().to_vec()
}

fn golden_values(name: &str) -> Vec<f32> {
    golden(name).as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn read(kind: BlockType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![f32::NAN; bytes.len() / kind.block_bytes() * kind.block_len()];
    dequantize(kind, bytes, &mut values);
    values
}

fn write(
    kind: BlockType,
    x: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
) -> Result<Vec<u8>, QuantizeError> {
    let mut bytes = vec![0xaa; kind.bytes_for(x.len()).unwrap_or(0)];
    quantize(kind, x, cols, importance, &mut bytes).map(|()| bytes)
}

fn there_and_back(kind: BlockType, x: &[f32], cols: usize, importance: Option<&[f32]>) -> Vec<f32> {
    read(kind, &write(kind, x, cols, importance).unwrap_or_else(|e| panic!("{kind}: {e}")))
}

/// `Σ weight · (y − x)²`, the weight 1 where there are none.
fn loss(x: &[f32], y: &[f32], importance: Option<&[f32]>) -> f64 {
    let weight = |i: usize| importance.map_or(1.0, |w| f64::from(w[i % w.len()]));
    x.iter().zip(y).enumerate().map(|(i, (&x, &y))| weight(i) * f64::from(y - x).powi(2)).sum()
}

/// Root mean square error, relative to the root mean square of `x`.
fn relative_error(x: &[f32], y: &[f32]) -> f64 {
    (loss(x, y, None) / loss(x, &vec![0.0; x.len()], None)).sqrt()
}

/// Normal values (Box & Muller).
fn gaussian(len: usize, seed: u64) -> Vec<f32> {
    let uniform = noise(2 * len, seed, 0.5);
    let pairs = uniform.as_chunks::<2>().0;
    let radius = |u: f32| (-2.0 * (u + 0.5).max(1e-7).ln()).sqrt();
    pairs.iter().map(|&[a, b]| radius(a) * (std::f32::consts::TAU * b).cos()).collect()
}

/// Normal values, one in a hundred of them twenty times as large.
fn with_outliers(len: usize, seed: u64) -> Vec<f32> {
    let chance = noise(len, seed + 1, 1.0);
    gaussian(len, seed).iter().zip(chance).map(|(x, c)| if c > 0.98 { 20.0 * x } else { *x }).collect()
}

fn quantized() -> impl Iterator<Item = BlockType> {
    BlockType::ALL.into_iter().filter(|kind| kind.is_quantized())
}

#[test]
fn names_and_numbers_lead_back() {
    for kind in BlockType::ALL {
        assert_eq!(BlockType::from_id(kind.id()), Some(kind));
        assert_eq!(BlockType::from_name(&kind.name().to_lowercase()), Some(kind));
        assert_eq!(kind.bytes_for(3 * kind.block_len()), Some(3 * kind.block_bytes()));
        assert_eq!(kind.bytes_for(kind.block_len() + 1).is_some(), kind.block_len() == 1);
    }
    assert_eq!((BlockType::from_id(4), BlockType::from_name("Q4")), (None, None));
    assert_eq!(BlockType::F32.bytes_for(usize::MAX), None);
}

#[test]
fn blocks_mean_what_ggml_says() {
    for kind in BlockType::ALL.into_iter().filter(|&kind| kind != BlockType::F32) {
        let want = golden_values(&format!("{kind}.values"));
        let got = read(kind, &golden(&format!("{kind}.blocks")));
        assert_eq!(got.len(), want.len(), "{kind}");
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got.to_bits(), want.to_bits(), "{kind}, value {i}: {got}, expected {want}");
        }
    }
}

#[test]
fn formats_without_sub_blocks_are_rounded_as_ggml_does() {
    use BlockType::*;
    let x = golden_values("x");
    for kind in [F16, Bf16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0] {
        let got = write(kind, &x, 64, None).expect("finite values");
        let want = golden(&format!("{kind}.rounded"));
        let differs = got.iter().zip(&want).position(|(got, want)| got != want);
        assert_eq!((got.len(), differs), (want.len(), None), "{kind}, in blocks of {}", kind.block_bytes());
    }
}

#[test]
fn plain_formats_keep_what_they_can() {
    let x = gaussian(1000, 1);
    assert_eq!(there_and_back(BlockType::F32, &x, 1000, None), x);
    let halves: Vec<f32> = x.iter().map(|&x| f16::from_f32(x).to_f32()).collect();
    assert_eq!(there_and_back(BlockType::F16, &x, 1000, None), halves);
}

/// Relative errors on normal values and on normal values with outliers: what was measured, and
/// two percent on top.
#[test]
fn errors_stay_within_their_budgets() {
    let budgets = [
        (BlockType::Q4_0, 0.0880, 0.1442),
        (BlockType::Q4_1, 0.0800, 0.1125),
        (BlockType::Q5_0, 0.0433, 0.0887),
        (BlockType::Q5_1, 0.0384, 0.0552),
        (BlockType::Q8_0, 0.0055, 0.0116),
        (BlockType::Q2K, 0.2662, 0.2047),
        (BlockType::Q3K, 0.1459, 0.1467),
        (BlockType::Q4K, 0.0711, 0.1000),
        (BlockType::Q5K, 0.0350, 0.0518),
        (BlockType::Q6K, 0.0176, 0.0326),
        (BlockType::Iq4Nl, 0.0749, 0.1183),
    ];
    assert_eq!(budgets.len(), quantized().count());
    let (normal, outliers) = (gaussian(1 << 14, 5), with_outliers(1 << 14, 6));
    for (kind, for_normal, for_outliers) in budgets {
        for (x, budget) in [(&normal, for_normal), (&outliers, for_outliers)] {
            let error = relative_error(x, &there_and_back(kind, x, 1 << 10, None));
            assert!(error <= budget, "{kind}: {error:.5}, budget {budget}");
        }
    }
}

/// A K format with the extremes of each sub-block as the ends of its range, and steps that just hold
/// the largest scale and minimum.
fn extremes(kind: BlockType, x: &[f32]) -> Vec<f32> {
    let (top, most, symmetric) = match kind {
        BlockType::Q2K => (3.0, 15.0, false),
        BlockType::Q4K => (15.0, 63.0, false),
        BlockType::Q5K => (31.0, 63.0, false),
        BlockType::Q3K => (3.0, 31.0, true),
        _ => (31.0, 127.0, true),
    };
    let step = |sizes: &[f32]| {
        f16::from_f32(sizes.iter().copied().fold(0.0, f32::max) / most).to_f32().max(f32::MIN_POSITIVE)
    };
    let block = |x: &[f32]| -> Vec<f32> {
        let subs = || x.chunks(kind.sub_len());
        let low = |x: &[f32]| x.iter().copied().fold(0.0, f32::min);
        let reach = |x: &[f32]| x.iter().fold(0.0, |a: f32, x| a.max(x.abs()));
        let span = |x: &[f32]| x.iter().copied().fold(0.0, f32::max) - low(x);
        let scales: Vec<f32> = subs().map(|x| if symmetric { reach(x) } else { span(x) } / top).collect();
        let lows: Vec<f32> = subs().map(|x| if symmetric { 0.0 } else { -low(x) }).collect();
        let (d, dmin) = (step(&scales), step(&lows));
        let round = |(x, (scale, low)): (&[f32], (&f32, &f32))| -> Vec<f32> {
            let (scale, low) = (d * (scale / d).round(), -dmin * (low / dmin).round());
            let bottom = if symmetric { -top - 1.0 } else { 0.0 };
            let code = |x: f32| ((x - low) / scale.max(f32::MIN_POSITIVE)).round().clamp(bottom, top);
            x.iter().map(|&x| scale * code(x) + low).collect()
        };
        subs().zip(scales.iter().zip(&lows)).flat_map(round).collect()
    };
    x.chunks(256).flat_map(block).collect()
}

#[test]
fn the_search_beats_taking_the_extremes() {
    use BlockType::*;
    for seed in 0..20 {
        for x in [gaussian(1024, seed), with_outliers(1024, seed)] {
            for kind in [Q2K, Q3K, Q4K, Q5K, Q6K] {
                let found = relative_error(&x, &there_and_back(kind, &x, 1024, None));
                let plain = relative_error(&x, &extremes(kind, &x));
                assert!(found < plain, "{kind}, seed {seed}: {found:.5}, with the extremes {plain:.5}");
            }
        }
    }
}

#[test]
fn importance_lowers_what_it_weighs() {
    let (rows, cols) = (8, 512);
    let x = gaussian(rows * cols, 9);
    let importance: Vec<f32> = gaussian(cols, 10).iter().map(|x| (2.0 * x).exp()).collect();
    for kind in quantized().filter(|&kind| kind != BlockType::Q8_0) {
        let weighed = there_and_back(kind, &x, cols, Some(&importance));
        let plain = there_and_back(kind, &x, cols, None);
        let (weighed, plain) = (loss(&x, &weighed, Some(&importance)), loss(&x, &plain, Some(&importance)));
        assert!(weighed < 0.4 * plain, "{kind}: {weighed:e} with importance, {plain:e} without");
    }
}

#[test]
fn only_ratios_of_importance_matter_and_none_means_alike() {
    let x = gaussian(512, 11);
    let importance: Vec<f32> = gaussian(512, 12).iter().map(|x| x.exp()).collect();
    for kind in quantized() {
        let bytes = |factor: f32| {
            let scaled: Vec<f32> = importance.iter().map(|w| w * factor).collect();
            write(kind, &x, 512, Some(&scaled)).expect("finite values")
        };
        assert_eq!(bytes(1.0), bytes(2f32.powi(100)), "{kind}");
        assert_eq!(bytes(0.0), write(kind, &x, 512, None).expect("finite values"), "{kind}");
    }
}

#[test]
fn threads_and_instruction_sets_agree() {
    let x = gaussian(1 << 16, 13);
    let importance: Vec<f32> = gaussian(512, 14).iter().map(|x| x.exp()).collect();
    for kind in BlockType::ALL {
        let results = everywhere(|| {
            let bytes = write(kind, &x, 512, Some(&importance)).expect("finite values");
            [read(kind, &bytes), bytes.iter().map(|&byte| f32::from(byte)).collect()]
        });
        assert!(results.iter().all(|(_, result)| *result == results[0].1), "{kind}");
    }
}

#[test]
fn zeros_and_equal_values_survive() {
    for kind in BlockType::ALL {
        for value in [0.0, -0.0, 1.0, -1.0, 3e-3] {
            let y = there_and_back(kind, &[value; 512], 256, None);
            // At 3e-3 the steps of Q5_K and Q6_K are half-precision numbers of five bits.
            let near = y.iter().all(|y| (y - value).abs() <= 1e-2 * value.abs());
            assert!(near, "{kind}: {value} becomes {}", y[0]);
        }
    }
}

#[test]
fn a_lone_outlier_is_kept() {
    for kind in BlockType::ALL {
        for value in [1000.0, -1000.0] {
            let mut x = vec![0.0; 256];
            x[77] = value;
            let y = there_and_back(kind, &x, 256, None);
            assert!((y[77] - value).abs() < 10.0, "{kind}: {value} becomes {}", y[77]);
            assert!(y.iter().enumerate().all(|(i, y)| i == 77 || y.abs() < 10.0), "{kind}: {y:?}");
        }
    }
}

#[test]
fn tiny_values_become_tiny_values() {
    for kind in BlockType::ALL {
        for scale in [1e-6, 1e-8, 1e-20, 1e-38, 1e-42] {
            let x: Vec<f32> = gaussian(512, 15).iter().map(|x| x * scale).collect();
            let y = there_and_back(kind, &x, 512, None);
            assert!(y.iter().all(|y| y.abs() <= 8.0 * scale.max(1e-5)), "{kind} at {scale:e}");
        }
    }
}

#[test]
fn what_no_block_can_hold_is_named() {
    for kind in BlockType::ALL {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = gaussian(40 * 1024, 16);
            x[33 * 1024 + 700] = value;
            x[34 * 1024] = f32::NAN;
            match write(kind, &x, 1024, None) {
                Err(QuantizeError::NotFinite { row: 33, column: 700, value: named }) => {
                    assert_eq!(named.to_bits(), value.to_bits());
                }
                other => panic!("{kind} with {value}: {:?}", other.map(|_| "blocks")),
            }
        }
        if kind != BlockType::F32 {
            let mut x = gaussian(2048, 17);
            x[1024 + 300] = -f32::MAX;
            let want = QuantizeError::TooLarge { row: 1, column: 300, value: -f32::MAX, kind };
            assert_eq!(write(kind, &x, 1024, None), Err(want));
        }
    }
}

#[test]
fn other_refusals() {
    let x = [1.0; 512];
    let short = write(BlockType::Q4K, &x[..384], 128, None);
    assert_eq!(short, Err(QuantizeError::RowLength { cols: 128, kind: BlockType::Q4K }));
    let said = short.expect_err("refused").to_string();
    assert_eq!(said, "rows of 128 values don't divide into Q4_K's blocks of 256");
    for wrong in [f32::NAN, -1.0, f32::INFINITY] {
        let mut importance = [1.0; 256];
        importance[9] = wrong;
        let refused = write(BlockType::Q8_0, &x, 256, Some(&importance));
        assert!(matches!(refused, Err(QuantizeError::Importance { column: 9, .. })), "{wrong}");
    }
}

#[test]
fn a_damaged_block_is_found() {
    for kind in BlockType::ALL {
        let mut bytes = write(kind, &gaussian(1024, 18), 1024, None).expect("finite values");
        assert_eq!(first_not_finite(kind, &bytes), None, "{kind}");
        let block = bytes.len() / kind.block_bytes() - 1;
        bytes[block * kind.block_bytes()..].fill(0xff);
        assert_eq!(first_not_finite(kind, &bytes), Some(block), "{kind}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Numbers of any size: either blocks that mean finite numbers, or an error.
    #[test]
    fn any_input_is_quantised_or_refused(
        x in prop::collection::vec(any::<f32>(), 256),
        tame in prop::collection::vec(any::<f32>().prop_map(|x| x % 1e4), 256),
        importance in prop::collection::vec(any::<f32>().prop_map(f32::abs), 256),
    ) {
        for kind in BlockType::ALL {
            for x in [&x, &tame] {
                for importance in [None, Some(&importance[..])] {
                    if let Ok(bytes) = write(kind, x, 256, importance) {
                        prop_assert!(first_not_finite(kind, &bytes).is_none(), "{}", kind);
                        prop_assert!(read(kind, &bytes).iter().all(|y| y.is_finite()), "{}", kind);
                    }
                }
            }
        }
    }
}
