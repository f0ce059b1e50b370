//! `hearth chat`: talk to a model in the terminal.

use crate::failure::Usage;
use crate::interrupt;
use crate::model::ModelArgs;
use crate::report;
use crate::speculation::{SpeculationArgs, drafted};
use crate::terminal::{LiveText, Terminal, count};
use anyhow::{Context, Result};
use hearth_engine::{ChatTemplate, Engine, Event, FinishReason, Message, Prompt, Request, Sampling};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::json;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Talk to a model; type /help for what else can be done
#[derive(clap::Args)]
pub struct Chat {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    speculation: SpeculationArgs,
    /// Go through this adapter in PEFT's format, beside the model's weights
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// When the context is full, keep the first KEEP tokens, drop the oldest half of the others and go on
    #[arg(long, value_name = "KEEP")]
    context_shift: Option<usize>,
    /// What the model is told before everything else
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 1024, value_name = "N")]
    max_tokens: usize,
    /// 0 is greedy; higher is more varied
    #[arg(long, default_value_t = 0.7, value_name = "T")]
    temperature: f32,
    /// Only the K likeliest tokens; 0: all
    #[arg(long, default_value_t = 40, value_name = "K")]
    top_k: usize,
    /// Only the likeliest tokens that together reach this probability
    #[arg(long, default_value_t = 0.95, value_name = "P")]
    top_p: f32,
    /// Above 1, tokens that have occurred become less likely
    #[arg(long, default_value_t = 1.1, value_name = "R")]
    repetition_penalty: f32,
}

const HELP: &str = "\
/system TEXT    tell the model something before everything else; without TEXT: what it is told
/params         show how answers are drawn; /params temperature 0.2 changes it
/save FILE      write the conversation, as JSON
/load FILE      go on with a conversation that was written so
/undo           take the last question and its answer back
/clear          begin again
/exit           leave, as does Ctrl-D
A line that ends in \\ goes on with the next; so does everything between two lines of \"\"\".
Ctrl-C stops an answer.";

impl Chat {
    pub fn run(self, terminal: &Terminal, seed: Option<u64>) -> Result<()> {
        let mut engine = self.model.open(terminal)?;
        self.speculation.set(&mut engine, terminal)?;
        let adapter = self.adapter.as_deref().map(|dir| engine.add_adapter(dir)).transpose()?;
        let template = ChatTemplate::of(engine.tokenizer_of(adapter))?.ok_or_else(|| {
            Usage(format!(
                "{}: the model has no chat template, so it wasn't made to talk\nhint: hearth generate continues \
                 a text",
                self.model.model
            ))
        })?;
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            seed: seed.unwrap_or(0),
            ..Sampling::default()
        };
        sampling.validate()?;
        let (max_tokens, context_shift) = (self.max_tokens, self.context_shift);
        let mut talk = Talk { messages: Vec::new(), sampling, adapter, max_tokens, context_shift };
        talk.set_system(self.system);
        let mut editor = DefaultEditor::new().context("reading from the terminal")?;
        terminal.say(&format!("{} · /help for commands, Ctrl-D to leave", self.model.model));
        while let Some(input) = read(&mut editor)? {
            let input = input.trim();
            let outcome = match input.split_once(char::is_whitespace).unwrap_or((input, "")) {
                ("", _) => Ok(()),
                ("/exit" | "/quit", _) => break,
                (command, rest) if command.starts_with('/') => talk.command(command, rest.trim(), terminal),
                _ => talk.answer(&mut engine, &template, input, terminal),
            };
            // A mistake costs the line, not the conversation.
            if let Err(error) = outcome {
                terminal.clear();
                eprintln!("{error:#}");
            }
        }
        terminal.result("", &json!({ "messages": talk.to_json() }))
    }
}

/// Everything up to an end of line that isn't continued; none at the end of the input.
fn read(editor: &mut DefaultEditor) -> Result<Option<String>> {
    let (mut text, mut quoted) = (String::new(), false);
    loop {
        match editor.readline(if text.is_empty() && !quoted { "› " } else { "… " }) {
            Ok(line) if line.trim() == "\"\"\"" => {
                if quoted {
                    break;
                }
                quoted = true;
            }
            Ok(line) => match line.strip_suffix('\\').filter(|_| !quoted) {
                Some(line) => text += &format!("{line}\n"),
                None => {
                    text += &line;
                    if !quoted {
                        break;
                    }
                    text.push('\n');
                }
            },
            // At the prompt, Ctrl-C takes back what was typed.
            Err(ReadlineError::Interrupted) => (text, quoted) = (String::new(), false),
            Err(ReadlineError::Eof) => return Ok(None),
            Err(error) => return Err(error).context("reading from the terminal"),
        }
    }
    if !text.trim().is_empty() {
        let _ = editor.add_history_entry(text.trim());
    }
    Ok(Some(text))
}

/// A conversation, and how answers are drawn.
struct Talk {
    messages: Vec<Message>,
    sampling: Sampling,
    adapter: Option<usize>,
    max_tokens: usize,
    context_shift: Option<usize>,
}

impl Talk {
    fn system(&self) -> Option<&str> {
        self.messages.first().filter(|m| m.role == "system").map(|m| m.content.as_str())
    }

    fn set_system(&mut self, text: Option<String>) {
        self.messages.retain(|m| m.role != "system");
        if let Some(text) = text {
            self.messages.insert(0, Message::new("system", text));
        }
    }

