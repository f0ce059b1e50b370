//! Tagged sentences from CoNLL files and tables.

use hearth_data::Result;
use hearth_data::labelled::{BadRows, Example, Loaded, ReadOptions, TagExample, read_tag};

use crate::files::{Files, given};

fn read(name: &str, content: &str, options: &ReadOptions) -> Result<Loaded<TagExample>> {
    read_tag(&Files::of(&[(name, content)]).paths, options)
}

fn check_with(options: &ReadOptions, name: &str, content: &str, form: &str, expected: &[(u64, &str, &str)]) {
    let loaded = read(name, content, options).unwrap();
    let got: Vec<_> =
        loaded.examples.iter().map(|it| (it.place().line, it.tokens.join(" "), it.tags.join(" "))).collect();
    let got: Vec<_> =
        got.iter().map(|(line, tokens, tags)| (*line, tokens.as_str(), tags.as_str())).collect();
    assert_eq!(got, expected, "{content}");
    assert_eq!(loaded.sources[0].form, form, "{content}");
}

fn check(name: &str, content: &str, form: &str, expected: &[(u64, &str, &str)]) {
    check_with(&ReadOptions::default(), name, content, form, expected);
}

#[test]
fn conll_files() {
    let conll2003 =
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\n rejects VBZ B-VP O\n\n\n# # # O\nU.N. NNP I-NP B-ORG";
    check("a.txt", conll2003, "CoNLL, BIO", &[(3, "EU rejects", "B-ORG O"), (7, "# U.N.", "O B-ORG")]);
    check_with(
        &given(&[("tags", "#2")]),
        "a.txt",
        conll2003,
        "CoNLL, plain tags",
        &[(3, "EU rejects", "NNP VBZ"), (7, "# U.N.", "# NNP")],
    );
    let tabs = "New York\tB-LOC\r\n!\tO\r\n\r\n#\tO\r\n";
    check("a.tsv", tabs, "CoNLL, BIO", &[(1, "New York !", "B-LOC O"), (4, "#", "O")]);
    check("a.conll", "# id 7 domain=en\nan _ _ O\nape _ _ S-X\n", "CoNLL, BIOES", &[(2, "an ape", "O S-X")]);
}

#[test]
fn conllu_files() {
    let row = |id: &str, form: &str, upos: &str| format!("{id}\t{form}\t_\t{upos}\t_\t_\t0\t_\t_\t_\n");
    let text = format!(
        "# text = I'm\n{}{}{}{}",
        row("1-2", "I'm", "_"),
        row("1", "I", "PRON"),
        row("2", "am", "AUX"),
        row("2.1", "x", "X")
    );
    check("a.conllu", &text, "CoNLL-U, plain tags", &[(3, "I am", "PRON AUX")]);
}

#[test]
fn characters_with_positions() {
    let form = "CoNLL of characters with their position in the word, which is left off, BIO";
    check(
        "a.conll",
        "科0\tB-ORG\n技1\tI-ORG\n10\tO\n\n全0\tO\n",
        form,
        &[(1, "科 技 1", "B-ORG I-ORG O"), (5, "全", "O")],
    );
    let keep = ReadOptions { keep_positions: true, ..ReadOptions::default() };
    let loaded = read("a.conll", "科0\tB-ORG\n技1\tI-ORG\n", &keep).unwrap();
    assert_eq!(loaded.examples[0].tokens, ["科0", "技1"]);
    let long = format!("{}越2 O\n", "科0 O\n技1 O\n".repeat(60));
    let loaded = read("a.conll", &long, &ReadOptions::default()).unwrap();
    assert_eq!(loaded.examples[0].tokens.concat(), format!("{}越", "科技".repeat(60)));
    check("a.conll", "A0 O\nA2 O\n", "CoNLL, plain tags", &[(1, "A0 A2", "O O")]);
    check("a.conll", "section0 B-X\nsection1 O\n", "CoNLL, BIO", &[(1, "section0 section1", "B-X O")]);
}

#[test]
fn tables_of_tokens() {
    let text = "{\"tokens\": [\"a\", \"b\"], \"ner_tags\": [\"U-X\", \"O\"]}\n{\"tokens\": [\"c\"], \"ner_tags\": [\"O\"]}";
    check("a.jsonl", text, "JSON lines, BILOU", &[(1, "a b", "U-X O"), (2, "c", "O")]);
    check("a.json", "[{\"words\": [\"a\"], \"labels\": [3]}]", "JSON, plain tags", &[(1, "a", "3")]);
}

#[test]
fn bad_sentences() {
    let bad = |name: &str, content: &str, expected: &[&str]| {
        let skip = ReadOptions { bad_rows: BadRows::Skip, ..ReadOptions::default() };
        let loaded = read(name, content, &skip).unwrap();
        let got: Vec<String> = loaded.bad.iter().map(ToString::to_string).collect();
        assert_eq!((got.len(), loaded.examples.len()), (expected.len(), 1), "{got:?}");
        for (got, expected) in got.iter().zip(expected) {
            assert!(got.ends_with(expected), "{got}");
        }
        let error = read(name, content, &ReadOptions::default()).unwrap_err().to_string();
        assert!(expected.iter().all(|problem| error.contains(problem)), "{error}");
    };
    bad(
        "a.conll",
        "a O\nb\n\nc X-PER\n\nd\tO\te\t\n\nf B-PER\n",
        &[
            "a.conll:2: a token without a tag: \"b\"",
            "a.conll:4: unknown prefix in tag \"X-PER\": expected O, or B- I- before a type, as in BIO",
            "a.conll:6: a token without a tag: \"d\"",
        ],
    );
    bad("a.conll", "a O\n\tO\n\nf B-PER\n", &["a.conll:2: an empty token"]);
    let rows = "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\"]}\n{\"tokens\": [\"a\"], \"tags\": \"O\"}\n\
                {\"tokens\": [], \"tags\": []}\n{\"tokens\": [\" \"], \"tags\": [\"O\"]}\n{\"tags\": []}\n\
                {\"tokens\": [\"a\"], \"tags\": [\"O\"]}\n";
    bad(
        "a.jsonl",
        rows,
        &[
            "a.jsonl:1: 2 tokens but 1 tags",
            "a.jsonl:2: \"tags\" holds a string, expected an array",
            "a.jsonl:3: no token",
            "a.jsonl:4: \"tokens\"[0] is empty",
            "a.jsonl:5: no field \"tokens\"; the fields are \"tags\"",
        ],
    );
    let error = read("a.conll", "a O\n", &given(&[("tags", "ner")])).unwrap_err().to_string();
    assert_eq!(
        error,
        "column \"ner\" for the tags: the columns of a CoNLL file have no names\nhint: #1 is the first"
    );
}
