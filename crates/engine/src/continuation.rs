//! One continuation in the making: the tokens so far, and what becomes of the next one.

use crate::constraint::Held;
use crate::error::Result;
use crate::generate::{Completion, Event, FinishReason};
use crate::logprobs::TokenLogprobs;
use crate::sampler::Sampler;
use crate::speculative::Drafting;
use crate::stream::TextStream;
use hearth_model::Sequence;
use std::ops::ControlFlow;

/// A continuation in the making.
pub(crate) struct Active {
    /// Index of its request.
    pub(crate) request: usize,
    /// Its index among those of the request.
    pub(crate) index: usize,
    pub(crate) limits: Limits,
    pub(crate) sequence: Sequence,
    pub(crate) drafting: Drafting,
    /// What the next token depends on: the prompt and what was written, but for what was dropped.
    pub(crate) history: Vec<u32>,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: usize,
    /// Tokens that went because the context was full.
    pub(crate) dropped_tokens: usize,
    /// What was written.
    pub(crate) tokens: Vec<u32>,
    pub(crate) sampler: Sampler,
    pub(crate) constraint: Option<Held>,
    pub(crate) stream: TextStream,
    pub(crate) text: String,
    /// How many of the likeliest tokens are kept with each one, if any.
    pub(crate) top_logprobs: Option<usize>,
    pub(crate) logprobs: Vec<TokenLogprobs>,
    /// How many of those were given out with their text.
    pub(crate) told: usize,
    pub(crate) finish: Option<FinishReason>,
}

/// What bounds a continuation.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Tokens that end it.
    pub(crate) ends: Vec<u32>,
    /// Most tokens to write.
    pub(crate) max_tokens: usize,
    /// Most tokens that the model takes in.
    pub(crate) context: usize,
    /// Tokens that stay at the beginning when that is full; none: it ends there.
    pub(crate) context_shift: Option<usize>,
    /// Only ids below this have a token.
    pub(crate) entries: usize,
}

impl Active {
    /// Chooses the next token from a row of V logits, and gives out the text that it completes; says whether
    /// the caller broke off.
    pub(crate) fn advance(
        &mut self,
        logits: &[f32],
        on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<bool> {
        let Some(token) = self.choose(logits)? else {
            self.finish = Some(FinishReason::Eos);
            return Ok(false);
        };
        self.history.push(token);
        self.tokens.push(token);
        let text = if self.limits.ends.contains(&token) {
            self.finish = Some(FinishReason::Eos);
            String::new()
        } else {
            let piece = self.stream.push(token);
            if piece.stopped {
                self.finish = Some(FinishReason::Stop);
            }
            piece.text
        };
        if self.finish.is_none() {
            if self.constraint.as_ref().is_some_and(Held::is_over) {
                self.finish = Some(FinishReason::Eos);
            } else if self.tokens.len() == self.limits.max_tokens {
                self.finish = Some(FinishReason::Length);
            } else if self.history.len() > self.limits.context && self.limits.context_shift.is_none() {
                self.finish = Some(FinishReason::ContextFull);
            }
        }
        Ok(self.give(text, on_event).is_break())
    }

    /// Chooses tokens from rows of V logits, the next one's and those after each drafted token, for as long as
    /// what is chosen is what was drafted. Says how many drafted ones were, and whether the caller broke off.
    pub(crate) fn advance_through(
        &mut self,
        logits: &[f32],
        drafted: &[u32],
        on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(usize, bool)> {
        let mut accepted = 0;
        for row in logits.chunks_exact(logits.len() / (drafted.len() + 1)) {
            let before = self.tokens.len();
            let broken_off = self.advance(row, on_event)?;
            let right = self.tokens.get(before).is_some_and(|token| drafted.get(accepted) == Some(token));
            accepted += usize::from(right);
            if !right || broken_off || self.finish.is_some() {
                return Ok((accepted, broken_off));
            }
        }
        Ok((accepted, false))
    }

    /// Most tokens to draft next: as many as seem worth it, if the cache has room for them and another may
    /// follow.
    pub(crate) fn room_for_draft(&self) -> usize {
        let cached = self.sequence.capacity().saturating_sub(self.history.len());
        let written = (self.limits.max_tokens - self.tokens.len()).saturating_sub(1);
        self.drafting.length().min(cached).min(written)
    }

    /// The next token; none if a constraint is fulfilled and nothing can follow.
    fn choose(&mut self, logits: &[f32]) -> Result<Option<u32>> {
        let mut choosable = &logits[..self.limits.entries];
        if let Some(constraint) = &mut self.constraint {
            let Some(masked) = constraint.mask(choosable)? else { return Ok(None) };
            choosable = masked;
        }
        let token = self.sampler.pick(choosable, &self.history)?;
        if let Some(constraint) = &mut self.constraint {
            constraint.take(token)?;
        }
        if let Some(count) = self.top_logprobs {
            self.logprobs.push(TokenLogprobs::of(logits, token, count, self.limits.entries));
        }
        Ok(Some(token))
    }

    fn give(&mut self, text: String, on_event: &mut impl FnMut(Event) -> ControlFlow<()>) -> ControlFlow<()> {
        if text.is_empty() {
            return ControlFlow::Continue(());
        }
        self.text.push_str(&text);
        let logprobs = &self.logprobs[std::mem::replace(&mut self.told, self.logprobs.len())..];
        on_event(Event::Text { request: self.request, sequence: self.index, text: &text, logprobs })
    }

    /// The completion, and the tokens that its sequences hold the beginning of.
    pub(crate) fn complete(
        mut self,
        on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
    ) -> (Completion, Vec<u32>, Sequence, Drafting) {
        let reason = self.finish.unwrap_or(FinishReason::Cancelled);
        if reason != FinishReason::Stop && reason != FinishReason::Cancelled {
            let rest = self.stream.finish();
            // What was held back is given out even if the caller breaks off now.
            let _ = self.give(rest, on_event);
        }
        let _ = on_event(Event::End { request: self.request, sequence: self.index, reason });
        let completion = Completion {
            request: self.request,
            sequence: self.index,
            text: self.text,
            tokens: self.tokens,
            logprobs: self.logprobs,
            prompt_tokens: self.prompt_tokens,
            dropped_tokens: self.dropped_tokens,
            finish: reason,
        };
        (completion, self.history, self.sequence, self.drafting)
    }
}
