//! Tokenizers of GGUF files: vocabularies of every family, then a fixed text encoded and decoded.

use crate::{TEXT, encode_and_export, text};
use arbitrary::{Result, Unstructured};
use hearth_tokenizer::{GgufVocab, Tokenizer};
use std::path::Path;

fn token(u: &mut Unstructured, tokens: &[String]) -> Result<String> {
    let known = ["<s>", "</s>", "<unk>", "[CLS]", "[UNK]", "<0x0A>", "▁", "▁T", "Ġ", "he", "a b", ""];
    Ok(match u.int_in_range(0..=3)? {
        0 => (*u.choose(&known)?).to_owned(),
        // Tokens that are put together from others make merges.
        1 if !tokens.is_empty() => format!("{}{}", u.choose(tokens)?, u.choose(tokens)?),
        _ => text(u)?,
    })
}

fn vocab(u: &mut Unstructured) -> Result<GgufVocab> {
    let mut tokens: Vec<String> = Vec::new();
    if u.arbitrary()? {
        tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    }
    if u.arbitrary()? {
        let mut characters: Vec<char> = TEXT.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        tokens.extend(characters.into_iter().map(String::from));
    }
    for _ in 0..u.int_in_range(0..=40)? {
        let next = token(u, &tokens)?;
        // Doubled and doubled again, a token would take the fuzzer's own memory.
        tokens.push(next.chars().take(20_000).collect());
    }
    let count = tokens.len();
    let list = |u: &mut Unstructured| Ok(if u.ratio(1, 12)? { u.int_in_range(0..=50)? } else { count });
    let scores = if u.arbitrary()? { list(u)? } else { 0 };
    let kinds = if u.arbitrary()? { list(u)? } else { 0 };
    let pres = ["default", "gpt-2", "llama-bpe", "qwen2", "deepseek-llm", "tekken", "chameleon", "none"];
    let id = |u: &mut Unstructured| -> Result<Option<u32>> {
        Ok(match u.int_in_range(0..=3)? {
            0 => Some(u.int_in_range(0..=count as u32)?),
            1 => Some(u.arbitrary()?),
            _ => None,
        })
    };
    let merges = (0..u.int_in_range(0..=20)?).map(|_| {
        let separator = if u.ratio(1, 12)? { "" } else { " " };
        Ok(format!("{}{separator}{}", token(u, &tokens)?, token(u, &tokens)?))
    });
    let merges = merges.collect::<Result<_>>()?;
    Ok(GgufVocab {
        model: (*u.choose(&["gpt2", "llama", "t5", "bert", "no-vocab"])?).to_owned(),
        pre: Some((*u.choose(&pres)?).to_owned()).filter(|name| name != "none"),
        scores: (0..scores).map(|_| u.arbitrary::<i8>().map(f32::from)).collect::<Result<_>>()?,
        token_types: (0..kinds).map(|_| u.int_in_range(-1..=8)).collect::<Result<_>>()?,
        merges,
        bos: id(u)?,
        eos: id(u)?,
        unk: id(u)?,
        pad: id(u)?,
        add_bos: u.arbitrary()?,
        add_eos: u.arbitrary()?,
        add_space_prefix: u.arbitrary()?,
        remove_extra_whitespaces: u.arbitrary()?,
        precompiled_charsmap: u.arbitrary()?,
        chat_template: None,
        tokens,
    })
}

/// The bytes say what the vocabulary holds.
pub fn run(data: &[u8]) {
    let Ok(vocab) = vocab(&mut Unstructured::new(data)) else { return };
    if let Ok(tokenizer) = Tokenizer::from_gguf(vocab, Path::new("fuzzed.gguf")) {
        encode_and_export(&tokenizer);
    }
}

/// Bytes that make vocabularies of different sizes: no file is read, so there is none to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    (1..=16u8).map(|step| (0..=255u8).map(|i| i.wrapping_mul(step).wrapping_add(step)).collect()).collect()
}
