//! Requests that come and go while others are being continued.

use crate::generate::crowd;
use crate::{bpe, drawn, engine, engine_of, greedy, random, run};
use hearth_engine::{
    Completion, Engine, EngineError, Event, FinishReason, Finished, Prompt, Request, Schedule, ScheduleLimits,
};
use hearth_model::DecoderConfig;
use std::collections::HashMap;
use std::ops::ControlFlow;

fn step(schedule: &mut Schedule, engine: &mut Engine) -> Vec<Finished> {
    schedule.step(engine, |_| ControlFlow::Continue(())).expect("runs")
}

/// Steps until nothing is left.
fn rest(schedule: &mut Schedule, engine: &mut Engine) -> Vec<Finished> {
    let mut finished = Vec::new();
    while !schedule.is_idle() {
        finished.extend(step(schedule, engine));
    }
    finished
}

fn alone(engine: &mut Engine, request: &Request) -> Vec<Completion> {
    run(engine, std::slice::from_ref(request))
}

fn same(id: usize, got: &[&Completion], expect: &[Completion]) {
    let of = |c: &Completion| (c.sequence, c.text.clone(), c.tokens.clone(), c.finish);
    let mut got: Vec<_> = got.iter().map(|c| of(c)).collect();
    got.sort_by_key(|c| c.0);
    assert_eq!(got, expect.iter().map(of).collect::<Vec<_>>(), "request {id}");
}

#[test]
fn requests_that_come_at_any_time_say_what_they_say_alone() {
    let mut engine = engine_of(bpe(), 400);
    engine.keep_prefixes(7);
    let long = "The cat sat on the mat, and the dog ran after it. ".repeat(12);
    let mut requests = crowd();
    for i in (0..requests.len()).step_by(9) {
        requests[i].prompt = Prompt::Text(format!("{}{i}", &long[..300 + i]));
    }
    let limits = ScheduleLimits { together: 9, pages: 60, waiting: 100 };
    let mut schedule = Schedule::new(limits);
    let mut finished = Vec::new();
    for (i, request) in requests.iter().enumerate() {
        schedule.submit(&engine, i, i as u64 % 3, request.clone()).expect("admitted");
        for _ in 0..i % 3 {
            finished.extend(step(&mut schedule, &mut engine));
            assert!(schedule.running() <= 9, "{} at once", schedule.running());
        }
    }
    finished.extend(rest(&mut schedule, &mut engine));
    assert!(engine.runner().pages().alive() <= 60, "{} pages", engine.runner().pages().alive());
    let mut plain = engine_of(bpe(), 400);
    for (i, request) in requests.iter().enumerate() {
        let of = |one: &&Finished| one.id == i;
        let got: Vec<&Completion> =
            finished.iter().filter(of).map(|one| one.completion.as_ref().expect("completes")).collect();
        same(i, &got, &alone(&mut plain, request));
    }
}

