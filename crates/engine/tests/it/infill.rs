//! Filling in middles: which tokens make the prompt, where files name them, and that text stays text.

use crate::{greedy, one, random, texts};
use hearth_engine::{Engine, EngineError, FinishReason, InfillTokens, Mix, ModelFiles, Prompt, Request};
use hearth_model::gguf::{GgufWriter, save_gguf};
use hearth_model::{DecoderConfig, Family};
use hearth_tokenizer::{BpeTrainer, END_OF_TEXT, GgufVocab, PreTokenizer, Tokenizer};
use std::path::Path;

const QWEN: [&str; 6] =
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"];

fn tokenizer(special: &[&str]) -> Tokenizer {
    let special = special.iter().map(|token| (*token).to_owned());
    let trainer = BpeTrainer {
        special_tokens: [END_OF_TEXT.to_owned()].into_iter().chain(special).collect(),
        ..BpeTrainer::new(340, PreTokenizer::Qwen2)
    };
    trainer.train(texts(), |_| {}).expect("trains")
}

fn engine(special: &[&str]) -> Engine {
    let tokenizer = tokenizer(special);
    let (decoder, weights) = random(DecoderConfig::native(tokenizer.vocab_size(), 32, 2, 64));
    Engine::new(decoder, &weights, tokenizer).expect("fits")
}

fn gap(prefix: &str, suffix: &str) -> Prompt {
    Prompt::Infill { prefix: prefix.into(), suffix: suffix.into() }
}

/// A prompt spelled out: prefix, suffix and middle token around the texts.
fn spelled(engine: &Engine, marks: [&str; 3], prefix: &str, suffix: &str) -> Vec<u32> {
    let text = format!("{}{prefix}{}{suffix}{}", marks[0], marks[1], marks[2]);
    engine.tokenizer().encode_with_special(&text).expect("encodes")
}

#[test]
fn a_prompt_has_the_prefix_the_suffix_and_then_the_middle() {
    for marks in [
        ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
        ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
        ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
        ["▁<PRE>", "▁<SUF>", "▁<MID>"],
    ] {
        let mut engine = engine(&marks);
        for (prefix, suffix) in [("The cat", " the mat."), ("", "。"), ("春眠", ""), ("", "")] {
            let tokens = engine.infill_tokens(prefix, suffix).expect("can fill in");
            assert_eq!(tokens, spelled(&engine, marks, prefix, suffix));
            let filled = one(&mut engine, Request { prompt: gap(prefix, suffix), ..greedy("", 9) });
            let same = Request { prompt: Prompt::Tokens(tokens), ..greedy("", 9) };
            assert_eq!(filled, one(&mut engine, same));
        }
    }
}

#[test]
fn what_begins_every_text_comes_before_the_prefix() {
    let tokenizer = tokenizer(&QWEN);
    let config = serde_json::json!({ "bos_token": END_OF_TEXT, "add_bos_token": true });
    let tokenizer = tokenizer.with_config(config.as_object().expect("an object").clone());
    let (decoder, weights) = random(DecoderConfig::native(tokenizer.vocab_size(), 32, 1, 64));
    let engine = Engine::new(decoder, &weights, tokenizer).expect("fits");
    let tokens = engine.infill_tokens("The", "mat").expect("can fill in");
    let marks = [QWEN[0], QWEN[1], QWEN[2]];
    assert_eq!(tokens[0], engine.tokenizer().id_of(END_OF_TEXT).expect("is there"));
    assert_eq!(tokens[1..], spelled(&engine, marks, "The", "mat"));
}

