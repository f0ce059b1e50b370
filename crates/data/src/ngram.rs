//! Interpolated modified Kneser–Ney: the smoothed n-gram model that a neural one has to beat.
//!
//! Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1999),
//! section 3. For a context `h` and its shortening `h'`,
//!
//! ```text
//! p(w | h) = max(c(hw) − D(c(hw)), 0) / c(h) + γ(h) · p(w | h')
//! γ(h)     = 1 − Σ_w max(c(hw) − D(c(hw)), 0) / c(h)
//! ```
//!
//! where `c` is the count at the highest order, and below it the number of different tokens that
//! precede; the discounts `D(1)`, `D(2)`, `D(3+)` come from the counts of counts of each order; and
//! the single tokens rest on the uniform distribution. The token stream is counted as a ring (its
//! start follows its end), which gives every n-gram a predecessor.
//!
//! N-grams are kept as a trie of sorted arrays: 16 bytes an n-gram, 8 at the highest order.

use crate::error::{DataError, Result};

/// Discounts of an order whose counts of counts are too few to estimate them from.
const FALLBACK: [f64; 3] = [0.5, 0.75, 0.75];

/// A trained model.
pub struct KneserNey {
    order: usize,
    vocab: usize,
    /// `levels[k]` holds the (k+1)-grams.
    levels: Vec<Level>,
}

/// The n-grams of one length, sorted by their tokens.
#[derive(Default)]
struct Level {
    /// The last token of each n-gram.
    last: Vec<u32>,
    /// `(c − D) / c(h)`, as a share of what follows the n-gram's context.
    share: Vec<f32>,
    /// Where the n-grams that extend this one begin in the next level; one more than there are
    /// n-grams. Empty at the highest order.
    children: Vec<u32>,
    /// γ of this n-gram as a context. Empty at the highest order.
    backoff: Vec<f32>,
}

impl KneserNey {
    /// The highest order that is supported.
    pub const MAX_ORDER: usize = 5;

    /// Counts the n-grams of `tokens`, ids below `vocab`, up to `order` (1 to 5).
    pub fn train(tokens: &[u32], order: usize, vocab: usize) -> Result<Self> {
        Self::train_pruned(tokens, order, vocab, 1)
    }

    /// As [`Self::train`], forgetting n-grams of the highest order that occur fewer than
    /// `min_count` times; their probability goes to the shorter contexts.
    pub fn train_pruned(tokens: &[u32], order: usize, vocab: usize, min_count: u32) -> Result<Self> {
        check(tokens, order, vocab)?;
        let bits = (usize::BITS - vocab.leading_zeros()).max(1);
        let mask = |length: usize| (1u128 << (bits as usize * length)) - 1;
        let mut keys: Vec<u128> = Vec::with_capacity(tokens.len());
        let mut key = 0;
        let ring = tokens.iter().cycle().take(tokens.len() + order - 1);
        for (index, &token) in ring.enumerate() {
            key = ((key << bits) | u128::from(token)) & mask(order);
            if index + 1 >= order {
                keys.push(key);
            }
        }
        let mut levels = Vec::with_capacity(order);
        let mut longer: Option<Vec<u128>> = None;
        for length in (1..=order).rev() {
            keys.sort_unstable();
            let (mut distinct, counts) = run_lengths(&keys);
            keys.clear();
            keys.extend(distinct.iter().map(|key| key & mask(length - 1)));
            let (mut shares, kept_mass) = shares_of(&distinct, &counts, bits);
            if length == order && min_count > 1 && order > 1 {
                prune(&mut distinct, &counts, &mut shares, min_count);
            }
            let mut level =
                Level { last: last_tokens(&distinct, mask(1)), share: shares, ..Level::default() };
            if length == 1 {
                level = dense(&distinct, &level, kept_mass, vocab);
                distinct = (0..vocab as u128).collect();
            }
            if let Some(longer) = &longer {
                level.children = children_of(&distinct, longer, bits);
            }
            levels.push(level);
            longer = Some(distinct);
        }
        levels.reverse();
        fill_backoff(&mut levels);
        Ok(Self { order, vocab, levels })
    }

    /// The number of n-grams of each length, from 1 up.
    pub fn sizes(&self) -> Vec<usize> {
        self.levels.iter().map(|level| level.last.len()).collect()
    }

    /// The natural logarithm of the probability of `token` after `context`, of which the last
    /// `order - 1` tokens count. A token outside the vocabulary has none (negative infinity).
    pub fn log_prob(&self, context: &[u32], token: u32) -> f64 {
        if token as usize >= self.vocab {
            return f64::NEG_INFINITY;
        }
        let mut p = f64::from(self.levels[0].share[token as usize]);
        let context = &context[context.len().saturating_sub(self.order - 1)..];
        for start in (0..context.len()).rev() {
            let Some(node) = self.find(&context[start..]) else { break };
            let depth = context.len() - start;
            p *= f64::from(self.levels[depth - 1].backoff[node]);
            if let Some(child) = self.child(depth, node, token) {
                p += f64::from(self.levels[depth].share[child]);
            }
        }
        p.ln()
    }

    /// The cost in nats of every token after the first, each after all that precede it, and how
    /// many those are.
    pub fn evaluate(&self, tokens: &[u32]) -> (f64, usize) {
        let nats = (1..tokens.len())
            .map(|at| -self.log_prob(&tokens[at.saturating_sub(self.order)..at], tokens[at]));
        (nats.sum(), tokens.len().saturating_sub(1))
    }

