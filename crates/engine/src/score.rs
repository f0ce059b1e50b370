//! How well a model predicts a text: loss, perplexity, bits per byte, and each token's part of them.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::logprobs::Logprob;
use hearth_model::runner::MAX_ROWS;
use hearth_model::{Feed, Logits};
use std::ops::ControlFlow;

/// A text's measure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Nats over all scored tokens.
    pub nats: f64,
    /// Tokens scored.
    pub tokens: usize,
    /// Bytes of text that they stand for; special tokens stand for none.
    pub bytes: usize,
}

impl Score {
    /// Nats a token.
    pub fn loss(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// e to the loss.
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Bits for each byte of text: comparable between tokenizers, and with compressors.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.bytes as f64
    }
}

/// A token that was predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// Its place in its window, a token that was put in front counted.
    pub position: usize,
    /// The token.
    pub token: Logprob,
    /// The likeliest one; of equal ones the lower id.
    pub top: Logprob,
}

/// How far scoring has come: after each window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreProgress<'a> {
    /// Tokens of the text that were read.
    pub read: usize,
    /// Tokens of the text.
    pub of: usize,
    /// The measure so far.
    pub so_far: Score,
    /// The tokens of this window that were scored.
    pub window: &'a [TokenScore],
}

impl Engine {
    /// Scores a text in non-overlapping windows of `ctx` tokens (the model's context if none is
    /// given): every token after the first of a window once, or with `half` only those in the second
    /// half of full windows, as llama.cpp's perplexity tool does.
    ///
    /// Where texts of the model begin with a token (`bos`), every window does: put in front, or with `half`
    /// in the place of the window's first token, which is that tool's way. Otherwise none is put in front.
    ///
    /// # Errors
    /// If the text is too short, `ctx` doesn't fit the model, or the logits aren't numbers.
    pub fn score_text(
        &mut self,
        text: &str,
        ctx: Option<usize>,
        half: bool,
        progress: impl FnMut(ScoreProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Score> {
        let mut tokens = self.tokenizer.encode(text)?;
        let begin = self.special.prepend;
        if let Some(begin) = begin.filter(|_| half) {
            tokens.insert(0, begin);
        }
        self.score_windows(&tokens, ctx, half, begin, progress)
    }

    /// [`score_text`](Self::score_text) for tokens.
    ///
    /// # Errors
    /// As [`score_text`](Self::score_text), or if an id lies outside the vocabulary.
    pub fn score_tokens(
        &mut self,
        tokens: &[u32],
        ctx: Option<usize>,
        half: bool,
        progress: impl FnMut(ScoreProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Score> {
        self.score_windows(tokens, ctx, half, None, progress)
    }

    /// Scores tokens in windows that each begin with `begin`.
    fn score_windows(
        &mut self,
        tokens: &[u32],
        ctx: Option<usize>,
        half: bool,
        begin: Option<u32>,
        mut progress: impl FnMut(ScoreProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Score> {
        let context = self.context();
        let ctx = ctx.unwrap_or(context);
        if !(2..=context).contains(&ctx) {
            return Err(EngineError::BadWindow { ctx, context });
        }
        self.check_ids(tokens)?;
        let (needed, hint) = match half {
            true => (ctx, "without --half a shorter text will do; or give a smaller --ctx"),
            false => (2 - usize::from(begin.is_some()), "give a longer text"),
        };
        if tokens.len() < needed {
            return Err(EngineError::TooShort { tokens: tokens.len(), needed, hint });
        }
        let mut score = Score::default();
        let mut scored = Vec::with_capacity(ctx);
        let mut read = 0;
        let step = if begin.is_some() && !half { ctx - 1 } else { ctx };
        for part in tokens.chunks(step) {
            if half && part.len() < ctx {
                break;
            }
            let replaced = usize::from(begin.is_some() && half);
            let window: Vec<u32> = begin.into_iter().chain(part[replaced..].iter().copied()).collect();
            // llama.cpp counts the predictions made at positions ctx/2 up to ctx - 2.
            let first = if half { ctx / 2 } else { 0 };
            self.score_window(&window, first, read, &mut scored)?;
            for TokenScore { token, .. } in &scored {
                score.nats -= token.logprob;
                score.tokens += 1;
                score.bytes += match self.tokenizer.token_bytes(token.token) {
                    Some(bytes) if !self.tokenizer.is_special(token.token) => bytes.len(),
                    _ => 0,
                };
            }
            read += part.len();
            let (of, so_far) = (tokens.len(), score);
            if progress(ScoreProgress { read, of, so_far, window: &scored }).is_break() {
                return Err(EngineError::Interrupted);
            }
        }
        Ok(score)
    }

    /// The predictions made at position `first` and after in one window; `offset` tokens come before it.
    fn score_window(
        &mut self,
        window: &[u32],
        first: usize,
        offset: usize,
        scored: &mut Vec<TokenScore>,
    ) -> Result<()> {
        scored.clear();
        if window.len() < 2 {
            return Ok(());
        }
        let width = self.config().vocab_size;
        let inputs = &window[..window.len() - 1];
        let mut sequence = self.runner.sequence(inputs.len())?;
        for (part, tokens) in inputs.chunks(MAX_ROWS).enumerate() {
            let start = part * MAX_ROWS;
            let wanted = if start + tokens.len() <= first { Logits::None } else { Logits::All };
            let logits = self.runner.run(&mut [Feed { sequence: &mut sequence, tokens, logits: wanted }])?;
            for (row, logits) in logits.chunks_exact(width).enumerate() {
                let position = start + row + 1;
                if position > first {
                    let score = token_score(logits, position, window[position]);
                    scored.push(score.ok_or(EngineError::NotFinite { position: offset + position })?);
                }
            }
        }
        Ok(())
    }
}

/// The log-probability `l[token] - ln Σ eˡ` in `f64`, and the largest; none if they aren't numbers.
fn token_score(logits: &[f32], position: usize, token: u32) -> Option<TokenScore> {
    let total = log_sum_exp(logits);
    let of = |token: u32, logit: f32| Logprob { token, logprob: f64::from(logit) - total };
    let larger = |best: (u32, f32), next: (u32, f32)| if next.1 > best.1 { next } else { best };
    let (top, largest) = (0..).zip(logits.iter().copied()).reduce(larger)?;
    let token = of(token, *logits.get(token as usize)?);
    token.logprob.is_finite().then_some(TokenScore { position, token, top: of(top, largest) })
}

/// `ln Σ eˡ` in `f64`.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}
