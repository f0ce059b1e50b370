//! The tokenizer itself: text to ids and back.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use tokenizers::pipeline::{EncodeOptions, Override, PipelineTokenizer};

use crate::alphabet;
use crate::chars::Chars;
use crate::charsmap;
use crate::cut::Cutter;
use crate::error::{Result, TokenizerError};
use crate::json::{self, BpeParts};
use crate::limits;
use crate::offsets;
use crate::pretokenize::PreTokenizer;
use crate::replace::replace_file;
use crate::stream::DecodeStream;
use crate::threads::parallel_map;
use crate::vocab::{Spelling, Vocab};

/// A batch is handed to threads in pieces of about this many bytes.
const GRAIN_BYTES: usize = 64 << 10;
/// Stands before a text that begins within another: a private-use character, which merges with nothing.
const BEFORE: &str = "\u{E000}";

/// Text to token ids and back. Cheap to clone; every method may be called from several threads.
#[derive(Clone)]
pub struct Tokenizer {
    model: Arc<Model>,
    /// `tokenizer_config.json`, kept whole so that saving loses nothing.
    config: Arc<Map<String, Value>>,
    roles: Roles,
}

struct Model {
    pipeline: PipelineTokenizer,
    cutter: Option<Cutter>,
    vocab: Vocab,
    spelling: Spelling,
    chars: Option<Chars>,
    /// Whether plain text can come out as a special token: Unigram weighs them among its pieces.
    spells_special: bool,
    pre_tokenizer: Option<PreTokenizer>,
    /// `tokenizer.json` as it was read or made.
    json: String,
    hash: OnceLock<String>,
}

#[derive(Clone, Copy, Default)]
struct Roles {
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    unk: Option<u32>,
    mask: Option<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Makes a byte-level BPE tokenizer from its parts. `config` is what `tokenizer_config.json`
    /// holds: `bos_token`, `eos_token`, `chat_template` and the like.
    pub fn from_bpe_parts(parts: &BpeParts, config: Map<String, Value>) -> Result<Self> {
        Self::from_json_text(parts.to_json(), Path::new("<tokenizer parts>"), config)
    }

    /// Makes a tokenizer from the text of a `tokenizer.json`; `source` names it in errors.
    pub(crate) fn from_json_text(json: String, source: &Path, config: Map<String, Value>) -> Result<Self> {
        let bad = |problem: String| TokenizerError::BadFile { path: source.to_path_buf(), problem };
        let mut file: Value =
            serde_json::from_str(&json).map_err(|error| bad(format!("not JSON: {error}")))?;
        tokenizers::canonicalize_value(&mut file).map_err(|error| bad(error.to_string()))?;
        charsmap::check(&file["normalizer"]).map_err(bad)?;
        limits::check(&file).map_err(bad)?;
        let spelling = spelling_of(&file);
        let vocab = Vocab::from_json(&file, spelling).map_err(bad)?;
        let pre_tokenizer = file.get("pre_tokenizer").and_then(PreTokenizer::from_json);
        let unk =
            file.pointer("/model/unk_token").and_then(Value::as_str).and_then(|token| vocab.id_of(token));
        let unk = unk.or_else(|| file.pointer("/model/unk_id")?.as_u64()?.try_into().ok());
        let spells_special = file.pointer("/model/type").and_then(Value::as_str) == Some("Unigram");
        if spelling == Spelling::ByteLevel {
            fill_in_bytes(&mut file, &vocab);
        }
        let canonical = file.to_string();
        // Large vocabularies take much memory as a tree; the pipeline reads the text.
        drop(file);
        // It panics where it finds no perfect hash for the tokens.
        let pipeline = std::panic::catch_unwind(|| tokenizers::from_json(&canonical))
            .map_err(|_| bad("its tokens can't be indexed".to_owned()))?
            .map_err(|error| bad(error.to_string()))?;
        drop(canonical);
        let cutter = Cutter::of(&pipeline).map_err(|error| bad(error.to_string()))?;
        for (id, token) in &vocab.added {
            let got = pipeline.get_added_vocabulary().token_to_id(token);
            if got != Some(*id) && !token.is_empty() {
                let got = got.map_or("none".to_string(), |id| id.to_string());
                return Err(bad(format!("added token {token:?} says id {id}, but its place gives it {got}")));
            }
        }
        let chars = (spelling == Spelling::Chars).then(|| Chars::new(&vocab, unk));
        let hash = OnceLock::new();
        let model =
            Model { pipeline, cutter, vocab, spelling, chars, spells_special, pre_tokenizer, json, hash };
        let mut tokenizer = Self { model: Arc::new(model), config: Arc::default(), roles: Roles::default() };
        tokenizer = tokenizer.with_config(config);
        tokenizer.roles.unk = tokenizer.roles.unk.or(unk);
        Ok(tokenizer)
    }

