//! Every way in which a continuation ends.

use crate::{bpe, chars, drawn, engine, engine_of, greedy, one, run};
use hearth_engine::{Completion, Engine, Event, FinishReason, Request};
use std::ops::ControlFlow;

/// Only tokens of at least two letters, so that stop strings can begin and end within tokens.
fn wordy(engine: &Engine, mut request: Request) -> Request {
    let tokenizer = engine.tokenizer();
    for id in 0..tokenizer.vocab_size() as u32 {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        if bytes.len() < 2 || !bytes.is_ascii() || tokenizer.is_special(id) {
            request.sampling.logit_bias.insert(id, f32::NEG_INFINITY);
        }
    }
    request
}

/// Every stop string of one to five bytes out of the middle ends the text where it first comes.
fn check_stops(engine: &mut Engine, request: &Request) {
    let full = one(engine, request.clone()).text;
    assert!(full.len() >= 30 && full.is_ascii(), "{full:?}");
    let mut across = 0;
    for start in (0..full.len() - 5).step_by(3) {
        let stop = full[start..start + 1 + start % 5].to_owned();
        let stopped = one(engine, Request { stop: vec![stop.clone()], ..request.clone() });
        let at = full.find(&stop).expect("it comes");
        assert_eq!((stopped.text.as_str(), stopped.finish), (&full[..at], FinishReason::Stop), "{stop:?}");
        across += usize::from(ends_within_a_token(engine, &stopped));
    }
    assert!(across > 0, "no stop string began within a token or went across two");
    // Of several the first to come counts; ones that never come take nothing away.
    let stop = vec!["\u{0}".into(), full[20..24].to_owned(), full[10..13].to_owned()];
    let at = full.find(&stop[1]).into_iter().chain(full.find(&stop[2])).min().expect("they come");
    assert_eq!(one(engine, Request { stop, ..request.clone() }).text, full[..at]);
    let nearly = format!("{}~", &full[full.len() - 4..]);
    let unstopped = one(engine, Request { stop: vec![nearly], ..request.clone() });
    assert_eq!((unstopped.text, unstopped.finish), (full, FinishReason::Length));
}

fn ends_within_a_token(engine: &Engine, stopped: &Completion) -> bool {
    let text = engine.tokenizer().decode(&stopped.tokens[..stopped.tokens.len() - 1], true).expect("decodes");
    text != stopped.text
}

#[test]
fn stop_strings_end_texts_wherever_tokens_begin() {
    let mut engine = engine();
    let request = wordy(&engine, drawn("The cat", 24, 3));
    check_stops(&mut engine, &request);
}

#[test]
fn stop_strings_across_one_letter_tokens() {
    let mut engine = engine_of(chars(), 64);
    let mut request = drawn("The cat", 40, 8);
    for id in 0..engine.tokenizer().vocab_size() as u32 {
        if !engine.tokenizer().token_bytes(id).is_some_and(|b| b.is_ascii())
            || engine.tokenizer().is_special(id)
        {
            request.sampling.logit_bias.insert(id, f32::NEG_INFINITY);
        }
    }
    let full = one(&mut engine, request.clone()).text;
    for start in 0..30 {
        let stop = &full[start..start + 4];
        let stopped = one(&mut engine, Request { stop: vec![stop.to_owned()], ..request.clone() });
        assert_eq!(stopped.text, full[..full.find(stop).expect("it comes")]);
        assert_eq!(stopped.finish, FinishReason::Stop);
    }
}

#[test]
fn a_full_context_ends_a_text() {
    let mut engine = engine_of(bpe(), 24);
    let mut request = greedy("The cat sat on the mat", 1000);
    request.ignore_eos = true;
    let full = one(&mut engine, request.clone());
    assert_eq!(full.finish, FinishReason::ContextFull);
    // The last token drawn needs no place of its own: nothing is drawn after it.
    assert_eq!(full.prompt_tokens + full.tokens.len(), 24 + 1);
    request.max_tokens = full.tokens.len();
    assert_eq!(one(&mut engine, request).finish, FinishReason::Length);
}

