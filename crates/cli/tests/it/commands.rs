//! What scripts rely on: names, flags, JSON keys, what goes to stdout.

use crate::{Room, positive, text};
use serde_json::Value;

#[test]
fn a_tokenizer_is_trained_and_undone() {
    let room = Room::furnished();
    let said = room.done("tokenizer train --data text.txt --vocab-size 290 --out tok --json");
    assert_eq!(said.json()["vocab_size"], 290);
    assert!(room.path("tok/tokenizer.json").is_file() && room.path("tok/tokenizer_config.json").is_file());

    let lines = "The cat saw the moon.\n\n  二 spaces,\ttab; naïve 🎉 \nno newline at the end";
    room.write("in.txt", lines);
    let ids = room.done("tokenizer encode --model tok in.txt").out;
    assert_eq!(ids.lines().count(), 4, "a line a line");
    assert_eq!(ids.lines().nth(1), Some(""));
    assert!(ids.split_whitespace().all(|id| id.parse::<u32>().is_ok_and(|id| id < 290)), "{ids}");
    room.write("ids.txt", &ids);
    assert_eq!(room.done("tokenizer decode --model tok ids.txt").out, format!("{lines}\n"));
    // A tokenizer's file will do, and merges make lines of known words short.
    let same = room.done("tokenizer encode --model tok/tokenizer.json in.txt").out;
    assert_eq!(same, ids);
    assert!(
        ids.lines().next().is_some_and(|line| line.split(' ').count() < "The cat saw the moon.".len()),
        "{ids}"
    );
}

#[test]
fn a_tokenizer_of_characters() {
    let room = Room::new();
    room.write("text.txt", "banana bread\n");
    let said = room.done("tokenizer train --data text.txt --pre-tokenizer chars --out tok --json");
    // Newline, space, a, b, d, e, n, r, and the separator.
    assert_eq!(said.json()["vocab_size"], 9);
    room.write("in.txt", "bad bean\n");
    assert_eq!(room.done("tokenizer encode --model tok in.txt").out, "3 2 4 1 3 5 2 6\n");
}

#[test]
fn a_model_is_trained_asked_and_judged() {
    let room = Room::furnished();
    let said = room.done("pretrain tiny.toml --data text.txt --out run --json");
    let json = said.json();
    positive(
        &json,
        &[
            "val_loss",
            "val_bits_per_byte",
            "tokens",
            "seconds",
            "tokens_per_second",
            "peak_rss_bytes",
            "steps",
        ],
    );
    assert_eq!((json["steps"].as_u64(), json["tokens"].as_u64()), (Some(40), Some(40 * 4 * 32)));
    assert_eq!(said.out.lines().count(), 1, "progress belongs on stderr: {}", said.out);
    assert!(said.err.contains("step     40"), "{}", said.err);
    for file in
        ["hearth.json", "config.json", "model.safetensors", "tokenizer.json", "recipe.toml", "curves.svg"]
    {
        assert!(room.path("run").join(file).is_file(), "{file}");
    }
    #[cfg(unix)]
    assert_eq!(
        crate::private_files(&room.path("run")),
        Vec::<std::path::PathBuf>::new(),
        "only their owner may read"
    );
    check_generate(&room);
    check_eval(&room, json["val_loss"].as_f64().expect("a number"));
    check_token_scores(&room);
    check_again(&room);
    check_gguf(&room);
}

