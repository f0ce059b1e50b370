//! Writing `tokenizer.json`, and its fingerprint.
//!
//! What is written is the version 1.0 spelling, which every release of the Hugging Face library,
//! `transformers` and llama.cpp's converter read.

use std::collections::HashSet;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::pretokenize::PreTokenizer;

/// The parts of a byte-level BPE tokenizer, as GPT-2's files, a GGUF file or a trainer give them.
#[derive(Debug, Clone)]
pub struct BpeParts {
    /// All tokens by id, spelled in GPT-2's byte alphabet; special and added tokens as they are.
    pub tokens: Vec<String>,
    /// Pairs of tokens to merge, the first first.
    pub merges: Vec<(String, String)>,
    /// How text is cut into words.
    pub pre_tokenizer: PreTokenizer,
    /// Ids of the special (control) tokens.
    pub special_ids: Vec<u32>,
    /// Ids of other added tokens, which are matched in text before anything else.
    pub added_ids: Vec<u32>,
    /// Whether a word that is a token is taken whole without merging, as Llama 3 does.
    pub ignore_merges: bool,
}

impl BpeParts {
    /// The text of a `tokenizer.json`.
    pub(crate) fn to_json(&self) -> String {
        let post_processor =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
        self.to_json_with(self.pre_tokenizer.to_json(), post_processor)
    }

    /// The text of a `tokenizer.json` with another `pre_tokenizer`, and what surrounds a text.
    pub(crate) fn to_json_with(&self, pre_tokenizer: Value, post_processor: Value) -> String {
        let added: HashSet<u32> = self.special_ids.iter().chain(&self.added_ids).copied().collect();
        let is_added = |id: usize| added.contains(&(id as u32));
        // Added tokens at the end stay out of the model's own vocabulary; the loader numbers them
        // on from its size. One in the middle has to be in it to keep its id.
        let mut model_len = self.tokens.len();
        while model_len > 0 && is_added(model_len - 1) {
            model_len -= 1;
        }
        let merges = self.merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let model = BpeModel {
            ignore_merges: self.ignore_merges,
            ..BpeModel::new(ById(&self.tokens[..model_len]), merges)
        };
        File {
            added_tokens: added_tokens(&self.tokens, &self.special_ids, &self.added_ids),
            pre_tokenizer,
            post_processor,
            decoder: byte_level,
            ..File::new(model)
        }
        .pretty()
    }
}

/// The text of a `tokenizer.json` with one token a character: a BPE model without merges.
pub(crate) fn chars_json(characters: &[char], special_tokens: &[String], unk: Option<&str>) -> String {
    let mut tokens: Vec<String> = characters.iter().map(char::to_string).collect();
    let added =
        (tokens.len() as u32..).zip(special_tokens).map(|(id, token)| added_token(id, token, true)).collect();
    if unk.is_some() {
        // The model's unknown token must be in its vocabulary, so here all special tokens are.
        tokens.extend(special_tokens.iter().cloned());
    }
    let model = BpeModel { unk_token: unk.map(str::to_string), ..BpeModel::new(ById(&tokens), Vec::new()) };
    File { added_tokens: added, decoder: json!({"type": "Fuse"}), ..File::new(model) }.pretty()
}

/// The post-processor that puts one token in front of a text or two, and another behind each.
pub(crate) fn surround(before: (&str, usize), after: (&str, usize)) -> Value {
    let special =
        |(token, _): (&str, usize), part: u32| json!({"SpecialToken": {"id": token, "type_id": part}});
    let sequence = |name: &str, part: u32| json!({"Sequence": {"id": name, "type_id": part}});
    let entry = |(token, id): (&str, usize)| json!({"id": token, "ids": [id], "tokens": [token]});
    let single = [special(before, 0), sequence("A", 0), special(after, 0)];
    let second = [sequence("B", 1), special(after, 1)];
    json!({
        "type": "TemplateProcessing",
        "single": single,
        "pair": single.iter().chain(&second).collect::<Vec<_>>(),
        "special_tokens": { before.0: entry(before), after.0: entry(after) },
    })
}

fn added_token(id: u32, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special,
    })
}

/// The `added_tokens` of a `tokenizer.json`, in the order of their ids.
pub(crate) fn added_tokens(tokens: &[String], special_ids: &[u32], added_ids: &[u32]) -> Vec<Value> {
    let special: HashSet<u32> = special_ids.iter().copied().collect();
    let mut ids: Vec<u32> = special_ids.iter().chain(added_ids).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter()
        .filter_map(|id| Some(added_token(id, tokens.get(id as usize)?, special.contains(&id))))
        .collect()
}

/// What a `tokenizer.json` holds.
#[derive(Serialize)]
pub(crate) struct File<M> {
    pub(crate) version: &'static str,
    pub(crate) truncation: (),
    pub(crate) padding: (),
    pub(crate) added_tokens: Vec<Value>,
    pub(crate) normalizer: Value,
    pub(crate) pre_tokenizer: Value,
    pub(crate) post_processor: Value,
    pub(crate) decoder: Value,
    pub(crate) model: M,
}

impl<M: Serialize> File<M> {
    /// A model with nothing around it.
    pub(crate) fn new(model: M) -> Self {
        Self {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens: Vec::new(),
            normalizer: Value::Null,
            pre_tokenizer: Value::Null,
            post_processor: Value::Null,
            decoder: Value::Null,
            model,
        }
    }

    pub(crate) fn pretty(&self) -> String {
        // Every key is a string and nothing does I/O, so this cannot fail.
        serde_json::to_string_pretty(self).expect("a tokenizer file is plain JSON")
    }
}

/// The `model` of a `tokenizer.json` that merges.
#[derive(Serialize)]
pub(crate) struct BpeModel<'a> {
    pub(crate) r#type: &'static str,
    pub(crate) dropout: (),
    pub(crate) unk_token: Option<String>,
    pub(crate) continuing_subword_prefix: (),
    pub(crate) end_of_word_suffix: (),
    pub(crate) fuse_unk: bool,
    pub(crate) byte_fallback: bool,
    pub(crate) ignore_merges: bool,
    pub(crate) vocab: ById<'a>,
    /// As `left right`.
    pub(crate) merges: Vec<String>,
}

impl<'a> BpeModel<'a> {
    pub(crate) fn new(vocab: ById<'a>, merges: Vec<String>) -> Self {
        Self {
            r#type: "BPE",
            dropout: (),
            unk_token: None,
            continuing_subword_prefix: (),
            end_of_word_suffix: (),
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
            vocab,
            merges,
        }
    }
}

/// Tokens as a `{token: id}` object in the order of their ids.
pub(crate) struct ById<'a>(pub(crate) &'a [String]);

impl Serialize for ById<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(0u32..))
    }
}

/// SHA-256, in hexadecimal, of a JSON value written without spaces and with sorted keys: the same
/// for two files that differ only in layout.
pub(crate) fn fingerprint(value: &Value) -> String {
    let mut hasher = Sha256::new();
    feed(value, &mut hasher);
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn feed(value: &Value, hasher: &mut Sha256) {
    match value {
        Value::Array(items) => {
            hasher.update(b"[");
            for item in items {
                feed(item, hasher);
                hasher.update(b",");
            }
            hasher.update(b"]");
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| key.as_str());
            hasher.update(b"{");
            for (key, value) in fields {
                feed(&Value::String(key.clone()), hasher);
                hasher.update(b":");
                feed(value, hasher);
                hasher.update(b",");
            }
            hasher.update(b"}");
        }
        plain => hasher.update(plain.to_string().as_bytes()),
    }
}
