//! `hearth classify`: a label a line of text.

use crate::failure::Usage;
use crate::interrupt;
use crate::lines::{Lines, Output};
use crate::model::resolve;
use crate::terminal::Terminal;
use anyhow::Result;
use hearth_engine::{Problem, TextPair, highest};
use hearth_train::baseline::AnyClassifier;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

/// Give each line of a text its label, by a model that `hearth finetune classify` made
#[derive(clap::Args)]
pub struct Classify {
    /// The model's folder
    model: String,
    /// Texts, a line each; - is stdin, whose lines are answered as they come
    #[arg(long = "in", value_name = "F")]
    input: PathBuf,
    /// Where the labels go, a line each [default: stdout]
    #[arg(long = "out", value_name = "F")]
    output: Option<PathBuf>,
    /// Each line is two texts with a tab between them
    #[arg(long)]
    pairs: bool,
    /// Add after each label, and a tab, the probabilities of all labels; of an svm, distances from its planes
    #[arg(long)]
    scores: bool,
}

impl Classify {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        let path = resolve(&self.model, terminal)?;
        let mut classifier = AnyClassifier::open(&path)?;
        let mut input = Lines::open(&self.input)?;
        let mut output = Output::open(self.output.clone())?;
        let (mut truncated, mut seconds) = (0, 0.0);
        let mut labels: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            let lines = input.next_few()?;
            if lines.is_empty() {
                break;
            }
            let first = input.number() + 1 - lines.len();
            let texts = lines.iter().zip(first..).map(|(line, number)| self.text(line, number));
            let texts: Vec<TextPair> = texts.collect::<Result<_>>()?;
            let started = Instant::now();
            let found = classifier.classify(&texts, |_| interrupt::go_on())?;
            seconds += started.elapsed().as_secs_f64();
            truncated += found.truncated;
            let mut out = String::new();
            for scores in &found.scores {
                let label = label(&classifier, scores);
                out += &label;
                if classifier.problem() != Problem::Regression {
                    *labels.entry(label).or_default() += 1;
                }
                if self.scores {
                    let scores = classifier.labels().iter().zip(scores);
                    scores.for_each(|(label, score)| {
                        let _ = write!(out, "\t{label} {score:.4}");
                    });
                }
                out.push('\n');
            }
            output.add(&out)?;
            terminal.live(&format!("classifying · {} texts", input.number()), 0, 0);
        }
        output.end()?;
        let count = input.number();
        if truncated > 0 {
            let limit = classifier.max_tokens();
            terminal.say(&format!("{truncated} of {count} texts were cut to the model's {limit} tokens"));
        }
        terminal.result(
            "",
            &json!({
                "count": count,
                "labels": labels,
                "truncated": truncated,
                "texts_per_second": if seconds > 0.0 { count as f64 / seconds } else { 0.0 },
            }),
        )
    }

    fn text<'a>(&self, line: &'a str, number: usize) -> Result<TextPair<'a>> {
        if !self.pairs {
            return Ok((line, None));
        }
        match line.split_once('\t') {
            Some((first, second)) => Ok((first, Some(second))),
            None => {
                let file = self.input.display();
                Err(Usage(format!("{file}, line {number}: no tab, expected two texts with one between them"))
                    .into())
            }
        }
    }
}

/// The likeliest label; all that hold, with commas between them; or the value.
fn label(classifier: &AnyClassifier, scores: &[f32]) -> String {
    let labels = classifier.labels();
    match classifier.problem() {
        Problem::Regression => scores[0].to_string(),
        Problem::SingleLabel => labels[highest(scores)].clone(),
        Problem::MultiLabel => {
            let holding = labels.iter().zip(scores).filter(|(_, score)| **score > 0.5);
            holding.map(|(label, _)| label.as_str()).collect::<Vec<_>>().join(",")
        }
    }
}
