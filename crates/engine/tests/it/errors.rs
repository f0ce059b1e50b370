//! What wrong calls are told.

use crate::{bpe, engine, engine_of, greedy, random};
use hearth_engine::{Engine, Prompt, Request, Sampling};
use hearth_model::{DecoderConfig, Weights};
use hearth_tokenizer::train_chars;
use std::ops::ControlFlow;

fn check(engine: &mut Engine, request: Request, expect: &str) {
    // A good request before it: nothing of it may be written either.
    let requests = [greedy("The", 3), request];
    let error = engine.generate(&requests, |_| panic!("nothing may be written")).expect_err("refused");
    assert_eq!(error.to_string(), expect);
    assert!(error.is_input_error(), "{error}");
}

#[test]
fn settings_outside_their_range() {
    let mut engine = engine();
    let mut wrong = |change: &dyn Fn(&mut Sampling), expect: &str| {
        let mut request = greedy("The cat", 5);
        change(&mut request.sampling);
        check(&mut engine, request, expect);
    };
    wrong(&|s| s.temperature = -0.5, "sampling: temperature is -0.5, expected 0 (greedy) or more");
    wrong(&|s| s.temperature = f32::NAN, "sampling: temperature is NaN, expected 0 (greedy) or more");
    wrong(&|s| s.top_p = 0.0, "sampling: top_p is 0, expected more than 0, at most 1");
    wrong(&|s| s.top_p = 1.5, "sampling: top_p is 1.5, expected more than 0, at most 1");
    wrong(&|s| s.min_p = 2.0, "sampling: min_p is 2, expected 0 to 1");
    wrong(&|s| s.repetition_penalty = 0.0, "sampling: repetition_penalty is 0, expected more than 0");
    wrong(
        &|s| s.logit_bias.extend([(3, f32::INFINITY)]),
        "sampling: logit_bias is inf, expected a number, or minus infinity",
    );
}

#[test]
fn requests_that_cannot_be() {
    let mut engine = engine();
    let cat = || greedy("The cat", 5);
    check(&mut engine, Request { n: 0, ..cat() }, "request 1: 0 continuations asked for, expected 1 to 64");
    check(&mut engine, Request { n: 65, ..cat() }, "request 1: 65 continuations asked for, expected 1 to 64");
    check(
        &mut engine,
        Request { stop: vec!["a".into(), String::new()], ..cat() },
        "request 1: an empty stop string would end every text at once",
    );
    let vocab = engine.config().vocab_size;
    check(
        &mut engine,
        Request { prompt: Prompt::Tokens(vec![1, 9999]), ..cat() },
        &format!(
            "token id 9999 is outside the model's vocabulary of {vocab}\nhint: was the text encoded with another \
             model's tokenizer?"
        ),
    );
}

#[test]
fn prompts_that_have_no_tokens() {
    let letters =
        || train_chars([Ok::<_, std::io::Error>("abc ".to_owned())].into_iter(), &[]).expect("trains");
    let mut engine = engine_of(letters(), 32);
    let with = |prompt: &str| Request { prompt: Prompt::Text(prompt.into()), ..greedy("", 3) };
    let error = engine.generate(&[with("")], |_| ControlFlow::Continue(())).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the prompt is empty, and the tokenizer has no token that begins a text (neither bos, nor eos, nor \
         <|endoftext|>)\nhint: give at least one character to continue from"
    );
    let error = engine.generate(&[with("abd")], |_| ControlFlow::Continue(())).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "character 'd' (U+0064) at byte 2 is not in the vocabulary, and the tokenizer has no unknown token\nhint: \
         train the tokenizer on text that contains it, or use a byte-level tokenizer"
    );
}

#[test]
fn a_tokenizer_larger_than_the_vocabulary() {
    let (decoder, weights) = random(DecoderConfig::native(300, 32, 1, 32));
    let error = Engine::new(decoder, &weights, bpe()).expect_err("refused");
    assert_eq!(
        error.to_string(),
        format!(
            "engine: the tokenizer has {} entries, but the model's vocabulary only 300\nhint: the two don't belong \
             together; use the tokenizer that the model was trained with",
            bpe().vocab_size()
        )
    );
}

#[test]
fn damaged_weights_are_told_from_wrong_input() {
    let (decoder, mut weights): (_, Weights) = random(DecoderConfig::native(320 + 64, 32, 1, 32));
    weights.tensors_mut()[0].data_mut().fill(f32::NAN);
    let mut engine = Engine::new(decoder, &weights, bpe()).expect("fits");
    let expect = "the model's logits at position 2 aren't finite numbers\nhint: its weights are damaged, or its \
                  training diverged; go back to an earlier checkpoint";
    let prompt = Prompt::Tokens(vec![5, 6]);
    let request = Request { prompt, ..greedy("", 3) };
    let error = engine.generate(&[request], |_| ControlFlow::Continue(())).expect_err("refused");
    assert_eq!(error.to_string(), expect);
    assert!(!error.is_input_error());
    let error =
        engine.score_tokens(&[5, 6], None, false, |_| ControlFlow::Continue(())).expect_err("refused");
    assert_eq!(error.to_string(), expect.replace("position 2", "position 1"));
}

#[test]
fn nothing_left_to_choose() {
    let mut engine = engine_of(
        train_chars([Ok::<_, std::io::Error>("ab".to_owned())].into_iter(), &[]).expect("trains"),
        64,
    );
    let mut request = greedy("a", 60);
    request.sampling.no_repeat_ngram = 1;
    let error = engine.generate(&[request], |_| ControlFlow::Continue(())).expect_err("runs out");
    assert_eq!(
        error.to_string(),
        "no token is left to choose at position 2\nhint: raise no_repeat_ngram (or set it to 0), or remove biases \
         of minus infinity"
    );
}
