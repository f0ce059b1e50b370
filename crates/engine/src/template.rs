//! Chat templates: a conversation as the text that a model was trained to continue.
//!
//! A template is a Jinja text that comes with the model, so it may be anything: its own size is bounded, and
//! rendering it in steps, depth and size. Around it stands what Hugging Face's `apply_chat_template`
//! gives: blocks trimmed, `raise_exception`, `strftime_now`, Python's methods on strings.

mod deep;
mod guard;
mod python;

use crate::error::{EngineError, Result};
use guard::{Mask, Specials};
use hearth_tokenizer::Tokenizer;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, context};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// A template's size. Published ones take at most some 20 KiB.
const SOURCE_BYTES: usize = 64 << 10;
/// What a rendering may take: a unit a step, and one for 64 bytes of data that it makes. Some steps go over a
/// whole text, so time may grow with the square of this.
const FUEL: u64 = 100_000;
/// What each message adds to that, so that long chats fit.
const FUEL_A_MESSAGE: u64 = 1000;
/// How many bytes of the messages add one more.
const BYTES_A_FUEL: u64 = 2;
/// Blocks, macros, expressions and values within each other.
const DEPTH: usize = 200;
/// A rendering's size, apart from what the messages bring.
const OUTPUT_BYTES: usize = 16 << 20;
/// How many times a template may repeat the messages.
const REPEATS: usize = 4;
/// How errors call the template.
const NAME: &str = "chat template";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or another name that the template knows.
    pub role: String,
    /// What is said. Special tokens that are spelled out in it stay text.
    pub content: String,
    /// The functions that an assistant calls, as OpenAI's API lists them.
    pub tool_calls: Option<serde_json::Value>,
}

impl Message {
    /// What `role` says.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), tool_calls: None }
    }
}

/// A model's chat template, ready to render.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    specials: Specials,
    /// `bos_token`, `eos_token` and the like, as the template sees them.
    tokens: Vec<(String, String)>,
    /// Seconds since 1970 that `strftime_now` takes for now.
    now: Option<u64>,
}

/// A conversation as text, in which it is known what is a special token and what only looks so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// In order; joined, they are the text.
    pub pieces: Vec<Piece>,
    /// Whether a message spells a special token out.
    look_alikes: bool,
}

/// A part of a [`Rendered`] conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A special token that the template put there, by its spelling.
    Special(String),
    /// Plain text, the template's and the messages'.
    Text(String),
}

impl Piece {
    /// What it adds to the text.
    pub fn text(&self) -> &str {
        let (Piece::Special(text) | Piece::Text(text)) = self;
        text
    }
}

impl Rendered {
    /// The whole text.
    pub fn text(&self) -> String {
        self.pieces.iter().map(Piece::text).collect()
    }

    /// The tokens of the bytes `from..to` of the text: from its beginning those that [`tokens`](Self::tokens) gives a
    /// text that ends there, from later on those of a text that goes on.
    ///
    /// # Errors
    /// If a character has no token.
    pub(crate) fn tokens_between(&self, tokenizer: &Tokenizer, from: usize, to: usize) -> Result<Vec<u32>> {
        let (mut at, mut pieces) = (0, Vec::new());
        for piece in &self.pieces {
            let text = piece.text();
            let part = from.clamp(at, at + text.len()) - at..to.clamp(at, at + text.len()) - at;
            at += text.len();
            match piece {
                _ if part.is_empty() => {}
                Piece::Special(_) => pieces.push(Piece::Special(text[part].to_owned())),
                Piece::Text(_) => pieces.push(Piece::Text(text[part].to_owned())),
            }
        }
        if from == 0 {
            return Rendered { pieces, look_alikes: self.look_alikes }.tokens(tokenizer);
        }
        let mut tokens = Vec::new();
        for (i, piece) in pieces.iter().enumerate() {
            tokens.extend(match piece {
                Piece::Special(text) => tokenizer.encode_with_special(text)?,
                Piece::Text(text) if i == 0 => tokenizer.encode_within(text)?,
                Piece::Text(text) => tokenizer.encode(text)?,
            });
        }
        Ok(tokens)
    }

    /// The tokens of the conversation: the template's special tokens are recognised, those spelled
    /// out in messages stay text.
    ///
    /// # Errors
    /// If a character has no token.
    pub fn tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        if !self.look_alikes {
            return Ok(tokenizer.encode_with_special(&self.text())?);
        }
        let mut tokens = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Special(text) => tokens.extend(tokenizer.encode_with_special(text)?),
                Piece::Text(text) => tokens.extend(tokenizer.encode(text)?),
            }
        }
        Ok(tokens)
    }
}

