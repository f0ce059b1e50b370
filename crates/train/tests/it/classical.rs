//! Classical classifiers and taggers against scikit-learn and CRFsuite; see `tests/golden/classical.py`.

use hearth_train::classical::ClassicalError;
use hearth_train::classical::crf::{CrfSettings, CrfTagger, LinearChainCrf, Template};
use hearth_train::classical::hmm::HmmTagger;
use hearth_train::classical::naive_bayes::MultinomialNaiveBayes;
use hearth_train::classical::ngrams::{NgramSettings, NgramVectorizer, Weighting};
use hearth_train::classical::sparse::SparseRows;
use hearth_train::classical::svm::{LinearSvm, SvmSettings};
use serde::Deserialize;
use std::ops::ControlFlow;
use std::path::PathBuf;

#[derive(Deserialize)]
struct Golden {
    classifiers: Classifiers,
    crfs: Crfs,
}

#[derive(Deserialize)]
struct Classifiers {
    texts: Vec<String>,
    labels: Vec<usize>,
    others: Vec<String>,
    ngrams: Vec<String>,
    tfidf: Vec<Vec<f64>>,
    naive_bayes_laplace: Vec<Vec<f64>>,
    naive_bayes_tenth: Vec<Vec<f64>>,
    svm_1: Vec<Vec<f64>>,
    svm_10: Vec<Vec<f64>>,
    svm_two_classes: Vec<f64>,
}

/// Sentences as attributes of tokens.
#[derive(Deserialize)]
struct Crfs {
    training: Vec<Vec<Vec<String>>>,
    tags: Vec<Vec<usize>>,
    strangers: Vec<Vec<Vec<String>>>,
    fits: Vec<Fit>,
}

#[derive(Deserialize)]
struct Fit {
    c1: f64,
    c2: f64,
    all_transitions: bool,
    objective: f64,
    weights: Vec<(String, usize, f64)>,
    transitions: Vec<(usize, usize, f64)>,
    tags: Vec<Vec<usize>>,
    marginals: Vec<Vec<Vec<f64>>>,
}

fn golden() -> Golden {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/classical.json");
    serde_json::from_slice(&std::fs::read(path).expect("the golden file is committed"))
        .expect("as Golden says")
}

fn check_close(got: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.len(), expected.len(), "row {row}");
        for (g, e) in got.iter().zip(expected) {
            assert!((g - e).abs() <= tolerance, "row {row}: expected {expected:?}, got {got:?}");
        }
    }
}

impl Classifiers {
    /// Rows of the training texts and of the others.
    fn rows(&self, weighting: Weighting, min_texts: usize) -> (SparseRows, SparseRows) {
        let vectorizer = self.vectorizer(weighting, min_texts);
        (vectorizer.transform(&texts(&self.texts)), vectorizer.transform(&texts(&self.others)))
    }

    fn vectorizer(&self, weighting: Weighting, min_texts: usize) -> NgramVectorizer {
        let settings = NgramSettings { weighting, min_texts, ..NgramSettings::default() };
        NgramVectorizer::fit(&texts(&self.texts), &settings).expect("enough text")
    }
}

