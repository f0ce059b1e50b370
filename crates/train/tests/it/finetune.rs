//! Fine-tuning from labelled files to a folder that classifies, on a tiny encoder with random weights.

use hearth_data::labelled::{ReadOptions, read_classify, read_qa, read_tag};
use hearth_engine::{AnswerRules, Answerer, Asked, Classifier, Problem, Tagger, TextPair};
use hearth_model::hf::SpecialIds;
use hearth_model::tape::TrainableEncoder;
use hearth_model::{
    Backbone, Decoder, DecoderConfig, Encoder, EncoderConfig, StoredType, Task, TaskModel, Weights,
    save_encoder_folder, save_folder, save_task_folder,
};
use hearth_train::TrainError;
use hearth_train::finetune::Outcome;
use hearth_train::finetune::fit::{Event, Observer};
use hearth_train::finetune::run::finetune_classify;
use hearth_train::finetune::run_qa::finetune_qa;
use hearth_train::finetune::run_tag::finetune_tag;
use hearth_train::finetune::settings::{Adapt, Settings};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const WORDS: [&str; 16] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "film", "was", "good", "bad", "fine", "poor", "not", "and",
    "plot", "music", "long",
];

/// A folder of an encoder that knows nothing yet.
pub fn pretrained(dir: &Path) -> PathBuf {
    let config = EncoderConfig {
        intermediate_size: 64,
        pooler: true,
        ..EncoderConfig::bert(WORDS.len(), 32, 2, 2, 24)
    };
    let folder = dir.join("encoder");
    let encoder = Encoder::new(config).expect("valid");
    let model =
        TaskModel::new(Backbone::Encoder(TrainableEncoder::new(encoder)), Task::Sequence(2)).expect("a head");
    let mut weights = Weights::init(&model, 3, false);
    // Larger than the usual start, or two blocks of so little width learn nothing for long.
    let matrices = weights.tensors_mut().iter_mut().filter(|t| t.shape().len() == 2);
    matrices.for_each(|tensor| tensor.data_mut().iter_mut().for_each(|x| *x *= 5.0));
    let labels = ["a".to_owned(), "b".to_owned()];
    save_task_folder(&folder, &model, &weights, &labels, Problem::SingleLabel, None, StoredType::F32)
        .expect("saves");
    write_tokenizer(&folder);
    folder
}

/// A folder of a decoder that knows nothing yet, with an output head of its own.
pub fn pretrained_decoder(dir: &Path) -> PathBuf {
    let config = DecoderConfig {
        tied_head: false,
        max_positions: 24,
        ..DecoderConfig::native(WORDS.len(), 32, 2, 24)
    };
    let folder = dir.join("decoder");
    let decoder = Decoder::new(config).expect("valid");
    let weights = Weights::init(&decoder, 3, false);
    save_folder(&folder, &decoder, &weights, SpecialIds::default(), StoredType::F32).expect("saves");
    write_tokenizer(&folder);
    folder
}

fn write_tokenizer(folder: &Path) {
    let vocab: serde_json::Map<_, _> =
        WORDS.iter().zip(0..).map(|(w, i)| ((*w).to_owned(), json!(i))).collect();
    let special = |id: usize| {
        json!({ "id": id, "content": WORDS[id], "special": true, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false })
    };
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [special(0), special(1), special(2), special(3)],
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                        "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": null,
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": vocab },
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).expect("writes");
}

/// Sentences whose sentiment is that of their one telling word.
fn sentences(count: usize) -> Vec<(String, bool)> {
    let filler = ["the film was", "the plot and the music was", "the long film was", "and the plot was"];
    let sentence = |i: usize| {
        let good = (i * 7 / 3 + i / 5).is_multiple_of(2);
        let word = match (good, i % 3) {
            (true, 0) => "fine",
            (true, _) => "good",
            (false, 0) => "poor",
            (false, _) => "bad",
        };
        let tail = ["", " and long", " and the music", " the film", " and the plot was long"][i % 5];
        (format!("{} {word}{tail}", filler[i % 4]), good)
    };
    (0..count).map(sentence).collect()
}

