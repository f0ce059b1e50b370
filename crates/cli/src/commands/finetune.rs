//! `hearth finetune`: teach a pretrained model a task from labelled examples.

use crate::failure::{Stopped, Usage};
use crate::interrupt;
use crate::model::resolve;
use crate::terminal::{Terminal, count, duration, peak_rss_bytes};
use anyhow::Result;
use hearth_data::labelled::{BadRows, Kind, Loaded, ReadOptions, read_classify};
use hearth_train::finetune::fit::{Event, Metrics, Observer};
use hearth_train::finetune::run::{Outcome, finetune_classify};
use hearth_train::finetune::settings::Settings;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Teach a pretrained model a task from labelled examples
#[derive(clap::Args)]
pub struct Finetune {
    /// What is learnt
    #[arg(value_enum)]
    task: Task,
    /// The model to start from: a folder, or a name of the catalogue
    #[arg(long, value_name = "M")]
    model: String,
    /// Examples: CSV, TSV, JSONL, JSON or Parquet; files, folders or globs
    #[arg(long, num_args = 1.., required = true, value_name = "F")]
    data: Vec<PathBuf>,
    /// Examples to judge by, instead of a share of --data
    #[arg(long, num_args = 1.., value_name = "F")]
    valid: Vec<PathBuf>,
    /// The folder that gets the model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Which column is which, such as text=review or label=stars [default: by their names]
    #[arg(long, value_name = "ROLE=NAME", value_parser = column)]
    column: Vec<(String, String)>,
    /// What labels are: one, several or value [default: as they look]
    #[arg(long, value_name = "KIND", value_parser = kind)]
    labels: Option<Kind>,
    /// Leave out rows that can't be used, and count them
    #[arg(long)]
    skip_bad: bool,
    /// Refuse data with a row that can't be used; this is what happens without --skip-bad too
    #[arg(long, conflicts_with = "skip_bad")]
    strict: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Task {
    /// Texts, or pairs of them, to a label, to several, or to a value
    Classify,
}

/// How it is learnt.
#[derive(clap::Args)]
struct SettingsArgs {
    /// Times through the examples
    #[arg(long, value_name = "N")]
    epochs: Option<f64>,
    /// Examples a step
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// AdamW's peak learning rate
    #[arg(long, value_name = "R")]
    lr: Option<f32>,
    /// Most tokens of an example; longer ones are cut, and counted
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Probability of dropout
    #[arg(long, value_name = "P")]
    dropout: Option<f32>,
    /// Share of the examples to judge by, where --valid isn't given
    #[arg(long, value_name = "SHARE", conflicts_with = "valid")]
    holdout: Option<f64>,
    /// Looks at the examples to judge by, in each epoch
    #[arg(long, value_name = "N")]
    looks: Option<usize>,
    /// Stop after so many looks that weren't better
    #[arg(long, value_name = "N")]
    patience: Option<usize>,
}

impl SettingsArgs {
    fn settings(&self, seed: Option<u64>) -> Settings {
        let usual = Settings::default();
        Settings {
            seed: seed.unwrap_or(usual.seed),
            epochs: self.epochs.unwrap_or(usual.epochs),
            batch: self.batch.unwrap_or(usual.batch),
            lr: self.lr.unwrap_or(usual.lr),
            max_tokens: self.max_tokens.unwrap_or(usual.max_tokens),
            dropout: self.dropout.unwrap_or(usual.dropout),
            holdout: self.holdout.unwrap_or(usual.holdout),
            looks: self.looks.unwrap_or(usual.looks),
            patience: self.patience.unwrap_or(usual.patience),
            ..usual
        }
    }
}

fn column(text: &str) -> Result<(String, String), String> {
    let (role, name) = text.split_once('=').ok_or("expected ROLE=NAME, such as label=stars")?;
    Ok((role.to_owned(), name.to_owned()))
}

fn kind(name: &str) -> Result<Kind, String> {
    match name {
        "one" => Ok(Kind::Single),
        "several" => Ok(Kind::Multi),
        "value" => Ok(Kind::Regression),
        _ => Err("expected one, several or value".to_owned()),
    }
}

impl Finetune {
    pub fn run(self, terminal: &Terminal, seed: Option<u64>) -> Result<()> {
        let Task::Classify = self.task;
        let settings = self.settings.settings(seed);
        settings.check()?;
        if self.out.join("config.json").exists() {
            let out = self.out.display();
            return Err(Usage(format!(
                "{out}: already holds a model\nhint: choose another --out, or remove it first"
            ))
            .into());
        }
        let options = ReadOptions {
            columns: self.column.iter().cloned().collect::<BTreeMap<_, _>>(),
            bad_rows: if self.skip_bad { BadRows::Skip } else { BadRows::Refuse },
        };
        let training = read_classify(&self.data, &options, self.labels)?;
        told(terminal, &training);
        let mut heldout = None;
        if !self.valid.is_empty() {
            // The same kind of labels, whatever these look like on their own.
            let kind = training.examples.first().map(|example| example.label.kind());
            let loaded = read_classify(&self.valid, &options, kind)?;
            told(terminal, &loaded);
            heldout = Some(loaded);
        }
        let model = resolve(&self.model, terminal)?;
        let mut watch = Watch { terminal, loss: f32::NAN };
        let outcome = finetune_classify(&model, training, heldout, &settings, &self.out, &mut watch)?;
        self.finish(terminal, &outcome)
    }

