//! Encoding with one token a character.
//!
//! The general pipeline would treat a whole text as one word of a BPE without merges, and drop
//! characters it does not know; a table does it faster and can say which character is unknown.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::error::{Result, TokenizerError};
use crate::vocab::Vocab;

/// Character to id.
pub(crate) struct Chars {
    ascii: [u32; 128],
    others: HashMap<char, u32, ahash::RandomState>,
    unk: Option<u32>,
}

const NONE: u32 = u32::MAX;

impl Chars {
    /// Recognises a `tokenizer.json` with one token a character: a BPE model without merges over
    /// single characters (and added tokens), nothing before it.
    pub(crate) fn recognise(file: &Value) -> bool {
        let absent = |key: &str| file.get(key).is_none_or(Value::is_null);
        let model = file.get("model");
        let field = |key: &str| model.and_then(|model| model.get(key));
        let added = file.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        let added: HashSet<&str> = added.filter_map(|token| token.get("content")?.as_str()).collect();
        absent("normalizer")
            && absent("pre_tokenizer")
            && file.pointer("/decoder/type").and_then(Value::as_str) == Some("Fuse")
            && field("merges").and_then(Value::as_array).is_some_and(Vec::is_empty)
            && field("byte_fallback").and_then(Value::as_bool) != Some(true)
            && field("byte_level").and_then(Value::as_bool) != Some(true)
            && field("fuse_unk").and_then(Value::as_bool) != Some(true)
            && field("vocab").and_then(Value::as_object).is_some_and(|vocab| {
                vocab.keys().all(|token| token.chars().count() == 1 || added.contains(token.as_str()))
            })
    }

    pub(crate) fn new(vocab: &Vocab, unk: Option<u32>) -> Self {
        let mut chars = Self { ascii: [NONE; 128], others: Default::default(), unk };
        for id in 0..vocab.len() as u32 {
            let mut token = vocab.token_of(id).unwrap_or_default().chars();
            if let (Some(character), None) = (token.next(), token.next()) {
                match chars.ascii.get_mut(character as usize) {
                    Some(slot) => *slot = id,
                    None => _ = chars.others.insert(character, id),
                }
            }
        }
        chars
    }

    /// Appends the ids of `text`, which begins at byte `offset` of what the user gave.
    pub(crate) fn encode_into(&self, text: &str, offset: usize, out: &mut Vec<u32>) -> Result<()> {
        out.reserve(text.len());
        for (position, character) in text.char_indices() {
            let id = match self.ascii.get(character as usize) {
                Some(&id) => Some(id).filter(|&id| id != NONE),
                None => self.others.get(&character).copied(),
            };
            match id.or(self.unk) {
                Some(id) => out.push(id),
                None => {
                    return Err(TokenizerError::UnknownCharacter { character, position: offset + position });
                }
            }
        }
        Ok(())
    }

    /// As [`Self::encode_into`], with added tokens recognised: the earliest first, the longest of
    /// those that begin at the same place.
    pub(crate) fn encode_with_added(&self, text: &str, vocab: &Vocab, out: &mut Vec<u32>) -> Result<()> {
        // The longest first; one of no bytes would be found for ever.
        let mut added: Vec<&(u32, String)> =
            vocab.added.iter().filter(|(_, token)| !token.is_empty()).collect();
        added.sort_by_key(|(_, token)| std::cmp::Reverse(token.len()));
        let mut by_first: HashMap<u8, Vec<&(u32, String)>> = HashMap::new();
        for token in added {
            by_first.entry(token.1.as_bytes()[0]).or_default().push(token);
        }
        let (mut plain, mut at) = (0, 0);
        while let Some(first) = text.as_bytes().get(at) {
            let known = by_first.get(first).into_iter().flatten();
            match known.into_iter().find(|(_, token)| text[at..].starts_with(token.as_str())) {
                Some((id, token)) => {
                    self.encode_into(&text[plain..at], plain, out)?;
                    out.push(*id);
                    at += token.len();
                    plain = at;
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        self.encode_into(&text[plain..], plain, out)
    }
}
