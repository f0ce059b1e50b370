//! Vectors of texts: from which states, by whose rules, and that nothing else decides them.

use crate::bert_folder::{POSITIONS, WIDTH, WORDS, write_bert, write_json, write_weights};
use crate::{TEXT, bpe, random};
use hearth_engine::{BlockType, EmbedOptions, Embedder, Embeddings, EngineError, Pooling};
use hearth_model::hf::SpecialIds;
use hearth_model::runner::MAX_ROWS;
use hearth_model::{DecoderConfig, EncoderRunner, Feed, Logits, Runner, StoredType, save_folder};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;
use tempfile::TempDir;

const TEXTS: [&str; 5] =
    ["the cat sat on the mat.", "dogs", "the red dog, the red hat, the cats", "", "a running dog ran"];
const CLS: u32 = 2;
const SEP: u32 = 3;

fn id(word: &str) -> u32 {
    let place = WORDS.iter().position(|w| *w == word);
    5 + place.expect("a known word") as u32
}

fn folder() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    write_bert(dir.path());
    dir
}

fn open(dir: &Path, options: &EmbedOptions) -> Embedder {
    Embedder::open(dir, options).expect("opens")
}

fn refusal(dir: &Path, options: &EmbedOptions) -> EngineError {
    let error = Embedder::open(dir, options).expect_err("refused");
    assert!(error.is_input_error(), "{error}");
    error
}

fn embed(embedder: &mut Embedder, texts: &[&str]) -> Embeddings {
    embedder.embed(texts, |_| ControlFlow::Continue(())).expect("embeds")
}

