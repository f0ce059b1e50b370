//! The sampler on logits whose distribution is known.

use hearth_engine::{EngineError, Sampler, Sampling};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Ids 0 to 4 by likelihood: a half, a quarter, an eighth, and two sixteenths.
fn halves() -> Vec<f32> {
    [0.5f32, 0.25, 0.125, 0.0625, 0.0625].map(f32::ln).to_vec()
}

/// How often each id comes in 4,000 draws.
fn counts(settings: &Sampling, logits: &[f32], history: &[u32]) -> BTreeMap<u32, usize> {
    let mut sampler = Sampler::new(settings, 0).expect("valid");
    let mut counts = BTreeMap::new();
    for _ in 0..4000 {
        *counts.entry(sampler.pick(logits, history).expect("picks")).or_default() += 1;
    }
    counts
}

/// The ids that come, and that their shares are those of `shares` (five standard deviations wide).
fn check(settings: Sampling, logits: &[f32], shares: &[(u32, f64)]) {
    let counts = counts(&settings, logits, &[]);
    assert_eq!(
        counts.keys().copied().collect::<Vec<_>>(),
        shares.iter().map(|s| s.0).collect::<Vec<_>>(),
        "{settings:?}"
    );
    for &(id, share) in shares {
        let (got, width) = (counts[&id] as f64 / 4000.0, 5.0 * (share * (1.0 - share) / 4000.0).sqrt());
        assert!((got - share).abs() <= width, "{settings:?}: id {id} came with {got}, expected {share}");
    }
}

#[test]
fn the_default_draws_from_the_models_distribution() {
    check(Sampling::default(), &halves(), &[(0, 0.5), (1, 0.25), (2, 0.125), (3, 0.0625), (4, 0.0625)]);
    // Logits may be shifted by any constant.
    let shifted: Vec<f32> = halves().iter().map(|l| l + 50.0).collect();
    check(Sampling::default(), &shifted, &[(0, 0.5), (1, 0.25), (2, 0.125), (3, 0.0625), (4, 0.0625)]);
}

#[test]
fn temperature_sharpens_and_flattens() {
    // At a half, probabilities are squared: 64 : 16 : 4 : 1 : 1, of 86.
    let shares = [64.0, 16.0, 4.0, 1.0, 1.0].map(|x: f64| x / 86.0);
    let shares: Vec<_> = (0..).zip(shares).collect();
    check(Sampling { temperature: 0.5, ..Sampling::default() }, &halves(), &shares);
    check(Sampling { temperature: 1e-3, ..Sampling::default() }, &halves(), &[(0, 1.0)]);
}

#[test]
fn top_k_keeps_the_k_likeliest() {
    let k = |top_k| Sampling { top_k, ..Sampling::default() };
    check(k(1), &halves(), &[(0, 1.0)]);
    check(k(2), &halves(), &[(0, 2.0 / 3.0), (1, 1.0 / 3.0)]);
    // Of equal ones the lower id.
    check(k(4), &halves(), &[(0, 8.0 / 15.0), (1, 4.0 / 15.0), (2, 2.0 / 15.0), (3, 1.0 / 15.0)]);
    check(k(9), &halves(), &[(0, 0.5), (1, 0.25), (2, 0.125), (3, 0.0625), (4, 0.0625)]);
}

#[test]
fn top_p_keeps_the_smallest_set_that_reaches_p() {
    let p = |top_p| Sampling { top_p, ..Sampling::default() };
    check(p(0.01), &halves(), &[(0, 1.0)]);
    check(p(0.49), &halves(), &[(0, 1.0)]);
    check(p(0.51), &halves(), &[(0, 2.0 / 3.0), (1, 1.0 / 3.0)]);
    check(p(0.74), &halves(), &[(0, 2.0 / 3.0), (1, 1.0 / 3.0)]);
    check(p(0.76), &halves(), &[(0, 4.0 / 7.0), (1, 2.0 / 7.0), (2, 1.0 / 7.0)]);
    check(p(0.9), &halves(), &[(0, 8.0 / 15.0), (1, 4.0 / 15.0), (2, 2.0 / 15.0), (3, 1.0 / 15.0)]);
    // After the temperature: squared, the first has 64 of 86, nearly three quarters.
    check(Sampling { temperature: 0.5, ..p(0.74) }, &halves(), &[(0, 1.0)]);
    // And after top-k: of the first two, the first has two thirds.
    check(Sampling { top_k: 2, ..p(0.66) }, &halves(), &[(0, 1.0)]);
}

