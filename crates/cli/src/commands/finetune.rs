//! `hearth finetune`: teach a pretrained model a task from labelled examples.

use super::answer::RulesArgs;
use crate::failure::{Stopped, Usage};
use crate::interrupt;
use crate::model::{open_tokenizer, resolve};
use crate::preview;
use crate::terminal::{Terminal, count, duration, peak_rss_bytes};
use anyhow::Result;
use hearth_data::labelled::{
    BadRows, Kind, Loaded, ReadOptions, read_chat, read_classify, read_qa, read_tag, read_texts,
};
use hearth_engine::{AnswerRules, ModelFiles};
use hearth_train::finetune::Outcome;
use hearth_train::finetune::fit::{Event, Metrics, Observer};
use hearth_train::finetune::run::finetune_classify;
use hearth_train::finetune::run_qa::finetune_qa;
use hearth_train::finetune::run_tag::finetune_tag;
use hearth_train::finetune::run_text::{Conversations, Texts, finetune_chat, finetune_complete};
use hearth_train::finetune::settings::{Adapt, Settings, TooLong};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Teach a pretrained model a task from labelled examples
#[derive(clap::Args)]
pub struct Finetune {
    /// What is learnt
    #[arg(value_enum)]
    task: Task,
    /// The model to start from: a folder, or a name of the catalogue
    #[arg(long, value_name = "M")]
    model: String,
    /// Examples: CSV, TSV, JSONL, JSON or Parquet, CoNLL for tag, SQuAD's JSON for qa, texts of any kind for complete;
    /// files, folders or globs
    #[arg(long, num_args = 1.., required = true, value_name = "F")]
    data: Vec<PathBuf>,
    /// Examples to judge by, instead of a share of --data
    #[arg(long, num_args = 1.., value_name = "F")]
    valid: Vec<PathBuf>,
    /// The folder that gets the model
    #[arg(long, value_name = "DIR", required_unless_present = "preview")]
    out: Option<PathBuf>,
    /// Print the first N examples as the model will see them, what carries loss in colour, and train nothing
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "3")]
    preview: Option<usize>,
    /// Which column is which, such as text=review or label=stars [default: by their names]
    #[arg(long, value_name = "ROLE=NAME", value_parser = column)]
    column: Vec<(String, String)>,
    /// What labels are: one, several or value [default: as they look]
    #[arg(long, value_name = "KIND", value_parser = kind)]
    labels: Option<Kind>,
    /// For complete: the share of texts that are turned into a prefix, a suffix and the middle to fill in
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "0.5", value_parser = share)]
    infill: Option<f64>,
    /// Leave out rows that can't be used, and count them
    #[arg(long)]
    skip_bad: bool,
    /// Refuse data with a row that can't be used; this is what happens without --skip-bad too
    #[arg(long, conflicts_with = "skip_bad")]
    strict: bool,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten, next_help_heading = "For qa")]
    rules: RulesArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Task {
    /// Texts, or pairs of them, to a label, to several, or to a value
    Classify,
    /// Words of sentences to a tag each, such as names in BIO
    Tag,
    /// Questions to the spans of passages that answer them
    Qa,
    /// Conversations: what the assistant says
    Chat,
    /// Texts: how they go on, or what belongs into a gap
    Complete,
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
    /// Most tokens of an example
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// What becomes of examples that are longer
    #[arg(long, value_enum, value_name = "WHAT", default_value = "refuse")]
    too_long: Long,
    /// Most tokens that go through the model at once: less memory, the same result
    #[arg(long, value_name = "N")]
    pass_tokens: Option<usize>,
    /// Train the last N blocks alone, and what comes after them
    #[arg(long, value_name = "N", conflicts_with = "lora")]
    last_layers: Option<usize>,
    /// Train updates of low rank (LoRA), of rank R, beside frozen weights; chat and complete then write an adapter
    #[arg(long, value_name = "R", num_args = 0..=1, default_missing_value = "16")]
    lora: Option<usize>,
    /// What updates are scaled by, before R divides it [default: 2 R]
    #[arg(long, value_name = "A", requires = "lora")]
    alpha: Option<f32>,
    /// Layers that get updates, by the ends of their names, such as q_proj,v_proj [default: all in the blocks]
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "lora")]
    targets: Vec<String>,
    /// Scale updates by A/√R instead of A/R (rsLoRA)
    #[arg(long, requires = "lora")]
    rslora: bool,
    /// Keep the frozen weights in bf16
    #[arg(long, requires = "lora")]
    bf16: bool,
    /// Probability of dropout
    #[arg(long, value_name = "P")]
    dropout: Option<f32>,
    /// Share of the examples to judge by, where --valid isn't given
    #[arg(long, value_name = "SHARE", conflicts_with = "valid")]
    holdout: Option<f64>,
    /// Looks at the examples to judge by, in each epoch
    #[arg(long, value_name = "N")]
    looks: Option<usize>,
    /// Train cheap models on the same examples too (naive Bayes, an SVM; for tag an HMM and a CRF), and print all in
    /// one table
    #[arg(long)]
    compare: bool,
    /// Stop after so many looks that weren't better
    #[arg(long, value_name = "N")]
    patience: Option<usize>,
}

