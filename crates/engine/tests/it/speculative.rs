//! Speculative decoding: whatever drafts, the output is that of ordinary decoding.

use crate::generate::crowd;
use crate::{bpe, chars, drawn, engine_of, greedy, one, random, run, texts};
use hearth_engine::{
    CacheType, Completion, Constraint, Draft, Engine, Event, FinishReason, Prompt, Request, Speculation,
    Timings,
};
use hearth_model::{Decoder, DecoderConfig, Family, Weights, config::Sliding};
use hearth_tokenizer::{BpeTrainer, PreTokenizer};
use serde_json::json;
use std::ops::ControlFlow;

/// Small models of three shapes: the native one, GPT-2's, and one most of whose blocks see only six tokens.
fn configs(context: usize) -> [DecoderConfig; 3] {
    let vocab = bpe().vocab_size().next_multiple_of(64);
    let native = DecoderConfig::native(vocab, 32, 2, context);
    let sliding = Some(Sliding { window: 6, every: 2, rope_theta: 1e3 });
    let gemma = DecoderConfig { family: Family::Gemma3, sliding, ..native.clone() };
    [native, DecoderConfig::gpt2(vocab, 32, 2, 2, context), gemma]
}

/// One that is sure of most of its tokens, so that its drafts are longer than one.
fn engine_with(config: DecoderConfig) -> Engine {
    let (decoder, mut weights) = random(config);
    let head = decoder.specs().iter().position(|spec| spec.name == "lm_head.weight").expect("not tied");
    weights.tensors_mut()[head].data_mut().iter_mut().for_each(|x| *x *= 12.0);
    Engine::new(decoder, &weights, bpe()).expect("fits")
}

/// One that knows nothing of the others.
fn hostile(context: usize) -> Box<Engine> {
    let vocab = bpe().vocab_size();
    let decoder = Decoder::new(DecoderConfig::native(vocab, 32, 1, context)).expect("valid");
    let weights = Weights::init(&decoder, 99, false);
    Box::new(Engine::new(decoder, &weights, bpe()).expect("fits"))
}

fn lookup(min_match: usize) -> Draft {
    Draft::PromptLookup { min_match }
}

fn speculate(engine: &mut Engine, draft: Draft, max_tokens: usize) {
    engine.set_speculation(Some(Speculation { draft, max_tokens })).expect("fits");
}

fn counted(engine: &mut Engine, requests: &[Request]) -> (Vec<Completion>, Timings) {
    engine.generate(requests, |_| ControlFlow::Continue(())).expect("generates")
}

/// The requests with and without, together and alone; returns what it counted.
fn check(engine: &mut Engine, speculation: Vec<(Draft, usize)>, requests: &[Request]) -> Vec<Timings> {
    engine.set_speculation(None).expect("nothing to refuse");
    let (expect, plain) = counted(engine, requests);
    assert_eq!((plain.drafted_tokens, plain.accepted_tokens), (0, 0));
    let each = speculation.into_iter().map(|(draft, max_tokens)| {
        let name = format!("{draft:?}").chars().take(30).collect::<String>();
        speculate(engine, draft, max_tokens);
        // Not with `assert_eq`, which would print all of them.
        for (got, expect) in run(engine, requests).iter().zip(&expect) {
            assert!(got == expect, "{name}, at most {max_tokens}: {got:?}, without {expect:?}");
        }
        let (again, timings) = counted(engine, requests);
        assert!(again == expect, "{name}: a second time");
        assert_eq!(timings.generated_tokens, plain.generated_tokens);
        assert!(timings.accepted_tokens <= timings.drafted_tokens);
        for (i, request) in requests.iter().enumerate().step_by(7) {
            let alone = run(engine, std::slice::from_ref(request));
            assert!(
                alone
                    .iter()
                    .map(|c| &c.tokens)
                    .eq(expect.iter().filter(|c| c.request == i).map(|c| &c.tokens))
            );
        }
        timings
    });
    each.collect()
}

#[test]
fn the_output_is_that_of_ordinary_decoding() {
    let mut requests = crowd();
    requests.iter_mut().step_by(4).for_each(|request| request.logprobs = Some(3));
    requests.iter_mut().skip(1).step_by(6).for_each(|request| request.sampling.no_repeat_ngram = 3);
    requests.push(Request { ignore_eos: true, ..greedy("The cat", 60) });
    for config in configs(64) {
        let mut engine = engine_with(config.clone());
        let same = || Draft::Model(Box::new(engine_with(config.clone())));
        let speculation = vec![
            (lookup(1), 16),
            (lookup(2), 1),
            (lookup(3), 5),
            (same(), 3),
            (same(), 16),
            (Draft::Model(hostile(64)), 8),
            (Draft::Model(hostile(20)), 8),
        ];
        let counts = check(&mut engine, speculation, &requests);
        assert!(counts.iter().all(|timings| timings.drafted_tokens > 0), "{counts:?}");
        assert!(counts[0].accepted_tokens > 0 && counts[3].accepted_tokens > 100, "{counts:?}");
    }
}

