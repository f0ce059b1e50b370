//! Continuations: the same request gives the same text, whatever runs beside it.

use crate::{bpe, drawn, engine, engine_of, greedy, one, random, run};
use hearth_engine::{Engine, FinishReason, Prompt, Request, Sampling};
use hearth_model::DecoderConfig;
use std::collections::HashSet;

#[test]
fn greedy_is_deterministic_and_takes_the_likeliest() {
    let mut engine = engine();
    let first = one(&mut engine, greedy("The cat", 20));
    assert_eq!(first, one(&mut engine, greedy("The cat", 20)));
    assert_eq!((first.tokens.len(), first.finish), (20, FinishReason::Length));
    // Whatever the seed is.
    let mut seeded = greedy("The cat", 20);
    seeded.sampling.seed = 99;
    assert_eq!(one(&mut engine, seeded), first);

    // Step by step through the runner, the largest logit of those that have a token.
    let prompt = engine.prompt_tokens("The cat").expect("encodes");
    let entries = engine.tokenizer().vocab_size();
    let mut sequence = engine.runner_mut().sequence(60).expect("fits");
    let mut fed = prompt.clone();
    for &expect in &first.tokens {
        let logits = &engine.runner_mut().prefill(&mut sequence, &fed).expect("runs")[..entries];
        let best = (0..entries).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("some");
        assert_eq!(best as u32, expect);
        fed = vec![expect];
    }
    assert!(
        first.tokens.iter().collect::<HashSet<_>>().len() > 3,
        "too dull to test with: {:?}",
        first.tokens
    );
}

#[test]
fn top_k_1_is_greedy() {
    let mut engine = engine();
    let mut request = drawn("on the mat", 24, 5);
    request.sampling.top_k = 1;
    assert_eq!(one(&mut engine, request), one(&mut engine, greedy("on the mat", 24)));
}

/// Prompts and lengths of all kinds, more of them than take a step together.
pub(crate) fn crowd() -> Vec<Request> {
    let prompts =
        ["The cat", "春眠不觉晓，", "a", "", "The dog ran after the cat. The cat sat on the mat", "🎉"];
    (0..75)
        .map(|i| {
            let mut request = drawn(prompts[i % prompts.len()], (i * 7) % 29, i as u64);
            match i % 5 {
                0 => request.sampling.temperature = 0.0,
                1 => request.sampling.top_p = 0.7,
                2 => request.sampling.repetition_penalty = 1.5,
                3 => request.n = 1 + i % 4,
                _ => request.stop = vec!["e".into(), "at".into()],
            }
            request
        })
        .collect()
}

#[test]
fn a_text_is_the_same_alone_and_among_others() {
    let mut engine = engine();
    let requests = crowd();
    let together = run(&mut engine, &requests);
    for (i, request) in requests.iter().enumerate() {
        let alone = run(&mut engine, std::slice::from_ref(request));
        let among: Vec<_> = together.iter().filter(|c| c.request == i).collect();
        assert_eq!(alone.len(), among.len());
        for (a, b) in alone.iter().zip(among) {
            assert_eq!(
                (&a.text, &a.tokens, a.finish),
                (&b.text, &b.tokens, b.finish),
                "request {i}: {request:?}"
            );
        }
    }
    let reversed: Vec<Request> = requests.iter().rev().cloned().collect();
    let backwards = run(&mut engine, &reversed);
    let text_of = |all: &[hearth_engine::Completion], i: usize| {
        all.iter().filter(|c| c.request == i).map(|c| c.text.clone()).collect::<Vec<_>>()
    };
    for i in 0..requests.len() {
        assert_eq!(
            text_of(&together, i),
            text_of(&backwards, requests.len() - 1 - i),
            "request {i}, order reversed"
        );
    }
}

#[test]
fn gpt2s_shape_generates_the_same_in_company_too() {
    let tokenizer = bpe();
    let (decoder, weights) = random(DecoderConfig::gpt2(tokenizer.vocab_size(), 32, 2, 2, 40));
    let mut engine = Engine::new(decoder, &weights, tokenizer).expect("fits");
    let requests: Vec<Request> = (0..9).map(|i| drawn(&"cat ".repeat(i + 1), 4 * i, i as u64)).collect();
    let together = run(&mut engine, &requests);
    for (request, among) in requests.into_iter().zip(&together) {
        assert_eq!(one(&mut engine, request).tokens, among.tokens);
    }
}

#[test]
fn continuations_of_one_prompt_differ_and_a_seed_gives_them_again() {
    let mut engine = engine();
    let request = Request { n: 8, ..drawn("The dog", 16, 42) };
    let eight = run(&mut engine, std::slice::from_ref(&request));
    assert_eq!(eight.iter().map(|c| &c.tokens).collect::<HashSet<_>>().len(), 8, "all differ");
    assert_eq!(run(&mut engine, std::slice::from_ref(&request)), eight);
    let mut other = request.clone();
    other.sampling.seed = 43;
    assert_ne!(run(&mut engine, &[other])[0].tokens, eight[0].tokens);
    // Asking for fewer gives the first of them.
    assert_eq!(one(&mut engine, Request { n: 1, ..request }), eight[0]);
}

#[test]
fn prompts_may_be_tokens() {
    let mut engine = engine();
    let tokens = engine.tokenizer().encode("The cat sat").expect("encodes");
    let as_tokens = Request { prompt: Prompt::Tokens(tokens), ..greedy("", 12) };
    assert_eq!(one(&mut engine, as_tokens), one(&mut engine, greedy("The cat sat", 12)));
}

#[test]
fn an_empty_prompt_begins_a_text() {
    let mut engine = engine();
    let end_of_text = engine.tokenizer().eos().expect("a separator");
    assert_eq!(engine.prompt_tokens("").expect("begins"), [end_of_text]);
    let empty = one(&mut engine, greedy("", 10));
    assert_eq!(empty.prompt_tokens, 1);
    assert_eq!(
        empty,
        one(&mut engine, Request { prompt: Prompt::Tokens(vec![end_of_text]), ..greedy("", 10) })
    );
}

#[test]
fn no_tokens_asked_for_is_no_text() {
    let mut engine = engine();
    let none = one(&mut engine, greedy("The cat", 0));
    assert_eq!((none.text.as_str(), none.tokens.len(), none.finish), ("", 0, FinishReason::Length));
}

#[test]
fn ids_without_a_token_are_never_drawn() {
    let mut engine = engine();
    let entries = engine.tokenizer().vocab_size();
    assert!(entries < engine.config().vocab_size);
    let sampling = Sampling { temperature: 50.0, ..Sampling::default() };
    let request = Request { sampling, n: 40, ignore_eos: true, ..Request::new("The", 40) };
    let drawn = run(&mut engine, &[request]);
    let distinct: HashSet<u32> = drawn.iter().flat_map(|c| c.tokens.iter().copied()).collect();
    assert!(distinct.iter().all(|&id| (id as usize) < entries));
    assert!(distinct.len() > entries / 2, "at this temperature nearly every token comes: {}", distinct.len());
}

#[test]
fn no_requests_are_no_work() {
    assert_eq!(run(&mut engine_of(bpe(), 16), &[]), []);
}
