//! The block formats of GGUF: what their bytes mean, and how values are rounded to them.
//!
//! A quantised tensor is a run of blocks along its rows. A block holds small integers `q`, and every
//! sub-block of 16 or 32 of them has a scale and perhaps a minimum of its own, integers too in the
//! "K" formats, where two half-precision steps `d` and `dmin` serve the whole block:
//!
//! `value = d · scale · (q − offset) − dmin · min`
//!
//! That is the one description here, as `SubBlocks`. Reading a block fills it (`codes`), writing
//! packs it (`pack`), and quantising looks for the best one (`round`, `fit`, `search`). Where in a block
//! the bits lie is data (`layout`), the same for reading and writing.
//!
//! Source: ggml's `ggml-quants.h` and the Python package `gguf`, which the tests compare with.

mod codes;
mod dequantize;
mod fit;
mod layout;
mod pack;
mod quantize;
mod round;
mod search;
#[cfg(test)]
mod tests;

pub(crate) use codes::SubBlocks;
pub use dequantize::{dequantize, first_not_finite};
pub use quantize::{QuantizeError, quantize};

use std::fmt;

/// Values in a block of the K formats, the longest.
pub(crate) const LONGEST: usize = 256;

/// How a tensor's values are stored. The names are ggml's; see [`BlockType::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockType {
    /// Single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// 4 bits, one step for 32 values: `d (q − 8)`.
    Q4_0,
    /// 4 bits, a step and a start for 32 values: `d q + m`.
    Q4_1,
    /// 5 bits, one step for 32 values: `d (q − 16)`.
    Q5_0,
    /// 5 bits, a step and a start for 32 values: `d q + m`.
    Q5_1,
    /// 8 bits, one step for 32 values: `d q`.
    Q8_0,
    /// 2 bits; 4-bit scales and minima for 16 values each.
    Q2K,
    /// 3 bits; 6-bit signed scales for 16 values each.
    Q3K,
    /// 4 bits; 6-bit scales and minima for 32 values each.
    Q4K,
    /// 5 bits; 6-bit scales and minima for 32 values each.
    Q5K,
    /// 6 bits; 8-bit signed scales for 16 values each.
    Q6K,
    /// 4 bits that name one of 16 unevenly spaced values, and one step for 32 of them.
    Iq4Nl,
}

/// What is known of a format before any block is seen.
struct Facts {
    name: &'static str,
    id: u32,
    block_len: usize,
    block_bytes: usize,
    sub_len: usize,
    offset: u8,
}

impl BlockType {
    /// Every format.
    pub const ALL: [BlockType; 14] = [
        BlockType::F32,
        BlockType::F16,
        BlockType::Bf16,
        BlockType::Q4_0,
        BlockType::Q4_1,
        BlockType::Q5_0,
        BlockType::Q5_1,
        BlockType::Q8_0,
        BlockType::Q2K,
        BlockType::Q3K,
        BlockType::Q4K,
        BlockType::Q5K,
        BlockType::Q6K,
        BlockType::Iq4Nl,
    ];

    const fn facts(self) -> Facts {
        let (name, id, block_len, block_bytes, sub_len, offset) = match self {
            BlockType::F32 => ("F32", 0, 1, 4, 1, 0),
            BlockType::F16 => ("F16", 1, 1, 2, 1, 0),
            BlockType::Bf16 => ("BF16", 30, 1, 2, 1, 0),
            BlockType::Q4_0 => ("Q4_0", 2, 32, 18, 32, 8),
            BlockType::Q4_1 => ("Q4_1", 3, 32, 20, 32, 0),
            BlockType::Q5_0 => ("Q5_0", 6, 32, 22, 32, 16),
            BlockType::Q5_1 => ("Q5_1", 7, 32, 24, 32, 0),
            BlockType::Q8_0 => ("Q8_0", 8, 32, 34, 32, 128),
            BlockType::Q2K => ("Q2_K", 10, 256, 84, 16, 0),
            BlockType::Q3K => ("Q3_K", 11, 256, 110, 16, 4),
            BlockType::Q4K => ("Q4_K", 12, 256, 144, 32, 0),
            BlockType::Q5K => ("Q5_K", 13, 256, 176, 32, 0),
            BlockType::Q6K => ("Q6_K", 14, 256, 210, 16, 32),
            BlockType::Iq4Nl => ("IQ4_NL", 20, 32, 18, 32, 128),
        };
        Facts { name, id, block_len, block_bytes, sub_len, offset }
    }

    /// ggml's name, as `Q4_K` or `IQ4_NL`.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The format of that name, in capitals or not.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// ggml's number, which GGUF files hold.
    pub const fn id(self) -> u32 {
        self.facts().id
    }

    /// The format of that number, if it is one of these.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// Values in a block; 1 for the three plain formats.
    pub const fn block_len(self) -> usize {
        self.facts().block_len
    }

    /// Bytes in a block.
    pub const fn block_bytes(self) -> usize {
        self.facts().block_bytes
    }

    /// Values that share a scale and a minimum: 16 or 32, and 1 for the three plain formats.
    pub const fn sub_len(self) -> usize {
        self.facts().sub_len
    }

    /// Whether values are integers in blocks, rather than plain floating-point numbers.
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes that `values` values take, if they are whole blocks.
    pub fn bytes_for(self, values: usize) -> Option<usize> {
        let whole = values.is_multiple_of(self.block_len());
        whole.then(|| (values / self.block_len()).checked_mul(self.block_bytes())).flatten()
    }

    /// What is subtracted from the stored integers.
    pub(crate) const fn offset(self) -> u8 {
        self.facts().offset
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
