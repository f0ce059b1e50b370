//! Files that ask for hours, gigabytes or a panic: refused, or read as fast as any other.

use std::path::Path;
use std::time::Instant;

use hearth_tokenizer::{GgufVocab, Tokenizer};
use serde_json::{Value, json};

/// Far more than any of it takes on a busy machine, far less than what it took before.
const SECONDS: f64 = 20.0;

fn gguf(vocab: GgufVocab) -> Result<Tokenizer, String> {
    let start = Instant::now();
    let made = Tokenizer::from_gguf(vocab, Path::new("hostile.gguf")).map_err(|error| error.to_string());
    let seconds = start.elapsed().as_secs_f64();
    assert!(seconds < SECONDS, "{seconds} s");
    made
}

fn json(file: Value) -> Result<Tokenizer, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let start = Instant::now();
    let made = Tokenizer::from_folder(folder.path()).map_err(|error| error.to_string());
    let seconds = start.elapsed().as_secs_f64();
    assert!(seconds < SECONDS, "{seconds} s");
    made
}

/// A small WordLevel tokenizer with some parts of it replaced.
fn with(parts: &[(&str, Value)]) -> Value {
    let mut file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "b": 2, " ": 3}, "unk_token": "[UNK]"},
    });
    for (key, value) in parts {
        file[*key] = value.clone();
    }
    file
}

fn refused(made: Result<Tokenizer, String>, expect: &str) {
    let message = made.expect_err(expect);
    assert!(message.contains(expect), "{message:?} lacks {expect:?}");
}

#[test]
fn sentencepiece_merges_are_bounded() {
    let spm = |tokens: Vec<String>| GgufVocab { model: "llama".into(), tokens, ..GgufVocab::default() };
    refused(gguf(spm(vec!["a".into(), "b".repeat(4 << 20)])), "the longest has 4194304 bytes");
    let growing = (1..1500).map(|len| "a".repeat(len)).collect();
    refused(gguf(spm(growing)), "the scores of 1499 tokens stand for more than 67108864 bytes of merges");
}

#[test]
fn steps_that_multiply_a_text_are_refused() {
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let twice = |count: usize| Value::from(vec![double.clone(); count]);
    let normalizer = |count: usize| json!({"type": "Sequence", "normalizers": twice(count)});
    let decoder = |count: usize| json!({"type": "Sequence", "decoders": twice(count)});
    refused(
        json(with(&[("normalizer", normalizer(40))])),
        "normalizer: it may make a text 1099511627776 times",
    );
    refused(json(with(&[("normalizer", normalizer(200))])), "normalizer: it may make a text");
    refused(json(with(&[("decoder", decoder(40))])), "decoder: it may make a text");
    json(with(&[("normalizer", normalizer(3)), ("decoder", decoder(3))])).expect("a little is fine");
    let long = json!({"type": "Prepend", "prepend": "a".repeat(5000)});
    refused(json(with(&[("normalizer", long)])), "it may make a text 5001 times as long");
    let anywhere = json!({"type": "Replace", "pattern": {"Regex": "x*"}, "content": "a".repeat(5000)});
    refused(json(with(&[("normalizer", anywhere)])), "it may make a text 5001 times as long");
}

#[test]
fn regular_expressions_are_few_and_short() {
    let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let many = json!({"type": "Sequence", "pretokenizers": vec![split("a+"); 17]});
    refused(json(with(&[("pre_tokenizer", many)])), "17 regular expressions, expected at most 16");
    refused(
        json(with(&[("pre_tokenizer", split(&"a".repeat(20_000)))])),
        "a regular expression of 20000 bytes",
    );
    // Too large once it is compiled, not as it is written.
    json(with(&[("pre_tokenizer", split(r"(?:(?:\p{L}{100}){100}){100}"))])).expect_err("too large");
    json(with(&[("pre_tokenizer", split(r"(?:(?:(?:a(?=b)){100}){100}){100}"))]))
        .map(drop)
        .unwrap_or_default();
}

#[test]
fn stripping_more_than_there_is_is_refused() {
    let strip = json!({"type": "Strip", "content": "a", "start": 0, "stop": 9});
    refused(json(with(&[("decoder", strip)])), "Strip with stop 9");
}

#[test]
fn sizes_that_no_model_has_are_refused() {
    let word = json!({"type": "WordPiece", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]",
        "continuing_subword_prefix": "##", "max_input_chars_per_word": u64::MAX});
    refused(json(with(&[("model", word)])), "max_input_chars_per_word is 18446744073709551615");
    let piece =
        json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a".repeat(200_000), -1.0]]});
    refused(json(with(&[("model", piece)])), "a piece of the vocabulary has 200000 bytes");
    // The array of these is built by a recursion that is as deep.
    let word = json!({"type": "WordPiece", "vocab": {"[UNK]": 0, "a".repeat(2000): 1}, "unk_token": "[UNK]",
        "continuing_subword_prefix": "##", "max_input_chars_per_word": 100});
    refused(
        json(with(&[("model", word)])),
        "a piece of the vocabulary has 2000 bytes, expected at most 1024",
    );
    // Each differs from all others in its first bytes.
    let long = |i: usize, rest: usize| format!("{i:04}{}", "a".repeat(rest));
    let pieces: Vec<Value> = (0..600).map(|i| json!([long(i, 8000), 0.0])).collect();
    let pieces = json!({"type": "Unigram", "unk_id": 0, "vocab": pieces});
    refused(json(with(&[("model", pieces)])), "the vocabulary is a tree of 4800");
    let words: serde_json::Map<String, Value> = (0..2400).map(|i| (long(i, 1000), i.into())).collect();
    let words = json!({"type": "WordPiece", "vocab": words, "unk_token": long(0, 1000),
        "continuing_subword_prefix": "##", "max_input_chars_per_word": 100});
    refused(json(with(&[("model", words)])), "the vocabulary is a tree of 2402");
}

#[test]
fn an_added_token_of_no_bytes_is_never_found() {
    let token = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let model = json!({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [], "unk_token": null,
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "dropout": null});
    let added = json!([token(2, "<a>"), token(3, "<a"), token(4, "")]);
    let parts = [("model", model), ("decoder", json!({"type": "Fuse"})), ("added_tokens", added)];
    let tokenizer = json(with(&parts)).expect("loads");
    assert_eq!(tokenizer.encode_with_special("ab<a>b<aa").expect("encodes"), [0, 1, 2, 1, 3, 0]);
}
