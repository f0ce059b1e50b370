//! Tokenizers of GGUF files: small vocabularies with the ids that the reference implementations give
//! (`golden/make_gguf.py` made them), and what is wrong with bad ones.

use std::path::Path;

use hearth_tokenizer::{GgufVocab, PreTokenizer, Tokenizer};
use proptest::prelude::*;
use serde_json::Value;

use crate::{TEXT, trained};

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/gguf.json")).unwrap()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().map_or_else(Vec::new, |all| all.iter().map(|one| one.as_str().unwrap().into()).collect())
}

fn vocab_of(value: &Value) -> GgufVocab {
    let numbers = |key: &str| value[key].as_array().cloned().unwrap_or_default();
    let id = |key: &str| value[key].as_u64().map(|id| id as u32);
    GgufVocab {
        model: value["model"].as_str().unwrap().into(),
        tokens: strings(&value["tokens"]),
        scores: numbers("scores").iter().map(|score| score.as_f64().unwrap() as f32).collect(),
        token_types: numbers("token_types").iter().map(|kind| kind.as_i64().unwrap() as i32).collect(),
        merges: strings(&value["merges"]),
        bos: id("bos"),
        eos: id("eos"),
        unk: id("unk"),
        pad: id("pad"),
        add_space_prefix: value["add_space_prefix"].as_bool(),
        remove_extra_whitespaces: value["remove_extra_whitespaces"].as_bool(),
        precompiled_charsmap: value["precompiled_charsmap"]
            .as_array()
            .map(|bytes| bytes.iter().map(|byte| byte.as_u64().unwrap() as u8).collect()),
        ..GgufVocab::default()
    }
}

fn load(vocab: GgufVocab) -> Tokenizer {
    let pre = vocab.pre.clone();
    Tokenizer::from_gguf(vocab, Path::new("model.gguf")).unwrap_or_else(|error| panic!("{pre:?}: {error}"))
}

#[test]
fn ids_are_those_of_the_reference() {
    let golden = golden();
    let texts = strings(&golden["texts"]);
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 30, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let mut vocab = vocab_of(&golden["vocabs"][case["vocab"].as_str().unwrap()]);
        vocab.pre = case["pre"].as_str().map(str::to_string);
        let tokenizer = load(vocab);
        for (text, ids) in texts.iter().zip(case["ids"].as_array().unwrap()) {
            let Some(ids) = ids.as_array() else { continue };
            let ids: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
            let got = tokenizer.encode(text).unwrap();
            if got != ids {
                wrong.push(format!(
                    "{} {}: {text:?}\n  got  {:?}\n  want {:?}",
                    case["vocab"],
                    case["pre"],
                    pieces(&tokenizer, &got),
                    pieces(&tokenizer, &ids)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|&id| tokenizer.token_of(id).unwrap_or("?").to_string()).collect()
}

#[test]
fn decoding_gives_the_text_back() {
    let golden = golden();
    for name in ["bpe", "spm"] {
        let tokenizer = load(vocab_of(&golden["vocabs"][name]));
        // SentencePiece can't tell a space from `▁`.
        for text in strings(&golden["texts"]).iter().filter(|text| name == "bpe" || !text.contains('▁')) {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), *text, "{name}");
            let mut stream = tokenizer.decode_stream();
            let mut streamed: String = ids.iter().filter_map(|&id| stream.push(id)).collect();
            streamed.extend(stream.finish());
            assert_eq!(streamed, *text, "{name}, streamed");
        }
    }
}

#[test]
fn special_tokens_spelled_in_text_stay_text() {
    let golden = golden();
    for (name, vocab) in golden["vocabs"].as_object().unwrap() {
        let vocab = vocab_of(vocab);
        let special: Vec<u32> = (0u32..)
            .zip(&vocab.token_types)
            .filter(|&(id, &kind)| kind == 3 && Some(id) != vocab.unk)
            .map(|(id, _)| id)
            .collect();
        assert!(!special.is_empty(), "{name} has no special tokens");
        let tokenizer = load(vocab);
        for &id in &special {
            let text = format!("a{}b", tokenizer.token_of(id).unwrap());
            let plain = tokenizer.encode(&text).unwrap();
            assert!(!plain.iter().any(|id| special.contains(id)), "{name}: {text:?} gives {plain:?}");
            assert!(tokenizer.encode_with_special(&text).unwrap().contains(&id), "{name}: {text:?}");
        }
    }
}

#[test]
fn within_a_text_no_space_is_put_in_front() {
    let golden = golden();
    for name in ["bpe", "spm", "spm_prefix"] {
        let tokenizer = load(vocab_of(&golden["vocabs"][name]));
        for text in strings(&golden["texts"]).iter().filter(|text| name == "bpe" || !text.contains('▁')) {
            let ids = tokenizer.encode_within(text).unwrap();
            let bytes: Vec<u8> =
                ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap()).copied().collect();
            assert_eq!(String::from_utf8_lossy(&bytes), *text, "{name}: {:?}", pieces(&tokenizer, &ids));
        }
    }
    // Where a space is put in front, a text after a space is the text alone.
    let spm = load(vocab_of(&golden["vocabs"]["spm_prefix"]));
    for text in ["cat", "a b", "猫"] {
        assert_eq!(spm.encode_within(&format!(" {text}")).unwrap(), spm.encode(text).unwrap());
        assert_ne!(spm.encode_within(text).unwrap(), spm.encode(text).unwrap());
    }
}

