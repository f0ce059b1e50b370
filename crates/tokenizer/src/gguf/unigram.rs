//! `t5`: SentencePiece's Unigram, the likeliest way to put a text together from tokens.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Checked, SPACE, sentencepiece};
use crate::json::File;

/// The `model` of a `tokenizer.json` that weighs tokens.
#[derive(Serialize)]
struct UnigramModel<'a> {
    r#type: &'static str,
    unk_id: Option<u32>,
    vocab: Vec<(&'a str, f64)>,
    byte_fallback: bool,
}

pub(super) fn to_json(vocab: &Checked) -> Result<String, String> {
    if vocab.scores.is_empty() {
        return Err(
            "tokenizer.ggml.scores is absent: expected a score for each token of a Unigram model".into()
        );
    }
    let pieces = vocab.tokens.iter().zip(&vocab.scores);
    let model = UnigramModel {
        r#type: "Unigram",
        unk_id: vocab.unk,
        vocab: pieces.map(|(token, &score)| (token.as_str(), f64::from(score))).collect(),
        byte_fallback: false,
    };
    let mut steps = Vec::new();
    if let Some(map) = vocab.precompiled_charsmap.as_ref().filter(|map| !map.is_empty()) {
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(map)}));
    }
    // Where runs of spaces count as one, every word gets its own `▁` and stands alone.
    let words = vocab.remove_extra_whitespaces == Some(true);
    let prefix = words || vocab.add_space_prefix == Some(true);
    if !words {
        steps.push(sentencepiece::normalizer(prefix));
    }
    let pre_tokenizer = match words {
        true => json!({"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"},
            {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": true},
        ]}),
        false => Value::Null,
    };
    let scheme = if prefix { "always" } else { "never" };
    Ok(File {
        added_tokens: vocab.added_tokens(),
        normalizer: chain(steps),
        pre_tokenizer,
        post_processor: vocab.surround(),
        decoder: json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": true}),
        ..File::new(model)
    }
    .pretty())
}

/// One normalizer of several, without sequences in sequences.
fn chain(steps: Vec<Value>) -> Value {
    let flat: Vec<Value> = steps
        .into_iter()
        .flat_map(|step| match step.get("normalizers").and_then(Value::as_array) {
            Some(members) => members.clone(),
            None => vec![step],
        })
        .collect();
    match flat.len() {
        0 => Value::Null,
        _ => json!({"type": "Sequence", "normalizers": flat}),
    }
}