    fn finish(&self, terminal: &Terminal, outcome: &Outcome) -> Result<()> {
        let out = self.out.display();
        terminal.say(&format!("{}\nmodel: {out}   report: {out}/report.html", in_words(&outcome.metrics)));
        if outcome.stopped {
            terminal.clear();
            return Err(Stopped(format!("stopped; {out} holds the best model so far")).into());
        }
        let mut json = json!({
            "labels": outcome.labels,
            "train_examples": outcome.examples.0,
            "valid_examples": outcome.examples.1,
            "truncated": outcome.cut,
            "best_step": outcome.best_step,
            "seconds": outcome.seconds,
            "examples_per_second": outcome.seen.0 as f64 / outcome.seconds,
            "tokens_per_second": outcome.seen.1 as f64 / outcome.seconds,
            "peak_rss_bytes": peak_rss_bytes(),
        });
        for (name, value) in &outcome.metrics {
            json[name] = json!(value);
        }
        terminal.result("", &json)
    }
}

/// What was read, and how.
fn told<X>(terminal: &Terminal, loaded: &Loaded<X>) {
    let columns: Vec<String> =
        loaded.columns.iter().map(|(role, column)| format!("{role} from {column:?}")).collect();
    for source in &loaded.sources {
        let file = source.file.display();
        terminal.say(&format!("{file}: {}, {} examples", source.form, source.examples));
    }
    if !columns.is_empty() {
        terminal.say(&format!("columns: {}   (--column ROLE=NAME chooses others)", columns.join(", ")));
    }
    if !loaded.bad.is_empty() {
        terminal.say(&format!(
            "{} rows can't be used and are left out, the first: {}",
            loaded.bad.len(),
            loaded.bad[0]
        ));
    }
}

fn in_words(metrics: &Metrics) -> String {
    let shown = metrics.iter().filter(|(name, _)| *name != "examples");
    shown.map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join("   ")
}

struct Watch<'a> {
    terminal: &'a Terminal,
    loss: f32,
}

impl Observer for Watch<'_> {
    fn say(&mut self, text: &str) {
        self.terminal.say(text);
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Step { step, steps, loss, examples, seconds, .. } => {
                self.loss = if self.loss.is_nan() { *loss } else { 0.9 * self.loss + 0.1 * loss };
                let left = seconds / *step as f64 * (steps - step) as f64;
                let rate = count(*examples as f64 / seconds);
                let text = format!(
                    "step {step}/{steps} · loss {:.3} · {rate} examples/s · {} left",
                    self.loss,
                    duration(left)
                );
                self.terminal.live(&text, *step, *steps);
            }
            Event::Look { step, metrics, best } => {
                let mark = if *best { "  (best so far)" } else { "" };
                self.terminal.say(&format!("step {step:>5} · held out: {}{mark}", in_words(metrics)));
            }
        }
    }

    fn stop(&mut self) -> bool {
        interrupt::asked()
    }
}
