//! Whole runs on masked tokens, and runs that go on with a model that is there.

use crate::pretrain::{Watch, bytes, corpus, run};
use hearth_engine::Embedder;
use hearth_model::{EncoderFamily, EncoderFolder, load_folder, load_masked_folder};
use hearth_train::pretrain::pretrain;
use hearth_train::recipe::Objective;
use hearth_train::runlog::{self, Record};
use hearth_train::{Recipe, TrainError};
use std::path::Path;

fn recipe(data: &Path, more: &str) -> Recipe {
    let text = format!(
        "seed = 3\n[data]\nfiles = [{data:?}]\nholdout = 0.1\n[tokenizer]\nvocab_size = 300\n\
         [train]\nsteps = 12\nbatch = 4\neval_every = 4\norder = \"packed\"\n{more}"
    );
    Recipe::parse(&text, "test").expect("a recipe")
}

const NATIVE: &str = "[model]\nfamily = \"eurobert\"\ndepth = 1\nhidden_size = 32\ncontext = 16\n";
const BERT: &str = "[model]\nfamily = \"bert\"\ndepth = 1\nhidden_size = 64\ncontext = 16\n";

#[test]
fn resuming_equals_not_stopping() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = corpus(dir.path());
    for (name, more) in [
        ("native", format!("dropout = 0.1\naccumulate = 2\n{NATIVE}")),
        ("bert", format!("{BERT}[optimizer]\nkind = \"adamw\"\n")),
        ("windows", NATIVE.to_owned()),
    ] {
        let mut recipe = recipe(&data, &more);
        if name == "windows" {
            recipe.train.order = hearth_train::recipe::BatchOrder::Shuffled;
        }
        let straight = dir.path().join(name);
        let (whole, _) = run(&recipe, &straight, false, None);
        let stopped = dir.path().join(format!("{name}-stopped"));
        let (part, first) = run(&recipe, &stopped, false, Some(5));
        assert!(part.stopped && !stopped.join("config.json").exists());
        let (resumed, second) = run(&recipe, &stopped, true, None);
        assert_eq!(first.losses.len() + second.losses.len(), 12, "no step is done twice");
        assert_eq!(resumed.heldout, whole.heldout, "{name}");
        assert_eq!(bytes(&stopped, "model.safetensors"), bytes(&straight, "model.safetensors"), "{name}");
    }
}

#[test]
fn an_encoder_learns_to_find_words_and_its_folder_is_whole() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut recipe = recipe(&corpus(dir.path()), NATIVE);
    (recipe.train.steps, recipe.train.batch) = (Some(150), Some(16));
    recipe.train.eval_every = Some(75);
    let out = dir.path().join("run");
    let (summary, _) = run(&recipe, &out, false, None);
    let records = runlog::read(&out.join("run.jsonl")).expect("a log");
    let looks: Vec<(f64, f64)> = records
        .iter()
        .filter_map(|record| match record {
            Record::Eval { val_loss, val_accuracy, .. } => Some((*val_loss, val_accuracy.expect("masked"))),
            _ => None,
        })
        .collect();
    assert_eq!(looks.len(), 3);
    // Three words of a document are equally likely: chance among them is a third, and ln 3 = 1.1 nats.
    assert!(looks[0].0 > 4.0 && looks[2].0 < 1.6, "{looks:?}");
    // Of some sixty masked tokens a third would be found by chance among the three words, give or take 0.06.
    assert!(looks[0].1 < 0.1 && looks[2].1 > 0.15, "{looks:?}");
    assert_eq!(summary.heldout.accuracy(), Some(looks[2].1));
    assert!(summary.ngram.is_none(), "n-grams find no masked tokens");

    let (model, _, fresh) = load_masked_folder(&out, 0).expect("opens");
    let EncoderFamily::EuroBert(own) = model.encoder().config().family else { panic!("a eurobert") };
    assert!(!fresh && own.ids.mask.is_some() && own.ids.pad.is_some());
    let card: serde_json::Value = serde_json::from_slice(&bytes(&out, "hearth.json")).expect("JSON");
    assert_eq!((&card["objective"], &card["model"]["architecture"]), (&"mlm".into(), &"eurobert".into()));
    assert!(card["metrics"]["val_accuracy"].as_f64().is_some());
    let mut embedder = Embedder::open(&out, &Default::default()).expect("it embeds");
    let vectors = embedder.embed(&["the old fox"], |_| std::ops::ControlFlow::Continue(())).expect("runs");
    assert_eq!(vectors.vectors[0].len(), 32);
}