    fn find(&self, words: &[u32]) -> Option<usize> {
        let mut node = words[0] as usize;
        if node >= self.vocab {
            return None;
        }
        for (depth, &word) in words.iter().enumerate().skip(1) {
            node = self.child(depth, node, word)?;
        }
        Some(node)
    }

    /// The n-gram of length `depth + 1` that extends `node`, of length `depth`, by `word`.
    fn child(&self, depth: usize, node: usize, word: u32) -> Option<usize> {
        let children = &self.levels[depth - 1].children;
        let (start, end) = (children[node] as usize, children[node + 1] as usize);
        self.levels[depth].last[start..end].binary_search(&word).ok().map(|at| start + at)
    }
}

fn check(tokens: &[u32], order: usize, vocab: usize) -> Result<()> {
    if !(1..=KneserNey::MAX_ORDER).contains(&order) {
        return Err(DataError::BadOption(format!(
            "an n-gram order of {order}: expected 1 to {}",
            KneserNey::MAX_ORDER
        )));
    }
    if vocab >= 1 << 25 {
        return Err(DataError::BadOption(format!(
            "a vocabulary of {vocab}: n-grams take at most 33554431 tokens"
        )));
    }
    if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab) {
        return Err(DataError::BadOption(format!("token id {token} in a vocabulary of {vocab}")));
    }
    if tokens.len() < order || tokens.len() >= u32::MAX as usize {
        return Err(DataError::BadOption(format!(
            "{} tokens for n-grams of order {order}: expected at least {order} and fewer than 2^32",
            tokens.len()
        )));
    }
    Ok(())
}

fn run_lengths(sorted: &[u128]) -> (Vec<u128>, Vec<u32>) {
    let (mut keys, mut counts) = (Vec::new(), Vec::new());
    for run in sorted.chunk_by(|a, b| a == b) {
        keys.push(run[0]);
        counts.push(run.len() as u32);
    }
    (keys, counts)
}

fn last_tokens(keys: &[u128], mask: u128) -> Vec<u32> {
    keys.iter().map(|key| (key & mask) as u32).collect()
}

/// The discounts for counts of 1, 2, and 3 or more (Chen and Goodman, equation 26).
fn discounts(counts: &[u32]) -> [f64; 3] {
    let mut n = [0.0; 5];
    for &count in counts.iter().filter(|&&count| count <= 4) {
        n[count as usize] += 1.0;
    }
    if n[1..].contains(&0.0) {
        return FALLBACK;
    }
    let y = n[1] / (n[1] + 2.0 * n[2]);
    let d = [1.0 - 2.0 * y * n[2] / n[1], 2.0 - 3.0 * y * n[3] / n[2], 3.0 - 4.0 * y * n[4] / n[3]];
    // Small corpora can give discounts that are negative or over the count.
    if d.iter().zip([1.0, 2.0, 3.0]).all(|(&d, count)| d >= 0.0 && d <= count) { d } else { FALLBACK }
}

/// The share of each n-gram in its context after discounting, and their sum in the last context.
fn shares_of(keys: &[u128], counts: &[u32], bits: u32) -> (Vec<f32>, f64) {
    let d = discounts(counts);
    let mut shares = Vec::with_capacity(keys.len());
    let (mut at, mut mass) = (0, 0.0);
    for run in keys.chunk_by(|a, b| a >> bits == b >> bits) {
        let counts = &counts[at..at + run.len()];
        at += run.len();
        let total: f64 = counts.iter().map(|&count| f64::from(count)).sum();
        mass = 0.0;
        for &count in counts {
            let share = (f64::from(count) - d[count.min(3) as usize - 1]) / total;
            mass += share;
            shares.push(share as f32);
        }
    }
    (shares, mass)
}

fn prune(keys: &mut Vec<u128>, counts: &[u32], shares: &mut Vec<f32>, min_count: u32) {
    let mut keep = counts.iter().map(|&count| count >= min_count);
    keys.retain(|_| keep.next() == Some(true));
    let mut keep = counts.iter().map(|&count| count >= min_count);
    shares.retain(|_| keep.next() == Some(true));
}

/// Single tokens by id, all of the vocabulary, resting on the uniform distribution.
fn dense(keys: &[u128], seen: &Level, mass: f64, vocab: usize) -> Level {
    let uniform = ((1.0 - mass) / vocab as f64) as f32;
    let mut share = vec![uniform; vocab];
    for (&key, &seen) in keys.iter().zip(&seen.share) {
        share[key as usize] += seen;
    }
    Level { last: (0..vocab as u32).collect(), share, ..Level::default() }
}

/// Where in `longer` the extensions of each of `keys` begin; both are sorted.
fn children_of(keys: &[u128], longer: &[u128], bits: u32) -> Vec<u32> {
    let mut starts = Vec::with_capacity(keys.len() + 1);
    let mut at = 0;
    for &key in keys {
        starts.push(at as u32);
        while at < longer.len() && longer[at] >> bits == key {
            at += 1;
        }
    }
    starts.push(at as u32);
    starts
}

/// γ of each context: what its n-grams leave over, pruned ones included.
fn fill_backoff(levels: &mut [Level]) {
    for depth in 1..levels.len() {
        let (shorter, longer) = levels.split_at_mut(depth);
        let (contexts, shares) = (&mut shorter[depth - 1], &longer[0].share);
        contexts.backoff = contexts
            .children
            .windows(2)
            .map(|range| {
                let kept: f64 =
                    shares[range[0] as usize..range[1] as usize].iter().map(|&s| f64::from(s)).sum();
                (1.0 - kept).clamp(0.0, 1.0) as f32
            })
            .collect();
    }
}
