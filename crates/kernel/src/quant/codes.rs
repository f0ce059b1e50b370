//! A block read but not multiplied out: its integers, scales and minima.

use super::layout::{Q3K_SCALES, halves, planes};
use super::{BlockType, LONGEST};
use half::f16;

/// What IQ4_NL's sixteen codes stand for, in ascending order.
pub(super) const IQ4_NL_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// One block: value `i` is `(d · scales[s]) · (q[i] − offset) − dmin · mins[s]` in this order of
/// operations, each rounded to `f32`, with `s = i / sub_len`. That gives the same bits as
/// [`dequantize`](super::dequantize), which is defined by it.
///
/// Formats without sub-blocks have a scale of 1, and a minimum of 0, or of 1 with `dmin = −m`.
/// Entries past the block's values and sub-blocks mean nothing.
#[derive(Clone)]
pub(crate) struct SubBlocks {
    /// The stored integers. For IQ4_NL they are the table's values, plus `offset`.
    pub q: [u8; LONGEST],
    /// What is subtracted from them.
    pub offset: u8,
    /// The step of the block.
    pub d: f32,
    /// The step of its minima; 0 if the format has none.
    pub dmin: f32,
    /// A scale for each sub-block.
    pub scales: [i8; 16],
    /// A minimum for each sub-block.
    pub mins: [u8; 16],
}

impl Default for SubBlocks {
    fn default() -> Self {
        SubBlocks { q: [0; LONGEST], offset: 0, d: 0.0, dmin: 0.0, scales: [1; 16], mins: [0; 16] }
    }
}

impl SubBlocks {
    /// Reads a block.
    ///
    /// # Panics
    /// If it isn't `kind.block_bytes()` long, or `kind` is one of the three plain formats.
    #[inline(always)]
    pub(crate) fn decode(&mut self, kind: BlockType, block: &[u8]) {
        assert!(kind.is_quantized(), "{kind} has no blocks");
        assert_eq!(block.len(), kind.block_bytes(), "bytes of a block of {kind}");
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        let steps = halves(kind);
        self.d = half(steps[0]);
        self.dmin = steps.get(1).map_or(0.0, |&at| half(at));
        self.offset = kind.offset();
        let q = &mut self.q[..kind.block_len()];
        q.fill(0);
        for plane in planes(kind) {
            plane.read(block, q);
        }
        self.scales = [1; 16];
        self.mins = [0; 16];
        match kind {
            BlockType::Q4_1 | BlockType::Q5_1 => (self.dmin, self.mins) = (-self.dmin, [1; 16]),
            BlockType::Q8_0 => q.iter_mut().for_each(|q| *q ^= 0x80),
            BlockType::Iq4Nl => q.iter_mut().for_each(|q| *q = iq4_nl_byte(*q)),
            BlockType::Q2K => {
                self.scales = std::array::from_fn(|s| (block[s] & 15) as i8);
                self.mins = std::array::from_fn(|s| block[s] >> 4);
            }
            BlockType::Q3K => {
                let mut scales = [0; 16];
                Q3K_SCALES.iter().for_each(|plane| plane.read(&block[96..108], &mut scales));
                self.scales = scales.map(|scale| scale as i8 - 32);
            }
            BlockType::Q4K | BlockType::Q5K => self.read_six_bits(&block[4..16]),
            BlockType::Q6K => self.scales = std::array::from_fn(|s| block[192 + s] as i8),
            _ => {}
        }
    }

    /// The eight scales and minima of Q4_K and Q5_K. The first four of each are the low six bits of
    /// bytes 0..4 and 4..8, whose upper two bits belong to the last four; these have their low four
    /// bits in bytes 8..12.
    fn read_six_bits(&mut self, bytes: &[u8]) {
        for j in 0..4 {
            self.scales[j] = (bytes[j] & 63) as i8;
            self.mins[j] = bytes[4 + j] & 63;
            self.scales[4 + j] = (bytes[8 + j] & 15 | bytes[j] >> 6 << 4) as i8;
            self.mins[4 + j] = bytes[8 + j] >> 4 | bytes[4 + j] >> 6 << 4;
        }
    }

    /// The values, in sub-blocks of `sub_len`.
    #[inline(always)]
    pub(crate) fn multiply_out(&self, sub_len: usize, out: &mut [f32]) {
        let codes = self.q.chunks_exact(sub_len);
        let steps = self.scales.iter().zip(&self.mins);
        for ((out, codes), (&scale, &min)) in out.chunks_exact_mut(sub_len).zip(codes).zip(steps) {
            let (scale, min) = (self.d * f32::from(scale), self.dmin * f32::from(min));
            for (out, &q) in out.iter_mut().zip(codes) {
                *out = scale * f32::from(i16::from(q) - i16::from(self.offset)) - min;
            }
        }
    }
}

/// The table's value for a code, with the offset of 128 that makes it a byte.
pub(super) fn iq4_nl_byte(code: u8) -> u8 {
    IQ4_NL_VALUES[usize::from(code & 15)] as u8 ^ 0x80
}
