//! Which tokens begin and end a text, as the files of a model folder say.

use crate::{bpe, chars, drawn, greedy, one, random};
use hearth_engine::{Engine, FinishReason, Framing, SpecialRules, frame_texts};
use hearth_model::hf::SpecialIds;
use hearth_model::{DecoderConfig, StoredType, save_folder};
use hearth_tokenizer::Tokenizer;
use serde_json::{Value, json};
use tempfile::TempDir;

fn with_config(tokenizer: &Tokenizer, config: Value) -> Tokenizer {
    tokenizer.with_config(config.as_object().expect("an object").clone())
}

/// A model folder; `eos_token_id` of both JSON files as given.
fn folder(tokenizer: &Tokenizer, generation: Value, config: Value) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let (decoder, weights) = random(DecoderConfig::native(tokenizer.vocab_size(), 32, 2, 48));
    let ids = SpecialIds { bos: None, eos: None };
    save_folder(dir.path(), &decoder, &weights, ids, StoredType::F32).expect("saves");
    tokenizer.save(dir.path()).expect("saves");
    for (name, value) in [("generation_config.json", generation), ("config.json", config)] {
        let path = dir.path().join(name);
        let mut json: Value =
            serde_json::from_str(&std::fs::read_to_string(&path).expect("is there")).expect("JSON");
        json["eos_token_id"] = value;
        std::fs::write(path, json.to_string()).expect("writes");
    }
    dir
}

#[test]
fn a_saved_folder_generates_as_the_model_in_memory() {
    let tokenizer = bpe();
    let dir = folder(&tokenizer, Value::Null, Value::Null);
    let (decoder, weights) = random(DecoderConfig::native(tokenizer.vocab_size(), 32, 2, 48));
    let mut memory = Engine::new(decoder, &weights, tokenizer).expect("fits");
    let mut disk = Engine::open(dir.path()).expect("opens");
    assert_eq!(disk.config(), memory.config());
    for seed in 0..4 {
        assert_eq!(one(&mut disk, drawn("The cat", 30, seed)), one(&mut memory, drawn("The cat", 30, seed)));
    }
}

#[test]
fn every_end_that_the_files_list_ends_a_text() {
    let tokenizer = bpe();
    let eos = tokenizer.eos().expect("a separator");
    let check = |generation: Value, config: Value, ends: &[u32]| {
        let dir = folder(&tokenizer, generation, config);
        assert_eq!(Engine::open(dir.path()).expect("opens").special().ends, ends);
    };
    check(Value::Null, Value::Null, &[eos]);
    check(json!(7), Value::Null, &[7, eos]);
    check(json!([9, 3, 9]), Value::Null, &[3, 9, eos]);
    check(Value::Null, json!(8), &[eos]);

    let dir = folder(&tokenizer, json!([65]), Value::Null);
    let mut engine = Engine::open(dir.path()).expect("opens");
    let mut request = greedy("The", 9);
    request.sampling.logit_bias.insert(65, 1000.0);
    let ended = one(&mut engine, request);
    assert_eq!((ended.finish, ended.tokens, ended.text), (FinishReason::Eos, vec![65], String::new()));
}

#[test]
fn the_configs_end_counts_where_nothing_else_says_one() {
    let silent = with_config(&bpe(), json!({}));
    // A tokenizer that names no end, in files that say nothing but for config.json.
    let rules = SpecialRules::of_tokenizer(&silent);
    let dir = folder(&silent, Value::Null, json!([8, 4]));
    let engine = Engine::open(dir.path()).expect("opens");
    let expect = if rules.ends.is_empty() { vec![4, 8] } else { rules.ends };
    assert_eq!(engine.special().ends, expect);
}

#[test]
fn bos_comes_first_where_the_files_say_so() {
    let tokenizer = bpe();
    let check = |config: Value, prompt: &str, expect_bos: usize| {
        let tokenizer = with_config(&tokenizer, config);
        let bos = tokenizer.id_of("<|endoftext|>").expect("is there");
        let (decoder, weights) = random(DecoderConfig::native(tokenizer.vocab_size(), 32, 1, 48));
        let engine = Engine::new(decoder, &weights, tokenizer).expect("fits");
        let tokens = engine.prompt_tokens(prompt).expect("encodes");
        let leading = tokens.iter().take_while(|&&t| t == bos).count();
        assert_eq!(leading, expect_bos, "{prompt:?}");
    };
    let adding = json!({ "bos_token": "<|endoftext|>", "add_bos_token": true });
    check(adding.clone(), "The cat", 1);
    // Once, should the text begin with it already; and an empty prompt is that token.
    check(adding.clone(), "<|endoftext|>The cat", 1);
    check(adding, "", 1);
    check(json!({ "bos_token": "<|endoftext|>", "add_bos_token": false }), "The cat", 0);
    check(json!({ "bos_token": "<|endoftext|>" }), "The cat", 0);
    check(json!({ "bos_token": "<|endoftext|>" }), "", 1);
}

#[test]
fn ends_that_are_no_ids_are_refused() {
    let dir = folder(&bpe(), json!("the end"), Value::Null);
    let error = Engine::open(dir.path()).expect_err("refused");
    let path = dir.path().join("generation_config.json");
    assert_eq!(
        error.to_string(),
        format!("{}: eos_token_id is \"the end\", expected a token id or a list of them", path.display())
    );
    assert!(error.is_input_error());
}

#[test]
fn pairs_need_a_token_between_them() {
    let (nothing, end) =
        (Framing { before: vec![], after: vec![] }, Framing { before: vec![], after: vec![1] });
    let texts = [("a", None), ("a", Some("a"))];
    assert!(frame_texts(&chars(), &nothing, &texts[..1], 8).is_ok());
    let error = frame_texts(&chars(), &nothing, &texts, 8).expect_err("a pair");
    assert!(error.to_string().starts_with("text 2 is a pair"), "{error}");
    assert_eq!(frame_texts(&chars(), &end, &texts, 8).expect("framed")[1].ids.len(), 4);
}