fn with_pooling(pooling: Pooling) -> EmbedOptions {
    EmbedOptions { pooling: Some(pooling), ..EmbedOptions::default() }
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn near(got: &[f32], expect: &[f32]) {
    assert_eq!(got.len(), expect.len());
    for (i, (got, expect)) in got.iter().zip(expect).enumerate() {
        assert!((got - expect).abs() < 1e-5, "at {i}: {got}, expected {expect}");
    }
}

fn bits(embeddings: &Embeddings) -> Vec<Vec<u32>> {
    embeddings.vectors.iter().map(|v| v.iter().map(|x| x.to_bits()).collect()).collect()
}

/// The mean, the first and the last of states [T, C].
fn pooled(hidden: &[f32], c: usize) -> [(Pooling, Vec<f32>); 3] {
    let rows: Vec<&[f32]> = hidden.chunks_exact(c).collect();
    let mean = (0..c).map(|i| rows.iter().map(|row| row[i]).sum::<f32>() / rows.len() as f32).collect();
    let (first, last) = (rows[0].to_vec(), rows[rows.len() - 1].to_vec());
    [(Pooling::Mean, mean), (Pooling::Cls, first), (Pooling::Last, last)]
}

#[test]
fn a_vector_is_made_of_the_states_of_a_framed_text() {
    let dir = tempfile::tempdir().expect("a folder");
    let (encoder, weights) = write_bert(dir.path());
    let ids = [CLS, id("the"), id("cat"), id("##s"), id("ran"), id("."), SEP];
    let mut runner = EncoderRunner::new(encoder, &weights, None).expect("packs");
    let hidden = runner.run(&[&ids]).expect("runs").to_vec();
    for (pooling, expect) in pooled(&hidden, WIDTH) {
        let raw = EmbedOptions { normalize: Some(false), ..with_pooling(pooling) };
        let mut embedder = open(dir.path(), &raw);
        assert_eq!((embedder.dim(), embedder.max_tokens(), embedder.pooling()), (WIDTH, POSITIONS, pooling));
        let got = embed(&mut embedder, &["the cats ran."]);
        assert_eq!((got.tokens, got.truncated), (ids.len(), 0));
        near(&got.vectors[0], &expect);
        assert!((length(&expect) - 1.0).abs() > 0.1, "normalising would show");
        let got = embed(&mut open(dir.path(), &with_pooling(pooling)), &["the cats ran."]);
        let unit: Vec<f32> = expect.iter().map(|x| x / length(&expect)).collect();
        near(&got.vectors[0], &unit);
    }
    // A special token that a text spells is text.
    let spelled = embed(&mut open(dir.path(), &EmbedOptions::default()), &["the [SEP] cat"]);
    assert_eq!(spelled.tokens, 2 + 2 + 3, "brackets and letters are unknown words, not the token");
}

#[test]
fn an_empty_text_has_the_vector_of_its_frame() {
    let mut embedder = open(folder().path(), &EmbedOptions::default());
    let got = embed(&mut embedder, &["", "the"]);
    assert_eq!(got.tokens, 2 + 3);
    assert!((length(&got.vectors[0]) - 1.0).abs() < 1e-5);
    assert_ne!(got.vectors[0], got.vectors[1]);
    assert_eq!(embed(&mut embedder, &[]), Embeddings::default());
}

#[test]
fn company_and_order_change_no_bit() {
    let dir = folder();
    let many: Vec<&str> = TEXTS.iter().copied().cycle().take(13).collect();
    for weight_type in [None, Some(BlockType::Q8_0)] {
        let with = |batch| EmbedOptions { weight_type, batch, ..EmbedOptions::default() };
        let mut embedder = open(dir.path(), &with(1));
        let alone: Vec<Vec<u32>> =
            TEXTS.iter().flat_map(|text| bits(&embed(&mut embedder, &[text]))).collect();
        let expect: Vec<Vec<u32>> = alone.iter().cloned().cycle().take(many.len()).collect();
        for batch in [1, 3, 1000] {
            let got = embed(&mut open(dir.path(), &with(batch)), &many);
            assert_eq!(bits(&got), expect, "{weight_type:?}, batches of {batch}");
        }
        let backwards: Vec<&str> = many.iter().rev().copied().collect();
        let mut got = bits(&embed(&mut embedder, &backwards));
        got.reverse();
        assert_eq!(got, expect);
    }
}

#[test]
fn eight_bits_are_near_and_not_the_same() {
    let dir = folder();
    let exact = embed(&mut open(dir.path(), &EmbedOptions::default()), &TEXTS);
    let options = EmbedOptions { weight_type: Some(BlockType::Q8_0), ..EmbedOptions::default() };
    let eight = embed(&mut open(dir.path(), &options), &TEXTS);
    assert_ne!(bits(&exact), bits(&eight));
    for (a, b) in exact.vectors.iter().zip(&eight.vectors) {
        let cosine: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.999, "{cosine}");
    }
}

#[test]
fn long_texts_are_cut_before_the_end_of_their_frame() {
    let dir = folder();
    let long = "cat ".repeat(POSITIONS);
    let (fits, cut) = ("cat ".repeat(POSITIONS - 2), "cat ".repeat(6));
    let mut embedder = open(dir.path(), &EmbedOptions::default());
    let got = embed(&mut embedder, &[&long, "dog", &fits]);
    assert_eq!((got.truncated, got.tokens), (1, POSITIONS + 3 + POSITIONS));
    assert_eq!(got.vectors[0], got.vectors[2], "as if the text ended there");
    write_json(
        dir.path(),
        "sentence_bert_config.json",
        &json!({"max_seq_length": 8, "do_lower_case": false}),
    );
    let mut embedder = open(dir.path(), &EmbedOptions::default());
    assert_eq!(embedder.max_tokens(), 8);
    let got = embed(&mut embedder, &[&long, &fits, &cut]);
    assert_eq!((got.truncated, got.tokens), (2, 3 * 8));
    assert!(got.vectors.iter().all(|vector| *vector == got.vectors[2]));
    // More than the model has positions is not to be had.
    write_json(dir.path(), "sentence_bert_config.json", &json!({"max_seq_length": 4096}));
    assert_eq!(open(dir.path(), &EmbedOptions::default()).max_tokens(), POSITIONS);
}

