//! `hearth embed`: a vector a line, and what it says of wrong input.

use crate::bert_folder::write_bert;
use crate::{Room, Said, positive};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

const LINES: &str = "the cat sat on the mat.\ndogs\n\nthe red hat, the red dog";

/// A room with the model `bert` and the text `in.txt`.
fn room() -> Room {
    let room = Room::new();
    room.write("bert/.keep", "");
    write_bert(&room.path("bert"));
    room.write("in.txt", LINES);
    room
}

fn vectors(out: &str) -> Vec<Vec<f32>> {
    let number = |word: &str| word.parse().unwrap_or_else(|e| panic!("{word:?}: {e}"));
    out.lines().map(|line| line.split(' ').map(number).collect()).collect()
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

#[test]
fn a_vector_a_line() {
    let room = room();
    let plain = room.done("embed bert --in in.txt").out;
    let all = vectors(&plain);
    assert_eq!(all.len(), 4, "an empty line is a text too");
    assert!(all.iter().all(|v| v.len() == 128 && (length(v) - 1.0).abs() < 1e-5));

    let said = room.done("embed bert --in in.txt --json");
    assert_eq!(said.out.lines().take(4).map(|line| format!("{line}\n")).collect::<String>(), plain);
    assert_eq!(said.out.lines().count(), 5, "the vectors, and one object on the last line");
    let json = said.json();
    positive(&json, &["tokens", "texts_per_second", "tokens_per_second"]);
    assert_eq!((json["count"].as_u64(), json["dim"].as_u64()), (Some(4), Some(128)));
    // 6 words and a full stop; dog and ##s; none; 6 words and a comma; and two tokens around each.
    assert_eq!((json["tokens"].as_u64(), json["truncated"].as_u64()), (Some(7 + 2 + 7 + 4 * 2), Some(0)));
    assert_eq!(json["pooling"], "mean");

    // How many go through together, and how lines end, changes nothing.
    for batch in [1, 2, 500] {
        assert_eq!(room.done(&format!("embed bert --in in.txt --batch {batch}")).out, plain);
    }
    room.write("dos.txt", LINES.replace('\n', "\r\n") + "\r\n");
    assert_eq!(room.done("embed bert --in dos.txt --threads 1").out, plain);
    let quiet = room.done("embed bert --in in.txt -q");
    assert_eq!((quiet.out, quiet.err.as_str()), (plain, ""));
    room.write("nothing.txt", "");
    let nothing = room.done("embed bert --in nothing.txt --json");
    assert_eq!((nothing.out.lines().count(), nothing.json()["count"].as_u64()), (1, Some(0)));
}

#[test]
fn flags_go_before_what_the_files_say() {
    let room = room();
    let default = room.done("embed bert --in in.txt").out;
    for pooling in ["cls", "last"] {
        let said = room.done(&format!("embed bert --in in.txt --pooling {pooling} --json"));
        assert_eq!(said.json()["pooling"], pooling);
        assert!(!said.out.starts_with(default.lines().next().expect("a line")), "{pooling}");
    }
    let raw = vectors(&room.done("embed bert --in in.txt --no-normalize").out);
    assert!(raw.iter().all(|v| (length(v) - 1.0).abs() > 0.1));
    assert_eq!(room.done("embed bert --in in.txt --type f32").out, default);
    let eight = room.done("embed bert --in in.txt --type q8_0").out;
    assert_ne!(eight, default);
    for (a, b) in vectors(&eight).iter().zip(vectors(&default)) {
        assert!(a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>() > 0.999);
    }
    room.write("bert/1_Pooling/config.json", r#"{"pooling_mode_cls_token": true}"#);
    assert_eq!(room.done("embed bert --in in.txt --json").json()["pooling"], "cls");
    assert_eq!(room.done("embed bert --in in.txt --pooling mean").out, default);
}

/// Lines on a pipe are answered one by one, not when the pipe is closed.
#[test]
fn standard_input_is_answered_as_it_comes() {
    let room = room();
    let expect = room.done("embed bert --in in.txt").out;
    let mut child = room
        .command(&["embed", "bert", "--in", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let (mut to, from) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut from = BufReader::new(from);
    let mut got = String::new();
    for line in LINES.lines() {
        writeln!(to, "{line}").expect("it reads");
        from.read_line(&mut got).expect("it answers");
    }
    assert_eq!(got, expect);
    drop(to);
    assert!(child.wait().expect("ends").success());
}

#[test]
fn texts_that_are_too_long_are_cut_and_counted() {
    let room = room();
    room.write("long.txt", format!("{}\nthe cat\n{}\n", "cat ".repeat(50), "cat ".repeat(38)));
    let said = room.done("embed bert --in long.txt --json");
    assert!(said.err.contains("1 of 3 texts were cut to the model's 40 tokens"), "{}", said.err);
    assert_eq!(said.json()["truncated"], 1);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], lines[2], "38 words are what 40 tokens have room for");
    room.write("bert/sentence_bert_config.json", r#"{"max_seq_length": 4}"#);
    let said = room.done("embed bert --in long.txt");
    assert!(said.err.contains("2 of 3 texts were cut to the model's 4 tokens"), "{}", said.err);
}

#[test]
fn a_decoder_embeds() {
    let room = Room::furnished();
    room.done("pretrain tiny.toml --data text.txt --out run --steps 2 -q");
    room.write("in.txt", "The cat\nA dog saw the moon.\n");
    let said = room.done("embed run --in in.txt --json");
    assert_eq!(said.json()["pooling"], "last");
    let lines = said.out.lines().take(2).collect::<Vec<_>>().join("\n");
    assert!(vectors(&lines).iter().all(|v| v.len() == 32 && (length(v) - 1.0).abs() < 1e-5));
    room.write("one.txt", "A dog saw the moon.\n");
    assert_eq!(room.done("embed run --in one.txt").out.trim_end(), lines.lines().nth(1).expect("two"));
    let long = "The old king liked the moon. ".repeat(30);
    room.write("long.txt", long);
    let said = room.done("embed run --in long.txt");
    assert!(said.err.contains("1 of 1 texts were cut to the model's 32 tokens"), "{}", said.err);
    room.refused(
        "embed run --in in.txt --type q8_0",
        "error: run: the type of weights can be chosen for encoders only\nhint: hearth quantize writes a decoder in \
         another type",
    );
}

#[test]
fn what_is_refused() {
    let room = room();
    room.refused_with("embed bert --in nowhere.txt", "error: ", &["nowhere.txt"]);
    room.refused_with("embed nowhere --in in.txt", "error: nowhere: no such file or folder", &["hint: "]);
    room.refused_with(
        "embed bert --in in.txt --pooling max",
        "error: invalid value 'max'",
        &["\"max\" isn't a pooling; expected mean, cls or last"],
    );
    room.refused_with("embed bert --in in.txt --type q4_0", "error: ", &["expected f32 or q8_0"]);
    room.refused_with("embed bert --in in.txt --batch 0", "error: ", &["0 is not in 1.."]);
    room.write("latin.txt", b"the cat\nan \xE9tude\n".as_slice());
    let said = room.hearth("embed bert --in latin.txt -q");
    let expect = "error: latin.txt, line 2: invalid UTF-8 at byte 3\nhint: convert the file to UTF-8\n";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(2), "", expect));

    // An encoder is for embedding alone.
    room.refused_with("generate bert --prompt A", "error: bert/config.json: ", &["bert", "hint: "]);
    room.write("bert/modules.json", r#"[{"type": "sentence_transformers.models.Dense"}]"#);
    room.refused(
        "embed bert --in in.txt",
        "error: bert/modules.json: a module of type \"sentence_transformers.models.Dense\" isn't supported",
    );
    std::fs::remove_file(room.path("bert/modules.json")).expect("removed");
    let weights = room.read("bert/model.safetensors");
    room.write("bert/model.safetensors", &weights[..weights.len() / 2]);
    room.refused_with("embed bert --in in.txt", "error: bert/model.safetensors: ", &[]);
}

/// Damaged weights aren't the caller's mistake, and no vector of theirs is printed.
#[test]
fn damaged_weights_fail() {
    let room = room();
    let mut weights = room.read("bert/model.safetensors");
    let end = weights.len();
    weights[end - 4 * 19 * 128..]
        .chunks_exact_mut(4)
        .for_each(|x| x.copy_from_slice(&f32::NAN.to_le_bytes()));
    room.write("bert/model.safetensors", weights);
    let Said { code, out, err } = room.hearth("embed bert --in in.txt -q");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("error: the vector of text ") && err.contains("\nhint: "), "{err}");
}

#[test]
fn what_belongs_to_a_query_is_learnt_and_its_folder_embeds() {
    let room = room();
    let words = ["cat", "dog", "mat", "hat", "red", "sat"];
    let row = |i: usize| {
        format!("{{\"query\": \"the {}\", \"positive\": \"{}s\"}}\n", words[i], words[(i + 1) % 6])
    };
    room.write("pairs.jsonl", (0..6).map(row).collect::<String>());
    let learn = "finetune embed --model bert --data pairs.jsonl --valid pairs.jsonl --epochs 2 --out out";
    let said = room.done(&format!("{learn} --query-prefix on --json"));
    let json = said.json();
    positive(&json, &["mrr", "mrr_before", "recall@10", "ndcg@10", "examples_per_second"]);
    assert!(said.err.contains("6 queries with"), "{}", said.err);
    let prompted = room.done("embed out --in in.txt --prompt query").out;
    assert!(!prompted.is_empty() && prompted != room.done("embed out --in in.txt").out);
    room.refused(learn, "error: out: already holds a model\nhint: choose another --out, or remove it first");
    room.refused(
        "finetune tag --model bert --data pairs.jsonl --scale 3 --out o",
        "error: --scale: only for embed",
    );
    room.refused(
        "finetune embed --model bert --data pairs.jsonl --labels one --out o",
        "error: --labels: only for classify",
    );
    let shown = room.done("finetune embed --model bert --data pairs.jsonl --preview 1").out;
    assert!(shown.contains("[CLS] the cat [SEP]") && shown.contains("→"), "{shown}");
    room.write("none.jsonl", "{\"query\": \"the cat\"}\n");
    room.refused_with("finetune embed --model bert --data none.jsonl --out o", "error: ", &["none.jsonl"]);
}