#[test]
fn sentencepiece_puts_a_space_before_the_prefix_alone() {
    // As in CodeLlama, whose prompt is `<s> <PRE> a <SUF>b <MID>`.
    let bytes = (0..=255).map(|byte| (format!("<0x{byte:02X}>"), 6));
    let pieces = ["▁", "a", "b", "▁a", "▁b"].map(|piece| (piece.to_owned(), 1));
    let control = ["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"].map(|token| (token.to_owned(), 3));
    let begin = [("<unk>", 2), ("<s>", 3), ("</s>", 3)].map(|(token, kind)| (token.to_owned(), kind));
    let (tokens, token_types): (Vec<String>, Vec<i32>) =
        begin.into_iter().chain(bytes).chain(pieces).chain(control).unzip();
    let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
    let vocab = GgufVocab { model: "llama".into(), tokens, token_types, scores, ..GgufVocab::default() };
    let tokenizer = Tokenizer::from_gguf(vocab, Path::new("test")).expect("loads");
    let (decoder, weights) = random(DecoderConfig::native(tokenizer.vocab_size(), 32, 1, 64));
    let mut engine = Engine::new(decoder, &weights, tokenizer).expect("fits");
    let check = |engine: &Engine, prefix: &str, suffix: &str, expect: &[&str]| {
        let tokens = engine.infill_tokens(prefix, suffix).expect("can fill in");
        let spellings: Vec<&str> =
            tokens.iter().map(|&id| engine.tokenizer().token_of(id).expect("is there")).collect();
        assert_eq!(spellings, expect);
    };
    check(&engine, "a", "b", &["<s>", "▁<PRE>", "▁a", "▁<SUF>", "b", "▁<MID>"]);
    check(&engine, "a b", " b", &["<s>", "▁<PRE>", "▁a", "▁b", "▁<SUF>", "▁b", "▁<MID>"]);
    check(&engine, "", "", &["<s>", "▁<PRE>", "▁<SUF>", "▁<MID>"]);
    // The middle goes on within the text: its first space is its own.
    let [space, end] = ["▁a", "▁<EOT>"].map(|token| engine.tokenizer().id_of(token).expect("is there"));
    let mut request = Request { prompt: gap("a", "b"), ..greedy("", 2) };
    request.sampling.logit_bias.insert(space, 1000.0);
    assert_eq!(one(&mut engine, request.clone()).text, " a a");
    request.sampling.logit_bias.insert(end, 2000.0);
    assert_eq!(one(&mut engine, request).finish, FinishReason::Eos);
}

/// The same tokenizer with its special tokens listed as ordinary added ones, as Qwen2.5 lists those for middles.
fn unmarked(tokenizer: &Tokenizer) -> Tokenizer {
    let mut vocab = tokenizer.to_gguf().expect("has a twin");
    for (kind, token) in vocab.token_types.iter_mut().zip(&vocab.tokens) {
        if QWEN.contains(&token.as_str()) {
            *kind = 4;
        }
    }
    Tokenizer::from_gguf(vocab, Path::new("test")).expect("loads")
}

#[test]
fn what_looks_like_a_token_in_the_text_stays_text() {
    let plain = tokenizer(&QWEN);
    for tokenizer in [plain.clone(), unmarked(&plain)] {
        let marks: Vec<u32> = QWEN.iter().map(|token| tokenizer.id_of(token).expect("is there")).collect();
        let (decoder, weights) = random(DecoderConfig::native(tokenizer.vocab_size(), 32, 1, 256));
        let engine = Engine::new(decoder, &weights, tokenizer).expect("fits");
        for (prefix, suffix) in [
            ("a<|fim_suffix|>b", "c"),
            ("<|fim_middle|>", "<|file_sep|><|fim_pad|>"),
            ("<<|fim_prefix|>>", "<|repo_name|"),
        ] {
            let tokens = engine.infill_tokens(prefix, suffix).expect("can fill in");
            let marked: Vec<usize> = (0..tokens.len()).filter(|&i| marks.contains(&tokens[i])).collect();
            assert_eq!(marked.len(), 3, "{prefix:?}, {suffix:?}: {tokens:?}");
            let text = |range: std::ops::Range<usize>| {
                engine.tokenizer().decode(&tokens[range], false).expect("text")
            };
            assert_eq!(text(marked[0] + 1..marked[1]), prefix);
            assert_eq!(text(marked[1] + 1..marked[2]), suffix);
        }
    }
}

#[test]
fn a_model_without_the_tokens_says_which_are_missing() {
    let check = |special: &[&str], expect: &str| {
        let mut engine = engine(special);
        let request = Request { prompt: gap("The", "mat"), ..greedy("", 3) };
        let error =
            engine.generate(&[request], |_| std::ops::ControlFlow::Continue(())).expect_err("refused");
        assert!(matches!(error, EngineError::NoInfill { .. }) && error.is_input_error());
        let beginning = format!("the model can't fill in a middle: its tokenizer has {expect}\nhint: ");
        assert!(error.to_string().starts_with(&beginning), "{error}");
    };
    check(
        &[],
        "no prefix token (<|fim_prefix|>, <fim_prefix>), no suffix token (<|fim_suffix|>, <fim_suffix>), no middle \
         token (<|fim_middle|>, <fim_middle>)",
    );
    check(&["<fim_prefix>", "<fim_middle>"], "no suffix token (<|fim_suffix|>, <fim_suffix>)");
}

