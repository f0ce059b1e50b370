//! `hearth finetune complete` and `chat`, adapters beside a model and merged into it, and what wrong input gets.

use crate::Room;
use serde_json::Value;

const TALK: &str = r#"{"messages": [{"role": "user", "content": "The light of the moon"}, {"role": "assistant", "content": "lies on the floor"}]}"#;

/// A room with a model that was trained for a few steps.
fn room() -> Room {
    let room = Room::furnished();
    room.done("pretrain tiny.toml --data text.txt --out model -q");
    room
}

#[test]
fn an_adapter_goes_beside_a_model_or_into_it() {
    let room = room();
    room.done(
        "finetune complete --model model --data text.txt --valid text.txt --lora 4 --lr 0.02 --epochs 2 --out learnt -q",
    );
    let said = |args: &str| {
        let args = format!("generate {args} --prompt The --max-tokens 24 --temperature 0 --json -q");
        let tokens = room.done(&args).json()["completions"][0]["tokens"].to_string();
        assert!(tokens.len() > 24, "{tokens}");
        tokens
    };
    let plain = said("model");
    let beside = said("model --adapter learnt");
    assert_ne!(beside, plain, "the adapter does nothing");
    assert_eq!(beside, said("learnt"), "beside the weights, and in them");
    room.done("merge model --adapter learnt --out merged -q");
    assert_eq!(beside, said("merged"), "merged by hand");
    goes_on(&room);
    // Over a quantised file too.
    room.done("convert model --out model.gguf -q");
    room.done("quantize model.gguf --type Q8_0 --out small.gguf -q");
    assert_ne!(said("small.gguf --adapter learnt"), said("small.gguf"));
}

/// The adapter `learnt` goes on from where it was, for the model that it was for.
fn goes_on(room: &Room) {
    let more = "finetune complete --model learnt --data text.txt --valid text.txt --epochs 1";
    room.done(&format!("{more} --lora --lr 0.01 --out more -q"));
    let json = |file: &str| -> Value { serde_json::from_slice(&room.read(file)).expect("JSON") };
    let (before, after) = (json("learnt/hearth.json"), json("more/hearth.json"));
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    let [end, start] = [&before["metrics"]["loss"], &after["loss_before"]].map(number);
    assert!((end - start).abs() < 1e-4, "from {end} to {start}");
    assert!(
        number(&after["metrics"]["loss"]) < start - 1e-3,
        "nothing was learnt: {start}, {}",
        after["metrics"]
    );
    let (before, after) = (json("learnt/adapter_config.json"), json("more/adapter_config.json"));
    assert_eq!(after, before, "of the same sizes, for the same model");
    assert_ne!(room.read("learnt/adapter_model.safetensors"), room.read("more/adapter_model.safetensors"));
    for (flags, flag) in [
        ("--lora 4", "--lora R"),
        ("--lora --alpha 8", "--alpha"),
        ("--lora --targets q_proj", "--targets"),
        ("--lora --rslora", "--rslora"),
    ] {
        room.refused_with(
            &format!("{more} {flags} --out no"),
            &format!("error: {flag}: learnt is an adapter, whose updates have their sizes"),
            &["--lora alone goes on"],
        );
    }
    // Without --lora it is a model like others.
    room.done(&format!("{more} --out whole -q"));
    assert!(
        !room.path("whole/adapter_config.json").exists() && room.path("whole/model.safetensors").exists()
    );
}

#[test]
fn heads_over_decoders_have_their_own_usual_rate() {
    let room = room();
    let rows = "text,label\nthe light,a\nthe dark,b\n".to_owned() + &"the light,a\nthe dark,b\n".repeat(9);
    room.write("rows.csv", rows);
    let settings = |flags: &str, out: &str| {
        room.done(&format!(
            "finetune classify --model model --data rows.csv --valid rows.csv --out {out} --epochs 1 -q {flags}"
        ));
        let card: Value = serde_json::from_slice(&room.read(&format!("{out}/hearth.json"))).expect("JSON");
        let number = |key: &str| card["settings"][key].as_f64().expect("a number");
        ((number("lr") * 1e6).round(), number("dropout"))
    };
    assert_eq!(settings("--lora 4", "low"), (200.0, 0.0));
    assert_eq!(settings("--lora 4 --lr 0.001 --dropout 0.5", "own"), (1000.0, 0.5));
    assert_eq!(settings("", "full").0, 50.0);
}

#[test]
fn adapters_that_cannot_be_are_refused() {
    let room = room();
    room.write("empty/.keep", "");
    room.refused_with(
        "generate model --adapter empty --prompt a",
        "error: empty: ",
        &["adapter_config.json", "adapter"],
    );
    room.refused_with(
        "merge model --adapter empty --out out",
        "error: empty: ",
        &["adapter_config.json", "adapter"],
    );
    room.refused_with(
        "merge model --adapter nowhere --out out",
        "error: nowhere: ",
        &["adapter_config.json", "adapter"],
    );
    room.write("bad/adapter_config.json", r#"{"peft_type": "IA3", "r": 4, "lora_alpha": 8}"#);
    room.write("bad/adapter_model.safetensors", "");
    let place = "bad/adapter_config.json";
    room.refused_with("generate model --adapter bad --prompt a", "error: ", &[place, "IA3", "LORA"]);
    room.write(place, r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8}"#);
    let file = "bad/adapter_model.safetensors";
    room.refused_with("generate model --adapter bad --prompt a", "error: ", &[file]);
    room.refused_with("merge nowhere --adapter bad --out out", "error: nowhere: no such file", &[]);
}

#[test]
fn bad_rows_are_named_by_file_and_line() {
    let room = room();
    let chat = |room: &Room, name: &str, lines: &[&str], expect: &[&str]| {
        room.write(name, lines.join("\n"));
        let args = format!("finetune chat --model model --data {name} --out out");
        room.refused_with(&args, "error: ", expect);
    };
    chat(&room, "broken.jsonl", &[TALK, "{\"messages\": ["], &["broken.jsonl:2:"]);
    let turned =
        r#"{"messages": [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    chat(&room, "turned.jsonl", &[TALK, TALK, turned], &["turned.jsonl:3:", "assistant"]);
    let role = r#"{"messages": [{"role": "wizard", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    chat(&room, "role.jsonl", &[role, TALK], &["role.jsonl:1:", "wizard"]);
    let empty = r#"{"messages": []}"#;
    chat(&room, "empty.jsonl", &[TALK, empty], &["empty.jsonl:2:"]);
    chat(&room, "prompt.jsonl", &[r#"{"prompt": 3}"#], &["prompt.jsonl"]);
    room.refused_with(
        "finetune chat --model model --data missing.jsonl --out out",
        "error: ",
        &["missing.jsonl"],
    );
    room.write("nothing.txt", "");
    room.refused_with(
        "finetune complete --model model --data nothing.txt --out out",
        "error: ",
        &["nothing.txt"],
    );
    room.refused_with(
        "finetune complete --model model --data text.txt --valid text.txt --lora 0 --out out",
        "error: ",
        &["rank 0"],
    );
    room.refused_with(
        "finetune complete --model model --data text.txt --valid text.txt --lora 4 --targets nothing --out out",
        "error: ",
        &["nothing"],
    );
}