#[test]
fn a_narrow_cache_and_a_full_context_change_nothing() {
    for (config, cache_type) in configs(24).into_iter().zip([CacheType::Q8_0, CacheType::F16, CacheType::F32])
    {
        let mut engine = engine_with(config.clone());
        engine.set_cache_type(cache_type);
        let requests: Vec<Request> = (0..6)
            .map(|i| Request { ignore_eos: true, n: 1 + i % 3, ..drawn(&"The cat ".repeat(i), 50, i as u64) })
            .chain([Request { ignore_eos: true, ..greedy("The cat", 50) }])
            .collect();
        let same = Box::new(engine_with(config));
        check(&mut engine, vec![(lookup(1), 9), (Draft::Model(same), 9)], &requests);
        let all = run(&mut engine, &requests);
        assert!(all.iter().all(|c| c.finish == FinishReason::ContextFull), "{all:?}");
    }
}

#[test]
fn constraints_and_stop_strings_hold_within_a_draft() {
    let mut engine = engine_of(bpe(), 512);
    let schema =
        json!({"type": "array", "items": {"enum": ["red", "蓝", "it's"]}, "minItems": 6, "maxItems": 9});
    let mut requests: Vec<Request> = (0..12)
        .map(|seed| {
            let constraint = match seed % 2 {
                0 => Constraint::JsonSchema(schema.clone()),
                _ => Constraint::Regex("(cat|the mat)( sat| ran){20,60}".into()),
            };
            let mut request = Request { constraint: Some(constraint), ..drawn("The cat", 120, seed) };
            request.sampling.temperature = if seed < 4 { 0.0 } else { 0.8 };
            request
        })
        .collect();
    requests.push(Request { stop: vec!["ran ran".into(), "sat".into()], ..requests[1].clone() });
    let long = one(&mut engine, Request { ignore_eos: true, ..greedy("The dog", 200) });
    let stops = (40..long.text.len() - 4).step_by(9).filter_map(|at| long.text.get(at..at + 3));
    requests.extend(stops.take(9).map(|stop| Request {
        stop: vec![stop.to_owned()],
        ignore_eos: true,
        ..greedy("The dog", 200)
    }));
    let same = Box::new(engine_of(bpe(), 512));
    let counts = check(&mut engine, vec![(lookup(2), 7), (Draft::Model(same), 7)], &requests);
    assert!(counts.iter().all(|timings| timings.accepted_tokens > 5), "{counts:?}");
    engine.set_speculation(None).expect("nothing to refuse");
    let ends: Vec<FinishReason> = run(&mut engine, &requests).iter().map(|c| c.finish).collect();
    assert!(ends.contains(&FinishReason::Stop) && ends.contains(&FinishReason::Eos), "{ends:?}");
}

#[test]
fn a_draft_by_the_model_itself_is_right() {
    for config in configs(64) {
        let mut engine = engine_with(config.clone());
        speculate(&mut engine, Draft::Model(Box::new(engine_with(config))), 8);
        let request = Request { ignore_eos: true, ..greedy("The cat", 41) };
        let (_, timings) = counted(&mut engine, &[request]);
        assert_eq!(timings.accepted_tokens, timings.drafted_tokens);
        assert!(timings.drafted_tokens > 24, "drafts of more than one: {timings:?}");
        assert_eq!(timings.generated_tokens, 40);
    }
}

#[test]
fn what_was_wrong_is_forgotten_by_the_draft_model_too() {
    for config in configs(64) {
        let same = || Draft::Model(Box::new(engine_with(config.clone())));
        let (mut engine, mut longer) = (engine_with(config.clone()), engine_with(config.clone()));
        speculate(&mut engine, same(), 1);
        speculate(&mut longer, same(), 6);
        for seed in 0..5 {
            let mut request = Request { logprobs: Some(1), ignore_eos: true, ..drawn("The cat", 50, seed) };
            request.sampling.temperature = 5.0;
            let (completions, timings) = counted(&mut engine, std::slice::from_ref(&request));
            // One token is drafted at a time, the model's likeliest: it is right wherever that was drawn.
            let right = |at: usize| {
                let token = &completions[0].logprobs[at];
                token.chosen.token == token.top[0].token
            };
            let (mut at, mut drafted, mut accepted) = (1, 0, 0);
            while at < 50 {
                if at + 1 < 50 {
                    drafted += 1;
                    accepted += usize::from(right(at));
                    at += usize::from(right(at));
                }
                at += 1;
            }
            assert_eq!((timings.drafted_tokens, timings.accepted_tokens), (drafted, accepted));
            assert!(accepted > 0 && accepted < drafted, "{timings:?}");
            // Longer drafts can only be better: each begins with the model's likeliest token too.
            let (_, timings) = counted(&mut longer, &[request]);
            assert!(timings.accepted_tokens >= accepted, "{timings:?}, {accepted} one by one");
        }
    }
}

