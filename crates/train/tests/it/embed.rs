//! Fine-tuning from queries with their texts to a folder that embeds, on a tiny encoder with random weights.

use crate::finetune::{Quiet, pretrained, pretrained_decoder};
use hearth_data::labelled::{Loaded, PairExample, ReadOptions, read_pairs};
use hearth_engine::{EmbedOptions, Embedder};
use hearth_model::tape::{Trainable, TrainableEncoder};
use hearth_model::{Backbone, EncoderFolder, Weights, load_folder};
use hearth_train::TrainError;
use hearth_train::finetune::Outcome;
use hearth_train::finetune::embed::{EmbedLearner, EmbedSettings, Pairs, Prompts, judge_retrieval};
use hearth_train::finetune::fit::{Event, Learner, Observer};
use hearth_train::finetune::run_embed::finetune_embed;
use hearth_train::finetune::settings::{Adapt, Settings, TooLong};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;

/// What is said of a run.
#[derive(Default)]
struct Listener {
    quiet: Quiet,
    said: Vec<String>,
}

impl Observer for Listener {
    fn say(&mut self, text: &str) {
        self.said.push(text.to_owned());
    }

    fn event(&mut self, event: &Event) {
        self.quiet.event(event);
    }

    fn stop(&mut self) -> bool {
        self.quiet.stop()
    }
}

/// Queries of two words and texts with two others that always go with them, among words of no meaning.
fn write(dir: &Path) -> std::path::PathBuf {
    let (asked, told) = (["film", "plot", "music", "long"], ["good", "bad", "fine", "poor"]);
    let fillers = ["the", "was", "not", "and"];
    let mut rows = String::new();
    for i in 0..16 {
        for filler in fillers {
            let (a, b) = (i / 4, i % 4);
            let query = format!("{filler} {} {}", asked[a], asked[b]);
            let text = format!("{} {filler} {}", told[a], told[b]);
            let negative = format!("{} {filler} {}", told[b], told[(a + 1) % 4]);
            let negatives = if negative == text { vec![] } else { vec![negative] };
            rows += &(json!({ "query": query, "positive": text, "negatives": negatives }).to_string() + "\n");
        }
    }
    let path = dir.join("pairs.jsonl");
    std::fs::write(&path, rows).expect("writes");
    path
}

fn read(path: &Path) -> Loaded<PairExample> {
    read_pairs(&[path.to_owned()], &ReadOptions::default()).expect("reads")
}

fn settings() -> Settings {
    Settings {
        epochs: 20.0,
        batch: 16,
        lr: 2e-3,
        dropout: 0.0,
        max_tokens: 16,
        holdout: 0.2,
        looks: 1,
        ..Settings::default()
    }
}

fn run(dir: &Path, out: &Path, own: &EmbedSettings, listener: &mut Listener) -> Result<Outcome, TrainError> {
    let data = read(&write(dir));
    finetune_embed(&pretrained(dir), data, None, (&settings(), own), out, listener)
}

fn embed(embedder: &mut Embedder, text: &str) -> Vec<f32> {
    embedder.embed(&[text], |_| ControlFlow::Continue(())).expect("embeds").vectors.remove(0)
}

