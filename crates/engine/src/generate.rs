//! Continuing prompts, several at once, with text handed out as it comes.

use crate::constraint::{Constraint, Held};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::logprobs::TokenLogprobs;
use crate::sampler::Sampling;
use crate::schedule::{Schedule, ScheduleLimits};
use hearth_model::Sequence;
use std::ops::ControlFlow;
use std::time::Duration;

/// Most sequences that take a step together; more wait their turn.
pub(crate) const MAX_TOGETHER: usize = 64;

/// What is to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Text; see [`Engine::prompt_tokens`] for how it becomes tokens.
    Text(String),
    /// Token ids, taken as they are.
    Tokens(Vec<u32>),
    /// What stands before and after a gap, which is filled in; see [`Engine::infill_tokens`].
    Infill {
        /// Before.
        prefix: String,
        /// After.
        suffix: String,
    },
}

/// A prompt, and how it is to be continued.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is to be continued.
    pub prompt: Prompt,
    /// Most tokens of a continuation.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// A continuation ends before any of these; they are not part of it.
    pub stop: Vec<String>,
    /// Continuations of the one prompt, each with draws of its own.
    pub n: usize,
    /// Go on after a token that ends a text.
    pub ignore_eos: bool,
    /// Say how likely the model found each token, and so many of the likeliest with it.
    pub logprobs: Option<usize>,
    /// What each continuation must be, as a whole.
    pub constraint: Option<Constraint>,
    /// When the context is full, keep so many of the first tokens, drop the oldest half of the others, and go on
    /// as if what is left had been the text. A prompt that is too long loses tokens in the same way. Without
    /// this, a full context ends a continuation, and such a prompt is an error.
    pub context_shift: Option<usize>,
    /// The adapter that it goes through; see [`Engine::add_adapter`].
    pub adapter: Option<usize>,
    /// Say how likely each token of the prompt after the first is, and so many of the likeliest with it; see
    /// [`Finished::prompt_logprobs`](crate::Finished::prompt_logprobs).
    pub prompt_logprobs: Option<usize>,
}

impl Request {
    /// One continuation of `prompt`, of at most `max_tokens` tokens.
    pub fn new(prompt: &str, max_tokens: usize) -> Self {
        Request {
            prompt: Prompt::Text(prompt.to_owned()),
            max_tokens,
            sampling: Sampling::default(),
            stop: Vec::new(),
            n: 1,
            ignore_eos: false,
            logprobs: None,
            constraint: None,
            context_shift: None,
            adapter: None,
            prompt_logprobs: None,
        }
    }
}

/// Why a continuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop string came.
    Stop,
    /// The model ended the text, or it fulfils its constraint and nothing may follow.
    Eos,
    /// It reached `max_tokens`.
    Length,
    /// The model's context is full.
    ContextFull,
    /// The caller broke off.
    Cancelled,
}

impl FinishReason {
    /// The name that results carry.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Eos => "eos",
            FinishReason::Length => "length",
            FinishReason::ContextFull => "context-full",
            FinishReason::Cancelled => "cancelled",
        }
    }
}

/// What happens while continuations are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// More text of a continuation: whole characters, nothing of a stop string.
    Text {
        /// Index of the request.
        request: usize,
        /// Index of its continuation.
        sequence: usize,
        /// The text.
        text: &'a str,
        /// How likely its tokens were, if the request asks for it.
        logprobs: &'a [TokenLogprobs],
    },
    /// A continuation is complete.
    End {
        /// Index of the request.
        request: usize,
        /// Index of its continuation.
        sequence: usize,
        /// Why.
        reason: FinishReason,
    },
}

/// A continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Index of the request.
    pub request: usize,
    /// Index of the continuation.
    pub sequence: usize,
    /// Its text.
    pub text: String,
    /// Its tokens, one that ended the text included.
    pub tokens: Vec<u32>,
    /// How likely each of them was, if the request asks for it.
    pub logprobs: Vec<TokenLogprobs>,
    /// Tokens of the prompt, but for those that had to go at once.
    pub prompt_tokens: usize,
    /// Tokens that went because the context was full; see [`Request::context_shift`].
    pub dropped_tokens: usize,
    /// Why it ended.
    pub finish: FinishReason,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Prompt tokens taken in, a shared prompt counted once.
    pub prompt_tokens: usize,
    /// Prompt tokens that the last sequence held already.
    pub reused_tokens: usize,
    /// Seconds for those taken in.
    pub prompt_seconds: f64,
    /// Tokens generated after the first of each continuation.
    pub generated_tokens: usize,
    /// Seconds for them.
    pub generate_seconds: f64,
    /// Tokens that were drafted for them.
    pub drafted_tokens: usize,
    /// Drafted tokens that turned out to be what was chosen.
    pub accepted_tokens: usize,
    /// Seconds to the first token of all.
    pub first_token_seconds: f64,
}

