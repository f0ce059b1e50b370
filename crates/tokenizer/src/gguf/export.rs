//! From a tokenizer to GGUF metadata, where llama.cpp has something that means the same.

use std::collections::HashSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::{GgufVocab, SPACE, kind, pre, sentencepiece, stand_in, wordpiece};
use crate::error::{Result, TokenizerError};
use crate::tokenizer::Tokenizer;

pub(super) fn to_gguf(tokenizer: &Tokenizer) -> Result<GgufVocab> {
    let file = tokenizer.canonical()?;
    let mut vocab = tokens(tokenizer);
    roles(tokenizer, &file, &mut vocab);
    let model = |key: &str| file.pointer(&format!("/model/{key}"));
    let flag = |key: &str| model(key).and_then(Value::as_bool) == Some(true);
    match model("type").and_then(Value::as_str) {
        Some("BPE") if flag("byte_level") => byte_level(tokenizer, &file, flag("ignore_merges"), &mut vocab),
        Some("BPE") if flag("byte_fallback") => sentencepiece(tokenizer, &file, &mut vocab),
        Some("BPE") => Err("it is BPE over characters, without bytes for those it doesn't know".to_string()),
        Some("Unigram") => unigram(&file, &mut vocab),
        Some("WordPiece") => word_piece(tokenizer, &file, &mut vocab),
        other => Err(format!("its model is {}", other.unwrap_or("of no known type"))),
    }
    .map_err(|problem| TokenizerError::NoGguf { problem })?;
    Ok(vocab)
}

/// Tokens and types; an id without a token gets a stand-in, as llama.cpp's converter does.
fn tokens(tokenizer: &Tokenizer) -> GgufVocab {
    let added: HashSet<u32> = tokenizer.added_tokens().iter().map(|(id, _)| *id).collect();
    let ids = 0..tokenizer.vocab_size() as u32;
    let (tokens, token_types) = ids
        .map(|id| match tokenizer.token_of(id) {
            None => (stand_in(id as usize), kind::UNUSED),
            Some(token) if tokenizer.is_special(id) => (token.to_string(), kind::CONTROL),
            Some(token) if added.contains(&id) => (token.to_string(), kind::USER_DEFINED),
            Some(token) => (token.to_string(), kind::NORMAL),
        })
        .unzip();
    GgufVocab { tokens, token_types, ..GgufVocab::default() }
}

fn roles(tokenizer: &Tokenizer, file: &Value, vocab: &mut GgufVocab) {
    let says = |key: &str| tokenizer.config().get(key).and_then(Value::as_bool);
    let surrounds = |place: fn(&Vec<Value>) -> Option<&Value>, role: Option<u32>| {
        let pieces = file.pointer("/post_processor/single").and_then(Value::as_array);
        let id = pieces.and_then(place).and_then(|piece| piece.pointer("/ids/0")).and_then(Value::as_u64);
        id.is_some() && id == role.map(u64::from)
    };
    (vocab.bos, vocab.eos) = (tokenizer.bos(), tokenizer.eos());
    (vocab.unk, vocab.pad) = (tokenizer.unk(), tokenizer.pad());
    vocab.add_bos = Some(says("add_bos_token").unwrap_or_else(|| surrounds(|all| all.first(), vocab.bos)));
    vocab.add_eos = Some(says("add_eos_token").unwrap_or_else(|| surrounds(|all| all.last(), vocab.eos)));
    vocab.chat_template = tokenizer.chat_template().map(str::to_string);
}

fn byte_level(
    tokenizer: &Tokenizer,
    file: &Value,
    ignore_merges: bool,
    vocab: &mut GgufVocab,
) -> Result<(), String> {
    // llama.cpp composes no characters; its converter leaves NFC out too.
    if let Some(step) = normalizers(file).into_iter().find(|step| step["type"] != "NFC") {
        return Err(format!("it has the normalizer {step}, which byte-level BPE in GGUF doesn't"));
    }
    let name = pre::name_of(&file["pre_tokenizer"], ignore_merges);
    let name = name.ok_or_else(|| {
        format!(
            "its pre-tokenizer ({}ignore_merges: {ignore_merges}) has no name: {}",
            if file["pre_tokenizer"].is_null() { "none, " } else { "" },
            file["pre_tokenizer"]
        )
    })?;
    vocab.model = "gpt2".into();
    vocab.pre = Some(name.to_string());
    let merges = tokenizer.merges().map_err(|error| error.to_string())?;
    vocab.merges = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    Ok(())
}

