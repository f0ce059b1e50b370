//! Scores against the losses that training's executor gives.

use crate::{TEXT, bpe, random};
use hearth_engine::{Engine, EngineError, Score, ScoreProgress, TokenScore};
use hearth_model::tape::{TokenBatch, Trainable};
use hearth_model::{Decoder, DecoderConfig, Weights};
use std::ops::ControlFlow;

struct Model {
    decoder: Decoder,
    weights: Weights,
    engine: Engine,
    tokens: Vec<u32>,
}

fn model(context: usize, repeats: usize) -> Model {
    let tokenizer = bpe();
    let tokens = tokenizer.encode(&TEXT.repeat(repeats)).expect("encodes");
    let (decoder, weights) = random(DecoderConfig::native(tokenizer.vocab_size(), 32, 2, context));
    let engine = Engine::new(decoder.clone(), &weights, tokenizer).expect("fits");
    Model { decoder, weights, engine, tokens }
}

impl Model {
    /// The nats of each position's prediction in one window, from logits over the whole of it.
    fn losses(&self, window: &[u32]) -> Vec<f64> {
        let batch = TokenBatch::causal(window.to_vec(), 1);
        let logits = Trainable::new(self.decoder.clone()).logits(&self.weights, &batch).expect("runs");
        let rows = logits.data().chunks_exact(self.decoder.config().vocab_size);
        rows.zip(&window[1..])
            .map(|(row, &target)| {
                let sum: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
                sum.ln() - f64::from(row[target as usize])
            })
            .collect()
    }

    fn score(&mut self, ctx: Option<usize>, half: bool) -> Score {
        let tokens = self.tokens.clone();
        self.engine.score_tokens(&tokens, ctx, half, |_| ControlFlow::Continue(())).expect("scores")
    }

    fn bytes_of(&self, tokens: &[u32]) -> usize {
        tokens.iter().map(|&id| self.engine.tokenizer().token_bytes(id).expect("a token").len()).sum()
    }
}

fn near(got: f64, expect: f64) {
    assert!((got - expect).abs() < 1e-4, "{got}, expected {expect}");
}

#[test]
fn every_token_after_the_first_of_a_window_counts_once() {
    let mut m = model(64, 1);
    let count = m.tokens.len();
    assert!(count > 80 && !count.is_multiple_of(64), "{count} tokens");
    for ctx in [None, Some(64), Some(63), Some(17), Some(count.min(60)), Some(2)] {
        let width = ctx.unwrap_or(64);
        let tokens = m.tokens.clone();
        let windows: Vec<&[u32]> = tokens.chunks(width).collect();
        let losses: Vec<f64> = windows.iter().flat_map(|w| m.losses(w)).collect();
        let bytes: usize = windows.iter().map(|w| m.bytes_of(&w[1..])).sum();
        let score = m.score(ctx, false);
        assert_eq!((score.tokens, score.bytes), (count - windows.len(), bytes), "windows of {width}");
        near(score.loss(), losses.iter().sum::<f64>() / losses.len() as f64);
        near(score.perplexity().ln(), score.loss());
        near(score.bits_per_byte(), score.nats / std::f64::consts::LN_2 / bytes as f64);
    }
}

#[test]
fn windows_longer_than_one_pass() {
    let mut m = model(700, 6);
    assert!(m.tokens.len() > 700, "{} tokens", m.tokens.len());
    let losses: Vec<f64> = m.tokens.chunks(700).flat_map(|w| m.losses(w)).collect();
    let score = m.score(None, false);
    assert_eq!(score.tokens, losses.len());
    near(score.loss(), losses.iter().sum::<f64>() / losses.len() as f64);
    let half = m.losses(&m.tokens[..700])[350..].to_vec();
    let score = m.score(None, true);
    assert_eq!(score.tokens, 349);
    near(score.loss(), half.iter().sum::<f64>() / 349.0);
}

/// As llama.cpp's perplexity tool: only full windows, and in each the predictions made at positions
/// n/2 to n - 2.
#[test]
fn half_scores_the_second_half_of_full_windows() {
    let mut m = model(64, 1);
    for ctx in [10, 11, 32, 64] {
        let losses: Vec<f64> =
            m.tokens.chunks_exact(ctx).flat_map(|w| m.losses(w)[ctx / 2..].to_vec()).collect();
        let bytes: usize = m.tokens.chunks_exact(ctx).map(|w| m.bytes_of(&w[ctx / 2 + 1..])).sum();
        let score = m.score(Some(ctx), true);
        assert_eq!(score.tokens, m.tokens.len() / ctx * (ctx - 1 - ctx / 2), "windows of {ctx}");
        assert_eq!(score.bytes, bytes);
        near(score.loss(), losses.iter().sum::<f64>() / losses.len() as f64);
    }
}