/// Items a second; none if there were none.
fn rate(items: usize, seconds: f64) -> f64 {
    if items == 0 { 0.0 } else { items as f64 / seconds }
}

/// What a request comes to once it is checked.
pub(crate) struct Admitted {
    pub(crate) prompt: Vec<u32>,
    /// Tokens that the prompt lost.
    pub(crate) dropped_tokens: usize,
    /// At the beginning of its output.
    pub(crate) constraint: Option<Held>,
}

impl Engine {
    /// Continues every request; `on_event` sees the text as it comes and may break off.
    ///
    /// What a continuation says depends on its request alone, not on what runs beside it. Returns
    /// completions in the order of requests.
    ///
    /// # Errors
    /// If a request can't be carried out (before anything is generated), or the model's output isn't
    /// a distribution.
    pub fn generate(
        &mut self,
        requests: &[Request],
        mut on_event: impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(Vec<Completion>, Timings)> {
        let mut schedule = Schedule::new(ScheduleLimits::default());
        for (i, request) in requests.iter().enumerate() {
            schedule.submit(self, i, 0, request.clone())?;
        }
        let (mut done, mut cancelled) = (Vec::new(), false);
        while !schedule.is_idle() {
            let finished = schedule.step(self, |event| {
                let flow = on_event(event);
                cancelled |= flow.is_break();
                flow
            })?;
            for one in finished {
                done.push(one.completion?);
            }
            if cancelled {
                schedule.cancel_all();
            }
        }
        done.sort_by_key(|c| (c.request, c.sequence));
        Ok((done, schedule.timings()))
    }

    /// Checks everything about a request that can be checked beforehand.
    pub(crate) fn admit(&self, index: usize, request: &Request) -> Result<Admitted> {
        let problem =
            |problem: &str| Err(EngineError::Request { request: index, problem: problem.to_owned() });
        request.sampling.validate()?;
        if request.n == 0 || request.n > MAX_TOGETHER {
            return problem(&format!("{} continuations asked for, expected 1 to {MAX_TOGETHER}", request.n));
        }
        if request.stop.iter().any(String::is_empty) {
            return problem("an empty stop string would end every text at once");
        }
        let entries = self.tokenizer.vocab_size();
        if let Some(count) = request.logprobs.filter(|&count| count > entries) {
            return problem(&format!("logprobs of {count} tokens asked for, but there are only {entries}"));
        }
        if let Some(id) = request.sampling.logit_bias.keys().filter(|&&id| id as usize >= entries).min() {
            return problem(&format!("a bias for token {id}, but the tokenizer has only {entries} tokens"));
        }
        if let Some(count) = request.prompt_logprobs.filter(|&count| count > entries) {
            return problem(&format!("logprobs of {count} tokens asked for, but there are only {entries}"));
        }
        if let Some(adapter) = request.adapter.filter(|&adapter| adapter >= self.adapters.len()) {
            return problem(&format!("adapter {adapter} asked for, but there are {}", self.adapters.len()));
        }
        if request.constraint.is_some() && request.ignore_eos {
            return problem("constrained output ends where its grammar does: ignore_eos can't be honoured");
        }
        if request.context_shift.is_some() && matches!(request.prompt, Prompt::Infill { .. }) {
            return problem("a context shift would cut the parts around the gap that is to be filled");
        }
        let mut tokens = self.tokens_of(&request.prompt)?;
        let dropped_tokens = self.fit_prompt(index, request, &mut tokens)?;
        let constraint = request.constraint.as_ref().map(|c| self.held_to(c)).transpose()?;
        Ok(Admitted { prompt: tokens, dropped_tokens, constraint })
    }

    /// A sequence for a prompt that goes through an adapter: one that ended, or `beside`, whichever has more in common
    /// with it, cut to that, or an empty one. At least one token is left to take in.
    pub(crate) fn sequence_for(
        &mut self,
        prompt: &[u32],
        capacity: usize,
        adapter: Option<usize>,
        beside: Option<Sequence>,
    ) -> Result<Sequence> {
        let updates = self.updates_of(adapter).cloned();
        let ended = self.prefixes.longest(prompt, updates.as_ref());
        let longest = ended.into_iter().chain(beside).max_by_key(Sequence::len);
        let mut sequence = match longest {
            Some(sequence) => sequence,
            None => self.runner.adapted_sequence(capacity, updates)?,
        };
        self.runner.reserve(&mut sequence, capacity)?;
        Ok(sequence)
    }
}

impl Timings {
    /// Prompt tokens a second.
    pub fn prompt_speed(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_seconds)
    }

    /// Generated tokens a second, all continuations together.
    pub fn generate_speed(&self) -> f64 {
        rate(self.generated_tokens, self.generate_seconds)
    }

    /// Seconds in all.
    pub fn total(&self) -> Duration {
        Duration::from_secs_f64(self.prompt_seconds + self.generate_seconds)
    }
}