/// The same model in a file: what it writes, what it costs in smaller types, how fast it is.
fn check_gguf(room: &Room) {
    let said = room.done("convert run --out run.gguf --json");
    assert_eq!(said.json()["type"], "F32");
    let ask = |model: &str| {
        room.run(&["generate", model, "--prompt", "The cat", "--max-tokens", "12", "--temperature", "0"]).out
    };
    assert_eq!(ask("run.gguf"), ask("run"));
    let said =
        room.done("quantize run --type Q8_0 --out small.gguf --calibrate text.txt --text text.txt --json");
    let json = said.json();
    positive(
        &json,
        &["perplexity_before", "perplexity_after", "kl_divergence", "bytes_before", "bytes_after"],
    );
    assert!(json["kl_divergence"].as_f64() < Some(0.05), "{json}");
    assert!(json["bytes_after"].as_f64() < json["bytes_before"].as_f64(), "{json}");
    let json = room.done("bench infer small.gguf -p 16 -n 8 -r 2 --json").json();
    positive(
        &json,
        &[
            "prompt_tokens_per_second",
            "generate_tokens_per_second",
            "load_ms",
            "first_token_ms",
            "peak_rss_bytes",
        ],
    );
    let said = room.run(&["chat", "small.gguf"]);
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(said.err.contains("no chat template"), "{}", said.err);
    let said = room.run(&["quantize", "run", "--type", "Q9", "--out", "x.gguf"]);
    assert!(said.code == Some(2) && said.err.contains("Q4_K_M"), "{}", said.err);
}

fn check_generate(room: &Room) {
    let said =
        room.run(&["generate", "run", "--prompt", "The cat", "--max-tokens", "12", "--temperature", "0"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(!said.out.contains("The cat "), "the prompt was echoed: {}", said.out);
    assert!(said.out.len() > 4 && said.out.ends_with('\n'));
    let args =
        ["generate", "run", "--prompt", "The cat", "--max-tokens", "12", "--temperature", "0", "--json"];
    let json = room.run(&args).json();
    let completion = &json["completions"][0];
    assert_eq!(completion["text"].as_str().map(|text| format!("{text}\n")), Some(said.out));
    assert_eq!(completion["tokens"].as_array().map(Vec::len), Some(12));
    assert_eq!(completion["finish"], "length");
    let quiet = room.hearth("generate run --prompt A --max-tokens 3 -q");
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(0), ""));

    let seeded =
        |seed: &str| room.done(&format!("generate run --prompt A --max-tokens 20 --seed {seed}")).out;
    assert_eq!(seeded("3"), seeded("3"));
    assert_ne!(seeded("3"), seeded("4"));
    let biased =
        room.done("generate run --prompt A --max-tokens 6 --logit-bias 70=100 --logprobs 2 --json").json();
    let completion = &biased["completions"][0];
    assert_eq!(completion["tokens"], serde_json::json!(vec![70; 6]));
    let content = completion["logprobs"]["content"].as_array().expect("a list");
    assert_eq!(content.len(), 6);
    for token in content {
        let bytes: Vec<u8> = serde_json::from_value(token["bytes"].clone()).expect("bytes");
        assert_eq!(token["token"].as_str().map(str::as_bytes), Some(&bytes[..]));
        let top = token["top_logprobs"].as_array().expect("a list");
        assert_eq!(top.len(), 2);
        let logprob = |token: &Value| token["logprob"].as_f64().expect("a number");
        assert!(logprob(&top[0]) >= logprob(&top[1]) && logprob(&top[0]) >= logprob(token), "{token}");
    }
    assert!(json["completions"][0].get("logprobs").is_none(), "not asked for");
    check_constraints(room);
    check_drafts(room);
    check_context_shift(room);
    let greedy = room.done("generate run --prompt A --max-tokens 8 --temperature 0").out;
    assert_eq!(room.done("generate run --prompt A --max-tokens 8 --beams 1").out, greedy);
    let best = room
        .done("generate run --prompt A --max-tokens 8 --beams 4 --length-penalty -0.5 --n 2 --json")
        .json();
    let found = best["completions"].as_array().expect("a list");
    assert_eq!(found.len(), 2);
    let score = |completion: &Value| completion["score"].as_f64().expect("a number");
    assert!(score(&found[0]) >= score(&found[1]) && score(&found[0]) < 0.0, "{best}");
    let three = room.done("generate run --prompt A --max-tokens 5 --n 3 --json").json();
    assert_eq!(three["completions"].as_array().map(Vec::len), Some(3));
}

