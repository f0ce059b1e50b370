//! Tokenizers in GGUF files: what `tokenizer.ggml.*` metadata means, both ways.
//!
//! A GGUF file says less than a `tokenizer.json`: a model family, tokens with scores and types,
//! merges, and the name of a pre-tokenizer whose regular expressions live in llama.cpp. From that a
//! `tokenizer.json` is made, so that one pipeline encodes whatever the file came as, and a model
//! from a GGUF file can be saved as a folder. Where a key is absent, llama.cpp's default holds.

mod byte_level;
mod export;
mod pre;
mod sentencepiece;
mod unigram;
mod wordpiece;

use std::path::Path;

use hashbrown::HashMap;
use serde_json::{Map, Value, json};

use crate::error::{Result, TokenizerError};
use crate::tokenizer::Tokenizer;

/// What a GGUF file's `tokenizer.ggml.*` metadata holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufVocab {
    /// `tokenizer.ggml.model`, the family: `gpt2` (byte-level BPE), `llama` (SentencePiece BPE),
    /// `t5` (Unigram) or `bert` (WordPiece).
    pub model: String,
    /// `tokenizer.ggml.pre`, which cuts the text into words before byte-level BPE.
    pub pre: Option<String>,
    /// All tokens by id.
    pub tokens: Vec<String>,
    /// A score each (higher merges first), or empty.
    pub scores: Vec<f32>,
    /// A type each, or empty: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// `left right`, the first merged first.
    pub merges: Vec<String>,
    /// Beginning of sequence.
    pub bos: Option<u32>,
    /// End of sequence.
    pub eos: Option<u32>,
    /// Stands for what has no token.
    pub unk: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// Whether a text begins with `bos`.
    pub add_bos: Option<bool>,
    /// Whether a text ends with `eos`.
    pub add_eos: Option<bool>,
    /// Whether a text is read as if a space stood before it.
    pub add_space_prefix: Option<bool>,
    /// Whether runs of spaces count as one, and those at the ends as none.
    pub remove_extra_whitespaces: Option<bool>,
    /// SentencePiece's compiled table of character replacements.
    pub precompiled_charsmap: Option<Vec<u8>>,
    /// `tokenizer.chat_template`, a Jinja text.
    pub chat_template: Option<String>,
}

/// The values of `tokenizer.ggml.token_type`.
mod kind {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const UNUSED: i32 = 5;
    pub(super) const BYTE: i32 = 6;
}

/// How SentencePiece writes a space.
const SPACE: char = '▁';

/// What fills the place of an id without a token, as llama.cpp's converter has it.
fn stand_in(id: usize) -> String {
    format!("[PAD{id}]")
}

impl GgufVocab {
    /// Whether a token steers a model instead of standing for text.
    pub fn is_control(&self, id: usize) -> bool {
        self.token_types.get(id) == Some(&kind::CONTROL)
    }

    /// Adds stand-ins up to `entries` ids: a file has a token for each row of its model.
    pub fn fill_up(&mut self, entries: usize) {
        let missing = self.tokens.len()..entries;
        if !self.scores.is_empty() {
            self.scores.resize(self.scores.len() + missing.len(), 0.0);
        }
        if !self.token_types.is_empty() {
            self.token_types.resize(self.token_types.len() + missing.len(), kind::UNUSED);
        }
        self.tokens.extend(missing.map(stand_in));
    }

    /// Takes the stand-ins at the end away: nothing may be drawn from such rows.
    pub fn trim(&mut self) {
        while let Some(last) = self.tokens.len().checked_sub(1)
            && self.token_types.get(last) == Some(&kind::UNUSED)
            && self.tokens[last] == stand_in(last)
        {
            self.tokens.pop();
            self.token_types.pop();
        }
        self.scores.truncate(self.tokens.len());
    }
}

