//! The held-out part.

use hearth_data::{Corpus, CorpusOptions, DataError, Holdout, Part};

use crate::{refused, write};

fn part(corpus: &Corpus, holdout: &Holdout, part: Part) -> Vec<String> {
    holdout.documents(corpus, part).unwrap().map(|document| document.unwrap().text).collect()
}

#[test]
fn by_hash_each_document_falls_on_one_side() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..2000).map(|i| format!("\"document {i}\"\n")).collect();
    let corpus = Corpus::open(&[write(folder.path(), "a.jsonl", lines)], CorpusOptions::default()).unwrap();
    let holdout = Holdout::Hash { fraction: 0.1, salt: "s".to_string() };
    let (train, held) = (part(&corpus, &holdout, Part::Training), part(&corpus, &holdout, Part::HeldOut));
    assert_eq!(train.len() + held.len(), 2000);
    assert!((150..250).contains(&held.len()), "{} of 2000 held out", held.len());
    assert!(held.iter().all(|text| holdout.is_held_out(text) == Some(true) && !train.contains(text)));
    let other = Holdout::Hash { fraction: 0.1, salt: "other".to_string() };
    assert_ne!(part(&corpus, &other, Part::HeldOut), held);
    // Pinned, so that a later release divides as this one does.
    assert_eq!(held[..3], ["document 0", "document 3", "document 9"]);
}

#[test]
fn the_last_fraction_cuts_within_a_document() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [write(folder.path(), "a.txt", "月光ab"), write(folder.path(), "b.txt", "cdef天地")];
    let corpus = Corpus::open(&paths, CorpusOptions::default()).unwrap();
    let holdout = Holdout::LastFraction(0.4);
    assert_eq!(part(&corpus, &holdout, Part::Training), ["月光ab", "cd"]);
    assert_eq!(part(&corpus, &holdout, Part::HeldOut), ["ef天地"]);
}

#[test]
fn bad_shares_and_empty_parts() {
    let folder = tempfile::tempdir().unwrap();
    let corpus =
        Corpus::open(&[write(folder.path(), "a.txt", "only one")], CorpusOptions::default()).unwrap();
    for fraction in [0.0, 1.0, -1.0, f64::NAN] {
        let error = Holdout::LastFraction(fraction).documents(&corpus, Part::Training).err().unwrap();
        assert!(matches!(error, DataError::BadFraction { .. }));
    }
    let holdout = Holdout::Hash { fraction: 1e-9, salt: String::new() };
    let held: Result<Vec<_>, _> = holdout.documents(&corpus, Part::HeldOut).unwrap().collect();
    refused(held, &["held-out", "1 documents", "hint:"]);
}