/// What becomes of examples that are longer than the limit.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Long {
    /// Nothing is trained, and it is said how many there are
    Refuse,
    /// They are cut
    Cut,
    /// They are left out
    Drop,
}

impl SettingsArgs {
    fn settings(&self, task: Task, seed: Option<u64>) -> Settings {
        let adapt = match (self.lora, self.last_layers) {
            (Some(rank), _) => Adapt::Lora {
                rank,
                alpha: self.alpha.unwrap_or(2.0 * rank as f32),
                rank_stabilized: self.rslora,
                targets: self.targets.clone(),
                half: self.bf16,
            },
            (None, Some(layers)) => Adapt::LastLayers(layers),
            (None, None) => Adapt::Full,
        };
        let usual = match task {
            Task::Chat | Task::Complete => Settings::for_texts(adapt),
            _ => Settings::for_heads(adapt),
        };
        Settings {
            seed: seed.unwrap_or(usual.seed),
            epochs: self.epochs.unwrap_or(usual.epochs),
            batch: self.batch.unwrap_or(usual.batch),
            lr: self.lr.unwrap_or(usual.lr),
            pass_tokens: self.pass_tokens.unwrap_or(usual.pass_tokens),
            too_long: match self.too_long {
                Long::Refuse => TooLong::Refuse,
                Long::Cut => TooLong::Cut,
                Long::Drop => TooLong::Drop,
            },
            max_tokens: self.max_tokens.unwrap_or(usual.max_tokens),
            dropout: self.dropout.unwrap_or(usual.dropout),
            holdout: self.holdout.unwrap_or(usual.holdout),
            looks: self.looks.unwrap_or(usual.looks),
            compare: self.compare,
            patience: self.patience.unwrap_or(usual.patience),
            ..usual
        }
    }
}

