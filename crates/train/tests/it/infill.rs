//! Texts with gaps: what a model is shown of one that is longer than a lesson.

use hearth_data::labelled::{Place, TextExample};
use hearth_engine::SpecialRules;
use hearth_tokenizer::{BpeTrainer, END_OF_TEXT, PreTokenizer, Tokenizer};
use hearth_train::finetune::run_text::Texts;
use serde_json::json;
use std::convert::Infallible;

const GAP: [&str; 3] = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
const LIMIT: usize = 64;

fn lines(count: usize) -> String {
    (0..count).map(|i| format!("let value_{i} = sum({}, {});\n", i * 7 % 11, i * 5 % 13)).collect()
}

fn tokenizer() -> Tokenizer {
    let special_tokens = [END_OF_TEXT].iter().chain(&GAP).map(|token| (*token).to_owned()).collect();
    let trainer = BpeTrainer { special_tokens, ..BpeTrainer::new(340, PreTokenizer::Qwen2) };
    let config = json!({ "eos_token": END_OF_TEXT }).as_object().expect("an object").clone();
    let texts = std::iter::once(Ok::<_, Infallible>(lines(50)));
    trainer.train(texts, |_| {}).expect("trains").with_config(config)
}

/// The lessons of a text, as text, put back into the order that it was written in; and how many have a gap.
fn taught(text: &str, infill: f64) -> (Vec<String>, usize) {
    let tokenizer = tokenizer();
    let special = SpecialRules::of_tokenizer(&tokenizer);
    let texts = Texts { tokenizer: &tokenizer, special: &special, infill, limit: LIMIT, seed: 3 };
    let example = TextExample { text: text.to_owned(), place: Place { file: 0, line: 1 } };
    let lessons = texts.lessons(&example).expect("framed");
    assert!(lessons.iter().all(|lesson| lesson.ids.len() <= LIMIT), "one is too long");
    let mut gaps = 0;
    let mut written = |shown: String| {
        let Some(shown) = shown.strip_prefix(GAP[0]) else { return shown };
        gaps += 1;
        let (prefix, rest) = shown.split_once(GAP[1]).expect("a suffix");
        let (suffix, middle) = rest.split_once(GAP[2]).expect("a middle");
        let middle = middle.strip_suffix(END_OF_TEXT).expect("the end of the middle");
        [prefix, middle, suffix].concat()
    };
    let shown = lessons.iter().map(|lesson| tokenizer.decode(&lesson.ids, false).expect("decodes"));
    (shown.map(&mut written).collect(), gaps)
}

#[test]
fn a_long_text_has_a_gap_in_each_stretch_and_loses_nothing() {
    let text = lines(40);
    let (parts, gaps) = taught(&text, 1.0);
    assert_eq!((parts.concat(), gaps), (text.clone(), parts.len()));
    assert!(gaps > 5 && parts.iter().all(|part| part.ends_with('\n')), "whole lines");
    let (parts, gaps) = taught(&text, 0.5);
    assert_eq!(parts.concat(), text);
    assert!((1..parts.len()).contains(&gaps), "{gaps} of {}", parts.len());
    // Without gaps nothing is cut at lines.
    let (parts, gaps) = taught(&text, 0.0);
    assert_eq!((parts.concat(), gaps), (text + END_OF_TEXT, 0));
}

#[test]
fn a_short_text_is_one_lesson() {
    let text = lines(2);
    assert_eq!(taught(&text, 1.0), (vec![text.clone()], 1));
    assert_eq!(taught(&text, 0.0), (vec![text + END_OF_TEXT], 0));
}
