//! The byte-level alphabet of GPT-2: every byte written as one printable character.
//!
//! Printable bytes stand for themselves; the other 68, in order, become the characters from
//! U+0100 on. Source: the `bytes_to_unicode` table of GPT-2's published encoder.

use std::sync::LazyLock;

/// The character that stands for each byte.
static BYTE_TO_CHAR: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        if is_printable(byte) {
            return char::from(byte);
        }
        let stand_in = char::from_u32(next).unwrap_or('\u{FFFD}');
        next += 1;
        stand_in
    })
});

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character that stands for `byte`.
pub(crate) fn char_of(byte: u8) -> char {
    BYTE_TO_CHAR[usize::from(byte)]
}

/// The byte that `character` stands for, if it belongs to the alphabet.
pub(crate) fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => (0..=255).find(|&byte| !is_printable(byte) && u32::from(char_of(byte)) == code),
    }
}

/// The 256 bytes in the order of their characters' code points, which is the order GPT-2's first
/// 256 ids have.
pub(crate) fn bytes_in_order() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.sort_unstable_by_key(|&byte| char_of(byte));
    bytes
}

/// Writes raw bytes in the alphabet.
pub(crate) fn escape(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char_of(byte)).collect()
}

/// Appends the raw bytes of `token` to `out`; a character outside the alphabet gives its UTF-8.
pub(crate) fn unescape_into(token: &str, out: &mut Vec<u8>) {
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!(escape(b" \n"), "\u{120}\u{10A}");
        assert_eq!(byte_of('漢'), None);
        assert_eq!(bytes_in_order()[0], b'!');
    }
}
