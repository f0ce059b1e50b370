//! The metrics against their reference scripts (`tests/golden/metrics.py`), and what must hold of any input.

mod properties;

use hearth_data::tagging::{Scheme, Span, spans, strict_spans};
use hearth_train::metrics::PrecisionRecall;
use hearth_train::metrics::answers::{AnswerScore, cmrc, squad_v1, squad_v2};
use hearth_train::metrics::bootstrap::quantile;
use hearth_train::metrics::calibration::{BINS, calibration};
use hearth_train::metrics::classification::{classification, multi_label};
use hearth_train::metrics::ranking::{Relevant, average_precision, ndcg, recall, reciprocal_rank};
use hearth_train::metrics::regression::regression;
use hearth_train::metrics::spans::{span_counts, strict_span_counts};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Precision, recall and F1.
type Triple = (f64, f64, f64);

fn golden<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/tests/golden/metrics/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

#[track_caller]
fn close(ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{ours}, the reference has {theirs}");
}

#[track_caller]
fn same(ours: PrecisionRecall, theirs: Triple) {
    close(ours.precision, theirs.0, 1e-12);
    close(ours.recall, theirs.1, 1e-12);
    close(ours.f1, theirs.2, 1e-12);
}

#[derive(Deserialize)]
struct Classes {
    gold: Vec<usize>,
    predicted: Vec<usize>,
    n_classes: usize,
    accuracy: f64,
    micro_f1: f64,
    #[serde(rename = "macro")]
    macro_average: Triple,
    precision: Vec<f64>,
    recall: Vec<f64>,
    f1: Vec<f64>,
    matthews: f64,
    confusion: Vec<Vec<usize>>,
}

#[test]
fn classes_are_scored_as_by_scikit_learn() {
    for case in golden::<Vec<Classes>>("classification") {
        let ours = classification(&case.gold, &case.predicted, case.n_classes);
        close(ours.accuracy, case.accuracy, 1e-12);
        close(ours.accuracy, case.micro_f1, 1e-12);
        same(ours.macro_average, case.macro_average);
        close(ours.matthews, case.matthews, 1e-12);
        for class in 0..case.n_classes {
            let theirs = (case.precision[class], case.recall[class], case.f1[class]);
            same(ours.per_class[class].scores(), theirs);
            assert_eq!(ours.confusion.row(class), case.confusion[class]);
        }
    }
}

#[derive(Deserialize)]
struct LabelSets {
    gold: Vec<Vec<bool>>,
    predicted: Vec<Vec<bool>>,
    subset_accuracy: f64,
    micro: Triple,
    #[serde(rename = "macro")]
    macro_average: Triple,
    f1: Vec<f64>,
}

#[test]
fn sets_of_labels_are_scored_as_by_scikit_learn() {
    for case in golden::<Vec<LabelSets>>("multi_label") {
        let ours = multi_label(&case.gold, &case.predicted);
        close(ours.subset_accuracy, case.subset_accuracy, 1e-12);
        same(ours.micro_average, case.micro);
        same(ours.macro_average, case.macro_average);
        for (label, theirs) in ours.per_label.iter().zip(case.f1) {
            close(label.scores().f1, theirs, 1e-12);
        }
    }
}

#[derive(Deserialize)]
struct Numbers {
    gold: Vec<f64>,
    predicted: Vec<f64>,
    mean_squared_error: f64,
    pearson: Option<f64>,
    spearman: Option<f64>,
}

#[test]
fn numbers_are_scored_as_by_scipy() {
    for case in golden::<Vec<Numbers>>("regression") {
        let ours = regression(&case.gold, &case.predicted);
        close(ours.mean_squared_error / case.mean_squared_error, 1.0, 1e-9);
        for (ours, theirs) in [(ours.pearson, case.pearson), (ours.spearman, case.spearman)] {
            assert_eq!(ours.is_some(), theirs.is_some());
            close(ours.unwrap_or(0.0), theirs.unwrap_or(0.0), 1e-9);
        }
    }
}

#[derive(Deserialize)]
struct Probabilities {
    confidence: Vec<f32>,
    correct: Vec<bool>,
    error: f64,
    bins: Vec<(usize, f64, f64)>,
}

#[test]
fn calibration_follows_its_definition() {
    for case in golden::<Vec<Probabilities>>("calibration") {
        let ours = calibration(&case.confidence, &case.correct, BINS);
        close(ours.expected_error, case.error, 1e-9);
        for (ours, theirs) in ours.bins.iter().zip(case.bins) {
            assert_eq!(ours.examples, theirs.0, "from {} to {}", ours.low, ours.high);
            close(ours.confidence, theirs.1, 1e-9);
            close(ours.accuracy, theirs.2, 1e-9);
        }
    }
}

