//! Reading and writing blocks against each other, on arbitrary bytes.

use super::layout::halves;
use super::*;
use half::f16;
use proptest::prelude::*;

fn quantized() -> impl Iterator<Item = BlockType> {
    BlockType::ALL.into_iter().filter(|kind| kind.is_quantized())
}

/// A block of these bytes, with steps that are finite.
fn block_of(kind: BlockType, bytes: &[u8]) -> Vec<u8> {
    let mut block = bytes[..kind.block_bytes()].to_vec();
    for &at in halves(kind) {
        let half = f16::from_le_bytes([block[at], block[at + 1]]);
        if !half.is_finite() {
            block[at + 1] ^= 0x40;
        }
    }
    block
}

proptest! {
    #[test]
    fn writing_what_was_read_gives_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 256)) {
        for kind in quantized() {
            let block = block_of(kind, &bytes);
            let mut read = SubBlocks::default();
            read.decode(kind, &block);
            let mut written = vec![0xaa; block.len()];
            read.encode(kind, &mut written);
            prop_assert_eq!(&written, &block, "{}", kind);
        }
    }

    #[test]
    fn each_value_is_what_the_formula_says(bytes in prop::collection::vec(any::<u8>(), 256)) {
        for kind in quantized() {
            let block = block_of(kind, &bytes);
            let mut read = SubBlocks::default();
            read.decode(kind, &block);
            let mut values = vec![0.0; kind.block_len()];
            dequantize(kind, &block, &mut values);
            for (i, value) in values.iter().enumerate() {
                let s = i / kind.sub_len();
                let code = i32::from(read.q[i]) - i32::from(read.offset);
                let want = (read.d * f32::from(read.scales[s])) * code as f32 - read.dmin * f32::from(read.mins[s]);
                prop_assert_eq!(value.to_bits(), want.to_bits(), "{} {}", kind, i);
            }
        }
    }
}

#[test]
fn integers_fit_signed_bytes() {
    for kind in quantized() {
        for byte in 0..=u8::MAX {
            let mut read = SubBlocks::default();
            read.decode(kind, &block_of(kind, &[byte; 256]));
            let codes = read.q[..kind.block_len()].iter().map(|&q| i32::from(q) - i32::from(read.offset));
            assert!(codes.clone().all(|code| (-128..=127).contains(&code)), "{kind} {byte:#x}");
        }
    }
}

#[test]
fn planes_cover_each_bit_of_a_block_once() {
    for kind in quantized() {
        let mut ones = vec![0; kind.block_bytes()];
        for plane in layout::planes(kind) {
            let before: u32 = ones.iter().map(|byte: &u8| byte.count_ones()).sum();
            plane.write(&vec![0xff; kind.block_len()], &mut ones);
            let after: u32 = ones.iter().map(|byte| byte.count_ones()).sum();
            assert_eq!(after - before, plane.width * kind.block_len() as u32, "{kind}");
        }
        assert!(halves(kind).iter().all(|&at| ones[at] == 0 && ones[at + 1] == 0), "{kind}");
    }
}
