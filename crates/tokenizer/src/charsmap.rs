//! Checks SentencePiece's compiled table of character replacements.
//!
//! The table is a trie as a double array (Aoe 1989; each 32-bit unit is label, offset and a leaf
//! bit, as in darts-clone) and the replacements, each ended by a zero byte:
//!
//! ```text
//! u32 bytes of the trie | units, u32 each | replacements
//! ```
//!
//! The pipeline follows it without looking where it leads, so each place that text can reach is
//! looked at once before.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// The longest replacement of a character: that of the ligature U+FDFA has 33 bytes.
const MOST_REPLACEMENT: usize = 1024;

/// Checks the tables in a canonical `tokenizer.json`'s `normalizer`.
pub(crate) fn check(normalizer: &Value) -> Result<(), String> {
    if let Some(members) = normalizer.get("normalizers").and_then(Value::as_array) {
        return members.iter().try_for_each(check);
    }
    match normalizer.get("precompiled_charsmap").and_then(Value::as_str) {
        Some(text) => {
            let bytes =
                BASE64_STANDARD.decode(text).map_err(|error| format!("precompiled_charsmap: {error}"))?;
            check_bytes(&bytes).map_err(|problem| format!("precompiled_charsmap: {problem}"))
        }
        None => Ok(()),
    }
}

fn check_bytes(bytes: &[u8]) -> Result<(), String> {
    let (header, rest) = bytes.split_first_chunk::<4>().ok_or("expected a size in its first four bytes")?;
    let size = u32::from_le_bytes(*header) as usize;
    if size == 0 || !size.is_multiple_of(4) || size > rest.len() {
        return Err(format!("its trie has {size} bytes, of {} that follow", rest.len()));
    }
    let (trie, replacements) = rest.split_at(size);
    let replacements =
        std::str::from_utf8(replacements).map_err(|_| "its replacements aren't UTF-8".to_string())?;
    let longest = replacements.split('\0').map(str::len).max().unwrap_or_default();
    if longest > MOST_REPLACEMENT {
        return Err(format!("a replacement of {longest} bytes, expected at most {MOST_REPLACEMENT}"));
    }
    let units: Vec<u32> = trie.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let unit = |place: usize| {
        let outside = || format!("a path leads to unit {place} of {}", units.len());
        units.get(place).copied().ok_or_else(outside)
    };
    let offset = |unit: u32| ((unit >> 10) as usize) << ((unit & (1 << 9)) >> 6);
    let mut seen = vec![false; units.len()];
    let mut open = vec![offset(unit(0)?)];
    while let Some(node) = open.pop() {
        unit(node)?;
        if std::mem::replace(&mut seen[node], true) {
            continue;
        }
        for byte in 1..=255 {
            let child = unit(node ^ byte)?;
            if (child & (1 << 31 | 0xFF)) as usize != byte {
                continue;
            }
            let next = node ^ byte ^ offset(child);
            if child & (1 << 8) != 0 {
                let start = (unit(next)? & !(1 << 31)) as usize;
                if !replacements.is_char_boundary(start) {
                    return Err(format!("a replacement begins at byte {start} of {}", replacements.len()));
                }
            }
            open.push(next);
        }
    }
    Ok(())
}
