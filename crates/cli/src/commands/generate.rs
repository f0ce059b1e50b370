//! `hearth generate`: continue a prompt.

use crate::beams::{self, BeamArgs};
use crate::failure::{Stopped, Usage};
use crate::interrupt;
use crate::model::ModelArgs;
use crate::report;
use crate::speculation::{SpeculationArgs, drafted};
use crate::terminal::{LiveText, Terminal, count};
use anyhow::Result;
use hearth_engine::{
    BeamSearch, ChatTemplate, Completion, Constraint, Event, FinishReason, Logprob, Message, Prompt, Request,
    Sampling,
};
use hearth_tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{Write, stdout};
use std::path::PathBuf;

/// Continue a prompt; stdout is the continuation alone
#[derive(clap::Args)]
pub struct Generate {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    speculation: SpeculationArgs,
    /// Go through this adapter in PEFT's format, beside the model's weights
    #[arg(long, value_name = "DIR", conflicts_with = "beams")]
    adapter: Option<PathBuf>,
    /// What to continue
    #[arg(long, default_value = "", value_name = "P")]
    prompt: String,
    /// What comes after the continuation: the gap between it and the prompt is filled in, by a model that
    /// was trained for it
    #[arg(long, value_name = "TEXT", conflicts_with = "chat")]
    suffix: Option<String>,
    /// Most tokens to write
    #[arg(long, default_value_t = 128, value_name = "N")]
    max_tokens: usize,
    /// When the context is full, keep the first KEEP tokens, drop the oldest half of the others and go on
    #[arg(long, value_name = "KEEP")]
    context_shift: Option<usize>,
    /// Continuations of the one prompt
    #[arg(long, default_value_t = 1, value_name = "N")]
    n: usize,
    /// 0 is greedy; higher is more varied
    #[arg(long, default_value_t = 0.8, value_name = "T")]
    temperature: f32,
    /// Only the K likeliest tokens; 0: all
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// Only the likeliest tokens that together reach this probability
    #[arg(long, default_value_t = 0.95, value_name = "P")]
    top_p: f32,
    /// Only tokens at least this share as likely as the likeliest
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    min_p: f32,
    /// Above 1, tokens that have occurred become less likely
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    repetition_penalty: f32,
    /// No sequence of N tokens comes twice; 0: off
    #[arg(long, default_value_t = 0, value_name = "N")]
    no_repeat_ngram: usize,
    /// Add BIAS to the logit of token ID, -inf rules it out; may be given several times
    #[arg(long, value_name = "ID=BIAS", value_parser = bias)]
    logit_bias: Vec<(u32, f32)>,
    /// With --json: the log-probability of each token, and of the K likeliest
    #[arg(long, value_name = "K")]
    logprobs: Option<usize>,
    /// Write JSON that follows this schema: a file, or the schema itself
    #[arg(long, value_name = "FILE|JSON", group = "constraint")]
    json_schema: Option<String>,
    /// Write text that matches this regular expression as a whole
    #[arg(long, value_name = "R", group = "constraint")]
    regex: Option<String>,
    /// Write text of this context-free grammar, in Lark's syntax
    #[arg(long, value_name = "FILE", group = "constraint")]
    grammar: Option<PathBuf>,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Take the prompt as what a user says, in the model's chat template
    #[arg(long)]
    chat: bool,
    /// With --chat: what the model is told before
    #[arg(long, requires = "chat", value_name = "TEXT")]
    system: Option<String>,
    /// Go on after the token that ends a text
    #[arg(long)]
    ignore_eos: bool,
    #[command(flatten)]
    search: BeamArgs,
}

