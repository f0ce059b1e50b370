//! Models through GGUF files and folders: the same ids, the same text; a prompt that begins like the last
//! sequence goes on from it with the same bits.

use crate::{bpe, drawn, greedy, one, random, texts};
use hearth_engine::{Engine, EngineError, Mix, ModelFiles, Prompt, Request, StoredType};
use hearth_model::hf::SpecialIds;
use hearth_model::{DecoderConfig, Family, save_folder};
use std::ops::ControlFlow;
use std::path::Path;

fn mix(name: &str) -> Mix {
    name.parse().expect("a type")
}

/// A folder with a model of Llama's shape whose rows are whole blocks of every format.
fn folder(dir: &Path) -> std::path::PathBuf {
    let tokenizer = bpe();
    let vocab = tokenizer.vocab_size().next_multiple_of(64);
    let config = DecoderConfig { family: Family::Llama, ..DecoderConfig::native(vocab, 256, 2, 128) };
    let (decoder, weights) = random(config);
    let dir = dir.join("model");
    std::fs::create_dir_all(&dir).expect("made");
    tokenizer.save(&dir).expect("saved");
    let ids = SpecialIds { bos: tokenizer.bos(), eos: tokenizer.eos() };
    save_folder(&dir, &decoder, &weights, ids, StoredType::F32).expect("saved");
    dir
}

#[test]
fn a_model_is_the_same_as_a_folder_a_file_and_a_folder_again() {
    let room = tempfile::tempdir().expect("a folder");
    let (first, file, last) = (folder(room.path()), room.path().join("m.gguf"), room.path().join("again"));
    let mut written = Vec::new();
    ModelFiles::open(&first)
        .expect("opens")
        .save_gguf(&file, Mix::F32, None, |n, _| written.push(n))
        .expect("saved");
    assert!(written.len() > 10 && written.is_sorted());
    ModelFiles::open(&file).expect("opens").save_folder(&last, StoredType::F32).expect("saved");
    let mut texts = Vec::new();
    for path in [&first, &file, &last] {
        let mut engine = Engine::open(path).expect("opens");
        texts.push(one(&mut engine, greedy("The cat 春眠", 30)));
        assert_eq!(engine.special(), Engine::open(&first).expect("opens").special());
    }
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2]);
}

/// The written file's cache is wider than the one that the folder's weights bring, which is no difference.
#[test]
fn half_precision_is_widened_without_a_difference() {
    let room = tempfile::tempdir().expect("a folder");
    let (whole, half) = (folder(room.path()), room.path().join("half"));
    ModelFiles::open(&whole).expect("opens").save_folder(&half, StoredType::Bf16).expect("saved");
    let (file, again) = (room.path().join("m.gguf"), room.path().join("again.gguf"));
    ModelFiles::open(&half).expect("opens").save_gguf(&file, Mix::F32, None, |_, _| {}).expect("the same");
    ModelFiles::open(&whole).expect("opens").save_gguf(&again, mix("F16"), None, |_, _| {}).expect("saved");
    ModelFiles::open(&again).expect("opens").save_gguf(&file, Mix::F32, None, |_, _| {}).expect("the same");
}

#[test]
fn smaller_types_diverge_little_and_importance_helps() {
    let room = tempfile::tempdir().expect("a folder");
    let model = folder(room.path());
    let text: String = texts().map(|text| text.expect("a text")).collect();
    let files = ModelFiles::open(&model).expect("opens");
    let mut exact = Engine::open(&model).expect("opens");
    let importance = exact.importance(&text, |_, _| ControlFlow::Continue(())).expect("measured");
    let mut last = 0.0;
    for (name, most) in [("F16", 1e-3), ("Q8_0", 0.1), ("Q5_K_M", 1.0), ("Q4_K_M", 2.0), ("Q3_K_S", 8.0)] {
        let divergence = |importance| {
            let path = room.path().join("small.gguf");
            files.save_gguf(&path, mix(name), importance, |_, _| {}).expect("saved");
            let mut small = Engine::open(&path).expect("opens");
            let mut exact = Engine::open(&model).expect("opens");
            exact.divergence(&mut small, &text, |_, _| ControlFlow::Continue(())).expect("compared")
        };
        let (plain, weighted) = (divergence(None), divergence(Some(&importance)));
        assert!(plain.kl > last && plain.kl < most, "{name}: {plain:?}");
        assert!(plain.same_top <= 1.0 && plain.tokens > 100, "{plain:?}");
        if name.contains("_K") {
            assert!(
                weighted.kl < 1.2 * plain.kl,
                "{name}: {} with importance, {} without",
                weighted.kl,
                plain.kl
            );
        }
        last = plain.kl;
    }
}

#[test]
fn a_prompt_goes_on_from_the_last_sequence_with_the_same_bits() {
    let room = tempfile::tempdir().expect("a folder");
    let path = room.path().join("m.gguf");
    ModelFiles::open(&folder(room.path()))
        .expect("opens")
        .save_gguf(&path, mix("Q4_0"), None, |_, _| {})
        .expect("saved");
    let (mut warm, mut cold) = (Engine::open(&path).expect("opens"), Engine::open(&path).expect("opens"));
    let first = one(&mut warm, drawn("The cat sat", 20, 3));
    let start = warm.prompt_tokens("The cat sat").expect("encodes");
    let longer = [start, first.tokens.clone(), warm.prompt_tokens(" on the mat").expect("encodes")].concat();
    let request = Request { prompt: Prompt::Tokens(longer), ..drawn("", 30, 4) };
    let (again, timings) =
        warm.generate(std::slice::from_ref(&request), |_| ControlFlow::Continue(())).expect("generates");
    assert!(timings.reused_tokens >= 20, "{timings:?}");
    let (alone, timings) = cold.generate(&[request], |_| ControlFlow::Continue(())).expect("generates");
    assert_eq!(timings.reused_tokens, 0);
    assert_eq!(again, alone);
}

#[test]
fn files_that_are_no_models_say_so() {
    let room = tempfile::tempdir().expect("a folder");
    let path = room.path().join("m.gguf");
    std::fs::write(&path, b"GGUF\x03\0\0\0").expect("written");
    let error = Engine::open(&path).expect_err("refused");
    assert!(error.is_input_error() && error.to_string().contains("m.gguf: "), "{error}");
    let files = ModelFiles::open(&folder(room.path())).expect("opens");
    let missing = room.path().join("no/such/folder/m.gguf");
    assert!(matches!(files.save_gguf(&missing, Mix::F32, None, |_, _| {}), Err(EngineError::Model(_))));
}