fn column(text: &str) -> Result<(String, String), String> {
    let (role, name) = text.split_once('=').ok_or("expected ROLE=NAME, such as label=stars")?;
    Ok((role.to_owned(), name.to_owned()))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to 1".to_owned())
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
        if self.infill.is_some() && !matches!(self.task, Task::Complete) {
            return Err(Usage("--infill is for complete".into()).into());
        }
        let settings = self.settings.settings(self.task, seed);
        settings.check()?;
        if self.rules.any() && !matches!(self.task, Task::Qa) {
            return Err(Usage("--stride and --max-answer are for qa".into()).into());
        }
        let options = ReadOptions {
            columns: self.column.iter().cloned().collect::<BTreeMap<_, _>>(),
            bad_rows: if self.skip_bad { BadRows::Skip } else { BadRows::Refuse },
        };
        if let Some(count) = self.preview {
            return self.show(terminal, &options, &settings, count);
        }
        let out = self.out.clone().unwrap_or_default();
        if out.join("config.json").exists() {
            let out = out.display();
            return Err(Usage(format!(
                "{out}: already holds a model\nhint: choose another --out, or remove it first"
            ))
            .into());
        }
        let outcome = match self.task {
            Task::Classify => self.classify(terminal, &options, &settings, &out)?,
            Task::Tag => self.tag(terminal, &options, &settings, &out)?,
            Task::Qa => self.qa(terminal, &options, &settings, &out)?,
            Task::Chat => self.chat(terminal, &options, &settings, &out)?,
            Task::Complete => self.complete(terminal, &options, &settings, &out)?,
        };
        finish(terminal, &outcome, &out)
    }

    fn classify(
        &self,
        terminal: &Terminal,
        options: &ReadOptions,
        settings: &Settings,
        out: &Path,
    ) -> Result<Outcome> {
        let training = read_classify(&self.data, options, self.labels)?;
        told(terminal, &training);
        // The same kind of labels, whatever these look like on their own.
        let kind = training.examples.first().map(|example| example.label.kind());
        let heldout = self.heldout(terminal, |paths| read_classify(paths, options, kind))?;
        let model = resolve(&self.model, terminal)?;
        Ok(finetune_classify(&model, training, heldout, settings, out, &mut Watch::new(terminal))?)
    }

    fn tag(
        &self,
        terminal: &Terminal,
        options: &ReadOptions,
        settings: &Settings,
        out: &Path,
    ) -> Result<Outcome> {
        if self.labels.is_some() {
            return Err(Usage("--labels is for classify; tags are always one a word".into()).into());
        }
        let training = read_tag(&self.data, options)?;
        told(terminal, &training);
        let heldout = self.heldout(terminal, |paths| read_tag(paths, options))?;
        let model = resolve(&self.model, terminal)?;
        Ok(finetune_tag(&model, training, heldout, settings, out, &mut Watch::new(terminal))?)
    }

    fn qa(
        &self,
        terminal: &Terminal,
        options: &ReadOptions,
        settings: &Settings,
        out: &Path,
    ) -> Result<Outcome> {
        if self.labels.is_some() {
            return Err(Usage("--labels is for classify; questions have answers".into()).into());
        }
        let training = read_qa(&self.data, options)?;
        told(terminal, &training);
        let heldout = self.heldout(terminal, |paths| read_qa(paths, options))?;
        let model = resolve(&self.model, terminal)?;
        let rules = self.answer_rules(settings);
        Ok(finetune_qa(&model, training, heldout, settings, rules, out, &mut Watch::new(terminal))?)
    }

    fn answer_rules(&self, settings: &Settings) -> AnswerRules {
        self.rules.over(AnswerRules::for_window(settings.max_tokens))
    }

    fn chat(
        &self,
        terminal: &Terminal,
        options: &ReadOptions,
        settings: &Settings,
        out: &Path,
    ) -> Result<Outcome> {
        let training = read_chat(&self.data, options)?;
        told(terminal, &training);
        let heldout = self.heldout(terminal, |paths| read_chat(paths, options))?;
        let model = resolve(&self.model, terminal)?;
        Ok(finetune_chat(&model, training, heldout, settings, out, &mut Watch::new(terminal))?)
    }

    fn complete(
        &self,
        terminal: &Terminal,
        options: &ReadOptions,
        settings: &Settings,
        out: &Path,
    ) -> Result<Outcome> {
        let training = read_texts(&self.data, options)?;
        told(terminal, &training);
        let heldout = self.heldout(terminal, |paths| read_texts(paths, options))?;
        let (model, infill) = (resolve(&self.model, terminal)?, self.infill.unwrap_or(0.0));
        let watch = &mut Watch::new(terminal);
        Ok(finetune_complete(&model, training, heldout, infill, settings, out, watch)?)
    }

    /// The examples of --valid, if it is given.
    fn heldout<X>(
        &self,
        terminal: &Terminal,
        read: impl Fn(&[PathBuf]) -> hearth_data::Result<Loaded<X>>,
    ) -> Result<Option<Loaded<X>>> {
        if self.valid.is_empty() {
            return Ok(None);
        }
        let loaded = read(&self.valid)?;
        told(terminal, &loaded);
        Ok(Some(loaded))
    }

    /// The first examples as the model will see them.
    fn show(
        &self,
        terminal: &Terminal,
        options: &ReadOptions,
        settings: &Settings,
        count: usize,
    ) -> Result<()> {
        let model = resolve(&self.model, terminal)?;
        let text = match self.task {
            Task::Chat => {
                let files = ModelFiles::open(&model)?;
                let loaded = read_chat(&self.data, options)?;
                told(terminal, &loaded);
                let conversations = Conversations::of(files.tokenizer())?;
                let shown = loaded.examples.iter().take(count).map(|x| conversations.lessons(x));
                let lessons = shown.collect::<Result<Vec<_>, _>>()?.concat();
                preview::lessons(files.tokenizer(), &lessons, settings.max_tokens)?
            }
            Task::Complete => {
                let files = ModelFiles::open(&model)?;
                let loaded = read_texts(&self.data, options)?;
                told(terminal, &loaded);
                let texts = Texts {
                    tokenizer: files.tokenizer(),
                    special: files.special(),
                    infill: self.infill.unwrap_or(0.0),
                    limit: settings.max_tokens,
                    seed: settings.seed,
                };
                let lessons = loaded.examples.iter().take(count).map(|x| texts.lessons(x));
                let lessons = lessons.collect::<Result<Vec<_>, _>>()?.concat();
                preview::lessons(files.tokenizer(), &lessons, settings.max_tokens)?
            }
            Task::Classify => {
                let loaded = read_classify(&self.data, options, self.labels)?;
                told(terminal, &loaded);
                preview::classify(
                    &open_tokenizer(&model)?,
                    &loaded.examples[..count.min(loaded.examples.len())],
                    settings.max_tokens,
                )?
            }
            Task::Tag => {
                let loaded = read_tag(&self.data, options)?;
                told(terminal, &loaded);
                preview::tag(
                    &open_tokenizer(&model)?,
                    &loaded.examples[..count.min(loaded.examples.len())],
                    settings.max_tokens,
                )?
            }
            Task::Qa => {
                let loaded = read_qa(&self.data, options)?;
                told(terminal, &loaded);
                preview::qa(
                    &open_tokenizer(&model)?,
                    &loaded.examples[..count.min(loaded.examples.len())],
                    settings.max_tokens,
                    self.answer_rules(settings).stride,
                )?
            }
        };
        terminal.result(text.trim_end(), &json!({ "preview": text }))
    }
}

