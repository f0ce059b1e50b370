//! Encoders as GGUF files: the same vectors as from their folders.

use crate::bert_folder::{write_bert, write_json};
use hearth_engine::{BlockType, EmbedOptions, Embedder, EncoderFiles, Mix, Pooling, StoredType};
use hearth_model::gguf::Gguf;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;
use tempfile::TempDir;

const TEXTS: [&str; 3] = ["the cat sat on the mat.", "Dogs", "a running dog ran after the red hats, unseen"];

/// A tiny BERT, uncased as its vocabulary is, that pools by its first token.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    write_bert(dir.path());
    let path = dir.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).expect("written above");
    let mut tokenizer: Value = serde_json::from_str(&text).expect("JSON");
    tokenizer["normalizer"]["lowercase"] = json!(true);
    write_json(dir.path(), "tokenizer.json", &tokenizer);
    write_json(dir.path(), "1_Pooling/config.json", &json!({"pooling_mode_cls_token": true}));
    dir
}

fn save(from: &Path, to: &Path, mix: &str) -> f64 {
    let mix: Mix = mix.parse().expect("a type");
    EncoderFiles::open(from).expect("opens").save_gguf(to, mix, |_, _| {}).expect("saved")
}

fn vectors(path: &Path) -> Vec<Vec<f32>> {
    let mut embedder = Embedder::open(path, &EmbedOptions::default()).expect("opens");
    assert_eq!(embedder.pooling(), Pooling::Cls, "{}", path.display());
    embedder.embed(&TEXTS, |_| ControlFlow::Continue(())).expect("embeds").vectors
}

/// The smallest cosine of two vectors of length one.
fn cosine(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> f32 {
    let product = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    ours.iter().zip(theirs).map(product).fold(f32::INFINITY, f32::min)
}

#[test]
fn an_encoder_embeds_the_same_from_its_gguf_file() {
    let dir = folder();
    assert!(EncoderFiles::is_encoder(dir.path()).expect("readable"));
    let whole = dir.path().join("whole.gguf");
    save(dir.path(), &whole, "F32");
    assert!(EncoderFiles::is_encoder(&whole).expect("readable"));
    let ours = vectors(dir.path());
    for (a, b) in ours.iter().flatten().zip(vectors(&whole).iter().flatten()) {
        assert!((a - b).abs() < 1e-5, "{a}, {b}");
    }
    // From the file instead of the folder, and in smaller types.
    for (mix, near) in [("F16", 0.999_99), ("Q8_0", 0.999), ("Q4_K_M", 0.9)] {
        let small = dir.path().join(format!("{mix}.gguf"));
        let said = save(&whole, &small, mix);
        let cosine = cosine(&ours, &vectors(&small));
        assert!(said > near && f64::from(cosine) > near, "{mix}: {said}, {cosine}");
    }
}

#[test]
fn the_file_says_what_llama_cpp_looks_for() {
    let dir = folder();
    let path = dir.path().join("it.gguf");
    save(dir.path(), &path, "Q8_0");
    let file = Gguf::open(&path).expect("opens");
    assert_eq!(file.get::<&str>("general.architecture").expect("there"), "bert");
    assert!(!file.get::<bool>("bert.attention.causal").expect("there"));
    let numbers = [
        ("bert.pooling_type", 2),
        ("bert.block_count", 2),
        ("tokenizer.ggml.token_type_count", 2),
        ("tokenizer.ggml.bos_token_id", 2),
        ("tokenizer.ggml.cls_token_id", 2),
        ("tokenizer.ggml.seperator_token_id", 3),
        ("tokenizer.ggml.mask_token_id", 4),
    ];
    for (key, expected) in numbers {
        assert_eq!(file.get::<u32>(key).expect("there"), expected, "{key}");
    }
}

#[test]
fn a_tokenizer_that_gguf_cannot_say_leaves_no_file() {
    let dir = tempfile::tempdir().expect("a folder");
    // Large letters stay large, though the vocabulary has none.
    write_bert(dir.path());
    let path = dir.path().join("it.gguf");
    let files = EncoderFiles::open(dir.path()).expect("opens");
    let error = files.save_gguf(&path, Mix::F32, |_, _| {}).expect_err("refused").to_string();
    assert!(error.contains("lowercase"), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_file_becomes_a_folder_again() {
    let dir = folder();
    let texts = |path: &Path| {
        let options = EmbedOptions { weight_type: Some(BlockType::F32), ..EmbedOptions::default() };
        let mut embedder = Embedder::open(path, &options).expect("opens");
        let vectors = embedder.embed(&TEXTS, |_| ControlFlow::Continue(())).expect("embeds").vectors;
        (embedder.pooling(), embedder.max_tokens(), vectors)
    };
    for (mix, dtype) in [("F32", StoredType::F32), ("Q8_0", StoredType::F32), ("F32", StoredType::Bf16)] {
        let (file, back) = (dir.path().join("it.gguf"), dir.path().join(format!("{mix}-{dtype:?}")));
        save(dir.path(), &file, mix);
        let cosine = EncoderFiles::open(&file).expect("opens").save_folder(&back, dtype).expect("written");
        assert!(cosine > 0.999, "{mix}: {cosine}");
        let (from, to) = (texts(&file), texts(&back));
        assert_eq!((from.0, from.1), (to.0, to.1));
        if dtype == StoredType::F32 {
            assert_eq!(from.2, to.2, "{mix}");
        }
        // And a file once more, of blocks widened before.
        EncoderFiles::open(&file)
            .expect("opens")
            .save_gguf(&dir.path().join("wide.gguf"), Mix::F32, |_, _| {})
            .expect("saved");
    }
}