/// Scores are made up from the order of the merges; merging by them must give that order back.
fn sentencepiece(tokenizer: &Tokenizer, file: &Value, vocab: &mut GgufVocab) -> Result<(), String> {
    vocab.add_space_prefix = Some(space_prefix(file)?.prefix);
    vocab.model = "llama".into();
    mark_bytes(vocab);
    for id in 0..vocab.tokens.len() {
        // Added tokens are matched in the text as it was, with its spaces.
        if vocab.token_types[id] == kind::USER_DEFINED {
            vocab.tokens[id] = vocab.tokens[id].replace(SPACE, " ");
        }
        if vocab.unk == Some(id as u32) {
            vocab.token_types[id] = kind::UNKNOWN;
        }
    }
    check_words(file, vocab)?;
    let merges = tokenizer.merges().map_err(|error| error.to_string())?;
    let ids = |(left, right): &(String, String)| {
        Some((tokenizer.id_of(left)?, tokenizer.id_of(right)?, tokenizer.id_of(&format!("{left}{right}"))?))
    };
    let is_plain = |id: u32| vocab.token_types[id as usize] == kind::NORMAL;
    let plain: Vec<(u32, u32, u32)> = merges
        .iter()
        .filter_map(ids)
        .filter(|&(left, right, whole)| is_plain(left) && is_plain(right) && is_plain(whole))
        .collect();
    // What no merge makes comes last, and what is never merged has no score.
    let last = -(vocab.tokens.len() as f32);
    vocab.scores = vocab.token_types.iter().map(|&k| if k == kind::NORMAL { last } else { 0.0 }).collect();
    let mut rank = 0.0;
    let mut scored = HashSet::new();
    for &(_, _, whole) in &plain {
        if scored.insert(whole) {
            vocab.scores[whole as usize] = rank;
            rank -= 1.0;
        }
    }
    let plain_only = GgufVocab { token_types: only_normal(&vocab.token_types), ..vocab.clone() };
    let derived = sentencepiece::derive_merges(&plain_only)?;
    let given: Vec<(u32, u32)> = plain.iter().map(|&(left, right, _)| (left, right)).collect();
    if derived != given {
        let place = derived.iter().zip(&given).position(|(one, other)| one != other);
        return Err(format!(
            "its {} merges aren't those that SentencePiece scores stand for (from merge {} on)",
            given.len(),
            place.unwrap_or(derived.len().min(given.len()))
        ));
    }
    Ok(())
}

fn only_normal(kinds: &[i32]) -> Vec<i32> {
    kinds.iter().map(|&kind| if kind == kind::NORMAL { kind } else { kind::CONTROL }).collect()
}

fn mark_bytes(vocab: &mut GgufVocab) {
    for (token, kind) in vocab.tokens.iter().zip(&mut vocab.token_types) {
        if *kind == kind::NORMAL && crate::vocab::byte_piece(token).is_some() {
            *kind = kind::BYTE;
        }
    }
}

/// A pre-tokenizer that cuts at spaces is fine where no token has one inside: nothing could have
/// been merged across the cut.
fn check_words(file: &Value, vocab: &GgufVocab) -> Result<(), String> {
    let cut = &file["pre_tokenizer"];
    let pattern = cut.pointer("/pattern/String").and_then(Value::as_str);
    if cut.is_null() || pattern == Some(" ") {
        // No space is left when it cuts.
        return Ok(());
    }
    if pattern != Some("▁") {
        return Err(format!("it has the pre-tokenizer {cut}, which SentencePiece in GGUF doesn't"));
    }
    let inside = |token: &str| token.char_indices().any(|(at, character)| at > 0 && character == SPACE);
    let across = vocab.tokens.iter().zip(&vocab.token_types);
    match across.into_iter().find(|(token, kind)| **kind == kind::NORMAL && inside(token)) {
        Some((token, _)) => Err(format!(
            "its pre-tokenizer cuts at each space, yet the token {token:?} spans one; llama.cpp wouldn't cut"
        )),
        None => Ok(()),
    }
}