/// What there is to say after a run; an error if it was stopped.
fn finish(terminal: &Terminal, outcome: &Outcome, out: &Path) -> Result<()> {
    let out = out.display();
    if !outcome.baselines.is_empty() {
        terminal.say(&table(outcome));
    }
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
    if !outcome.baselines.is_empty() {
        json["baselines"] = json!(outcome.baselines);
    }
    for (name, value) in &outcome.metrics {
        json[name] = json!(value);
    }
    terminal.result("", &json)
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

/// This model beside cheap ones.
fn table(outcome: &Outcome) -> String {
    let own = |name: &str| outcome.metrics.get(name).copied().unwrap_or_default();
    let rows = outcome.baselines.iter().map(|b| (b.name, b.accuracy, b.f1, b.seconds));
    let f1 = if outcome.metrics.contains_key("span_f1") { "span_f1" } else { "macro_f1" };
    let rows = rows.chain([("this model", own("accuracy"), own(f1), outcome.seconds)]);
    let rows = rows
        .map(|(name, accuracy, f1, seconds)| format!("{name:<14}{accuracy:>10.4}{f1:>10.4}{seconds:>10.1}"));
    let head = format!("{:<14}{:>10}{f1:>10}{:>10}", "", "accuracy", "seconds");
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}

fn in_words(metrics: &Metrics) -> String {
    let shown = metrics.iter().filter(|(name, _)| *name != "examples");
    shown.map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join("   ")
}

struct Watch<'a> {
    terminal: &'a Terminal,
    loss: f32,
}

impl<'a> Watch<'a> {
    fn new(terminal: &'a Terminal) -> Self {
        Watch { terminal, loss: f32::NAN }
    }
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