#[test]
fn an_encoder_learns_which_texts_belong_to_a_query() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("out");
    let own = EmbedSettings { query_prefix: Some("long ".into()), ..EmbedSettings::default() };
    let mut listener = Listener::default();
    let outcome = run(dir.path(), &out, &own, &mut listener).expect("runs");
    let metrics = &outcome.metrics;
    assert!(metrics["mrr"] > metrics["mrr_before"] + 0.2 && metrics["mrr"] > 0.7, "{metrics:?}");
    assert!(listener.said.iter().any(|line| line.starts_with("before: mrr 0.")), "{:?}", listener.said);
    assert_eq!(metrics["examples"], outcome.examples.1 as f64);

    // What the folder says is how it was trained, and gives the same metrics.
    let mut queries =
        Embedder::open(&out, &EmbedOptions { prompt: Some("query".to_owned()), ..EmbedOptions::default() })
            .expect("opens");
    let mut texts = Embedder::open(&out, &EmbedOptions::default()).expect("opens");
    assert_eq!((texts.max_tokens(), texts.prompts()["query"].as_str()), (16, "long "));
    assert_eq!(embed(&mut queries, "the film"), embed(&mut texts, "long the film"));
    let length: f32 = embed(&mut texts, "good").iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5);
    let unknown = EmbedOptions { prompt: Some("answer".to_owned()), ..EmbedOptions::default() };
    let error = Embedder::open(&out, &unknown).expect_err("no such prompt").to_string();
    assert!(
        error.ends_with("the model has no prompt \"answer\", expected one of document, query"),
        "{error}"
    );
    let holdout = hearth_data::Holdout::Hash { fraction: 0.2, salt: "finetune".into() };
    let (_, heldout) = read(&dir.path().join("pairs.jsonl")).hold_out(&holdout).expect("divides");
    let mut heldout = Pairs::of(&heldout);
    heldout.encode(&texts, &own.prompts(&texts)).expect("encodes");
    let again = judge_retrieval(&mut texts, &heldout).expect("judges").metrics;
    assert!(again.iter().all(|(name, value)| metrics[name] == *value), "{again:?} {metrics:?}");

    let card = std::fs::read_to_string(out.join("hearth.json")).expect("a card");
    let card: Value = serde_json::from_str(&card).expect("JSON");
    assert_eq!((&card["task"], &card["embed"]["prompts"]["query"]), (&json!("embed"), &json!("long ")));
    assert_eq!(card["metrics_before"]["mrr"].as_f64(), Some(metrics["mrr_before"]));
    assert!(std::fs::read_to_string(out.join("report.html")).expect("a report").contains("ndcg@10"));
}

#[test]
fn updates_of_low_rank_are_in_the_folder_and_beside_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = pretrained(dir.path());
    let data = || read(&write(dir.path()));
    let lora = Adapt::Lora { rank: 4, alpha: 8.0, rank_stabilized: false, targets: Vec::new(), half: true };
    let (full, settings) = (dir.path().join("full"), Settings { adapt: lora, lr: 5e-3, ..settings() });
    let own = EmbedSettings::default();
    let outcome = finetune_embed(&model, data(), None, (&settings, &own), &full, &mut Listener::default())
        .expect("runs");
    assert!(outcome.metrics["mrr"] > outcome.metrics["mrr_before"] + 0.1, "{:?}", outcome.metrics);
    let config = std::fs::read_to_string(full.join("adapter/adapter_config.json")).expect("an adapter");
    assert!(config.contains("FEATURE_EXTRACTION"), "{config}");

    // The folder's weights are those of the look: they give its metrics.
    let holdout = hearth_data::Holdout::Hash { fraction: 0.2, salt: "finetune".into() };
    let mut embedder = Embedder::open(&full, &EmbedOptions::default()).expect("opens");
    let mut heldout = Pairs::of(&data().hold_out(&holdout).expect("divides").1);
    heldout.encode(&embedder, &Prompts::default()).expect("encodes");
    let again = judge_retrieval(&mut embedder, &heldout).expect("judges").metrics;
    assert!(again.iter().all(|(name, value)| outcome.metrics[name] == *value), "{again:?}");
}

#[test]
fn long_texts_are_dealt_with_as_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = pretrained(dir.path());
    let path = write(dir.path());
    let row = json!({ "query": "long", "positive": "the film was long and not good", "negatives": ["bad"] });
    let rows = std::fs::read_to_string(&path).expect("reads") + &row.to_string() + "\n";
    std::fs::write(&path, rows).expect("writes");
    let run = |too_long| {
        let settings = Settings { max_tokens: 6, epochs: 1.0, too_long, ..settings() };
        let out = dir.path().join(format!("{too_long:?}"));
        let own = EmbedSettings::default();
        finetune_embed(&model, read(&path), None, (&settings, &own), &out, &mut Listener::default())
    };
    let refused = run(TooLong::Refuse).expect_err("refused").to_string();
    assert!(
        refused.contains("are longer than 6 tokens, the longest has 9") && refused.contains("--too-long")
    );
    let (cut, left_out) = (run(TooLong::Cut).expect("runs"), run(TooLong::Drop).expect("runs"));
    assert_eq!((cut.cut, left_out.cut), (1, 1));
    assert_eq!(cut.examples.0 + cut.examples.1, left_out.examples.0 + left_out.examples.1 + 1);
}