#[test]
fn min_p_keeps_shares_of_the_likeliest() {
    let p = |min_p| Sampling { min_p, ..Sampling::default() };
    check(p(0.51), &halves(), &[(0, 1.0)]);
    check(p(0.49), &halves(), &[(0, 2.0 / 3.0), (1, 1.0 / 3.0)]);
    check(p(0.24), &halves(), &[(0, 4.0 / 7.0), (1, 2.0 / 7.0), (2, 1.0 / 7.0)]);
    check(p(1.0), &[1.0, 1.0, 0.9], &[(0, 0.5), (1, 0.5)]);
}

#[test]
fn greedy_takes_the_lowest_of_equal_ids() {
    let mut sampler = Sampler::new(&Sampling::greedy(), 0).expect("valid");
    assert_eq!(sampler.pick(&[0.0, 2.0, 2.0, 1.0], &[]).expect("picks"), 1);
}

fn greedy_pick(settings: Sampling, logits: &[f32], history: &[u32]) -> u32 {
    let settings = Sampling { temperature: 0.0, ..settings };
    Sampler::new(&settings, 0).expect("valid").pick(logits, history).expect("picks")
}

#[test]
fn the_repetition_penalty_divides_positive_and_multiplies_negative_logits() {
    let check = |penalty, window, logits: &[f32], history: &[u32], expect| {
        let settings =
            Sampling { repetition_penalty: penalty, repetition_window: window, ..Sampling::default() };
        let got = greedy_pick(settings, logits, history);
        assert_eq!(got, expect, "penalty {penalty}, window {window}, {logits:?} after {history:?}");
    };
    check(1.0, 0, &[3.0, 2.0], &[0], 0);
    check(1.4, 0, &[3.0, 2.0], &[0], 0);
    check(1.6, 0, &[3.0, 2.0], &[0], 1);
    check(1.6, 0, &[3.0, 2.0], &[1], 0);
    // Once, however often the token has come.
    check(1.4, 0, &[3.0, 2.0], &[0, 0, 0], 0);
    check(1.6, 0, &[-1.0, -1.5], &[0], 1);
    check(1.4, 0, &[-1.0, -1.5], &[0], 0);
    // Below 1 it is a reward.
    check(0.5, 0, &[3.0, 2.0], &[1], 1);
    // Tokens before the window are forgotten.
    check(2.0, 2, &[3.0, 2.0, 0.0], &[0, 2, 2], 0);
    check(2.0, 3, &[3.0, 2.0, 0.0], &[0, 2, 2], 1);
}

#[test]
fn biases_come_before_everything() {
    let bias = |pairs: &[(u32, f32)]| Sampling {
        logit_bias: pairs.iter().copied().collect::<HashMap<_, _>>(),
        ..Sampling::default()
    };
    check(bias(&[(0, f32::NEG_INFINITY)]), &halves(), &[(1, 0.5), (2, 0.25), (3, 0.125), (4, 0.125)]);
    check(
        bias(&[(3, 8f32.ln())]),
        &[0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0],
        &[(0, 1.0 / 9.0), (3, 8.0 / 9.0)],
    );
    // An id beyond the vocabulary is nobody's.
    assert_eq!(greedy_pick(bias(&[(77, 9.0)]), &[1.0, 0.0], &[]), 0);
}

#[test]
fn draws_depend_on_seed_and_index_alone() {
    let draws = |seed, index| -> Vec<u32> {
        let mut sampler = Sampler::new(&Sampling { seed, ..Sampling::default() }, index).expect("valid");
        (0..50).map(|_| sampler.pick(&halves(), &[]).expect("picks")).collect()
    };
    assert_eq!(draws(7, 0), draws(7, 0));
    assert_ne!(draws(7, 0), draws(7, 1));
    assert_ne!(draws(7, 0), draws(8, 0));
    assert_ne!(draws(7, 1), draws(8, 0));
}