fn texts(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

#[test]
fn tf_idf_is_scikit_learns() {
    let golden = golden().classifiers;
    assert_eq!(golden.vectorizer(Weighting::TfIdf, 2).vocabulary().names(), golden.ngrams);
    let (_, rows) = golden.rows(Weighting::TfIdf, 2);
    let dense = rows.rows().map(|row| {
        let mut dense = vec![0.0; rows.n_columns()];
        row.iter().for_each(|&(column, value)| dense[column as usize] = f64::from(value));
        dense
    });
    check_close(&dense.collect::<Vec<_>>(), &golden.tfidf, 1e-6);
}

#[test]
fn naive_bayes_is_scikit_learns() {
    let golden = golden().classifiers;
    let (training, others) = golden.rows(Weighting::Counts, 1);
    for (alpha, expected) in [(1.0, &golden.naive_bayes_laplace), (0.1, &golden.naive_bayes_tenth)] {
        let model = MultinomialNaiveBayes::fit(&training, &golden.labels, 3, alpha).expect("good data");
        check_close(&model.log_probabilities(&others).expect("same columns"), expected, 1e-5);
        let saved = serde_json::to_string(&model).expect("plain data");
        assert_eq!(serde_json::from_str::<MultinomialNaiveBayes>(&saved).expect("what was written"), model);
    }
}

#[test]
fn a_class_without_texts_is_never_predicted() {
    let golden = golden().classifiers;
    let (training, others) = golden.rows(Weighting::Counts, 1);
    let model = MultinomialNaiveBayes::fit(&training, &golden.labels, 5, 1.0).expect("good data");
    let saved = serde_json::to_string(&model).expect("plain data");
    let model: MultinomialNaiveBayes = serde_json::from_str(&saved).expect("what was written");
    let rows = model.log_probabilities(&others).expect("same columns");
    assert!(rows.iter().all(|row| row[3] == f64::NEG_INFINITY && row[4] == f64::NEG_INFINITY));
    let known: Vec<Vec<f64>> = rows.iter().map(|row| row[..3].to_vec()).collect();
    check_close(&known, &golden.naive_bayes_laplace, 1e-5);
}

#[test]
fn support_vectors_are_scikit_learns() {
    let golden = golden().classifiers;
    let (training, others) = golden.rows(Weighting::TfIdf, 2);
    let exact = SvmSettings { tolerance: 1e-8, max_rounds: 100_000, ..SvmSettings::default() };
    let fit = |labels: &[usize], n_classes, c| {
        let model = LinearSvm::fit(&training, labels, n_classes, &SvmSettings { c, ..exact.clone() })
            .expect("good data");
        assert!(model.converged());
        let saved = serde_json::to_string(&model).expect("plain data");
        assert_eq!(serde_json::from_str::<LinearSvm>(&saved).expect("what was written"), model);
        model.decision_values(&others).expect("same columns")
    };
    check_close(&fit(&golden.labels, 3, 1.0), &golden.svm_1, 1e-5);
    check_close(&fit(&golden.labels, 3, 10.0), &golden.svm_10, 1e-5);
    let liked: Vec<usize> = golden.labels.iter().map(|&label| usize::from(label > 0)).collect();
    let expected: Vec<Vec<f64>> = golden.svm_two_classes.iter().map(|&value| vec![-value, value]).collect();
    check_close(&fit(&liked, 2, 1.0), &expected, 1e-5);
}

#[test]
fn several_labels_are_several_machines() {
    let golden = golden().classifiers;
    let (training, others) = golden.rows(Weighting::TfIdf, 2);
    let settings = SvmSettings { tolerance: 1e-8, max_rounds: 100_000, ..SvmSettings::default() };
    // The last class is either of the first two.
    let labels = |&label: &usize| if label == 2 { vec![2] } else { vec![3, label] };
    let labels: Vec<Vec<usize>> = golden.labels.iter().map(labels).collect();
    let model = LinearSvm::fit_multi_label(&training, &labels, 4, &settings).expect("good data");
    let expected: Vec<Vec<f64>> =
        golden.svm_1.iter().map(|row| vec![row[0], row[1], row[2], -row[2]]).collect();
    check_close(&model.decision_values(&others).expect("same columns"), &expected, 1e-5);
}

#[test]
fn what_classifiers_cannot_learn_from_is_refused() {
    let mut rows = SparseRows::new(2);
    rows.push(&mut [(0, 1.0), (1, -1.0)]);
    let check = |error: String, expect: &str| assert!(error.contains(expect), "{error}");
    let bayes = |labels: &[usize], alpha| {
        MultinomialNaiveBayes::fit(&rows, labels, 2, alpha).unwrap_err().to_string()
    };
    check(bayes(&[0], 1.0), "row 0: value -1");
    check(bayes(&[0], 0.0), "alpha = 0");
    check(bayes(&[2], 1.0), "text 0: label 2 of 2");
    check(bayes(&[], 1.0), "expected 1, got 0");
    let svm = |c| LinearSvm::fit(&rows, &[1], 2, &SvmSettings { c, ..SvmSettings::default() });
    check(svm(-1.0).unwrap_err().to_string(), "c = -1");
    let model = svm(1.0).expect("one row is enough");
    check(model.predict(&SparseRows::new(3)).unwrap_err().to_string(), "features: expected 2, got 3");
    check(
        LinearSvm::fit(&SparseRows::new(1), &[], 2, &SvmSettings::default()).unwrap_err().to_string(),
        "no text",
    );
}

#[test]
fn crfs_are_crfsuites() {
    let golden = golden().crfs;
    for fit in &golden.fits {
        let settings = CrfSettings {
            c1: fit.c1,
            c2: fit.c2,
            all_transitions: fit.all_transitions,
            max_iterations: 2000,
            improvement: 1e-13,
            ..CrfSettings::default()
        };
        let mut objective = f64::INFINITY;
        let crf = LinearChainCrf::fit(&golden.training, &golden.tags, 3, &settings, |progress| {
            assert!(progress.objective <= objective, "{progress:?} after {objective}");
            objective = progress.objective;
            ControlFlow::Continue(())
        });
        let crf = crf.expect("good data");
        assert!((objective - fit.objective).abs() < 1e-4, "expected {}, got {objective}", fit.objective);
        let check = |what: &str, got: f32, expected: f64| {
            assert!((f64::from(got) - expected).abs() < 1e-3, "{what}: expected {expected}, got {got}");
        };
        for (name, tag, expected) in &fit.weights {
            check(&format!("{name} {tag}"), crf.weight(name, *tag), *expected);
        }
        for &(from, to, expected) in &fit.transitions {
            check(&format!("{from} to {to}"), crf.transition(from, to), expected);
        }
        let saved = serde_json::to_string(&crf).expect("plain data");
        let crf: LinearChainCrf = serde_json::from_str(&saved).expect("what was written");
        for ((sentence, tags), marginals) in golden.strangers.iter().zip(&fit.tags).zip(&fit.marginals) {
            assert_eq!(&crf.tag(sentence), tags);
            check_close(&crf.marginals(sentence), marginals, 1e-4);
        }
        if fit.c1 > 0.0 {
            // L1 leaves few weights: about as many as there, those within rounding of 0 aside.
            assert!(crf.n_weights().abs_diff(fit.weights.len()) <= 2, "{}", crf.n_weights());
        }
    }
}

#[test]
fn a_crf_has_the_same_bits_with_any_number_of_threads() {
    let golden = golden().crfs;
    let fit = || {
        let settings = CrfSettings { max_iterations: 10, ..CrfSettings::default() };
        LinearChainCrf::fit(&golden.training, &golden.tags, 3, &settings, |_| ControlFlow::Continue(()))
            .expect("good data")
    };
    let before = hearth_kernel::pool::threads();
    hearth_kernel::pool::set_threads(1);
    let alone = fit();
    hearth_kernel::pool::set_threads(3);
    let together = fit();
    hearth_kernel::pool::set_threads(before);
    assert_eq!(alone, together);
}

#[test]
fn training_of_a_crf_can_be_ended() {
    let golden = golden().crfs;
    let mut iterations = 0;
    let fit = LinearChainCrf::fit(&golden.training, &golden.tags, 3, &CrfSettings::default(), |progress| {
        iterations = progress.iteration;
        if progress.iteration == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(fit.is_ok() && iterations == 3, "{iterations} iterations");
}

#[test]
fn a_tagger_learns_its_own_sentences() {
    let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let sentences = ["Anna met Bob", "the city", "May lives in Paris", ""].map(words).to_vec();
    let mut tags = vec![vec![1, 0, 1], vec![0, 0], vec![1, 0, 0, 1], vec![0]];
    let template = Template::for_sentences(&sentences);
    let fit = |tags: &[Vec<usize>]| {
        CrfTagger::fit(&sentences, tags, 2, template, &CrfSettings::default(), |_| ControlFlow::Continue(()))
    };
    let tagger = fit(&tags).expect("good data");
    let hmm = HmmTagger::fit(&sentences, &tags, 2).expect("good data");
    for (sentence, tags) in sentences.iter().zip(&tags) {
        assert_eq!((&tagger.tag(sentence), &hmm.tag(sentence)), (tags, tags), "{sentence:?}");
        assert!(tagger.marginals(sentence).iter().all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-9));
    }
    assert!(tagger.tag(&[]).is_empty() && tagger.marginals(&[]).is_empty());
    tags[1].push(0);
    let (expected, got) = (2, 3);
    let error = ClassicalError::Length { what: "sentence 1: tags".into(), expected, got };
    assert_eq!(fit(&tags).err(), Some(error.clone()));
    assert_eq!(HmmTagger::fit(&sentences, &tags, 2).err(), Some(error));
    tags[1] = vec![0, 2];
    assert!(matches!(fit(&tags), Err(ClassicalError::Label { label: 2, .. })));
}
