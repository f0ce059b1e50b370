//! `hearth pretrain`: train a model from a recipe.

use crate::failure::{Stopped, Usage};
use crate::model::resolve;
use crate::profile_table;
use crate::terminal::{Terminal, count};
use crate::training::{Watch, summary_json};
use anyhow::Result;
use hearth_kernel::profile;
use hearth_train::pretrain::{Summary, pretrain};
use hearth_train::recipe::{ModelSection, Objective};
use hearth_train::{Recipe, TrainError};
use std::path::{Path, PathBuf};

/// Train a model from raw text, as a recipe says
#[derive(clap::Args)]
pub struct Pretrain {
    /// The recipe, a TOML file; see recipes/
    recipe: PathBuf,
    /// Train on these files, folders or globs instead of the recipe's
    #[arg(long, num_args = 1.., value_name = "F")]
    data: Vec<String>,
    /// The run's folder, and the model's at the end
    #[arg(long, default_value = "hearth-run", value_name = "DIR")]
    out: PathBuf,
    /// Go on from the last checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// Go on with this model instead of beginning a new one: a folder, a GGUF file, or a name as elsewhere. It keeps
    /// its sizes and its tokenizer
    #[arg(long, value_name = "M", conflicts_with = "depth")]
    model: Option<String>,
    /// What is learnt: causal (the next token) or mlm (masked tokens, for encoders)
    #[arg(long, value_name = "O", value_parser = objective)]
    objective: Option<Objective>,
    /// Steps, instead of the recipe's
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Minutes of training, instead of a number of steps
    #[arg(long, value_name = "M", conflicts_with = "steps")]
    minutes: Option<f64>,
    /// Blocks of the model: the one dial, from which the rest follows
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Rows a batch, instead of the recipe's
    #[arg(long, value_name = "B")]
    batch: Option<usize>,
    /// Tokens a row, instead of the recipe's
    #[arg(long, value_name = "T")]
    context: Option<usize>,
    /// Show at the end where a step's time went
    #[arg(long)]
    profile: bool,
}

impl Pretrain {
    pub fn run(self, terminal: &Terminal, seed: Option<u64>) -> Result<()> {
        let mut recipe = Recipe::read(&self.recipe)?;
        if !self.data.is_empty() {
            recipe.data.files = self.data;
        }
        recipe.seed = seed.unwrap_or(recipe.seed);
        if let Some(model) = &self.model {
            let from = Some(resolve(model, terminal)?.display().to_string());
            recipe.model = ModelSection { from, context: recipe.model.context, ..ModelSection::default() };
            // What a recipe says of another model's objective doesn't hold for this one.
            recipe.objective.kind = None;
        }
        recipe.objective.kind = self.objective.or(recipe.objective.kind);
        recipe.model.depth = self.depth.or(recipe.model.depth);
        recipe.model.context = self.context.or(recipe.model.context);
        recipe.train.batch = self.batch.or(recipe.train.batch);
        if self.resume && self.minutes.is_some() {
            return Err(Usage(
                "--minutes decides the steps of a new run; a resumed one has its steps already\nhint: leave out --minutes"
                    .into(),
            )
            .into());
        }
        if self.steps.is_some() || self.minutes.is_some() {
            let train = &mut recipe.train;
            (train.steps, train.minutes) = (self.steps, self.minutes);
            if !self.resume {
                // What a saved recipe had worked out for its own number of steps.
                (train.warmup, train.eval_every, train.sample_every, train.checkpoint_every) =
                    (None, None, None, None);
            }
        }
        if self.profile {
            profile::start();
        }
        let summary = pretrain(&recipe, &self.out, self.resume, &mut Watch::new(terminal, true))
            .map_err(|error| name_recipe(error, &self.recipe))?;
        let mut result = summary_json(&summary);
        if self.profile {
            let profile = profile::stop();
            terminal.say(&profile_table::text(&profile));
            result["profile"] = profile_table::to_json(&profile);
        }
        finish(terminal, &summary, &self.out)?;
        terminal.result("", &result)
    }
}

fn objective(name: &str) -> Result<Objective, String> {
    match name {
        "causal" => Ok(Objective::Causal),
        "mlm" => Ok(Objective::Mlm),
        _ => Err("expected causal or mlm".to_owned()),
    }
}

/// Says which file a recipe that makes no sense came from.
fn name_recipe(error: TrainError, path: &Path) -> TrainError {
    match error {
        TrainError::Recipe { place, problem } if place == "recipe" => {
            TrainError::Recipe { place: path.display().to_string(), problem }
        }
        other => other,
    }
}

/// What there is to say after a run; an error if it was stopped.
pub fn finish(terminal: &Terminal, summary: &Summary, out: &Path) -> Result<()> {
    let out = out.display();
    if summary.stopped {
        let (done, of) = summary.steps;
        terminal.clear();
        return Err(Stopped(format!(
            "stopped after step {done} of {of}; go on with\n  hearth pretrain {out}/recipe.toml --out {out} --resume"
        ))
        .into());
    }
    if let Some(accuracy) = summary.heldout.accuracy() {
        let loss = summary.heldout.loss();
        terminal.say(&format!(
            "held-out text: loss {loss:.3} on masked tokens, {:.1}% of them found\nmodel: {out}   curves: {out}/curves.svg",
            100.0 * accuracy
        ));
        return Ok(());
    }
    let bits = summary.heldout.bits_per_byte();
    let floors = [summary.ngram_same_tokens, summary.ngram].into_iter().flatten();
    let floor: String = floors
        .map(|n| {
            format!("; a {}-gram model of {} tokens: {:.3}", n.order, count(n.tokens as f64), n.bits_per_byte)
        })
        .collect();
    terminal.say(&format!(
        "held-out text: {bits:.3} bits per byte{floor}\nmodel: {out}   curves: {out}/curves.svg"
    ));
    Ok(())
}
