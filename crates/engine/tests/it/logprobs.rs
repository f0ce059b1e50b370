//! Log-probabilities of generated tokens, against a softmax taken here.

use crate::{drawn, engine, greedy, one, run};
use hearth_engine::{Completion, Engine, EngineError, Request};

/// `ln softmax` of the whole row of logits after `tokens`.
fn distribution(engine: &mut Engine, tokens: &[u32]) -> Vec<f64> {
    let mut sequence = engine.runner_mut().sequence(tokens.len()).expect("fits");
    let logits = engine.runner_mut().prefill(&mut sequence, tokens).expect("runs");
    let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    logits.iter().map(|&l| (f64::from(l).exp() / total).ln()).collect()
}

fn check(engine: &mut Engine, prompt: &str, completion: &Completion, count: usize) {
    let entries = engine.tokenizer().vocab_size();
    let mut history = engine.prompt_tokens(prompt).expect("encodes");
    assert_eq!(completion.logprobs.len(), completion.tokens.len());
    for (&token, logprobs) in completion.tokens.iter().zip(&completion.logprobs) {
        let expect = distribution(engine, &history);
        let near = |got: f64, id: u32| assert!((got - expect[id as usize]).abs() < 1e-6, "{got} of {id}");
        assert_eq!(logprobs.chosen.token, token);
        near(logprobs.chosen.logprob, token);
        let mut order: Vec<u32> = (0..entries as u32).collect();
        order.sort_by(|&a, &b| expect[b as usize].total_cmp(&expect[a as usize]));
        let top: Vec<u32> = logprobs.top.iter().map(|l| l.token).collect();
        assert_eq!(top, order[..count]);
        logprobs.top.iter().for_each(|l| near(l.logprob, l.token));
        history.push(token);
    }
}

#[test]
fn they_are_those_of_the_model_whatever_is_drawn() {
    let mut engine = engine();
    let mut bent = drawn("The cat", 12, 4);
    bent.sampling.temperature = 1.7;
    bent.sampling.top_k = 9;
    bent.sampling.repetition_penalty = 1.4;
    bent.sampling.logit_bias.insert(70, 3.0);
    for (request, count) in [(greedy("The cat", 12), 3), (drawn("The cat", 12, 8), 1), (bent, 330)] {
        let count = count.min(engine.tokenizer().vocab_size());
        let plain = one(&mut engine, request.clone());
        assert_eq!(plain.logprobs, []);
        let told = one(&mut engine, Request { logprobs: Some(count), ..request });
        assert_eq!((&told.text, &told.tokens), (&plain.text, &plain.tokens), "asking changes nothing");
        check(&mut engine, "The cat", &told, count);
    }
}

#[test]
fn a_token_of_a_stop_string_has_one_too_and_none_means_only_the_chosen() {
    let mut engine = engine();
    let full = one(&mut engine, greedy("The cat", 20));
    let stop = full.text.chars().skip(8).take(3).collect::<String>();
    let request = Request { stop: vec![stop], logprobs: Some(0), n: 2, ..greedy("The cat", 20) };
    for completion in run(&mut engine, &[greedy("a", 4), request]).into_iter().skip(1) {
        check(&mut engine, "The cat", &completion, 0);
    }
}

#[test]
fn more_than_there_are_tokens_is_refused() {
    let mut engine = engine();
    let entries = engine.tokenizer().vocab_size();
    let error = engine
        .generate(&[Request { logprobs: Some(entries + 1), ..greedy("a", 3) }], |_| panic!("no text"))
        .expect_err("refused");
    assert!(matches!(error, EngineError::Request { request: 0, .. }));
    let expect =
        format!("request 0: logprobs of {} tokens asked for, but there are only {entries}", entries + 1);
    assert_eq!(error.to_string(), expect);
}
