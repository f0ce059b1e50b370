//! Labelled texts from files as people have them.

use hearth_data::labelled::{BadRows, ClassifyExample, Kind, Label, Loaded, ReadOptions, read_classify};
use hearth_data::{Holdout, Result};

use crate::files::{Files, given};

fn read(
    files: &[(&str, &str)],
    options: &ReadOptions,
    kind: Option<Kind>,
) -> Result<Loaded<ClassifyExample>> {
    read_classify(&Files::of(files).paths, options, kind)
}

fn check(name: &str, content: &str, columns: &[(&str, &str)], expected: &[(&str, Option<&str>, Label)]) {
    let loaded = read(&[(name, content)], &ReadOptions::default(), None).unwrap();
    let got: Vec<_> =
        loaded.examples.iter().map(|it| (it.text.as_str(), it.second.as_deref(), it.label.clone())).collect();
    assert_eq!(got, expected, "{content}");
    let got: Vec<_> = loaded.columns.iter().map(|(role, name)| (role.as_str(), name.as_str())).collect();
    assert_eq!(got, columns, "{content}");
}

fn one(label: &str) -> Label {
    Label::One(label.to_string())
}

fn several(labels: &[&str]) -> Label {
    Label::Several(labels.iter().map(|label| label.to_string()).collect())
}

#[test]
fn columns_are_guessed() {
    let text = [("text", "Review"), ("label", "sentiment")];
    check(
        "a.csv",
        "id,Review,sentiment\n7,fine,pos\n8,no, neg \n",
        &text,
        &[("fine", None, one("pos")), ("no", None, one("neg"))],
    );
    let pair = [("text", "premise"), ("second", "hypothesis"), ("label", "label")];
    check("a.tsv", "premise\thypothesis\tlabel\na\tb\t1\n", &pair, &[("a", Some("b"), one("1"))]);
    let boolq = r#"{"question": "q", "passage": "p", "answer": true}"#;
    let pair = [("text", "question"), ("second", "passage"), ("label", "answer")];
    check("a.jsonl", boolq, &pair, &[("q", Some("p"), one("true"))]);
    check(
        "a.csv",
        "stance,text\nfor,x\n",
        &[("text", "text"), ("label", "stance")],
        &[("x", None, one("for"))],
    );
    check(
        "a.csv",
        "label,wording\nfor,x\n",
        &[("text", "wording"), ("label", "label")],
        &[("x", None, one("for"))],
    );
}

#[test]
fn the_kind_of_label_is_guessed() {
    let columns = [("text", "text"), ("label", "labels")];
    check(
        "a.csv",
        "text,labels\nx,a|b\ny,c\n",
        &columns,
        &[("x", None, several(&["a", "b"])), ("y", None, several(&["c"]))],
    );
    check("a.csv", "text,labels\nx,\"a, b,a\"\n", &columns, &[("x", None, several(&["a", "b"]))]);
    check("a.csv", "text,labels\nx,a\n", &columns, &[("x", None, one("a"))]);
    let arrays = "{\"text\": \"x\", \"labels\": [\"a, b\", 3]}\n{\"text\": \"y\", \"labels\": []}";
    check("a.jsonl", arrays, &columns, &[("x", None, several(&["a, b", "3"])), ("y", None, several(&[]))]);
    let columns = [("text", "text"), ("label", "score")];
    check(
        "a.csv",
        "text,score\nx,4\ny,2.5\n",
        &columns,
        &[("x", None, Label::Number(4.0)), ("y", None, Label::Number(2.5))],
    );
    check("a.csv", "text,score\nx,4\ny,2\n", &columns, &[("x", None, one("4")), ("y", None, one("2"))]);
    let loaded =
        read(&[("a.csv", "text,score\nx,4\n")], &ReadOptions::default(), Some(Kind::Regression)).unwrap();
    assert_eq!(loaded.examples[0].label, Label::Number(4.0));
    assert_eq!(loaded.examples[0].label.kind(), Kind::Regression);
}

#[test]
fn columns_are_given() {
    let options = given(&[("text", "a"), ("label", "text")]);
    let loaded = read(&[("a.csv", "text,label,a\nx,y,z\n")], &options, None).unwrap();
    assert_eq!((loaded.examples[0].text.as_str(), &loaded.examples[0].label), ("z", &one("x")));
    let loaded =
        read(&[("a.csv", "3,title,more\n")], &given(&[("text", "#3"), ("label", "#1")]), None).unwrap();
    assert_eq!((loaded.examples[0].text.as_str(), &loaded.examples[0].label), ("more", &one("3")));

    let error =
        |options: &ReadOptions| read(&[("a.csv", "x,y,z\n1,2,3\n")], options, None).unwrap_err().to_string();
    let got = error(&given(&[("text", "w"), ("label", "y")]));
    assert!(
        got.contains("a.csv: no column for the text called \"w\"; the columns are \"x\", \"z\"\nhint: "),
        "{got}"
    );
    let got = error(&ReadOptions::default());
    assert!(got.contains("no column for the text; the columns are \"x\", \"y\", \"z\"\nhint: name it with --column text=NAME"), "{got}");
    let got = error(&given(&[("words", "w")]));
    assert_eq!(got, "no column is read as \"words\"\nhint: columns can be given for text, second, label");
}

