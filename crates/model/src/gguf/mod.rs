//! GGUF, the file format of llama.cpp: metadata and tensors in one file, read and written.
//!
//! ```text
//! "GGUF"  version u32  tensors u64  keys u64
//! a key:     name, type u32, value
//! a tensor:  name, dimensions u32, each u64, type u32, offset u64 (into the data)
//! padding to general.alignment (32 unless said)
//! data:      the tensors' bytes, each at a multiple of the alignment
//! ```
//! All numbers are little-endian; a string or array has its length, a `u64`, in front. A tensor's
//! first dimension is its row length, contiguous in memory, so the order is the reverse of `[rows,
//! columns]`. The format is described in ggml's `docs/gguf.md`.
//!
//! [`Gguf`] reads and trusts nothing: counts, lengths and offsets are checked against what the file
//! holds before anything is allocated by them. [`GgufWriter`] writes what it and llama.cpp read.
//!
//! ```
//! # use hearth_kernel::quant::BlockType;
//! # use hearth_model::gguf::{Gguf, GgufWriter};
//! # fn main() -> Result<(), hearth_model::ModelError> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("tiny.gguf");
//! let mut writer = GgufWriter::new();
//! writer.set("general.architecture", "llama")?;
//! writer.set("llama.block_count", 2u32)?;
//! writer.declare("output_norm.weight", &[3], BlockType::F32)?;
//! writer.write(&path, |_, out| {
//!     for x in [1.0f32, 2.0, 3.0] {
//!         out.write_all(&x.to_le_bytes())?;
//!     }
//!     Ok(())
//! })?;
//!
//! let file = Gguf::open(&path)?;
//! assert_eq!(file.get::<usize>("llama.block_count")?, 2);
//! assert_eq!(file.find::<f32>("llama.rope.freq_base")?, None);
//! let norm = file.require("output_norm.weight")?;
//! assert_eq!((norm.dims.as_slice(), file.bytes(norm).len()), (&[3][..], 12));
//! # Ok(()) }
//! ```

mod cursor;
mod encoder;
mod get;
mod load;
mod mix;
mod reader;
mod save;
mod save_encoder;
mod tensors;
#[cfg(test)]
mod tests;
mod types;
mod value;
mod writer;

pub use encoder::GgufEncoder;
pub use get::FromValue;
pub use load::GgufModel;
pub use mix::Mix;
pub use reader::Gguf;
pub use save::{Extra, Importance, save_gguf};
pub use save_encoder::save_gguf_encoder;
pub use tensors::TensorInfo;
pub use value::{Array, Value, ValueType};
pub use writer::{Element, GgufWriter};

const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is written; it differs from version 2 in nothing but allowing big-endian files.
const VERSION: u32 = 3;
const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: usize = 32;
/// The largest number of dimensions that ggml has.
const MAX_DIMS: usize = 4;
/// The longest key or name, by the format's description.
const MAX_NAME: usize = 65_535;

/// A name from outside, fit to be shown: escaped, and cut if it is long.
fn shown(name: &str) -> String {
    const LONGEST: usize = 80;
    let mut text: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text
}
