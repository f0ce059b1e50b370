//! The scheduler: requests come and go while others are being continued.
//!
//! A [`Schedule`] holds what waits, what has its prompt taken in, and what is being continued. Each
//! [`step`](Schedule::step) is one pass over the weights: the newest token of every continuation, and behind them parts
//! of prompts, as many as there is room for. So a long prompt doesn't stop the others, and a new request need not wait
//! for them to end. What a continuation says depends on its request alone.

use crate::continuation::{Active, Limits};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::generate::{Admitted, Completion, Event, FinishReason, MAX_TOGETHER, Request, Timings};
use crate::logprobs::TokenLogprobs;
use crate::prefixes::{common, same};
use crate::sampler::Sampler;
use crate::stream::TextStream;
use hearth_kernel::attention::PAGE;
use hearth_model::runner::MAX_ROWS;
use hearth_model::{Feed, Logits, Sequence};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Rows of a prompt that are scored at once: each has a row of V logits.
const SCORED_ROWS: usize = 64;

/// What bounds a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleLimits {
    /// Most continuations at once; more wait their turn.
    pub together: usize,
    /// Most pages of keys and values ([`PAGE`] tokens each) that they may come to need. A request that needs more than
    /// all of them waits until it is alone.
    pub pages: usize,
    /// Most requests that wait.
    pub waiting: usize,
}

impl Default for ScheduleLimits {
    fn default() -> Self {
        ScheduleLimits { together: MAX_TOGETHER, pages: usize::MAX, waiting: usize::MAX }
    }
}

/// Requests on their way through a model.
pub struct Schedule {
    limits: ScheduleLimits,
    waiting: VecDeque<Waiting>,
    prompting: Vec<Prompting>,
    active: Vec<Active>,
    /// Continuations that each request still has, with its client and the pages that it may come to need.
    under_way: HashMap<usize, UnderWay>,
    timings: Timings,
    started: Option<Instant>,
}

/// A request that is checked and waits.
struct Waiting {
    id: usize,
    client: u64,
    request: Request,
    admitted: Admitted,
    pages: usize,
    since: Instant,
}

/// A request whose prompt is being taken in.
struct Prompting {
    waiting: Waiting,
    sequence: Sequence,
    logprobs: Vec<TokenLogprobs>,
    reused_tokens: usize,
    begun: Instant,
}

/// What the continuations of a request have in common.
struct UnderWay {
    client: u64,
    pages: usize,
    left: usize,
    times: Times,
    reused_tokens: usize,
    prompt_logprobs: Vec<TokenLogprobs>,
}

/// When things happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Until its prompt's turn came.
    pub waited: Duration,
    /// From then to its first token.
    pub prompt: Duration,
    /// From then to its end.
    pub generate: Duration,
    first_token: Instant,
}

/// A continuation that ended.
#[derive(Debug)]
pub struct Finished {
    /// The id that the request was submitted with.
    pub id: usize,
    /// What came of it.
    pub completion: Result<Completion>,
    /// How long it took.
    pub times: Times,
    /// Tokens of its prompt that an earlier sequence held already.
    pub reused_tokens: usize,
    /// How likely the tokens of the prompt after the first are, if the request asks for it.
    pub prompt_logprobs: Vec<TokenLogprobs>,
}

impl Schedule {
    /// Nothing to do yet.
    pub fn new(limits: ScheduleLimits) -> Self {
        Schedule {
            limits,
            waiting: VecDeque::new(),
            prompting: Vec::new(),
            active: Vec::new(),
            under_way: HashMap::new(),
            timings: Timings::default(),
            started: None,
        }
    }

