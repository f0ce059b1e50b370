//! Batches: what they hold, and that they resume to the bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_data::{Batch, BatchMode, BatchOptions, Batches, Shard};
use proptest::prelude::*;

use crate::{refused, shard};

fn options(mode: BatchMode, context: usize, batch: usize) -> BatchOptions {
    BatchOptions { context, batch, seed: 7, mode }
}

/// Documents of the given lengths (of letters, so one token more each with the separator).
fn of_lengths(lengths: &[usize]) -> (tempfile::TempDir, Arc<Shard>) {
    let letter = |at: usize| char::from(b'a' + (at % 26) as u8);
    let texts: Vec<String> = lengths
        .iter()
        .enumerate()
        .map(|(doc, &len)| (0..len).map(|at| letter(doc * 5 + at * at)).collect())
        .collect();
    shard(&texts, true)
}

fn rows(batch: &Batch) -> impl Iterator<Item = (&[u32], &[i32])> {
    batch.tokens.chunks(batch.context).zip(batch.targets.chunks(batch.context))
}

#[test]
fn windows_hold_successive_tokens() {
    let (_folder, shard) = of_lengths(&[100, 57, 3]);
    let all = shard.all();
    for mode in [BatchMode::Random, BatchMode::Shuffled] {
        let mut batches = Batches::new(shard.clone(), options(mode, 16, 3)).unwrap();
        for _ in 0..20 {
            let batch = batches.next();
            assert_eq!((batch.tokens.len(), batch.scored(), batch.segments.is_none()), (48, 48, true));
            for (tokens, targets) in rows(&batch) {
                let window: Vec<u32> = tokens.iter().copied().chain([targets[15] as u32]).collect();
                assert!(all.windows(17).any(|found| found == window));
                assert!(targets[..15].iter().map(|&id| id as u32).eq(tokens[1..].iter().copied()));
            }
        }
    }
}

#[test]
fn an_epoch_covers_the_tokens_once() {
    // Ids that tell their place: each document is one letter, 26 of them, all different.
    let texts: Vec<String> = ('a'..='z').map(String::from).collect();
    let (_folder, shard) = shard(&texts, false);
    let mut batches = Batches::new(shard, options(BatchMode::Shuffled, 4, 1)).unwrap();
    let mut phases = Vec::new();
    for epoch in 0..6 {
        assert_eq!(batches.state().epoch, epoch);
        let mut seen: Vec<u32> = (0..5).flat_map(|_| batches.next().tokens).collect();
        assert!(!seen.is_sorted(), "windows must be shuffled");
        seen.sort_unstable();
        phases.push(seen[0]);
        assert!(seen.windows(2).all(|two| two[1] == two[0] + 1), "{seen:?}");
    }
    assert!(phases.iter().any(|phase| *phase != phases[0]), "phases must differ: {phases:?}");
}

#[test]
fn packed_rows_hold_whole_documents() {
    let lengths: Vec<usize> = (0..60).map(|i| 1 + i * 7 % 23).chain([75]).collect();
    let (_folder, shard) = of_lengths(&lengths);
    let context = 24;
    let mut batches = Batches::new(shard.clone(), options(BatchMode::Packed, context, 1)).unwrap();
    let mut pairs: BTreeMap<(u32, i32), i64> = BTreeMap::new();
    let (mut scored, mut rows_seen) = (0, 0);
    while batches.state().epoch == 0 {
        let batch = batches.next();
        rows_seen += 1;
        scored += batch.scored();
        let (segments, positions) = (batch.segments.as_ref().unwrap(), batch.positions.as_ref().unwrap());
        assert!(segments.is_sorted() && segments[0] == 0);
        for at in 0..context {
            let restarts = at == 0 || segments[at] != segments[at - 1];
            assert_eq!(positions[at], if restarts { 0 } else { positions[at - 1] + 1 });
            if batch.targets[at] >= 0 {
                *pairs.entry((batch.tokens[at], batch.targets[at])).or_default() += 1;
                // Within a segment the target is the next input.
                if at + 1 < context && segments[at + 1] == segments[at] {
                    assert_eq!(batch.targets[at] as u32, batch.tokens[at + 1]);
                }
            }
        }
    }
    // Over the epoch, each token of each document but the first is predicted once, from its predecessor.
    for document in 0..shard.documents() {
        for two in shard.tokens(shard.document(document)).windows(2) {
            *pairs.entry((two[0], two[1] as i32)).or_default() -= 1;
        }
    }
    assert!(pairs.values().all(|&left| left == 0), "{pairs:?}");
    assert!(scored * 10 > rows_seen * context * 9, "{scored} of {} positions used", rows_seen * context);
}

