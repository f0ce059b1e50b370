//! The tokenizer and the rules of special tokens that a GGUF file carries.

use crate::error::{EngineError, Result};
use crate::infill::{InfillTokens, ROLES};
use crate::special::SpecialRules;
use hearth_model::ModelError;
use hearth_model::gguf::{FromValue, Gguf, GgufWriter};
use hearth_tokenizer::{GgufVocab, Tokenizer};

/// Control tokens that end an answer wherever a file has them, whether or not it says so; llama.cpp looks
/// for the same ones by name.
const ENDS: [&str; 8] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "<|end_of_text|>",
];

/// The tokenizer of a file, and which tokens begin and end a text.
pub(crate) fn tokenizer(file: &Gguf) -> Result<(Tokenizer, SpecialRules)> {
    let vocab = vocabulary(file)?;
    let mut ends: Vec<u32> = vocab.eos.into_iter().collect();
    ends.extend(find::<u32>(file, "eot_token_id")?);
    for (id, token) in vocab.tokens.iter().enumerate() {
        if vocab.is_control(id) && ENDS.contains(&token.as_str()) {
            ends.push(id as u32);
        }
    }
    let tokenizer = Tokenizer::from_gguf(vocab, file.path())?;
    let mut special = SpecialRules::of_tokenizer(&tokenizer);
    special.ends.extend(ends);
    let infill = infill(file, &tokenizer)?;
    Ok((tokenizer, special.with_infill(infill)))
}

/// The tokens that fill in middles: those that the file names, else by their spellings.
fn infill(file: &Gguf, tokenizer: &Tokenizer) -> Result<InfillTokens> {
    let mut tokens = InfillTokens::of_tokenizer(tokenizer);
    for role in &ROLES {
        for key in [Some(role.key), role.older_key].into_iter().flatten() {
            let Some(id) = token_id(file, key) else { continue };
            if id as usize >= tokenizer.vocab_size() {
                let largest = tokenizer.vocab_size().saturating_sub(1);
                let problem = format!("tokenizer.ggml.{key} is {id}, but the largest id is {largest}");
                return Err(EngineError::BadFile { path: file.path().to_owned(), problem });
            }
            *(role.place)(&mut tokens) = Some(id);
            break;
        }
    }
    Ok(tokens)
}

/// A token that the file names. A missing one is written as -1 by some, and as one past the end by others.
fn token_id(file: &Gguf, key: &str) -> Option<u32> {
    find::<i32>(file, key).ok().flatten().and_then(|id| u32::try_from(id).ok())
}

fn find<'a, T: FromValue<'a>>(file: &'a Gguf, key: &str) -> Result<Option<T>, ModelError> {
    file.find(&format!("tokenizer.ggml.{key}"))
}

/// Writes a vocabulary, and which of its tokens fill in middles.
pub(crate) fn describe(
    writer: &mut GgufWriter,
    name: &str,
    vocab: &GgufVocab,
    infill: &InfillTokens,
) -> Result<(), ModelError> {
    writer.set("general.name", name)?;
    let key = |rest: &str| format!("tokenizer.ggml.{rest}");
    writer.set(&key("model"), vocab.model.as_str())?;
    if let Some(pre) = &vocab.pre {
        writer.set(&key("pre"), pre.as_str())?;
    }
    writer.set_array(&key("tokens"), &vocab.tokens)?;
    if !vocab.scores.is_empty() {
        writer.set_array(&key("scores"), &vocab.scores)?;
    }
    if !vocab.token_types.is_empty() {
        writer.set_array(&key("token_type"), &vocab.token_types)?;
    }
    if !vocab.merges.is_empty() {
        writer.set_array(&key("merges"), &vocab.merges)?;
    }
    let ids = [
        ("bos_token_id", vocab.bos),
        ("eos_token_id", vocab.eos),
        ("unknown_token_id", vocab.unk),
        ("padding_token_id", vocab.pad),
    ];
    for (rest, id) in ids {
        if let Some(id) = id {
            writer.set(&key(rest), id)?;
        }
    }
    if infill.can_fill() {
        let mut infill = infill.clone();
        for role in &ROLES {
            if let Some(id) = *(role.place)(&mut infill) {
                writer.set(&key(role.key), id)?;
            }
        }
    }
    let flags = [
        ("add_bos_token", vocab.add_bos),
        ("add_eos_token", vocab.add_eos),
        ("add_space_prefix", vocab.add_space_prefix),
        ("remove_extra_whitespaces", vocab.remove_extra_whitespaces),
    ];
    for (rest, flag) in flags {
        if let Some(flag) = flag {
            writer.set(&key(rest), flag)?;
        }
    }
    if let Some(map) = &vocab.precompiled_charsmap {
        writer.set_array(&key("precompiled_charsmap"), map)?;
    }
    if let Some(template) = &vocab.chat_template {
        writer.set("tokenizer.chat_template", template.as_str())?;
    }
    Ok(())
}

fn vocabulary(file: &Gguf) -> Result<GgufVocab, ModelError> {
    // A few published vocabularies hold tokens that aren't UTF-8; they stand for no text that could come in.
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let texts = |key: &str| {
        let list: Option<Vec<&[u8]>> = find(file, key)?;
        Ok::<_, ModelError>(list.unwrap_or_default().into_iter().map(text).collect::<Vec<_>>())
    };
    let mut vocab = GgufVocab {
        model: file.get::<&str>("tokenizer.ggml.model")?.to_owned(),
        pre: find::<&str>(file, "pre")?.map(str::to_owned),
        tokens: texts("tokens")?,
        scores: find(file, "scores")?.unwrap_or_default(),
        token_types: find(file, "token_type")?.unwrap_or_default(),
        merges: texts("merges")?,
        bos: token_id(file, "bos_token_id"),
        eos: token_id(file, "eos_token_id"),
        unk: token_id(file, "unknown_token_id"),
        pad: token_id(file, "padding_token_id"),
        add_bos: find(file, "add_bos_token")?,
        add_eos: find(file, "add_eos_token")?,
        add_space_prefix: find(file, "add_space_prefix")?,
        remove_extra_whitespaces: find(file, "remove_extra_whitespaces")?,
        precompiled_charsmap: find::<Vec<i32>>(file, "precompiled_charsmap")?
            .map(|bytes| bytes.into_iter().map(|b| b as u8).collect()),
        chat_template: file.find::<&str>("tokenizer.chat_template")?.map(str::to_owned),
    };
    vocab.trim();
    Ok(vocab)
}
