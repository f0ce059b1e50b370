//! What becomes of a full context, if a request says so: the oldest part of the text goes, what is left is taken
//! in afresh at its new positions, and generating goes on as it would from that text.

use crate::continuation::Active;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::generate::Request;

/// Takes tokens out of the middle, in blocks of half of what the context holds after the first `keep`, until at
/// most `room` are left; says how many went.
///
/// Blocks begin at fixed places. A conversation that has lost some loses the same ones again in its next turn,
/// which then begins with what the cache holds.
fn shift(tokens: &mut Vec<u32>, keep: usize, context: usize, room: usize) -> usize {
    let block = (context - keep) / 2;
    let dropped = tokens.len().saturating_sub(room).div_ceil(block) * block;
    tokens.drain(keep..keep + dropped);
    dropped
}

impl Engine {
    /// Checks that a prompt leaves room for a token, or makes room if the request wants that; says how many
    /// tokens that took.
    pub(crate) fn fit_prompt(&self, index: usize, request: &Request, tokens: &mut Vec<u32>) -> Result<usize> {
        let context = self.context();
        match request.context_shift {
            Some(keep) if keep.saturating_add(2) > context => Err(EngineError::Request {
                request: index,
                problem: format!(
                    "a context shift that keeps {keep} tokens, but the model's context holds {context}: expected at \
                     most {}",
                    context.saturating_sub(2)
                ),
            }),
            Some(keep) if tokens.len() >= context => Ok(shift(tokens, keep, context, context - 1)),
            None if tokens.len() >= context => {
                Err(EngineError::PromptTooLong { tokens: tokens.len(), context })
            }
            _ => Ok(0),
        }
    }

    /// Makes room in a full context, for the newest token at least.
    pub(crate) fn make_room(&mut self, one: &mut Active) -> Result<()> {
        let context = one.limits.context;
        let Some(keep) = one.limits.context_shift.filter(|_| one.history.len() > context) else {
            return Ok(());
        };
        one.dropped_tokens += shift(&mut one.history, keep, context, context);
        one.sequence.truncate(keep);
        one.drafting.truncate(keep);
        self.runner.prefill(&mut one.sequence, &one.history[keep..one.history.len() - 1])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_newest_half_stay() {
        let check = |count: u32, keep, context, room, expect: &[u32]| {
            let mut tokens: Vec<u32> = (0..count).collect();
            let dropped = shift(&mut tokens, keep, context, room);
            assert_eq!(tokens, expect);
            assert_eq!(dropped + tokens.len(), count as usize);
        };
        check(11, 2, 10, 10, &[0, 1, 6, 7, 8, 9, 10]);
        check(10, 2, 10, 10, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        check(10, 2, 10, 9, &[0, 1, 6, 7, 8, 9]);
        check(19, 2, 10, 9, &[0, 1, 14, 15, 16, 17, 18]);
        check(11, 8, 10, 10, &[0, 1, 2, 3, 4, 5, 6, 7, 9, 10]);
        check(3, 0, 2, 2, &[1, 2]);
        check(9, 0, 2, 1, &[8]);
    }

    #[test]
    fn a_longer_text_loses_the_same_blocks_first() {
        let shifted = |count: u32| {
            let mut tokens: Vec<u32> = (0..count).collect();
            shift(&mut tokens, 3, 20, 19);
            tokens
        };
        for count in 20..200 {
            let (short, long) = (shifted(count), shifted(count + 1));
            assert!(long.len() < 20 && (long.starts_with(&short) || long[3] == short[3] + 8), "{count}");
        }
    }
}
