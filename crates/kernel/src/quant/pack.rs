//! The inverse of reading a block: integers, scales and minima into bytes.

use super::codes::IQ4_NL_VALUES;
use super::layout::{Q3K_SCALES, halves, planes};
use super::{BlockType, SubBlocks};
use half::f16;

impl SubBlocks {
    /// Writes the block whose reading gives this one back.
    ///
    /// `d` and `dmin` must be half-precision numbers, scales, minima and integers in the format's
    /// range; for IQ4_NL the integers are the table's values, as in reading.
    ///
    /// # Panics
    /// If `block` isn't `kind.block_bytes()` long, or `kind` is one of the three plain formats.
    #[inline(always)]
    pub(crate) fn encode(&self, kind: BlockType, block: &mut [u8]) {
        assert!(kind.is_quantized(), "{kind} has no blocks");
        assert_eq!(block.len(), kind.block_bytes(), "bytes of a block of {kind}");
        block.fill(0);
        let mut q = self.q;
        let q = &mut q[..kind.block_len()];
        let mut dmin = self.dmin;
        match kind {
            BlockType::Q4_1 | BlockType::Q5_1 => dmin = -dmin,
            BlockType::Q8_0 => q.iter_mut().for_each(|q| *q ^= 0x80),
            BlockType::Iq4Nl => q.iter_mut().for_each(|q| *q = iq4_nl_code((*q ^ 0x80) as i8)),
            BlockType::Q2K => {
                for (byte, (scale, min)) in block.iter_mut().zip(self.scales.iter().zip(&self.mins)) {
                    *byte = *scale as u8 | min << 4;
                }
            }
            BlockType::Q3K => {
                let scales = self.scales.map(|scale| (scale + 32) as u8);
                Q3K_SCALES.iter().for_each(|plane| plane.write(&scales, &mut block[96..108]));
            }
            BlockType::Q4K | BlockType::Q5K => self.write_six_bits(&mut block[4..16]),
            BlockType::Q6K => {
                for (byte, scale) in block[192..208].iter_mut().zip(&self.scales) {
                    *byte = *scale as u8;
                }
            }
            _ => {}
        }
        for plane in planes(kind) {
            plane.write(q, block);
        }
        for (&at, step) in halves(kind).iter().zip([self.d, dmin]) {
            block[at..at + 2].copy_from_slice(&f16::from_f32(step).to_le_bytes());
        }
    }

    /// As `read_six_bits` reads them.
    fn write_six_bits(&self, bytes: &mut [u8]) {
        for j in 0..4 {
            let (scale, min) = (self.scales[4 + j] as u8, self.mins[4 + j]);
            bytes[j] = self.scales[j] as u8 | scale >> 4 << 6;
            bytes[4 + j] = self.mins[j] | min >> 4 << 6;
            bytes[8 + j] = scale & 15 | min << 4;
        }
    }
}

/// The code whose table value is `value`, or else the next higher.
pub(super) fn iq4_nl_code(value: i8) -> u8 {
    IQ4_NL_VALUES.partition_point(|&v| v < value) as u8
}
