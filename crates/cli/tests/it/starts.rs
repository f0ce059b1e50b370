//! Training goes on from a model in any form that runs: its folder, a GGUF file, an adapter.

use crate::Room;
use crate::bert_folder::write_bert;
use serde_json::Value;

const ROWS: &str = "text,label\nthe cat,a\nthe dog,b\nthe moon,a\nthe king,b\n";
const TAGS: &str = "the O\ncat B-X\n\na O\ndog B-X\n\n";

const PAIRS: &str = r#"{"query": "the cat", "positive": "sat on"}
{"query": "the dog", "positive": "the mat"}
{"query": "a hat", "positive": "red"}
"#;

/// A room with a decoder in a folder and in a GGUF file, and an adapter of it by itself and merged.
fn decoders() -> Room {
    let room = Room::furnished();
    room.done("pretrain tiny.toml --data text.txt --out model -q");
    room.done("convert model --out model.gguf --type F32 -q");
    let learn =
        "finetune complete --model model --data text.txt --valid text.txt --lora 4 --lr 0.02 --epochs 1";
    room.done(&format!("{learn} --out adapter -q"));
    room.done("merge model --adapter adapter --out merged -q");
    room
}

/// The weights that the same command ends with from two models are the same bits.
fn equal(room: &Room, command: &str, models: [&str; 2]) {
    let [one, other] = models.map(|model| {
        room.done(&format!("{command} --model {model} --out run -q"));
        let weights = room.read("run/model.safetensors");
        std::fs::remove_dir_all(room.path("run")).expect("removed");
        weights
    });
    assert!(one == other, "{command}: {models:?} end with other weights");
}

#[test]
fn heads_go_on_decoders_of_any_form() {
    let room = decoders();
    room.write("rows.csv", ROWS);
    room.write("tags.conll", TAGS);
    room.write("pairs.jsonl", PAIRS);
    for models in [["model", "model.gguf"], ["merged", "adapter"]] {
        equal(&room, "finetune classify --data rows.csv --valid rows.csv", models);
        equal(&room, "finetune classify --data rows.csv --valid rows.csv --lora 2", models);
        equal(&room, "finetune tag --data tags.conll --valid tags.conll", models);
        equal(&room, "finetune embed --data pairs.jsonl --valid pairs.jsonl", models);
    }
    // What was merged isn't what it was for.
    let loss = |model: &str| {
        let learn = "finetune classify --data rows.csv --valid rows.csv";
        room.done(&format!("{learn} --model {model} --out of-{model} --json -q")).json()["loss"].clone()
    };
    assert_ne!(loss("model"), loss("adapter"));
}

#[test]
fn pretraining_goes_on_with_decoders_of_any_form() {
    let room = decoders();
    for models in [["model", "model.gguf"], ["merged", "adapter"]] {
        equal(&room, "pretrain tiny.toml --data text.txt --steps 3", models);
    }
    // The tokenizer of a file turns text into the same ids.
    room.write("line.txt", "The cat saw the red house.\n");
    let ids = |model: &str| room.done(&format!("tokenizer encode --model {model} line.txt")).out;
    assert_eq!(ids("model"), ids("model.gguf"));
    assert_eq!(ids("model"), ids("adapter"));
}

#[test]
fn encoders_in_gguf_files_are_learnt_from_too() {
    let room = Room::new();
    room.write("bert/.keep", "");
    write_bert(&room.path("bert"));
    // A GGUF file of this vocabulary means a tokenizer that lowercases.
    let mut tokenizer: Value = serde_json::from_slice(&room.read("bert/tokenizer.json")).expect("JSON");
    tokenizer["normalizer"]["lowercase"] = true.into();
    room.write("bert/tokenizer.json", tokenizer.to_string());
    room.done("convert bert --out bert.gguf --type F32 -q");
    room.write("tags.conll", TAGS);
    room.write("pairs.jsonl", PAIRS);
    let models = ["bert", "bert.gguf"];
    equal(&room, "finetune tag --data tags.conll --valid tags.conll", models);
    equal(&room, "finetune embed --data pairs.jsonl --valid pairs.jsonl", models);
    // The file has no head for masked tokens, so that one starts from random weights.
    room.write("text.txt", "the cat sat on the mat\n".repeat(200));
    room.write("more.toml", "[data]\nholdout_last = true\nholdout = 0.2\n[train]\nsteps = 2\nbatch = 2\n");
    let said = room.done("pretrain more.toml --data text.txt --context 16 --model bert.gguf --out more");
    assert!(said.err.contains("no head for masked tokens"), "{}", said.err);
    assert!(room.path("more/model.safetensors").exists());
}

#[test]
fn one_text_is_judged_by_its_end() {
    let room = Room::furnished();
    room.done("pretrain tiny.toml --data text.txt --out model -q");
    let said = room.done("finetune complete --model model --data text.txt --epochs 1 --out learnt");
    assert!(said.err.contains("what is held out is its end"), "{}", said.err);
    let card: Value = serde_json::from_slice(&room.read("learnt/hearth.json")).expect("JSON");
    let number = |value: &Value| value.as_f64().expect("a number");
    assert!(number(&card["metrics"]["loss"]) < number(&card["loss_before"]), "{card}");
    room.write("two/a.txt", "The cat saw the moon.\n");
    room.write("two/b.txt", "A dog liked the river.\n");
    room.refused_with(
        "finetune complete --model model --data two --holdout 0.001 --out no",
        "error: 2 examples are too few",
        &["judge by", "--valid"],
    );
}
