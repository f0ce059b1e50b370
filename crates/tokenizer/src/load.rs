//! Loading a tokenizer from the files that models come with.

use std::path::Path;

use fs_err as fs;
use serde_json::{Map, Value};

use crate::error::{Result, TokenizerError};
use crate::json::BpeParts;
use crate::pretokenize::PreTokenizer;
use crate::tokenizer::Tokenizer;
use crate::train::END_OF_TEXT;

impl Tokenizer {
    /// Loads a `tokenizer.json`. If it is called that and a `tokenizer_config.json` lies beside it,
    /// that one is read too (for the roles of special tokens).
    pub fn from_file(path: &Path) -> Result<Self> {
        let config = match (path.file_name(), path.parent()) {
            (Some(name), Some(folder)) if name == "tokenizer.json" => read_config(folder)?,
            _ => Map::new(),
        };
        Self::from_json_text(read_text(path)?, path, config)
    }

    /// Loads what a model folder holds: `tokenizer.json`, or GPT-2's `encoder.json` and
    /// `vocab.bpe`, or the same two as `vocab.json` and `merges.txt`.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let file = folder.join("tokenizer.json");
        if file.is_file() {
            return Self::from_file(&file);
        }
        for (vocab, merges) in [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")] {
            let (vocab, merges) = (folder.join(vocab), folder.join(merges));
            if vocab.is_file() && merges.is_file() {
                let tokenizer = Self::from_gpt2_files(&vocab, &merges)?;
                let mut config = tokenizer.config().clone();
                config.extend(read_config(folder)?);
                return Ok(tokenizer.with_config(config));
            }
        }
        let hint = if folder.join("tokenizer.model").is_file() {
            "tokenizer.model is a SentencePiece file; convert the model to a folder with tokenizer.json first"
        } else if !folder.is_dir() {
            "the folder does not exist; check the path"
        } else {
            "point to the model's folder, or train a tokenizer"
        };
        Err(TokenizerError::NoTokenizer { path: folder.to_path_buf(), hint })
    }

    /// Loads GPT-2's own two files: `encoder.json` (token to id) and `vocab.bpe` (merges, one a
    /// line). `<|endoftext|>`, if there, begins and ends sequences.
    pub fn from_gpt2_files(encoder_json: &Path, vocab_bpe: &Path) -> Result<Self> {
        let tokens = read_encoder(encoder_json)?;
        let merges = read_merges(vocab_bpe)?;
        let end = tokens.iter().position(|token| token == END_OF_TEXT);
        let mut config = Map::new();
        if end.is_some() {
            for role in ["bos_token", "eos_token", "unk_token"] {
                config.insert(role.to_string(), END_OF_TEXT.into());
            }
        }
        let parts = BpeParts {
            tokens,
            merges,
            pre_tokenizer: PreTokenizer::Gpt2,
            special_ids: end.map(|id| id as u32).into_iter().collect(),
            added_ids: Vec::new(),
            ignore_merges: false,
        };
        Self::from_json_text(parts.to_json(), encoder_json, config)
    }
}

fn bad(path: &Path, problem: impl Into<String>) -> TokenizerError {
    TokenizerError::BadFile { path: path.to_path_buf(), problem: problem.into() }
}

fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(fs::read(path)?)
        .map_err(|error| bad(path, format!("invalid UTF-8 at byte {}", error.utf8_error().valid_up_to())))
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    serde_json::from_str(&read_text(path)?)
        .map_err(|error| bad(path, format!("expected a JSON object: {error}")))
}

/// `tokenizer_config.json`, with the chat template of `chat_template.jinja` and the roles of
/// `special_tokens_map.json` where it has none itself.
fn read_config(folder: &Path) -> Result<Map<String, Value>> {
    let optional = |name: &str| {
        let path = folder.join(name);
        if path.is_file() { Some(path) } else { None }
    };
    let mut config =
        optional("tokenizer_config.json").map(|path| read_object(&path)).transpose()?.unwrap_or_default();
    if let Some(path) = optional("special_tokens_map.json") {
        for (role, token) in read_object(&path)? {
            config.entry(role).or_insert(token);
        }
    }
    if let Some(path) = optional("chat_template.jinja") {
        let template = read_text(&path)?;
        config.entry("chat_template").or_insert_with(|| template.into());
    }
    Ok(config)
}

/// Tokens by id. GPT-2's vocabulary has no gaps.
fn read_encoder(path: &Path) -> Result<Vec<String>> {
    let entries = read_object(path)?;
    let mut tokens = vec![String::new(); entries.len()];
    let count = entries.len();
    let mut seen = vec![false; count];
    for (token, id) in entries {
        let slot = id.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|&id| id < count && !seen[id]);
        let Some(slot) = slot else {
            return Err(bad(
                path,
                format!("token {token:?} has the id {id}: expected each of 0..{count} once"),
            ));
        };
        seen[slot] = true;
        tokens[slot] = token;
    }
    Ok(tokens)
}

fn read_merges(path: &Path) -> Result<Vec<(String, String)>> {
    let text = read_text(path)?;
    let mut merges = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.is_empty() || (number == 1 && line.starts_with("#version")) {
            continue;
        }
        match line.split(' ').collect::<Vec<_>>()[..] {
            [left, right] if !left.is_empty() && !right.is_empty() => {
                merges.push((left.to_string(), right.to_string()))
            }
            _ => {
                return Err(bad(
                    path,
                    format!("line {number}: expected two tokens and a space, got {line:?}"),
                ));
            }
        }
    }
    Ok(merges)
}
