//! Beam search: against transformers, against greedy choice, against trying everything.

use crate::{bpe, engine, engine_of, greedy, one, random};
use hearth_engine::{BeamSearch, Engine, EngineError, FinishReason, Hypothesis, Prompt};
use hearth_model::{DecoderConfig, load_folder};
use hearth_tokenizer::{Tokenizer, train_chars};
use serde::Deserialize;
use std::ops::ControlFlow;
use std::path::Path;

fn search(engine: &mut Engine, search: &BeamSearch) -> Vec<Hypothesis> {
    let (found, _) = engine.beam_search(search, |_| ControlFlow::Continue(())).expect("searches");
    assert!(found.is_sorted_by(|a, b| a.score >= b.score));
    for hypothesis in &found {
        let length = hypothesis.tokens.len() as f64;
        assert_eq!(hypothesis.score, hypothesis.logprob / length.powf(search.length_penalty));
    }
    found
}

fn tokens(prompt: &[u32]) -> Prompt {
    Prompt::Tokens(prompt.to_vec())
}

/// A token for each character; `end` is one that ends a text.
fn letters(characters: impl Iterator<Item = char>, end: Option<char>) -> Tokenizer {
    let text: String = characters.collect();
    let tokenizer = train_chars([Ok::<_, std::io::Error>(text)].into_iter(), &[]).expect("trains");
    let config = serde_json::json!({ "eos_token": end.map(String::from) });
    tokenizer.with_config(config.as_object().expect("an object").clone())
}

#[derive(Deserialize)]
struct Case {
    model: String,
    prompt: Vec<u32>,
    beams: usize,
    length_penalty: f64,
    max_tokens: usize,
    end: u32,
    found: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    tokens: Vec<u32>,
    score: Option<f64>,
}

#[test]
fn searches_find_what_transformers_find() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("golden/beams.json")).expect("cases");
    assert!(cases.len() > 20);
    for case in &cases {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../train/tests/golden");
        let (decoder, weights) = load_folder(&models.join(&case.model)).expect("opens");
        let characters = || (' '..).take(decoder.config().vocab_size);
        let tokenizer = letters(characters(), characters().nth(case.end as usize));
        let mut engine = Engine::new(decoder.clone(), &weights, tokenizer).expect("fits");
        assert_eq!(engine.special().ends, [case.end]);
        let settings = BeamSearch {
            prompt: tokens(&case.prompt),
            length_penalty: case.length_penalty,
            n: case.beams,
            ..BeamSearch::new("", case.max_tokens, case.beams)
        };
        let found = search(&mut engine, &settings);
        let ours: Vec<&Vec<u32>> = found.iter().map(|hypothesis| &hypothesis.tokens).collect();
        let theirs: Vec<&Vec<u32>> = case.found.iter().map(|found| &found.tokens).collect();
        assert_eq!(ours, theirs, "{} {settings:?}", case.model);
        for (ours, theirs) in found.iter().zip(&case.found) {
            let off = theirs.score.map_or(0.0, |score| (ours.score - score).abs());
            assert!(off < 1e-4, "{} {settings:?}: off by {off}", case.model);
        }
    }
}

#[test]
fn one_beam_is_greedy() {
    let mut engine = engine_of(bpe(), 24);
    // The last one fills the context.
    for (prompt, max_tokens) in [("The cat", 12), ("春眠", 1), ("", 9), ("The dog ran", 100)] {
        let expect = one(&mut engine, greedy(prompt, max_tokens));
        let found = search(&mut engine, &BeamSearch::new(prompt, max_tokens, 1));
        assert_eq!(found.len(), 1);
        assert_eq!(
            (&found[0].tokens, &found[0].text, found[0].finish),
            (&expect.tokens, &expect.text, expect.finish)
        );
    }
    // So is one that a token ends; with `ignore_eos` it goes on.
    let likeliest = one(&mut engine, greedy("The cat", 5)).tokens;
    let tokenizer = bpe();
    let config = serde_json::json!({ "eos_token": tokenizer.token_of(likeliest[3]) });
    let tokenizer = tokenizer.with_config(config.as_object().expect("an object").clone());
    let mut engine = engine_of(tokenizer, 24);
    let mut settings = BeamSearch::new("The cat", 5, 1);
    let ended = search(&mut engine, &settings).remove(0);
    let expect = one(&mut engine, greedy("The cat", 5));
    assert_eq!((&ended.tokens, &ended.text), (&expect.tokens, &expect.text));
    assert_eq!((ended.finish, expect.finish), (FinishReason::Eos, FinishReason::Eos));
    settings.ignore_eos = true;
    assert_eq!(search(&mut engine, &settings)[0].tokens, likeliest);
}

/// Every continuation of a prompt by at most `most` tokens, with Σ ln p.
fn everything(engine: &mut Engine, prompt: &[u32], most: usize) -> Vec<(Vec<u32>, f64)> {
    let entries = engine.tokenizer().vocab_size();
    let ends = engine.special().ends.clone();
    let (mut open, mut complete) = (vec![(Vec::new(), 0.0)], Vec::new());
    while let Some((written, logprob)) = open.pop() {
        let mut sequence = engine.runner_mut().sequence(prompt.len() + most).expect("fits");
        let all = [prompt, &written[..]].concat();
        let logits = engine.runner_mut().prefill(&mut sequence, &all).expect("runs").to_vec();
        let total = logits.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
        for token in 0..entries as u32 {
            let longer =
                ([&written[..], &[token]].concat(), logprob + f64::from(logits[token as usize]) - total);
            let done = longer.0.len() == most || ends.contains(&token);
            if done { complete.push(longer) } else { open.push(longer) }
        }
    }
    complete
}