#[test]
fn the_files_say_how_unless_the_caller_does() {
    let dir = folder();
    let module = |name: &str| json!({"type": format!("sentence_transformers.models.{name}"), "path": format!("x_{name}")});
    let check = |expect: Pooling, unit: bool, options: &EmbedOptions| {
        let mut embedder = open(dir.path(), options);
        assert_eq!(embedder.pooling(), expect);
        let vector = embed(&mut embedder, &["the dog ran"]).vectors.remove(0);
        assert_eq!((length(&vector) - 1.0).abs() < 1e-5, unit, "{}", length(&vector));
    };
    check(Pooling::Mean, true, &EmbedOptions::default());
    write_json(dir.path(), "1_Pooling/config.json", &json!({"pooling_mode_cls_token": true}));
    check(Pooling::Cls, true, &EmbedOptions::default());
    check(Pooling::Last, true, &with_pooling(Pooling::Last));
    write_json(dir.path(), "x_Pooling/config.json", &json!({"pooling_mode": "lasttoken"}));
    write_json(dir.path(), "modules.json", &json!([module("Transformer"), module("Pooling")]));
    check(Pooling::Last, false, &EmbedOptions::default());
    check(Pooling::Mean, true, &EmbedOptions { normalize: Some(true), ..with_pooling(Pooling::Mean) });
    write_json(
        dir.path(),
        "modules.json",
        &json!([module("Transformer"), module("Pooling"), module("Normalize")]),
    );
    check(Pooling::Last, true, &EmbedOptions::default());
    check(Pooling::Last, false, &EmbedOptions { normalize: Some(false), ..EmbedOptions::default() });

    let before = embed(&mut open(dir.path(), &EmbedOptions::default()), &["The DOG", "the dog"]);
    assert_ne!(before.vectors[0], before.vectors[1]);
    write_json(dir.path(), "sentence_bert_config.json", &json!({"do_lower_case": true}));
    let lowered = embed(&mut open(dir.path(), &EmbedOptions::default()), &["The DOG", "the dog"]);
    assert_eq!(lowered.vectors[0], lowered.vectors[1]);
}

#[test]
fn what_files_must_not_say() {
    let dir = folder();
    let check = |modules: Value, expect: &str| {
        write_json(dir.path(), "modules.json", &modules);
        let message = refusal(dir.path(), &EmbedOptions::default()).to_string();
        assert!(message.starts_with(&dir.path().display().to_string()), "{message}");
        assert!(message.ends_with(expect), "{message}");
    };
    check(json!({}), "modules.json: expected a list of modules");
    check(json!([{"type": "a.b.Dense"}]), "modules.json: a module of type \"a.b.Dense\" isn't supported");
    check(
        json!([{"type": "a.Pooling", "path": "../elsewhere"}]),
        "modules.json: expected the name of a folder, got \"../elsewhere\"",
    );
    check(
        json!([{"type": "a.Pooling", "path": "gone"}]),
        "config.json: not there, though modules.json names it",
    );
}

#[test]
fn a_folder_that_does_not_say_what_it_is() {
    let dir = folder();
    let expect = embed(&mut open(dir.path(), &EmbedOptions::default()), &TEXTS);
    write_json(dir.path(), "config.json", &json!({"word_embedding_dimension": WIDTH}));
    let mut embedder = open(dir.path(), &EmbedOptions::default());
    let [note] = embedder.notes() else { panic!("{:?}", embedder.notes()) };
    assert!(note.ends_with("a bert of width 128, and by that width 2 heads"), "{note}");
    assert_eq!(embed(&mut embedder, &TEXTS), expect);
}