#[test]
fn the_same_seed_gives_the_same_vectors_and_prompts_are_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let own = EmbedSettings { text_prefix: Some("and ".into()), ..EmbedSettings::default() };
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    for out in [&first, &second] {
        run(dir.path(), out, &own, &mut Listener::default()).expect("runs");
    }
    let bytes = |out: &Path| std::fs::read(out.join("model.safetensors")).expect("weights");
    assert!(bytes(&first) == bytes(&second));
    let third = dir.path().join("third");
    let data = read(&dir.path().join("pairs.jsonl"));
    let settings = Settings { epochs: 1.0, ..settings() };
    let own = EmbedSettings::default();
    finetune_embed(&first, data, None, (&settings, &own), &third, &mut Listener::default()).expect("runs");
    let embedder = Embedder::open(&third, &EmbedOptions::default()).expect("opens");
    assert_eq!((embedder.prompts()["query"].as_str(), embedder.prompts()["document"].as_str()), ("", "and "));
}

#[test]
fn the_looks_metrics_are_those_of_a_plain_ranking() {
    let dir = tempfile::tempdir().expect("a folder");
    let pairs = |rows: &[(&str, &[&str], &[&str])]| {
        let lines = rows.iter().map(|(query, positives, negatives)| {
            json!({ "query": query, "positives": positives, "negatives": negatives }).to_string() + "\n"
        });
        let path = dir.path().join("pairs.jsonl");
        std::fs::write(&path, lines.collect::<String>()).expect("writes");
        Pairs::of(&read(&path).examples)
    };
    let mut pairs = pairs(&[
        ("film", &["good film", "the film was good"], &["bad film"]),
        ("plot music", &["fine"], &[]),
        ("long", &["long and long", "poor"], &["not good", "not long"]),
    ]);
    let options = EmbedOptions::default();
    let mut embedder = Embedder::open(&pretrained(dir.path()), &options).expect("opens");
    pairs.encode(&embedder, &Prompts::default()).expect("encodes");
    let got = judge_retrieval(&mut embedder, &pairs).expect("judges");
    let texts: Vec<Vec<f32>> = pairs.texts.iter().map(|text| embed(&mut embedder, &text.text)).collect();
    let (mut mrr, mut recall, mut ndcg) = (0.0, 0.0, 0.0);
    for (i, query) in pairs.queries.iter().enumerate() {
        let query = embed(&mut embedder, &query.text);
        let score = |text: &[f32]| query.iter().zip(text).map(|(a, b)| a * b).sum::<f32>();
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by(|&a, &b| score(&texts[b]).total_cmp(&score(&texts[a])));
        let right = &pairs.positives[i];
        let ranks: Vec<usize> = (0..order.len()).filter(|&at| right.contains(&order[at])).collect();
        mrr += 1.0 / (ranks[0] + 1) as f64 / 3.0;
        recall += ranks.iter().filter(|&&rank| rank < 1).count() as f64 / right.len() as f64 / 3.0;
        let gain = |rank: usize| 1.0 / ((rank + 2) as f64).log2();
        let found: f64 = ranks.iter().filter(|&&rank| rank < 10).map(|&rank| gain(rank)).sum();
        ndcg += found / (0..right.len()).map(gain).sum::<f64>() / 3.0;
        assert_eq!(got.found[i].nearest, order[0]);
        assert_eq!(got.found[i].right, order[ranks[0]]);
        assert_eq!(got.found[i].lead == 0.0, ranks[0] == 0);
    }
    for (name, expect) in [("mrr", mrr), ("recall@1", recall), ("ndcg@10", ndcg)] {
        assert!(
            (got.metrics[name] - expect).abs() < 1e-12,
            "{name}: {}, expected {expect}",
            got.metrics[name]
        );
    }
}

#[test]
fn what_cannot_be_learnt_from_is_refused_and_nothing_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let (model, out) = (pretrained(dir.path()), dir.path().join("out"));
    let path = dir.path().join("same.jsonl");
    let rows = ["film", "plot", "music", "long", "good", "bad"]
        .map(|query| json!({ "query": query, "positive": "the film" }).to_string() + "\n");
    std::fs::write(&path, rows.concat()).expect("writes");
    let check = |own: EmbedSettings, expect: &str| {
        let valid = Some(read(&path));
        let error =
            finetune_embed(&model, read(&path), valid, (&settings(), &own), &out, &mut Quiet::default())
                .expect_err("refused");
        assert!(error.is_usage(), "{error}");
        assert!(error.to_string().contains(expect), "{error}");
        assert!(!out.exists());
    };
    check(EmbedSettings::default(), "all examples have the same text, so there is nothing to tell it from");
    check(EmbedSettings { scale: 0.0, ..EmbedSettings::default() }, "scale is 0, expected more than 0");
}

