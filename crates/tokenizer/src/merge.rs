//! The merge loop of byte-pair encoding (Sennrich et al. 2016, section 3.2), incremental.
//!
//! Pair counts are kept over the distinct words, each with the list of words it occurs in, so that
//! a merge touches only those. A heap yields the most frequent pair; its entries may be stale and
//! are then put back with the true count. Ties go to the smaller pair of ids, so the result is a
//! function of the word counts alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::{HashMap, HashSet};

use crate::alphabet;
use crate::count::WordCounts;

type Symbol = u32;
/// Two adjacent symbols, the left one in the high half: ordered as the pair of ids is.
type Pair = u64;
type Map<K, V> = HashMap<K, V, ahash::RandomState>;

fn pair(left: Symbol, right: Symbol) -> Pair {
    u64::from(left) << 32 | u64::from(right)
}

/// What training produced: tokens as raw bytes, by id, and the merges in order of priority.
pub(crate) struct Merged {
    pub(crate) tokens: Vec<Vec<u8>>,
    pub(crate) merges: Vec<(Symbol, Symbol)>,
}

#[derive(Default)]
struct Occurrences {
    /// Weighted by the counts of the words. Signed only so that it can be adjusted both ways.
    count: i64,
    /// Every word that holds the pair is in here; a word that no longer does may be too.
    words: Vec<u32>,
    /// The merge that last raised the count, so that the heap gets it once a merge.
    raised_in: usize,
}

struct Words {
    symbols: Vec<Symbol>,
    starts: Vec<usize>,
    lens: Vec<u32>,
    counts: Vec<i64>,
}

impl Words {
    fn new(counted: WordCounts, symbol_of: &[Symbol; 256]) -> Self {
        let n = counted.len();
        let total: usize = counted.iter().map(|(word, _)| word.len()).sum();
        let mut words = Self {
            symbols: Vec::with_capacity(total),
            starts: Vec::with_capacity(n),
            lens: Vec::with_capacity(n),
            counts: Vec::with_capacity(n),
        };
        for (word, count) in counted.iter() {
            words.starts.push(words.symbols.len());
            words.lens.push(word.len() as u32);
            words.counts.push(i64::try_from(count).unwrap_or(i64::MAX));
            words.symbols.extend(word.iter().map(|&byte| symbol_of[usize::from(byte)]));
        }
        words
    }

    /// Replaces `left right` by `merged` from left to right in one word, telling `change` of each
    /// pair that came or went.
    fn merge(
        &mut self,
        word: usize,
        (left, right): (Symbol, Symbol),
        merged: Symbol,
        mut change: impl FnMut(Pair, i64),
    ) {
        let len = self.lens[word] as usize;
        let symbols = &mut self.symbols[self.starts[word]..][..len];
        let (mut read, mut write) = (0, 0);
        while read < len {
            if read + 1 < len && symbols[read] == left && symbols[read + 1] == right {
                if write > 0 {
                    change(pair(symbols[write - 1], left), -1);
                    change(pair(symbols[write - 1], merged), 1);
                }
                if read + 2 < len {
                    change(pair(right, symbols[read + 2]), -1);
                    change(pair(merged, symbols[read + 2]), 1);
                }
                symbols[write] = merged;
                read += 2;
            } else {
                symbols[write] = symbols[read];
                read += 1;
            }
            write += 1;
        }
        self.lens[word] = write as u32;
    }
}

/// Merges until there are `vocab_size` tokens or no pair occurs at least `min_frequency` times.
/// `progress` hears the number of tokens now and then.
pub(crate) fn merge_words(
    counted: WordCounts,
    vocab_size: usize,
    min_frequency: u64,
    mut progress: impl FnMut(usize),
) -> Merged {
    let bytes = alphabet::bytes_in_order();
    let mut symbol_of = [0; 256];
    for (id, &byte) in bytes.iter().enumerate() {
        symbol_of[usize::from(byte)] = id as Symbol;
    }
    let mut tokens: Vec<Vec<u8>> = bytes.iter().map(|&byte| vec![byte]).collect();
    let hasher = || ahash::RandomState::with_seeds(5, 6, 7, 8);
    let mut id_of: Map<Vec<u8>, Symbol> = Map::with_hasher(hasher());
    id_of.extend(tokens.iter().cloned().zip(0..));
    let mut merges = Vec::new();
    let mut done: HashSet<Pair, ahash::RandomState> = HashSet::with_hasher(hasher());

    let mut words = Words::new(counted, &symbol_of);
    let mut pairs = count_pairs(&words, hasher());
    let mut heap: BinaryHeap<(i64, Reverse<Pair>)> =
        pairs.iter().map(|(&key, found)| (found.count, Reverse(key))).collect();
    let least = i64::try_from(min_frequency.max(1)).unwrap_or(i64::MAX);
    let mut raised: Vec<Pair> = Vec::new();

    let mut round = 0;
    while tokens.len() < vocab_size {
        let Some((count, Reverse(key))) = heap.pop() else { break };
        let Some(found) = pairs.get(&key) else { continue };
        if found.count != count {
            if found.count > 0 {
                heap.push((found.count, Reverse(key)));
            }
            continue;
        }
        if count < least {
            break;
        }
        round += 1;
        let (left, right) = ((key >> 32) as Symbol, key as Symbol);
        let places = pairs.remove(&key).map(|found| found.words).unwrap_or_default();
        let joined = [tokens[left as usize].as_slice(), &tokens[right as usize]].concat();
        // Two different pairs may spell the same token; the second reuses the first one's id.
        let merged = *id_of.entry(joined).or_insert_with_key(|joined| {
            tokens.push(joined.clone());
            tokens.len() as Symbol - 1
        });
        if done.insert(key) {
            merges.push((left, right));
        }
        for &word in &places {
            let count = words.counts[word as usize];
            words.merge(word as usize, (left, right), merged, |changed, sign| {
                if sign < 0 {
                    if let Some(found) = pairs.get_mut(&changed) {
                        found.count -= count;
                    }
                    return;
                }
                let found = pairs.entry(changed).or_default();
                found.count += count;
                if found.words.last() != Some(&word) {
                    found.words.push(word);
                }
                if found.raised_in != round {
                    found.raised_in = round;
                    raised.push(changed);
                }
            });
        }
        for key in raised.drain(..) {
            if let Some(found) = pairs.get(&key).filter(|found| found.count > 0) {
                heap.push((found.count, Reverse(key)));
            }
        }
        if round % 64 == 0 {
            progress(tokens.len());
        }
    }
    Merged { tokens, merges }
}

fn count_pairs(words: &Words, hasher: ahash::RandomState) -> Map<Pair, Occurrences> {
    let mut pairs: Map<Pair, Occurrences> = Map::with_hasher(hasher);
    for (word, (&start, &len)) in words.starts.iter().zip(&words.lens).enumerate() {
        for two in words.symbols[start..][..len as usize].windows(2) {
            let found = pairs.entry(pair(two[0], two[1])).or_default();
            found.count += words.counts[word];
            if found.words.last() != Some(&(word as u32)) {
                found.words.push(word as u32);
            }
        }
    }
    pairs
}
