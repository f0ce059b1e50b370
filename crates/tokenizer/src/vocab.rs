//! The table of tokens: spellings, raw bytes, which are special.

use std::collections::HashMap;

use serde_json::Value;

use crate::alphabet;

/// How a token's spelling relates to the bytes of the text it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// GPT-2's byte alphabet.
    ByteLevel,
    /// One token a character, written as it is.
    Chars,
    /// SentencePiece: `▁` for a space, `<0x0A>` for a byte; the decoder has the last word on spaces.
    Metaspace,
    /// WordPiece: `##` continues a word.
    WordPiece,
    /// Written as it is.
    Plain,
}

/// All tokens of a tokenizer, by id and by spelling.
pub(crate) struct Vocab {
    tokens: Vec<Option<Box<str>>>,
    ids: HashMap<Box<str>, u32, ahash::RandomState>,
    bytes: Vec<u8>,
    /// Token `id` has the bytes `ends[id - 1]..ends[id]`.
    ends: Vec<usize>,
    special: Vec<u32>,
    /// Added tokens, special or not, as (id, spelling).
    pub(crate) added: Vec<(u32, String)>,
}

impl Vocab {
    /// Reads the model's vocabulary and the added tokens out of a `tokenizer.json`.
    pub(crate) fn from_json(file: &Value, spelling: Spelling) -> Result<Self, String> {
        let mut entries: Vec<(u32, String)> = Vec::new();
        match file.pointer("/model/vocab") {
            Some(Value::Object(vocab)) => {
                for (token, id) in vocab {
                    entries.push((
                        id_from(id).ok_or_else(|| format!("token {token:?} has the id {id}"))?,
                        token.clone(),
                    ));
                }
            }
            Some(Value::Array(pieces)) => {
                for (id, piece) in (0..).zip(pieces) {
                    let token = piece.get(0).and_then(Value::as_str);
                    entries.push((
                        id,
                        token
                            .ok_or_else(|| format!("vocabulary entry {id} is not a [token, score] pair"))?
                            .into(),
                    ));
                }
            }
            _ => return Err("expected an object or an array at model.vocab".to_string()),
        }
        let model_len = entries.len();
        let (mut added, mut special) = (Vec::new(), Vec::new());
        for entry in file.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            let content = entry.get("content").and_then(Value::as_str);
            let (Some(content), Some(id)) = (content, entry.get("id").and_then(id_from)) else {
                return Err(format!("an added token needs a content and an id, got {entry}"));
            };
            if entry.get("special").and_then(Value::as_bool) == Some(true) {
                special.push(id);
            }
            added.push((id, content.to_string()));
        }
        special.sort_unstable();
        entries.extend(added.iter().cloned());
        Self::build(entries, model_len, spelling, special, added)
    }

    fn build(
        entries: Vec<(u32, String)>,
        model_len: usize,
        spelling: Spelling,
        special: Vec<u32>,
        added: Vec<(u32, String)>,
    ) -> Result<Self, String> {
        let size = entries.iter().map(|(id, _)| *id as usize + 1).max().unwrap_or(0);
        // Some published vocabularies have gaps, none is mostly gaps; a wild id would cost memory.
        if size > 2 * entries.len() + 65_536 {
            return Err(format!(
                "the largest id is {}, but there are only {} tokens",
                size - 1,
                entries.len()
            ));
        }
        let mut tokens: Vec<Option<Box<str>>> = vec![None; size];
        let mut is_added = vec![false; size];
        let mut ids =
            HashMap::with_capacity_and_hasher(entries.len(), ahash::RandomState::with_seeds(1, 2, 3, 4));
        for (index, (id, token)) in entries.into_iter().enumerate() {
            let slot = &mut tokens[id as usize];
            if let Some(taken) = slot.as_deref().filter(|taken| *taken != token) {
                return Err(format!("id {id} belongs to both {taken:?} and {token:?}"));
            }
            is_added[id as usize] |= index >= model_len;
            *slot = Some(token.clone().into_boxed_str());
            ids.insert(token.into_boxed_str(), id);
        }
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(size));
        for (token, is_added) in tokens.iter().zip(is_added) {
            if let Some(token) = token {
                let spelling = if is_added { Spelling::Plain } else { spelling };
                raw_bytes(token, spelling, &mut bytes);
            }
            ends.push(bytes.len());
        }
        Ok(Self { tokens, ids, bytes, ends, special, added })
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn id_of(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    pub(crate) fn token_of(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize)?.as_deref()
    }

    pub(crate) fn bytes_of(&self, id: u32) -> Option<&[u8]> {
        self.token_of(id)?;
        let start = if id == 0 { 0 } else { self.ends[id as usize - 1] };
        Some(&self.bytes[start..self.ends[id as usize]])
    }

    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.binary_search(&id).is_ok()
    }
}

fn id_from(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn raw_bytes(token: &str, spelling: Spelling, out: &mut Vec<u8>) {
    match spelling {
        Spelling::ByteLevel => alphabet::unescape_into(token, out),
        Spelling::Metaspace => match byte_piece(token) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(token.replace('▁', " ").as_bytes()),
        },
        Spelling::WordPiece => match token.strip_prefix("##") {
            Some(rest) => out.extend_from_slice(rest.as_bytes()),
            None => out.extend_from_slice(token.as_bytes()),
        },
        Spelling::Chars | Spelling::Plain => out.extend_from_slice(token.as_bytes()),
    }
}

/// The byte of a SentencePiece byte piece such as `<0x0A>`.
pub(crate) fn byte_piece(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None }
}
