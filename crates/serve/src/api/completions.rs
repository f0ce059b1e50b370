//! `POST /v1/completions`: texts, and how they go on.

use crate::api::dialogue::refusal;
use crate::api::logprobs::Lists;
use crate::api::params::{MOST_LOGPROBS, Params};
use crate::api::stream::{Events, events};
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
use hearth_engine::{Finished, Prompt, Request, TokenLogprobs};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Most prompts of a request.
const MOST_PROMPTS: usize = 2048;

/// The body.
#[derive(Debug, Deserialize)]
struct Completions {
    prompt: Option<Prompts>,
    suffix: Option<String>,
    echo: Option<bool>,
    logprobs: Option<usize>,
    #[serde(flatten)]
    params: Params,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, token ids, or a list of either")]
enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

impl Prompts {
    fn list(self) -> Vec<Prompt> {
        match self {
            Prompts::Text(text) => vec![Prompt::Text(text)],
            Prompts::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
            Prompts::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
            Prompts::ManyTokens(many) => many.into_iter().map(Prompt::Tokens).collect(),
        }
    }
}

/// What comes of a prompt, with its index among those of the request.
type Came = (usize, Update);

/// Continues texts.
///
/// # Errors
/// If the request can't be carried out.
pub async fn completions(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let asked: Completions = read(&body)?;
    let params = asked.params.clone();
    let tasks = [Task::Chat, Task::Completion];
    let (entry, model, adapter) = app.models.text(params.model.as_deref(), &tasks).await?;
    let mut prompts = asked.prompt.map_or_else(|| vec![Prompt::Text(String::new())], Prompts::list);
    if prompts.is_empty() || prompts.len() > MOST_PROMPTS {
        let message = format!("{} prompts, expected 1 to {MOST_PROMPTS}", prompts.len());
        return Err(ApiError::field("prompt", message));
    }
    let echo = asked.echo.unwrap_or(false);
    if let Some(top) = asked.logprobs.filter(|&top| top > MOST_LOGPROBS) {
        return Err(ApiError::field("logprobs", format!("{top}, expected 0 to {MOST_LOGPROBS}")));
    }
    for prompt in &mut prompts {
        if let Some(suffix) = asked.suffix.clone().filter(|suffix| !suffix.is_empty()) {
            let Prompt::Text(prefix) = std::mem::replace(prompt, Prompt::Tokens(vec![])) else {
                return Err(ApiError::field("suffix", "a suffix goes with a prompt of text"));
            };
            *prompt = Prompt::Infill { prefix, suffix };
        }
        if let Prompt::Text(text) = prompt {
            app.guard.prompt(text)?;
        }
    }
    let template = Request {
        adapter,
        logprobs: asked.logprobs,
        prompt_logprobs: asked.logprobs.filter(|_| echo),
        ..params.request(app.options.usual_completion)?
    };
    let n = template.n;
    let work = submit(&app, caller, &model, &template, &prompts);
    let shape = Shape {
        id: new_id("cmpl"),
        created: now(),
        name: entry.id.clone(),
        echoed: echo.then_some(prompts),
        tells_logprobs: asked.logprobs.is_some(),
        n,
    };
    let count = work.1 * n;
    if !params.streams() {
        return whole(&app, &model, &shape, work.0, count).await;
    }
    let mut came = work.0;
    let first = came.recv().await.unwrap_or((0, Update::TimedOut));
    if let Some(error) = refusal(&first.1) {
        return Err(error);
    }
    let (events, response) = events();
    let filters = (0..count).map(|_| app.guard.output()).collect();
    let offsets = vec![0; count];
    let tells_usage = params.tells_usage();
    let stream = Streaming { app, model, shape, events, filters, offsets, tells_usage };
    tokio::spawn(stream.run(first, came));
    Ok(response)
}

/// Hands all prompts over; what comes of them comes through one channel. Says how many there are.
fn submit(
    app: &Arc<App>,
    caller: Caller,
    model: &Arc<TextModel>,
    template: &Request,
    prompts: &[Prompt],
) -> (UnboundedReceiver<Came>, usize) {
    let (sender, receiver) = unbounded_channel();
    for (index, prompt) in prompts.iter().enumerate() {
        let request = Request { prompt: prompt.clone(), ..template.clone() };
        let mut work = app.work(caller, model, request);
        let sender = sender.clone();
        tokio::spawn(async move {
            loop {
                let update = tokio::select! {
                    update = work.recv() => update,
                    () = sender.closed() => return,
                };
                let Some(update) = update else { return };
                if sender.send((index, update)).is_err() {
                    return;
                }
            }
        });
    }
    (receiver, prompts.len())
}

/// What all pieces of an answer have in common.
struct Shape {
    id: String,
    created: u64,
    name: String,
    /// The prompts, if they are given back.
    echoed: Option<Vec<Prompt>>,
    tells_logprobs: bool,
    n: usize,
}

impl Shape {
    fn json(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "text_completion", "created": self.created, "model": self.name,
            "choices": choices,
        })
    }

    /// The text of a prompt that is given back, and its tokens.
    fn echo(&self, model: &TextModel, prompt: usize) -> Result<(String, Vec<u32>), ApiError> {
        let Some(prompts) = &self.echoed else { return Ok((String::new(), Vec::new())) };
        Ok(match &prompts[prompt] {
            Prompt::Text(text) => {
                let mut tokens =
                    model.tokenizer.encode_with_special(text).map_err(|e| ApiError::bad(e.to_string()))?;
                if let Some(bos) = model.special.prepend.filter(|bos| tokens.first() != Some(bos)) {
                    tokens.insert(0, bos);
                }
                (text.clone(), tokens)
            }
            Prompt::Tokens(tokens) => {
                let text = model.tokenizer.decode(tokens, false).map_err(|e| ApiError::bad(e.to_string()))?;
                (text, tokens.clone())
            }
            Prompt::Infill { prefix, .. } => (prefix.clone(), Vec::new()),
        })
    }

    /// The log-probabilities of a prompt that is given back, and of what follows it.
    fn logprobs(
        &self,
        model: &TextModel,
        echoed: &[u32],
        prompt: &[TokenLogprobs],
        offset: usize,
        output: &[TokenLogprobs],
    ) -> Lists {
        let mut lists = Lists::from(offset);
        if let Some(&first) = echoed.first() {
            lists.push_first(&model.tokenizer, first);
        }
        prompt.iter().chain(output).for_each(|one| lists.push_told(&model.tokenizer, one));
        lists
    }

    fn choice(&self, index: usize, text: String, logprobs: Option<Lists>, finish: Option<&str>) -> Value {
        let logprobs = logprobs.map(Lists::json);
        json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish })
    }
}