/// Each predicted token is told with its place, its log-probability and the likeliest one.
#[test]
fn tokens_are_told_one_by_one() {
    let mut m = model(64, 1);
    for (ctx, half) in [(20, false), (20, true), (64, false)] {
        let tokens = m.tokens.clone();
        let first = if half { ctx / 2 } else { 0 };
        let mut windows = tokens.chunks(ctx).filter(|w| !half || w.len() == ctx);
        let mut told: Vec<Vec<TokenScore>> = Vec::new();
        let mut keep = |p: ScoreProgress<'_>| {
            told.push(p.window.to_vec());
            ControlFlow::Continue(())
        };
        let score = m.engine.score_tokens(&tokens, Some(ctx), half, &mut keep).expect("scores");
        for told in &told {
            let window = windows.next().expect("as many windows");
            let expect: Vec<(usize, u32)> = window.iter().copied().enumerate().skip(first + 1).collect();
            assert_eq!(told.iter().map(|t| (t.position, t.token.token)).collect::<Vec<_>>(), expect);
            let batch = TokenBatch::causal(window.to_vec(), 1);
            let logits = Trainable::new(m.decoder.clone()).logits(&m.weights, &batch).expect("runs");
            let rows = logits.data().chunks_exact(m.decoder.config().vocab_size).skip(first);
            for ((t, loss), row) in told.iter().zip(&m.losses(window)[first..]).zip(rows) {
                near(-t.token.logprob, *loss);
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                near(f64::from(row[t.top.token as usize]), f64::from(largest));
                near(t.top.logprob - t.token.logprob, f64::from(largest - row[t.token.token as usize]));
            }
        }
        assert_eq!(windows.next(), None);
        let sum: f64 = told.iter().flatten().map(|t| -t.token.logprob).sum();
        near(sum / score.tokens as f64, score.loss());
    }
}

#[test]
fn text_is_scored_as_its_tokens_are() {
    let mut m = model(32, 1);
    let expect = m.score(None, false);
    let by_text = m.engine.score_text(TEXT, None, false, |_| ControlFlow::Continue(())).expect("scores");
    assert_eq!(by_text, expect);
    // A special token stands for no byte of text.
    let eos = m.engine.tokenizer().eos().expect("a separator");
    let score = m.engine.score_tokens(&[m.tokens[0], eos], None, false, |_| ControlFlow::Continue(()));
    assert_eq!(score.map(|s| (s.tokens, s.bytes)).expect("scores"), (1, 0));
}

#[test]
fn progress_reaches_the_end_and_may_stop() {
    let mut m = model(32, 1);
    let (tokens, mut seen) = (m.tokens.clone(), Vec::new());
    let score = m
        .engine
        .score_tokens(&tokens, Some(20), false, |p| {
            seen.push((p.read, p.of, p.so_far));
            ControlFlow::Continue(())
        })
        .expect("scores");
    assert_eq!(seen.len(), tokens.len().div_ceil(20));
    assert!(seen.windows(2).all(|w| w[0].0 < w[1].0) && seen.iter().all(|p| p.1 == tokens.len()));
    assert_eq!(seen.last().map(|p| (p.0, p.2)), Some((tokens.len(), score)));
    let stopped = m.engine.score_tokens(&tokens, Some(20), false, |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(EngineError::Interrupted)));
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let mut m = model(32, 1);
    let tokens = m.tokens.clone();
    let mut check = |tokens: &[u32], ctx, half, expect: &str| {
        let error =
            m.engine.score_tokens(tokens, ctx, half, |_| panic!("nothing to do")).expect_err("refused");
        assert_eq!(error.to_string(), expect);
        assert!(error.is_input_error());
    };
    let wide = "a scoring window of 33 tokens doesn't fit: expected 2 to 32, the model's context";
    check(&tokens, Some(33), false, wide);
    check(&tokens, Some(1), false, &wide.replace("33", "1"));
    check(
        &tokens[..1],
        None,
        false,
        "the text has 1 tokens, but scoring it needs at least 2\nhint: give a longer text",
    );
    check(
        &tokens[..31],
        None,
        true,
        "the text has 31 tokens, but scoring it needs at least 32\nhint: without --half a shorter text will do; or \
         give a smaller --ctx",
    );
    check(
        &[1, 5000],
        None,
        false,
        &format!(
            "token id 5000 is outside the model's vocabulary of {}\nhint: was the text encoded with another model's \
             tokenizer?",
            bpe().vocab_size()
        ),
    );
}