    /// Asks, shows the answer as it comes, and keeps both.
    fn answer(
        &mut self,
        engine: &mut Engine,
        template: &ChatTemplate,
        question: &str,
        terminal: &Terminal,
    ) -> Result<()> {
        let mut messages = self.messages.clone();
        messages.push(Message::new("user", question));
        let tokens = template.render(&messages, true)?.tokens(engine.tokenizer())?;
        let request = Request {
            prompt: Prompt::Tokens(tokens),
            sampling: self.sampling.clone(),
            context_shift: self.context_shift,
            adapter: self.adapter,
            ..Request::new("", self.max_tokens)
        };
        let mut live = LiveText::default();
        interrupt::take();
        let (completions, timings) = engine.generate(&[request], |event| {
            if let Event::Text { text, .. } = event {
                live.show(text)?;
            }
            if interrupt::take() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        live.end()?;
        let Some(completion) = completions.into_iter().next() else { return Ok(()) };
        let note = match completion.finish {
            FinishReason::Cancelled => " · stopped",
            FinishReason::Length => " · as long as --max-tokens allows",
            FinishReason::ContextFull => {
                " · the model's context is full: /clear begins again, --context-shift would go on"
            }
            FinishReason::Stop | FinishReason::Eos => "",
        };
        terminal.say(&format!(
            "  {} tokens at {}/s, first after {:.0} ms{}{note}",
            completion.tokens.len(),
            count(timings.generate_speed()),
            timings.first_token_seconds * 1e3,
            drafted(&timings)
        ));
        if let (Some(keep), dropped @ 1..) = (self.context_shift, completion.dropped_tokens) {
            terminal.say(&format!("  {}", report::dropped(&dropped.to_string(), keep)));
        }
        messages.push(Message::new("assistant", completion.text.trim()));
        self.messages = messages;
        Ok(())
    }

    fn command(&mut self, command: &str, rest: &str, terminal: &Terminal) -> Result<()> {
        match (command, rest) {
            ("/help", _) => terminal.say(HELP),
            ("/system", "") => terminal.say(self.system().unwrap_or("(nothing)")),
            ("/system", text) => self.set_system(Some(text.to_owned())),
            ("/params", "") => terminal.say(&self.params()),
            ("/params", change) => self.change(change)?,
            ("/save", "") => return Err(Usage("/save needs a file's name".into()).into()),
            ("/save", file) => {
                let text = serde_json::to_string_pretty(&self.to_json())? + "\n";
                hearth_tokenizer::replace_file(Path::new(file), text.as_bytes())?;
                terminal.say(&format!("{} messages in {file}", self.messages.len()));
            }
            ("/load", "") => return Err(Usage("/load needs a file's name".into()).into()),
            ("/load", file) => {
                self.messages = load(&PathBuf::from(file))?;
                terminal.say(&format!("{} messages", self.messages.len()));
            }
            ("/undo", _) => {
                let last = self.messages.iter().rposition(|m| m.role == "user");
                self.messages.truncate(last.unwrap_or(self.messages.len()));
            }
            ("/clear", _) => self.messages.retain(|m| m.role == "system"),
            (other, _) => return Err(Usage(format!("{other} isn't a command; /help lists them")).into()),
        }
        Ok(())
    }

    fn params(&self) -> String {
        let s = &self.sampling;
        format!(
            "temperature {} · top_k {} · top_p {} · min_p {} · repetition_penalty {} · seed {} · max_tokens {}",
            s.temperature, s.top_k, s.top_p, s.min_p, s.repetition_penalty, s.seed, self.max_tokens
        )
    }

    fn change(&mut self, change: &str) -> Result<()> {
        let (name, value) = change.split_once([' ', '=']).unwrap_or((change, ""));
        let value = value.trim();
        let bad = || Usage(format!("/params {name}: {value:?} isn't a number it can be"));
        let mut changed = self.sampling.clone();
        match name {
            "temperature" => changed.temperature = value.parse().map_err(|_| bad())?,
            "top_k" => changed.top_k = value.parse().map_err(|_| bad())?,
            "top_p" => changed.top_p = value.parse().map_err(|_| bad())?,
            "min_p" => changed.min_p = value.parse().map_err(|_| bad())?,
            "repetition_penalty" => changed.repetition_penalty = value.parse().map_err(|_| bad())?,
            "seed" => changed.seed = value.parse().map_err(|_| bad())?,
            "max_tokens" => self.max_tokens = value.parse().map_err(|_| bad())?,
            other => return Err(Usage(format!("/params {other}: expected one of {}", self.params())).into()),
        }
        changed.validate()?;
        self.sampling = changed;
        Ok(())
    }

    fn to_json(&self) -> serde_json::Value {
        self.messages.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect()
    }
}

/// A conversation as `/save` writes it, which is also how the OpenAI API has it.
fn load(path: &Path) -> Result<Vec<Message>> {
    let text = fs_err::read_to_string(path)?;
    let bad = |problem: String| Usage(format!("{}: {problem}", path.display()));
    let json: Vec<serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| bad(format!("not a JSON list of messages: {error}")))?;
    let message = |(i, json): (usize, &serde_json::Value)| {
        let field = |name: &str| json[name].as_str().map(str::to_owned);
        match (field("role"), field("content")) {
            (Some(role), Some(content)) => Ok(Message::new(role, content)),
            _ => Err(bad(format!("message {i} needs a role and a content, both strings")).into()),
        }
    };
    json.iter().enumerate().map(message).collect()
}