fn write(dir: &Path, name: &str, rows: &[(String, bool)]) -> PathBuf {
    let rows =
        rows.iter().map(|(text, good)| json!({ "text": text, "label": if *good { "up" } else { "down" } }));
    let path = dir.join(name);
    std::fs::write(&path, rows.map(|row| row.to_string() + "\n").collect::<String>()).expect("writes");
    path
}

#[derive(Default)]
pub struct Quiet {
    pub looks: usize,
    stop_after: Option<u64>,
    step: u64,
    /// Has a line for each event, as soon as it is heard of.
    log: Option<PathBuf>,
}

impl Observer for Quiet {
    fn say(&mut self, _: &str) {}

    fn event(&mut self, event: &Event) {
        match event {
            Event::Step { step, .. } => self.step = *step,
            Event::Look { .. } => self.looks += 1,
        }
        if let Some(log) = &self.log {
            let told = std::fs::read_to_string(log).expect("a log");
            assert_eq!(told.lines().count(), self.step as usize + self.looks, "{told}");
        }
    }

    fn stop(&mut self) -> bool {
        self.stop_after.is_some_and(|after| self.step >= after)
    }
}

fn settings() -> Settings {
    Settings { epochs: 6.0, lr: 2e-3, dropout: 0.0, max_tokens: 24, ..Settings::default() }
}

fn run(
    model: &Path,
    data: PathBuf,
    settings: &Settings,
    out: &Path,
    observer: &mut Quiet,
) -> Result<Outcome, TrainError> {
    let loaded = read_classify(&[data], &ReadOptions::default(), None).expect("reads");
    finetune_classify(model, loaded, None, settings, out, observer)
}

#[test]
fn an_encoder_learns_to_classify_and_its_folder_does_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = pretrained(dir.path());
    let data = write(dir.path(), "train.jsonl", &sentences(240));
    let out = dir.path().join("out");
    let mut observer = Quiet::default();
    let settings = Settings { compare: true, ..settings() };
    let outcome = run(&model, data, &settings, &out, &mut observer).expect("runs");
    assert_eq!(outcome.labels, ["down", "up"]);
    assert_eq!((observer.looks, outcome.stopped), (6, false));
    assert!(outcome.metrics["accuracy"] > 0.95, "{:?}", outcome.metrics);
    assert!(outcome.metrics["accuracy_low"] <= outcome.metrics["accuracy"]);
    // One telling word is what naive Bayes is made for.
    assert!(outcome.baselines.iter().all(|cheap| cheap.accuracy > 0.95), "{:?}", outcome.baselines);

    let mut classifier = Classifier::open(&out).expect("opens");
    assert_eq!(classifier.labels(), ["down", "up"]);
    let fresh = sentences(300).split_off(240);
    let texts: Vec<TextPair> = fresh.iter().map(|(text, _)| (text.as_str(), None)).collect();
    let go_on = |_| ControlFlow::Continue(());
    let together = classifier.classify(&texts, go_on).expect("classifies").scores;
    let right = together.iter().zip(&fresh).filter(|(scores, (_, good))| (scores[1] > 0.5) == *good).count();
    assert!(right > 57, "{right} of 60 right");
    for (text, scores) in texts.iter().zip(&together) {
        let alone = classifier.classify(&[*text], go_on).expect("classifies").scores;
        assert_eq!(&alone[0], scores, "the company of {text:?} changed its scores");
    }
    let report = std::fs::read_to_string(out.join("report.html")).expect("a report");
    for part in ["Confusion matrix", "training loss", "naive Bayes", "accuracy"] {
        assert!(report.contains(part), "no {part}");
    }
    let card = std::fs::read_to_string(out.join("hearth.json")).expect("a card");
    let card: serde_json::Value = serde_json::from_str(&card).expect("JSON");
    assert_eq!(
        (&card["task"], &card["data"]["files"][0]["name"]),
        (&json!("classify"), &json!("train.jsonl"))
    );
}