#[test]
fn a_run_goes_on_with_an_encoder_and_with_a_decoder() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = corpus(dir.path());
    let decoder = "[model]\ndepth = 1\nhidden_size = 32\ncontext = 16\n";
    for (name, more, objective) in [
        ("encoder", NATIVE, Objective::Mlm),
        ("bert", BERT, Objective::Mlm),
        ("decoder", decoder, Objective::Causal),
    ] {
        let first = dir.path().join(name);
        let (before, _) = run(&recipe(&data, more), &first, false, None);
        let from = format!("[model]\nfrom = {first:?}\ncontext = 12\n");
        let more = recipe(&data, &from);
        let second = dir.path().join(format!("{name}-more"));
        let (after, _) = run(&more, &second, false, None);
        assert!(after.heldout.loss() < before.heldout.loss(), "{name}: nothing was learnt on top");
        assert_eq!(bytes(&second, "tokenizer.json"), bytes(&first, "tokenizer.json"), "{name}");
        let saved = Recipe::read(&second.join("recipe.toml")).expect("the resolved recipe");
        assert_eq!(saved.objective.kind, Some(objective));
        let config = |dir: &Path| -> serde_json::Value {
            serde_json::from_slice(&bytes(dir, "config.json")).expect("JSON")
        };
        assert_eq!(config(&second), config(&first), "{name} keeps its configuration");
        let card: serde_json::Value = serde_json::from_slice(&bytes(&second, "hearth.json")).expect("JSON");
        assert_eq!(card["model"]["from"]["name"], "model.safetensors");
        assert_eq!(card["recipe"]["model"]["from"], name, "the card names no folders that lead there");

        // Stopped and resumed, with the same bits.
        let stopped = dir.path().join(format!("{name}-stopped"));
        run(&more, &stopped, false, Some(7));
        run(&saved, &stopped, true, None);
        assert_eq!(bytes(&stopped, "model.safetensors"), bytes(&second, "model.safetensors"), "{name}");
    }
    assert!(load_folder(&dir.path().join("decoder-more")).is_ok());
    assert!(EncoderFolder::open(&dir.path().join("bert-more")).is_ok());
}

#[test]
fn what_cannot_be_learnt_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = corpus(dir.path());
    let model = dir.path().join("model");
    run(&recipe(&data, NATIVE), &model, false, None);
    let from = format!("[model]\nfrom = {model:?}\n");
    for (more, expect) in [
        (format!("{from}depth = 2\n"), "model.from"),
        (format!("{from}context = 17\n"), "model.context is 17, but the model has 16 positions"),
        (format!("{from}[objective]\nkind = \"causal\"\n"), "the model is an encoder"),
        (NATIVE.replace("context = 16", "context = 3"), "model.context is 3, expected at least 4"),
        (format!("{NATIVE}[objective]\nmask_share = 1.0\n"), "objective.mask_share must lie between 0 and 1"),
        (format!("[model]\nfrom = {:?}\n", dir.path().join("nowhere")), "nowhere"),
    ] {
        let out = dir.path().join("never");
        let error = pretrain(&recipe(&data, &more), &out, false, &mut Watch::default()).expect_err(expect);
        assert!(error.to_string().contains(expect) && error.is_usage(), "{error}");
        assert!(!out.exists(), "{expect}: something was written");
    }
    let mut letters = recipe(&data, NATIVE);
    letters.tokenizer.kind = "chars".into();
    let out = dir.path().join("never");
    let error = pretrain(&letters, &out, false, &mut Watch::default()).expect_err("no mask");
    assert!(
        matches!(&error, TrainError::Recipe { problem, .. } if problem.contains("has no [MASK]")),
        "{error}"
    );
}
