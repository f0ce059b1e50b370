//! Questions on passages, in SQuAD's form and flat.

use hearth_data::Result;
use hearth_data::labelled::{BadRows, Example, Loaded, QaExample, ReadOptions, read_qa, read_questions};

use crate::files::Files;

fn read(name: &str, content: &str, bad_rows: BadRows) -> Result<Loaded<QaExample>> {
    let options = ReadOptions { bad_rows, ..ReadOptions::default() };
    read_qa(&Files::of(&[(name, content)]).paths, &options)
}

fn answers(example: &QaExample) -> Vec<(&str, usize)> {
    example.answers.iter().map(|answer| (answer.text.as_str(), answer.start)).collect()
}

fn bad(name: &str, content: &str, expected: &[&str]) {
    let got: Vec<String> =
        read(name, content, BadRows::Skip).unwrap().bad.iter().map(ToString::to_string).collect();
    assert_eq!(got.len(), expected.len(), "{got:?}");
    for (got, expected) in got.iter().zip(expected) {
        assert!(got.ends_with(expected), "{got}");
    }
    let error = read(name, content, BadRows::Refuse).unwrap_err().to_string();
    assert!(expected.iter().all(|problem| error.contains(problem)), "{error}");
}

const SQUAD: &str = r#"{"version": "v2.0", "data": [
{"title": "t", "paragraphs": [{"context": "尤金袋鼠 lives 🦘 there.", "qas": [
  {"id": "a", "question": "Where?", "answers": [{"text": "there", "answer_start": 13}], "is_impossible": false},
  {"id": "b", "question": "Why?", "answers": [], "is_impossible": true, "plausible_answers": []},
  {"id": "c", "question": "Who?", "answers": [{"text": "袋鼠", "answer_start": 3}, {"text": "袋鼠", "answer_start": 2}]},
  {"id": "d", "question": " ", "answers": []},
  {"id": "e", "question": "Who?", "answers": [{"text": "Skippy", "answer_start": 99}]},
  {"id": "f", "question": "Who?"},
  {"id": 7, "answers": []}
]}]}]}"#;

#[test]
fn squad() {
    let loaded = read("a.json", SQUAD, BadRows::Skip).unwrap();
    let [first, second] = loaded.examples.as_slice() else { panic!("{:?}", loaded.examples) };
    assert_eq!((first.id.as_str(), answers(first)), ("a", vec![("there", 13)]));
    assert_eq!((second.question.as_str(), second.place().line), ("Why?", 4));
    assert!(second.answers.is_empty() && second.context == first.context);
    assert_eq!(first.holdout_text(), second.holdout_text());
    assert_eq!(loaded.sources[0].form, "SQuAD");
    bad(
        "a.json",
        SQUAD,
        &[
            "a.json:5: data[0].paragraphs[0].qas[2] (c): the answer \"袋鼠\" is not in the passage at character 3, where \
         it has \"鼠 \"; the answer is at character 2",
            "a.json:6: data[0].paragraphs[0].qas[3] (d): the question is empty",
            "a.json:7: data[0].paragraphs[0].qas[4] (e): the answer \"Skippy\" is not in the passage at character 99, \
         where the passage has ended; the answer is nowhere in it",
            "a.json:8: data[0].paragraphs[0].qas[5] (f): no \"answers\"",
            "a.json:9: data[0].paragraphs[0].qas[6]: missing field `question`",
        ],
    );
}

#[test]
fn what_is_not_squad() {
    let error = |content: &str| read("a.json", content, BadRows::Skip).unwrap_err().to_string();
    let got = error("{\"data\": [\n{\"paragraphs\": [{\"qas\": []}]}]}");
    assert!(got.contains("a.json:2: not as in SQuAD's files: missing field `context`"), "{got}");
    let got = error("{\"data\": [\n{\"paragraphs\": [}");
    assert!(got.contains("a.json:2: broken JSON at column 17: expected value"), "{got}");
}

#[test]
fn cmrc_of_the_contest() {
    let passages = r#"[{"context_id": "P", "context_text": "他来了。", "title": "t", "qas": [
        {"query_id": "Q", "query_text": "谁？", "answers": ["他", "他来"]}]}]"#;
    let loaded = read("a.json", passages, BadRows::Refuse).unwrap();
    assert_eq!((loaded.examples[0].id.as_str(), loaded.sources[0].form.as_str()), ("Q", "CMRC"));
    assert_eq!(answers(&loaded.examples[0]), [("他", 0), ("他来", 0)]);
}

#[test]
fn flat_tables() {
    let rows = r#"{"id": "1", "question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": [2]}}
{"id": "2", "question": "q", "context": "a b", "answers": {"text": [], "answer_start": []}}
{"question": "q", "context": "a b", "answers": [{"text": "b", "answer_start": 2}, "a"]}"#;
    let loaded = read("a.jsonl", rows, BadRows::Refuse).unwrap();
    let got: Vec<_> = loaded.examples.iter().map(|it| (it.id.as_str(), answers(it))).collect();
    assert_eq!(got, [("1", vec![("b", 2)]), ("2", vec![]), ("0:3", vec![("b", 2), ("a", 0)])]);
    let csv = "question,passage,answer,start\nq,a b,b,2\nq,a b,b,\nq,a b,b,-1\nq,a b,,\n";
    let loaded = read("a.csv", csv, BadRows::Refuse).unwrap();
    assert_eq!(
        loaded.examples.iter().map(answers).collect::<Vec<_>>(),
        [vec![("b", 2)], vec![("b", 2)], vec![("b", 2)], vec![]]
    );
    let rows = r#"{"question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": [1]}}
{"question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": []}}
{"question": "q", "context": "", "answers": []}
{"question": "q", "context": "a", "answers": 3}
{"question": "q", "context": "a", "answers": "b"}
{"question": "q", "context": "a", "answers": "a"}"#;
    bad(
        "a.jsonl",
        rows,
        &[
            "a.jsonl:1: the answer \"b\" is not in the passage at character 1, where it has \" \"; the answer is at \
         character 2",
            "a.jsonl:2: 1 answers but 0 offsets",
            "a.jsonl:3: \"context\" is empty",
            "a.jsonl:4: answers of an unknown form: 3",
            "a.jsonl:5: the answer \"b\" is not in the passage",
        ],
    );
}

#[test]
fn questions_to_be_answered_need_no_answers() {
    let read = |name: &str, content: &str| {
        let options = ReadOptions { bad_rows: BadRows::Skip, ..ReadOptions::default() };
        read_questions(&Files::of(&[(name, content)]).paths, &options).unwrap()
    };
    // Wrong answers don't matter; a question that is none does.
    let loaded = read("a.json", SQUAD);
    let ids: Vec<&str> = loaded.examples.iter().map(|example| example.id.as_str()).collect();
    assert_eq!((ids, loaded.bad.len()), (vec!["a", "b", "c", "e", "f"], 2));
    assert!(loaded.examples.iter().all(|example| example.answers.is_empty()));
    let loaded = read("a.jsonl", "{\"question\": \"q\", \"context\": \"a b\"}\n{\"question\": \"q\"}\n");
    assert_eq!((loaded.examples.len(), loaded.bad[0].line), (1, 2));
    let loaded = read("a.csv", "question,passage,answer\nq,a b,zebra\n");
    assert_eq!(loaded.columns.len(), 2);
}

#[test]
fn an_answer_has_its_bytes() {
    let loaded = read("a.json", SQUAD, BadRows::Skip).unwrap();
    let [example, ..] = loaded.examples.as_slice() else { panic!("none") };
    assert_eq!(&example.context[example.answers[0].bytes(&example.context)], "there");
}