#[test]
fn a_decoder_learns_to_classify_whole_and_by_lora() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = pretrained_decoder(dir.path());
    let data = write(dir.path(), "train.jsonl", &sentences(240));
    let lora = Adapt::Lora { rank: 4, alpha: 8.0, rank_stabilized: false, targets: Vec::new(), half: false };
    for (name, adapt) in [("whole", Adapt::Full), ("lora", lora)] {
        let out = dir.path().join(name);
        let settings = Settings { adapt, lr: 1e-2, ..settings() };
        let outcome = run(&model, data.clone(), &settings, &out, &mut Quiet::default()).expect("runs");
        assert!(outcome.metrics["accuracy"] > 0.95, "{name}: {:?}", outcome.metrics);
        let config = std::fs::read_to_string(out.join("config.json")).expect("a configuration");
        assert!(config.contains("Qwen3ForSequenceClassification"), "{config}");
        assert_eq!(out.join("adapter").is_dir(), name == "lora");

        let mut classifier = Classifier::open(&out).expect("opens");
        let fresh = sentences(300).split_off(240);
        let texts: Vec<TextPair> = fresh.iter().map(|(text, _)| (text.as_str(), None)).collect();
        let go_on = |_| ControlFlow::Continue(());
        // More tokens than one pass takes, so that some texts go through it beside others and some don't.
        let together = classifier.classify(&texts, go_on).expect("classifies").scores;
        let right =
            together.iter().zip(&fresh).filter(|(scores, (_, good))| (scores[1] > 0.5) == *good).count();
        assert!(right > 57, "{right} of 60 right");
        for (text, scores) in texts.iter().zip(&together) {
            let alone = classifier.classify(&[*text], go_on).expect("classifies").scores;
            assert_eq!(&alone[0], scores, "the company of {text:?} changed its scores");
        }
    }
}

#[test]
fn an_adapter_tells_peft_which_layers_of_a_fresh_pooler_it_replaces() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = EncoderConfig { pooler: false, ..EncoderConfig::bert(WORDS.len(), 32, 2, 2, 24) };
    let (encoder, model) = (Encoder::new(config).expect("valid"), dir.path().join("bare"));
    let weights = Weights::init(&encoder, 3, false);
    save_encoder_folder(&model, &encoder, &weights, StoredType::F32).expect("saves");
    write_tokenizer(&model);
    let data = write(dir.path(), "train.jsonl", &sentences(60));
    let adapt = Adapt::Lora { rank: 4, alpha: 8.0, rank_stabilized: false, targets: Vec::new(), half: false };
    let (out, settings) = (dir.path().join("out"), Settings { adapt, epochs: 1.0, ..settings() });
    run(&model, data, &settings, &out, &mut Quiet::default()).expect("runs");
    let file = std::fs::read_to_string(out.join("adapter/adapter_config.json")).expect("written");
    let config: serde_json::Value = serde_json::from_str(&file).expect("JSON");
    assert_eq!(config["target_modules"], json!(["dense", "key", "query", "value"]));
    // PEFT compares ends: `dense` alone would be every layer of that name.
    assert_eq!(config["modules_to_save"], json!(["pooler.dense", "classifier"]));
    assert_eq!(config["exclude_modules"], json!(["pooler.dense"]));
}

#[test]
fn a_run_repeats_to_the_bit_and_stops_with_what_it_has() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = pretrained(dir.path());
    let data = write(dir.path(), "train.jsonl", &sentences(120));
    let settings = Settings { dropout: 0.1, epochs: 1.0, ..settings() };
    let mut weights = Vec::new();
    for name in ["first", "second"] {
        let out = dir.path().join(name);
        run(&model, data.clone(), &settings, &out, &mut Quiet::default()).expect("runs");
        weights.push(std::fs::read(out.join("model.safetensors")).expect("weights"));
    }
    assert!(weights[0] == weights[1], "two runs of one seed differ");
    let out = dir.path().join("stopped");
    let log = out.join("run.jsonl");
    let mut observer = Quiet { stop_after: Some(2), log: Some(log.clone()), ..Quiet::default() };
    let outcome = run(&model, data, &settings, &out, &mut observer).expect("stops");
    assert_eq!((outcome.stopped, outcome.best_step), (true, 2));
    assert!(Classifier::open(&out).is_ok());
    assert_eq!(std::fs::read_to_string(log).expect("a log").lines().count(), 2 + observer.looks);
}

