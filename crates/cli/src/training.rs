//! Watching a training run from the terminal.

use crate::interrupt;
use crate::terminal::{Terminal, count, duration, peak_rss_bytes};
use hearth_train::Recipe;
use hearth_train::pretrain::{Observer, Summary};
use hearth_train::recipe::ModelConfig;
use hearth_train::runlog::Record;
use serde_json::{Value, json};

/// Prints what a run tells.
pub struct Watch<'a> {
    terminal: &'a Terminal,
    /// Print the whole resolved recipe, not only the model's line.
    show_recipe: bool,
    steps: u64,
    first: Option<(u64, f64)>,
    loss: f32,
}

impl<'a> Watch<'a> {
    /// A watcher; `show_recipe` prints the resolved recipe before the first step.
    pub fn new(terminal: &'a Terminal, show_recipe: bool) -> Self {
        Watch { terminal, show_recipe, steps: 0, first: None, loss: f32::NAN }
    }

    fn step(&mut self, step: u64, loss: f32, tokens_per_second: f64, seconds: f64) {
        let (first_step, first_seconds) = *self.first.get_or_insert((step, seconds));
        self.loss = if self.loss.is_nan() { loss } else { 0.95 * self.loss + 0.05 * loss };
        let per_step = (seconds - first_seconds) / (step - first_step).max(1) as f64;
        let left = per_step * (self.steps - step) as f64;
        let text = format!(
            "step {step}/{} · loss {:.3} · {} tokens/s · {} left",
            self.steps,
            self.loss,
            count(tokens_per_second),
            duration(left)
        );
        self.terminal.live(&text, step, self.steps);
    }
}

impl Observer for Watch<'_> {
    fn stage(&mut self, text: &str) {
        self.terminal.say(text);
    }

    fn progress(&mut self, what: &str, done: u64, total: u64) {
        self.terminal.progress(what, done, total);
    }

    fn resolved(&mut self, recipe: &Recipe, model: &ModelConfig, n_params: usize, steps: u64) {
        self.steps = steps;
        let context = recipe.model.context.unwrap_or(model.max_positions());
        if self.show_recipe {
            self.terminal.say(&recipe.to_toml());
        }
        self.terminal.say(&format!(
            "{}: {} parameters, {} layers of width {}, context {}, vocabulary {}; {}FLOP a token; {steps} steps of {} tokens",
            model.model_type(),
            count(n_params as f64),
            model.n_layers(),
            model.hidden_size(),
            context,
            model.vocab_size(),
            count(model.train_flops_per_token(context, recipe.objective.mask_share)),
            recipe.train.batch.unwrap_or(0) * recipe.train.accumulate * context,
        ));
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::Step { step, loss, tokens_per_second, seconds, .. } => {
                self.step(*step, *loss, *tokens_per_second, *seconds);
            }
            Record::Eval { step, val_loss, val_accuracy: Some(accuracy), seconds, .. } => {
                self.terminal.say(&format!(
                    "step {step:>6} · {seconds:>5.0} s · held out: loss {val_loss:.3} on masked tokens, {:.1}% of them found",
                    100.0 * accuracy,
                ))
            }
            Record::Eval { step, val_loss, val_bits_per_byte, seconds, .. } => self.terminal.say(&format!(
                "step {step:>6} · {:>5.0} s · held out: loss {val_loss:.3}, perplexity {:.1}, {val_bits_per_byte:.3} bits per byte",
                seconds,
                val_loss.exp(),
            )),
            Record::Ngram { order, tokens, val_loss, val_bits_per_byte } => self.terminal.say(&format!(
                "{order}-gram of {} tokens · held out: loss {val_loss:.3}, perplexity {:.1}, {val_bits_per_byte:.3} bits per byte",
                count(*tokens as f64),
                val_loss.exp(),
            )),
            Record::Sample { text, .. } => {
                let shown: Vec<String> = text.lines().map(|line| format!("    │ {line}")).collect();
                self.terminal.say(&shown.join("\n"));
            }
            Record::Start { .. } | Record::Checkpoint { .. } | Record::End { .. } => {}
        }
    }

    fn stop(&mut self) -> bool {
        interrupt::asked()
    }
}

/// A finished run as JSON.
pub fn summary_json(summary: &Summary) -> Value {
    json!({
        "val_loss": summary.heldout.loss(),
        "val_perplexity": summary.heldout.perplexity(),
        "val_bits_per_byte": summary.heldout.bits_per_byte(),
        "val_accuracy": summary.heldout.accuracy(),
        "ngram_bits_per_byte": summary.ngram.map(|n| n.bits_per_byte),
        "ngram_same_tokens_bits_per_byte": summary.ngram_same_tokens.map(|n| n.bits_per_byte),
        "steps": summary.steps.0,
        "tokens": summary.tokens,
        "seconds": summary.seconds,
        "tokens_per_second": summary.tokens as f64 / summary.seconds,
        "peak_rss_bytes": peak_rss_bytes(),
    })
}
