//! The types that a tensor in a GGUF file can have, with ggml's ids and block sizes.

/// How a tensor's values are stored. A row is a whole number of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum TensorType {
    /// 32-bit floats.
    F32 = 0,
    /// 16-bit floats, IEEE.
    F16 = 1,
    /// 4 bits and a scale.
    Q4_0 = 2,
    /// 4 bits, a scale and a minimum.
    Q4_1 = 3,
    /// 5 bits and a scale.
    Q5_0 = 6,
    /// 5 bits, a scale and a minimum.
    Q5_1 = 7,
    /// 8 bits and a scale.
    Q8_0 = 8,
    /// 2 bits in super-blocks, with scales and minima of 4 bits.
    Q2K = 10,
    /// 3 bits in super-blocks, with scales of 6 bits.
    Q3K = 11,
    /// 4 bits in super-blocks, with scales and minima of 6 bits.
    Q4K = 12,
    /// 5 bits in super-blocks, with scales and minima of 6 bits.
    Q5K = 13,
    /// 6 bits in super-blocks, with scales of 8 bits.
    Q6K = 14,
    /// 4 bits that index a fixed table, and a scale.
    Iq4Nl = 20,
    /// 16-bit floats with the range of `f32`.
    BF16 = 30,
}

impl TensorType {
    /// Every type that is read and written here.
    pub const ALL: [TensorType; 14] = [
        TensorType::F32,
        TensorType::F16,
        TensorType::Q4_0,
        TensorType::Q4_1,
        TensorType::Q5_0,
        TensorType::Q5_1,
        TensorType::Q8_0,
        TensorType::Q2K,
        TensorType::Q3K,
        TensorType::Q4K,
        TensorType::Q5K,
        TensorType::Q6K,
        TensorType::Iq4Nl,
        TensorType::BF16,
    ];

    /// The type with ggml's id `id`, if it is one of [`TensorType::ALL`].
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.id() == id)
    }

    /// ggml's id, as the file has it.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Values in a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 | Self::Iq4Nl => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// The name that llama.cpp shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::BF16 => "BF16",
        }
    }
}

/// ggml's name for a type that isn't read here.
pub(super) fn foreign_name(id: u32) -> &'static str {
    match id {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => "unknown",
    }
}
