//! Training, against a trainer so plain that it can be read at a glance.

use std::collections::BTreeMap;

use hearth_tokenizer::{BpeTrainer, PreTokenizer, TokenizerError, TrainProgress, set_threads};
use proptest::prelude::*;

use crate::{TEXT, texts};

/// Merges by recounting everything each time. Tokens are named by their bytes.
fn plain_merges(text: &str, pre: PreTokenizer, order: &[Vec<u8>], merges: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut tokens = order.to_vec();
    let mut words: Vec<Vec<usize>> = Vec::new();
    for word in pre.split(text).unwrap() {
        words.push(word.bytes().map(|byte| tokens.iter().position(|t| *t == [byte]).unwrap()).collect());
    }
    let mut done: Vec<(usize, usize)> = Vec::new();
    let mut names = Vec::new();
    while tokens.len() < order.len() + merges {
        let mut counts: BTreeMap<(usize, usize), i64> = BTreeMap::new();
        for word in &words {
            for two in word.windows(2) {
                *counts.entry((two[0], two[1])).or_default() += 1;
            }
        }
        let best = counts.iter().max_by_key(|&(pair, count)| (*count, std::cmp::Reverse(*pair)));
        let Some((&(left, right), _)) = best.filter(|(_, count)| **count >= 2) else { break };
        let joined = [tokens[left].clone(), tokens[right].clone()].concat();
        let id = tokens.iter().position(|token| *token == joined).unwrap_or_else(|| {
            tokens.push(joined.clone());
            tokens.len() - 1
        });
        if !done.contains(&(left, right)) {
            done.push((left, right));
            names.push((tokens[left].clone(), tokens[right].clone()));
        }
        for word in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if (word[at], word[at + 1]) == (left, right) {
                    word.splice(at..at + 2, [id]);
                }
                at += 1;
            }
        }
    }
    names
}

fn check_against_plain(text: &str, pre: PreTokenizer, merges: usize) {
    let trainer = BpeTrainer { special_tokens: Vec::new(), ..BpeTrainer::new(256 + merges, pre) };
    let tokenizer = trainer.train(texts(&[text]), |_| {}).unwrap();
    let bytes = |token: &str| tokenizer.token_bytes(tokenizer.id_of(token).unwrap()).unwrap().to_vec();
    let got: Vec<_> = tokenizer.merges().unwrap().iter().map(|(l, r)| (bytes(l), bytes(r))).collect();
    let order: Vec<Vec<u8>> = (0..256).map(|id| tokenizer.token_bytes(id).unwrap().to_vec()).collect();
    assert_eq!(got, plain_merges(text, pre, &order, merges));
}

#[test]
fn merges_match_the_plain_trainer() {
    for pre in PreTokenizer::ALL {
        check_against_plain(TEXT, pre, 60);
    }
    check_against_plain("aaaa aaaaaaa aaa aaaaa", PreTokenizer::Gpt2, 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn merges_match_on_random_text(text in "[abc ]{1,200}") {
        check_against_plain(&text, PreTokenizer::Gpt2, 40);
    }
}

#[test]
fn threads_and_pieces_do_not_matter() {
    let many: Vec<String> = (0..20_000).map(|i| format!("{} number {i} of {}", &TEXT[..88], i % 7)).collect();
    let train = |threads: usize| {
        set_threads(threads);
        let texts = many.iter().map(|text| Ok::<_, std::io::Error>(text.clone()));
        BpeTrainer::new(600, PreTokenizer::LlamaBpe).train(texts, |_| {}).unwrap()
    };
    let (one, three) = (train(1), train(3));
    set_threads(0);
    assert_eq!(one.json(), three.json());
    assert_eq!(one.vocab_size(), 600);
}

#[test]
fn progress_counts_the_text() {
    let big = TEXT.repeat(30_000);
    let mut last = None;
    let trainer = BpeTrainer::new(300, PreTokenizer::Gpt2);
    trainer.train(texts(&[&big]), |progress| last = last.or(Some(progress))).unwrap();
    let Some(TrainProgress::Counting { bytes, texts, .. }) = last else { panic!("{last:?}") };
    assert_eq!((bytes, texts), (big.len() as u64, 1));
}

#[test]
fn bad_wishes_are_refused() {
    let error = |trainer: BpeTrainer, text: &str| trainer.train(texts(&[text]), |_| {}).unwrap_err();
    let small = error(BpeTrainer::new(256, PreTokenizer::Gpt2), "text");
    assert!(matches!(small, TokenizerError::VocabularyTooSmall { asked: 256, needed: 257, .. }), "{small}");
    assert!(small.to_string().contains("hint:"));
    assert!(matches!(error(BpeTrainer::new(300, PreTokenizer::Gpt2), ""), TokenizerError::EmptyCorpus));
    let mut twice = BpeTrainer::new(300, PreTokenizer::Gpt2);
    twice.special_tokens.push("<|endoftext|>".to_string());
    assert!(matches!(error(twice, "text"), TokenizerError::BadSpecial { .. }));
    let broken = [Err(std::io::Error::other("the disk is on fire"))].into_iter();
    let error = BpeTrainer::new(300, PreTokenizer::Gpt2).train(broken, |_| {}).unwrap_err();
    assert!(error.to_string().contains("on fire"));
}
