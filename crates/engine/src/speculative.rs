//! Speculative decoding: the next tokens are drafted cheaply, and one pass over the weights checks them all
//! (Leviathan et al. 2023; Saxena 2023 for drafts out of the text itself).
//!
//! Each position's token is drawn from the model's own logits, by the sampler that would draw it anyway. A
//! drafted token only decides whether the pass has the next position's logits too: it has if the draft is what
//! was drawn. A row's result doesn't depend on its company, so the output is bit for bit that of ordinary
//! decoding, whatever the sampler, penalties or constraint, and however bad the drafts are.

use crate::continuation::Active;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use hearth_kernel::softmax::softmax_forward;
use hearth_model::{Feed, Logits, Sequence};

/// Tokens of a continuation's first draft.
const FIRST_DRAFT: usize = 4;
/// A full acceptance lets the next draft have so many tokens more.
const GROWTH: usize = 2;
/// A draft model drafts no further after a token that it finds less likely than this.
const LEAST_SURE: f32 = 0.6;
/// No longer repetition is looked for: of those at least as long the latest will do.
const LONGEST_MATCH: usize = 16;
/// Most tokens that a draft model takes in together with others; more are a prompt.
const CATCH_UP: usize = 2;

/// Where drafts come from, and how long they may become.
#[derive(Debug)]
pub struct Speculation {
    /// What drafts.
    pub draft: Draft,
    /// Most tokens of a draft. How many it has adapts: more after one that was right as a whole, fewer after
    /// one that wasn't.
    pub max_tokens: usize,
}

/// What drafts tokens.
#[derive(Debug)]
pub enum Draft {
    /// What followed when the end of the text last occurred.
    PromptLookup {
        /// Tokens at the end that must have occurred before.
        min_match: usize,
    },
    /// The likeliest tokens of a smaller model with the same vocabulary, for as long as it is sure of them.
    /// Where its context ends nothing is drafted.
    Model(Box<Engine>),
}

/// What drafting knows of one continuation.
#[derive(Debug, Default)]
pub(crate) struct Drafting {
    /// Tokens of the next draft, if there is room.
    length: usize,
    /// Most that it may become.
    longest: usize,
    /// What a draft model has taken in, the beginning of the history.
    sequence: Option<Sequence>,
}

impl Engine {
    /// From now on tokens are drafted, or no longer. The output stays the same.
    ///
    /// # Errors
    /// If drafts can have no token, or the draft model has other tokens.
    pub fn set_speculation(&mut self, speculation: Option<Speculation>) -> Result<()> {
        if let Some(Speculation { draft, max_tokens }) = &speculation {
            let problem = |problem: String| Err(EngineError::Draft { problem });
            if *max_tokens == 0 {
                return problem("drafts of 0 tokens, expected at least 1".to_owned());
            }
            match draft {
                Draft::PromptLookup { min_match: 0 } => {
                    return problem("a match of 0 tokens, expected at least 1".to_owned());
                }
                Draft::PromptLookup { .. } => {}
                Draft::Model(draft) => self.check_same_tokens(draft)?,
            }
        }
        self.speculation = speculation;
        Ok(())
    }

    fn check_same_tokens(&self, draft: &Engine) -> Result<()> {
        let (mine, other) = (&self.tokenizer, &draft.tokenizer);
        let differ = if mine.vocab_size() != other.vocab_size() {
            format!("its tokenizer has {} tokens, the model's {}", other.vocab_size(), mine.vocab_size())
        } else {
            let ids = 0..mine.vocab_size() as u32;
            let Some(id) = ids.into_iter().find(|&id| mine.token_bytes(id) != other.token_bytes(id)) else {
                return Ok(());
            };
            let shown =
                |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let (other, mine) = (shown(other.token_bytes(id)), shown(mine.token_bytes(id)));
            format!("its token {id} is {other:?}, the model's {mine:?}")
        };
        let hint = "a draft model must have the model's tokenizer; a smaller one of the same family has, and so \
                    has the model itself in a smaller type (hearth quantize)";
        Err(EngineError::Draft { problem: format!("{differ}\nhint: {hint}") })
    }

