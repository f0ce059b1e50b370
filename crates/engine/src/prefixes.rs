//! Sequences that ended: a prompt that begins like one of them goes on from there, and shares its pages.

use hearth_model::{Sequence, Updates};
use std::collections::VecDeque;
use std::sync::Arc;

/// Sequences that ended, the one used last at the back.
#[derive(Debug)]
pub(crate) struct Prefixes {
    kept: VecDeque<Prefix>,
    most: usize,
}

/// A sequence, and the tokens that it holds.
#[derive(Debug)]
struct Prefix {
    tokens: Vec<u32>,
    sequence: Sequence,
}

impl Prefixes {
    /// Keeps at most so many.
    pub(crate) fn new(most: usize) -> Self {
        Prefixes { kept: VecDeque::new(), most }
    }

    /// How many are kept at most.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// What is kept that has the longest beginning in common with a prompt that goes through `adapter`, cut to that;
    /// none if nothing has any. At least one token of the prompt is left to take in.
    pub(crate) fn longest(&mut self, prompt: &[u32], adapter: Option<&Arc<Updates>>) -> Option<Sequence> {
        let common = |prefix: &Prefix| match same(prefix.sequence.adapter(), adapter) {
            true => common(&prefix.tokens, prompt),
            false => 0,
        };
        let lengths = self.kept.iter().map(common).enumerate();
        // Of equal ones the one used last.
        let (index, length) = lengths.max_by_key(|&(index, length)| (length, index))?;
        if length == 0 {
            return None;
        }
        let used = self.kept.remove(index)?;
        let mut sequence = used.sequence.clone();
        sequence.truncate(length);
        self.kept.push_back(used);
        Some(sequence)
    }

    /// Keeps a sequence, and drops those that it begins with.
    pub(crate) fn keep(&mut self, mut tokens: Vec<u32>, sequence: Sequence) {
        tokens.truncate(sequence.len());
        let shorter = |kept: &Prefix| {
            same(kept.sequence.adapter(), sequence.adapter()) && tokens.starts_with(&kept.tokens)
        };
        self.kept.retain(|kept| !shorter(kept));
        self.kept.push_back(Prefix { tokens, sequence });
        while self.kept.len() > self.most {
            self.kept.pop_front();
        }
    }

    /// Drops the one that wasn't used for the longest; false if there is none.
    pub(crate) fn drop_oldest(&mut self) -> bool {
        self.kept.pop_front().is_some()
    }
}

/// How many tokens of a prompt, but for the last, another text begins with.
pub(crate) fn common(tokens: &[u32], prompt: &[u32]) -> usize {
    let same = tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    same.min(prompt.len().saturating_sub(1))
}

/// Whether two sequences go through the same adapter, or both through none.
pub(crate) fn same(a: Option<&Arc<Updates>>, b: Option<&Arc<Updates>>) -> bool {
    a.map(Arc::as_ptr) == b.map(Arc::as_ptr)
}