#[test]
fn models_that_cannot_embed() {
    let dir = tempfile::tempdir().expect("a folder");
    let missing = refusal(dir.path(), &EmbedOptions::default()).to_string();
    assert!(missing.contains("no config.json, so this isn't a model folder\nhint: "), "{missing}");
    let (encoder, mut weights) = write_bert(dir.path());
    bpe().save(dir.path()).expect("saved");
    let mismatch = refusal(dir.path(), &EmbedOptions::default()).to_string();
    assert!(mismatch.contains("but the model's vocabulary only 19\nhint: "), "{mismatch}");

    // A word that only the second text has.
    write_bert(dir.path());
    let table = &mut weights.tensors_mut()[0];
    table.data_mut()[id("red") as usize * WIDTH] = f32::NAN;
    write_weights(dir.path(), &encoder, &weights);
    let mut embedder = open(dir.path(), &EmbedOptions::default());
    let error = embedder.embed(&["the", "red hat"], |_| ControlFlow::Continue(())).expect_err("refused");
    assert!(error.to_string().starts_with("the vector of text 2 isn't finite numbers\nhint: "), "{error}");
    assert!(!error.is_input_error());
    assert!((length(&embed(&mut embedder, &["the", "hat"]).vectors[1]) - 1.0).abs() < 1e-5);
}

#[test]
fn the_caller_hears_how_far_it_is_and_may_stop() {
    let dir = folder();
    let mut embedder = open(dir.path(), &EmbedOptions { batch: 2, ..EmbedOptions::default() });
    let mut heard = Vec::new();
    let go_on = |done| {
        heard.push(done);
        ControlFlow::Continue(())
    };
    embedder.embed(&TEXTS, go_on).expect("embeds");
    assert_eq!(heard, [2, 4, 5]);
    let error = embedder.embed(&TEXTS, |_| ControlFlow::Break(())).expect_err("stopped");
    assert!(matches!(error, EngineError::Interrupted));
}

#[test]
fn a_decoder_embeds_with_its_last_token() {
    let dir = tempfile::tempdir().expect("a folder");
    let tokenizer = bpe();
    let vocab = tokenizer.vocab_size();
    let (decoder, weights) = random(DecoderConfig::native(vocab, 32, 2, 600));
    save_folder(dir.path(), &decoder, &weights, SpecialIds::default(), StoredType::F32).expect("saved");
    tokenizer.save(dir.path()).expect("saved");
    // Longer than one pass, and longer than the context.
    let (long, longer) = (TEXT.repeat(3), TEXT.repeat(8));
    let texts = ["The cat", &long, "春眠", &longer];
    let raw = EmbedOptions { normalize: Some(false), ..EmbedOptions::default() };
    let mut embedder = open(dir.path(), &raw);
    let mut averaging = open(dir.path(), &EmbedOptions { pooling: Some(Pooling::Mean), ..raw.clone() });
    assert_eq!((embedder.pooling(), embedder.dim(), embedder.max_tokens()), (Pooling::Last, 32, 600));
    let got = embed(&mut embedder, &texts);
    assert_eq!(got.truncated, 1);
    assert!((MAX_ROWS..599).contains(&tokenizer.encode(&long).expect("encodes").len()), "two passes");

    let mut runner = Runner::new(decoder, &weights).expect("packs");
    for (text, got) in texts.iter().zip(&got.vectors) {
        // Nothing in front, as the tokenizer's files ask for nothing.
        let mut ids = tokenizer.encode(text).expect("encodes");
        ids.truncate(600);
        let mut sequence = runner.sequence(ids.len()).expect("room");
        let mut hidden = Vec::new();
        for tokens in ids.chunks(100) {
            runner.run(&mut [Feed { sequence: &mut sequence, tokens, logits: Logits::None }]).expect("runs");
            hidden.extend_from_slice(runner.hidden());
        }
        let [mean, _, last] = pooled(&hidden, 32);
        assert_eq!(*got, last.1, "{} tokens", ids.len());
        near(&embed(&mut averaging, &[text]).vectors[0], &mean.1);
        assert_eq!(embed(&mut embedder, &[text]).vectors[0], *got, "alone");
    }

    let options = EmbedOptions { weight_type: Some(BlockType::Q8_0), ..raw };
    let message = refusal(dir.path(), &options).to_string();
    let expect = "the type of weights can be chosen for encoders only\nhint: hearth quantize writes a decoder in \
                  another type";
    assert!(message.ends_with(expect), "{message}");
}
