//! `hearth pretrain`: train a model from a recipe.

use crate::failure::Stopped;
use crate::terminal::Terminal;
use crate::training::{Watch, summary_json};
use anyhow::Result;
use hearth_train::Recipe;
use hearth_train::pretrain::{Summary, pretrain};
use std::path::{Path, PathBuf};

/// Train a model from raw text, as a recipe says
#[derive(clap::Args)]
pub struct Pretrain {
    /// The recipe, a TOML file; see recipes/
    recipe: PathBuf,
    /// Train on these files, folders or globs instead of the recipe's
    #[arg(long, num_args = 1.., value_name = "F")]
    data: Vec<String>,
    /// The run's folder, and the model's at the end [default: ./hearth-run]
    #[arg(long, default_value = "hearth-run", value_name = "DIR")]
    out: PathBuf,
    /// Go on from the last checkpoint in --out
    #[arg(long)]
    resume: bool,
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
}

impl Pretrain {
    pub fn run(self, terminal: &Terminal, seed: Option<u64>) -> Result<()> {
        let mut recipe = Recipe::read(&self.recipe)?;
        if !self.data.is_empty() {
            recipe.data.files = self.data;
        }
        recipe.seed = seed.unwrap_or(recipe.seed);
        recipe.model.depth = self.depth.or(recipe.model.depth);
        recipe.model.context = self.context.or(recipe.model.context);
        recipe.train.batch = self.batch.or(recipe.train.batch);
        if self.steps.is_some() || self.minutes.is_some() {
            (recipe.train.steps, recipe.train.minutes) = (self.steps, self.minutes);
        }
        let summary = pretrain(&recipe, &self.out, self.resume, &mut Watch::new(terminal, true))?;
        finish(
            terminal,
            &summary,
            &self.out,
            &format!("hearth pretrain {} --out {} --resume", self.recipe.display(), self.out.display()),
        )?;
        terminal.result("", &summary_json(&summary))
    }
}

/// What there is to say after a run; an error if it was stopped.
pub fn finish(terminal: &Terminal, summary: &Summary, out: &Path, again: &str) -> Result<()> {
    if summary.stopped {
        let (done, of) = summary.steps;
        terminal.clear();
        return Err(Stopped(format!("stopped after step {done} of {of}; go on with\n  {again}")).into());
    }
    let bits = summary.heldout.bits_per_byte();
    let floor = summary
        .ngram
        .map_or(String::new(), |n| format!("; the {}-gram model {:.3}", n.order, n.bits_per_byte));
    terminal.say(&format!(
        "held-out text: {bits:.3} bits per byte{floor}\nmodel: {}   curves: {}",
        out.display(),
        out.join("curves.svg").display()
    ));
    Ok(())
}
