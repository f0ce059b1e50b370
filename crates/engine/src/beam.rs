//! Beam search: the continuations that score best, of those that a search W hypotheses wide comes across.
//!
//! A hypothesis of T tokens, one that ends it included, scores Σ ln p / Tᴬ. A step goes on from the W
//! unfinished hypotheses with the largest Σ ln p, all of them in one pass over the weights. The rules are those
//! of `transformers` with `early_stopping=True`: of the continuations by Σ ln p, those among the first W that
//! end the text are complete, and the first W that don't are gone on from. The search is over with W complete
//! ones, or when they have as many tokens as they may.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::generate::{FinishReason, MAX_TOGETHER, Prompt, Timings};
use crate::logprobs::likeliest;
use crate::score::log_sum_exp;
use crate::stream::TextStream;
use hearth_model::{Feed, Logits, Sequence};
use std::ops::ControlFlow;
use std::time::Instant;

/// A prompt, and how its best continuations are searched for.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamSearch {
    /// What is to be continued.
    pub prompt: Prompt,
    /// Most tokens of a continuation.
    pub max_tokens: usize,
    /// W: hypotheses that are gone on from.
    pub beams: usize,
    /// A: with 0 the likeliest continuation is best, with 1 the one with the best mean; more favours longer ones.
    pub length_penalty: f64,
    /// Continuations to return, at most W.
    pub n: usize,
    /// Go on after a token that ends a text.
    pub ignore_eos: bool,
}

impl BeamSearch {
    /// The best continuation of `prompt` by its mean log-probability, of at most `max_tokens` tokens.
    pub fn new(prompt: &str, max_tokens: usize, beams: usize) -> Self {
        let prompt = Prompt::Text(prompt.to_owned());
        BeamSearch { prompt, max_tokens, beams, length_penalty: 1.0, n: 1, ignore_eos: false }
    }
}

/// A continuation that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Its text.
    pub text: String,
    /// Its tokens, one that ended the text included.
    pub tokens: Vec<u32>,
    /// Σ ln p of its tokens.
    pub logprob: f64,
    /// `logprob / tokensᴬ`.
    pub score: f64,
    /// Why it ended.
    pub finish: FinishReason,
}

/// A hypothesis that is gone on from.
struct Beam {
    /// Holds the prompt and all tokens, the newest one once a step has taken it in.
    sequence: Sequence,
    tokens: Vec<u32>,
    logprob: f64,
}

/// A hypothesis with one token more.
struct Candidate {
    /// Index of the beam.
    beam: usize,
    token: u32,
    logprob: f64,
}

