//! `llama`: SentencePiece's BPE, which merges whichever neighbours make the best-scored token.
//!
//! That is BPE whose merges are all the ways to put a token together from two others, ranked by the
//! score of the whole: the best first, the longer left part first among equals (as transformers'
//! converter ranks them, and as merging from left to right comes out).

use std::cmp::Reverse;

use hashbrown::HashMap;
use serde_json::{Value, json};

use super::{Checked, GgufVocab, SPACE, kind};
use crate::json::{BpeModel, ById, File};

/// How many bytes of tokens are looked up for merges: each token's, once for each place to cut it at. Gemma's
/// vocabulary of 262,144 takes 17 million; a few tokens of megabytes would take hours.
const MOST_LOOKED_UP: usize = 1 << 31;
/// How many bytes all merges take when written. Gemma's take some 8 million; tokens that are each one character
/// longer than another have as many merges as bytes, each as long as a token.
const MOST_MERGE_BYTES: usize = 64 << 20;

pub(super) fn to_json(vocab: &Checked) -> Result<String, String> {
    let merges = derive_merges(vocab)?;
    let merges = merges
        .iter()
        .map(|&(left, right)| format!("{} {}", vocab.tokens[left as usize], vocab.tokens[right as usize]));
    let model = BpeModel {
        unk_token: vocab.token(vocab.unk).map(str::to_string),
        fuse_unk: true,
        byte_fallback: has_all_bytes(&vocab.tokens),
        ..BpeModel::new(ById(&vocab.tokens), merges.collect())
    };
    let prefix = vocab.add_space_prefix == Some(true);
    Ok(File {
        added_tokens: vocab.added_tokens(),
        normalizer: normalizer(prefix),
        post_processor: vocab.surround(),
        decoder: decoder(prefix),
        ..File::new(model)
    }
    .pretty())
}

/// Spaces become `▁`, and one comes first if `prefix`.
pub(super) fn normalizer(prefix: bool) -> Value {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    match prefix {
        true => json!({
            "type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace],
        }),
        false => replace,
    }
}

/// The inverse of [`normalizer`], bytes put together.
pub(super) fn decoder(prefix: bool) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

fn has_all_bytes(tokens: &[String]) -> bool {
    let mut seen = [false; 256];
    for byte in tokens.iter().filter_map(|token| crate::vocab::byte_piece(token)) {
        seen[usize::from(byte)] = true;
    }
    seen == [true; 256]
}

/// The merges that a vocabulary's scores stand for, the first first.
///
/// Control, unknown and byte tokens take no part, so text never spells one; nor do tokens with a
/// space, which has become `▁` before anything is merged.
///
/// # Errors
/// If the tokens are so long, or so many of them are put together from others, that it would take minutes or
/// gigabytes.
pub(super) fn derive_merges(vocab: &GgufVocab) -> Result<Vec<(u32, u32)>, String> {
    let takes_part = |&(id, token): &(u32, &str)| {
        let kind = vocab.token_types.get(id as usize).copied().unwrap_or(kind::NORMAL);
        matches!(kind, kind::NORMAL | kind::USER_DEFINED | kind::UNUSED) && !token.contains(' ')
    };
    let tokens: Vec<(u32, &str)> =
        (0..).zip(vocab.tokens.iter().map(String::as_str)).filter(takes_part).collect();
    let mut id_of: HashMap<&str, u32, ahash::RandomState> =
        HashMap::with_capacity_and_hasher(tokens.len(), ahash::RandomState::with_seeds(1, 2, 3, 4));
    id_of.extend(tokens.iter().map(|&(id, token)| (token, id)));

    struct Merge {
        score: f32,
        lengths: (u32, u32),
        parts: (u32, u32),
    }
    let looked_up = tokens.iter().map(|(_, token)| token.len().saturating_mul(token.len()));
    if looked_up.fold(0, usize::saturating_add) > MOST_LOOKED_UP {
        let longest = tokens.iter().map(|(_, token)| token.len()).max().unwrap_or_default();
        return Err(format!(
            "the {} tokens are too long to be those of SentencePiece: the longest has {longest} bytes",
            tokens.len()
        ));
    }
    let mut merges: Vec<Merge> = Vec::new();
    let mut merge_bytes = 0;
    for &(id, token) in &tokens {
        // Minus zero would sort apart from zero.
        let score = vocab.scores.get(id as usize).copied().unwrap_or_default() + 0.0;
        let length = token.chars().count() as u32;
        for (before, (at, _)) in (1..).zip(token.char_indices().skip(1)) {
            let (left, right) = token.split_at(at);
            let Some((&left, &right)) = id_of.get(left).zip(id_of.get(right)) else { continue };
            merge_bytes += token.len() + 1;
            if merge_bytes > MOST_MERGE_BYTES {
                return Err(format!(
                    "the scores of {} tokens stand for more than {MOST_MERGE_BYTES} bytes of merges, more than \
                     any vocabulary has",
                    tokens.len()
                ));
            }
            merges.push(Merge { score, lengths: (before, length - before), parts: (left, right) });
        }
    }
    // Stable: the token with the smaller id comes first among equals.
    merges.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then_with(|| Reverse(a.lengths).cmp(&Reverse(b.lengths)))
    });
    Ok(merges.into_iter().map(|merge| merge.parts).collect())
}
