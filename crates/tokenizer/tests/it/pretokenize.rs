//! The three splits, on what sets them apart.

use hearth_tokenizer::PreTokenizer::{self, Gpt2, LlamaBpe, Qwen2};

fn check(pre: PreTokenizer, text: &str, words: &[&str]) {
    assert_eq!(pre.split(text).unwrap(), words, "{pre} on {text:?}");
    assert_eq!(pre.split(text).unwrap().concat(), text);
}

#[test]
fn gpt2_words() {
    check(Gpt2, "Hello world", &["Hello", " world"]);
    check(Gpt2, "it's IT'S", &["it", "'s", " IT", "'", "S"]);
    check(Gpt2, "a  b", &["a", " ", " b"]);
    check(Gpt2, "a\n\n b", &["a", "\n\n", " b"]);
    check(Gpt2, "x = 12345!!", &["x", " =", " 12345", "!!"]);
    check(Gpt2, "end  ", &["end", "  "]);
    check(Gpt2, "明月光，疑是", &["明月光", "，", "疑是"]);
    check(Gpt2, "", &[]);
}

#[test]
fn llama_words() {
    check(LlamaBpe, "it's IT'S", &["it", "'s", " IT", "'S"]);
    check(LlamaBpe, "12345", &["123", "45"]);
    check(LlamaBpe, " 12", &[" ", "12"]);
    check(LlamaBpe, "(word) \n\nx", &["(word", ")", " \n\n", "x"]);
    check(LlamaBpe, "!!\n\nx", &["!!\n\n", "x"]);
}

#[test]
fn qwen_words() {
    check(Qwen2, "it's 123", &["it", "'s", " ", "1", "2", "3"]);
    check(Qwen2, "\tword", &["\tword"]);
    check(Qwen2, "月光 🎉🎉", &["月光", " 🎉🎉"]);
}

#[test]
fn names_round_trip() {
    for pre in PreTokenizer::ALL {
        assert_eq!(pre.to_string().parse::<PreTokenizer>().unwrap(), pre);
    }
    let error = "bert".parse::<PreTokenizer>().unwrap_err().to_string();
    assert!(error.contains("gpt-2, llama-bpe, qwen2"), "{error}");
}