    /// The same tokenizer with another `tokenizer_config.json`.
    #[must_use]
    pub fn with_config(&self, config: Map<String, Value>) -> Self {
        let role = |name: &str| {
            let value = config.get(name)?;
            self.id_of(value.as_str().or_else(|| value.get("content")?.as_str())?)
        };
        let roles = Roles {
            bos: role("bos_token"),
            eos: role("eos_token"),
            pad: role("pad_token"),
            unk: role("unk_token").or(self.roles.unk),
            mask: role("mask_token").or_else(|| self.id_of("[MASK]")),
        };
        Self { model: Arc::clone(&self.model), config: Arc::new(config), roles }
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into `folder`, each whole or not at all.
    pub fn save(&self, folder: &Path) -> Result<()> {
        replace_file(&folder.join("tokenizer.json"), self.model.json.as_bytes())?;
        let mut config = (*self.config).clone();
        config.entry("tokenizer_class").or_insert_with(|| "PreTrainedTokenizerFast".into());
        let text = serde_json::to_string_pretty(&config).expect("a map of JSON values is plain JSON");
        replace_file(&folder.join("tokenizer_config.json"), text.as_bytes())?;
        Ok(())
    }

    /// The ids of `text`, nothing added. What looks like a special token in the text stays text. A
    /// byte that a byte-level vocabulary lacks is left out, as the Hugging Face library does.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, true)
    }