/// The same text, whatever drafts it.
fn check_drafts(room: &Room) {
    for sampling in ["--temperature 0", "--temperature 0.8 --seed 3"] {
        let args = format!("generate run --prompt The --max-tokens 24 --ignore-eos --n 2 {sampling} --json");
        let plain = room.done(&args).json();
        assert_eq!((&plain["drafted_tokens"], &plain["accepted_tokens"]), (&0.into(), &0.into()));
        for drafts in ["--prompt-lookup", "--prompt-lookup=1 --draft-max 3", "--draft-model run"] {
            let said = room.done(&format!("{args} {drafts}"));
            let json = said.json();
            assert_eq!(json["completions"], plain["completions"], "{drafts}");
            let drafted = json["drafted_tokens"].as_u64().expect("a number");
            let counted = format!(", {} of {drafted} drafted tokens accepted", json["accepted_tokens"]);
            assert!(drafted == 0 || said.err.contains(&counted), "{counted:?}: {}", said.err);
            assert!(drafted > 0 || drafts == "--prompt-lookup", "{drafts}");
        }
    }
}

/// Past the context of 32 only if that was asked for, and then not silently.
fn check_context_shift(room: &Room) {
    let args = "generate run --prompt The --max-tokens 60 --ignore-eos --json";
    let full = room.done(args);
    assert_eq!(full.json()["completions"][0]["finish"], "context-full");
    assert!(full.err.contains("the model's context is full"), "{}", full.err);
    let beams = room.done("generate run --prompt The --max-tokens 60 --ignore-eos --beams 2");
    assert!(beams.err.contains("the model's context is full"), "{}", beams.err);
    let said = room.done(&format!("{args} --context-shift 2"));
    let completion = &said.json()["completions"][0];
    assert_eq!(completion["finish"], "length");
    assert_eq!(completion["tokens"].as_array().map(Vec::len), Some(60));
    let dropped = completion["dropped_tokens"].as_u64().expect("a number");
    assert_eq!(dropped % 15, 0, "half of what isn't kept, {dropped}");
    let told = format!("the context was full: {dropped} tokens after the first 2 were dropped");
    assert_eq!(said.err.matches(&told).count(), 1, "{}", said.err);
}

fn check_constraints(room: &Room) {
    room.write(
        "schema.json",
        r#"{"type": "array", "items": {"enum": [1, 22]}, "minItems": 1, "maxItems": 2}"#,
    );
    let given = |flag: &str, value: &str| {
        let args =
            ["generate", "run", "--prompt", "A", "--max-tokens", "24", "--temperature", "1", flag, value];
        let said = room.run(&args);
        assert_eq!(said.code, Some(0), "{}", said.err);
        said.out.trim_end().to_owned()
    };
    let schema = String::from_utf8(room.read("schema.json")).expect("text");
    for value in ["schema.json", &schema] {
        let numbers: Vec<u8> = serde_json::from_str(&given("--json-schema", value)).expect("a list");
        assert!(numbers.iter().all(|n| [1, 22].contains(n)) && (1..3).contains(&numbers.len()));
    }
    assert!(["cat", "cow"].contains(&&given("--regex", "c(at|ow)")[..]));
    room.write("words.lark", "start: \"a\" | \"b\"\n");
    assert!(["a", "b"].contains(&&given("--grammar", "words.lark")[..]));
}

