//! Real text, where the environment has some: `HEARTH_TEST_DATA` names a folder with
//! `tinyshakespeare.txt`.

use crate::Room;
use serde_json::Value;
use std::path::Path;

/// nanoGPT's character setting, shortened.
const RECIPE: &str = "\
    [data]\nholdout = 0.1\nholdout_last = true\n\
    [tokenizer]\nkind = \"chars\"\n\
    [model]\ndepth = 2\nhidden_size = 64\ncontext = 64\n\
    [train]\nbatch = 8\nsteps = 150\nngram_order = 2\neval_tokens = 4096\nprompts = [\"ROMEO:\"]\n";

#[test]
fn shakespeare_in_characters() {
    let Some(folder) = std::env::var_os("HEARTH_TEST_DATA") else {
        eprintln!("skipped: HEARTH_TEST_DATA is not set");
        return;
    };
    let text = Path::new(&folder).join("tinyshakespeare.txt");
    let room = Room::new();
    room.write("recipe.toml", RECIPE);
    let said = room.done(&format!("pretrain recipe.toml --data {} --out run --json", text.display()));
    let card: Value = serde_json::from_slice(&room.read("run/hearth.json")).expect("JSON");
    assert_eq!(card["tokenizer"]["vocab_size"], 65);
    let tokens = |part: &str| card["data"][part]["tokens"].as_u64().expect("a number");
    assert_eq!((tokens("training"), tokens("heldout")), (1_003_854, 111_540));
    let loss = said.json()["val_loss"].as_f64().expect("a number");
    // Guessing costs ln 65 = 4.17 nats, the frequencies of the letters 3.3.
    assert!(loss < 2.8, "{loss} nats a character after 150 steps");
    let written = room.done("generate run --prompt ROMEO: --max-tokens 50 --seed 1").out;
    assert_eq!(written.chars().count(), 50 + 1, "{written}");
}
