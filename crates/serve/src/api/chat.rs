//! `POST /v1/chat/completions`.

use crate::api::dialogue::{Answer, Begun, Dialogue, shown};
use crate::api::logprobs::of_chat;
use crate::api::stream::{Events, events};
use crate::api::tools::{Part, Reader};
use crate::api::{Usage, answer, finish_reason, new_id, now, read};
use crate::app::{App, Caller};
use crate::error::ApiError;
use crate::guard::Filter;
use crate::models::TextModel;
use crate::worker::Update;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use hearth_engine::TokenLogprobs;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

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
    let dialogue: Dialogue = read(&body)?;
    let params = dialogue.params.clone();
    let mut begun = dialogue.begin(&app, caller).await?;
    let frame = Frame { id: new_id("chatcmpl"), created: now(), model: begun.name.clone() };
    if !params.streams() {
        let (answers, usage) = begun.whole(&app).await?;
        let mut json = frame.json("chat.completion", answers.into_iter().map(choice).collect());
        (json["usage"], json["timings"]) = (usage.json(), usage.timings());
        return Ok(answer(&json));
    }
    let first = begun.first().await?;
    let Begun { model, tools, n, tells_logprobs, work, .. } = begun;
    let (events, response) = events();
    let filters = (0..n).map(|_| app.guard.output()).collect();
    let readers = (0..n).map(|_| Reader::new(&tools)).collect();
    let tells_usage = params.tells_usage();
    let stream = Streaming { app, model, frame, events, filters, readers, tells_logprobs, tells_usage };
    tokio::spawn(stream.run(first, work));
    Ok(response)
}

fn choice(answer: Answer) -> Value {
    let Answer { index, text, calls, finish, logprobs } = answer;
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
    let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": finish })
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