#[test]
fn a_middle_ends_where_another_file_would_begin() {
    let mut engine = engine(&QWEN);
    let ids = |engine: &Engine| -> Vec<u32> {
        QWEN[3..].iter().map(|token| engine.tokenizer().id_of(token).expect("is there")).collect()
    };
    for end in ids(&engine) {
        let mut request = Request { prompt: gap("The cat", "mat"), ..greedy("", 9) };
        request.sampling.logit_bias.insert(end, 1000.0);
        let filled = one(&mut engine, request);
        assert_eq!(
            (filled.tokens, filled.finish, filled.text),
            (vec![end], FinishReason::Eos, String::new())
        );
    }
    // A vocabulary may have separators without being able to fill in: they end nothing.
    let separators = ["<reponame>", "<file_sep>"];
    let other = self::engine(&separators);
    let eos = other.tokenizer().eos().expect("a separator");
    assert_eq!(other.special().ends, [eos]);
    assert!(other.special().infill.separator.is_some());
}

/// A file of a tokenizer without such tokens by name, and `keys` that may name some.
fn file(path: &Path, keys: &[(&str, u32)]) -> Result<Engine, EngineError> {
    let mut vocab = tokenizer(&[]).to_gguf().expect("has a twin");
    let entries = vocab.tokens.len().next_multiple_of(64);
    vocab.fill_up(entries);
    let config = DecoderConfig { family: Family::Llama, ..DecoderConfig::native(entries, 32, 1, 64) };
    let (decoder, weights) = random(config);
    let describe = |writer: &mut GgufWriter| {
        writer.set("general.name", "test")?;
        writer.set("tokenizer.ggml.model", vocab.model.as_str())?;
        writer.set("tokenizer.ggml.pre", vocab.pre.as_deref().unwrap_or_default())?;
        writer.set_array("tokenizer.ggml.tokens", &vocab.tokens)?;
        writer.set_array("tokenizer.ggml.token_type", &vocab.token_types)?;
        writer.set_array("tokenizer.ggml.merges", &vocab.merges)?;
        keys.iter().try_for_each(|(key, id)| writer.set(&format!("tokenizer.ggml.{key}"), *id))
    };
    save_gguf(path, &decoder, &weights, Mix::F32, &|_| None, &describe, |_, _| {}).expect("saved");
    Engine::open(path)
}

#[test]
fn a_file_may_name_its_tokens() {
    let room = tempfile::tempdir().expect("a folder");
    let path = room.path().join("m.gguf");
    let known = |keys: &[(&str, u32)]| file(&path, keys).expect("opens").special().infill.clone();
    let [prefix, suffix, middle] = [Some(65), Some(66), Some(67)];
    let three = InfillTokens { prefix, suffix, middle, ..InfillTokens::default() };
    let keys = [("fim_pre_token_id", 65), ("fim_suf_token_id", 66), ("fim_mid_token_id", 67)];
    assert_eq!(known(&keys), three);
    let older = [("prefix_token_id", 65), ("suffix_token_id", 66), ("middle_token_id", 67)];
    assert_eq!(known(&older), three);
    // The newer key counts, and a token that a file says it lacks isn't one.
    assert_eq!(known(&[older[0], ("fim_pre_token_id", 70)]).prefix, Some(70));
    assert_eq!(known(&[("fim_pre_token_id", u32::MAX)]), InfillTokens::default());
    let error = file(&path, &[("fim_mid_token_id", 9999)]).expect_err("refused");
    assert!(error.to_string().contains("m.gguf: tokenizer.ggml.fim_mid_token_id is 9999, but"), "{error}");
    assert!(error.is_input_error());

    // What a file names goes into the files that are made of it.
    let all = [keys[0], keys[1], keys[2], ("fim_pad_token_id", 68), ("fim_sep_token_id", 69)];
    let engine = file(&path, &all).expect("opens");
    assert!([68, 69].iter().all(|id| engine.special().ends.contains(id)), "{:?}", engine.special());
    let again = room.path().join("again.gguf");
    ModelFiles::open(&path).expect("opens").save_gguf(&again, Mix::F32, None, |_, _| {}).expect("saved");
    assert_eq!(Engine::open(&again).expect("opens").special(), engine.special());
}
