//! Text as it comes is the text of the tokens, whole characters at a time.

use crate::{bpe, drawn, engine_of, one, run};
use hearth_engine::{Engine, FinishReason, Prompt, Request};

/// Only these bytes, each a token of its own.
fn bytes_only(engine: &Engine, mut request: Request, bytes: &[u8]) -> Request {
    let tokenizer = engine.tokenizer();
    for id in 0..tokenizer.vocab_size() as u32 {
        if !tokenizer.token_bytes(id).is_some_and(|b| b.len() == 1 && bytes.contains(&b[0])) {
            request.sampling.logit_bias.insert(id, f32::NEG_INFINITY);
        }
    }
    request
}

/// The text that the tokens stand for, wrong bytes replaced.
fn bytes_as_text(engine: &Engine, tokens: &[u32]) -> String {
    let tokenizer = engine.tokenizer();
    let bytes: Vec<u8> = tokens
        .iter()
        .filter(|&&t| !tokenizer.is_special(t))
        .flat_map(|&t| tokenizer.token_bytes(t).expect("a token").to_vec())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn streamed_text_is_the_text_of_the_tokens() {
    let mut engine = engine_of(bpe(), 64);
    let requests: Vec<Request> = ["The cat", "春眠不", "🎉", ""]
        .iter()
        .flat_map(|prompt| (0..8).map(|seed| Request { ignore_eos: true, ..drawn(prompt, 40, seed) }))
        .collect();
    for c in run(&mut engine, &requests) {
        assert_eq!(c.text, bytes_as_text(&engine, &c.tokens), "request {}", c.request);
    }
}

/// The three bytes of one character in any order: it appears where they happen to stand in theirs.
#[test]
fn characters_put_together_byte_by_byte_come_whole() {
    let mut engine = engine_of(bpe(), 64);
    let request = Request { n: 32, ..drawn("The", 60, 4) };
    let request = bytes_only(&engine, request, "春".as_bytes());
    let (mut pieces, mut whole) = (Vec::new(), 0);
    let (completions, _) = engine
        .generate(&[request], |event| {
            if let hearth_engine::Event::Text { text, .. } = event {
                pieces.push(text.to_owned());
            }
            std::ops::ControlFlow::Continue(())
        })
        .expect("generates");
    for c in completions {
        assert_eq!(c.text, bytes_as_text(&engine, &c.tokens));
        whole += c.text.matches('春').count();
    }
    assert!(whole > 10, "the character came {whole} times");
    assert_eq!(pieces.iter().map(|p| p.matches('春').count()).sum::<usize>(), whole);
}

#[test]
fn a_character_that_the_prompt_began_is_finished() {
    let mut engine = engine_of(bpe(), 64);
    let byte = |b: u8| {
        let tokenizer = engine.tokenizer();
        (0..256).find(|&id| tokenizer.token_bytes(id) == Some(&[b])).expect("each byte has a token")
    };
    let [a, b, c] = *"眠".as_bytes() else { panic!("three bytes") };
    let prompt = Prompt::Tokens(vec![byte(b'x'), byte(a), byte(b)]);
    let request = bytes_only(&engine, Request { prompt, ..drawn("", 1, 0) }, &[c]);
    let finished = one(&mut engine, request);
    assert_eq!((finished.text.as_str(), finished.tokens.len()), ("眠", 1));
}

#[test]
fn an_unfinished_character_ends_as_its_replacement() {
    let mut engine = engine_of(bpe(), 64);
    let request = bytes_only(&engine, drawn("The", 1, 0), &"春".as_bytes()[..1]);
    let cut = one(&mut engine, request);
    assert_eq!((cut.text.as_str(), cut.finish), ("\u{FFFD}", FinishReason::Length));
}

#[test]
fn a_stop_string_of_several_bytes_a_character() {
    let mut engine = engine_of(bpe(), 64);
    let request = Request { n: 64, ..drawn("The", 60, 4) };
    let mut request = bytes_only(&engine, request, "春a".as_bytes());
    // Nearly uniform draws: the string comes once in 256.
    request.sampling.temperature = 50.0;
    let full = run(&mut engine, &[request.clone()]);
    request.stop = vec!["a春".into()];
    let mut stopped = 0;
    for (c, full) in run(&mut engine, &[request]).iter().zip(&full) {
        match full.text.find("a春") {
            Some(at) => assert_eq!((c.text.as_str(), c.finish), (&full.text[..at], FinishReason::Stop)),
            None => assert_eq!((&c.text, c.finish), (&full.text, full.finish)),
        }
        stopped += usize::from(c.finish == FinishReason::Stop);
    }
    assert!(stopped > 3, "{stopped} of 64 came to the stop string");
}
