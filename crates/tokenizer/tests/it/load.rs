//! Files in and out, and what is wrong with bad ones.

use std::path::Path;

use hearth_tokenizer::{PreTokenizer, Tokenizer, TokenizerError};

use crate::{TEXT, trained};

/// GPT-2's first 256 tokens, two merges and the end of text, as its own two files.
fn write_gpt2(folder: &Path) {
    let start = trained(PreTokenizer::Gpt2);
    let mut vocab = serde_json::Map::new();
    for id in 0..256 {
        vocab.insert(start.token_of(id).unwrap().to_string(), id.into());
    }
    for (id, token) in (256..).zip(["he", "Ġw", "hel", "<|endoftext|>"]) {
        vocab.insert(token.to_string(), id.into());
    }
    std::fs::write(folder.join("encoder.json"), serde_json::to_string(&vocab).unwrap()).unwrap();
    std::fs::write(folder.join("vocab.bpe"), "#version: 0.2\nh e\nĠ w\nhe l\n").unwrap();
}

#[test]
fn gpt2_files() {
    let folder = tempfile::tempdir().unwrap();
    write_gpt2(folder.path());
    let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
    let (l, o) = (tokenizer.id_of("l").unwrap(), tokenizer.id_of("o").unwrap());
    assert_eq!((tokenizer.id_of("!"), tokenizer.id_of("\""), l), (Some(0), Some(1), 75));
    assert_eq!(tokenizer.encode("hello w").unwrap(), [258, l, o, 257]);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(259), Some(259)));
    assert_eq!(tokenizer.merges().unwrap()[2], ("he".to_string(), "l".to_string()));
    let out = folder.path().join("saved");
    tokenizer.save(&out).unwrap();
    let again = Tokenizer::from_folder(&out).unwrap();
    assert_eq!(again.encode(TEXT).unwrap(), tokenizer.encode(TEXT).unwrap());
    assert_eq!(again.eos(), Some(259));
}

#[test]
fn save_and_load() {
    let folder = tempfile::tempdir().unwrap();
    for pre in PreTokenizer::ALL {
        let mut config = trained(pre).config().clone();
        config.insert("chat_template".to_string(), "{{ messages }}".into());
        config.insert("model_max_length".to_string(), 512.into());
        let tokenizer = trained(pre).with_config(config);
        tokenizer.save(folder.path()).unwrap();
        let again = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(again.encode(TEXT).unwrap(), tokenizer.encode(TEXT).unwrap());
        assert_eq!((again.hash(), again.vocab_size()), (tokenizer.hash(), tokenizer.vocab_size()));
        assert_eq!((again.eos(), again.pre_tokenizer()), (tokenizer.eos(), Some(pre)));
        assert_eq!((again.chat_template(), again.model_max_length()), (Some("{{ messages }}"), Some(512)));
    }
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "temporary files left behind: {left:?}");
}

#[test]
fn the_hash_ignores_layout_only() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = trained(PreTokenizer::Gpt2);
    let value: serde_json::Value = serde_json::from_str(tokenizer.json()).unwrap();
    let path = folder.path().join("compact.json");
    std::fs::write(&path, value.to_string()).unwrap();
    assert_eq!(Tokenizer::from_file(&path).unwrap().hash(), tokenizer.hash());
    assert_ne!(trained(PreTokenizer::Qwen2).hash(), tokenizer.hash());
    assert_eq!(tokenizer.hash().len(), 64);
}

fn fails(folder: &Path, file: &str, content: &[u8], expect: &[&str]) {
    write_gpt2(folder);
    std::fs::write(folder.join(file), content).unwrap();
    let error = Tokenizer::from_folder(folder).unwrap_err();
    let message = error.to_string();
    for part in expect.iter().chain(&[file]) {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    assert!(error.is_input_error());
    std::fs::remove_file(folder.join(file)).unwrap();
}

#[test]
fn bad_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fails(folder, "tokenizer.json", b"{\"version\": ", &["not JSON"]);
    fails(folder, "tokenizer.json", b"[]", &["object"]);
    fails(folder, "tokenizer.json", b"{\"version\": \"1.0\"}", &["model"]);
    fails(folder, "tokenizer.json", b"\"caf\xE9\"", &["UTF-8", "byte 4"]);
    fails(folder, "encoder.json", b"{\"a\": 0, \"b\": 7}", &["\"b\"", "7"]);
    fails(folder, "encoder.json", b"{\"a\": 0, \"b\": 1}", &["out of vocabulary"]);
    fails(folder, "vocab.bpe", b"#version\nh e\nh e l\n", &["line 3"]);
    let huge = br#"{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}}"#;
    fails(folder, "tokenizer.json", huge, &["4000000000", "only 1 tokens"]);
}

#[test]
fn empty_folder_has_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let error = Tokenizer::from_folder(folder.path()).unwrap_err();
    assert!(matches!(error, TokenizerError::NoTokenizer { .. }) && error.to_string().contains("hint:"));
    std::fs::write(folder.path().join("tokenizer.model"), b"x").unwrap();
    assert!(Tokenizer::from_folder(folder.path()).unwrap_err().to_string().contains("SentencePiece"));
}
