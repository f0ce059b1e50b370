//! `POST /v1/embeddings`.

use crate::api::{answer, read};
use crate::app::App;
use crate::error::ApiError;
use crate::models::{Model, Task, lock};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Most texts of a request.
const MOST_TEXTS: usize = 2048;

#[derive(Debug, Deserialize)]
struct Asked {
    model: Option<String>,
    input: Input,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, token ids, or a list of either")]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

/// Makes vectors of texts.
///
/// # Errors
/// If the request can't be carried out.
pub async fn embeddings(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, ApiError> {
    let asked: Asked = read(&body)?;
    let entry = app.models.entry(asked.model.as_deref(), &[Task::Embedding])?;
    let Model::Embedding(model) = app.models.open(entry).await? else {
        return Err(ApiError::field("model", "the model makes no vectors").code("wrong_model"));
    };
    let as_base64 = match asked.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(ApiError::field("encoding_format", "expected float or base64")),
    };
    let run = move || {
        let mut model = lock(&model);
        let dim = model.dim();
        let kept = asked.dimensions.unwrap_or(dim);
        if kept == 0 || kept > dim {
            return Err(ApiError::field("dimensions", format!("{kept}, expected 1 to {dim}")));
        }
        let sequences: Vec<Vec<u32>> = match asked.input {
            Input::Tokens(tokens) => vec![tokens],
            Input::ManyTokens(many) => many,
            texts => {
                let texts = match texts {
                    Input::Text(text) => vec![text],
                    Input::Texts(texts) => texts,
                    Input::Tokens(_) | Input::ManyTokens(_) => Vec::new(),
                };
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                model.sequences(&texts)?.into_iter().map(|framed| framed.ids).collect()
            }
        };
        if sequences.is_empty() || sequences.len() > MOST_TEXTS {
            let message = format!("{} texts, expected 1 to {MOST_TEXTS}", sequences.len());
            return Err(ApiError::field("input", message));
        }
        let longest = model.max_tokens();
        if let Some(at) = sequences.iter().position(|tokens| tokens.is_empty() || tokens.len() > longest) {
            let message = format!("text {at} has {} tokens, expected 1 to {longest}", sequences[at].len());
            return Err(ApiError::field("input", message));
        }
        let tokens: usize = sequences.iter().map(Vec::len).sum();
        let mut vectors = model.embed_sequences(&sequences, |_| ControlFlow::Continue(()))?;
        if kept < dim {
            vectors.iter_mut().for_each(|vector| shorten(vector, kept));
        }
        Ok((vectors, tokens))
    };
    let (vectors, tokens) =
        tokio::task::spawn_blocking(run).await.map_err(|error| ApiError::internal(error.to_string()))??;
    app.metrics.tokens((tokens, 0));
    let one = |(index, vector): (usize, Vec<f32>)| {
        let embedding: Value = match as_base64 {
            true => STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).into(),
            false => vector.into(),
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    let data: Vec<Value> = vectors.into_iter().enumerate().map(one).collect();
    Ok(answer(&json!({
        "object": "list",
        "model": entry.id,
        "data": data,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    })))
}

/// The first values of a vector, of length 1 again.
fn shorten(vector: &mut Vec<f32>, kept: usize) {
    vector.truncate(kept);
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}