#[test]
fn a_draft_by_another_model_is_wrong_and_short() {
    let mut engine = engine_of(bpe(), 256);
    speculate(&mut engine, Draft::Model(hostile(256)), 8);
    let requests: Vec<Request> =
        (0..5).map(|seed| Request { ignore_eos: true, ..drawn("The cat", 200, seed) }).collect();
    let (_, timings) = counted(&mut engine, &requests);
    assert!(timings.accepted_tokens * 5 < timings.drafted_tokens, "{timings:?}");
    // Few more than one a step.
    assert!(timings.drafted_tokens < 5 * 199 * 6 / 5 + 5 * 4, "{timings:?}");
}

#[test]
fn the_next_prompt_goes_on_from_both_caches() {
    let [config, ..] = configs(128);
    let mut engine = engine_with(config.clone());
    let mut cold = engine_with(config.clone());
    speculate(&mut engine, Draft::Model(Box::new(engine_with(config))), 6);
    let mut text = engine.prompt_tokens("The cat sat").expect("encodes");
    for turn in 0..4 {
        let request = Request { prompt: Prompt::Tokens(text.clone()), ..drawn("", 17, turn) };
        let (completions, timings) = counted(&mut engine, std::slice::from_ref(&request));
        assert!(turn == 0 || timings.reused_tokens + 20 > text.len(), "{timings:?}");
        assert_eq!(completions[0], one(&mut cold, request));
        text.extend(&completions[0].tokens);
        text.extend(engine.tokenizer().encode(" on the mat").expect("encodes"));
    }
}

#[test]
fn breaking_off_within_a_draft_ends_all() {
    let mut engine = engine_of(bpe(), 64);
    let requests: Vec<Request> =
        (0..3).map(|seed| Request { n: 2, ignore_eos: true, ..drawn("The", 40, seed) }).collect();
    let full = run(&mut engine, &requests);
    speculate(&mut engine, Draft::Model(Box::new(engine_of(bpe(), 64))), 12);
    for break_at in [1, 9, 20, 30] {
        let mut pieces = 0;
        let (cut, _) = engine
            .generate(&requests, |event| {
                if let Event::Text { .. } = event {
                    pieces += 1;
                    // The first tokens of a prompt's two continuations come together.
                    assert!(pieces <= break_at + 1, "text after the caller broke off");
                }
                if pieces >= break_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .expect("no error");
        assert!(cut.iter().any(|c| c.finish == FinishReason::Cancelled));
        for c in &cut {
            let whole =
                full.iter().find(|f| (f.request, f.sequence) == (c.request, c.sequence)).expect("known");
            assert!(whole.tokens.starts_with(&c.tokens) && whole.text.starts_with(&c.text));
        }
        assert!(run(&mut engine, &requests) == full, "the engine is as good as before");
    }
}

#[test]
fn drafts_that_cannot_be_are_refused() {
    let mut engine = engine_of(bpe(), 64);
    let mut refused = |draft: Draft, max_tokens: usize| {
        let error = engine.set_speculation(Some(Speculation { draft, max_tokens })).expect_err("refused");
        assert!(error.is_input_error());
        error.to_string().split("\nhint: ").next().unwrap_or_default().to_owned()
    };
    assert_eq!(refused(lookup(0), 4), "draft: a match of 0 tokens, expected at least 1");
    assert_eq!(refused(lookup(2), 0), "draft: drafts of 0 tokens, expected at least 1");
    let letters = chars();
    let count = letters.vocab_size();
    let model = Draft::Model(Box::new(engine_of(letters, 64)));
    assert_eq!(refused(model, 4), format!("draft: its tokenizer has {count} tokens, the model's 330"));
    let other = texts().map(|text| text.map(|text| text.replace("cat", "cow")));
    let other = BpeTrainer::new(330, PreTokenizer::Qwen2).train(other, |_| {}).expect("trains");
    let message = refused(Draft::Model(Box::new(engine_of(other, 64))), 4);
    assert!(message.starts_with("draft: its token 2") && message.contains(", the model's \""), "{message}");
    // Refused, nothing is set.
    assert_eq!(counted(&mut engine, &[greedy("The cat", 30)]).1.drafted_tokens, 0);
}

#[test]
fn a_damaged_draft_model_is_named() {
    let mut engine = engine_of(bpe(), 64);
    let decoder = Decoder::new(DecoderConfig::native(bpe().vocab_size(), 32, 1, 64)).expect("valid");
    let mut weights = Weights::init(&decoder, 1, false);
    weights.tensors_mut().iter_mut().for_each(|tensor| tensor.data_mut().fill(f32::NAN));
    let draft = Box::new(Engine::new(decoder, &weights, bpe()).expect("fits"));
    speculate(&mut engine, Draft::Model(draft), 4);
    let error =
        engine.generate(&[greedy("The cat", 30)], |_| ControlFlow::Continue(())).expect_err("damaged");
    assert!(error.to_string().starts_with("draft: its logits at position "), "{error}");
}