    /// The ids of `text`, with special tokens that are spelled out in it recognised.
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, false)
    }

    /// The ids of `text` as they are within a longer one: [`Self::encode`] without the space that
    /// SentencePiece puts in front of a text.
    pub fn encode_within(&self, text: &str) -> Result<Vec<u32>> {
        if self.model.spelling != Spelling::Metaspace {
            return self.encode(text);
        }
        let before = self.encode(BEFORE)?;
        let mut ids = self.encode(&format!("{BEFORE}{text}"))?;
        if !ids.starts_with(&before) {
            let problem = "the tokens of U+E000 depend on the text that follows it";
            return Err(TokenizerError::Encode(problem.to_string()));
        }
        ids.drain(..before.len());
        Ok(ids)
    }

    /// [`Self::encode`] for each text, on several threads.
    pub fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        parallel_map(texts, |text| text.len(), GRAIN_BYTES, || (), |(), text| self.encode(text))
            .into_iter()
            .collect()
    }

    /// [`Self::encode`] with, for each token, the bytes of `text` that it stands for, from the start of a character to the
    /// end of one; what normalisation drops (white space, accents that are characters of their own) belongs to no token.
    /// Of byte-level tokens, spaces at the ends don't count, so that the range of one that is only spaces is empty; two
    /// that share a character have both all of it.
    ///
    /// # Errors
    /// Those of [`Self::encode`]; and where tokens can't be traced back: those of SentencePiece, and byte-level ones of a
    /// text that the tokenizer normalises.
    pub fn encode_with_offsets(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>> {
        let Model { pipeline, vocab, spelling, .. } = &*self.model;
        match spelling {
            Spelling::WordPiece => offsets::encode(pipeline, vocab, text),
            Spelling::ByteLevel => offsets::of_bytes(vocab, self.encode(text)?, text),
            Spelling::Chars => Ok(offsets::of_characters(self.encode(text)?, text)),
            Spelling::Metaspace | Spelling::Plain => {
                Err("its tokens can't be traced back to a text; WordPiece's and byte-level BPE's can".into())
            }
        }
        .map_err(|error| TokenizerError::Encode(error.to_string()))
    }

    fn encode_as(&self, text: &str, special_as_text: bool) -> Result<Vec<u32>> {
        if let Some(chars) = &self.model.chars {
            let mut ids = Vec::new();
            match special_as_text {
                true => chars.encode_into(text, 0, &mut ids)?,
                false => chars.encode_with_added(text, &self.model.vocab, &mut ids)?,
            }
            return Ok(ids);
        }
        let options = EncodeOptions {
            add_special_tokens: false,
            encode_special_tokens: special_as_text,
            padding: Override::Off,
            truncation: Override::Off,
        };
        let mut tokens = Vec::with_capacity(text.len() / 4);
        let pipeline = &self.model.pipeline;
        match &self.model.cutter {
            Some(cutter) => cutter.encode_into(pipeline, text, special_as_text, &mut tokens),
            None => pipeline.encode_into(text, &options, &mut tokens),
        }
        .map_err(|error| TokenizerError::Encode(error.to_string()))?;
        // A byte without a token got an id past the end, see `fill_in_bytes`.
        let size = self.vocab_size() as u32;
        let ids = tokens.into_iter().map(u32::from).filter(|&id| id < size);
        Ok(match special_as_text && self.model.spells_special {
            true => ids.flat_map(|id| self.spelled_out(id)).collect(),
            false => ids.collect(),
        })
    }

    /// A special token that plain text came out as, in tokens of a character each.
    fn spelled_out(&self, id: u32) -> Vec<u32> {
        let unk = self.unk();
        if Some(id) == unk || !self.is_special(id) {
            return vec![id];
        }
        let spelling = self.token_of(id).unwrap_or_default();
        let single = |character: char| self.id_of(character.encode_utf8(&mut [0; 4])).or(unk);
        spelling.chars().filter_map(single).collect()
    }

    /// The text of `ids`. Bytes that are not UTF-8 become U+FFFD; an id without a token is an error.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.check_ids(ids)?;
        if !self.is_bytewise() {
            return self
                .model
                .pipeline
                .decode(ids, skip_special)
                .map_err(|error| TokenizerError::Decode(error.to_string()));
        }
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            if !(skip_special && self.is_special(id)) {
                bytes.extend_from_slice(self.token_bytes(id).unwrap_or_default());
            }
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        match ids.iter().position(|&id| self.token_of(id).is_none()) {
            Some(position) => {
                Err(TokenizerError::UnknownId { id: ids[position], position, vocab_size: self.vocab_size() })
            }
            None => Ok(()),
        }
    }

    /// A decoder that takes one id at a time and never breaks a character; special tokens are
    /// skipped.
    pub fn decode_stream(&self) -> DecodeStream {
        DecodeStream::new(self.clone())
    }

    /// Whether the text of a sequence is the bytes of its tokens, one after the other.
    pub(crate) fn is_bytewise(&self) -> bool {
        matches!(self.model.spelling, Spelling::ByteLevel | Spelling::Chars)
    }

    pub(crate) fn is_word_piece(&self) -> bool {
        self.model.spelling == Spelling::WordPiece
    }

    /// The bytes that token `id` stands for (for SentencePiece and WordPiece: before the decoder
    /// adjusts spaces).
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.model.vocab.bytes_of(id)
    }

    /// One more than the largest id, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.model.vocab.len()
    }

    /// The id of a token by its spelling in `tokenizer.json`.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.model.vocab.id_of(token)
    }

    /// The spelling of token `id` in `tokenizer.json`.
    pub fn token_of(&self, id: u32) -> Option<&str> {
        self.model.vocab.token_of(id)
    }

    /// Beginning of sequence.
    pub fn bos(&self) -> Option<u32> {
        self.roles.bos
    }

    /// End of sequence, which also ends a document in training data.
    pub fn eos(&self) -> Option<u32> {
        self.roles.eos
    }

    /// Padding.
    pub fn pad(&self) -> Option<u32> {
        self.roles.pad
    }

    /// Stands for what has no token.
    pub fn unk(&self) -> Option<u32> {
        self.roles.unk
    }

    /// Stands for a token that is to be found, in encoders.
    pub fn mask(&self) -> Option<u32> {
        self.roles.mask
    }

    /// Whether `id` is a special (control) token.
    pub fn is_special(&self, id: u32) -> bool {
        self.model.vocab.is_special(id)
    }

    /// Ids and spellings of the added tokens, special or not.
    pub fn added_tokens(&self) -> &[(u32, String)] {
        &self.model.vocab.added
    }

    /// The pre-tokenizer, if it is one that llama.cpp knows by name.
    pub fn pre_tokenizer(&self) -> Option<PreTokenizer> {
        self.model.pre_tokenizer.filter(|_| self.model.spelling == Spelling::ByteLevel)
    }

    /// Pairs of tokens to merge, the first first; empty for models without merges.
    pub fn merges(&self) -> Result<Vec<(String, String)>> {
        let file = self.canonical()?;
        let merges = file.pointer("/model/merges").and_then(Value::as_array);
        let text = |value: &Value, side: usize| {
            value.get(side).and_then(Value::as_str).unwrap_or_default().to_string()
        };
        Ok(merges.into_iter().flatten().map(|merge| (text(merge, 0), text(merge, 1))).collect())
    }

    /// `tokenizer.json` in the one spelling that the pipeline reads.
    pub(crate) fn canonical(&self) -> Result<Value> {
        let bad = |error: String| TokenizerError::BadFile { path: "tokenizer.json".into(), problem: error };
        let mut file: Value =
            serde_json::from_str(&self.model.json).map_err(|error| bad(error.to_string()))?;
        tokenizers::canonicalize_value(&mut file).map_err(|error| bad(error.to_string()))?;
        Ok(file)
    }

    /// What `tokenizer_config.json` holds.
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// The chat template, a Jinja text.
    pub fn chat_template(&self) -> Option<&str> {
        self.config.get("chat_template")?.as_str()
    }

    /// The longest sequence the model was made for, in tokens, if the configuration says.
    pub fn model_max_length(&self) -> Option<usize> {
        // Files without a limit hold a float like 1e30, which is not a u64.
        self.config.get("model_max_length")?.as_u64().and_then(|n| usize::try_from(n).ok())
    }

    /// The text of `tokenizer.json`.
    pub fn json(&self) -> &str {
        &self.model.json
    }

    /// SHA-256 of the canonical `tokenizer.json`, in hexadecimal: ties token shards to the
    /// tokenizer that made them, whatever the layout of the file.
    pub fn hash(&self) -> &str {
        self.model.hash.get_or_init(|| {
            // It was parsed once already when the tokenizer was made.
            let file: Value = serde_json::from_str(&self.model.json).unwrap_or_default();
            json::fingerprint(&file)
        })
    }
}