#[test]
fn what_cannot_be_learnt_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = pretrained(dir.path());
    let one: Vec<_> = sentences(80).into_iter().filter(|(_, good)| *good).collect();
    let mixed = sentences(80);
    for (name, rows, settings, expect) in [
        ("one.jsonl", &one, settings(), "all examples have the same label"),
        ("epochs.jsonl", &mixed, Settings { epochs: 0.0, ..settings() }, "epochs is 0, expected more than 0"),
        ("batch.jsonl", &mixed, Settings { batch: 0, ..settings() }, "batch is 0, expected at least 1"),
    ] {
        let data = write(dir.path(), name, rows);
        let out = dir.path().join("never");
        let error = run(&model, data, &settings, &out, &mut Quiet::default()).expect_err(name);
        assert!(error.to_string().contains(expect) && error.is_usage(), "{error}");
        assert!(!out.exists(), "{name}: {} was written", out.display());
    }
}

#[test]
fn an_encoder_learns_to_tag_and_its_folder_does_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = pretrained(dir.path());
    // What follows "the" is a thing, with what stands between.
    let tag = |words: &[&str], i: usize| match (words[i], i.checked_sub(1).map(|before| words[before])) {
        ("the", _) => "B-THING",
        (_, Some("the")) => "I-THING",
        _ => "O",
    };
    let sentences = sentences(240);
    let sentences: Vec<Vec<&str>> = sentences.iter().map(|(text, _)| text.split(' ').collect()).collect();
    let line = |words: &Vec<&str>| -> String {
        (0..words.len()).map(|i| format!("{} {}\n", words[i], tag(words, i))).collect::<String>() + "\n"
    };
    let data = dir.path().join("train.conll");
    std::fs::write(&data, sentences[..200].iter().map(line).collect::<String>()).expect("writes");
    let out = dir.path().join("tagger");
    let loaded = read_tag(&[data], &ReadOptions::default()).expect("reads");
    // So few tokens that long sentences are divided.
    let settings = Settings { max_tokens: 9, compare: true, ..settings() };
    let outcome = finetune_tag(&model, loaded, None, &settings, &out, &mut Quiet::default()).expect("runs");
    assert_eq!(outcome.labels, ["B-THING", "I-THING", "O"]);
    assert!(outcome.metrics["span_f1"] > 0.95, "{:?}", outcome.metrics);
    assert!(outcome.baselines.iter().all(|cheap| cheap.f1 > 0.9), "{:?}", outcome.baselines);

    let mut tagger = Tagger::open(&out).expect("opens");
    let fresh: Vec<Vec<String>> =
        sentences[200..].iter().map(|words| words.iter().map(|w| (*w).to_owned()).collect()).collect();
    let texts: Vec<&[String]> = fresh.iter().map(Vec::as_slice).collect();
    let together = tagger.tag(&texts, |_| ControlFlow::Continue(())).expect("tags");
    let labels = tagger.labels().to_vec();
    let (mut right, mut all) = (0, 0);
    for ((words, text), tags) in sentences[200..].iter().zip(&texts).zip(&together) {
        assert_eq!(tags.len(), words.len());
        right += (0..words.len()).filter(|&i| labels[tags[i]] == tag(words, i)).count();
        all += words.len();
        let alone = tagger.tag(&[text], |_| ControlFlow::Continue(())).expect("tags");
        assert_eq!(&alone[0], tags, "the company of {text:?} changed its tags");
    }
    assert!(right * 100 > all * 97, "{right} of {all} right");
}

/// Questions for the word after "was", on passages of which some hold none.
fn questions(count: usize) -> Vec<(String, Option<&'static str>)> {
    let beginning = ["The film", "Film and plot and film", "Music and film and music and plot", "And plot"];
    let passage = |i: usize| {
        let word = ["good", "bad", "fine", "poor", "long"][i * 3 % 5];
        let tail = ["", " and music", " and the film and the plot"][i % 3];
        let middle = [" was", " not", " was", " was"][i * 7 / 3 % 4];
        let has = middle == " was";
        (format!("{}{middle}  {}{tail}.", beginning[i / 2 % 4], word.to_uppercase()), has.then_some(word))
    };
    (0..count).map(passage).collect()
}