impl Tokenizer {
    /// Makes a tokenizer from a GGUF file's metadata; `source` names the file in errors.
    ///
    /// # Errors
    /// If the family or the pre-tokenizer is unknown, or if the lists don't fit together.
    pub fn from_gguf(vocab: GgufVocab, source: &Path) -> Result<Self> {
        let bad = |problem: String| TokenizerError::BadFile { path: source.to_path_buf(), problem };
        let vocab = Checked::new(vocab).map_err(bad)?;
        let json = match vocab.model.as_str() {
            "gpt2" => byte_level::to_json(&vocab),
            "llama" => sentencepiece::to_json(&vocab),
            "t5" => unigram::to_json(&vocab),
            "bert" => wordpiece::to_json(&vocab),
            other => Err(format!(
                "tokenizer.ggml.model is {other:?}: expected gpt2 (byte-level BPE), llama (SentencePiece), t5 \
                 (Unigram) or bert (WordPiece)"
            )),
        }
        .map_err(bad)?;
        let config = vocab.config();
        drop(vocab);
        Self::from_json_text(json, source, config)
    }

    /// What a GGUF file needs so that llama.cpp makes the same ids: the inverse of
    /// [`Self::from_gguf`].
    ///
    /// # Errors
    /// If llama.cpp has nothing that means the same as this tokenizer; the error says what.
    pub fn to_gguf(&self) -> Result<GgufVocab> {
        export::to_gguf(self)
    }
}

/// A vocabulary whose lists fit together, with llama.cpp's defaults filled in.
struct Checked {
    vocab: GgufVocab,
    special_ids: Vec<u32>,
    added_ids: Vec<u32>,
}

impl std::ops::Deref for Checked {
    type Target = GgufVocab;

    fn deref(&self) -> &GgufVocab {
        &self.vocab
    }
}

impl Checked {
    fn new(mut vocab: GgufVocab) -> Result<Self, String> {
        let count = vocab.tokens.len();
        if count == 0 {
            return Err("tokenizer.ggml.tokens is empty: expected a token for each row of the model".into());
        }
        for (key, len) in [("scores", vocab.scores.len()), ("token_type", vocab.token_types.len())] {
            if len != 0 && len != count {
                return Err(format!("tokenizer.ggml.{key} has {len} entries: expected {count}, one a token"));
            }
        }
        if let Some(id) = vocab.scores.iter().position(|score| !score.is_finite()) {
            return Err(format!("the score of token {id} is {}: expected a number", vocab.scores[id]));
        }
        for (id, token) in vocab.tokens.iter_mut().enumerate() {
            if token.is_empty() {
                // As llama.cpp does; some converters pad the list so.
                *token = format!("[EMPTY_{id}]");
            }
        }
        let mut seen = HashMap::with_capacity_and_hasher(count, ahash::RandomState::with_seeds(1, 2, 3, 4));
        for (id, token) in vocab.tokens.iter().enumerate() {
            if let Some(first) = seen.insert(token.as_str(), id) {
                return Err(format!("token {token:?} has both the ids {first} and {id}"));
            }
        }
        drop(seen);
        for (role, id) in
            [("bos", vocab.bos), ("eos", vocab.eos), ("unknown", vocab.unk), ("padding", vocab.pad)]
        {
            if let Some(id) = id.filter(|&id| id as usize >= count) {
                return Err(format!(
                    "tokenizer.ggml.{role}_token_id is {id}, but the largest id is {}",
                    count - 1
                ));
            }
        }
        fill_defaults(&mut vocab);
        let of_kind = |wanted: &[i32]| {
            let ids = (0u32..).zip(&vocab.token_types);
            ids.filter(|(_, kind)| wanted.contains(kind)).map(|(id, _)| id).collect::<Vec<u32>>()
        };
        let mut special_ids = of_kind(&[kind::CONTROL, kind::UNKNOWN]);
        let added_ids = of_kind(&[kind::USER_DEFINED]);
        // Some files mark no types; what begins and ends texts is special all the same.
        let roles = [vocab.bos, vocab.eos, vocab.pad];
        for id in roles.into_iter().flatten().filter(|_| vocab.token_types.is_empty()) {
            if !special_ids.contains(&id) {
                special_ids.push(id);
            }
        }
        Ok(Self { vocab, special_ids, added_ids })
    }

    fn token(&self, id: Option<u32>) -> Option<&str> {
        self.tokens.get(id? as usize).map(String::as_str)
    }

    fn added_tokens(&self) -> Vec<Value> {
        crate::json::added_tokens(&self.tokens, &self.special_ids, &self.added_ids)
    }

