//! `hearth generate`: continue a prompt.

use crate::failure::{Stopped, Usage};
use crate::interrupt;
use crate::model::ModelArgs;
use crate::terminal::{LiveText, Terminal, count};
use anyhow::Result;
use hearth_engine::{ChatTemplate, Engine, Event, FinishReason, Message, Prompt, Request, Sampling};
use serde_json::json;
use std::io::{Write, stdout};

/// Continue a prompt; stdout is the continuation alone
#[derive(clap::Args)]
pub struct Generate {
    #[command(flatten)]
    model: ModelArgs,
    /// What to continue
    #[arg(long, default_value = "", value_name = "P")]
    prompt: String,
    /// Most tokens to write
    #[arg(long, default_value_t = 128, value_name = "N")]
    max_tokens: usize,
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
}

impl Generate {
    pub fn run(self, terminal: &Terminal, seed: Option<u64>) -> Result<()> {
        let mut engine = self.model.open(terminal)?;
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            no_repeat_ngram: self.no_repeat_ngram,
            seed: seed.unwrap_or(0),
            ..Sampling::default()
        };
        let prompt = match self.chat {
            true => Prompt::Tokens(chat_prompt(&engine, &self.model.model, self.system, &self.prompt)?),
            false => Prompt::Text(self.prompt),
        };
        let request = Request {
            prompt,
            sampling,
            stop: self.stop,
            n: self.n,
            ignore_eos: self.ignore_eos,
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
            "{} prompt tokens at {}/s, {} written at {}/s, first after {:.0} ms",
            timings.prompt_tokens,
            count(timings.prompt_speed()),
            completions.iter().map(|c| c.tokens.len()).sum::<usize>(),
            count(timings.generate_speed()),
            timings.first_token_seconds * 1e3
        ));
        if completions.iter().any(|c| c.finish == FinishReason::Cancelled) {
            return Err(Stopped("interrupted".into()).into());
        }
        let listed: Vec<_> = completions
            .iter()
            .map(|c| json!({ "text": c.text, "tokens": c.tokens, "finish": c.finish.name() }))
            .collect();
        terminal.result(
            "",
            &json!({
                "completions": listed,
                "prompt_tokens": timings.prompt_tokens,
                "prompt_tokens_per_second": timings.prompt_speed(),
                "generate_tokens_per_second": timings.generate_speed(),
                "first_token_ms": timings.first_token_seconds * 1e3,
            }),
        )
    }
}

/// A question in the model's chat template.
fn chat_prompt(engine: &Engine, model: &str, system: Option<String>, prompt: &str) -> Result<Vec<u32>> {
    let template = ChatTemplate::of(engine.tokenizer())?
        .ok_or_else(|| Usage(format!("--chat: {model} has no chat template\nhint: leave --chat out")))?;
    let mut messages: Vec<Message> = system.map(|text| Message::new("system", text)).into_iter().collect();
    messages.push(Message::new("user", prompt));
    Ok(template.render(&messages, true)?.tokens(engine.tokenizer())?)
}