impl ChatTemplate {
    /// The chat template of a tokenizer, if it has one; of several, the one called `default`.
    ///
    /// # Errors
    /// If the template isn't Jinja; the error names the line.
    pub fn of(tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let Some(source) = source_of(tokenizer) else { return Ok(None) };
        let tokens = tokenizer.config().iter().filter(|(key, _)| key.ends_with("_token"));
        let tokens = tokens.filter_map(|(key, value)| {
            let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
            Some((key.clone(), text.to_owned()))
        });
        let special = tokenizer
            .added_tokens()
            .iter()
            .filter(|(id, _)| tokenizer.is_special(*id))
            .map(|(_, token)| token);
        Self::new(source, special.cloned().collect(), tokens.collect()).map(Some)
    }

    /// A template by its text, with the special tokens that it may put and the names it has for some.
    ///
    /// # Errors
    /// If the template isn't Jinja; the error names the line.
    pub fn new(source: &str, special: Vec<String>, tokens: Vec<(String, String)>) -> Result<Self> {
        if source.len() > SOURCE_BYTES {
            let problem = format!("{} bytes, expected at most {SOURCE_BYTES}", source.len());
            return Err(EngineError::Template { line: None, problem });
        }
        let source = python::without_generation_tags(source);
        deep::with_stack(FUEL, || Self::compile(source, special, tokens))?
    }

    fn compile(source: String, special: Vec<String>, tokens: Vec<(String, String)>) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| explain(&error))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_recursion_limit(DEPTH);
        environment.set_formatter(python::write_value);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message).with_source(Raised))
        });
        environment.add_filter("tojson", python::to_json);
        environment.add_template_owned(NAME, source.clone()).map_err(|error| explain(&error))?;
        Ok(Self { environment, source, specials: Specials::new(special), tokens, now: None })
    }

    /// Takes that moment, in seconds since 1970, for now, so that a template that writes the date
    /// gives the same text every day.
    #[must_use]
    pub fn at(mut self, seconds: u64) -> Self {
        self.now = Some(seconds);
        self
    }

    /// Renders a conversation, up to where the assistant speaks next if `add_generation_prompt`.
    ///
    /// Message text can't forge special tokens, and the template still sees it as it is. Characters
    /// that begin or end a special token's spelling are replaced in the messages by private-use
    /// stand-ins, one for one; special tokens are looked for in what comes out, where only the
    /// template can have put them; then the stand-ins turn back. Trimming, lengths and joins come out
    /// the same. A template that looks for such characters in a message (as Qwen3's does for
    /// `</think>`) takes another turn when it sees stand-ins; so if the text isn't that of the plain
    /// messages, the rendering of those is taken instead, with stand-ins only in whole spellings of
    /// special tokens, as long as it has the same special tokens in the same order.
    ///
    /// # Errors
    /// What the template raises (for instance where it has no system role), with the line; if it runs
    /// too long or grows too large; if a role isn't a plain word.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Rendered> {
        self.render_with_tools(messages, None, add_generation_prompt)
    }

    /// Whether the template has a place for the functions that a model may call.
    pub fn takes_tools(&self) -> bool {
        self.source.contains("tools")
    }

    /// [`render`](Self::render) with the functions that the model may call, as OpenAI's API lists them.
    ///
    /// # Errors
    /// As `render`; and if a function or a call spells a special token out.
    pub fn render_with_tools(
        &self,
        messages: &[Message],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<Rendered> {
        for json in messages.iter().filter_map(|message| message.tool_calls.as_ref()).chain(tools) {
            if self.specials.is_in(json) {
                let problem = "a function, or a call of one, spells a special token out".to_owned();
                return Err(EngineError::Template { line: None, problem });
            }
        }
        for message in messages {
            let plain = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
            if message.role.is_empty() || !message.role.chars().all(plain) {
                let problem = format!(
                    "the role {:?} isn't a plain word: expected system, user, assistant or the like",
                    message.role
                );
                return Err(EngineError::Template { line: None, problem });
            }
        }
        if !messages.iter().any(|message| self.specials.touches(&message.content)) {
            let text = self.run(messages, tools, add_generation_prompt)?;
            return Ok(self.specials.pieces(&text, &Mask::none()));
        }
        let texts = messages.iter().map(|message| message.content.as_str());
        let Some(mask) = Mask::new(&self.specials, texts.chain([self.source.as_str()])) else {
            let problem = "the messages use up all private-use characters".to_owned();
            return Err(EngineError::Template { line: None, problem });
        };
        let with = |change: &dyn Fn(&str) -> String| -> Vec<Message> {
            let changed =
                |message: &Message| Message { content: change(&message.content), ..message.clone() };
            messages.iter().map(changed).collect()
        };
        let safe = self.run(&with(&|text| mask.all(text)), tools, add_generation_prompt)?;
        let faithful =
            self.run(&with(&|text| mask.spellings(text, &self.specials)), tools, add_generation_prompt)?;
        let same = mask.undo(&safe) == mask.undo(&faithful);
        let take = if !same && self.specials.same_in(&safe, &faithful) { &faithful } else { &safe };
        Ok(self.specials.pieces(take, &mask))
    }

    fn run(
        &self,
        messages: &[Message],
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let calls = messages.iter().filter_map(|message| message.tool_calls.as_ref());
        let json: u64 = calls.chain(tools).map(|json| json.to_string().len() as u64).sum();
        let content = json + messages.iter().map(|message| message.content.len() as u64).sum::<u64>();
        let fuel = FUEL + FUEL_A_MESSAGE * messages.len() as u64 + content / BYTES_A_FUEL;
        deep::with_stack(fuel, || self.run_within(fuel, content, (messages, tools), add_generation_prompt))?
    }

    fn run_within(
        &self,
        fuel: u64,
        content: u64,
        (messages, tools): (&[Message], Option<&serde_json::Value>),
        add_generation_prompt: bool,
    ) -> Result<String> {
        let now = self.now.unwrap_or_else(seconds_since_1970);
        let strftime = Value::from_function(move |format: String| python::strftime(&format, now));
        let tokens: BTreeMap<String, String> = self.tokens.iter().cloned().collect();
        let tokens = Value::from(tokens);
        let turn = |message: &Message| {
            let turn = context! { role => message.role.as_str(), content => message.content.as_str() };
            match &message.tool_calls {
                Some(calls) => context! { tool_calls => Value::from(Serde(calls)), ..turn },
                None => turn,
            }
        };
        let tools = tools.map(|tools| Value::from(Serde(tools)));
        let turns: Value = messages.iter().map(turn).collect();
        let given = context! {
            messages => turns, add_generation_prompt, strftime_now => strftime, tools => tools, documents => (), ..tokens
        };
        let most = (content as usize).saturating_mul(REPEATS);
        let mut output = Bounded { bytes: Vec::new(), most: OUTPUT_BYTES.saturating_add(most) };
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let template = environment.get_template(NAME).map_err(|error| explain(&error))?;
        template.render_captured_to(given, &mut output).map_err(|error| explain(&error))?;
        String::from_utf8(output.bytes).map_err(|_| EngineError::Template {
            line: None,
            problem: "the rendering isn't UTF-8".to_owned(),
        })
    }
}

