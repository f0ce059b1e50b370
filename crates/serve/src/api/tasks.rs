//! `POST /v1/classify` and `/v1/tag`: what `hearth finetune` made.

use crate::api::params::OneOrMany;
use crate::api::{answer, read};
use crate::app::App;
use crate::error::ApiError;
use crate::models::{Model, Task, lock};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use hearth_engine::{Problem, TextPair, highest};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Most texts of a request.
const MOST_TEXTS: usize = 2048;

#[derive(Debug, Deserialize)]
struct Texts {
    model: Option<String>,
    input: OneOrMany,
    /// Second texts, where the model judges pairs.
    pair: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
struct Sentences {
    model: Option<String>,
    /// The words of each sentence.
    input: Vec<Vec<String>>,
}

fn check(count: usize) -> Result<(), ApiError> {
    match count {
        1..=MOST_TEXTS => Ok(()),
        _ => Err(ApiError::field("input", format!("{count} texts, expected 1 to {MOST_TEXTS}"))),
    }
}

/// The labels of texts.
///
/// # Errors
/// If the request can't be carried out.
pub async fn classify(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, ApiError> {
    let Texts { model: name, input, pair } = read(&body)?;
    let entry = app.models.entry(name.as_deref(), &[Task::Classify])?;
    let Model::Classify(model) = app.models.open(entry).await? else {
        return Err(ApiError::field("model", "the model gives no labels").code("wrong_model"));
    };
    let (first, second) = (input.list(), pair.map(OneOrMany::list));
    check(first.len())?;
    if second.as_ref().is_some_and(|second| second.len() != first.len()) {
        return Err(ApiError::field("pair", "expected as many second texts as first ones"));
    }
    let run = move || {
        let texts: Vec<TextPair> = first
            .iter()
            .enumerate()
            .map(|(i, text)| (text.as_str(), second.as_ref().map(|second| second[i].as_str())))
            .collect();
        let mut model = lock(&model);
        let found = model.classify(&texts, |_| ControlFlow::Continue(()))?;
        let (labels, problem) = (model.labels(), model.problem());
        let one = |(index, scores): (usize, &Vec<f32>)| match problem {
            Problem::Regression => json!({ "index": index, "value": scores[0] }),
            _ => {
                let named: Map<String, Value> =
                    labels.iter().cloned().zip(scores.iter().map(|&score| score.into())).collect();
                let label: Value = match problem {
                    Problem::MultiLabel => {
                        let held = labels.iter().zip(scores).filter(|(_, score)| **score > 0.5);
                        held.map(|(label, _)| label.as_str()).collect::<Vec<_>>().into()
                    }
                    _ => labels[highest(scores)].as_str().into(),
                };
                json!({ "index": index, "label": label, "scores": named })
            }
        };
        Ok::<_, ApiError>(found.scores.iter().enumerate().map(one).collect::<Vec<Value>>())
    };
    let data =
        tokio::task::spawn_blocking(run).await.map_err(|error| ApiError::internal(error.to_string()))??;
    Ok(answer(&json!({ "object": "list", "model": entry.id, "data": data })))
}

/// The tags of words.
///
/// # Errors
/// If the request can't be carried out.
pub async fn tag(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, ApiError> {
    let Sentences { model: name, input } = read(&body)?;
    let entry = app.models.entry(name.as_deref(), &[Task::Tag])?;
    let Model::Tag(model) = app.models.open(entry).await? else {
        return Err(ApiError::field("model", "the model gives no tags").code("wrong_model"));
    };
    check(input.len())?;
    let run = move || {
        let sentences: Vec<&[String]> = input.iter().map(Vec::as_slice).collect();
        let mut model = lock(&model);
        let tags = model.tag(&sentences, |_| ControlFlow::Continue(()))?;
        let labels = model.labels();
        let one = |(index, (words, tags)): (usize, (&Vec<String>, &Vec<usize>))| {
            let tags: Vec<&str> = tags.iter().map(|&tag| labels[tag].as_str()).collect();
            json!({ "index": index, "words": words, "tags": tags })
        };
        Ok::<_, ApiError>(input.iter().zip(&tags).enumerate().map(one).collect::<Vec<Value>>())
    };
    let data =
        tokio::task::spawn_blocking(run).await.map_err(|error| ApiError::internal(error.to_string()))??;
    Ok(answer(&json!({ "object": "list", "model": entry.id, "data": data })))
}