#[test]
fn logits_that_are_no_distribution_are_refused() {
    let mut sampler = Sampler::new(&Sampling::default(), 0).expect("valid");
    for bad in [f32::NAN, f32::INFINITY] {
        let error = sampler.pick(&[0.0, bad], &[1, 2, 3]).expect_err("refused");
        assert!(matches!(error, EngineError::NotFinite { position: 3 }), "{error}");
    }
    let nothing = sampler.pick(&[f32::NEG_INFINITY; 2], &[1]).expect_err("refused");
    assert!(matches!(nothing, EngineError::NothingLeft { position: 1 }), "{nothing}");
}

proptest! {
    /// To the very end: only when each token would repeat an n-gram is nothing left.
    #[test]
    fn no_ngram_ever_comes_twice(
        n in 1usize..4,
        prompt in prop::collection::vec(0u32..3, 0..6),
        temperature in prop::sample::select(vec![0.0f32, 1.0]),
        seed in 0u64..1000,
    ) {
        let settings = Sampling { temperature, no_repeat_ngram: n, seed, ..Sampling::default() };
        let mut sampler = Sampler::new(&settings, 0).expect("valid");
        let mut history = prompt.clone();
        let repeats = |history: &[u32], id: u32| {
            let with: Vec<u32> = history.iter().copied().chain([id]).collect();
            let end = &with[with.len().saturating_sub(n)..];
            with.len() >= n && history.windows(n).any(|gram| gram == end)
        };
        for step in 0..100u32 {
            match sampler.pick(&[1.5, 1.0, (step % 3) as f32], &history) {
                Ok(id) => {
                    prop_assert!(!repeats(&history, id), "{id} after {history:?}");
                    history.push(id);
                }
                Err(EngineError::NothingLeft { .. }) => {
                    prop_assert!((0..3).all(|id| repeats(&history, id)), "something was left after {history:?}");
                    return Ok(());
                }
                Err(other) => panic!("{other}"),
            }
        }
        prop_assert!(false, "three tokens have at most 27 trigrams");
    }

    /// Cuts never leave less likely tokens while dropping likelier ones, and always leave the likeliest.
    #[test]
    fn cuts_keep_the_likeliest(
        logits in prop::collection::vec(-6.0f32..6.0, 1..40),
        top_k in 0usize..6, top_p in 0.05f32..1.0, min_p in 0.0f32..0.5,
    ) {
        let settings = Sampling { top_k, top_p, min_p, ..Sampling::default() };
        let counts = counts(&settings, &logits, &[]);
        let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)));
        let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        let largest = logits[likeliest.expect("some")];
        for &id in counts.keys() {
            let logit = logits[id as usize];
            let likelier: Vec<f32> = logits.iter().copied().filter(|l| *l > logit).collect();
            prop_assert!(top_k == 0 || likelier.len() < top_k);
            prop_assert!(f64::from(logit - largest).exp() >= f64::from(min_p) * (1.0 - 1e-5));
            let before: f64 = likelier.iter().map(|l| f64::from(*l).exp()).sum();
            prop_assert!(top_k > 0 || before / total < f64::from(top_p) + 1e-6, "id {id} was beyond the nucleus");
        }
        prop_assert!(counts.contains_key(&(likeliest.expect("some") as u32)));
    }
}

#[test]
fn what_was_drawn_becomes_less_likely() {
    let logits = [3.0, 2.5, 0.0];
    let picks = |frequency_penalty, presence_penalty| -> Vec<u32> {
        let settings = Sampling { frequency_penalty, presence_penalty, ..Sampling::greedy() };
        let mut sampler = Sampler::new(&settings, 0).expect("valid");
        (0..6).map(|_| sampler.pick(&logits, &[0, 0, 0]).expect("picks")).collect()
    };
    assert_eq!(picks(0.0, 0.0), [0; 6], "what the prompt says doesn't count");
    assert_eq!(picks(0.0, 1.0), [0, 1, 0, 0, 0, 0], "once, however often");
    assert_eq!(picks(1.0, 0.0), [0, 1, 0, 1, 0, 1]);
    assert_eq!(picks(-1.0, 0.0), [0; 6]);
}
