//! The words of an English sentence by the rules of the Penn Treebank as NLTK's `word_tokenize` applies
//! them: substitutions that set signs apart by spaces, in NLTK's order (nltk 3.10, `NLTKWordTokenizer`).
//!
//! Scripts that measure answers rely on these rules; text for models is cut by a model's own tokenizer.

use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// Whether Python's `str.split` divides there.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// A pattern, and what takes its place.
type Rule = (Regex, &'static str);

/// Opening quotes, but for the single one, which [`set_quotes_apart`] does.
static OPENING_QUOTES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        ("([«“‘„]|[`]+)", " ${1} "),
        ("^\"", "``"),
        ("(``)", " ${1} "),
        ("([ (\\[{<])(\"|'{2})", "${1} `` "),
    ])
});

static PUNCTUATION: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        // The full stop at the end, before closing brackets and quotes.
        (r#"([^.])(\.)([\])}>"'»”’ ]*)\s*$"#, "${1} ${2} ${3} "),
        (r"([:,])(\D)", " ${1} ${2}"),
        (r"([:,])$", " ${1} "),
        (r"\.{2,}", " ${0} "),
        ("[;@#$%&]", " ${0} "),
        ("[\u{2012}-\u{2015}]", " ${0} "),
        (r#"([^.])(\.)([\])}>"']*)\s*$"#, "${1} ${2}${3} "),
        ("[?!]", " ${0} "),
        ("([^'])' ", "${1} ' "),
        (r"[*]", " ${0} "),
        (r"[\]\[(){}<>]", " ${0} "),
        ("--", " -- "),
    ])
});

static CLOSING_QUOTES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        ("([»”’])", " ${1} "),
        ("''", " '' "),
        ("\"", " '' "),
        (r"\s+", " "),
        ("([^' ])('[sS]|'[mM]|'[dD]|') ", "${1} ${2} "),
        ("([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "${1} ${2} "),
    ])
});

static CONTRACTIONS: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    rules(&[
        (r"(?i)\b(can)(not)\b", " ${1} ${2} "),
        (r"(?i)\b(d)('ye)\b", " ${1} ${2} "),
        (r"(?i)\b(gim)(me)\b", " ${1} ${2} "),
        (r"(?i)\b(gon)(na)\b", " ${1} ${2} "),
        (r"(?i)\b(got)(ta)\b", " ${1} ${2} "),
        (r"(?i)\b(lem)(me)\b", " ${1} ${2} "),
        (r"(?i)\b(more)('n)\b", " ${1} ${2} "),
        (r"(?i)\b(wan)(na)(\s)", " ${1} ${2} ${3}"),
        (r"(?i) ('t)(is)\b", " ${1} ${2} "),
        (r"(?i) ('t)(was)\b", " ${1} ${2} "),
    ])
});

fn rules(patterns: &[(&str, &'static str)]) -> Vec<Rule> {
    patterns.iter().map(|(pattern, by)| (Regex::new(pattern).expect("a fixed pattern"), *by)).collect()
}

fn apply(text: String, rules: &[Rule]) -> String {
    rules.iter().fold(text, |text, (pattern, by)| match pattern.replace_all(&text, *by) {
        Cow::Owned(replaced) => replaced,
        Cow::Borrowed(_) => text,
    })
}

/// The words and signs of one sentence. Quotes come out as `` `` `` and `''`.
pub(super) fn words(sentence: &str) -> Vec<String> {
    let text = apply(sentence.trim_end_matches(is_space).to_owned(), &OPENING_QUOTES);
    let text = apply(set_quotes_apart(&text), &PUNCTUATION);
    let text = apply(format!(" {text} "), &CLOSING_QUOTES);
    let text = apply(text, &CONTRACTIONS);
    text.split(is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Puts a space behind single quotes that open a word, but not before the endings of contractions.
fn set_quotes_apart(text: &str) -> String {
    const ENDINGS: [&str; 8] = ["re", "ve", "ll", "m", "t", "s", "d", "n"];
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut apart = String::with_capacity(text.len());
    let mut previous = ' ';
    for (place, c) in text.char_indices() {
        apart.push(c);
        if c == '\'' && !in_word(previous) {
            let rest = &text[place + 1..];
            let word = &rest[..rest.find(|c| !in_word(c)).unwrap_or(rest.len())];
            if !word.is_empty() && !ENDINGS.iter().any(|ending| word.eq_ignore_ascii_case(ending)) {
                apart.push(' ');
            }
        }
        previous = c;
    }
    apart
}

#[cfg(test)]
mod tests {
    #[derive(serde::Deserialize)]
    struct Cut {
        text: String,
        words: Vec<String>,
    }

    #[test]
    fn words_are_nltks() {
        let cuts: Vec<Cut> =
            serde_json::from_str(include_str!("../../tests/golden/metrics/words.json")).unwrap();
        for cut in cuts {
            assert_eq!(super::words(&cut.text), cut.words, "{:?}", cut.text);
        }
    }
}