    /// What bounds it.
    pub fn limits(&self) -> ScheduleLimits {
        self.limits
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.prompting.is_empty() && self.active.is_empty()
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Continuations under way, those whose prompt is being taken in included.
    pub fn running(&self) -> usize {
        self.active.len() + self.prompting.iter().map(|one| one.waiting.request.n).sum::<usize>()
    }

    /// Where the time went.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Takes a request on; events and results carry `id`. When there is no room for all, the next one is from the
    /// client with the fewest under way.
    ///
    /// # Errors
    /// If the request can't be carried out, or too many wait.
    pub fn submit(&mut self, engine: &Engine, id: usize, client: u64, request: Request) -> Result<()> {
        if self.waiting.len() >= self.limits.waiting {
            return Err(EngineError::QueueFull { waiting: self.waiting.len() });
        }
        let admitted = engine.admit(id, &request)?;
        let tokens = admitted.prompt.len().saturating_add(request.max_tokens).min(engine.context());
        let pages = tokens.div_ceil(PAGE) * request.n;
        self.waiting.push_back(Waiting { id, client, request, admitted, pages, since: Instant::now() });
        Ok(())
    }

    /// Breaks a request off; the continuations of it that had begun finish as cancelled in the next step.
    pub fn cancel(&mut self, id: usize) {
        self.waiting.retain(|one| one.id != id);
        self.prompting.retain(|one| one.waiting.id != id);
        for one in self.active.iter_mut().filter(|one| one.request == id) {
            one.finish = one.finish.or(Some(FinishReason::Cancelled));
        }
    }

    /// Breaks all off.
    pub fn cancel_all(&mut self) {
        self.waiting.clear();
        self.prompting.clear();
        for one in &mut self.active {
            one.finish = one.finish.or(Some(FinishReason::Cancelled));
        }
    }

    /// One pass over the weights; `on_event` sees the text that comes of it. Returns what ended. A caller that breaks
    /// off hears no more of this step, and should cancel what it no longer wants.
    ///
    /// # Errors
    /// If the model can't be run. What goes wrong with one request alone ends that request.
    pub fn step(
        &mut self,
        engine: &mut Engine,
        mut on_event: impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Vec<Finished>> {
        let start = Instant::now();
        let started = *self.started.get_or_insert(start);
        let mut finished = self.take_finished(engine, &mut on_event);
        self.begin(engine)?;
        for one in &mut self.active {
            engine.make_room(one)?;
        }
        // Drafts leave at least half of the rows to prompts.
        let draftable = if self.prompting.is_empty() { MAX_ROWS } else { MAX_ROWS / 2 };
        let drafts = engine.draft(&mut self.active, draftable)?;
        let parts = self.pass(engine, &drafts, &mut on_event, &mut finished)?;
        let seconds = start.elapsed().as_secs_f64();
        let prompt_rows = parts.iter().sum::<usize>();
        let generated_rows = drafts.iter().map(|draft| draft.len() + 1).sum::<usize>();
        let share = prompt_rows as f64 / (prompt_rows + generated_rows).max(1) as f64;
        self.timings.prompt_seconds += seconds * share;
        self.timings.generate_seconds += seconds * (1.0 - share);
        self.timings.prompt_tokens += prompt_rows;
        if self.timings.first_token_seconds == 0.0 && self.active.iter().any(|one| !one.tokens.is_empty()) {
            self.timings.first_token_seconds = started.elapsed().as_secs_f64();
        }
        finished.extend(self.take_finished(engine, &mut on_event));
        Ok(finished)
    }

    /// Begins with the prompts of those whose turn it is.
    fn begin(&mut self, engine: &mut Engine) -> Result<()> {
        while let Some(next) = self.next_waiting() {
            let needed = self.waiting[next].pages + self.pages();
            let alone = self.active.is_empty() && self.prompting.is_empty();
            let fits = self.running() + self.waiting[next].request.n <= self.limits.together
                && needed <= self.limits.pages;
            if !fits && !alone {
                break;
            }
            let Some(waiting) = self.waiting.remove(next) else { break };
            // Sequences that ended make room for what those under way may come to need.
            let ended = |engine: &Engine| engine.runner.pages().alive().saturating_sub(self.held_pages());
            while ended(engine) + needed > self.limits.pages && engine.prefixes.drop_oldest() {}
            self.begin_one(engine, waiting)?;
        }
        Ok(())
    }

    /// Of the clients with the fewest requests under way, the one that has waited longest.
    fn next_waiting(&self) -> Option<usize> {
        let mut busy: HashMap<u64, usize> = HashMap::new();
        let prompting = self.prompting.iter().map(|one| one.waiting.client);
        for client in self.under_way.values().map(|one| one.client).chain(prompting) {
            *busy.entry(client).or_default() += 1;
        }
        let of = |one: &Waiting| busy.get(&one.client).copied().unwrap_or_default();
        self.waiting.iter().enumerate().min_by_key(|(i, one)| (of(one), *i)).map(|(i, _)| i)
    }

    /// Pages that those under way may come to need.
    fn pages(&self) -> usize {
        let prompting = self.prompting.iter().map(|one| one.waiting.pages);
        self.under_way.values().map(|one| one.pages).chain(prompting).sum()
    }

    /// Pages that those under way hold at least, whatever they share counted for each.
    fn held_pages(&self) -> usize {
        let prompting = self.prompting.iter().map(|one| one.sequence.len());
        self.active.iter().map(|one| one.sequence.len()).chain(prompting).map(|len| len.div_ceil(PAGE)).sum()
    }

    fn begin_one(&mut self, engine: &mut Engine, waiting: Waiting) -> Result<()> {
        let begun = Instant::now();
        let (request, prompt) = (&waiting.request, &waiting.admitted.prompt[..]);
        let capacity = prompt.len().saturating_add(request.max_tokens).min(engine.context());
        let adapter = engine.updates_of(request.adapter);
        // To score a prompt, all of it has to be taken in.
        let mut sequence = match request.prompt_logprobs {
            Some(_) => engine.runner.adapted_sequence(capacity, adapter.cloned())?,
            None => {
                let beside = self.longest_beside(prompt, request.adapter, engine);
                engine.sequence_for(prompt, capacity, request.adapter, beside)?
            }
        };
        engine.runner.reserve(&mut sequence, capacity)?;
        let reused_tokens = sequence.len();
        self.timings.reused_tokens += reused_tokens;
        self.prompting.push(Prompting { waiting, sequence, logprobs: Vec::new(), reused_tokens, begun });
        Ok(())
    }

    /// The longest beginning that a prompt has in common with a sequence that is under way.
    fn longest_beside(&self, prompt: &[u32], adapter: Option<usize>, engine: &Engine) -> Option<Sequence> {
        let adapter = engine.updates_of(adapter);
        let active = self.active.iter().map(|one| (&one.history[..], &one.sequence));
        let prompting = self.prompting.iter().map(|one| (&one.waiting.admitted.prompt[..], &one.sequence));
        let common = |(tokens, sequence): (&[u32], &Sequence)| match same(sequence.adapter(), adapter) {
            true => common(&tokens[..sequence.len().min(tokens.len())], prompt),
            false => 0,
        };
        let of = |(tokens, sequence)| (common((tokens, sequence)), sequence);
        let (length, sequence) = active.chain(prompting).map(of).max_by_key(|(length, _)| *length)?;
        (length > 0).then(|| {
            let mut sequence = sequence.clone();
            sequence.truncate(length);
            sequence
        })
    }

    /// Runs the newest token of each continuation with what was drafted after it, and parts of prompts, and goes on from
    /// what comes of them. Returns how many rows of each prompt were taken in.
    fn pass(
        &mut self,
        engine: &mut Engine,
        drafts: &[Vec<u32>],
        on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
        finished: &mut Vec<Finished>,
    ) -> Result<Vec<usize>> {
        let newest = |one: &Active| one.history[one.history.len() - 1];
        let tokens: Vec<Vec<u32>> = self
            .active
            .iter()
            .zip(drafts)
            .map(|(one, draft)| [&[newest(one)], &draft[..]].concat())
            .collect();
        let room = MAX_ROWS - tokens.iter().map(Vec::len).sum::<usize>();
        let wanted: Vec<usize> = self.prompting.iter().map(Prompting::wanted).collect();
        let parts = shares(&wanted, room);
        if self.active.is_empty() && parts.is_empty() {
            return Ok(parts);
        }
        let mut feeds: Vec<Feed> = self
            .active
            .iter_mut()
            .zip(&tokens)
            .map(|(one, tokens)| Feed { sequence: &mut one.sequence, tokens, logits: Logits::All })
            .collect();
        feeds.extend(self.prompting.iter_mut().zip(&parts).map(|(one, &part)| one.feed(part)));
        let wanted: Vec<usize> = feeds.iter().skip(tokens.len()).map(rows_wanted).collect();
        let width = engine.config().vocab_size;
        let mut logits = engine.runner.run(&mut feeds)?;
        let (mut broken_off, mut failed) = (false, Vec::new());
        for (one, draft) in self.active.iter_mut().zip(drafts) {
            let (rows, rest) = logits.split_at((draft.len() + 1) * width);
            logits = rest;
            let held = one.history.len();
            let mut accepted = 0;
            if !broken_off {
                match one.advance_through(rows, draft, on_event) {
                    Ok((count, broke)) => (accepted, broken_off) = (count, broke),
                    Err(error) => failed.push((one.request, error)),
                }
            }
            one.sequence.truncate(held + accepted);
            one.drafting.learn(held, draft.len(), accepted);
            self.timings.generated_tokens += one.history.len() - held;
            self.timings.drafted_tokens += draft.len();
            self.timings.accepted_tokens += accepted;
        }
        let mut of_prompts = Vec::with_capacity(wanted.len());
        for rows in wanted {
            let (mine, rest) = logits.split_at(rows * width);
            logits = rest;
            of_prompts.push(mine.to_vec());
        }
        for (id, error) in failed {
            self.fail(id, error, finished);
        }
        self.end_prompts(engine, &of_prompts, broken_off, on_event, finished)?;
        Ok(parts)
    }

    /// Begins the continuations of the prompts that have been taken in whole.
    fn end_prompts(
        &mut self,
        engine: &mut Engine,
        rows: &[Vec<f32>],
        broken_off: bool,
        on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
        finished: &mut Vec<Finished>,
    ) -> Result<()> {
        let width = engine.config().vocab_size;
        let mut broken_off = broken_off;
        for (mut one, rows) in std::mem::take(&mut self.prompting).into_iter().zip(rows) {
            one.score(rows, width, engine.tokenizer.vocab_size());
            if one.left() > 0 {
                self.prompting.push(one);
                continue;
            }
            if broken_off {
                continue;
            }
            let id = one.waiting.id;
            let logits = &rows[rows.len() - width..];
            let mut begun = self.start(engine, one, logits)?;
            let mut failure = None;
            for active in begun.iter_mut().filter(|active| active.finish.is_none()) {
                match active.advance(logits, on_event) {
                    Ok(broke) => broken_off |= broke,
                    Err(error) => failure = Some(error),
                }
            }
            self.active.extend(begun);
            if let Some(error) = failure {
                self.fail(id, error, finished);
            }
        }
        Ok(())
    }

    /// The continuations of a prompt, before their first token.
    fn start(&mut self, engine: &mut Engine, one: Prompting, logits: &[f32]) -> Result<Vec<Active>> {
        let Prompting { waiting, sequence, logprobs, reused_tokens, begun } = one;
        debug_assert!(!logits.is_empty(), "a prompt ends with logits");
        let Waiting { id, client, request, admitted, pages, since } = waiting;
        let prompt = &admitted.prompt[..];
        let all_drafting = engine.begin_drafting(prompt, sequence.capacity(), request.n)?;
        let limits = Limits {
            ends: if request.ignore_eos { Vec::new() } else { engine.ends_of(request.adapter) },
            max_tokens: request.max_tokens,
            context: engine.context(),
            context_shift: request.context_shift,
            entries: engine.tokenizer.vocab_size(),
        };
        let now = Instant::now();
        let times =
            Times { waited: begun - since, prompt: now - begun, generate: Duration::ZERO, first_token: now };
        let under_way =
            UnderWay { client, pages, left: request.n, times, reused_tokens, prompt_logprobs: logprobs };
        self.under_way.insert(id, under_way);
        let last = request.n - 1;
        let mut sequence = Some(sequence);
        let one = |(index, drafting)| {
            let sequence = if index == last { sequence.take() } else { sequence.clone() };
            Ok(Active {
                request: id,
                index,
                limits: limits.clone(),
                sequence: sequence.expect("the last continuation takes it"),
                drafting,
                history: prompt.to_vec(),
                prompt_tokens: prompt.len(),
                dropped_tokens: admitted.dropped_tokens,
                tokens: Vec::new(),
                sampler: Sampler::new(&request.sampling, index as u64)?,
                constraint: admitted.constraint.clone(),
                stream: TextStream::new(&engine.tokenizer, prompt, &request.stop),
                text: String::new(),
                top_logprobs: request.logprobs,
                logprobs: Vec::new(),
                told: 0,
                finish: (request.max_tokens == 0).then_some(FinishReason::Length),
            })
        };
        all_drafting.into_iter().enumerate().map(one).collect()
    }

    /// Ends a request that went wrong.
    fn fail(&mut self, id: usize, error: EngineError, finished: &mut Vec<Finished>) {
        self.active.retain(|one| one.request != id);
        if let Some(UnderWay { times, reused_tokens, prompt_logprobs, .. }) = self.under_way.remove(&id) {
            finished.push(Finished { id, completion: Err(error), times, reused_tokens, prompt_logprobs });
        }
    }

    /// What has come to its end.
    fn take_finished(
        &mut self,
        engine: &mut Engine,
        on_event: &mut impl FnMut(Event) -> ControlFlow<()>,
    ) -> Vec<Finished> {
        let mut finished = Vec::new();
        for one in self.active.extract_if(.., |one| one.finish.is_some()) {
            let (completion, history, sequence, drafting) = one.complete(on_event);
            engine.end_drafting(&history, drafting);
            engine.prefixes.keep(history, sequence);
            let id = completion.request;
            let Some(under_way) = self.under_way.get_mut(&id) else { continue };
            let now = Instant::now();
            let times = Times { generate: now - under_way.times.first_token, ..under_way.times };
            let (reused_tokens, prompt_logprobs) =
                (under_way.reused_tokens, under_way.prompt_logprobs.clone());
            under_way.left -= 1;
            if under_way.left == 0 {
                self.under_way.remove(&id);
            }
            finished.push(Finished { id, completion: Ok(completion), times, reused_tokens, prompt_logprobs });
        }
        finished
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiting, running) = (self.waiting(), self.running());
        f.debug_struct("Schedule").field("waiting", &waiting).field("running", &running).finish()
    }
}

impl Prompting {
    /// Tokens that are still to be taken in.
    fn left(&self) -> usize {
        self.waiting.admitted.prompt.len() - self.sequence.len()
    }

