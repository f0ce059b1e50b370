//! Which type each tensor of a file gets: llama.cpp's mixes, by its names and rules (`llama-quant.cpp`).

use crate::config::DecoderConfig;
use crate::executor::{ParamSpec, Role};
use crate::weights::StoredType;
use hearth_kernel::quant::BlockType;
use std::fmt;
use std::str::FromStr;

/// A type for most matrices, and finer ones for those that matter most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    name: &'static str,
    /// llama.cpp's number (`LLAMA_FTYPE_…`).
    file_type: u32,
    base: BlockType,
    size: Size,
}

/// How many matrices get a finer type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// None but the head.
    Plain,
    /// Few.
    Small,
    /// Half of the values' and the feed-forward blocks' last ones.
    Medium,
    /// All of those.
    Large,
}

const fn mix(name: &'static str, file_type: u32, base: BlockType, size: Size) -> Mix {
    Mix { name, file_type, base, size }
}

impl Mix {
    /// Single precision.
    pub const F32: Mix = mix("F32", 0, BlockType::F32, Size::Plain);
    /// All of them.
    pub const ALL: [Mix; 18] = [
        Mix::F32,
        mix("F16", 1, BlockType::F16, Size::Plain),
        mix("BF16", 32, BlockType::Bf16, Size::Plain),
        mix("Q8_0", 7, BlockType::Q8_0, Size::Plain),
        mix("Q6_K", 18, BlockType::Q6K, Size::Plain),
        mix("Q5_K_M", 17, BlockType::Q5K, Size::Medium),
        mix("Q5_K_S", 16, BlockType::Q5K, Size::Small),
        mix("Q5_1", 9, BlockType::Q5_1, Size::Plain),
        mix("Q5_0", 8, BlockType::Q5_0, Size::Plain),
        mix("Q4_K_M", 15, BlockType::Q4K, Size::Medium),
        mix("Q4_K_S", 14, BlockType::Q4K, Size::Small),
        mix("Q4_1", 3, BlockType::Q4_1, Size::Plain),
        mix("Q4_0", 2, BlockType::Q4_0, Size::Plain),
        mix("IQ4_NL", 25, BlockType::Iq4Nl, Size::Plain),
        mix("Q3_K_L", 13, BlockType::Q3K, Size::Large),
        mix("Q3_K_M", 12, BlockType::Q3K, Size::Medium),
        mix("Q3_K_S", 11, BlockType::Q3K, Size::Small),
        mix("Q2_K", 10, BlockType::Q2K, Size::Medium),
    ];

    /// llama.cpp's name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The type of a safetensors file that it stands for, if there is one.
    pub fn stored_type(self) -> Option<StoredType> {
        match self.base {
            BlockType::F32 => Some(StoredType::F32),
            BlockType::Bf16 => Some(StoredType::Bf16),
            _ => None,
        }
    }

    pub(crate) fn file_type(self) -> u32 {
        self.file_type
    }

    /// The type of most matrices, or that of shorter blocks where rows of `cols` values aren't whole ones of it.
    pub(crate) fn base_kind(self, cols: usize) -> BlockType {
        shorter(self.base, cols)
    }

    /// The type of a parameter whose rows have `cols` values: vectors and positions stay in single
    /// precision, rows that aren't whole blocks get a type of shorter ones.
    pub(crate) fn kind_of(self, config: &DecoderConfig, spec: &ParamSpec, cols: usize) -> BlockType {
        if spec.shape.len() == 1 || spec.name.ends_with("wpe.weight") {
            return BlockType::F32;
        }
        if !self.base.is_quantized() {
            return self.base;
        }
        let head = match spec.role {
            Role::Head => true,
            Role::Embedding => config.tied_head,
            _ => false,
        };
        let kind = match (head, self.base) {
            (true, BlockType::Q8_0) => BlockType::Q8_0,
            (true, _) if cols.is_multiple_of(256) => BlockType::Q6K,
            (true, _) => BlockType::Q8_0,
            (false, _) => self.in_block(config, spec),
        };
        shorter(kind, cols)
    }

