//! Whole runs on a small text: resuming, checkpoints, a loss that runs away, changed recipes.

use hearth_model::load_folder;
use hearth_train::pretrain::{Observer, Summary, pretrain};
use hearth_train::recipe::ModelConfig;
use hearth_train::runlog::{self, Record};
use hearth_train::{Recipe, TrainError};
use std::path::{Path, PathBuf};

/// Watches a run and stops it after a step.
#[derive(Default)]
pub struct Watch {
    stop_after: Option<u64>,
    step: u64,
    pub losses: Vec<f32>,
}

impl Observer for Watch {
    fn stage(&mut self, _: &str) {}
    fn progress(&mut self, _: &str, _: u64, _: u64) {}
    fn resolved(&mut self, _: &Recipe, _: &ModelConfig, _: usize, _: u64) {}
    fn record(&mut self, record: &Record) {
        if let Record::Step { step, loss, .. } = record {
            self.step = *step;
            self.losses.push(*loss);
        }
    }
    fn stop(&mut self) -> bool {
        self.stop_after == Some(self.step)
    }
}

/// Sixty short documents of words that follow each other by a rule, so that there is something to
/// learn.
pub fn corpus(dir: &Path) -> PathBuf {
    let words = ["the", "old", "fox", "saw", "a", "red", "hen", "and", "ran", "home", "by", "night"];
    let mut text = String::new();
    let mut state = 1u64;
    for document in 0..60 {
        let line: Vec<&str> = (0..40)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                words[(state >> 33) as usize % 3 + (document % 4) * 3]
            })
            .collect();
        text += &format!("{{\"text\": \"{}\"}}\n", line.join(" "));
    }
    let path = dir.join("text.jsonl");
    std::fs::write(&path, text).expect("a temporary folder takes a file");
    path
}

fn recipe(data: &Path, more: &str) -> Recipe {
    let text = format!(
        "seed = 3\n[data]\nfiles = [{data:?}]\nholdout = 0.1\n[tokenizer]\nvocab_size = 300\n\
         [model]\ndepth = 1\nhidden_size = 32\ncontext = 16\n\
         [train]\nsteps = 12\nbatch = 4\neval_every = 4\nsample_tokens = 4\nngram_order = 2\n{more}"
    );
    Recipe::parse(&text, "test").expect("a recipe")
}

pub fn run(recipe: &Recipe, out: &Path, resume: bool, stop_after: Option<u64>) -> (Summary, Watch) {
    let mut watch = Watch { stop_after, ..Watch::default() };
    let summary = pretrain(recipe, out, resume, &mut watch).expect("the run works");
    (summary, watch)
}

pub fn bytes(out: &Path, name: &str) -> Vec<u8> {
    std::fs::read(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Stops after each of some steps, resumes, and compares with a run that never stopped.
fn check_resume(more: &str) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let recipe = recipe(&corpus(dir.path()), more);
    let straight = dir.path().join("straight");
    let (whole, _) = run(&recipe, &straight, false, None);
    for stop in [1, 5, 11] {
        let out = dir.path().join(format!("stopped-{stop}"));
        let (part, first) = run(&recipe, &out, false, Some(stop));
        assert!(part.stopped && part.steps == (stop, 12), "{part:?}");
        assert!(!out.join("config.json").exists(), "a stopped run leaves no model");
        let (resumed, second) = run(&recipe, &out, true, None);
        assert_eq!(resumed.heldout, whole.heldout, "after {stop} steps");
        assert_eq!(first.losses.len() + second.losses.len(), 12, "no step is done twice");
        assert_eq!(
            bytes(&out, "model.safetensors"),
            bytes(&straight, "model.safetensors"),
            "after {stop} steps"
        );
        let state = "checkpoints/step-00000012/state.safetensors";
        assert_eq!(bytes(&out, state), bytes(&straight, state));
    }
}

#[test]
fn resuming_equals_not_stopping_with_muon() {
    check_resume("");
}

#[test]
fn resuming_equals_not_stopping_with_normuon() {
    check_resume("[optimizer]\nkind = \"normuon\"\n");
}

#[test]
fn resuming_equals_not_stopping_with_packing_accumulation_and_adamw() {
    check_resume("order = \"packed\"\naccumulate = 2\n[optimizer]\nkind = \"adamw\"\n");
}

#[test]
fn resuming_equals_not_stopping_with_dropout_and_random_windows() {
    let gpt2 = "order = \"random\"\ndropout = 0.2\n";
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut recipe = recipe(&corpus(dir.path()), gpt2);
    recipe.model.family = Some("gpt2".into());
    let (straight, stopped) = (dir.path().join("a"), dir.path().join("b"));
    run(&recipe, &straight, false, None);
    run(&recipe, &stopped, false, Some(7));
    run(&recipe, &stopped, true, None);
    assert_eq!(bytes(&stopped, "model.safetensors"), bytes(&straight, "model.safetensors"));
}

#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let recipe = recipe(&corpus(dir.path()), "checkpoint_every = 3\nkeep_checkpoints = 2\n");
    let (straight, killed) = (dir.path().join("straight"), dir.path().join("killed"));
    run(&recipe, &straight, false, None);
    run(&recipe, &killed, false, Some(8));
    // As if the process had died between steps 6 and 8: the checkpoint of the clean stop is not there,
    // another is half-written.
    std::fs::remove_dir_all(killed.join("checkpoints/step-00000008")).expect("it was written");
    std::fs::create_dir(killed.join("checkpoints/.writing-abc")).expect("a folder");
    std::fs::write(killed.join("checkpoints/.writing-abc/state.json"), "{").expect("a file");
    let (_, watch) = run(&recipe, &killed, true, None);
    assert_eq!(watch.losses.len(), 6, "steps 7 to 12");
    assert_eq!(bytes(&killed, "model.safetensors"), bytes(&straight, "model.safetensors"));
    assert!(!killed.join("checkpoints/.writing-abc").exists());
    let kept = std::fs::read_dir(killed.join("checkpoints")).expect("a folder").count();
    assert_eq!(kept, 2, "the last two stay");
    let steps: Vec<u64> = runlog::read(&killed.join("run.jsonl"))
        .expect("a log")
        .iter()
        .filter_map(|r| if let Record::Step { step, .. } = r { Some(*step) } else { None })
        .collect();
    assert_eq!(steps, (1..=12).collect::<Vec<u64>>(), "the log tells each step once");
}

