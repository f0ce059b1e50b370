//! `tokenizer.json` of all model types: loaded, then a fixed text encoded and decoded.

use crate::{TEXT, encode_and_export, in_folder, json, let_panics_be_caught};
use arbitrary::{Result, Unstructured};
use hearth_tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

const WORDS: [&str; 30] = [
    "BPE",
    "Unigram",
    "WordPiece",
    "WordLevel",
    "ByteLevel",
    "Metaspace",
    "Split",
    "Sequence",
    "Replace",
    "Regex",
    "String",
    "Prepend",
    "Strip",
    "NFKC",
    "BertNormalizer",
    "BertPreTokenizer",
    "Digits",
    "Whitespace",
    "TemplateProcessing",
    "BertProcessing",
    "RobertaProcessing",
    "ByteFallback",
    "Fuse",
    "CTC",
    "Precompiled",
    "AAAAAAAAAAA=",
    "vocab",
    "merges",
    "(a|b)*(?=c){9}",
    "\\p{L}+|(?:x?){30}",
];

/// How many types of model there are.
const KINDS: usize = 4;

/// A tokenizer of one of the model types, with a bit of everything around it.
fn good(kind: usize) -> Value {
    let characters: Vec<String> = TEXT.chars().map(String::from).collect();
    let mut vocab: Map<String, Value> = Map::new();
    let words = ["[UNK]", "[CLS]", "<s>", "</s>", "ab", "##a", "▁", "Th", "The", "Ġ", "Ċ", "Ġq"];
    for token in words.iter().map(|word| word.to_string()).chain(characters) {
        let id = vocab.len();
        vocab.entry(token).or_insert(id.into());
    }
    let scores: Vec<Value> = vocab.keys().zip(1..).map(|(token, i)| json!([token, -f64::from(i)])).collect();
    let model = match kind {
        0 => json!({"type": "BPE", "vocab": vocab, "merges": ["T h", "Th e"], "unk_token": "[UNK]",
                    "byte_fallback": true, "fuse_unk": true, "ignore_merges": false, "dropout": null,
                    "continuing_subword_prefix": null, "end_of_word_suffix": null}),
        1 => json!({"type": "Unigram", "unk_id": 0, "vocab": scores, "byte_fallback": false}),
        2 => json!({"type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]",
                    "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}),
        _ => json!({"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}),
    };
    let (pre, decoder) = match kind {
        0 => (
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}),
            json!({"type": "ByteLevel"}),
        ),
        1 => (
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
        ),
        2 => (
            json!({"type": "BertPreTokenizer"}),
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        ),
        _ => (
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "\\s+(?!\\S)|\\p{N}{1,3}"}, "behavior": "Isolated",
                 "invert": false},
                {"type": "Digits", "individual_digits": true}]}),
            json!({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"},
                "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}),
        ),
    };
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 64, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [
            {"id": 2, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
             "normalized": false, "special": true},
            {"id": 3, "content": "</s>", "single_word": true, "lstrip": true, "rstrip": true,
             "normalized": true, "special": false}],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"String": "  "}, "content": " "}]},
        "pre_tokenizer": pre,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [2], "tokens": ["<s>"]}}},
        "decoder": decoder,
        "model": model,
    })
}

fn spoilt(u: &mut Unstructured) -> Result<Vec<u8>> {
    let mut file = good(u.choose_index(KINDS)?);
    for _ in 0..u.int_in_range(0..=4)? {
        json::edit(u, &mut file, &WORDS)?;
    }
    Ok(file.to_string().into_bytes())
}

/// What begins with a brace is taken as it is; anything else says how to spoil a good file.
pub fn run(data: &[u8]) {
    let_panics_be_caught();
    let bytes = match data {
        [b'{', ..] => data.to_vec(),
        _ => match spoilt(&mut Unstructured::new(data)) {
            Ok(bytes) => bytes,
            Err(_) => return,
        },
    };
    in_folder(&[("tokenizer.json", &bytes)], |folder| {
        if let Ok(tokenizer) = Tokenizer::from_folder(folder) {
            encode_and_export(&tokenizer);
        }
    });
}

/// A good file of each type.
pub fn seeds() -> Vec<Vec<u8>> {
    (0..KINDS).map(|kind| good(kind).to_string().into_bytes()).collect()
}
