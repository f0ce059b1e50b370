//! The n-gram model, against its definition worked out the slow way.

use std::collections::BTreeMap;

use hearth_data::KneserNey;
use proptest::prelude::*;

/// The probability by the definition, from maps of all n-grams of the ring.
struct Plain {
    order: usize,
    vocab: usize,
    counts: Vec<BTreeMap<Vec<u32>, f64>>,
}

impl Plain {
    fn new(tokens: &[u32], order: usize, vocab: usize) -> Self {
        let mut counts = vec![BTreeMap::new(); order + 1];
        for at in 0..tokens.len() {
            let ngram: Vec<u32> = (0..order).map(|i| tokens[(at + i) % tokens.len()]).collect();
            *counts[order].entry(ngram).or_insert(0.0) += 1.0;
        }
        for length in (1..order).rev() {
            let longer: Vec<Vec<u32>> = counts[length + 1].keys().cloned().collect();
            for ngram in longer {
                *counts[length].entry(ngram[1..].to_vec()).or_insert(0.0) += 1.0;
            }
        }
        Self { order, vocab, counts }
    }

    fn discount(&self, length: usize, count: f64) -> f64 {
        let n: Vec<f64> =
            (0..5).map(|r| self.counts[length].values().filter(|&&c| c == r as f64).count() as f64).collect();
        let mut d = [0.5, 0.75, 0.75];
        if n[1..].iter().all(|&n| n > 0.0) {
            let y = n[1] / (n[1] + 2.0 * n[2]);
            let found =
                [1.0 - 2.0 * y * n[2] / n[1], 2.0 - 3.0 * y * n[3] / n[2], 3.0 - 4.0 * y * n[4] / n[3]];
            if (0..3).all(|i| found[i] >= 0.0 && found[i] <= (i + 1) as f64) {
                d = found;
            }
        }
        d[count.min(3.0) as usize - 1]
    }

    fn p(&self, context: &[u32], token: u32) -> f64 {
        let context = &context[context.len().saturating_sub(self.order - 1)..];
        let length = context.len() + 1;
        let shorter =
            || if context.is_empty() { 1.0 / self.vocab as f64 } else { self.p(&context[1..], token) };
        let followers: Vec<(&Vec<u32>, f64)> = self.counts[length]
            .iter()
            .filter(|(ngram, _)| ngram[..length - 1] == *context)
            .map(|(ngram, count)| (ngram, *count))
            .collect();
        if followers.is_empty() {
            return shorter();
        }
        let total: f64 = followers.iter().map(|(_, count)| count).sum();
        let given_up: f64 = followers.iter().map(|(_, count)| self.discount(length, *count)).sum();
        let own = followers.iter().find(|(ngram, _)| ngram[length - 1] == token);
        let own = own.map_or(0.0, |(_, count)| count - self.discount(length, *count));
        own / total + given_up / total * shorter()
    }
}

fn check(tokens: &[u32], order: usize, vocab: usize) {
    let model = KneserNey::train(tokens, order, vocab).unwrap();
    let plain = Plain::new(tokens, order, vocab);
    let mut contexts: Vec<Vec<u32>> = tokens.windows(order.max(2) - 1).map(<[u32]>::to_vec).collect();
    contexts.extend([vec![], vec![0, 0, 0, 0, 0], vec![vocab as u32 - 1; 3], vec![999]]);
    for context in &contexts {
        let mut sum = 0.0;
        for token in 0..vocab as u32 {
            let p = model.log_prob(context, token).exp();
            let expect = plain.p(context, token);
            assert!((p - expect).abs() < 1e-6, "p({token} | {context:?}) = {p}, expected {expect}");
            sum += p;
        }
        assert!((sum - 1.0).abs() < 1e-5, "probabilities after {context:?} sum to {sum}");
    }
}

/// Worked by hand: in the ring 0 0 1, each pair 00, 01, 10 occurs once. Too few counts to estimate
/// discounts from, so a count of 1 loses 0.5. As single tokens, 0 follows two tokens and 1 one:
/// p(0) = (2 − 0.75)/3 + ((0.75 + 0.5)/3)/2 = 0.625. After 0, 0 and 1 come once each:
/// p(0 | 0) = 0.5/2 + (1/2)·0.625 = 0.5625. After 1 comes only 0: p(1 | 1) = 0.5 · 0.375 = 0.1875.
#[test]
fn a_case_worked_by_hand() {
    let model = KneserNey::train(&[0, 0, 1], 2, 2).unwrap();
    let p = |context: &[u32], token| model.log_prob(context, token).exp();
    for (got, expect) in
        [(p(&[], 0), 0.625), (p(&[0], 0), 0.5625), (p(&[1], 1), 0.1875), (p(&[1], 0), 0.8125)]
    {
        assert!((got - expect).abs() < 1e-6, "{got} against {expect}");
    }
    let (nats, count) = model.evaluate(&[0, 0, 1]);
    assert_eq!(count, 2);
    assert!((nats + 0.5625f64.ln() + 0.4375f64.ln()).abs() < 1e-5);
}

#[test]
fn matches_the_definition() {
    // A lopsided stream, so that the counts of counts suffice for estimated discounts.
    let mut state = 1u32;
    let tokens: Vec<u32> = (0..600)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let draw = state >> 16;
            (draw % 17) * (draw % 5) / 8
        })
        .collect();
    for order in 1..=5 {
        check(&tokens, order, 11);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn matches_the_definition_on_anything(tokens in prop::collection::vec(0u32..6, 5..80), order in 1usize..=5) {
        check(&tokens, order, 7);
    }
}

#[test]
fn pruning_keeps_it_a_distribution() {
    let tokens: Vec<u32> = (0..3000u32).map(|i| i * i % 13 % 9).collect();
    let whole = KneserNey::train(&tokens, 4, 9).unwrap();
    let pruned = KneserNey::train_pruned(&tokens, 4, 9, 200).unwrap();
    assert!(pruned.sizes()[3] < whole.sizes()[3]);
    for context in tokens.windows(3).take(50) {
        let sum: f64 = (0..9).map(|token| pruned.log_prob(context, token).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }
}

#[test]
fn odd_calls_are_refused() {
    assert!(KneserNey::train(&[0, 1], 6, 2).is_err());
    assert!(KneserNey::train(&[0, 1], 0, 2).is_err());
    assert!(KneserNey::train(&[0, 5], 2, 2).is_err());
    assert!(KneserNey::train(&[0], 3, 2).is_err());
    let model = KneserNey::train(&[0, 1, 0], 2, 2).unwrap();
    assert_eq!(model.log_prob(&[0], 7), f64::NEG_INFINITY);
}