#[test]
fn a_batch_is_laid_out_as_its_pairs_say() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = pretrained(dir.path());
    let EncoderFolder { encoder, weights, .. } = EncoderFolder::open(&model).expect("opens");
    check_batch(dir.path(), &model, Backbone::Encoder(TrainableEncoder::new(encoder)), &weights);
    let model = pretrained_decoder(dir.path());
    let (decoder, weights) = load_folder(&model).expect("opens");
    check_batch(dir.path(), &model, Backbone::Decoder(Trainable::new(decoder)), &weights);
}

/// The loss of three pairs is what follows from the vectors that the model gives their texts.
fn check_batch(dir: &Path, model: &Path, mut network: Backbone, weights: &Weights) {
    let mut embedder = Embedder::open(model, &EmbedOptions::default()).expect("opens");
    let mut pairs = Pairs::of(&read(&write(dir)).examples);
    pairs.encode(&embedder, &Prompts::default()).expect("encodes");
    let vectors = |embedder: &mut Embedder, passages: &[usize], queries: bool| -> Vec<Vec<f32>> {
        let side = if queries { &pairs.queries } else { &pairs.texts };
        passages.iter().map(|&i| embed(embedder, &side[i].text)).collect()
    };
    let chosen = [0, 9, 30];
    let examples = pairs.examples();
    let queries = vectors(&mut embedder, &chosen.map(|i| examples[i].0), true);
    let texts = vectors(&mut embedder, &chosen.map(|i| examples[i].1), false);
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let loss: f32 = (0..3)
        .map(|i| {
            let sum: f32 = texts.iter().map(|text| (7.0 * cosine(&queries[i], text)).exp()).sum();
            sum.ln() - 7.0 * cosine(&queries[i], &texts[i])
        })
        .sum();
    let own = EmbedSettings { scale: 7.0, hard_negatives: 0, ..EmbedSettings::default() };
    let common = Settings { dropout: 0.0, ..settings() };
    let heldout = Pairs::default();
    let mut learner = EmbedLearner::new(&mut network, &mut embedder, &pairs, &heldout, &own, &common);
    let got = learner.loss(weights, &chosen, 0).expect("a loss").item().expect("a scalar");
    assert!((got - loss / 3.0).abs() < 1e-5, "{got}, expected {}", loss / 3.0);
}

#[test]
fn a_decoder_learns_to_embed_and_keeps_its_words() {
    let dir = tempfile::tempdir().expect("a folder");
    let (model, pairs) = (pretrained_decoder(dir.path()), write(dir.path()));
    let head = |folder: &Path| {
        let (decoder, weights) = load_folder(folder).expect("a decoder's folder");
        let last = decoder.specs().iter().position(|spec| spec.name == "lm_head.weight").expect("its own");
        weights.tensors()[last].data().to_vec()
    };
    let low = Adapt::Lora { rank: 4, alpha: 8.0, rank_stabilized: false, targets: Vec::new(), half: false };
    for (adapt, lr, name) in [(Adapt::Full, 3e-3, "whole"), (low, 3e-2, "low")] {
        let (out, settings) = (dir.path().join(name), Settings { adapt, lr, ..settings() });
        let own = EmbedSettings::default();
        let outcome =
            finetune_embed(&model, read(&pairs), None, (&settings, &own), &out, &mut Listener::default());
        let metrics = outcome.expect("learns").metrics;
        assert!(metrics["mrr"] > metrics["mrr_before"] + 0.1, "{name}: {metrics:?}");
        assert_eq!(head(&out), head(&model), "{name}: what turns states into words has moved");
        let rules = std::fs::read_to_string(out.join("1_Pooling/config.json")).expect("written");
        let rules: Value = serde_json::from_str(&rules).expect("JSON");
        assert_eq!(rules["pooling_mode_lasttoken"], true, "{rules}");
        let mut embedder = Embedder::open(&out, &EmbedOptions::default()).expect("opens");
        assert!((embed(&mut embedder, "a film").iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert!(dir.path().join("low/adapter/adapter_config.json").is_file());
}
