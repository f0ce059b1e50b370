//! Tokenizers of GGUF files: vocabularies of every family, then a fixed text encoded and decoded.

use crate::{TEXT, encode_and_export, let_panics_be_caught, text};
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
    let_panics_be_caught();
    let Ok(vocab) = vocab(&mut Unstructured::new(data)) else { return };
    if let Ok(tokenizer) = Tokenizer::from_gguf(vocab, Path::new("fuzzed.gguf")) {
        encode_and_export(&tokenizer);
    }
}

/// Bytes that make vocabularies of different sizes: no file is read, so there is none to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let steps = (1..=16u8).map(|step| (0..=255u8).map(|i| i.wrapping_mul(step).wrapping_add(step)).collect());
    steps.chain([NO_PERFECT_HASH.to_vec()]).collect()
}

/// A vocabulary that `ptr_hash` finds no perfect hash for, where it panics.
const NO_PERFECT_HASH: &[u8] =
    b"\x09<0xB5>\xac\xae\xb7\xc0\xc9\xd2\xdb\xe4xB5>\xac\xae\xb7\xc0\xc9\xd2\xdb\xe4\xed\xf6\xff\x08\x11\
    \x1a#\x80\x00\x00\x00PYbkt}\x86\x8f\x98\xa1\xaa\xbc\xbc\xc5\xce\xd7\xe0\xe9\xf2\xfb\x04\x0d\x16\
    \x1f.(1:CL\xff\xff\xff\xff\xff\xff\xff\xffT^gpy\x82\x8b\x94\x9d\xed\xf6*\x08\x16$2@N\x5cjx\x86\x94\
    \xa2\xb0\xbe\xcc\xda\xe8\xf6\x04\x12 .<JXf\x0e\x1c*8FTbp~\x8c\x9a\xa8\xb6\xc4\xff\xff\xff\xff\xff\
    \x5cT^gpy\x82\x8b\x94\x9d\xa6\xaf\xb8\xc1\xca\xd3\xdc\xe5\xee\xf7\x00";
