//! `bert`: WordPiece, the longest token that fits at each place of a word.
//!
//! A GGUF file marks the beginning of a word with `▁` where BERT's own vocabulary marks its
//! continuation with `##`; `[CLS]` and the like are the same in both.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Checked, SPACE};
use crate::json::{ById, File, added_tokens};

/// As in BERT; a longer word is unknown.
const LONGEST_WORD: usize = 100;

/// The `model` of a `tokenizer.json` that takes the longest token.
#[derive(Serialize)]
struct WordPieceModel<'a> {
    r#type: &'static str,
    unk_token: &'a str,
    continuing_subword_prefix: &'static str,
    max_input_chars_per_word: usize,
    vocab: ById<'a>,
}

pub(super) fn to_json(vocab: &Checked) -> Result<String, String> {
    let Some(unk) = vocab.unk else {
        return Err("tokenizer.ggml.unknown_token_id is absent, and there is no token [UNK]".into());
    };
    let special_ids: Vec<u32> = [vocab.bos, vocab.eos, vocab.unk, vocab.pad]
        .into_iter()
        .flatten()
        .chain(vocab.special_ids.iter().copied())
        .chain((0u32..).zip(&vocab.tokens).filter(|(_, token)| *token == "[MASK]").map(|(id, _)| id))
        .collect();
    let special: HashSet<u32> = special_ids.iter().copied().collect();
    let tokens: Vec<String> = (0u32..)
        .zip(&vocab.tokens)
        .map(|(id, token)| if special.contains(&id) { token.clone() } else { spelling(token) })
        .collect();
    let model = WordPieceModel {
        r#type: "WordPiece",
        unk_token: &tokens[unk as usize],
        continuing_subword_prefix: "##",
        max_input_chars_per_word: LONGEST_WORD,
        vocab: ById(&tokens),
    };
    Ok(File {
        added_tokens: added_tokens(&tokens, &special_ids, &vocab.added_ids),
        normalizer: normalizer(&tokens),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        post_processor: vocab.surround(),
        decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        ..File::new(model)
    }
    .pretty())
}

/// A token in BERT's spelling.
fn spelling(token: &str) -> String {
    match token.strip_prefix(SPACE) {
        Some(word) => word.to_string(),
        None if is_bracketed(token) => token.to_string(),
        None => format!("##{token}"),
    }
}

/// A token in GGUF's spelling.
pub(super) fn phantom(token: &str) -> String {
    match token.strip_prefix("##") {
        Some(rest) => rest.to_string(),
        None if is_bracketed(token) => token.to_string(),
        None => format!("{SPACE}{token}"),
    }
}

fn is_bracketed(token: &str) -> bool {
    token.starts_with('[') && token.ends_with(']')
}

/// The file doesn't say whether capitals count; a vocabulary without any says that they don't.
/// Then accents don't either, as in BERT.
pub(super) fn normalizer(tokens: &[String]) -> Value {
    // Some letters look large but have no small form, like ℝ.
    let is_capital = |letter: char| !letter.to_lowercase().eq([letter]);
    let cased = tokens.iter().any(|token| !is_bracketed(token) && token.chars().any(is_capital));
    json!({
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
        "lowercase": !cased,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_counts_where_the_vocabulary_has_capitals() {
        let lowercase = |tokens: &[&str]| {
            let tokens: Vec<String> = tokens.iter().map(|token| token.to_string()).collect();
            normalizer(&tokens)["lowercase"].as_bool()
        };
        assert_eq!(lowercase(&["[CLS]", "word", "##s", "ℝ"]), Some(true));
        assert_eq!(lowercase(&["[CLS]", "Word", "##s"]), Some(false));
    }
}