fn source_of(tokenizer: &Tokenizer) -> Option<&str> {
    use serde_json::Value;
    match tokenizer.config().get("chat_template")? {
        Value::String(source) => Some(source),
        Value::Array(several) => {
            let template = several.iter().find(|template| template["name"] == "default")?;
            template["template"].as_str()
        }
        _ => None,
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Marks an error as the template's own.
#[derive(Debug, thiserror::Error)]
#[error("raised by the template")]
struct Raised;

/// Marks an error as too much output.
#[derive(Debug, thiserror::Error)]
#[error("the rendering grows past {0} bytes")]
struct TooLarge(usize);

fn explain(error: &Error) -> EngineError {
    let line = error.line();
    let mut source = std::error::Error::source(error);
    let detail = error.detail().unwrap_or_default();
    while let Some(cause) = source {
        if cause.is::<Raised>() {
            return EngineError::Template { line, problem: format!("the template refuses: {detail}") };
        }
        if let Some(TooLarge(most)) = too_large(cause) {
            let problem = format!("the rendering grows past {most} bytes; the template may run in a circle");
            return EngineError::Template { line, problem };
        }
        source = cause.source();
    }
    let problem = match error.kind() {
        ErrorKind::OutOfFuel => {
            "the template takes too many steps, or makes too many bytes; it may run in a circle".to_owned()
        }
        kind if detail.is_empty() => kind.to_string(),
        kind => format!("{kind}: {detail}"),
    };
    EngineError::Template { line, problem }
}

fn too_large<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e TooLarge> {
    cause.downcast_ref::<TooLarge>().or_else(|| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
}

/// Output that stops at a size.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.most.saturating_sub(self.bytes.len()) {
            return Err(io::Error::other(TooLarge(self.most)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
