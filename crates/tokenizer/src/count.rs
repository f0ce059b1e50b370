//! Counting words in bounded memory.
//!
//! The bytes of all distinct words lie in one buffer; a hash table of indices finds them. What a
//! word will cost the merging (its bytes, its symbols, the lists of places where its pairs occur)
//! is added up, and when the sum passes the bound the rarest words go.

use hashbrown::HashTable;

use crate::error::Result;
use crate::pretokenize::{PreTokenizer, Splitter};
use crate::threads::parallel_map;

/// Text is counted in batches of this many bytes. Pruning happens only between batches, so that
/// its outcome depends on the text alone and not on the number of threads.
const BATCH_BYTES: usize = 4 << 20;
/// Work is handed to a thread in pieces of about this many bytes.
const GRAIN_BYTES: usize = 128 << 10;

/// Distinct words and how often each occurred.
pub(crate) struct WordCounts {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    table: HashTable<u32>,
    hasher: ahash::RandomState,
}

struct Entry {
    start: usize,
    len: u32,
    count: u64,
}

impl WordCounts {
    pub(crate) fn new() -> Self {
        // Fixed keys: the order of iteration never depends on them, but a run should be repeatable
        // to the last table probe.
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        Self { bytes: Vec::new(), entries: Vec::new(), table: HashTable::new(), hasher }
    }

    pub(crate) fn add(&mut self, word: &[u8], count: u64) {
        let Self { bytes, entries, table, hasher } = self;
        let hash = hasher.hash_one(word);
        let word_of = |entry: &Entry| entry.start..entry.start + entry.len as usize;
        let found = table.entry(
            hash,
            |&index| &bytes[word_of(&entries[index as usize])] == word,
            |&index| hasher.hash_one(&bytes[word_of(&entries[index as usize])]),
        );
        match found {
            hashbrown::hash_table::Entry::Occupied(slot) => entries[*slot.get() as usize].count += count,
            hashbrown::hash_table::Entry::Vacant(slot) => {
                slot.insert(entries.len() as u32);
                entries.push(Entry { start: bytes.len(), len: word.len() as u32, count });
                bytes.extend_from_slice(word);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Words with their counts, in the order of their first occurrence.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.entries.iter().map(|e| (&self.bytes[e.start..e.start + e.len as usize], e.count))
    }

    /// Bytes that counting and merging these words take, roughly: 48 a word for its entries in the
    /// tables, and 9 a byte (itself, its symbol, its place in a pair's list).
    fn cost_bytes(&self) -> usize {
        48 * self.entries.len() + 9 * self.bytes.len()
    }

    /// Drops words seen at most once, then at most twice, four times, and so on, until the cost is
    /// at most half of `limit`. Returns how many words went.
    fn prune(&mut self, limit: usize) -> usize {
        let before = self.len();
        let mut floor = 1;
        while self.cost_bytes() > limit / 2 && self.len() > 0 {
            let mut kept = Self::new();
            for (word, count) in self.iter().filter(|(_, count)| *count > floor) {
                kept.add(word, count);
            }
            *self = kept;
            floor *= 2;
        }
        before - self.len()
    }
}

/// Streams texts into [`WordCounts`], several threads at a time.
pub(crate) struct Counter {
    pre: PreTokenizer,
    limit: usize,
    total: WordCounts,
    batch: Vec<String>,
    batch_bytes: usize,
    pub(crate) bytes: u64,
    pub(crate) texts: u64,
    pub(crate) pruned: u64,
}

impl Counter {
    pub(crate) fn new(pre: PreTokenizer, limit: usize) -> Self {
        let total = WordCounts::new();
        Self { pre, limit, total, batch: Vec::new(), batch_bytes: 0, bytes: 0, texts: 0, pruned: 0 }
    }

    /// Takes a text; returns whether a batch was counted.
    pub(crate) fn push(&mut self, text: String) -> Result<bool> {
        self.bytes += text.len() as u64;
        self.texts += 1;
        self.batch_bytes += text.len();
        self.batch.push(text);
        let full = self.batch_bytes >= BATCH_BYTES;
        if full {
            self.flush()?;
        }
        Ok(full)
    }

    pub(crate) fn words(&self) -> usize {
        self.total.len()
    }

    pub(crate) fn finish(mut self) -> Result<WordCounts> {
        self.flush()?;
        Ok(self.total)
    }

    fn flush(&mut self) -> Result<()> {
        let pieces: Vec<&[String]> = group_by_bytes(&self.batch, GRAIN_BYTES);
        let pre = self.pre;
        let counted = parallel_map(
            &pieces,
            |_| 1,
            1,
            || Splitter::new(pre),
            |splitter, texts| -> Result<WordCounts> {
                let mut counts = WordCounts::new();
                for text in *texts {
                    splitter.for_each(text, |word| counts.add(word.as_bytes(), 1))?;
                }
                Ok(counts)
            },
        );
        for counts in counted {
            for (word, count) in counts?.iter() {
                self.total.add(word, count);
            }
        }
        self.batch.clear();
        self.batch_bytes = 0;
        if self.total.cost_bytes() > self.limit {
            self.pruned += self.total.prune(self.limit) as u64;
        }
        Ok(())
    }
}

/// Cuts `texts` into runs of about `grain` bytes.
fn group_by_bytes(texts: &[String], grain: usize) -> Vec<&[String]> {
    let (mut groups, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (index, text) in texts.iter().enumerate() {
        bytes += text.len();
        if bytes >= grain {
            groups.push(&texts[start..=index]);
            (start, bytes) = (index + 1, 0);
        }
    }
    if start < texts.len() {
        groups.push(&texts[start..]);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pruning_keeps_the_frequent() {
        let mut counts = WordCounts::new();
        for i in 0..1000 {
            counts.add(format!("rare{i}").as_bytes(), 1);
        }
        counts.add(b"often", 100);
        counts.prune(2000);
        assert_eq!(counts.iter().collect::<Vec<_>>(), [(b"often".as_slice(), 100)]);
    }

    #[test]
    fn threads_do_not_change_counts() {
        let texts = |n: usize| (0..n).map(|i| format!("word{} and {}", i % 97, i % 13).repeat(60));
        let count = |threads: usize| {
            crate::set_threads(threads);
            let mut counter = Counter::new(PreTokenizer::Gpt2, 4000);
            for text in texts(9000) {
                counter.push(text).unwrap();
            }
            let pruned = counter.pruned;
            let counts = counter.finish().unwrap();
            (counts.iter().map(|(w, c)| (w.to_vec(), c)).collect::<Vec<_>>(), pruned)
        };
        let (one, three) = (count(1), count(3));
        crate::set_threads(0);
        assert_eq!(one, three);
    }
}
