//! What requests for text have in common: how tokens are drawn, and where a text ends.

use crate::error::ApiError;
use hearth_engine::{Constraint, Request, Sampling};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Most continuations of a prompt.
const MOST_N: usize = 64;
/// Most texts that end a continuation.
const MOST_STOPS: usize = 16;
/// Most of the likeliest tokens that are told.
pub const MOST_LOGPROBS: usize = 20;
/// Bytes of a schema.
const SCHEMA_BYTES: usize = 256 << 10;

/// Settings by OpenAI's names, and those of others that have become usual.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Params {
    /// The model.
    pub model: Option<String>,
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// Only the likeliest tokens that reach this probability together.
    pub top_p: Option<f32>,
    /// Only so many of the likeliest tokens.
    pub top_k: Option<usize>,
    /// Only tokens at least this share as likely as the likeliest.
    pub min_p: Option<f32>,
    /// Tokens that have occurred become less likely.
    #[serde(alias = "repetition_penalty")]
    pub repeat_penalty: Option<f32>,
    /// Tokens become less likely each time that they are drawn.
    pub frequency_penalty: Option<f32>,
    /// Tokens that were drawn become less likely.
    pub presence_penalty: Option<f32>,
    /// Decides every draw; a random one if none is given.
    pub seed: Option<i64>,
    /// Continuations.
    pub n: Option<usize>,
    /// Most tokens to write.
    pub max_tokens: Option<usize>,
    /// The newer name.
    pub max_completion_tokens: Option<usize>,
    /// A continuation ends before any of these.
    pub stop: Option<OneOrMany>,
    /// Added to logits, by token id.
    pub logit_bias: Option<BTreeMap<String, f32>>,
    /// Go on after the token that ends a text.
    pub ignore_eos: Option<bool>,
    /// Answer piece by piece.
    pub stream: Option<bool>,
    /// How.
    pub stream_options: Option<StreamOptions>,
    /// What the output must be.
    pub response_format: Option<Value>,
}

/// A text, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of texts")]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    pub fn list(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}

/// How a stream is made.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct StreamOptions {
    /// Tokens that it took, at its end.
    pub include_usage: Option<bool>,
}

impl Params {
    /// Whether the answer comes piece by piece.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether a stream ends with what it took.
    pub fn tells_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// Continuations of each prompt.
    pub fn n(&self) -> usize {
        self.n.unwrap_or(1)
    }

    /// A request with an empty prompt; `usual` tokens where the number isn't given.
    ///
    /// # Errors
    /// If a setting is outside its range.
    pub fn request(&self, usual: usize) -> Result<Request, ApiError> {
        let n = self.n();
        if !(1..=MOST_N).contains(&n) {
            return Err(ApiError::field("n", format!("n is {n}, expected 1 to {MOST_N}")));
        }
        let stop = self.stop.clone().map(OneOrMany::list).unwrap_or_default();
        if stop.len() > MOST_STOPS {
            return Err(ApiError::field(
                "stop",
                format!("{} texts, expected at most {MOST_STOPS}", stop.len()),
            ));
        }
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            min_p: self.min_p.unwrap_or(0.0),
            repetition_penalty: self.repeat_penalty.unwrap_or(1.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            logit_bias: biases(self.logit_bias.as_ref())?,
            seed: self.seed.map_or_else(rand::random, |seed| seed as u64),
            ..Sampling::default()
        };
        Ok(Request {
            sampling,
            stop: stop.into_iter().filter(|text| !text.is_empty()).collect(),
            n,
            ignore_eos: self.ignore_eos.unwrap_or(false),
            constraint: constraint(self.response_format.as_ref())?,
            ..Request::new("", self.max_completion_tokens.or(self.max_tokens).unwrap_or(usual))
        })
    }
}

/// OpenAI's biases go from -100, which rules a token out, to 100.
fn biases(given: Option<&BTreeMap<String, f32>>) -> Result<HashMap<u32, f32>, ApiError> {
    let mut biases = HashMap::new();
    for (id, &bias) in given.into_iter().flatten() {
        let field = || format!("logit_bias.{id}");
        let id: u32 = id.parse().map_err(|_| ApiError::field(field(), "expected a token id"))?;
        if !(-100.0..=100.0).contains(&bias) {
            return Err(ApiError::field(field(), format!("the bias is {bias}, expected -100 to 100")));
        }
        biases.insert(id, if bias == -100.0 { f32::NEG_INFINITY } else { bias });
    }
    Ok(biases)
}

/// What `response_format` holds the output to.
fn constraint(format: Option<&Value>) -> Result<Option<Constraint>, ApiError> {
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(None) };
    let schema = match format["type"].as_str() {
        Some("text") => return Ok(None),
        Some("json_object") => json!({ "type": "object" }),
        Some("json_schema") => match &format["json_schema"]["schema"] {
            schema @ (Value::Object(_) | Value::Bool(_)) => schema.clone(),
            _ => return Err(ApiError::field("response_format.json_schema.schema", "expected a JSON schema")),
        },
        _ => {
            let expected = "expected text, json_object or json_schema";
            return Err(ApiError::field("response_format.type", expected));
        }
    };
    if schema.to_string().len() > SCHEMA_BYTES {
        let message = format!("the schema is larger than {SCHEMA_BYTES} bytes");
        return Err(ApiError::field("response_format.json_schema.schema", message));
    }
    Ok(Some(Constraint::JsonSchema(schema)))
}
