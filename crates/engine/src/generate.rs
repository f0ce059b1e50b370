//! Continuing prompts, several at once, with text handed out as it comes.

use crate::constraint::{Constraint, Held};
use crate::continuation::{Active, Limits};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::logprobs::TokenLogprobs;
use crate::sampler::{Sampler, Sampling};
use crate::speculative::Drafting;
use crate::stream::TextStream;
use hearth_model::{Feed, Logits, Sequence};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// More text of a continuation: whole characters, nothing of a stop string.
    Text {
        /// Index of the request.
        request: usize,
        /// Index of its continuation.
        sequence: usize,
        /// The text.
        text: &'a str,
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
struct Admitted {
    prompt: Vec<u32>,
    /// Tokens that the prompt lost.
    dropped_tokens: usize,
    /// At the beginning of its output.
    constraint: Option<Held>,
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
        let admitted: Vec<Admitted> =
            requests.iter().enumerate().map(|(i, r)| self.admit(i, r)).collect::<Result<_>>()?;
        let mut waiting: VecDeque<usize> = (0..requests.len()).collect();
        let mut timings = Timings::default();
        let (mut active, mut done): (Vec<Active>, Vec<Completion>) = (Vec::new(), Vec::new());
        let (start, mut cancelled) = (Instant::now(), false);
        loop {
            while !cancelled
                && let Some(&next) = waiting.front()
                && (active.is_empty() || active.len() + requests[next].n <= MAX_TOGETHER)
            {
                waiting.pop_front();
                let (begun, broken_off) =
                    self.begin(next, &requests[next], &admitted[next], &mut timings, &mut on_event)?;
                active.extend(begun);
                cancelled = broken_off;
                if timings.first_token_seconds == 0.0 {
                    timings.first_token_seconds = start.elapsed().as_secs_f64();
                }
            }
            if cancelled {
                active.iter_mut().for_each(|one| one.finish = one.finish.or(Some(FinishReason::Cancelled)));
            }
            for one in active.extract_if(.., |one| one.finish.is_some()) {
                let (completion, mut history, sequence, drafting) = one.complete(&mut on_event);
                self.end_drafting(&history, drafting);
                history.truncate(sequence.len());
                self.last = Some((history, sequence));
                done.push(completion);
            }
            if active.is_empty() {
                if cancelled || waiting.is_empty() {
                    break;
                }
                continue;
            }
            let step = Instant::now();
            cancelled = self.step(&mut active, &mut timings, &mut on_event)?;
            timings.generate_seconds += step.elapsed().as_secs_f64();
        }
        done.sort_by_key(|c| (c.request, c.sequence));
        Ok((done, timings))
    }

    /// Checks everything about a request that can be checked beforehand.
    fn admit(&self, index: usize, request: &Request) -> Result<Admitted> {
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

    /// Takes a prompt in once, and draws the first token of each of its continuations; says whether the caller
    /// broke off.
    fn begin(
        &mut self,
        index: usize,
        request: &Request,
        admitted: &Admitted,
        timings: &mut Timings,
        on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(Vec<Active>, bool)> {
        let prompt = &admitted.prompt[..];
        let start = Instant::now();
        let capacity = prompt.len().saturating_add(request.max_tokens).min(self.context());
        let mut first = self.sequence_for(prompt, capacity)?;
        let fresh = &prompt[first.len()..];
        let logits = self.runner.prefill(&mut first, fresh)?.to_vec();
        timings.prompt_tokens += fresh.len();
        timings.reused_tokens += prompt.len() - fresh.len();
        let all_drafting = self.begin_drafting(prompt, capacity, request.n)?;
        timings.prompt_seconds += start.elapsed().as_secs_f64();
        let limits = Limits {
            ends: if request.ignore_eos { Vec::new() } else { self.special.ends.clone() },
            max_tokens: request.max_tokens,
            context: self.context(),
            context_shift: request.context_shift,
            entries: self.tokenizer.vocab_size(),
        };
        let mut sequences: Vec<Sequence> = (1..request.n).map(|_| first.clone()).collect();
        sequences.insert(0, first);
        let mut broken_off = false;
        let begin = |(index_in, (sequence, drafting)): (usize, (Sequence, Drafting))| {
            let mut one = Active {
                request: index,
                index: index_in,
                limits: limits.clone(),
                sequence,
                drafting,
                history: prompt.to_vec(),
                prompt_tokens: prompt.len(),
                dropped_tokens: admitted.dropped_tokens,
                tokens: Vec::new(),
                sampler: Sampler::new(&request.sampling, index_in as u64)?,
                constraint: admitted.constraint.clone(),
                stream: TextStream::new(&self.tokenizer, prompt, &request.stop),
                text: String::new(),
                top_logprobs: request.logprobs,
                logprobs: Vec::new(),
                finish: (request.max_tokens == 0).then_some(FinishReason::Length),
            };
            if one.finish.is_none() {
                broken_off |= one.advance(&logits, on_event)?;
            }
            Ok(one)
        };
        let begun = sequences.into_iter().zip(all_drafting).enumerate().map(begin).collect::<Result<_>>()?;
        Ok((begun, broken_off))
    }

    /// A sequence for a prompt: the last one, cut to what the two have in common, or an empty one. At least
    /// one token is left to take in.
    pub(crate) fn sequence_for(&mut self, prompt: &[u32], capacity: usize) -> Result<Sequence> {
        if let Some((tokens, mut sequence)) = self.last.take() {
            let common = tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
            let common = common.min(prompt.len() - 1);
            if common > 0 {
                sequence.truncate(common);
                self.runner.reserve(&mut sequence, capacity)?;
                return Ok(sequence);
            }
        }
        Ok(self.runner.sequence(capacity)?)
    }

    /// The next token of each continuation, and those after it that were drafted rightly, in one pass over the
    /// weights; says whether the caller broke off.
    fn step(
        &mut self,
        active: &mut [Active],
        timings: &mut Timings,
        on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<bool> {
        for one in &mut *active {
            self.make_room(one)?;
        }
        let drafts = self.draft(active)?;
        let newest = |one: &Active| one.history[one.history.len() - 1];
        let tokens: Vec<Vec<u32>> =
            active.iter().zip(&drafts).map(|(one, draft)| [&[newest(one)], &draft[..]].concat()).collect();
        let mut feeds: Vec<Feed> = active
            .iter_mut()
            .zip(&tokens)
            .map(|(one, tokens)| Feed { sequence: &mut one.sequence, tokens, logits: Logits::All })
            .collect();
        let width = self.runner.decoder().config().vocab_size;
        let mut logits = self.runner.run(&mut feeds)?;
        let mut broken_off = false;
        for (one, draft) in active.iter_mut().zip(&drafts) {
            let (rows, rest) = logits.split_at((draft.len() + 1) * width);
            logits = rest;
            let held = one.history.len();
            let mut accepted = 0;
            if !broken_off {
                (accepted, broken_off) = one.advance_through(rows, draft, on_event)?;
            }
            one.sequence.truncate(held + accepted);
            one.drafting.learn(held, draft.len(), accepted);
            timings.generated_tokens += one.history.len() - held;
            timings.drafted_tokens += draft.len();
            timings.accepted_tokens += accepted;
        }
        Ok(broken_off)
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
