//! `hearth answer`: the answer to each question, out of its passage.

use crate::failure::Usage;
use crate::interrupt;
use crate::lines::Output;
use crate::model::resolve;
use crate::terminal::Terminal;
use anyhow::Result;
use hearth_data::labelled::{BadRows, Loaded, ReadOptions, read_questions};
use hearth_engine::{AnswerRules, Answerer, Answers, Asked};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Answer questions from the passages they are about, by a model that `hearth finetune qa` made
///
/// An answer is a stretch of the passage; start and end count its characters. Where the model learnt that some passages
/// hold no answer, it may be null.
#[derive(clap::Args)]
pub struct Answer {
    /// The model's folder
    model: String,
    /// Questions with their passages: JSON lines with question and context, or SQuAD's JSON
    #[arg(long = "in", value_name = "F", required_unless_present = "question", conflicts_with = "question")]
    input: Option<PathBuf>,
    /// Where the answers go, a JSON object a line [default: stdout]
    #[arg(long = "out", value_name = "F")]
    output: Option<PathBuf>,
    /// One question, instead of --in
    #[arg(long, value_name = "Q", requires = "context_file")]
    question: Option<String>,
    /// The passage that --question is about
    #[arg(long, value_name = "F", requires = "question")]
    context_file: Option<PathBuf>,
    /// Leave out questions that can't be used (an empty one, a broken line), and count them
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    rules: RulesArgs,
    /// Say that there is no answer where that scores more than X above the best one [default: as the model learnt]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    no_answer: Option<f32>,
}

/// How answers are looked for.
#[derive(clap::Args)]
pub struct RulesArgs {
    /// Tokens that a window of a long passage repeats of the one before [default: a third of a window, at most 128]
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
    /// Most tokens of an answer [default: 30]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_answer: Option<u64>,
}

impl RulesArgs {
    /// The usual rules, but for what was given.
    pub fn over(&self, usual: AnswerRules) -> AnswerRules {
        AnswerRules {
            stride: self.stride.unwrap_or(usual.stride),
            max_answer_tokens: self.max_answer.map_or(usual.max_answer_tokens, |tokens| tokens as usize),
            ..usual
        }
    }

    /// Whether any was given.
    pub fn any(&self) -> bool {
        self.stride.is_some() || self.max_answer.is_some()
    }
}

/// Questions that are answered together.
const CHUNK: usize = 256;

impl Answer {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        let answerer = Answerer::open(&resolve(&self.model, terminal)?)?;
        let mut rules = self.rules.over(answerer.rules());
        rules.no_answer_threshold = self.no_answer.or(rules.no_answer_threshold);
        let answerer = answerer.with_rules(rules);
        match (&self.input, &self.question, &self.context_file) {
            (Some(input), ..) => self.all(terminal, answerer, input),
            (None, Some(question), Some(passage)) => self.one(terminal, answerer, question, passage),
            _ => Err(Usage("expected --in F, or --question Q with --context-file F".into()).into()),
        }
    }

    fn all(&self, terminal: &Terminal, mut answerer: Answerer, input: &Path) -> Result<()> {
        let bad_rows = if self.skip_bad { BadRows::Skip } else { BadRows::Refuse };
        let options = ReadOptions { bad_rows, ..ReadOptions::default() };
        let Loaded { examples: questions, bad, .. } = read_questions(&[input.to_owned()], &options)?;
        if let [first, ..] = &bad[..] {
            terminal
                .say(&format!("{} questions can't be used and are left out, the first: {first}", bad.len()));
        }
        let mut output = Output::open(self.output.clone())?;
        let threshold = answerer.rules().no_answer_threshold;
        let (mut answered, mut done) = (0, 0);
        let started = Instant::now();
        for chunk in questions.chunks(CHUNK) {
            let asked: Vec<Asked> = chunk.iter().map(|e| (e.question.as_str(), &*e.context)).collect();
            let found = answerer.answer(&asked, |_| interrupt::go_on())?;
            let mut lines = String::new();
            for (example, answers) in chunk.iter().zip(&found) {
                let mut line = said(answers, &example.context, threshold);
                answered += usize::from(!line["answer"].is_null());
                line["id"] = json!(example.id);
                lines += &line.to_string();
                lines.push('\n');
            }
            output.add(&lines)?;
            done += chunk.len();
            terminal.live(&format!("answering · {done} questions"), done as u64, questions.len() as u64);
        }
        output.end()?;
        let seconds = started.elapsed().as_secs_f64();
        let json = json!({
            "count": done,
            "answered": answered,
            "left_out": bad.len(),
            "questions_per_second": if seconds > 0.0 { done as f64 / seconds } else { 0.0 },
        });
        terminal.result("", &json)
    }

    fn one(&self, terminal: &Terminal, mut answerer: Answerer, question: &str, passage: &Path) -> Result<()> {
        let text = fs_err::read_to_string(passage)?;
        if question.trim().is_empty() || text.trim().is_empty() {
            let empty =
                if text.trim().is_empty() { passage.display().to_string() } else { "--question".into() };
            return Err(Usage(format!("{empty}: empty, expected text")).into());
        }
        let found = answerer.answer(&[(question, text.as_str())], |_| interrupt::go_on())?;
        let said = said(&found[0], &text, answerer.rules().no_answer_threshold);
        let shown = said["answer"].as_str().unwrap_or("no answer");
        terminal.say(&format!("score {:.3}", said["score"].as_f64().unwrap_or_default()));
        let mut output = Output::open(self.output.clone())?;
        if self.output.is_some() {
            output.add(&format!("{said}\n"))?;
            output.end()?;
            return terminal.result("", &said);
        }
        terminal.result(shown, &said)
    }
}

/// The best answer, with its probability, and the characters of the passage before its beginning and its end.
fn said(answers: &Answers, passage: &str, threshold: Option<f32>) -> Value {
    let score = answers.probability(threshold);
    let characters = |byte: usize| passage[..byte].chars().count();
    match answers.best(threshold) {
        Some(span) => json!({
            "answer": passage[span.bytes.clone()],
            "score": score,
            "start": characters(span.bytes.start),
            "end": characters(span.bytes.end),
        }),
        None => json!({ "answer": null, "score": score, "start": null, "end": null }),
    }
}
