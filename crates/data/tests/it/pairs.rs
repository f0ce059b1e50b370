//! Queries with positives and hard negatives.

use hearth_data::Result;
use hearth_data::labelled::{BadRows, Loaded, PairExample, ReadOptions, read_pairs};

use crate::files::{Files, given};

fn read(name: &str, content: &str, options: &ReadOptions) -> Result<Loaded<PairExample>> {
    read_pairs(&Files::of(&[(name, content)]).paths, options)
}

fn check(name: &str, content: &str, options: &ReadOptions, expected: &[(&str, &[&str], &[&str])]) {
    let loaded = read(name, content, options).unwrap();
    let got: Vec<_> =
        loaded.examples.iter().map(|it| (it.query.as_str(), &it.positives, &it.negatives)).collect();
    let strings = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    assert_eq!(got.len(), expected.len(), "{content}");
    for ((query, positives, negatives), expected) in got.iter().zip(expected) {
        assert_eq!(
            (*query, *positives, *negatives),
            (expected.0, &strings(expected.1), &strings(expected.2))
        );
    }
}

#[test]
fn tables_of_pairs() {
    let plain = ReadOptions::default();
    check("a.tsv", "question\tpassage\nq\tp \"x\n", &plain, &[("q", &["p \"x"], &[])]);
    let numbered = "anchor,positive,negative_1,negative_2\nq,p,m,n\nr,s,,\n";
    check("a.csv", numbered, &plain, &[("q", &["p"], &["m", "n"]), ("r", &["s"], &[])]);
    let lists = r#"{"query": "q", "positives": ["p", "[o]"], "negatives": ["n"]}"#;
    check("a.jsonl", lists, &plain, &[("q", &["p", "[o]"], &["n"])]);
    let dpr = r#"[{"question": "q", "answers": ["a"], "positive_ctxs": [{"title": "T", "text": "p"}],
        "negative_ctxs": [{"text": "random"}], "hard_negative_ctxs": [{"title": "", "text": "n"}]}]"#;
    check("a.json", dpr, &plain, &[("q", &["T\np"], &["n"])]);
    check(
        "a.tsv",
        "q\tp\nr\ts\n",
        &given(&[("query", "#2"), ("positive", "#1")]),
        &[("p", &["q"], &[]), ("s", &["r"], &[])],
    );
}

#[test]
fn bad_pairs() {
    let rows = r#"{"query": "", "positive": "p"}
{"query": "q", "positive": " "}
{"query": "q", "positive": ["p", ""]}
{"query": "q", "positive": 3}
{"query": "q"}
{"query": "q", "positive": "p", "negative": ["n", "p"]}
{"query": "q", "positive": "p"}"#;
    let expected = [
        "a.jsonl:1: \"query\" is empty",
        "a.jsonl:2: \"positive\" is empty",
        "a.jsonl:3: \"positive\"[1] is empty",
        "a.jsonl:4: \"positive\" holds a number, expected a text or a list of texts",
        "a.jsonl:5: no field \"positive\"; the fields are \"query\"",
        "a.jsonl:6: a text is positive and negative: \"p\"",
    ];
    let skip = ReadOptions { bad_rows: BadRows::Skip, ..ReadOptions::default() };
    let loaded = read("a.jsonl", rows, &skip).unwrap();
    assert_eq!((loaded.examples.len(), loaded.bad.len()), (1, expected.len()));
    for (got, expected) in loaded.bad.iter().zip(expected) {
        assert!(got.to_string().ends_with(expected), "{got}");
    }
    let error = read("a.csv", "q,positive\nx,y\n", &skip).unwrap_err().to_string();
    assert!(error.contains("a.csv: no column for the query; the columns are \"q\", \"positive\""), "{error}");
}