const BAD: &str = "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\", \"label\": \" \"}\n{\"text\": \"b\"}\n\
                   {\"text\": 5, \"label\": \"x\"}\n{\"text\": \"\", \"label\": \"x\"}\n{\"text\": \"a\n\
                   {\"text\": \"c\", \"label\": {}}\n";
const PROBLEMS: [&str; 6] = [
    "a.jsonl:2: empty label in \"label\"",
    "a.jsonl:3: no field \"label\"; the fields are \"text\"",
    "a.jsonl:4: \"text\" holds a number, expected text",
    "a.jsonl:5: \"text\" is empty",
    "a.jsonl:6: broken JSON at column 11: EOF while parsing a string",
    "a.jsonl:7: \"label\" holds an object, expected one label",
];

#[test]
fn bad_rows_are_refused_or_listed() {
    let error = read(&[("a.jsonl", BAD)], &ReadOptions::default(), None).unwrap_err().to_string();
    assert!(error.starts_with("6 bad rows:\n  "), "{error}");
    assert!(error.ends_with("\nhint: --skip-bad leaves them out"), "{error}");
    let skip = ReadOptions { bad_rows: BadRows::Skip, ..ReadOptions::default() };
    let loaded = read(&[("a.jsonl", BAD), ("b.csv", "text,label\nx,y,z\nx,y\n")], &skip, None).unwrap();
    assert_eq!(loaded.examples.len(), 2);
    assert_eq!((loaded.examples[1].place.file, loaded.examples[1].place.line), (1, 3));
    assert_eq!(
        loaded.sources.iter().map(|it| (it.form.as_str(), it.examples)).collect::<Vec<_>>(),
        [("JSON lines", 1), ("CSV", 1)]
    );
    let got: Vec<String> = loaded.bad.iter().map(ToString::to_string).collect();
    for (got, expected) in got.iter().zip(PROBLEMS.iter().chain(&["b.csv:2: expected 2 cells, got 3"])) {
        assert!(got.ends_with(expected), "{got}");
        assert!(!expected.starts_with('a') || error.contains(expected), "{error}");
    }
    assert_eq!(got.len(), 7);
}

#[test]
fn ten_bad_rows_are_shown() {
    let csv = format!("text,label\n{}", "x,\n".repeat(13));
    let error = read(&[("a.csv", &csv)], &ReadOptions::default(), None).unwrap_err().to_string();
    assert!(
        error.starts_with("13 bad rows:\n")
            && error.contains("a.csv:11: empty label in \"label\"\n  and 3 more\nhint:"),
        "{error}"
    );
    assert!(!error.contains("a.csv:12"), "{error}");
    let error =
        read(&[("a.csv", "text,score\nx,1.5\ny,b\n")], &ReadOptions::default(), Some(Kind::Regression));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("1 bad row:") && error.contains("a.csv:3: \"score\" holds \"b\", expected a number"),
        "{error}"
    );
}

#[test]
fn files_agree_on_pairs() {
    let files = [("a.csv", "text,label\nx,1\n"), ("b.csv", "text1,text2,label\nx,y,1\n")];
    let error = read(&files, &ReadOptions::default(), None).unwrap_err().to_string();
    assert!(
        error.contains("b.csv:1: here the examples are pairs of texts, but in ")
            && error.ends_with("single texts"),
        "{error}"
    );
}

#[test]
fn equal_texts_are_held_out_together() {
    let rows: String = (0..400).map(|row| format!("text {},{row}\n", row % 200)).collect();
    let loaded = read(&[("a.csv", &format!("text,label\n{rows}"))], &ReadOptions::default(), None).unwrap();
    let holdout = Holdout::Hash { fraction: 0.25, salt: "s".to_string() };
    let (training, held_out) = loaded.clone().hold_out(&holdout).unwrap();
    assert_eq!(training.len() + held_out.len(), 400);
    assert!((60..140).contains(&held_out.len()), "{}", held_out.len());
    assert!(training.iter().all(|row| held_out.iter().all(|other| other.text != row.text)));
    let (_, last) = loaded.clone().hold_out(&Holdout::LastFraction(0.1)).unwrap();
    assert_eq!((last.len(), &last[0].label), (40, &one("360")));
    assert!(loaded.hold_out(&Holdout::LastFraction(1.0)).is_err());
}

#[test]
fn compressed_files_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    crate::write(folder.path(), "a.csv.gz", crate::gzip(b"text,label\nx,1\n"));
    crate::write(folder.path(), "b/c.jsonl.zst", crate::zstd(b"{\"text\": \"y\", \"label\": 2}"));
    crate::write(folder.path(), "notes.md", "not a table");
    let loaded = read_classify(&[folder.path().to_path_buf()], &ReadOptions::default(), None).unwrap();
    let got: Vec<_> =
        loaded.examples.iter().map(|it| (it.text.as_str(), it.label.clone(), it.place.file)).collect();
    assert_eq!(got, [("x", one("1"), 0), ("y", one("2"), 1)]);
}