impl Generate {
    pub fn run(self, terminal: &Terminal, seed: Option<u64>) -> Result<()> {
        if self.logprobs.is_some() && !terminal.json() {
            return Err(Usage(
                "--logprobs: log-probabilities are part of the JSON result\nhint: add --json".into(),
            )
            .into());
        }
        let constraint = self.constraint()?;
        let mut engine = self.model.open(terminal)?;
        self.speculation.set(&mut engine, terminal)?;
        let adapter = self.adapter.as_deref().map(|dir| engine.add_adapter(dir)).transpose()?;
        let prompt = match self.suffix {
            Some(suffix) => Prompt::Infill { prefix: self.prompt, suffix },
            None if self.chat => {
                let tokenizer = engine.tokenizer_of(adapter);
                Prompt::Tokens(chat_prompt(tokenizer, &self.model.model, self.system, &self.prompt)?)
            }
            None => Prompt::Text(self.prompt),
        };
        if let Some(beams) = self.search.beams {
            let search = BeamSearch {
                prompt,
                max_tokens: self.max_tokens,
                beams,
                length_penalty: self.search.length_penalty,
                n: self.n,
                ignore_eos: self.ignore_eos,
            };
            return beams::run(&mut engine, &search, terminal, seed);
        }
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            no_repeat_ngram: self.no_repeat_ngram,
            logit_bias: biases(&self.logit_bias)?,
            seed: seed.unwrap_or(0),
            ..Sampling::default()
        };
        let request = Request {
            prompt,
            sampling,
            stop: self.stop,
            n: self.n,
            ignore_eos: self.ignore_eos,
            logprobs: self.logprobs,
            constraint,
            context_shift: self.context_shift,
            adapter,
            ..Request::new("", self.max_tokens)
        };
        // One continuation is shown as it comes, several one after another.
        let mut live = (self.n == 1 && !terminal.json()).then(LiveText::default);
        let (completions, timings) = engine.generate(&[request], |event| {
            if let (Event::Text { text, .. }, Some(live)) = (event, &mut live) {
                live.show(text)?;
            }
            interrupt::go_on()
        })?;
        if let Some(live) = live {
            live.end()?;
        } else if !terminal.json() {
            let texts: Vec<&str> = completions.iter().map(|c| c.text.as_str()).collect();
            writeln!(stdout(), "{}", texts.join("\n\n---\n\n"))?;
        }
        terminal.say(&format!(
            "{} prompt tokens at {}/s, {} written at {}/s, first after {:.0} ms{}",
            timings.prompt_tokens,
            count(timings.prompt_speed()),
            completions.iter().map(|c| c.tokens.len()).sum::<usize>(),
            count(timings.generate_speed()),
            timings.first_token_seconds * 1e3,
            drafted(&timings)
        ));
        let dropped = completions.iter().map(|c| c.dropped_tokens).max();
        if let (Some(keep), Some(dropped @ 1..)) = (self.context_shift, dropped) {
            let most = if self.n > 1 { "up to " } else { "" };
            terminal.say(&report::dropped(&format!("{most}{dropped}"), keep));
        }
        if completions.iter().any(|c| c.finish == FinishReason::ContextFull) {
            terminal.say(&format!("{}; --context-shift KEEP would go on", report::CONTEXT_FULL));
        }
        if completions.iter().any(|c| c.finish == FinishReason::Cancelled) {
            return Err(Stopped("interrupted".into()).into());
        }
        let listed: Vec<Value> =
            completions.iter().map(|c| listed(c, self.logprobs.is_some(), engine.tokenizer())).collect();
        let mut result = report::completions(listed, &timings);
        result["drafted_tokens"] = json!(timings.drafted_tokens);
        result["accepted_tokens"] = json!(timings.accepted_tokens);
        terminal.result("", &result)
    }
}

impl Generate {
    /// What the output is held to.
    fn constraint(&self) -> Result<Option<Constraint>> {
        if let Some(given) = &self.json_schema {
            return Ok(Some(Constraint::JsonSchema(schema(given)?)));
        }
        if let Some(path) = &self.grammar {
            return Ok(Some(Constraint::Grammar(fs_err::read_to_string(path)?)));
        }
        Ok(self.regex.clone().map(Constraint::Regex))
    }
}

/// A JSON schema given as text, which begins with a brace, or as a file.
fn schema(given: &str) -> Result<Value> {
    let (text, place) = match given.trim_start().starts_with('{') {
        true => (given.to_owned(), "--json-schema"),
        false => (fs_err::read_to_string(given)?, given),
    };
    Ok(serde_json::from_str(&text).map_err(|error| Usage(format!("{place}: not JSON: {error}")))?)
}

/// `ID=BIAS`.
fn bias(text: &str) -> Result<(u32, f32), String> {
    let pair = text.split_once('=').and_then(|(id, bias)| Some((id.parse().ok()?, bias.parse().ok()?)));
    pair.ok_or_else(|| "expected a token id and a number, such as 42=-5 or 42=-inf".into())
}

fn biases(given: &[(u32, f32)]) -> Result<HashMap<u32, f32>> {
    let mut biases = HashMap::new();
    for &(id, bias) in given {
        if biases.insert(id, bias).is_some() {
            return Err(Usage(format!("--logit-bias: token {id} has two biases, expected one")).into());
        }
    }
    Ok(biases)
}

/// A continuation as the JSON result has it; log-probabilities in the shape of OpenAI's API.
fn listed(completion: &Completion, logprobs: bool, tokenizer: &Tokenizer) -> Value {
    let Completion { text, tokens, finish, dropped_tokens, .. } = completion;
    let mut listed = json!({ "text": text, "tokens": tokens, "finish": finish.name() });
    if *dropped_tokens > 0 {
        listed["dropped_tokens"] = json!(dropped_tokens);
    }
    if logprobs {
        let one = |l: &Logprob| {
            let bytes = tokenizer.token_bytes(l.token).unwrap_or_default();
            json!({ "token": String::from_utf8_lossy(bytes), "logprob": l.logprob, "bytes": bytes })
        };
        let content: Vec<Value> = completion
            .logprobs
            .iter()
            .map(|l| {
                let mut token = one(&l.chosen);
                token["top_logprobs"] = l.top.iter().map(one).collect();
                token
            })
            .collect();
        listed["logprobs"] = json!({ "content": content });
    }
    listed
}

/// A question in the model's chat template.
fn chat_prompt(tokenizer: &Tokenizer, model: &str, system: Option<String>, prompt: &str) -> Result<Vec<u32>> {
    let template = ChatTemplate::of(tokenizer)?
        .ok_or_else(|| Usage(format!("--chat: {model} has no chat template\nhint: leave --chat out")))?;
    let mut messages: Vec<Message> = system.map(|text| Message::new("system", text)).into_iter().collect();
    messages.push(Message::new("user", prompt));
    Ok(template.render(&messages, true)?.tokens(tokenizer)?)
}
