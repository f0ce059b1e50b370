//! Conversations as requests: messages, functions and settings in; out of the model text, calls of functions and
//! probabilities. What the interfaces for talking have in common.

use crate::api::logprobs::of_chat;
use crate::api::params::{MOST_LOGPROBS, Params};
use crate::api::tools::{Part, Reader, Tools};
use crate::api::{Usage, finish_reason};
use crate::app::{App, Caller};
use crate::error::ApiError;
use crate::models::{Task, TextModel};
use crate::worker::Update;
use hearth_engine::{Constraint, Message, Prompt, TokenLogprobs};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// A conversation that is to be answered, as `/v1/chat/completions` has it.
#[derive(Debug, Deserialize)]
pub struct Dialogue {
    /// What was said.
    pub messages: Vec<Turn>,
    /// Functions that the model may call.
    #[serde(default)]
    pub tools: Vec<Value>,
    /// Whether it has to.
    pub tool_choice: Option<Value>,
    /// Whether probabilities are told.
    pub logprobs: Option<bool>,
    /// Of how many other tokens.
    pub top_logprobs: Option<usize>,
    /// How tokens are drawn, and where a text ends.
    #[serde(flatten)]
    pub params: Params,
}

/// A message.
#[derive(Debug, Deserialize)]
pub struct Turn {
    /// Who says it.
    pub role: String,
    /// The words.
    pub content: Option<Content>,
    /// Functions that the model called.
    pub tool_calls: Option<Vec<Map<String, Value>>>,
}

/// What a message says.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of parts")]
pub enum Content {
    /// A text.
    Text(String),
    /// Texts, one behind the other.
    Parts(Vec<ContentPart>),
}

/// A part of a message.
#[derive(Debug, Deserialize)]
pub struct ContentPart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

impl Turn {
    /// What templates are given of it.
    fn message(self, place: usize) -> Result<Message, ApiError> {
        let field = |what: &str| format!("messages[{place}].{what}");
        let content = match self.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                let mut text = String::new();
                for part in parts {
                    match (part.kind.as_str(), part.text) {
                        ("text" | "input_text" | "output_text", Some(more)) => text += &more,
                        (kind, _) => {
                            let message = format!(
                                "a part of the type {kind:?}, expected text: the model sees only text"
                            );
                            return Err(ApiError::field(field("content"), message));
                        }
                    }
                }
                text
            }
        };
        // Arguments come as text and go into templates as an object.
        let calls = self.tool_calls.map(|calls| {
            let parsed = calls.into_iter().map(|mut call| {
                if let Some(arguments) = call.get_mut("function").and_then(|of| of.get_mut("arguments"))
                    && let Some(parsed) = arguments.as_str().and_then(|text| serde_json::from_str(text).ok())
                {
                    *arguments = parsed;
                }
                Value::Object(call)
            });
            Value::Array(parsed.collect())
        });
        // The newer name of the same role, which templates don't know.
        let role = if self.role == "developer" { "system".to_owned() } else { self.role };
        Ok(Message { tool_calls: calls, ..Message::new(role, content) })
    }
}

/// A conversation that is being answered.
pub struct Begun {
    /// What the model is called.
    pub name: String,
    /// The model.
    pub model: Arc<TextModel>,
    /// Functions that it may call.
    pub tools: Tools,
    /// How many answers there will be.
    pub n: usize,
    /// Whether probabilities are told.
    pub tells_logprobs: bool,
    /// What comes of it.
    pub work: UnboundedReceiver<Update>,
}

/// An answer.
pub struct Answer {
    /// Which of them.
    pub index: usize,
    /// What it says.
    pub text: String,
    /// Functions that it calls, as OpenAI's API has them.
    pub calls: Vec<Value>,
    /// Why it ended.
    pub finish: &'static str,
    /// Of its tokens, if they are told.
    pub logprobs: Option<Value>,
}

impl Dialogue {
    /// Hands the conversation to its model.
    ///
    /// # Errors
    /// If the request can't be carried out.
    pub async fn begin(self, app: &App, caller: Caller) -> Result<Begun, ApiError> {
        let tasks = [Task::Chat, Task::Completion];
        let (entry, model, adapter) = app.models.text(self.params.model.as_deref(), &tasks).await?;
        let tools = Tools::of(self.tools, self.tool_choice.as_ref())?;
        let mut request = self.params.request(app.options.usual_tokens)?;
        request.adapter = adapter;
        request.logprobs = logprobs_of(self.logprobs, self.top_logprobs)?;
        if let Some(schema) = tools.schema() {
            request.constraint = Some(Constraint::JsonSchema(schema));
        }
        let turns = self.messages.into_iter().enumerate().map(|(i, turn)| turn.message(i));
        let mut messages = turns.collect::<Result<Vec<_>, _>>()?;
        if messages.is_empty() {
            return Err(ApiError::field("messages", "there is no message"));
        }
        for message in &mut messages {
            app.guard.prompt(&mut message.content)?;
        }
        let prompt = prompt(model.clone(), entry.id.clone(), adapter, messages, &tools).await?;
        request.prompt = Prompt::Tokens(prompt);
        let (n, tells_logprobs) = (request.n, request.logprobs.is_some());
        let work = app.work(caller, &model, request);
        Ok(Begun { name: entry.id.clone(), model, tools, n, tells_logprobs, work })
    }
}