#[test]
fn the_longest_prompt_leaves_room_for_what_the_error_says() {
    let mut engine = engine_of(bpe(), 24);
    let prompt = engine.tokenizer().encode(crate::TEXT).expect("encodes");
    let with = |count: usize| Request {
        prompt: hearth_engine::Prompt::Tokens(prompt[..count].to_vec()),
        ..greedy("", 5)
    };
    assert_eq!(one(&mut engine, Request { ignore_eos: true, ..with(23) }).tokens.len(), 2);
    let error =
        engine.generate(&[greedy("a", 3), with(24)], |_| panic!("nothing may be written")).expect_err("no");
    assert_eq!(
        error.to_string(),
        "the prompt has 24 tokens, but the model's context holds 24, the continuation included\nhint: shorten the \
         prompt to at most 23 tokens"
    );
    assert!(error.is_input_error());
}

/// A request that makes the model end the text at once.
fn ending(engine: &Engine) -> Request {
    let eos = engine.tokenizer().eos().expect("a separator");
    let mut request = greedy("The cat", 12);
    request.sampling.logit_bias.insert(eos, 1000.0);
    request
}

#[test]
fn the_token_that_ends_a_text_ends_it() {
    let mut engine = engine();
    let eos = engine.tokenizer().eos().expect("a separator");
    let request = ending(&engine);
    let ended = one(&mut engine, request.clone());
    assert_eq!((ended.text.as_str(), &ended.tokens[..], ended.finish), ("", &[eos][..], FinishReason::Eos));
    let ignored = one(&mut engine, Request { ignore_eos: true, ..request });
    assert_eq!(
        (ignored.text.as_str(), ignored.tokens, ignored.finish),
        ("", vec![eos; 12], FinishReason::Length)
    );
    // Held-back text comes out when the model ends the text: it was no stop string after all.
    let mut late = drawn("The", 60, 1);
    late.sampling.logit_bias.insert(eos, 4.0);
    let late = run(&mut engine, &[Request { n: 16, stop: vec!["no such text".into()], ..late }]);
    let mut ends = late.iter().filter(|c| c.finish == FinishReason::Eos && c.tokens.len() > 2);
    let some = ends.next().expect("one of sixteen ends by itself after a while");
    assert_eq!(some.tokens.last(), Some(&eos));
    assert_eq!(some.tokens.iter().filter(|&&t| t == eos).count(), 1);
}

#[test]
fn breaking_off_ends_all() {
    let mut engine = engine();
    let requests = [Request { n: 3, ..drawn("The", 30, 1) }, drawn("cat", 30, 2), drawn("dog", 0, 3)];
    let full = run(&mut engine, &requests);
    for break_at in [1, 4, 20] {
        let mut pieces = 0;
        let (cut, _) = engine
            .generate(&requests, |event| {
                pieces += usize::from(matches!(event, Event::Text { .. }));
                if pieces >= break_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .expect("no error");
        assert!(cut.iter().any(|c| c.finish == FinishReason::Cancelled));
        for c in &cut {
            let whole =
                full.iter().find(|f| (f.request, f.sequence) == (c.request, c.sequence)).expect("known");
            assert!(whole.text.starts_with(&c.text), "{:?} is no beginning of {:?}", c.text, whole.text);
            assert!(c == whole || c.finish == FinishReason::Cancelled);
            assert!(whole.tokens.starts_with(&c.tokens));
        }
        // The engine is as good as before.
        assert_eq!(run(&mut engine, &requests), full);
    }
}

#[test]
fn breaking_off_leaves_waiting_requests_undone() {
    let mut engine = engine();
    let requests: Vec<Request> = (0..100).map(|i| drawn("The", 20, i)).collect();
    let (cut, timings) = engine.generate(&requests, |_| ControlFlow::Break(())).expect("no error");
    assert!(cut.len() <= 64, "{} were begun", cut.len());
    assert!(cut.iter().all(|c| c.finish == FinishReason::Cancelled && c.tokens.len() == 1));
    assert_eq!(timings.generated_tokens, 0);
}
