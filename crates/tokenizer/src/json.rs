//! Writing `tokenizer.json`, and its fingerprint.
//!
//! What is written is the version 1.0 spelling, which every release of the Hugging Face library,
//! `transformers` and llama.cpp's converter read.

use serde::ser::{Serialize, SerializeMap, Serializer};
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
        let is_added =
            |id: usize| self.special_ids.contains(&(id as u32)) || self.added_ids.contains(&(id as u32));
        let mut added: Vec<u32> = self.special_ids.iter().chain(&self.added_ids).copied().collect();
        added.sort_unstable();
        let added: Vec<Value> = added
            .into_iter()
            .filter_map(|id| Some((id, self.tokens.get(id as usize)?)))
            .map(|(id, token)| added_token(id, token, self.special_ids.contains(&id)))
            .collect();
        // Added tokens at the end stay out of the model's own vocabulary; the loader numbers them
        // on from its size. One in the middle has to be in it to keep its id.
        let mut model_len = self.tokens.len();
        while model_len > 0 && is_added(model_len - 1) {
            model_len -= 1;
        }
        let merges: Vec<String> = self.merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        pretty(&File {
            added_tokens: added,
            pre_tokenizer: self.pre_tokenizer.to_json(),
            post_processor: json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true}),
            decoder: byte_level,
            unk_token: None,
            ignore_merges: self.ignore_merges,
            vocab: ById(&self.tokens[..model_len]),
            merges,
        })
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
    pretty(&File {
        added_tokens: added,
        pre_tokenizer: Value::Null,
        post_processor: Value::Null,
        decoder: json!({"type": "Fuse"}),
        unk_token: unk.map(str::to_string),
        ignore_merges: false,
        vocab: ById(&tokens),
        merges: Vec::new(),
    })
}

fn added_token(id: u32, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special,
    })
}

struct File<'a> {
    added_tokens: Vec<Value>,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    unk_token: Option<String>,
    ignore_merges: bool,
    vocab: ById<'a>,
    merges: Vec<String>,
}

impl Serialize for File<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Model<'a> {
            r#type: &'static str,
            dropout: Option<f32>,
            unk_token: Option<&'a str>,
            continuing_subword_prefix: Option<&'a str>,
            end_of_word_suffix: Option<&'a str>,
            fuse_unk: bool,
            byte_fallback: bool,
            ignore_merges: bool,
            vocab: &'a ById<'a>,
            merges: &'a [String],
        }
        let mut file = serializer.serialize_map(None)?;
        file.serialize_entry("version", "1.0")?;
        file.serialize_entry("truncation", &Value::Null)?;
        file.serialize_entry("padding", &Value::Null)?;
        file.serialize_entry("added_tokens", &self.added_tokens)?;
        file.serialize_entry("normalizer", &Value::Null)?;
        file.serialize_entry("pre_tokenizer", &self.pre_tokenizer)?;
        file.serialize_entry("post_processor", &self.post_processor)?;
        file.serialize_entry("decoder", &self.decoder)?;
        file.serialize_entry(
            "model",
            &Model {
                r#type: "BPE",
                dropout: None,
                unk_token: self.unk_token.as_deref(),
                continuing_subword_prefix: None,
                end_of_word_suffix: None,
                fuse_unk: false,
                byte_fallback: false,
                ignore_merges: self.ignore_merges,
                vocab: &self.vocab,
                merges: &self.merges,
            },
        )?;
        file.end()
    }
}

/// Tokens as a `{token: id}` object in the order of their ids.
struct ById<'a>(&'a [String]);

impl Serialize for ById<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(0u32..))
    }
}

fn pretty(file: &File<'_>) -> String {
    // Every key is a string and nothing does I/O, so this cannot fail.
    serde_json::to_string_pretty(file).expect("a tokenizer file is plain JSON")
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