impl Begun {
    /// The first that comes, which decides whether there is an answer at all: what is refused gets its status.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn first(&mut self) -> Result<Update, ApiError> {
        let first = self.work.recv().await.unwrap_or(Update::TimedOut);
        refusal(&first).map_or(Ok(first), Err)
    }

    /// All answers, whole, in their order.
    ///
    /// # Errors
    /// If something went wrong with one.
    pub async fn whole(mut self, app: &App) -> Result<(Vec<Answer>, Usage), ApiError> {
        let mut answers = Vec::new();
        let mut usage = Usage::default();
        for done in 0..self.n {
            let finished = loop {
                match self.work.recv().await {
                    Some(Update::Text { .. }) => {}
                    Some(Update::Finished(finished)) => break finished,
                    Some(Update::Failed(error)) => return Err(error.into()),
                    Some(Update::TimedOut) | None => return Err(ApiError::timed_out()),
                }
            };
            usage.add(&finished, done == 0);
            let completion = finished.completion?;
            let mut reader = Reader::new(&self.tools);
            let mut parts = reader.push(&completion.text);
            parts.extend(reader.finish());
            let (mut text, mut calls) = (String::new(), Vec::new());
            for part in parts {
                match part {
                    Part::Text(more) => text += &more,
                    Part::Call(mut call) => {
                        call.as_object_mut().map(|call| call.remove("index"));
                        calls.push(call);
                    }
                }
            }
            let tokenizer = &self.model.tokenizer;
            let logprobs = shown(&completion.logprobs, &self.model);
            answers.push(Answer {
                index: completion.sequence,
                text: app.guard.output().whole(text)?,
                finish: if calls.is_empty() { finish_reason(completion.finish) } else { "tool_calls" },
                calls,
                logprobs: self.tells_logprobs.then(|| of_chat(tokenizer, logprobs)),
            });
        }
        answers.sort_by_key(|answer| answer.index);
        app.metrics.tokens(usage.tokens());
        Ok((answers, usage))
    }
}

fn logprobs_of(wanted: Option<bool>, top: Option<usize>) -> Result<Option<usize>, ApiError> {
    match (wanted.unwrap_or(false), top) {
        (_, Some(top)) if top > MOST_LOGPROBS => {
            Err(ApiError::field("top_logprobs", format!("{top}, expected 0 to {MOST_LOGPROBS}")))
        }
        (false, Some(1..)) => Err(ApiError::field("top_logprobs", "top_logprobs goes with logprobs: true")),
        (false, _) => Ok(None),
        (true, top) => Ok(Some(top.unwrap_or(0))),
    }
}

/// The tokens of a conversation. Rendering a template may take a while, so it has a thread of its own.
async fn prompt(
    model: Arc<TextModel>,
    name: String,
    adapter: Option<usize>,
    mut messages: Vec<Message>,
    tools: &Tools,
) -> Result<Vec<u32>, ApiError> {
    let tools = tools.clone();
    let render = move || {
        let Some(template) = model.template(adapter) else {
            let message = format!("the model {name:?} has no chat template, so it wasn't made to talk");
            return Err(ApiError::field("model", message).code("no_chat_template"));
        };
        let list = (!tools.list.is_empty()).then(|| Value::Array(tools.list.clone()));
        let list = match template.takes_tools() {
            true => list,
            false => {
                if list.is_some() {
                    messages.insert(0, Message::new("system", tools.in_words()));
                }
                None
            }
        };
        let rendered = template.render_with_tools(&messages, list.as_ref(), true)?;
        Ok(rendered.tokens(&model.tokenizer)?)
    };
    tokio::task::spawn_blocking(render).await.map_err(|error| ApiError::internal(error.to_string()))?
}

/// What a request gets that was refused before anything came of it.
pub fn refusal(update: &Update) -> Option<ApiError> {
    match update {
        Update::Failed(error) => Some(ApiError::of(error)),
        Update::TimedOut => Some(ApiError::timed_out()),
        Update::Text { .. } | Update::Finished(_) => None,
    }
}

/// Without the token that ended the text.
pub fn shown<'l>(logprobs: &'l [TokenLogprobs], model: &TextModel) -> &'l [TokenLogprobs] {
    match logprobs.split_last() {
        Some((last, rest)) if model.special.ends.contains(&last.chosen.token) => rest,
        _ => logprobs,
    }
}
