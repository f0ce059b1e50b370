//! What a run of fine-tuning tells: what was read, how it goes, and what came of it.

use crate::failure::Stopped;
use crate::interrupt;
use crate::terminal::{Terminal, count, duration, peak_rss_bytes};
use anyhow::Result;
use hearth_data::labelled::Loaded;
use hearth_train::finetune::Outcome;
use hearth_train::finetune::fit::{Event, Metrics, Observer};
use serde_json::json;
use std::path::Path;

/// What there is to say after a run; an error if it was stopped.
pub(super) fn finish(terminal: &Terminal, outcome: &Outcome, out: &Path) -> Result<()> {
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
pub(super) fn told<X>(terminal: &Terminal, loaded: &Loaded<X>) {
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

/// Tells of a run as it goes.
pub(crate) struct Watch<'a> {
    terminal: &'a Terminal,
    loss: f32,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(terminal: &'a Terminal) -> Self {
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