fn write_questions(dir: &Path, name: &str, rows: &[(String, Option<&str>)]) -> PathBuf {
    let row = |(context, answer): &(String, Option<&str>)| {
        let answer: Vec<String> = answer.iter().map(|word| word.to_uppercase()).collect();
        json!({ "question": "was the film", "context": context, "answers": answer }).to_string() + "\n"
    };
    let path = dir.join(name);
    std::fs::write(&path, rows.iter().map(row).collect::<String>()).expect("writes");
    path
}

#[test]
fn an_encoder_learns_to_answer_and_its_folder_does_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = pretrained(dir.path());
    let rows = questions(260);
    let data = write_questions(dir.path(), "train.jsonl", &rows[..160]);
    let out = dir.path().join("answers");
    // So few tokens that long passages become several windows.
    let settings = Settings { max_tokens: 14, epochs: 8.0, ..settings() };
    let rules = AnswerRules { stride: 4, max_answer_tokens: 3, no_answer_threshold: None };
    let load = |path: &Path| read_qa(&[path.to_owned()], &ReadOptions::default()).expect("reads");
    let valid = write_questions(dir.path(), "valid.jsonl", &rows[160..210]);
    let (training, heldout) = (load(&data), load(&valid));
    let outcome = finetune_qa(&model, training, Some(heldout), &settings, rules, &out, &mut Quiet::default())
        .expect("runs");
    assert!(outcome.metrics["f1"] > 0.95 && outcome.metrics["em"] > 0.95, "{:?}", outcome.metrics);
    assert!(outcome.metrics["no_answer_f1"] > 0.8, "{:?}", outcome.metrics);

    let mut answerer = Answerer::open(&out).expect("opens");
    let found = answerer.rules();
    assert_eq!((found.stride, found.max_answer_tokens), (4, 3));
    assert_eq!(found.no_answer_threshold.map(f64::from), outcome.metrics.get("no_answer_threshold").copied());
    let asked: Vec<Asked> = rows[210..].iter().map(|(context, _)| ("was the film", &**context)).collect();
    let go_on = |_| ControlFlow::Continue(());
    let together = answerer.answer(&asked, go_on).expect("answers");
    let mut right = 0;
    for ((question, (context, answer)), answers) in asked.iter().zip(&rows[210..]).zip(&together) {
        let said =
            answers.best(found.no_answer_threshold).map(|span| context[span.bytes.clone()].to_lowercase());
        right += usize::from(said.as_deref() == *answer);
        let alone = answerer.answer(&[*question], go_on).expect("answers");
        assert_eq!(&alone[0], answers, "the company of {question:?} changed its answers");
    }
    assert!(right > 44, "{right} of 50 right");
    let card = std::fs::read_to_string(out.join("hearth.json")).expect("a card");
    assert!(card.contains("\"scored_by\": \"SQuAD's script (words)\""), "{card}");
    let mut other = Answerer::open(&model).expect_err("no head over spans").to_string();
    other.truncate(other.find("\n").expect("a hint"));
    assert!(other.ends_with("its head doesn't find spans of a passage"), "{other}");
}

#[test]
fn questions_that_cannot_be_learnt_from_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = pretrained(dir.path());
    let data = write_questions(dir.path(), "train.jsonl", &questions(40));
    let rules = AnswerRules { stride: 4, max_answer_tokens: 3, no_answer_threshold: None };
    for (settings, rules, expect) in [
        (settings(), AnswerRules { max_answer_tokens: 0, ..rules }, "--max-answer: 0, expected at least one"),
        (
            settings(),
            AnswerRules { stride: 13, ..rules },
            "--stride: 13, expected at most 12, half of --max-tokens",
        ),
        (Settings { compare: true, ..settings() }, rules, "--compare: there are no cheap models"),
    ] {
        let loaded = read_qa(std::slice::from_ref(&data), &ReadOptions::default()).expect("reads");
        let out = dir.path().join("never");
        let error = finetune_qa(&model, loaded, None, &settings, rules, &out, &mut Quiet::default())
            .expect_err("refused");
        assert!(error.to_string().contains(expect) && error.is_usage(), "{error}");
        assert!(!out.exists(), "{} was written", out.display());
    }
}