    /// The type of a matrix inside a block.
    fn in_block(self, config: &DecoderConfig, spec: &ParamSpec) -> BlockType {
        let (layer, n) = (layer_of(&spec.name), config.n_layers);
        let is = |part: &str| spec.name.contains(part);
        let more = layer < n / 8 || layer >= 7 * n / 8 || (layer.saturating_sub(n / 8)) % 3 == 2;
        let grouped = config.n_heads / config.n_kv_heads >= 4;
        match (self.base, self.size) {
            (BlockType::Q4K | BlockType::Q5K, Size::Medium) if is("attn.c_attn") => match self.base {
                BlockType::Q4K => BlockType::Q5K,
                _ => BlockType::Q6K,
            },
            (BlockType::Q4K | BlockType::Q5K, Size::Medium) if (is("v_proj") || is_down(spec)) && more => {
                BlockType::Q6K
            }
            (BlockType::Q4K, Size::Small) if is("v_proj") && layer < 4 => BlockType::Q5K,
            (BlockType::Q4K, Size::Small) if is_down(spec) && layer < n / 8 => BlockType::Q5K,
            (BlockType::Q3K, Size::Large) if is("v_proj") || is_down(spec) || is_output(spec) => {
                BlockType::Q5K
            }
            (BlockType::Q3K, Size::Medium | Size::Large) if is("attn.c_attn") => BlockType::Q4K,
            (BlockType::Q3K, Size::Medium) if is("v_proj") => {
                if layer < 2 {
                    BlockType::Q5K
                } else {
                    BlockType::Q4K
                }
            }
            (BlockType::Q3K, Size::Medium) if is_down(spec) => {
                if layer < n / 16 {
                    BlockType::Q5K
                } else {
                    BlockType::Q4K
                }
            }
            (BlockType::Q3K, Size::Medium) if is_output(spec) => BlockType::Q4K,
            (BlockType::Q2K, _) if is("v_proj") && grouped => BlockType::Q4K,
            (BlockType::Q2K, _) if is("v_proj") || is_down(spec) || is_output(spec) => BlockType::Q3K,
            (base, _) => base,
        }
    }
}

fn is_down(spec: &ParamSpec) -> bool {
    spec.name.contains("down_proj") || spec.name.contains("mlp.c_proj")
}

fn is_output(spec: &ParamSpec) -> bool {
    spec.name.contains("o_proj") || spec.name.contains("attn.c_proj")
}

/// The number in a name such as `model.layers.3.mlp.up_proj.weight`.
fn layer_of(name: &str) -> usize {
    name.split('.').find_map(|part| part.parse().ok()).unwrap_or(0)
}

/// The type that takes a long one's place in rows that aren't whole blocks of it.
fn shorter(kind: BlockType, cols: usize) -> BlockType {
    if cols.is_multiple_of(kind.block_len()) {
        return kind;
    }
    let short = match kind {
        BlockType::Q2K | BlockType::Q3K => BlockType::Iq4Nl,
        BlockType::Q4K => BlockType::Q5_0,
        BlockType::Q5K => BlockType::Q5_1,
        BlockType::Q6K => BlockType::Q8_0,
        _ => BlockType::F16,
    };
    if cols.is_multiple_of(short.block_len()) { short } else { BlockType::F16 }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        // llama.cpp reads Q4_K as Q4_K_M.
        let long = format!("{name}_M");
        let named = |name: &str| Mix::ALL.into_iter().find(|mix| mix.name.eq_ignore_ascii_case(name));
        named(name).or_else(|| named(&long)).ok_or_else(|| {
            format!("{name:?} isn't a type; expected one of {}", Mix::ALL.map(|mix| mix.name).join(", "))
        })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