#[derive(Deserialize)]
struct Tagged {
    scheme: String,
    gold: Vec<String>,
    predicted: Vec<String>,
    entities: Vec<Vec<(String, usize, usize)>>,
    /// Precision, recall, F1 and support.
    per_type: BTreeMap<String, (f64, f64, f64, f64)>,
    micro: Triple,
    #[serde(rename = "macro")]
    macro_average: Option<Triple>,
    strict_entities: Option<Vec<Vec<(String, usize, usize)>>>,
    strict_micro: Option<Triple>,
}

fn tags(rows: &[String]) -> Vec<Vec<&str>> {
    rows.iter().map(|row| row.split(' ').collect()).collect()
}

#[track_caller]
fn same_spans(ours: &[Span], theirs: &[(String, usize, usize)]) {
    let ours: Vec<_> = ours.iter().map(|span| (span.kind.to_owned(), span.start, span.end)).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn spans_are_found_and_scored_as_by_seqeval() {
    for case in golden::<Vec<Tagged>>("spans") {
        let (gold, predicted) = (tags(&case.gold), tags(&case.predicted));
        for (tags, theirs) in gold.iter().zip(&case.entities) {
            same_spans(&spans(tags), theirs);
        }
        let ours = span_counts(&gold, &predicted);
        same(ours.micro_average(), case.micro);
        same(ours.macro_average(), case.macro_average.unwrap_or_default());
        assert!(ours.per_type.keys().eq(case.per_type.keys()));
        for (counts, theirs) in ours.per_type.values().zip(case.per_type.values()) {
            same(counts.scores(), (theirs.0, theirs.1, theirs.2));
            assert_eq!(counts.gold as f64, theirs.3);
        }
    }
}

#[test]
fn strict_spans_are_found_and_scored_as_by_seqeval() {
    let mut compared = 0;
    for case in golden::<Vec<Tagged>>("spans") {
        let (gold, predicted) = (tags(&case.gold), tags(&case.predicted));
        let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.to_string() == case.scheme);
        let (Some(scheme), Some(entities)) = (scheme, case.strict_entities) else { continue };
        for (tags, theirs) in gold.iter().zip(&entities) {
            same_spans(&strict_spans(tags, scheme), theirs);
        }
        if let Some(theirs) = case.strict_micro {
            same(strict_span_counts(&gold, &predicted, scheme).micro_average(), theirs);
            compared += 1;
        }
    }
    assert!(compared >= 9, "only {compared} compared");
}

#[derive(Deserialize)]
struct Answers {
    squad_v1: Vec<(String, Vec<String>, f64, f64)>,
    squad_v2: Vec<(String, Vec<String>, f64, f64)>,
    cmrc: Vec<(String, Vec<String>, f64, f64)>,
}

#[test]
fn answers_are_scored_as_by_the_scripts() {
    fn check(score: fn(&str, &[&str]) -> AnswerScore, examples: &[(String, Vec<String>, f64, f64)]) {
        for (prediction, gold, exact, f1) in examples {
            let ours = score(prediction, &gold.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(ours.exact, *exact, "{prediction:?} against {gold:?}");
            assert!((ours.f1 - f1).abs() < 1e-12, "{prediction:?} against {gold:?}: {} for {f1}", ours.f1);
        }
    }
    let cases: Answers = golden("answers");
    check(squad_v1, &cases.squad_v1);
    check(squad_v2, &cases.squad_v2);
    check(cmrc, &cases.cmrc);
}

#[derive(Deserialize)]
struct Ranked {
    relevant: Vec<(Option<usize>, f64)>,
    map: f64,
    reciprocal_rank: f64,
    recall: BTreeMap<usize, f64>,
    ndcg: BTreeMap<usize, f64>,
}

#[test]
fn rankings_are_scored_as_by_trec_eval() {
    for case in golden::<Vec<Ranked>>("ranking") {
        let relevant: Vec<Relevant> =
            case.relevant.iter().map(|&(rank, gain)| Relevant { rank, gain }).collect();
        close(average_precision(&relevant), case.map, 1e-12);
        close(reciprocal_rank(&relevant), case.reciprocal_rank, 1e-12);
        for (k, theirs) in case.recall {
            close(recall(&relevant, k), theirs, 1e-12);
        }
        for (k, theirs) in case.ndcg {
            close(ndcg(&relevant, k), theirs, 1e-12);
        }
    }
}

#[derive(Deserialize)]
struct Quantiles {
    sorted: Vec<f64>,
    shares: Vec<f64>,
    quantiles: Vec<f64>,
}

#[test]
fn quantiles_are_numpys() {
    for case in golden::<Vec<Quantiles>>("quantiles") {
        for (share, theirs) in case.shares.iter().zip(case.quantiles) {
            close(quantile(&case.sorted, *share), theirs, 1e-12);
        }
    }
}