    /// Gets ready to draft for `n` continuations of a prompt; a draft model takes it in once.
    pub(crate) fn begin_drafting(
        &mut self,
        prompt: &[u32],
        capacity: usize,
        n: usize,
    ) -> Result<Vec<Drafting>> {
        let Some(Speculation { draft, max_tokens }) = &mut self.speculation else {
            return Ok((0..n).map(|_| Drafting::default()).collect());
        };
        let (longest, length) = (*max_tokens, FIRST_DRAFT.min(*max_tokens));
        let mut all: Vec<Drafting> = (0..n).map(|_| Drafting { length, longest, sequence: None }).collect();
        if let Draft::Model(draft) = draft {
            let capacity = capacity.min(draft.context());
            let first = if prompt.len() < capacity {
                let mut sequence = draft.sequence_for(prompt, capacity, None, None)?;
                let fresh = &prompt[sequence.len()..];
                draft.runner.prefill(&mut sequence, fresh)?;
                sequence
            } else {
                draft.runner.sequence(capacity)?
            };
            all[1..].iter_mut().for_each(|one| one.sequence = Some(first.clone()));
            all[0].sequence = Some(first);
        }
        Ok(all)
    }

    /// Drafts tokens for each continuation: as many as there is room for in so many rows, none without speculation.
    pub(crate) fn draft(&mut self, active: &mut [Active], rows: usize) -> Result<Vec<Vec<u32>>> {
        let Some(Speculation { draft, .. }) = &mut self.speculation else {
            return Ok(vec![Vec::new(); active.len()]);
        };
        let together = (rows / active.len().max(1)).saturating_sub(1);
        match draft {
            Draft::PromptLookup { min_match } => Ok(active
                .iter()
                .map(|one| look_up(&one.history, *min_match, one.room_for_draft().min(together)))
                .collect()),
            Draft::Model(model) => model.draft_greedily(active, together),
        }
    }

    /// The likeliest next tokens of each continuation, at most `together`.
    fn draft_greedily(&mut self, active: &mut [Active], together: usize) -> Result<Vec<Vec<u32>>> {
        let mut attempts: Vec<Attempt> = active.iter_mut().map(|one| Attempt::new(one, together)).collect();
        for attempt in attempts.iter_mut().filter(|attempt| attempt.wanted > 0) {
            let behind = &attempt.history[attempt.sequence.len()..];
            if behind.len() > CATCH_UP {
                self.runner.prefill(attempt.sequence, &behind[..behind.len() - 1])?;
            }
        }
        let (entries, width) = (self.tokenizer.vocab_size(), self.config().vocab_size);
        let mut probabilities = vec![0.0; entries];
        for round in 0..attempts.iter().map(|attempt| attempt.wanted).max().unwrap_or(0) {
            let mut going: Vec<&mut Attempt> =
                attempts.iter_mut().filter(|attempt| attempt.wanted > round).collect();
            let mut feeds: Vec<Feed> = going.iter_mut().map(|attempt| attempt.feed()).collect();
            let rows = self.runner.run(&mut feeds)?.chunks_exact(width);
            for (attempt, row) in going.iter_mut().zip(rows) {
                let (logits, position) = (&row[..entries], attempt.sequence.len());
                softmax_forward(logits, entries, &mut probabilities);
                let token = likeliest(logits);
                let sure = probabilities[token as usize];
                if sure.is_nan() {
                    let problem = format!("its logits at position {position} aren't finite numbers");
                    return Err(EngineError::Draft { problem });
                }
                attempt.draft.push(token);
                if sure < LEAST_SURE {
                    attempt.wanted = attempt.draft.len();
                }
            }
        }
        Ok(attempts.into_iter().map(|attempt| attempt.draft).collect())
    }

    /// Keeps what the draft model took in for the next prompt.
    pub(crate) fn end_drafting(&mut self, history: &[u32], drafting: Drafting) {
        if let (Some(Speculation { draft: Draft::Model(draft), .. }), Some(sequence)) =
            (&mut self.speculation, drafting.sequence)
        {
            let held = history[..sequence.len()].to_vec();
            draft.prefixes.keep(held, sequence);
        }
    }
}