fn unigram(file: &Value, vocab: &mut GgufVocab) -> Result<(), String> {
    let spaces = space_prefix(file)?;
    vocab.model = "t5".into();
    vocab.add_space_prefix = Some(spaces.prefix);
    vocab.remove_extra_whitespaces = Some(spaces.merged);
    vocab.precompiled_charsmap = spaces.charsmap;
    let pieces = file.pointer("/model/vocab").and_then(Value::as_array);
    let scores = pieces.into_iter().flatten().map(|piece| piece.get(1)?.as_f64());
    vocab.scores = scores.map(|score| score.unwrap_or_default() as f32).collect();
    // Added tokens past the model's own are never weighed.
    vocab.scores.resize(vocab.tokens.len(), 0.0);
    if let Some(unk) = vocab.unk {
        vocab.token_types[unk as usize] = kind::UNKNOWN;
    }
    Ok(())
}

fn word_piece(tokenizer: &Tokenizer, file: &Value, vocab: &mut GgufVocab) -> Result<(), String> {
    let prefix = file.pointer("/model/continuing_subword_prefix").and_then(Value::as_str);
    let normalizers = normalizers(file);
    if prefix != Some("##") || file["pre_tokenizer"]["type"] != "BertPreTokenizer" || normalizers.len() != 1 {
        return Err("it is WordPiece, but not as in BERT".into());
    }
    let made = wordpiece::normalizer(&vocab.tokens);
    for key in ["type", "lowercase", "clean_text", "handle_chinese_chars"] {
        if normalizers[0][key] != made[key] {
            return Err(format!(
                "its normalizer has {key}: {}, but a GGUF file of this vocabulary means {}",
                normalizers[0][key], made[key]
            ));
        }
    }
    vocab.model = "bert".into();
    vocab.bos = vocab.bos.or(tokenizer.id_of("[CLS]"));
    vocab.eos = vocab.eos.or(tokenizer.id_of("[SEP]"));
    (vocab.add_bos, vocab.add_eos) = (Some(true), Some(true));
    for (token, kind) in vocab.tokens.iter_mut().zip(&vocab.token_types) {
        if *kind == kind::NORMAL {
            *token = wordpiece::phantom(token);
        }
    }
    Ok(())
}

fn normalizers(file: &Value) -> Vec<&Value> {
    let normalizer = &file["normalizer"];
    match normalizer.get("normalizers").and_then(Value::as_array) {
        Some(members) => members.iter().collect(),
        None if normalizer.is_null() => Vec::new(),
        None => vec![normalizer],
    }
}

/// What a SentencePiece-style tokenizer does to spaces before anything else.
#[derive(Default)]
struct Spaces {
    prefix: bool,
    merged: bool,
    charsmap: Option<Vec<u8>>,
}

fn space_prefix(file: &Value) -> Result<Spaces, String> {
    let mut spaces = Spaces::default();
    let mut replaced = false;
    for step in normalizers(file) {
        let text = |key: &str| step.pointer(key).and_then(Value::as_str);
        match text("/type").unwrap_or_default() {
            "Prepend" if text("/prepend") == Some("▁") => spaces.prefix = true,
            "Replace" if text("/pattern/String") == Some(" ") && text("/content") == Some("▁") => {
                replaced = true
            }
            "Replace" if text("/pattern/Regex") == Some(" {2,}") => spaces.merged = true,
            "Strip" => {}
            "MetaspaceNormalizer" if text("/replacement") == Some("▁") => {
                replaced = true;
                spaces.prefix = text("/prepend") != Some("never");
                spaces.merged |= step["drop_whitespace"] == true;
            }
            "Precompiled" => {
                let map = BASE64_STANDARD.decode(text("/precompiled_charsmap").unwrap_or_default());
                spaces.charsmap = Some(map.map_err(|error| format!("its table of characters: {error}"))?);
            }
            _ => return Err(format!("it has the normalizer {step}, which SentencePiece in GGUF doesn't")),
        }
    }
    match replaced {
        true => Ok(spaces),
        false => Err("it doesn't write spaces as ▁, as SentencePiece does".into()),
    }
}
