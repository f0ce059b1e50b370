//! `POST /v1/chat/completions`.

use crate::api::logprobs::of_chat;
use crate::api::params::{MOST_LOGPROBS, Params};
use crate::api::stream::{Events, events};
use crate::api::tools::{Part, Reader, Tools};
use crate::api::{Usage, answer, finish_reason, new_id, now, read};
use crate::app::{App, Caller};
use crate::error::ApiError;
use crate::guard::Filter;
use crate::models::{Task, TextModel};
use crate::worker::Update;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use hearth_engine::{Constraint, Message, Prompt, TokenLogprobs};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// The body.
#[derive(Debug, Deserialize)]
struct Chat {
    messages: Vec<Turn>,
    #[serde(default)]
    tools: Vec<Value>,
    tool_choice: Option<Value>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    #[serde(flatten)]
    params: Params,
}

/// A message.
#[derive(Debug, Deserialize)]
struct Turn {
    role: String,
    content: Option<Content>,
    tool_calls: Option<Vec<Map<String, Value>>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of parts")]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
struct ContentPart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

impl Turn {
    fn message(self, place: usize) -> Result<Message, ApiError> {
        let field = |what: &str| format!("messages[{place}].{what}");
        let content = match self.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                let mut text = String::new();
                for part in parts {
                    match (part.kind.as_str(), part.text) {
                        ("text", Some(more)) => text += &more,
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
        Ok(Message { tool_calls: calls, ..Message::new(self.role, content) })
    }
}

/// What an answer carries in all its pieces.
struct Frame {
    id: String,
    created: u64,
    model: String,
}

impl Frame {
    fn json(&self, object: &str, choices: Value) -> Value {
        json!({ "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices })
    }

    fn chunk(&self, index: usize, delta: Value, finish: Option<&str>, logprobs: Option<Value>) -> Value {
        let choice = json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish });
        self.json("chat.completion.chunk", json!([choice]))
    }
}

/// Answers a conversation.
///
/// # Errors
/// If the request can't be carried out.
pub async fn chat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let chat: Chat = read(&body)?;
    let params = chat.params.clone();
    let tasks = [Task::Chat, Task::Completion];
    let (entry, model, adapter) = app.models.text(params.model.as_deref(), &tasks).await?;
    let tools = Tools::of(chat.tools, chat.tool_choice.as_ref())?;
    let mut request = params.request(app.options.usual_tokens)?;
    request.adapter = adapter;
    request.logprobs = logprobs_of(chat.logprobs, chat.top_logprobs)?;
    if let Some(schema) = tools.schema() {
        request.constraint = Some(Constraint::JsonSchema(schema));
    }
    let turns = chat.messages.into_iter().enumerate().map(|(i, turn)| turn.message(i));
    let mut messages = turns.collect::<Result<Vec<_>, _>>()?;
    if messages.is_empty() {
        return Err(ApiError::field("messages", "there is no message"));
    }
    for message in &mut messages {
        app.guard.prompt(&mut message.content)?;
    }
    request.prompt =
        Prompt::Tokens(prompt(model.clone(), entry.id.clone(), adapter, messages, &tools).await?);
    let frame = Frame { id: new_id("chatcmpl"), created: now(), model: entry.id.clone() };
    let n = request.n;
    let tells_logprobs = request.logprobs.is_some();
    let work = app.work(caller, &model, request);
    if !params.streams() {
        let (choices, usage) = whole(&app, &model, work, n, &tools, tells_logprobs).await?;
        app.metrics.tokens(usage.tokens());
        let mut json = frame.json("chat.completion", choices);
        (json["usage"], json["timings"]) = (usage.json(), usage.timings());
        return Ok(answer(&json));
    }
    // The first word decides whether there is an answer at all: what is refused gets its status.
    let mut work = work;
    let first = work.recv().await.unwrap_or(Update::TimedOut);
    if let Some(error) = refusal(&first) {
        return Err(error);
    }
    let (events, response) = events();
    let filters = (0..n).map(|_| app.guard.output()).collect();
    let readers = (0..n).map(|_| Reader::new(&tools)).collect();
    let tells_usage = params.tells_usage();
    let stream = Streaming { app, model, frame, events, filters, readers, tells_logprobs, tells_usage };
    tokio::spawn(stream.run(first, work));
    Ok(response)
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

/// All answers, whole.
async fn whole(
    app: &App,
    model: &TextModel,
    mut work: UnboundedReceiver<Update>,
    n: usize,
    tools: &Tools,
    tells_logprobs: bool,
) -> Result<(Value, Usage), ApiError> {
    let mut choices = vec![Value::Null; n];
    let mut usage = Usage::default();
    for done in 0..n {
        let finished = loop {
            match work.recv().await {
                Some(Update::Text { .. }) => {}
                Some(Update::Finished(finished)) => break finished,
                Some(Update::Failed(error)) => return Err(error.into()),
                Some(Update::TimedOut) | None => return Err(ApiError::timed_out()),
            }
        };
        usage.add(&finished, done == 0);
        let completion = finished.completion?;
        let mut reader = Reader::new(tools);
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
        let text = app.guard.output().whole(text)?;
        let finish = if calls.is_empty() { finish_reason(completion.finish) } else { "tool_calls" };
        let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        let logprobs = tells_logprobs.then(|| of_chat(&model.tokenizer, shown(&completion.logprobs, model)));
        let index = completion.sequence;
        choices[index] =
            json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": finish });
    }
    Ok((choices.into(), usage))
}

/// Without the token that ended the text.
pub fn shown<'l>(logprobs: &'l [TokenLogprobs], model: &TextModel) -> &'l [TokenLogprobs] {
    match logprobs.split_last() {
        Some((last, rest)) if model.special.ends.contains(&last.chosen.token) => rest,
        _ => logprobs,
    }
}

/// Answers on their way, piece by piece.
struct Streaming {
    app: Arc<App>,
    model: Arc<TextModel>,
    frame: Frame,
    events: Events,
    filters: Vec<Filter>,
    readers: Vec<Reader>,
    tells_logprobs: bool,
    tells_usage: bool,
}

impl Streaming {
    async fn run(mut self, first: Update, mut work: UnboundedReceiver<Update>) {
        for index in 0..self.readers.len() {
            self.events.send(&self.frame.chunk(
                index,
                json!({ "role": "assistant", "content": "" }),
                None,
                None,
            ));
        }
        let (mut usage, mut done) = (Usage::default(), 0);
        let mut next = Some(first);
        while let Some(update) = next {
            match update {
                Update::Text { sequence, text, logprobs } => {
                    if let Err(error) = self.text(sequence, &text, &logprobs) {
                        // Dropping the channel cancels the request.
                        return self.events.send(&error.json());
                    }
                }
                Update::Finished(finished) => {
                    usage.add(&finished, done == 0);
                    done += 1;
                    let Ok(completion) = finished.completion else { break };
                    if let Err(error) = self.end(completion.sequence, finish_reason(completion.finish)) {
                        return self.events.send(&error.json());
                    }
                    if done == self.readers.len() {
                        break;
                    }
                }
                Update::Failed(error) => return self.events.send(&ApiError::from(error).json()),
                Update::TimedOut => return self.events.send(&ApiError::timed_out().json()),
            }
            next = tokio::select! {
                update = work.recv() => update,
                () = self.events.is_gone() => return,
            };
        }
        self.app.metrics.tokens(usage.tokens());
        if self.tells_usage {
            let mut json = self.frame.json("chat.completion.chunk", json!([]));
            (json["usage"], json["timings"]) = (usage.json(), usage.timings());
            self.events.send(&json);
        }
        self.events.done();
    }