    /// The `post_processor` of a `tokenizer.json`: `bos` before a text and `eos` after it, as far
    /// as they are added.
    fn surround(&self) -> Value {
        let bos = self.bos.filter(|_| self.add_bos == Some(true));
        let eos = self.eos.filter(|_| self.add_eos == Some(true));
        let special = |id: Option<u32>, part: u32| {
            self.token(id).map(|token| json!({"SpecialToken": {"id": token, "type_id": part}}))
        };
        let sequence = |name: &str, part: u32| {
            let sequence = json!({"Sequence": {"id": name, "type_id": part}});
            [special(bos, part), Some(sequence), special(eos, part)].into_iter().flatten()
        };
        if bos.or(eos).is_none() {
            return Value::Null;
        }
        let mut table = Map::new();
        for id in [bos, eos].into_iter().flatten() {
            let token = &self.tokens[id as usize];
            table.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
        }
        json!({
            "type": "TemplateProcessing",
            "single": sequence("A", 0).collect::<Vec<_>>(),
            "pair": sequence("A", 0).chain(sequence("B", 1)).collect::<Vec<_>>(),
            "special_tokens": table,
        })
    }

    /// What `tokenizer_config.json` holds.
    fn config(&self) -> Map<String, Value> {
        let mut config = Map::new();
        let roles = [
            ("bos_token", self.bos),
            ("eos_token", self.eos),
            ("unk_token", self.unk),
            ("pad_token", self.pad),
        ];
        for (role, id) in roles {
            if let Some(token) = self.token(id) {
                config.insert(role.into(), token.into());
            }
        }
        if self.model == "bert" {
            for (role, token) in [("cls_token", "[CLS]"), ("sep_token", "[SEP]"), ("mask_token", "[MASK]")] {
                if self.tokens.iter().any(|known| known == token) {
                    config.insert(role.into(), token.into());
                }
            }
        }
        config.insert("add_bos_token".into(), (self.add_bos == Some(true)).into());
        config.insert("add_eos_token".into(), (self.add_eos == Some(true)).into());
        // Decoding gives what was encoded; tidying spaces would not.
        config.insert("clean_up_tokenization_spaces".into(), false.into());
        if let Some(template) = &self.chat_template {
            config.insert("chat_template".into(), template.as_str().into());
        }
        config
    }
}

/// llama.cpp's defaults for keys that a file leaves out.
fn fill_defaults(vocab: &mut GgufVocab) {
    let count = vocab.tokens.len() as u32;
    let kinds = std::mem::take(&mut vocab.token_types);
    let known = |id: u32| Some(id).filter(|&id| id < count);
    let (add_bos, add_eos) = match vocab.model.as_str() {
        "llama" => {
            vocab.bos = vocab.bos.or(known(1));
            vocab.eos = vocab.eos.or(known(2));
            // The default of zero is only right where it is marked, or nothing is.
            let is_unknown = |id: &u32| kinds.get(*id as usize).is_none_or(|&kind| kind == kind::UNKNOWN);
            vocab.unk = vocab.unk.or(known(0).filter(is_unknown));
            vocab.add_space_prefix.get_or_insert(true);
            (true, false)
        }
        "t5" => {
            vocab.eos = vocab.eos.or(known(1));
            vocab.unk = vocab.unk.or(known(2));
            vocab.pad = vocab.pad.or(known(0));
            vocab.add_space_prefix.get_or_insert(false);
            (false, true)
        }
        "bert" => {
            let by_name = |name: &str| {
                vocab.tokens.iter().position(|token| token == name).and_then(|id| u32::try_from(id).ok())
            };
            let (cls, sep) = (by_name("[CLS]"), by_name("[SEP]"));
            let (unk, pad) = (by_name("[UNK]"), by_name("[PAD]"));
            vocab.bos = vocab.bos.or(cls).or(known(101));
            vocab.eos = vocab.eos.or(sep).or(known(102));
            vocab.unk = vocab.unk.or(unk).or(known(100));
            vocab.pad = vocab.pad.or(pad).or(known(0));
            (true, true)
        }
        _ => (pre::by_name(vocab.pre.as_deref()).is_some_and(|named| named.add_bos), false),
    };
    vocab.token_types = kinds;
    vocab.add_bos.get_or_insert(add_bos);
    vocab.add_eos.get_or_insert(add_eos);
    vocab.remove_extra_whitespaces.get_or_insert(false);
}
