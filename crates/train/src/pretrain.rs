//! Pretraining: from a recipe to a model folder, with looks at held-out text on the way.
//!
//! A run's folder holds the tokenizer, `data/` (token shards), `checkpoints/`, `recipe.toml` (everything
//! resolved), `run.jsonl`, `curves.svg`, and at the end the model and its card, `hearth.json`.

use crate::checkpoint::Checkpoints;
use crate::error::TrainError;
use crate::evaluate::Score;
use crate::folder::{Contents, lock};
use crate::network::Pretrained;
use crate::prepare::prepare;
use crate::recipe::{ModelConfig, Recipe};
use crate::runlog::Record;
use crate::trainer::Trainer;
use std::path::Path;

/// Who watches a run, and may stop it.
pub trait Observer {
    /// Something begins or was decided; one line of text.
    fn stage(&mut self, text: &str);
    /// A long preparation goes on: `done` of about `total`.
    fn progress(&mut self, what: &str, done: u64, total: u64);
    /// The resolved recipe, before the first step.
    fn resolved(&mut self, recipe: &Recipe, model: &ModelConfig, n_params: usize, steps: u64);
    /// A line was added to `run.jsonl`.
    fn record(&mut self, record: &Record);
    /// Whether to stop after this step.
    fn stop(&mut self) -> bool;
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// On all held-out text, at the end.
    pub heldout: Score,
    /// The n-gram model of all training text.
    pub ngram: Option<Floor>,
    /// The n-gram model of as many tokens as the run trains on, if it doesn't see all of them.
    pub ngram_same_tokens: Option<Floor>,
    /// Steps done, of how many.
    pub steps: (u64, u64),
    /// Tokens trained on.
    pub tokens: u64,
    /// Wall seconds of the training loop, looks at held-out text included.
    pub seconds: f64,
    /// Whether it was stopped before the last step; it can be resumed then.
    pub stopped: bool,
}

/// What a Kneser-Ney model of training tokens reaches on the held-out ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// n.
    pub order: usize,
    /// Tokens that it was counted on.
    pub tokens: u64,
    /// Nats a token.
    pub loss: f64,
    /// Bits a byte of text.
    pub bits_per_byte: f64,
}

/// Trains what `recipe` describes in the folder `run`, or with `resume` goes on from its last
/// checkpoint to the same bits as if it had never stopped.
///
/// # Errors
/// If the recipe or the data can't be used, the disk fails, or the loss stops being a number; the
/// last checkpoint is good in every case.
pub fn pretrain(
    recipe: &Recipe,
    run: &Path,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<Summary, TrainError> {
    let mut recipe = recipe.clone();
    let keep = recipe.train.keep_checkpoints;
    let checkpoints = Checkpoints::new(run, keep);
    let latest = checkpoints.latest()?;
    if !resume && (latest.is_some() || run.join("run.jsonl").exists()) {
        return Err(TrainError::Folder {
            folder: run.to_owned(),
            problem: "already holds a run\nhint: add --resume to go on with it, or choose another --out"
                .into(),
        });
    }
    recipe.check()?;
    // What can't be is refused before minutes of work on the text.
    let pretrained = open_pretrained(&mut recipe, observer)?;
    let existed = run.exists();
    fs_err::create_dir_all(run)?;
    let _lock = lock(run)?;
    let before = if existed { Contents::of(run)? } else { Contents::none() };
    let trainer = set_up(recipe, pretrained, run, latest.as_deref(), resume, checkpoints, observer);
    trainer.inspect_err(|_| before.restore(run))?.train(observer)
}

/// The model that the recipe goes on with, if there is one; decides what is learnt.
fn open_pretrained(
    recipe: &mut Recipe,
    observer: &mut dyn Observer,
) -> Result<Option<Pretrained>, TrainError> {
    recipe.model.check_from()?;
    let Some(from) = recipe.model.from.clone() else {
        recipe.resolve_objective(None)?;
        recipe.clone().resolve(recipe.tokenizer.vocab_size.max(1))?;
        return Ok(None);
    };
    let (pretrained, note) = Pretrained::open(Path::new(&from), recipe.seed)?;
    note.iter().for_each(|note| observer.stage(note));
    recipe.tokenizer.kind = from;
    recipe.resolve_from(&pretrained.config())?;
    Ok(Some(pretrained))
}

/// Everything up to the first step: text, weights, and the checkpoint to go on from if there is one.
fn set_up(
    recipe: Recipe,
    pretrained: Option<Pretrained>,
    run: &Path,
    latest: Option<&Path>,
    resume: bool,
    checkpoints: Checkpoints,
    observer: &mut dyn Observer,
) -> Result<Trainer, TrainError> {
    checkpoints.sweep()?;
    if resume && latest.is_none() {
        observer.stage("nothing to go on with: no checkpoint yet, starting from the first step");
    }
    let prepared = prepare(&recipe, run, resume, observer)?;
    if observer.stop() {
        return Err(TrainError::Stopped);
    }
    let mut trainer = Trainer::new(recipe, pretrained, prepared, checkpoints, run)?;
    match latest {
        Some(path) => trainer.restore(path, observer)?,
        None => trainer.begin(observer)?,
    }
    Ok(trainer)
}
