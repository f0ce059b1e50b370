//! Text to ids and back.

use hearth_tokenizer::{END_OF_TEXT, PreTokenizer, TokenizerError};
use proptest::prelude::*;

use crate::{TEXT, trained};

#[test]
fn text_comes_back() {
    for pre in PreTokenizer::ALL {
        let tokenizer = trained(pre);
        let ids = tokenizer.encode(TEXT).unwrap();
        assert!(ids.len() < TEXT.len() / 2, "merges must be used: {} ids", ids.len());
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), TEXT);
        assert_eq!(tokenizer.pre_tokenizer(), Some(pre));
    }
}

#[test]
fn special_look_alikes_stay_text() {
    let tokenizer = trained(PreTokenizer::Qwen2);
    let end = tokenizer.eos().unwrap();
    assert_eq!(tokenizer.id_of(END_OF_TEXT), Some(end));
    assert_eq!(tokenizer.bos(), Some(end));
    assert!(tokenizer.is_special(end) && !tokenizer.is_special(0));
    let text = format!("the{END_OF_TEXT}cat<|im start|>");
    let plain = tokenizer.encode(&text).unwrap();
    assert!(!plain.iter().any(|&id| tokenizer.is_special(id)));
    assert_eq!(tokenizer.decode(&plain, true).unwrap(), text);
    let special = tokenizer.encode_with_special(&text).unwrap();
    assert_eq!(special.iter().filter(|&&id| tokenizer.is_special(id)).count(), 2);
    assert_eq!(tokenizer.decode(&special, true).unwrap(), "thecat");
    assert_eq!(tokenizer.decode(&special, false).unwrap(), text);
    assert_eq!(special.last().copied(), tokenizer.id_of("<|im start|>"));
}

#[test]
fn batch_equals_one_by_one() {
    let tokenizer = trained(PreTokenizer::Gpt2);
    let texts: Vec<String> =
        (0..3000).map(|i| format!("{i} {}", &TEXT[..TEXT.floor_char_boundary(i % 200)])).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let one_by_one: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    assert_eq!(tokenizer.encode_batch(&texts).unwrap(), one_by_one);
    assert!(tokenizer.encode_batch(&[]).unwrap().is_empty());
}

#[test]
fn token_bytes_spell_the_text() {
    let tokenizer = trained(PreTokenizer::LlamaBpe);
    let ids = tokenizer.encode(TEXT).unwrap();
    let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap().to_vec()).collect();
    assert_eq!(bytes, TEXT.as_bytes());
    assert_eq!(tokenizer.token_bytes(tokenizer.eos().unwrap()), Some(END_OF_TEXT.as_bytes()));
    assert_eq!(tokenizer.token_bytes(99_999), None);
}

#[test]
fn unknown_id_is_an_error() {
    let tokenizer = trained(PreTokenizer::Gpt2);
    let error = tokenizer.decode(&[1, 2, 5000], true).unwrap_err();
    assert!(matches!(error, TokenizerError::UnknownId { id: 5000, position: 2, .. }), "{error}");
}

proptest! {
    #[test]
    fn any_text_comes_back(text in any::<String>()) {
        let tokenizer = trained(PreTokenizer::Qwen2);
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    }
}