    /// Tokens to take in next, if there is room.
    fn wanted(&self) -> usize {
        match self.waiting.request.prompt_logprobs {
            Some(_) => self.left().min(SCORED_ROWS),
            None => self.left(),
        }
    }

    fn feed(&mut self, part: usize) -> Feed<'_> {
        let from = self.sequence.len();
        let (prompt, scored) =
            (&self.waiting.admitted.prompt, self.waiting.request.prompt_logprobs.is_some());
        let logits = match (scored, from + part == prompt.len()) {
            (true, _) => Logits::All,
            (false, true) => Logits::Last,
            (false, false) => Logits::None,
        };
        Feed { sequence: &mut self.sequence, tokens: &prompt[from..from + part], logits }
    }

    /// Takes down how likely the tokens after those just taken in are, if that is asked for.
    fn score(&mut self, rows: &[f32], width: usize, entries: usize) {
        let Some(count) = self.waiting.request.prompt_logprobs else { return };
        let (prompt, end) = (&self.waiting.admitted.prompt, self.sequence.len());
        let first = end - rows.len() / width;
        for (row, &next) in rows.chunks_exact(width).zip(&prompt[first + 1..]) {
            self.logprobs.push(TokenLogprobs::of(row, next, count, entries));
        }
    }
}

/// Rows of logits that a feed asks for.
fn rows_wanted(feed: &Feed) -> usize {
    match feed.logits {
        Logits::None => 0,
        Logits::Last => 1,
        Logits::All => feed.tokens.len(),
    }
}