#[test]
fn exporting_is_the_inverse() {
    let golden = golden();
    let texts = strings(&golden["texts"]);
    for case in golden["cases"].as_array().unwrap() {
        let mut vocab = vocab_of(&golden["vocabs"][case["vocab"].as_str().unwrap()]);
        vocab.pre = case["pre"].as_str().map(str::to_string);
        vocab.chat_template = Some("{{ messages }}".into());
        let tokenizer = load(vocab.clone());
        let exported = tokenizer.to_gguf().unwrap();
        assert_eq!((&exported.model, &exported.tokens), (&vocab.model, &vocab.tokens));
        assert_eq!(
            (exported.bos, exported.eos, exported.unk),
            (tokenizer.bos(), tokenizer.eos(), tokenizer.unk())
        );
        assert_eq!(exported.merges, vocab.merges);
        assert_eq!(exported.chat_template, vocab.chat_template);
        if vocab.model == "t5" {
            assert_eq!(exported.scores, vocab.scores);
            assert_eq!(exported.precompiled_charsmap, vocab.precompiled_charsmap);
        }
        let again = load(exported);
        for text in &texts {
            assert_eq!(again.encode(text).unwrap(), tokenizer.encode(text).unwrap(), "{case:.80}: {text:?}");
        }
    }
}

#[test]
fn tokenizers_trained_here_go_there_and_back() {
    for pre in PreTokenizer::ALL {
        let tokenizer = trained(pre);
        let vocab = tokenizer.to_gguf().unwrap();
        assert_eq!((vocab.model.as_str(), vocab.pre.as_deref()), ("gpt2", Some(pre.name())));
        assert_eq!(vocab.token_types[vocab.eos.unwrap() as usize], 3);
        let again = load(vocab);
        assert_eq!(again.pre_tokenizer(), Some(pre));
        assert_eq!(again.encode(TEXT).unwrap(), tokenizer.encode(TEXT).unwrap());
        assert_eq!((again.bos(), again.eos()), (tokenizer.bos(), tokenizer.eos()));
        assert_eq!(again.to_gguf().unwrap(), tokenizer.to_gguf().unwrap());
    }
}

#[test]
fn a_saved_tokenizer_is_the_same() {
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    for (name, vocab) in golden["vocabs"].as_object().unwrap() {
        let tokenizer = load(vocab_of(vocab));
        tokenizer.save(folder.path()).unwrap();
        let again = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(again.hash(), tokenizer.hash(), "{name}");
        assert_eq!(again.config()["add_bos_token"], tokenizer.config()["add_bos_token"], "{name}");
        for text in strings(&golden["texts"]) {
            assert_eq!(again.encode(&text).unwrap(), tokenizer.encode(&text).unwrap(), "{name}");
        }
    }
}

