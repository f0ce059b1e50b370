//! What the fuzz targets share: good files, and edits to them that are drawn from the fuzzer's bytes.
//!
//! Bytes that a fuzzer makes up rarely get past a magic number or the first brace. So each target
//! begins with a file that is sound and spoils a few places of it, with values that parsers get wrong:
//! counts near the limits, offsets that overflow, types that don't fit.
#![forbid(unsafe_code)]

pub mod gguf;
pub mod json;

use arbitrary::{Result, Unstructured};

/// A text that a tokenizer encodes: several scripts, numbers, spaces, and special tokens spelled out.
pub const TEXT: &str =
    "The  quick fox, 1234 times — it's naïve?\n\n\tfn main() {} 敏捷的狐狸 🦊 <s></s>[CLS] é a\u{301}  end";

/// A number of the kind that parsers get wrong, or any number.
pub fn number(u: &mut Unstructured) -> Result<u64> {
    const HOSTILE: [u64; 16] = [
        0,
        1,
        2,
        7,
        8,
        31,
        32,
        255,
        65_536,
        1 << 20,
        u32::MAX as u64,
        1 << 32,
        1 << 62,
        1 << 63,
        u64::MAX - 7,
        u64::MAX,
    ];
    if u.ratio(1, 2)? { u.arbitrary() } else { Ok(*u.choose(&HOSTILE)?) }
}

/// A short text, sometimes repeated many times over.
pub fn text(u: &mut Unstructured) -> Result<String> {
    let part: &str = u.arbitrary()?;
    let times = if u.ratio(1, 16)? { u.int_in_range(1..=2000)? } else { 1 };
    Ok(part.chars().take(64).collect::<String>().repeat(times))
}