impl Drafting {
    /// Most tokens that are worth drafting next.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Adapts to how many of the drafted tokens were right, and forgets those that weren't. `held` is the
    /// length of the history before them.
    pub(crate) fn learn(&mut self, held: usize, drafted: usize, accepted: usize) {
        if drafted > 0 {
            self.length = match accepted == drafted {
                true => (self.length + GROWTH).min(self.longest),
                false => (accepted + 1).min(self.length),
            };
        }
        self.truncate(held + accepted);
    }

    /// Forgets all but the first `len` tokens of the history.
    pub(crate) fn truncate(&mut self, len: usize) {
        if let Some(sequence) = &mut self.sequence {
            sequence.truncate(len);
        }
    }
}

/// A draft that a model makes.
struct Attempt<'a> {
    sequence: &'a mut Sequence,
    history: &'a [u32],
    wanted: usize,
    draft: Vec<u32>,
}

impl<'a> Attempt<'a> {
    fn new(one: &'a mut Active, together: usize) -> Self {
        let wanted = one.room_for_draft().min(together);
        let sequence = one.drafting.sequence.as_mut().expect("a draft model has one for each continuation");
        // Of the last token it only needs to be the likeliest, not taken in.
        let room = (sequence.capacity() + 1).saturating_sub(one.history.len());
        Attempt { sequence, history: &one.history, wanted: wanted.min(room), draft: Vec::new() }
    }

    /// What it takes in for the next token.
    fn feed(&mut self) -> Feed<'_> {
        let tokens = match self.draft.len() {
            0 => &self.history[self.sequence.len()..],
            drafted => &self.draft[drafted - 1..],
        };
        assert!(!tokens.is_empty(), "the draft model has taken in what wasn't written");
        Feed { sequence: self.sequence, tokens, logits: Logits::Last }
    }
}

/// The id of the largest logit, of equal ones the lowest.
fn likeliest(logits: &[f32]) -> u32 {
    let order = |a: &(u32, &f32), b: &(u32, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
    (0..).zip(logits).max_by(order).map_or(0, |(id, _)| id)
}

/// `count` tokens that followed where the end of `history` occurred before: at the latest of its longest
/// occurrences, of at least `min_match` tokens. An occurrence that overlaps the end is a repetition, and goes on.
fn look_up(history: &[u32], min_match: usize, count: usize) -> Vec<u32> {
    let (mut longest, mut after) = (0, 0);
    for end in (1..history.len()).rev() {
        let pairs = history[..end].iter().rev().zip(history.iter().rev());
        let matched = pairs.take(LONGEST_MATCH.max(min_match)).take_while(|(a, b)| a == b).count();
        if matched > longest {
            (longest, after) = (matched, end);
        }
    }
    if longest < min_match {
        return Vec::new();
    }
    let period = history.len() - after;
    (0..count).map(|i| history[after + i % period]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_grow_while_they_are_right_and_shrink_after() {
        let mut drafting = Drafting { length: 4, longest: 7, sequence: None };
        let lengths =
            [(4, 4), (6, 6), (7, 3), (4, 0), (1, 0), (1, 1), (0, 0), (2, 2)].map(|(drafted, accepted)| {
                drafting.learn(9, drafted, accepted);
                drafting.length()
            });
        assert_eq!(lengths, [6, 7, 4, 1, 1, 3, 3, 5]);
    }

    #[test]
    fn what_followed_the_longest_and_latest_match_is_drafted() {
        for (history, min_match, count, expect) in [
            (&[1, 2, 3, 9, 1, 2, 4, 9, 1, 2][..], 1, 3, &[4, 9, 1][..]),
            (&[7, 1, 2, 3, 9, 8, 1, 2, 4, 9, 7, 1, 2], 1, 2, &[3, 9]),
            (&[1, 2, 3, 2], 1, 1, &[3]),
            (&[1, 2, 3, 2], 2, 1, &[]),
            (&[1, 2, 3, 4], 1, 5, &[]),
            (&[5], 1, 5, &[]),
            (&[], 1, 5, &[]),
            (&[1, 2, 1, 2], 2, 5, &[1, 2, 1, 2, 1]),
            (&[3, 3], 1, 3, &[3, 3, 3]),
            (&[1, 2, 1, 2], 2, 0, &[]),
        ] {
            assert_eq!(look_up(history, min_match, count), expect, "{history:?}");
        }
    }
}
