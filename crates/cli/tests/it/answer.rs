//! `hearth finetune qa` and `hearth answer`: from questions to answers, and what they say of wrong input.

use crate::Room;
use crate::bert_folder::write_bert;
use serde_json::{Value, json};

const PASSAGE: &str = "the cat sat on the mat. the dog ran after the red hat.";

fn squad() -> Value {
    let answer = |text: &str, start: usize| json!([{ "text": text, "answer_start": start }]);
    let question = |id: &str, question: &str, answers: Value| json!({ "id": id, "question": question, "answers": answers });
    // Two passages, so that one can be held out.
    json!({ "data": [{ "paragraphs": [
        { "context": PASSAGE, "qas": [question("a", "the cat sat on", answer("the mat", 15)),
                                      question("b", "the red dog sat", json!([]))] },
        { "context": "the hat sat on the dog.", "qas": [question("c", "the hat sat on", answer("the dog", 15))] },
    ] }] })
}

/// A room with the model `qa`, which learnt next to nothing.
fn room() -> Room {
    let room = Room::new();
    room.write("bert/.keep", "");
    write_bert(&room.path("bert"));
    room.write("squad.json", serde_json::to_string_pretty(&squad()).expect("JSON"));
    let said = room.done(
        "finetune qa --model bert --data squad.json --valid squad.json --max-tokens 16 --out qa --json",
    );
    let json = said.json();
    for key in ["em", "f1", "has_answer_f1", "no_answer_f1", "no_answer_threshold"] {
        assert!(json[key].is_number(), "{key}: {json}");
    }
    assert!(said.err.contains("scored by SQuAD's script"), "{}", said.err);
    room
}

#[test]
fn an_answer_a_question() {
    let room = room();
    let lines = |out: &str| -> Vec<Value> {
        out.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
    };
    let said = lines(&room.done("answer qa --in squad.json --no-answer 1e9").out);
    let ids: Vec<&str> = said.iter().map(|line| line["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    let place = |line: &Value, key: &str| line[key].as_u64().expect("a number") as usize;
    for line in &said[..2] {
        assert_eq!(line["answer"], PASSAGE[place(line, "start")..place(line, "end")]);
        assert!(line["score"].as_f64().is_some_and(|score| score > 0.0 && score <= 1.0));
    }
    // One word at most; and none at all where "no answer" is always believed.
    let short = lines(&room.done("answer qa --in squad.json --no-answer 1e9 --max-answer 1").out);
    assert!(short.iter().all(|line| !line["answer"].as_str().expect("one").contains(' ')), "{short:?}");
    for line in lines(&room.done("answer qa --in squad.json --no-answer -1e9").out) {
        assert!(["answer", "start", "end"].iter().all(|key| line[key].is_null()), "{line}");
    }
    // JSON lines and a single question say the same; answers go to a file whole.
    let rows = [json!({ "question": "the cat sat on", "context": PASSAGE })];
    room.write("rows.jsonl", rows.map(|row| row.to_string() + "\n").concat());
    room.write("passage.txt", PASSAGE);
    let said = room.done("answer qa --in rows.jsonl --out rows.out --no-answer 1e9 --json");
    assert_eq!((said.json()["count"].as_u64(), said.json()["answered"].as_u64()), (Some(1), Some(1)));
    let from_file = lines(&String::from_utf8(room.read("rows.out")).expect("text"));
    let question = [
        "answer",
        "qa",
        "--question",
        "the cat sat on",
        "--context-file",
        "passage.txt",
        "--no-answer",
        "1e9",
    ];
    let said = room.run(&question);
    assert_eq!((said.code, said.out.trim_end()), (Some(0), from_file[0]["answer"].as_str().expect("one")));
}

/// Its tokens are byte-level BPE's, not pieces of words.
#[test]
fn a_bert_pretrained_here_answers() {
    let room = Room::new();
    room.write("text.txt", format!("{PASSAGE} where is the red cat? ").repeat(60));
    room.write(
        "recipe.toml",
        "[data]\nfiles = [\"text.txt\"]\nholdout = 0.2\nholdout_last = true\n[tokenizer]\nvocab_size = 300\n\
         [objective]\nkind = \"mlm\"\n[model]\nfamily = \"bert\"\ndepth = 1\nhidden_size = 64\ncontext = 64\n\
         [train]\nsteps = 3\nbatch = 4\nngram_order = 0\n",
    );
    room.done("pretrain recipe.toml --out encoder");
    room.write("squad.json", squad().to_string());
    room.done("finetune qa --model encoder --data squad.json --valid squad.json --max-tokens 24 --out qa");
    let said = room.done("answer qa --in squad.json --no-answer 1e9").out;
    assert_eq!(said.lines().count(), 3, "{said}");
    for line in said.lines().take(2) {
        let line: Value = serde_json::from_str(line).expect("an object");
        let place = |key: &str| line[key].as_u64().expect("a number") as usize;
        assert_eq!(line["answer"], PASSAGE[place("start")..place("end")], "{said}");
    }
}

#[test]
fn questions_as_the_model_sees_them() {
    let room = room();
    let preview = room.done("finetune qa --model bert --data squad.json --max-tokens 16 --preview 1").out;
    // The first of two windows holds the answer; the second shows where there is none.
    let lines: Vec<&str> = preview.lines().collect();
    assert_eq!(
        lines[0],
        "[CLS] the cat sat on [SEP] the cat sat on «the/first» «mat/last» . the dog [SEP]   (window 1 of 3, 16 tokens)"
    );
    assert!(lines[1].starts_with("«[CLS]/first and last» the cat sat on [SEP]"), "{preview}");
}

#[test]
fn what_cannot_be_answered() {
    let room = room();
    room.write("bad.jsonl", "{\"question\": \"q\", \"context\": \"the cat\"}\n{\"question\": \"q\"}\n");
    room.write("broken.json", "{\"data\": [{\"paragraphs\": [");
    room.write("empty.txt", " \n");
    room.refused_with("answer qa --in bad.jsonl --out o", "error: ", &["bad.jsonl:2: no field \"context\""]);
    let said = room.done("answer qa --in bad.jsonl --skip-bad --json");
    assert_eq!((said.json()["count"].as_u64(), said.json()["left_out"].as_u64()), (Some(1), Some(1)));
    room.refused_with("answer qa --in broken.json --out o", "error: ", &["broken.json:1: broken JSON"]);
    room.refused_with("answer bert --in squad.json --out o", "error: ", &["config.json"]);
    room.refused_with("answer qa --question q --context-file empty.txt", "error: empty.txt: empty", &[]);
    room.refused_with("answer qa --question q", "error: ", &["--context-file"]);
    room.refused_with("answer qa", "error: ", &["--in"]);
    room.refused_with(
        "finetune qa --model bert --data squad.json --max-tokens 16 --stride 9 --out o",
        "error: --stride: 9, expected at most 8, half of --max-tokens",
        &[],
    );
    room.refused_with(
        "finetune tag --model bert --data squad.json --stride 9 --out o",
        "error: --stride and --max-answer: only for qa",
        &[],
    );
    room.write("wrong.json", squad().to_string().replace("the mat\"", "the moon\""));
    room.refused_with(
        "finetune qa --model bert --data wrong.json --out o",
        "error: ",
        &["wrong.json:1: data[0].paragraphs[0].qas[0] (a): the answer \"the moon\" is not in the passage"],
    );
}
