//! `hearth generate --beams`: the best continuations of a prompt instead of drawn ones.

use crate::failure::Usage;
use crate::interrupt;
use crate::report;
use crate::terminal::{Terminal, count};
use anyhow::Result;
use hearth_engine::{BeamSearch, Engine, FinishReason};
use serde_json::{Value, json};
use std::io::{Write, stdout};

/// Flags of a beam search. It draws nothing and takes the model's probabilities as they are, so what changes those
/// can't be combined with it.
#[derive(clap::Args)]
pub struct BeamArgs {
    /// Search for the best continuation with so many hypotheses at once, instead of drawing one
    #[arg(long, value_name = "W", conflicts_with_all = [
        "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "no_repeat_ngram", "logit_bias",
        "logprobs", "constraint", "stop", "context_shift", "draft",
    ])]
    pub beams: Option<usize>,
    /// With --beams: best is the largest log-probability over tokens to the power A; more favours longer texts
    #[arg(long, default_value_t = 1.0, value_name = "A", requires = "beams", allow_negative_numbers = true)]
    pub length_penalty: f64,
}

/// Searches and prints, the best first.
pub fn run(engine: &mut Engine, search: &BeamSearch, terminal: &Terminal, seed: Option<u64>) -> Result<()> {
    if seed.is_some() {
        let problem = "--seed: a beam search draws nothing\nhint: leave --seed or --beams out";
        return Err(Usage(problem.into()).into());
    }
    let (found, timings) = engine.beam_search(search, |_| interrupt::go_on())?;
    if !terminal.json() {
        let texts: Vec<&str> = found.iter().map(|hypothesis| hypothesis.text.as_str()).collect();
        writeln!(stdout(), "{}", texts.join("\n\n---\n\n"))?;
    }
    let scores: Vec<String> = found.iter().map(|hypothesis| format!("{:.4}", hypothesis.score)).collect();
    terminal.say(&format!(
        "scores {}; {} prompt tokens at {}/s, all hypotheses together at {}/s",
        scores.join(", "),
        timings.prompt_tokens,
        count(timings.prompt_speed()),
        count(timings.generate_speed()),
    ));
    if found.iter().any(|hypothesis| hypothesis.finish == FinishReason::ContextFull) {
        terminal.say(report::CONTEXT_FULL);
    }
    let listed: Vec<Value> = found
        .iter()
        .map(|h| {
            json!({ "text": h.text, "tokens": h.tokens, "finish": h.finish.name(), "logprob": h.logprob,
                "score": h.score })
        })
        .collect();
    terminal.result("", &report::completions(listed, &timings))
}
