//! What must hold of the metrics on any input.

use hearth_data::tagging::{Scheme, Span, strict_spans};
use hearth_train::metrics::answers::{cmrc, squad_v1, squad_v2};
use hearth_train::metrics::bootstrap::{Bootstrap, mean};
use hearth_train::metrics::calibration::{BINS, calibration, top_class};
use hearth_train::metrics::classification::{classification, multi_label};
use hearth_train::metrics::ranking::{Relevant, ndcg, rank_of};
use hearth_train::metrics::regression::{pearson, spearman};
use hearth_train::metrics::spans::span_counts;
use proptest::prelude::*;

/// Lengths and types of spans and of the gaps before them, as spans in order.
fn lay_out(parts: &[(usize, usize, bool)]) -> (Vec<Span<'static>>, usize) {
    let (mut spans, mut end) = (Vec::new(), 0);
    for &(gap, len, person) in parts {
        let start = end + gap;
        end = start + len;
        spans.push(Span { kind: if person { "PER" } else { "LOC-X" }, start, end });
    }
    (spans, end + 1)
}

proptest! {
    #[test]
    fn order_and_names_of_classes_do_not_matter(pairs in prop::collection::vec((0usize..4, 0usize..4), 1..40)) {
        let score = |pairs: &[(usize, usize)]| {
            let (gold, predicted): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
            classification(&gold, &predicted, 4)
        };
        let straight = score(&pairs);
        let reversed: Vec<_> = pairs.iter().rev().copied().collect();
        prop_assert_eq!(&straight, &score(&reversed));
        let renamed = score(&pairs.iter().map(|&(g, p)| (3 - g, 3 - p)).collect::<Vec<_>>());
        prop_assert!((straight.macro_average.f1 - renamed.macro_average.f1).abs() < 1e-12);
        prop_assert!((straight.matthews - renamed.matthews).abs() < 1e-12);
        // Matthews correlation doesn't tell gold from predicted.
        let swapped = score(&pairs.iter().map(|&(g, p)| (p, g)).collect::<Vec<_>>());
        prop_assert!((straight.matthews - swapped.matthews).abs() < 1e-12);
    }

    #[test]
    fn what_is_right_scores_one(gold in prop::collection::vec(0usize..3, 2..30)) {
        let ours = classification(&gold, &gold, 3);
        prop_assert_eq!((ours.accuracy, ours.macro_average.f1), (1.0, 1.0));
        let several = gold.iter().any(|class| *class != gold[0]);
        prop_assert!((ours.matthews - f64::from(u8::from(several))).abs() < 1e-12);
        let sets: Vec<Vec<bool>> = gold.iter().map(|class| vec![true, *class == 1]).collect();
        let ours = multi_label(&sets, &sets);
        prop_assert_eq!((ours.subset_accuracy, ours.micro_average.f1), (1.0, 1.0));
    }

    #[test]
    fn ranks_ignore_growing_functions(x in prop::collection::vec(-5i32..5, 3..20), slope in 0.1f64..9.0) {
        let x: Vec<f64> = x.into_iter().map(f64::from).collect();
        let curved: Vec<f64> = x.iter().map(|v| (v * slope).exp()).collect();
        let straight: Vec<f64> = x.iter().map(|v| v * slope - 1.0).collect();
        let constant = x.iter().all(|v| *v == x[0]);
        for correlation in [spearman(&x, &curved), pearson(&x, &straight)] {
            prop_assert_eq!(correlation.is_none(), constant);
            prop_assert!((correlation.unwrap_or(1.0) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn every_example_is_in_one_bin(examples in prop::collection::vec((0u32..=30, any::<bool>()), 1..50)) {
        let confidence: Vec<f32> = examples.iter().map(|&(n, _)| n as f32 / 30.0).collect();
        let correct: Vec<bool> = examples.iter().map(|&(_, correct)| correct).collect();
        let ours = calibration(&confidence, &correct, BINS);
        prop_assert_eq!(ours.bins.iter().map(|bin| bin.examples).sum::<usize>(), examples.len());
        prop_assert!(ours.expected_error <= ours.greatest_error + 1e-12 && ours.greatest_error <= 1.0);
    }

    #[test]
    fn schemes_spell_the_same_spans(parts in prop::collection::vec((0usize..3, 1usize..4, any::<bool>()), 0..8)) {
        let (spans, len) = lay_out(&parts);
        for scheme in Scheme::ALL {
            let tags = scheme.tags(&spans, len);
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            prop_assert_eq!(&scheme.spans(&tags), &spans, "{}", scheme);
            prop_assert_eq!(&strict_spans(&tags, scheme), &spans, "{}", scheme);
            prop_assert_eq!(scheme.violations(&tags), vec![], "{}", scheme);
            for other in Scheme::ALL {
                prop_assert_eq!(scheme.convert(&tags, other), other.tags(&spans, len));
            }
        }
    }

    #[test]
    fn tags_without_violations_read_alike(tags in prop::collection::vec("[BIESMLU]-[XY]|O", 0..12)) {
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        for scheme in Scheme::ALL {
            if scheme.violations(&tags).is_empty() {
                prop_assert_eq!(scheme.spans(&tags), strict_spans(&tags, scheme), "{}", scheme);
                let again = scheme.convert(&tags, scheme);
                prop_assert!(again.iter().eq(tags.iter()), "{}: {:?}", scheme, again);
            }
        }
    }

    #[test]
    fn any_answer_equals_itself(answer in "[bc北][a-c北京《》,.'\" -]{0,12}", other in "[a-c北京 .]{0,6}") {
        for score in [squad_v1, squad_v2, cmrc] {
            let both = score(&answer, &[&other, &answer]);
            prop_assert_eq!(both.exact, 1.0);
            let alone = score(&answer, &[&other]);
            prop_assert!((0.0..=1.0).contains(&alone.f1) && alone.f1 <= both.f1);
        }
    }

    #[test]
    fn no_order_beats_the_best(gains in prop::collection::vec(1u8..4, 1..6), shift in 0usize..5) {
        let mut gains: Vec<f64> = gains.into_iter().map(f64::from).collect();
        let ranked = |gains: &[f64]| -> Vec<Relevant> {
            gains.iter().enumerate().map(|(i, &gain)| Relevant { rank: Some(i + 1 + shift), gain }).collect()
        };
        let some = ndcg(&ranked(&gains), 5);
        gains.sort_by(|a, b| b.total_cmp(a));
        let best = ndcg(&ranked(&gains), 5);
        prop_assert!(some <= best + 1e-12 && best <= 1.0);
        prop_assert_eq!(best == 1.0, shift == 0);
    }
}

#[test]
fn the_scheme_is_recognised() {
    let check = |rows: &[&str], expected: Scheme| {
        let rows: Vec<Vec<&str>> = rows.iter().map(|row| row.split(' ').collect()).collect();
        assert_eq!(Scheme::detect(rows.iter().map(Vec::as_slice)), expected, "{rows:?}");
    };
    check(&["O O"], Scheme::Bio);
    check(&["B-PER I-PER O", "B-LOC"], Scheme::Bio);
    check(&["I-PER I-PER O I-LOC", "I-PER B-PER"], Scheme::Iob1);
    check(&["B-PER E-PER O S-LOC", "B-PER I-PER E-PER"], Scheme::Bioes);
    check(&["B-PER L-PER O U-LOC"], Scheme::Bilou);
    check(&["B-PER M-PER E-PER O", "S-LOC"], Scheme::Bmes);
    // One slip doesn't change what the rest is.
    check(&["B-PER I-PER O B-LOC", "B-PER B-PER O I-LOC"], Scheme::Bio);
}

#[test]
fn violations_say_what_and_where() {
    let check = |scheme: Scheme, row: &str, expected: &[&str]| {
        let tags: Vec<&str> = row.split(' ').collect();
        let ours: Vec<String> = scheme.violations(&tags).iter().map(ToString::to_string).collect();
        assert_eq!(ours, expected, "{row}");
    };
    check(
        Scheme::Bio,
        "O I-PER B-LOC I-PER",
        &[r#"tag 2 ("I-PER") continues no PER span"#, r#"tag 4 ("I-PER") continues no PER span"#],
    );
    check(
        Scheme::Bio,
        "B-PER PER B_LOC S-PER  B-",
        &[
            r#"tag 2 ("PER") is no tag of BIO"#,
            r#"tag 3 ("B_LOC") is no tag of BIO"#,
            r#"tag 4 ("S-PER") is no tag of BIO"#,
            r#"tag 5 ("") is no tag of BIO"#,
            r#"tag 6 ("B-") is no tag of BIO"#,
        ],
    );
    check(
        Scheme::Iob1,
        "I-PER B-PER O B-LOC",
        &[r#"tag 4 ("B-LOC") follows no LOC span, which is when IOB1 writes B"#],
    );
    check(
        Scheme::Bioes,
        "B-PER O I-LOC E-LOC B-LOC",
        &[
            r#"tag 1 ("B-PER") leaves its PER span open"#,
            r#"tag 3 ("I-LOC") continues no LOC span"#,
            r#"tag 5 ("B-LOC") leaves its LOC span open"#,
        ],
    );
}

#[test]
fn sentences_count_one_by_one() {
    let gold = vec![vec!["B-PER", "I-PER"], vec!["I-PER"]];
    let together = vec![vec!["B-PER", "I-PER", "I-PER"]];
    assert_eq!(span_counts(&gold, &gold).total().correct, 2);
    assert_eq!(span_counts(&together, &together).total().correct, 1);
}

#[test]
fn equal_scores_rank_behind() {
    assert_eq!(rank_of(&[0.5, 0.5, 0.5], 0), 3);
    assert_eq!(rank_of(&[0.1, 0.9, f32::NAN], 1), 2);
    assert_eq!(rank_of(&[0.1, 0.9, 0.3], 2), 2);
    assert_eq!(top_class(&[0.2, 0.4, 0.4]), Some((1, 0.4)));
    assert_eq!(top_class(&[]), None);
}

#[test]
fn intervals_hold_what_they_should() {
    // 60 of 100 are right: the binomial's standard deviation is 0.049, and 1.96 of it to each side.
    let right: Vec<f64> = (0..100).map(|i| f64::from(u8::from(i % 5 < 3))).collect();
    let bootstrap = Bootstrap::default();
    let interval = bootstrap.interval(100, mean(&right)).unwrap();
    assert_eq!(interval.value, 0.6);
    assert!((interval.low - 0.504).abs() < 0.02 && (interval.high - 0.696).abs() < 0.02, "{interval:?}");
    assert_eq!(bootstrap.interval(100, mean(&right)), Some(interval), "the seed decides");
    assert_eq!(bootstrap.interval(0, mean(&[])), None);
    assert_eq!(bootstrap.interval(100, |_| f64::NAN), None);

    // A second system that errs on five examples more: pairs show what two intervals would hide.
    let worse: Vec<f64> = (0..100).map(|i| if i % 20 == 0 { 0.0 } else { right[i] }).collect();
    let difference = bootstrap.difference(100, mean(&right), mean(&worse)).unwrap();
    assert!((difference.interval.value - 0.05).abs() < 1e-12);
    assert!(difference.interval.low > 0.0 && difference.interval.high < 0.11, "{difference:?}");
    assert!(difference.wins > 0.97);
    let none = bootstrap.difference(100, mean(&right), mean(&right)).unwrap();
    assert_eq!((none.interval.low, none.interval.high, none.wins), (0.0, 0.0, 0.5));
}
