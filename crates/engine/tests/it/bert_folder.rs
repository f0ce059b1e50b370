//! A tiny random BERT as a folder on disk, for tests of embedding; the command line's tests use it too.

use hearth_model::{Encoder, EncoderConfig, Weights};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::path::Path;

/// C; a published width, so that the folder opens without a configuration too.
pub const WIDTH: usize = 128;
pub const POSITIONS: usize = 40;
/// Ids 0 to 4 are [PAD], [UNK], [CLS], [SEP] and [MASK]; then come these.
pub const WORDS: [&str; 14] =
    ["the", "cat", "dog", "sat", "ran", "on", "after", "mat", "hat", "red", "##s", "##ning", ".", ","];

/// Writes `config.json`, `model.safetensors` and `tokenizer.json`, and returns the same model in memory.
pub fn write_bert(dir: &Path) -> (Encoder, Weights) {
    let config = EncoderConfig::bert(5 + WORDS.len(), WIDTH, 2, 2, POSITIONS);
    let config = EncoderConfig { intermediate_size: 96, ..config };
    let description = json!({
        "model_type": "bert", "vocab_size": config.vocab_size, "hidden_size": WIDTH, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": POSITIONS,
    });
    let encoder = Encoder::new(config).expect("valid");
    let mut weights = Weights::init(&encoder, 5, false);
    // Large enough that a text doesn't come out as its first word.
    for tensor in weights.tensors_mut().iter_mut().filter(|t| t.shape().len() == 2) {
        tensor.data_mut().iter_mut().for_each(|x| *x *= 6.0);
    }
    write_weights(dir, &encoder, &weights);
    write_json(dir, "config.json", &description);
    write_json(dir, "tokenizer.json", &tokenizer());
    (encoder, weights)
}

pub fn write_weights(dir: &Path, encoder: &Encoder, weights: &Weights) {
    let bytes: Vec<Vec<u8>> =
        weights.tensors().iter().map(|t| t.data().iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = encoder.specs().iter().zip(&bytes).map(|(spec, bytes)| {
        (spec.name.as_str(), TensorView::new(Dtype::F32, spec.shape.clone(), bytes).expect("a tensor"))
    });
    let blob = safetensors::serialize(views, None).expect("bytes");
    std::fs::write(dir.join("model.safetensors"), blob).expect("written");
}

pub fn write_json(dir: &Path, name: &str, json: &Value) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("in the folder")).expect("made");
    std::fs::write(path, json.to_string()).expect("written");
}

/// WordPiece with [CLS] before a text and [SEP] after it. Large letters stay large, and so unknown.
fn tokenizer() -> Value {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let vocab: serde_json::Map<String, Value> =
        special.iter().chain(&WORDS).zip(0..).map(|(word, id)| ((*word).to_owned(), json!(id))).collect();
    let added: Vec<Value> = special
        .iter()
        .zip(0..)
        .map(|(content, id)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": false},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    })
}
