//! `hearth finetune` with models from before the Transformer, and `hearth classify` and `tag` with what it leaves.

use crate::Room;
use std::fmt::Write as _;

/// Reviews that a few words decide.
fn reviews(count: usize) -> String {
    let (good, bad) = (["lovely", "warm", "clever"], ["dull", "cold", "stupid"]);
    let mut text = "text,label\n".to_owned();
    for i in 0..count {
        let (words, label) = if i % 2 == 0 { (good, "good") } else { (bad, "bad") };
        let _ =
            writeln!(text, "a {} film with {} people number {i},{label}", words[i % 3], words[(i / 2) % 3]);
    }
    text
}

/// Names of people and places.
fn sentences(count: usize) -> String {
    let (people, places) = (["Anna", "Ben", "Cleo"], ["Jena", "Rome", "Oslo"]);
    let mut text = String::new();
    for i in 0..count {
        let (person, place) = (people[i % 3], places[(i / 3) % 3]);
        let _ = writeln!(text, "{person}\tB-PER\nlives\tO\nin\tO\n{place}\tB-LOC\n.\tO\n");
    }
    text
}

#[test]
fn texts_get_labels_from_every_kind() {
    let room = Room::new();
    room.write("reviews.csv", reviews(120));
    room.write("new.txt", "a lovely clever film\na stupid cold film\n\n");
    for kind in ["naive-bayes", "svm", "cnn", "rnn", "lstm", "gru"] {
        let out = format!("own-{kind}");
        let said =
            room.done(&format!("finetune classify --model {kind} --data reviews.csv --out {out} --json -q"));
        let json = said.json();
        assert!(json["accuracy"].as_f64().expect("a number") > 0.9, "{kind}: {json}");
        assert_eq!(json["labels"].as_array().map(Vec::len), Some(2), "{kind}");
        assert_eq!(json.get("ece").is_some(), kind != "svm", "{kind}: {json}");
        let files = ["model.json", "hearth.json", "report.html"];
        assert!(files.iter().all(|file| room.path(&format!("{out}/{file}")).is_file()), "{kind}");
        // What is counted or solved, and not learnt step by step, has no log of steps.
        let learns_in_steps = !matches!(kind, "naive-bayes" | "svm");
        assert_eq!(room.path(&format!("{out}/run.jsonl")).exists(), learns_in_steps, "{kind}");
        let labels = room.done(&format!("classify {out} --in new.txt -q")).out;
        assert!(labels.starts_with("good\nbad\n") && labels.lines().count() == 3, "{kind}: {labels}");
        // A text's label doesn't depend on the others, and the same run gives the same model.
        let scores = room.done(&format!("classify {out} --in new.txt --scores -q")).out;
        room.write("one.txt", "a stupid cold film\n");
        let alone = room.done(&format!("classify {out} --in one.txt --scores -q")).out;
        assert_eq!(scores.lines().nth(1), Some(alone.trim_end()), "{kind}");
        room.done(&format!("finetune classify --model {kind} --data reviews.csv --out again-{kind} -q"));
        assert!(
            room.read(&format!("{out}/model.json")) == room.read(&format!("again-{kind}/model.json")),
            "{kind}"
        );
    }
}

#[test]
fn words_get_tags_from_every_kind() {
    let room = Room::new();
    room.write("names.conll", sentences(90));
    room.write("new.conll", "Ben\nlives\nin\nOslo\n.\n\n");
    for kind in ["hmm", "crf", "cnn", "rnn", "lstm", "gru"] {
        let said =
            room.done(&format!("finetune tag --model {kind} --data names.conll --out {kind} --json -q"));
        assert!(said.json()["span_f1"].as_f64().expect("a number") > 0.9, "{kind}: {}", said.json());
        let tagged = room.done(&format!("tag {kind} --in new.conll -q")).out;
        assert_eq!(tagged, "Ben\tB-PER\nlives\tO\nin\tO\nOslo\tB-LOC\n.\tO\n\n", "{kind}");
    }
}