    fn text(&mut self, index: usize, text: &str, logprobs: &[TokenLogprobs]) -> Result<(), ApiError> {
        let parts = self.readers[index].push(text);
        let mut told =
            self.tells_logprobs.then(|| of_chat(&self.model.tokenizer, shown(logprobs, &self.model)));
        for part in parts {
            match part {
                Part::Text(text) => {
                    let text = self.filters[index].push(&text)?;
                    if !text.is_empty() {
                        let delta = json!({ "content": text });
                        self.events.send(&self.frame.chunk(index, delta, None, told.take()));
                    }
                }
                Part::Call(call) => self.call(index, call),
            }
        }
        // Probabilities of text that is held back go out alone.
        if let Some(told) =
            told.filter(|told| told["content"].as_array().is_some_and(|list| !list.is_empty()))
        {
            self.events.send(&self.frame.chunk(index, json!({}), None, Some(told)));
        }
        Ok(())
    }

    fn call(&self, index: usize, call: Value) {
        self.events.send(&self.frame.chunk(index, json!({ "tool_calls": [call] }), None, None));
    }

    fn end(&mut self, index: usize, finish: &str) -> Result<(), ApiError> {
        let mut text = String::new();
        for part in self.readers[index].finish() {
            match part {
                Part::Text(more) => text += &self.filters[index].push(&more)?,
                Part::Call(call) => self.call(index, call),
            }
        }
        text += &self.filters[index].finish()?;
        if !text.is_empty() {
            self.events.send(&self.frame.chunk(index, json!({ "content": text }), None, None));
        }
        let finish = if self.readers[index].has_called() { "tool_calls" } else { finish };
        self.events.send(&self.frame.chunk(index, json!({}), Some(finish), None));
        Ok(())
    }
}