/// Gives bytes that a byte-level vocabulary lacks an id past its end, so that the pipeline takes it.
/// Some published ones lack bytes that no text in common scripts needs (SmolLM2 does); the Hugging
/// Face library and llama.cpp leave such bytes out when they encode.
fn fill_in_bytes(file: &mut Value, vocab: &Vocab) {
    let Some(tokens) = file.pointer_mut("/model/vocab").and_then(Value::as_object_mut) else { return };
    let spelled = |byte: u8| alphabet::char_of(byte).to_string();
    let missing: Vec<String> =
        (0..=255).map(spelled).filter(|byte| !tokens.contains_key(byte.as_str())).collect();
    if missing.is_empty() {
        return;
    }
    // Added tokens are numbered on from the end of this list; in it, they keep their ids.
    let added = vocab.added.iter().map(|(id, token)| (token.clone(), Value::from(*id)));
    tokens.extend(added);
    let past = vocab.len()..;
    tokens.extend(missing.into_iter().zip(past.map(Value::from)));
}

fn spelling_of(file: &Value) -> Spelling {
    if Chars::recognise(file) {
        return Spelling::Chars;
    }
    let model = |key: &str| file.get("model").and_then(|model| model.get(key));
    let flag = |key: &str| model(key).and_then(Value::as_bool) == Some(true);
    match model("type").and_then(Value::as_str) {
        Some("BPE") if flag("byte_level") => Spelling::ByteLevel,
        Some("WordPiece") => Spelling::WordPiece,
        Some("BPE" | "Unigram") if flag("byte_fallback") || mentions_metaspace(file) => Spelling::Metaspace,
        _ => Spelling::Plain,
    }
}

fn mentions_metaspace(file: &Value) -> bool {
    file.get("decoder").is_some_and(|decoder| decoder.to_string().contains('▁'))
}