#[test]
fn a_cancelled_request_ends_in_the_next_step_and_no_other_does() {
    let mut engine = engine();
    let mut schedule = Schedule::new(ScheduleLimits { together: 2, ..ScheduleLimits::default() });
    let requests = [drawn("The cat", 30, 1), drawn("The dog", 30, 2), drawn("a", 5, 3), drawn("on", 5, 4)];
    for (i, request) in requests.iter().enumerate() {
        schedule.submit(&engine, i, 0, request.clone()).expect("admitted");
    }
    for _ in 0..6 {
        assert!(step(&mut schedule, &mut engine).is_empty(), "nothing ends yet");
    }
    // One that runs, one that waits.
    schedule.cancel(0);
    schedule.cancel(3);
    let ended = step(&mut schedule, &mut engine);
    let [Finished { id: 0, completion: Ok(completion), .. }] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!((completion.finish, completion.tokens.len()), (FinishReason::Cancelled, 6));
    let finished = rest(&mut schedule, &mut engine);
    let mut ids: Vec<usize> = finished.iter().map(|one| one.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
    for one in &finished {
        same(one.id, &[one.completion.as_ref().expect("completes")], &alone(&mut engine, &requests[one.id]));
    }
}

#[test]
fn a_common_beginning_is_taken_in_once() {
    let mut engine = engine_of(bpe(), 400);
    engine.keep_prefixes(4);
    let beginning = "春眠不觉晓，处处闻啼鸟。".repeat(6);
    let mut schedule = Schedule::new(ScheduleLimits::default());
    let request = |i: usize| greedy(&format!("{beginning}{i}"), 3);
    let tokens = engine.prompt_tokens(&beginning).expect("encodes").len();
    let mut reused = HashMap::new();
    // The first ends before the second comes; the third and the fourth come while others run.
    schedule.submit(&engine, 0, 0, request(0)).expect("admitted");
    let mut finished = rest(&mut schedule, &mut engine);
    schedule.submit(&engine, 1, 0, request(1)).expect("admitted");
    finished.extend(step(&mut schedule, &mut engine));
    let before = engine.runner().pages().alive();
    for i in [2, 3] {
        schedule.submit(&engine, i, 0, request(i)).expect("admitted");
    }
    finished.extend(step(&mut schedule, &mut engine));
    assert!(engine.runner().pages().alive() <= before + 2, "each new request has a last page of its own");
    finished.extend(rest(&mut schedule, &mut engine));
    for one in &finished {
        reused.insert(one.id, one.reused_tokens);
        let completion = one.completion.as_ref().expect("completes");
        same(one.id, &[completion], &alone(&mut engine_of(bpe(), 400), &request(one.id)));
    }
    assert_eq!(reused.remove(&0), Some(0));
    assert!(reused.values().all(|&count| count >= tokens - 1), "{reused:?} of {tokens}");
    engine.keep_prefixes(0);
    assert_eq!(engine.runner().pages().alive(), 0, "pages that nobody holds are gone");
}

#[test]
fn clients_take_turns_and_a_queue_has_an_end() {
    let mut engine = engine();
    let limits = ScheduleLimits { together: 2, waiting: 5, ..ScheduleLimits::default() };
    let mut schedule = Schedule::new(limits);
    for i in 0..4 {
        schedule.submit(&engine, i, 7, greedy("The cat", 4)).expect("admitted");
    }
    schedule.submit(&engine, 4, 8, greedy("The cat", 4)).expect("admitted");
    let error = schedule.submit(&engine, 5, 9, greedy("a", 4)).expect_err("too many");
    assert!(matches!(error, EngineError::QueueFull { waiting: 5 }), "{error}");
    let mut order = Vec::new();
    while !schedule.is_idle() {
        order.extend(step(&mut schedule, &mut engine).iter().map(|one| one.id));
    }
    assert_eq!(order[..2], [0, 4], "the second client's one request doesn't wait for all of the first's");
}

#[test]
fn a_long_prompt_holds_nobody_up() {
    let mut engine = engine_of(bpe(), 3000);
    let mut schedule = Schedule::new(ScheduleLimits::default());
    schedule.submit(&engine, 0, 0, greedy("The cat", 40)).expect("admitted");
    step(&mut schedule, &mut engine);
    let long: Vec<u32> = (0..2900).map(|i| 100 + i % 150).collect();
    let request = Request { prompt: Prompt::Tokens(long), ..greedy("", 2) };
    schedule.submit(&engine, 1, 0, request).expect("admitted");
    schedule.submit(&engine, 2, 0, greedy("The dog", 3)).expect("admitted");
    let mut tokens = [0; 3];
    let mut ended = 0;
    for _ in 0..5 {
        let finished = schedule.step(&mut engine, |event| {
            if let Event::Text { request, .. } = event {
                tokens[request] += 1;
            }
            ControlFlow::Continue(())
        });
        ended += finished.expect("runs").len();
    }
    assert_eq!(tokens[1], 0, "2,900 tokens take more than five steps");
    assert!(tokens[0] >= 3 && tokens[2] >= 1, "{tokens:?}");
    assert_eq!(ended + rest(&mut schedule, &mut engine).len(), 3);
}

#[test]
fn a_prompt_is_scored_as_a_text_is() {
    let mut engine = engine_of(bpe(), 300);
    let text = "The cat sat on the mat. 床前明月光，疑是地上霜。".repeat(4);
    let tokens = engine.prompt_tokens(&text).expect("encodes");
    let request = Request { prompt_logprobs: Some(3), ..greedy(&text, 0) };
    let mut schedule = Schedule::new(ScheduleLimits::default());
    for (i, request) in [greedy(&text, 9), request, greedy("a", 3)].into_iter().enumerate() {
        schedule.submit(&engine, i, 0, request).expect("admitted");
    }
    let finished = rest(&mut schedule, &mut engine);
    let scored = &finished.iter().find(|one| one.id == 1).expect("ended").prompt_logprobs;
    assert_eq!(scored.iter().map(|one| one.chosen.token).collect::<Vec<_>>(), tokens[1..]);
    let total: f64 = scored.iter().map(|one| -one.chosen.logprob).sum();
    let score = engine.score_tokens(&tokens, None, false, |_| ControlFlow::Continue(())).expect("scores");
    assert!((total / scored.len() as f64 - score.loss()).abs() < 1e-9, "{total} for {}", score.loss());
    assert!(scored.iter().all(|one| one.top.len() == 3 && one.top[0].logprob >= one.chosen.logprob));
}

#[test]
fn what_goes_wrong_with_one_request_ends_that_one() {
    let tokenizer = bpe();
    let (decoder, weights) = random(DecoderConfig::native(tokenizer.vocab_size(), 32, 2, 64));
    let mut engine = Engine::new(decoder, &weights, tokenizer).expect("fits");
    let mut impossible = drawn("The cat", 9, 1);
    impossible.sampling.logit_bias =
        (0..engine.tokenizer().vocab_size() as u32).map(|id| (id, f32::NEG_INFINITY)).collect();
    let mut schedule = Schedule::new(ScheduleLimits::default());
    for (i, request) in [drawn("The dog", 9, 2), impossible, drawn("a", 9, 3)].into_iter().enumerate() {
        schedule.submit(&engine, i, 0, request).expect("admitted");
    }
    let finished = rest(&mut schedule, &mut engine);
    let failed: Vec<usize> =
        finished.iter().filter(|one| one.completion.is_err()).map(|one| one.id).collect();
    assert_eq!((finished.len(), failed), (3, vec![1]));
}
