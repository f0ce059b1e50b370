//! Masked tokens: how many, which, what stands in their places, and that draws depend on counters alone.

use hearth_data::{Masked, Masking};
use hearth_tokenizer::{BpeTrainer, ENCODER_TOKENS, PreTokenizer, Tokenizer};
use std::collections::HashMap;

use crate::{letters, refused};

const TEXT: &str =
    "the cats were walking unhappily in the garden, looking for walking cats; 我们在花园里走。";

fn tokenizer() -> Tokenizer {
    let mut trainer = BpeTrainer::new(290, PreTokenizer::Qwen2);
    trainer.special_tokens = ENCODER_TOKENS.map(String::from).to_vec();
    trainer.train([Ok::<_, std::io::Error>(TEXT.to_owned())].into_iter(), |_| {}).expect("trains")
}

/// `[CLS]` text `[SEP]`, so many times over.
fn sequence(tokenizer: &Tokenizer, times: usize) -> Vec<u32> {
    let id = |token: &str| tokenizer.id_of(token).expect("an encoder's token");
    let text = tokenizer.encode(&TEXT.repeat(times)).expect("encodes");
    [vec![id("[CLS]")], text, vec![id("[SEP]")]].concat()
}

#[test]
fn a_share_of_each_sequence_is_chosen_and_eight_of_ten_become_the_mask() {
    let tokenizer = tokenizer();
    let masking = Masking::new(&tokenizer, 0.15, false).unwrap();
    let mask = tokenizer.mask().unwrap();
    let originals = vec![sequence(&tokenizer, 1), sequence(&tokenizer, 60)];
    let (mut masks, mut kept, mut all) = (0, 0, 0);
    for number in 0..20 {
        let mut sequences = originals.clone();
        let Masked { rows, targets } = masking.apply(&mut sequences, 7, number);
        let (before, after) = (originals.concat(), sequences.concat());
        assert!(rows.is_sorted_by(|a, b| a < b), "ascending, each once");
        let plain = |s: &Vec<u32>| s.iter().filter(|id| !tokenizer.is_special(**id)).count();
        let wanted = originals.iter().map(|s| (plain(s) as f64 * 0.15).round() as usize);
        assert_eq!(rows.len(), wanted.sum::<usize>());
        for (at, id) in before.iter().enumerate() {
            match rows.binary_search(&(at as u32)) {
                Ok(i) => {
                    assert!(!tokenizer.is_special(*id), "a special token was chosen");
                    assert_eq!(targets[i], *id as i32);
                    assert!(after[at] == mask || !tokenizer.is_special(after[at]));
                    masks += usize::from(after[at] == mask);
                    kept += usize::from(after[at] == *id);
                    all += 1;
                }
                Err(_) => assert_eq!(after[at], *id, "what isn't chosen stays"),
            }
        }
    }
    let share = |n: usize| n as f64 / all as f64;
    assert!((share(masks) - 0.8).abs() < 0.02, "{masks} of {all} became the mask");
    // A tenth stays, and a random token is the same by chance now and then.
    assert!((share(kept) - 0.1).abs() < 0.02, "{kept} of {all} stayed");
}

#[test]
fn draws_depend_on_the_seed_and_the_number_alone() {
    let tokenizer = tokenizer();
    let masking = Masking::new(&tokenizer, 0.15, true).unwrap();
    let draw = |seed, number| {
        let mut sequences = vec![sequence(&tokenizer, 9)];
        (masking.apply(&mut sequences, seed, number), sequences)
    };
    assert_eq!(draw(1, 5), draw(1, 5));
    assert_ne!(draw(1, 5), draw(2, 5));
    assert_ne!(draw(1, 5), draw(1, 6));
}

#[test]
fn whole_words_are_chosen_together_and_chinese_characters_alone() {
    let tokenizer = tokenizer();
    let tokens = sequence(&tokenizer, 1);
    // The words by a plain reading of the text: runs of letters, and single others.
    let (mut word_of, mut word, mut at) = (HashMap::new(), 0, 0);
    let places: Vec<usize> = TEXT.char_indices().map(|(i, _)| i).collect();
    let chars: Vec<char> = TEXT.chars().collect();
    let mut word_at = vec![0; TEXT.len()];
    for (i, &char) in chars.iter().enumerate() {
        let joins = i > 0 && char.is_ascii_alphabetic() && chars[i - 1].is_ascii_alphabetic();
        let space = i > 0 && chars[i - 1] == ' ' && char.is_ascii_alphabetic();
        word += usize::from(!joins && !space);
        word_at[places[i]..places[i] + char.len_utf8()].fill(word);
    }
    for (i, &id) in tokens.iter().enumerate().filter(|(_, id)| !tokenizer.is_special(**id)) {
        word_of.insert(i as u32, word_at[at]);
        at += tokenizer.token_bytes(id).unwrap().len();
    }
    assert_eq!(at, TEXT.len(), "the tokens spell the text");
    let masking = Masking::new(&tokenizer, 0.3, true).unwrap();
    let mut of_several = 0;
    for number in 0..50 {
        let mut sequences = vec![tokens.clone()];
        let rows = masking.apply(&mut sequences, 3, number).rows;
        assert!(!rows.is_empty() && rows.len() <= (word_of.len() as f64 * 0.3).round() as usize);
        for row in &rows {
            let word = word_of[row];
            let others: Vec<&u32> = word_of.iter().filter(|(_, w)| **w == word).map(|(i, _)| i).collect();
            of_several += usize::from(others.len() > 1);
            assert!(others.iter().all(|i| rows.contains(i)), "a part of word {word} was chosen: {rows:?}");
        }
    }
    assert!(of_several > 20, "hardly a word has several tokens");
}

#[test]
fn what_cannot_be_masked_is_refused() {
    refused(Masking::new(&letters(true), 0.15, true), &["no [MASK]", "hint:"]);
    refused(Masking::new(&tokenizer(), 1.0, true), &["a masked share of 1", "above 0 and below 1"]);
}

#[test]
fn a_sequence_of_special_tokens_alone_stays() {
    let tokenizer = tokenizer();
    let masking = Masking::new(&tokenizer, 0.15, true).unwrap();
    for times in 0..4 {
        let specials = vec![tokenizer.id_of("[CLS]").unwrap(); times];
        let mut sequences = vec![specials.clone(), sequence(&tokenizer, 1)];
        let masked = masking.apply(&mut sequences, 0, 0);
        assert_eq!(sequences[0], specials);
        assert!(masked.rows.iter().all(|&row| row as usize > times));
    }
}