/// Scores of all the text, in windows of the context or shorter ones.
fn check_eval(room: &Room, val_loss: f64) {
    let json = room.done("eval run --text text.txt --json").json();
    positive(&json, &["loss", "perplexity", "bits_per_byte", "tokens"]);
    let ids = room.done("tokenizer encode --model run text.txt").out;
    let number = |json: &Value, key: &str| json[key].as_f64().expect("a number");
    // A newline more a line: encoding goes by lines.
    let tokens = ids.split_whitespace().count() as f64;
    assert!(number(&json, "tokens") > 0.9 * tokens, "{} of about {tokens} tokens scored", json["tokens"]);
    let loss = number(&json, "loss");
    assert!((loss - val_loss).abs() < 0.5, "loss {loss}, of held-out text {val_loss}");
    assert!((number(&json, "perplexity").ln() - loss).abs() < 1e-9);
    let bits = loss * number(&json, "tokens") / std::f64::consts::LN_2 / number(&json, "bytes");
    assert!((number(&json, "bits_per_byte") - bits).abs() < 1e-9);

    let half = room.done("eval run --text text.txt --ctx 16 --half --json").json();
    let windows = ((number(&json, "tokens") * 32.0 / 31.0) / 16.0).round();
    assert!((number(&half, "tokens") - windows * 7.0).abs() <= 14.0, "{half}: about {windows} windows");
    let compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut compressed = compressed;
    std::io::Write::write_all(&mut compressed, &room.read("text.txt")).expect("compresses");
    room.write("text.txt.gz", compressed.finish().expect("compresses"));
    assert_eq!(room.done("eval run --text text.txt.gz --json").json(), json);
}

/// A line a token, which add up to the loss.
fn check_token_scores(room: &Room) {
    let said = room.done("eval run --text text.txt --ctx 16 --half --tokens scores.jsonl --json");
    let lines = String::from_utf8(room.read("scores.jsonl")).expect("text");
    let tokens: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(said.json()["tokens"].as_u64(), Some(tokens.len() as u64));
    let number = |token: &Value, key: &str| token[key].as_f64().expect("a number");
    let nats: f64 = tokens.iter().map(|token| -number(token, "logprob")).sum();
    assert!((nats / tokens.len() as f64 - number(&said.json(), "loss")).abs() < 1e-9);
    for (i, token) in tokens.iter().enumerate() {
        // Seven of each window, after nine.
        assert_eq!(
            (number(token, "window"), number(token, "position")),
            ((i / 7) as f64, (9 + i % 7) as f64)
        );
        assert!(number(token, "top_logprob") >= number(token, "logprob"), "{token}");
        assert_eq!(token["top_token"] == token["token"], token["top_logprob"] == token["logprob"], "{token}");
    }
    room.refused_with(
        "eval run --text text.txt --tokens no/such/folder.jsonl",
        "error: ",
        &["no/such/folder"],
    );
    // What can't be scored leaves the file of before.
    room.write("short.txt", "A");
    room.refused_with("eval run --text short.txt --tokens scores.jsonl", "error: the text has", &[]);
    assert_eq!(room.read("scores.jsonl"), lines.as_bytes());
}

/// The same recipe gives the same bits; a finished run stays finished.
fn check_again(room: &Room) {
    room.done("pretrain tiny.toml --data text.txt --out again -q");
    assert_eq!(room.read("again/model.safetensors"), room.read("run/model.safetensors"));
    room.done("pretrain tiny.toml --data text.txt --out other --seed 8 --steps 40 -q");
    assert_ne!(room.read("other/model.safetensors"), room.read("run/model.safetensors"));
    room.done("pretrain tiny.toml --data text.txt --out again --resume -q");
    assert_eq!(room.read("again/model.safetensors"), room.read("run/model.safetensors"));
    room.refused(
        "pretrain tiny.toml --data text.txt --out run",
        "error: run: already holds a run\nhint: add --resume to go on with it, or choose another --out",
    );
    // The resolved recipe reproduces the run.
    room.done("pretrain run/recipe.toml --out resolved -q");
    assert_eq!(room.read("resolved/model.safetensors"), room.read("run/model.safetensors"));
}

