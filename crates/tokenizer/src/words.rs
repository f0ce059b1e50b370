//! Where words begin in a sequence of tokens.

use crate::tokenizer::Tokenizer;

/// Whether `c` belongs to a script that doesn't put spaces between words: Chinese characters, Japanese kana, Thai,
/// Lao, Burmese and Khmer (blocks of Unicode 17). Words of these can't be told apart without a dictionary.
pub fn is_spaceless(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}' // Thai, Lao
        | '\u{1000}'..='\u{109f}' // Myanmar
        | '\u{1780}'..='\u{17ff}' // Khmer
        | '\u{2e80}'..='\u{2fdf}' // CJK radicals
        | '\u{3005}'..='\u{3007}' // 々〆〇
        | '\u{3040}'..='\u{30ff}' // Hiragana, Katakana
        | '\u{31f0}'..='\u{31ff}' // Katakana extensions
        | '\u{3400}'..='\u{4dbf}' // Han, extension A
        | '\u{4e00}'..='\u{9fff}' // Han
        | '\u{a9e0}'..='\u{a9ff}' // Myanmar, extended B
        | '\u{aa60}'..='\u{aa7f}' // Myanmar, extended A
        | '\u{f900}'..='\u{faff}' // Han, compatibility
        | '\u{ff66}'..='\u{ff9f}' // half-width Katakana
        | '\u{20000}'..='\u{3ffff}' // Han, extensions B and after
    )
}

impl Tokenizer {
    /// Whether token `id` goes on with the word that the token `before` it belongs to.
    ///
    /// In WordPiece, `##` says so. In other vocabularies a word is a run of letters and digits: a token goes on with
    /// it if it begins with one, without a space, and if the token before ends with one, or is the space in front of
    /// the word. Characters of scripts without spaces stand alone, but tokens that are parts of one character belong
    /// together; letters right behind such a character, which two tokens can't show, are taken to go on. Special
    /// tokens belong to no word.
    pub fn continues_word(&self, before: u32, id: u32) -> bool {
        if self.is_special(before) || self.is_special(id) {
            return false;
        }
        let (last, first) =
            (self.token_bytes(before).unwrap_or_default(), self.token_bytes(id).unwrap_or_default());
        let (last, first) = (edge(last.utf8_chunks().last(), true), edge(first.utf8_chunks().next(), false));
        match (last, first) {
            // The rest of a character whose beginning the token before has.
            (_, Edge::Rest) => true,
            (last, first) if last.stands_alone() || first.stands_alone() => false,
            _ if self.is_word_piece() => self.token_of(id).is_some_and(|token| token.starts_with("##")),
            // A space on its own is the beginning of the word behind it.
            (Edge::Char(' '), first) => first.is_in_word(),
            (last, first) => last.is_in_word() && first.is_in_word(),
        }
    }
}

/// What a token begins or ends with.
#[derive(Clone, Copy)]
enum Edge {
    Char(char),
    /// The first of a character's bytes.
    Lead(u8),
    /// Others of a character's bytes.
    Rest,
    Nothing,
}

/// The last or the first character of what can be read of a token's bytes on that side.
fn edge(chunk: Option<std::str::Utf8Chunk>, last: bool) -> Edge {
    let Some(chunk) = chunk else { return Edge::Nothing };
    let broken = chunk.invalid().first().copied();
    let char = match last {
        true => chunk.valid().chars().next_back().filter(|_| broken.is_none()),
        false => chunk.valid().chars().next(),
    };
    match (char, broken) {
        (Some(char), _) => Edge::Char(char),
        (None, Some(byte @ 0xC0..)) => Edge::Lead(byte),
        (None, Some(_)) => Edge::Rest,
        (None, None) => Edge::Nothing,
    }
}

impl Edge {
    /// Of a script without spaces, as far as the first byte of three or four tells.
    fn stands_alone(self) -> bool {
        match self {
            Edge::Char(char) => is_spaceless(char),
            Edge::Lead(byte) => matches!(byte, 0xE2..=0xE9 | 0xF0),
            Edge::Rest | Edge::Nothing => false,
        }
    }

    fn is_in_word(self) -> bool {
        match self {
            Edge::Char(char) => char.is_alphanumeric(),
            Edge::Lead(_) | Edge::Rest => true,
            Edge::Nothing => false,
        }
    }
}
