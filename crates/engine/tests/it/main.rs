//! Integration tests of the engine, in one binary, on tiny models with random weights.

mod beam;
mod bert_folder;
mod constraint;
mod context_shift;
mod conversation;
mod embed;
mod encoder_gguf;
mod errors;
mod generate;
mod gguf;
mod infill;
mod logprobs;
mod sampler;
mod schedule;
mod score;
mod sequence_ends;
mod special;
mod speculative;
mod stream;
mod template;
mod windows;

use hearth_engine::{Completion, Engine, Event, Request, Sampling};
use hearth_model::{Decoder, DecoderConfig, Weights};
use hearth_tokenizer::{BpeTrainer, END_OF_TEXT, PreTokenizer, Tokenizer, train_chars};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// English and Chinese, so that characters have one to four bytes.
const TEXT: &str = "The cat sat on the mat, and the cat's hat was on the mat too. The dog ran after the cat.\n\n\
    春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。床前明月光，疑是地上霜。举头望明月，低头思故乡。\n🎉🎉 party\n";

fn texts() -> impl Iterator<Item = Result<String, std::io::Error>> {
    [TEXT, TEXT].into_iter().map(|text| Ok(text.to_owned()))
}

fn bpe() -> Tokenizer {
    BpeTrainer::new(330, PreTokenizer::Qwen2).train(texts(), |_| {}).expect("trains")
}

fn chars() -> Tokenizer {
    train_chars(texts(), &[END_OF_TEXT.to_owned()]).expect("trains")
}

/// Random weights, large enough that a text doesn't just repeat its last token.
fn random(config: DecoderConfig) -> (Decoder, Weights) {
    let decoder = Decoder::new(DecoderConfig { tied_head: false, ..config }).expect("valid");
    let mut weights = Weights::init(&decoder, 11, false);
    for tensor in weights.tensors_mut().iter_mut().filter(|t| t.shape().len() == 2) {
        tensor.data_mut().iter_mut().for_each(|x| *x *= 12.0);
    }
    (decoder, weights)
}

/// A model of width 32 and two blocks. Its vocabulary is larger than the tokenizer's, as rounded-up
/// ones are.
fn engine_of(tokenizer: Tokenizer, context: usize) -> Engine {
    let vocab = tokenizer.vocab_size().next_multiple_of(64);
    let (decoder, weights) = random(DecoderConfig::native(vocab, 32, 2, context));
    Engine::new(decoder, &weights, tokenizer).expect("fits")
}

fn engine() -> Engine {
    engine_of(bpe(), 64)
}

fn greedy(prompt: &str, max_tokens: usize) -> Request {
    Request { sampling: Sampling::greedy(), ..Request::new(prompt, max_tokens) }
}

fn drawn(prompt: &str, max_tokens: usize, seed: u64) -> Request {
    Request { sampling: Sampling { seed, ..Sampling::default() }, ..Request::new(prompt, max_tokens) }
}

/// Continues the requests and checks on the way what holds for all: the text that was handed out is
/// the completions' text, piece by piece, and each continuation ends once, after its text.
fn run(engine: &mut Engine, requests: &[Request]) -> Vec<Completion> {
    let mut given: HashMap<(usize, usize), String> = HashMap::new();
    let mut ended = HashMap::new();
    let (completions, _) = engine
        .generate(requests, |event| {
            match event {
                Event::Text { request, sequence, text, .. } => {
                    assert!(!ended.contains_key(&(request, sequence)), "text after the end");
                    assert!(!text.is_empty());
                    given.entry((request, sequence)).or_default().push_str(text);
                }
                Event::End { request, sequence, reason } => {
                    assert_eq!(ended.insert((request, sequence), reason), None, "two ends");
                }
            }
            ControlFlow::Continue(())
        })
        .expect("generates");
    let expected: Vec<(usize, usize)> =
        requests.iter().enumerate().flat_map(|(i, r)| (0..r.n).map(move |j| (i, j))).collect();
    let got: Vec<(usize, usize)> = completions.iter().map(|c| (c.request, c.sequence)).collect();
    assert_eq!(got, expected, "completions come in the order of requests");
    for c in &completions {
        let key = (c.request, c.sequence);
        assert_eq!(given.remove(&key).unwrap_or_default(), c.text);
        assert_eq!(ended.get(&key), Some(&c.finish));
    }
    completions
}

fn one(engine: &mut Engine, request: Request) -> Completion {
    run(engine, &[request]).remove(0)
}
