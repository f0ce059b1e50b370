//! How well a model predicts a text: loss, perplexity, bits per byte.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
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

/// How far scoring has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreProgress {
    /// Tokens of the text that were read.
    pub read: usize,
    /// Tokens of the text.
    pub of: usize,
    /// The measure so far.
    pub so_far: Score,
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
        progress: impl FnMut(ScoreProgress) -> ControlFlow<()>,
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
        progress: impl FnMut(ScoreProgress) -> ControlFlow<()>,
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
        mut progress: impl FnMut(ScoreProgress) -> ControlFlow<()>,
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
            self.score_window(&window, first, read, &mut score)?;
            read += part.len();
            if progress(ScoreProgress { read, of: tokens.len(), so_far: score }).is_break() {
                return Err(EngineError::Interrupted);
            }
        }
        Ok(score)
    }

    /// Adds the predictions made at position `first` and after in one window.
    fn score_window(&mut self, window: &[u32], first: usize, offset: usize, score: &mut Score) -> Result<()> {
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
                let position = start + row;
                if position < first {
                    continue;
                }
                let target = window[position + 1];
                let nats = negative_log_likelihood(logits, target)
                    .ok_or(EngineError::NotFinite { position: offset + position + 1 })?;
                score.nats += nats;
                score.tokens += 1;
                score.bytes += match self.tokenizer.token_bytes(target) {
                    Some(bytes) if !self.tokenizer.is_special(target) => bytes.len(),
                    _ => 0,
                };
            }
        }
        Ok(())
    }
}

/// `ln Σ eˡ - l[target]` in `f64`; none if that isn't a number.
fn negative_log_likelihood(logits: &[f32], target: u32) -> Option<f64> {
    let nats = log_sum_exp(logits) - f64::from(*logits.get(target as usize)?);
    nats.is_finite().then_some(nats)
}

/// `ln Σ eˡ` in `f64`.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}