/// Shares `room` rows among prompts with so many tokens left. The one that came first gets half at least, the others
/// what is left of it, the shortest first: a long prompt holds none of them up, and is not held up.
fn shares(left: &[usize], room: usize) -> Vec<usize> {
    let mut shares = vec![0; left.len()];
    let (Some(&first), mut room) = (left.first(), room) else { return shares };
    let others: usize = left[1..].iter().sum();
    shares[0] = first.min(room.saturating_sub(others).max(room.div_ceil(2)));
    room -= shares[0];
    let mut order: Vec<usize> = (1..left.len()).collect();
    order.sort_by_key(|&i| left[i]);
    for i in order {
        shares[i] = left[i].min(room);
        room -= shares[i];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_goes_to_the_first_prompt_and_the_shortest() {
        for (left, room, expect) in [
            (&[][..], 256, &[][..]),
            (&[100], 256, &[100]),
            (&[1000], 256, &[256]),
            (&[1000, 20], 256, &[236, 20]),
            (&[1000, 500, 20], 256, &[128, 108, 20]),
            (&[10, 300, 200, 40], 256, &[10, 6, 200, 40]),
            (&[128, 128, 128], 256, &[128, 128, 0]),
            (&[7, 7], 0, &[0, 0]),
            (&[7, 7], 1, &[1, 0]),
        ] {
            assert_eq!(shares(left, room), expect, "{left:?} in {room}");
        }
    }
}