async fn whole(
    app: &App,
    model: &TextModel,
    shape: &Shape,
    mut came: UnboundedReceiver<Came>,
    count: usize,
) -> Result<Response, ApiError> {
    let mut choices = vec![Value::Null; count];
    let mut usage = Usage::default();
    let mut seen = vec![false; count / shape.n];
    for _ in 0..count {
        let (prompt, finished): (usize, Box<Finished>) = loop {
            match came.recv().await {
                Some((_, Update::Text { .. })) => {}
                Some((prompt, Update::Finished(finished))) => break (prompt, finished),
                Some((_, Update::Failed(error))) => return Err(error.into()),
                Some((_, Update::TimedOut)) | None => return Err(ApiError::timed_out()),
            }
        };
        usage.add(&finished, !std::mem::replace(&mut seen[prompt], true));
        let Finished { completion, prompt_logprobs, .. } = *finished;
        let completion = completion?;
        let index = prompt * shape.n + completion.sequence;
        let (mut text, echoed) = shape.echo(model, prompt)?;
        text += &app.guard.output().whole(completion.text)?;
        // With the token that ends the text: who asks for one token behind a prompt counts on one.
        let logprobs = shape
            .tells_logprobs
            .then(|| shape.logprobs(model, &echoed, &prompt_logprobs, 0, &completion.logprobs));
        choices[index] = shape.choice(index, text, logprobs, Some(finish_reason(completion.finish)));
    }
    app.metrics.tokens(usage.tokens());
    let mut json = shape.json(choices.into());
    (json["usage"], json["timings"]) = (usage.json(), usage.timings());
    Ok(answer(&json))
}