#[test]
fn defaults_are_those_of_llama_cpp() {
    let golden = golden();
    let adds = |name: &str, pre: Option<&str>| {
        let mut vocab = vocab_of(&golden["vocabs"][name]);
        vocab.pre = pre.map(str::to_string);
        let config = load(vocab).config().clone();
        (config["add_bos_token"].as_bool().unwrap(), config["add_eos_token"].as_bool().unwrap())
    };
    assert_eq!(adds("spm", None), (true, false));
    assert_eq!(adds("unigram", None), (false, true));
    assert_eq!(adds("wordpiece", None), (true, true));
    assert_eq!(adds("bpe", Some("qwen2")), (false, false));
    assert_eq!(adds("bpe", Some("llama-bpe")), (true, false));
    assert_eq!(adds("bpe", Some("smollm")), (false, false));
}

#[test]
fn bad_metadata_is_named() {
    let golden = golden();
    let fails = |name: &str, change: fn(&mut GgufVocab), expect: &[&str]| {
        let mut vocab = vocab_of(&golden["vocabs"][name]);
        change(&mut vocab);
        let error = Tokenizer::from_gguf(vocab, Path::new("model.gguf")).unwrap_err();
        let message = error.to_string();
        for part in expect.iter().chain(&["model.gguf"]) {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
        assert!(error.is_input_error());
    };
    fails("bpe", |vocab| vocab.pre = Some("no-such".into()), &["\"no-such\"", "qwen2", "smollm"]);
    fails("bpe", |vocab| vocab.model = "rwkv".into(), &["\"rwkv\"", "gpt2"]);
    fails("bpe", |vocab| vocab.tokens.clear(), &["empty"]);
    fails("bpe", |vocab| vocab.merges.push("abc".into()), &["\"abc\""]);
    fails("bpe", |vocab| vocab.merges.push("zzzz zz".into()), &["zzzz"]);
    fails("bpe", |vocab| vocab.eos = Some(9_999), &["eos", "9999"]);
    fails("bpe", |vocab| vocab.tokens[3] = vocab.tokens[2].clone(), &["2", "3"]);
    fails("spm", |vocab| vocab.scores.truncate(3), &["scores", "3"]);
    fails("spm", |vocab| vocab.scores[5] = f32::NAN, &["token 5"]);
    fails("spm", |vocab| vocab.token_types.push(1), &["token_type"]);
    fails("unigram", |vocab| vocab.scores.clear(), &["scores"]);
    fails("unigram", |vocab| vocab.precompiled_charsmap = Some(vec![9, 9]), &[]);
}

proptest! {
    #[test]
    fn damaged_tables_of_characters_are_refused_or_harmless(
        at in 0usize..1038, byte: u8, keep in 0usize..=1038, text in any::<String>()
    ) {
        let golden = golden();
        let mut vocab = vocab_of(&golden["vocabs"]["unigram"]);
        let map = vocab.precompiled_charsmap.as_mut().unwrap();
        map[at] = byte;
        map.truncate(keep);
        if let Ok(tokenizer) = Tokenizer::from_gguf(vocab, Path::new("model.gguf")) {
            tokenizer.encode(&text).unwrap();
            tokenizer.encode("a\tb １２…").unwrap();
        }
    }
}

#[test]
fn what_llama_cpp_lacks_is_not_exported() {
    let json = r#"{"version": "1.0", "added_tokens": [], "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.json");
    std::fs::write(&path, json).unwrap();
    let error = Tokenizer::from_file(&path).unwrap().to_gguf().unwrap_err().to_string();
    assert!(error.contains("WordLevel") && error.contains("hint:"), "{error}");
}

#[test]
fn a_large_vocabulary_loads_soon() {
    // As many tokens as Gemma has, of up to twelve characters.
    let mut tokens: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
    let mut number = 0u64;
    while tokens.len() < 262_144 {
        let digits: String = format!("{number:b}").replace('0', "a").replace('1', "b");
        tokens.push(digits);
        number += 1;
    }
    let token_types = (0..tokens.len()).map(|id| if id < 256 { 6 } else { 1 }).collect();
    let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
    let vocab = GgufVocab { model: "llama".into(), tokens, scores, token_types, ..GgufVocab::default() };
    let vocab = GgufVocab { add_space_prefix: Some(false), ..vocab };
    let start = std::time::Instant::now();
    let tokenizer = load(vocab);
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(tokenizer.decode(&tokenizer.encode("abbab").unwrap(), true).unwrap(), "abbab");
    assert!(seconds < 60.0, "loading took {seconds} s");
}