#[test]
fn the_thread_count_changes_no_bit() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let recipe = recipe(&corpus(dir.path()), "");
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    hearth_kernel::pool::set_threads(1);
    run(&recipe, &one, false, None);
    hearth_kernel::pool::set_threads(2);
    run(&recipe, &two, false, None);
    assert_eq!(bytes(&one, "model.safetensors"), bytes(&two, "model.safetensors"));
}

#[test]
fn a_loss_that_runs_away_stops_the_run_and_the_last_checkpoint_stays() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let more = "checkpoint_every = 1\nwarmup = 0\nschedule = \"constant\"\n\
                [optimizer]\nkind = \"adamw\"\nlr = 1e30\nclip = 0\n";
    let recipe = recipe(&corpus(dir.path()), more);
    let out = dir.path().join("run");
    let mut watch = Watch::default();
    let error = pretrain(&recipe, &out, false, &mut watch).expect_err("weights of 1e30 can't give a loss");
    assert!(matches!(error, TrainError::NotFinite { .. }), "{error}");
    assert!(!out.join("config.json").exists(), "no model is written");
    let last = std::fs::read_dir(out.join("checkpoints")).expect("checkpoints").count();
    assert!(last >= 1, "the last checkpoint stays");
    let records = runlog::read(&out.join("run.jsonl")).expect("a log");
    assert!(
        matches!(records.last(), Some(Record::End { reason, .. }) if reason.contains("not a finite number"))
    );
}

#[test]
fn a_run_is_not_resumed_under_another_recipe_or_overwritten() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut recipe = recipe(&corpus(dir.path()), "");
    let out = dir.path().join("run");
    run(&recipe, &out, false, Some(2));
    let again = pretrain(&recipe, &out, false, &mut Watch::default()).expect_err("the folder is taken");
    assert!(again.to_string().contains("already holds a run") && again.is_usage(), "{again}");
    recipe.optimizer.muon_lr = Some(0.5);
    let other = pretrain(&recipe, &out, true, &mut Watch::default()).expect_err("another recipe");
    assert!(other.to_string().contains("optimizer.muon_lr: 0.02") && other.is_usage(), "{other}");
}

#[test]
fn the_model_is_read_back_as_it_was_trained_and_its_card_is_whole() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let recipe = recipe(&corpus(dir.path()), "");
    let out = dir.path().join("run");
    let (summary, _) = run(&recipe, &out, false, None);
    let floor = summary.ngram.expect("an n-gram model");
    assert!(floor.bits_per_byte > 0.0 && summary.heldout.bits_per_byte() > 0.0);
    assert_eq!(summary.tokens, 12 * 4 * 16);
    let (decoder, weights) = load_folder(&out).expect("a model folder");
    assert_eq!(decoder.config().hidden_size, 32);
    assert!(weights.tensors().iter().all(|t| t.data().iter().all(|x| x.is_finite())));
    let card: serde_json::Value = serde_json::from_slice(&bytes(&out, "hearth.json")).expect("JSON");
    assert_eq!(card["data"]["files"][0]["name"], "text.jsonl");
    assert_eq!(card["data"]["files"][0]["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(card["training"]["steps"], 12);
    let svg = String::from_utf8(bytes(&out, "curves.svg")).expect("text");
    assert!(svg.starts_with("<svg") && svg.contains("polyline"), "curves are drawn");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "recipe.toml"] {
        assert!(out.join(name).is_file(), "{name}");
    }
}