#[test]
fn a_search_wide_enough_finds_the_best_of_all() {
    for end in [None, Some('b')] {
        let mut engine = engine_of(letters("abcd".chars(), end), 32);
        let prompt = [0, 2, 3];
        let mut all = everything(&mut engine, &prompt, 4);
        assert_eq!(all.len(), if end.is_some() { 13 + 108 } else { 256 });
        for length_penalty in [0.0, 1.0, 2.0, -0.5] {
            let settings =
                BeamSearch { prompt: tokens(&prompt), length_penalty, n: 40, ..BeamSearch::new("", 4, 64) };
            let score =
                |(tokens, logprob): &(Vec<u32>, f64)| logprob / (tokens.len() as f64).powf(length_penalty);
            all.sort_by(|a, b| score(b).total_cmp(&score(a)));
            let found = search(&mut engine, &settings);
            assert_eq!(found.len(), 40);
            for (hypothesis, expect) in found.iter().zip(&all) {
                assert_eq!(hypothesis.tokens, expect.0, "end {end:?}, penalty {length_penalty}");
                assert!((hypothesis.logprob - expect.1).abs() < 1e-4, "{hypothesis:?}, expected {expect:?}");
            }
        }
    }
}

#[test]
fn a_wider_search_finds_no_worse_and_the_same_each_time() {
    let mut engine = engine();
    let mut last = f64::NEG_INFINITY;
    for beams in [1, 4, 16, 64] {
        let settings = BeamSearch { n: beams.min(3), ..BeamSearch::new("The cat sat", 20, beams) };
        let found = search(&mut engine, &settings);
        assert_eq!(found.len(), settings.n);
        // Not a law, but so it is for this model.
        assert!(found[0].score >= last, "{beams} beams: {} after {last}", found[0].score);
        last = found[0].score;
        for hypothesis in &found {
            assert_eq!(hypothesis.text, engine.tokenizer().decode(&hypothesis.tokens, true).expect("text"));
        }
        // Now from the sequence that the last search left, and from an empty one.
        assert_eq!(search(&mut engine, &settings), found);
        assert_eq!(search(&mut self::engine(), &settings), found);
    }
}

#[test]
fn there_may_be_fewer_than_asked_for() {
    let mut engine = engine_of(letters("abc".chars(), None), 16);
    let settings = BeamSearch { prompt: tokens(&[1]), n: 8, ..BeamSearch::new("", 1, 8) };
    assert_eq!(search(&mut engine, &settings).len(), 3);
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let mut engine = engine();
    let mut check = |settings: BeamSearch, expect: &str| {
        let error = engine.beam_search(&settings, |_| ControlFlow::Continue(())).expect_err("refused");
        assert_eq!(error.to_string(), expect);
        assert!(error.is_input_error());
    };
    let cat = || BeamSearch::new("The cat", 5, 4);
    check(BeamSearch { beams: 0, ..cat() }, "beam search: beams is 0, expected 1 to 64");
    check(BeamSearch { beams: 65, ..cat() }, "beam search: beams is 65, expected 1 to 64");
    check(BeamSearch { n: 5, ..cat() }, "beam search: n is 5, expected 1 to 4, the number of beams");
    check(BeamSearch { n: 0, ..cat() }, "beam search: n is 0, expected 1 to 4, the number of beams");
    check(BeamSearch { max_tokens: 0, ..cat() }, "beam search: max_tokens is 0, expected at least 1");
    check(
        BeamSearch { length_penalty: f64::NAN, ..cat() },
        "beam search: length_penalty is NaN, expected a number",
    );
    let long = BeamSearch { prompt: tokens(&[1; 64]), ..cat() };
    let error = engine.beam_search(&long, |_| ControlFlow::Continue(())).expect_err("refused");
    assert!(matches!(error, EngineError::PromptTooLong { tokens: 64, context: 64 }), "{error}");
}

#[test]
fn breaking_off_ends_a_search() {
    let mut engine = engine();
    let mut heard = Vec::new();
    let error = engine.beam_search(&BeamSearch::new("The", 30, 3), |tokens| {
        heard.push(tokens);
        if tokens == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(error, Err(EngineError::Interrupted)));
    assert_eq!(heard, [1, 2, 3, 4]);
}

#[test]
fn logits_that_are_no_numbers_are_refused() {
    let tokenizer = bpe();
    let (decoder, mut weights) = random(DecoderConfig::native(tokenizer.vocab_size(), 32, 1, 32));
    weights.tensors_mut().iter_mut().for_each(|tensor| tensor.data_mut().fill(f32::NAN));
    let mut engine = Engine::new(decoder, &weights, tokenizer).expect("fits");
    let error = engine.beam_search(&BeamSearch::new("The", 3, 2), |_| ControlFlow::Continue(()));
    assert!(matches!(error, Err(EngineError::NotFinite { .. })), "{error:?}");
}
