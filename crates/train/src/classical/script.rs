//! Scripts that are written without spaces between words.

/// Whether `c` belongs to a script that doesn't put spaces between words: Chinese characters, Japanese kana, Thai,
/// Lao, Burmese and Khmer (blocks of Unicode 17). Words of these can't be told apart without a dictionary, so
/// n-grams are made of characters.
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