#[test]
fn resuming_equals_not_stopping() {
    let (_folder, shard) = of_lengths(&[40, 30, 20, 50, 10, 5]);
    for mode in [BatchMode::Random, BatchMode::Shuffled, BatchMode::Packed] {
        let mut batches = Batches::new(shard.clone(), options(mode, 8, 3)).unwrap();
        let mut reference = Vec::new();
        let mut states = Vec::new();
        for _ in 0..30 {
            states.push(serde_json::to_string(&batches.state()).unwrap());
            reference.push(batches.next());
        }
        for (step, state) in states.iter().enumerate() {
            let state = serde_json::from_str(state).unwrap();
            let mut resumed = Batches::resume(shard.clone(), options(mode, 8, 3), state).unwrap();
            for expect in reference.iter().skip(step).take(4) {
                assert_eq!(&resumed.next(), expect, "{mode:?} resumed at {step}");
            }
        }
        let other = BatchOptions { seed: 8, ..options(mode, 8, 3) };
        assert_ne!(Batches::new(shard.clone(), other).unwrap().next(), reference[0]);
    }
}

#[test]
fn evaluation_scores_every_token_after_the_first_of_a_window() {
    let (_folder, shard) = of_lengths(&[20, 8]);
    let all = shard.all();
    assert_eq!(all.len(), 30);
    let batches: Vec<Batch> = shard.eval_windows(8, 3).unwrap().collect();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches.iter().map(Batch::scored).sum::<usize>(), 7 + 7 + 7 + 5);
    let scored: Vec<i32> = batches.iter().flat_map(|b| b.targets.clone()).filter(|&t| t >= 0).collect();
    let expect: Vec<i32> = all.chunks(8).flat_map(|window| window[1..].iter().map(|&id| id as i32)).collect();
    assert_eq!(scored, expect);
}

#[test]
fn short_corpora_and_odd_options_are_refused() {
    let (_folder, shard) = of_lengths(&[9]);
    let make = |mode, context, batch| Batches::new(shard.clone(), options(mode, context, batch)).map(|_| ());
    refused(
        make(BatchMode::Random, 10, 1),
        &["10 tokens", "context of 10", "needs 11", "at most 9", "hint:"],
    );
    assert!(make(BatchMode::Shuffled, 9, 1).is_ok());
    refused(make(BatchMode::Random, 0, 1), &["at least one"]);
    refused(shard.eval_windows(1, 1).map(|_| ()), &["2 tokens"]);
    let (_folder, lone) = crate::shard(&["a".to_string()], false);
    refused(Batches::new(lone, options(BatchMode::Packed, 4, 1)).map(|_| ()), &["1 tokens"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_lengths_any_context(lengths in prop::collection::vec(1usize..30, 1..12), context in 1usize..20) {
        let (_folder, shard) = of_lengths(&lengths);
        prop_assume!(shard.len() > context);
        for mode in [BatchMode::Random, BatchMode::Shuffled, BatchMode::Packed] {
            let mut batches = Batches::new(shard.clone(), options(mode, context, 2)).unwrap();
            for _ in 0..10 {
                let batch = batches.next();
                prop_assert_eq!(batch.tokens.len(), 2 * context);
                prop_assert_eq!(batch.targets.len(), 2 * context);
                prop_assert!(batch.scored() > 0);
            }
        }
    }
}