#[test]
fn what_does_not_apply_is_refused() {
    let room = Room::new();
    room.write("reviews.csv", reviews(60));
    room.write("names.conll", sentences(30));
    room.write("several.jsonl", "{\"text\": \"a b\", \"labels\": [\"x\", \"y\"]}\n".repeat(40));
    room.write("valid.jsonl", "{\"text\": \"a b\", \"labels\": [\"x\"]}\n");
    let check = |args: &str, parts: &[&str]| {
        room.refused_with(&format!("finetune {args} --out out"), "error: ", parts)
    };
    check("classify --model svm --data reviews.csv --lora 4", &["--lora", "svm"]);
    check("classify --model naive-bayes --data reviews.csv --epochs 2", &["--epochs", "naive-bayes"]);
    check("classify --model svm --data reviews.csv --compare", &["--compare"]);
    check("tag --model gru --data names.conll --max-tokens 9", &["--max-tokens"]);
    check("classify --model hmm --data reviews.csv", &["hmm", "only for tag"]);
    check("chat --model svm --data reviews.csv", &["svm", "only for classify"]);
    check("classify --model svm --data several.jsonl --valid valid.jsonl", &["one label"]);
    // A path of that name is a path.
    room.write("svm/.keep", "");
    check("classify --model svm --data reviews.csv", &["no tokenizer in svm"]);
}

#[test]
fn a_damaged_model_is_refused() {
    let room = Room::new();
    room.write("reviews.csv", reviews(60));
    room.write("new.txt", "a lovely film\n");
    room.write("names.conll", sentences(30));
    room.done("finetune classify --model naive-bayes --data reviews.csv --out bayes -q");
    room.done("finetune classify --model cnn --data reviews.csv --epochs 1 --out cnn -q");
    room.done("finetune tag --model crf --data names.conll --out crf -q");
    room.refused_with("tag bayes --in new.txt", "error: bayes/model.json: ", &["classify"]);
    room.refused_with("classify crf --in new.txt", "error: crf/model.json: ", &["tag"]);
    let whole = String::from_utf8(room.read("bayes/model.json")).expect("text");
    for (from, to, part) in [
        ("hearth-baseline", "other", "format"),
        ("\"version\":1", "\"version\":9", "version"),
        ("\"labels\":[\"bad\",\"good\"]", "\"labels\":[\"bad\"]", "labels"),
        ("naive-bayes", "guess", "guess"),
        ("\"n_features\":", "\"n_features\":1", "feature"),
    ] {
        assert!(whole.contains(from), "{from}");
        room.write("bayes/model.json", whole.replacen(from, to, 1));
        room.refused_with("classify bayes --in new.txt", "error: ", &["bayes/model.json", part]);
    }
    room.write("bayes/model.json", &whole[..whole.len() / 2]);
    room.refused_with("classify bayes --in new.txt", "error: bayes/model.json: ", &[]);
    let weights = room.read("cnn/model.safetensors");
    room.write("cnn/model.safetensors", &weights[..weights.len() - 9]);
    room.refused_with("classify cnn --in new.txt", "error: cnn/model.safetensors: ", &[]);
    let shape = String::from_utf8(room.read("cnn/model.json")).expect("text");
    room.write("cnn/model.safetensors", weights);
    room.write("cnn/model.json", shape.replacen("\"embedding\":100", "\"embedding\":1000000000000", 1));
    room.refused_with("classify cnn --in new.txt", "error: ", &["cnn/model.safetensors"]);
}

/// Characters with their position in their word, as in Weibo's corpus: what was learnt from is what is tagged.
#[test]
fn positions_of_characters_are_kept_for_models_of_their_own() {
    let room = Room::new();
    let sentence =
        "我0 O\n在0 O\n北0 B-LOC\n京1 I-LOC\n\n他0 O\n去0 O\n上0 B-LOC\n海1 I-LOC\n\n海0 O\n上0 O\n京0 O\n";
    let data = format!("{sentence}\n").repeat(8);
    room.write("names.conll", &data);
    room.done("finetune tag --model crf --data names.conll --valid names.conll --out names -q");
    let words = data.replace(" O", "").replace(" B-LOC", "").replace(" I-LOC", "");
    room.write("words.conll", words);
    let tagged = room.done("tag names --in words.conll").out;
    // Which of the characters is in a name is told by its position alone.
    assert_eq!(tagged.replace('\t', " ").trim_end(), data.trim_end());
}