impl Engine {
    /// Searches for the best continuations of a prompt; the best comes first. There are fewer than asked for
    /// only if there are no more. `on_step` hears how many tokens the hypotheses have, and may break off.
    ///
    /// # Errors
    /// If the search can't be carried out (before anything is worked on), if the model's output isn't a
    /// distribution, or if the caller breaks off.
    pub fn beam_search(
        &mut self,
        search: &BeamSearch,
        mut on_step: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<(Vec<Hypothesis>, Timings)> {
        let prompt = self.searched_prompt(search)?;
        // The last token of a continuation isn't taken in.
        let room = self.context() - prompt.len() + 1;
        let most = search.max_tokens.min(room);
        let full = if search.max_tokens <= room { FinishReason::Length } else { FinishReason::ContextFull };
        let (mut timings, start) = (Timings::default(), Instant::now());
        let mut sequence = self.sequence_for(&prompt, prompt.len() + most - 1, None, None)?;
        timings.reused_tokens = sequence.len();
        timings.prompt_tokens = prompt.len() - sequence.len();
        let mut logits = self.runner.prefill(&mut sequence, &prompt[timings.reused_tokens..])?.to_vec();
        timings.prompt_seconds = start.elapsed().as_secs_f64();
        timings.first_token_seconds = timings.prompt_seconds;
        let mut beams = vec![Beam { sequence, tokens: Vec::new(), logprob: 0.0 }];
        let mut complete: Vec<Hypothesis> = Vec::new();
        loop {
            let step = Instant::now();
            let length = beams[0].tokens.len() + 1;
            let mut next: Vec<Candidate> = Vec::new();
            for (rank, candidate) in
                self.candidates(&beams, &logits, search, &prompt)?.into_iter().enumerate()
            {
                let ends = self.special.ends.contains(&candidate.token) && !search.ignore_eos;
                if !ends && length < most {
                    next.push(candidate);
                } else if rank < search.beams {
                    let tokens = candidate.tokens(&beams);
                    let score = candidate.logprob / (length as f64).powf(search.length_penalty);
                    let finish = if ends { FinishReason::Eos } else { full };
                    let text = String::new();
                    complete.push(Hypothesis { text, tokens, logprob: candidate.logprob, score, finish });
                }
            }
            complete.sort_by(|a, b| b.score.total_cmp(&a.score));
            complete.truncate(search.beams);
            next.truncate(search.beams);
            if complete.len() == search.beams || next.is_empty() {
                break;
            }
            if on_step(length).is_break() {
                return Err(EngineError::Interrupted);
            }
            beams = grown(&beams, &next);
            logits = self.take_in(&mut beams)?;
            timings.generated_tokens += beams.len();
            timings.generate_seconds += step.elapsed().as_secs_f64();
        }
        // The next prompt may begin like this one.
        let Beam { sequence, tokens, .. } = beams.swap_remove(0);
        self.prefixes.keep([&prompt[..], &tokens].concat(), sequence);
        complete.truncate(search.n);
        for hypothesis in &mut complete {
            hypothesis.text = self.text_after(&prompt, hypothesis);
        }
        Ok((complete, timings))
    }

    /// Checks everything about a search that can be checked beforehand; returns the tokens of its prompt.
    fn searched_prompt(&self, search: &BeamSearch) -> Result<Vec<u32>> {
        let outside = |name, got: &dyn ToString, expected: String| {
            Err(EngineError::BeamSearch { name, got: got.to_string(), expected })
        };
        if search.beams == 0 || search.beams > MAX_TOGETHER {
            return outside("beams", &search.beams, format!("1 to {MAX_TOGETHER}"));
        }
        if search.n == 0 || search.n > search.beams {
            return outside("n", &search.n, format!("1 to {}, the number of beams", search.beams));
        }
        if search.max_tokens == 0 {
            return outside("max_tokens", &search.max_tokens, "at least 1".to_owned());
        }
        if !search.length_penalty.is_finite() {
            return outside("length_penalty", &search.length_penalty, "a number".to_owned());
        }
        let tokens = self.tokens_of(&search.prompt)?;
        if tokens.len() >= self.context() {
            return Err(EngineError::PromptTooLong { tokens: tokens.len(), context: self.context() });
        }
        Ok(tokens)
    }

    /// Continuations of the hypotheses by one token, the likeliest first; of equal ones that of the likelier
    /// hypothesis, then the lower id. Among them are the first W that don't end the text, and all that come
    /// before those. `logits` has a row of V values a hypothesis; only ids with a token are gone on with.
    fn candidates(
        &self,
        beams: &[Beam],
        logits: &[f32],
        search: &BeamSearch,
        prompt: &[u32],
    ) -> Result<Vec<Candidate>> {
        let (width, entries) = (self.config().vocab_size, self.tokenizer.vocab_size());
        // So many of one row that W are left whichever of them end the text.
        let count = (search.beams + self.special.ends.len()).min(entries);
        let mut candidates = Vec::with_capacity(beams.len() * count);
        for (index, (beam, row)) in beams.iter().zip(logits.chunks_exact(width)).enumerate() {
            let total = log_sum_exp(row);
            if !total.is_finite() {
                return Err(EngineError::NotFinite { position: prompt.len() + beam.tokens.len() });
            }
            candidates.extend(likeliest(&row[..entries], count).into_iter().map(|token| {
                let logprob = beam.logprob + (f64::from(row[token as usize]) - total);
                Candidate { beam: index, token, logprob }
            }));
        }
        candidates.retain(|candidate| candidate.logprob.is_finite());
        // Stable: what comes first of equal ones stays first.
        candidates.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
        Ok(candidates)
    }

    /// Takes the newest token of each hypothesis in, in one pass over the weights; a row of V logits each.
    fn take_in(&mut self, beams: &mut [Beam]) -> Result<Vec<f32>> {
        let mut feeds: Vec<Feed> = beams
            .iter_mut()
            .map(|beam| {
                let newest = &beam.tokens[beam.tokens.len() - 1..];
                Feed { sequence: &mut beam.sequence, tokens: newest, logits: Logits::Last }
            })
            .collect();
        Ok(self.runner.run(&mut feeds)?.to_vec())
    }

    /// The text of a continuation.
    fn text_after(&self, prompt: &[u32], hypothesis: &Hypothesis) -> String {
        let mut stream = TextStream::new(&self.tokenizer, prompt, &[]);
        let end = usize::from(hypothesis.finish == FinishReason::Eos);
        let tokens = &hypothesis.tokens[..hypothesis.tokens.len() - end];
        let mut text: String = tokens.iter().map(|&token| stream.push(token).text).collect();
        text.push_str(&stream.finish());
        text
    }
}

impl Candidate {
    /// All its tokens.
    fn tokens(&self, beams: &[Beam]) -> Vec<u32> {
        [&beams[self.beam].tokens[..], &[self.token]].concat()
    }
}

/// The hypotheses that the next step goes on from; they share the pages of what they begin with.
fn grown(beams: &[Beam], next: &[Candidate]) -> Vec<Beam> {
    let child = |candidate: &Candidate| Beam {
        sequence: beams[candidate.beam].sequence.clone(),
        tokens: candidate.tokens(beams),
        logprob: candidate.logprob,
    };
    next.iter().map(child).collect()
}
