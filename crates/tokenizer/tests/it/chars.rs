//! One token a character.

use hearth_tokenizer::{Tokenizer, TokenizerError, train_chars};

use crate::texts;

#[test]
fn ids_follow_code_points() {
    let tokenizer = train_chars(texts(&["hello", "天地 玄黃\n"]), &[]).unwrap();
    assert_eq!(tokenizer.vocab_size(), 10);
    assert_eq!(tokenizer.encode("\n ehlo").unwrap(), [0, 1, 2, 3, 4, 5]);
    let text = "hello 天地\n";
    assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap(), true).unwrap(), text);
    assert_eq!(tokenizer.token_bytes(tokenizer.id_of("天").unwrap()), Some("天".as_bytes()));
}

#[test]
fn unknown_character_is_named() {
    let tokenizer = train_chars(texts(&["abc"]), &[]).unwrap();
    let error = tokenizer.encode("abzc").unwrap_err();
    assert!(matches!(error, TokenizerError::UnknownCharacter { character: 'z', position: 2 }), "{error}");
    assert!(error.is_input_error());
}

#[test]
fn unknown_token_stands_in() {
    let specials = ["<|endoftext|>".to_string(), "<|unk|>".to_string()];
    let tokenizer = train_chars(texts(&["abc"]), &specials).unwrap();
    assert_eq!((tokenizer.eos(), tokenizer.unk()), (Some(3), Some(4)));
    assert_eq!(tokenizer.encode("a?月").unwrap(), [0, 4, 4]);
    assert_eq!(tokenizer.encode_with_special("ab<|endoftext|>c").unwrap(), [0, 1, 3, 2]);
    assert_eq!(tokenizer.decode(&[0, 1, 3, 2], true).unwrap(), "abc");
}

/// The general library must give the same ids for what our table encodes.
#[test]
fn reloads_the_same_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    for specials in [vec!["<|endoftext|>".to_string()], vec!["<|unk|>".to_string()]] {
        let tokenizer = train_chars(texts(&["hello 天地\n"]), &specials).unwrap();
        tokenizer.save(folder.path()).unwrap();
        let again = Tokenizer::from_folder(folder.path()).unwrap();
        let ids = tokenizer.encode("hello 地\nhe").unwrap();
        assert_eq!(again.encode("hello 地\nhe").unwrap(), ids);
        assert_eq!(again.hash(), tokenizer.hash());
        let canonical = tokenizers::canonicalize_file(folder.path().join("tokenizer.json")).unwrap();
        let library = tokenizers::from_json(&canonical).unwrap();
        let mut theirs = Vec::new();
        let options = tokenizers::pipeline::EncodeOptions::no_specials();
        library.encode_into("hello 地\nhe", &options, &mut theirs).unwrap();
        assert!(theirs.iter().map(|token| token.id()).eq(ids.iter().copied()));
        assert_eq!(library.decode(&ids, true).unwrap(), "hello 地\nhe");
    }
}
