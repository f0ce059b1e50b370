//! A full context, and going on after it: exactly as from the text that is left.

use crate::{bpe, drawn, engine_of, greedy, one, random, run};
use hearth_engine::{CacheType, Draft, Engine, FinishReason, Prompt, Request, Speculation};
use hearth_model::{DecoderConfig, Family, config::Sliding};

const CONTEXT: usize = 24;

fn engines() -> [Engine; 3] {
    let vocab = bpe().vocab_size().next_multiple_of(64);
    let native = DecoderConfig::native(vocab, 32, 2, CONTEXT);
    let sliding = Some(Sliding { window: 6, every: 2, rope_theta: 1e3 });
    let gemma = DecoderConfig { family: Family::Gemma3, sliding, ..native.clone() };
    [native, DecoderConfig::gpt2(vocab, 32, 2, 2, CONTEXT), gemma].map(|config| {
        let (decoder, weights) = random(config);
        Engine::new(decoder, &weights, bpe()).expect("fits")
    })
}

fn shifting(keep: usize, request: Request) -> Request {
    Request { context_shift: Some(keep), ignore_eos: true, ..request }
}

/// What a fresh engine makes of each text that is left, put together.
fn by_hand(engine: &mut Engine, keep: usize, request: &Request) -> (Vec<u32>, usize) {
    let Prompt::Text(text) = &request.prompt else { panic!("a text") };
    let (mut text, mut written) = (engine.prompt_tokens(text).expect("encodes"), Vec::new());
    let (block, mut dropped) = ((CONTEXT - keep) / 2, 0);
    while text.len() >= CONTEXT {
        text.drain(keep..keep + block);
        dropped += block;
    }
    loop {
        let max_tokens = request.max_tokens - written.len();
        let prompt = Prompt::Tokens(text.clone());
        // Which forgets the last sequence.
        engine.set_cache_type(CacheType::F32);
        let part = one(engine, Request { prompt, max_tokens, context_shift: None, ..request.clone() });
        written.extend(&part.tokens);
        if part.finish != FinishReason::ContextFull {
            return (written, dropped);
        }
        text.extend(&part.tokens);
        text.drain(keep..keep + block);
        dropped += block;
    }
}

#[test]
fn it_goes_on_as_a_fresh_sequence_of_what_is_left_does() {
    for (mut engine, mut cold) in engines().into_iter().zip(engines()) {
        for (keep, max_tokens) in [(0, 80), (3, 60), (10, 31), (CONTEXT - 4, 40)] {
            let mut request = shifting(keep, greedy("The cat", max_tokens));
            request.sampling.repetition_penalty = 1.3;
            let got = one(&mut engine, request.clone());
            let (tokens, dropped) = by_hand(&mut cold, keep, &request);
            assert_eq!((&got.tokens, got.dropped_tokens), (&tokens, dropped), "keeping {keep}");
            assert_eq!((got.tokens.len(), got.finish), (max_tokens, FinishReason::Length));
            assert!(dropped > 0 && got.prompt_tokens < CONTEXT);
        }
    }
}

#[test]
fn a_prompt_that_is_too_long_loses_tokens_in_the_same_way() {
    let [mut engine, ..] = engines();
    let [mut cold, ..] = engines();
    for (text, keep) in [(crate::TEXT, 4), ("The cat sat on the mat, and the dog ran after the cat", 0)] {
        let request = shifting(keep, greedy(text, 40));
        let got = one(&mut engine, request.clone());
        assert_eq!((got.tokens, got.dropped_tokens), by_hand(&mut cold, keep, &request));
    }
}

#[test]
fn it_leaves_other_sequences_alone_and_is_the_same_with_drafts() {
    for mut engine in engines() {
        let mut requests: Vec<Request> = (0..9)
            .map(|i| {
                let request =
                    Request { n: 1 + i % 3, ..drawn(&"The cat ".repeat(i % 4), 20 + 7 * i, i as u64) };
                shifting((3 * i).min(CONTEXT - 2), request)
            })
            .collect();
        requests[4].context_shift = None;
        let together = run(&mut engine, &requests);
        assert!(together.iter().filter(|c| c.dropped_tokens > 0).count() > 9);
        assert!(together.iter().filter(|c| c.request == 4).all(|c| c.finish == FinishReason::ContextFull));
        for (i, request) in requests.iter().enumerate() {
            let alone = run(&mut engine, std::slice::from_ref(request));
            let among = together.iter().filter(|c| c.request == i);
            assert!(alone.iter().map(|c| (&c.tokens, &c.text)).eq(among.map(|c| (&c.tokens, &c.text))));
        }
        let [native, ..] = engines();
        for draft in [Draft::PromptLookup { min_match: 1 }, Draft::Model(Box::new(native))] {
            engine.set_speculation(Some(Speculation { draft, max_tokens: 9 })).expect("fits");
            assert!(run(&mut engine, &requests) == together);
        }
    }
}

#[test]
fn the_next_turn_goes_on_from_what_was_left() {
    let mut engine = engine_of(bpe(), 64);
    let mut text = engine.prompt_tokens("The cat sat on the mat").expect("encodes");
    for turn in 0..12 {
        let prompt = Prompt::Tokens(text.clone());
        let request = shifting(5, Request { prompt, ..drawn("", 7, turn) });
        let before = text.len();
        let (completions, timings) =
            engine.generate(&[request], |_| std::ops::ControlFlow::Continue(())).expect("generates");
        text.extend(&completions[0].tokens);
        text.extend(engine.tokenizer().encode(" the dog").expect("encodes"));
        // A shift happens once in (64 - 5) / 2 tokens; every other turn takes in what is new.
        let taken_in = timings.prompt_tokens;
        assert!(taken_in < 10 || (before >= 64 && taken_in < 40) || turn == 0, "{turn}: {timings:?}");
    }
    assert!(text.len() > 120);
}

#[test]
fn a_beginning_that_fills_the_context_is_refused() {
    let [mut engine, ..] = engines();
    for keep in [CONTEXT - 1, CONTEXT, usize::MAX] {
        let error =
            engine.generate(&[shifting(keep, greedy("a", 3))], |_| panic!("no text")).expect_err("refused");
        assert_eq!(
            error.to_string(),
            format!(
                "request 0: a context shift that keeps {keep} tokens, but the model's context holds 24: expected at \
                 most 22"
            )
        );
        assert!(error.is_input_error());
    }
}