struct Streaming {
    app: Arc<App>,
    model: Arc<TextModel>,
    shape: Shape,
    events: Events,
    filters: Vec<Filter>,
    /// Characters given out of each choice.
    offsets: Vec<usize>,
    tells_usage: bool,
}

impl Streaming {
    async fn run(mut self, first: Came, mut came: UnboundedReceiver<Came>) {
        let mut usage = Usage::default();
        let count = self.filters.len();
        let mut seen = vec![false; count / self.shape.n];
        let mut done = 0;
        let mut next = Some(first);
        while let Some((prompt, update)) = next {
            let result = match update {
                Update::Text { sequence, text, logprobs } => self.text(prompt, sequence, &text, &logprobs),
                Update::Finished(finished) => {
                    usage.add(&finished, !std::mem::replace(&mut seen[prompt], true));
                    done += 1;
                    self.end(prompt, *finished)
                }
                Update::Failed(error) => Err(error.into()),
                Update::TimedOut => Err(ApiError::timed_out()),
            };
            if let Err(error) = result {
                return self.events.send(&error.json());
            }
            if done == count {
                break;
            }
            next = tokio::select! {
                came = came.recv() => came,
                () = self.events.is_gone() => return,
            };
        }
        self.app.metrics.tokens(usage.tokens());
        if self.tells_usage {
            let mut json = self.shape.json(json!([]));
            (json["usage"], json["timings"]) = (usage.json(), usage.timings());
            self.events.send(&json);
        }
        self.events.done();
    }

    fn text(
        &mut self,
        prompt: usize,
        sequence: usize,
        text: &str,
        logprobs: &[TokenLogprobs],
    ) -> Result<(), ApiError> {
        let index = prompt * self.shape.n + sequence;
        self.echo(prompt, index, &[])?;
        let text = self.filters[index].push(text)?;
        let told = self.shape.tells_logprobs.then(|| {
            let lists = self.shape.logprobs(&self.model, &[], &[], self.offsets[index], logprobs);
            self.offsets[index] = lists.offset();
            lists
        });
        if !text.is_empty() || told.is_some() {
            self.events.send(&self.shape.json(json!([self.shape.choice(index, text, told, None)])));
        }
        Ok(())
    }

    /// Gives the prompt back, before anything else of a choice.
    fn echo(&mut self, prompt: usize, index: usize, logprobs: &[TokenLogprobs]) -> Result<(), ApiError> {
        if self.shape.echoed.is_none() || self.offsets[index] > 0 {
            return Ok(());
        }
        let (text, tokens) = self.shape.echo(&self.model, prompt)?;
        self.offsets[index] = text.chars().count().max(1);
        let told = (self.shape.tells_logprobs && !logprobs.is_empty())
            .then(|| self.shape.logprobs(&self.model, &tokens, logprobs, 0, &[]));
        self.events.send(&self.shape.json(json!([self.shape.choice(index, text, told, None)])));
        Ok(())
    }

    fn end(&mut self, prompt: usize, finished: Finished) -> Result<(), ApiError> {
        let completion = finished.completion?;
        let index = prompt * self.shape.n + completion.sequence;
        self.echo(prompt, index, &finished.prompt_logprobs)?;
        let text = self.filters[index].finish()?;
        let finish = Some(finish_reason(completion.finish));
        self.events.send(&self.shape.json(json!([self.shape.choice(index, text, None, finish)])));
        Ok(())
    }
}
