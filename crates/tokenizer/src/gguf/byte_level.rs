//! `gpt2`: byte-level BPE with a pre-tokenizer by name.

use super::{Checked, pre};
use crate::json::BpeParts;
use crate::pretokenize::PreTokenizer;

pub(super) fn to_json(vocab: &Checked) -> Result<String, String> {
    let named = pre::by_name(vocab.pre.as_deref()).ok_or_else(|| {
        let name = vocab.pre.as_deref().unwrap_or_default();
        format!("tokenizer.ggml.pre is {name:?}, an unknown pre-tokenizer: expected one of {}", pre::names())
    })?;
    let merges = vocab.merges.iter().map(|merge| split(merge)).collect::<Result<_, _>>()?;
    let parts = BpeParts {
        tokens: vocab.tokens.clone(),
        merges,
        // Not used: the name's own cuts take its place.
        pre_tokenizer: PreTokenizer::Gpt2,
        special_ids: vocab.special_ids.clone(),
        added_ids: vocab.added_ids.clone(),
        ignore_merges: named.ignore_merges,
    };
    Ok(parts.to_json_with(named.to_json(), vocab.surround()))
}

fn split(merge: &str) -> Result<(String, String), String> {
    // In the byte alphabet a space is a letter of its own, so the one space is between the two.
    match merge.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok((left.to_string(), right.to_string()))
        }
        _ => Err(format!("merge {merge:?}: expected two tokens and a space")),
    }
}