#[test]
fn every_family_trains_and_opens() {
    let room = Room::furnished();
    for family in ["gpt1", "gpt2", "llama", "qwen3"] {
        let recipe = crate::recipe(4).replace("depth = 1", &format!("depth = 1\nfamily = {family:?}"));
        room.write("recipe.toml", recipe);
        room.done(&format!("pretrain recipe.toml --data text.txt --out {family} -q"));
        let config: Value =
            serde_json::from_slice(&room.read(&format!("{family}/config.json"))).expect("JSON");
        assert!(
            config["architectures"][0]
                .as_str()
                .is_some_and(|a| a.contains("ForCausalLM") || a.contains("LMHead"))
        );
        let said = room.done(&format!("eval {family} --text text.txt --json"));
        positive(&said.json(), &["loss"]);
    }
}

#[test]
fn speed_is_measured_in_real_steps() {
    let room = Room::new();
    let json = room.done("bench train --preset nanogpt-cpu --steps 2 --json").json();
    positive(&json, &["step_ms_median", "tokens_per_second", "peak_rss_bytes"]);
    let losses: Vec<f64> =
        json["losses"].as_array().expect("a list").iter().map(|l| l.as_f64().expect("a number")).collect();
    assert_eq!(losses.len(), 2);
    assert!(losses[1] < losses[0], "the second step on the same batch is better: {losses:?}");
}

#[test]
fn a_profile_adds_up_to_the_step() {
    let room = Room::new();
    let json = room.done("bench train --preset nanogpt-cpu --steps 3 --profile --json").json();
    let profile = &json["profile"];
    assert_eq!(profile["steps"], 2, "the first step is left out");
    let operations = profile["operations"].as_array().expect("a list");
    let sum: f64 = operations.iter().map(|o| o["ms"].as_f64().expect("milliseconds")).sum();
    let step = profile["step_ms"].as_f64().expect("milliseconds");
    assert!((sum / step - 1.0).abs() < 1e-6, "{sum} of {step}");
    for name in ["attention, gradient", "linear 128→512", "AdamW", "between operations"] {
        assert!(operations.iter().any(|o| o["operation"] == name), "{name} is missing");
    }
    let text = room.done("bench train --preset nanogpt-cpu --steps 3 --profile").out;
    assert!(text.contains("GFLOP/s") && text.contains("over 2 steps"), "{text}");
}

#[test]
fn the_doctor_says_what_there_is() {
    let room = Room::new();
    let json = room.done("doctor --json").json();
    positive(
        &json,
        &["cores", "threads", "gflops", "gflops_one_thread", "fma_peak_gflops", "copy_gbytes_per_second"],
    );
    assert!(json["expectations"].as_array().is_some_and(|e| e.len() > 2));
}

#[test]
fn the_quickstart_leaves_a_model() {
    let room = Room::new();
    room.write("mine.txt", text(3000));
    let said = room.done("quickstart --data mine.txt --minutes 0.03 --out mine --no-serve --json");
    assert_eq!(said.json()["path"], "mine");
    let card: Value = serde_json::from_slice(&room.read("mine/hearth.json")).expect("JSON");
    assert_eq!(card["data"]["files"][0]["name"], "mine.txt");
    room.done("generate mine --prompt The --max-tokens 5");

    // A folder that holds anything else is left alone; so is an earlier model if the text is missing.
    room.refused(
        "quickstart --data missing.txt --out mine",
        "error: nothing to read at missing.txt: it does not exist\nhint: check the path",
    );
    room.write("thesis/chapter.md", "years of work");
    room.refused_with(
        "quickstart --data mine.txt --out thesis",
        "error: thesis: ",
        &["hint: choose another folder with --out"],
    );
}

#[test]
fn what_can_be_got_is_listed() {
    let room = Room::new();
    let said = room.done("get --list --json");
    let names = said.json()["names"].as_array().cloned().unwrap_or_default();
    let data = ["tang-poems", "song-poems", "movie-reviews", "english-sentences", "gpt2-vocab"];
    let models = ["smollm2-135m", "gemma3-270m", "minilm-l6"];
    for name in data.into_iter().chain(models) {
        assert!(names.iter().any(|n| n == name), "{name} is not in {names:?}");
    }
}
