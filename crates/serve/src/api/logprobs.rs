//! Log-probabilities in the two shapes of OpenAI's API.

use hearth_engine::{Logprob, TokenLogprobs};
use hearth_tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

/// A token as text; one that is no whole character by its bytes, so that no two tokens look alike.
fn text_of(tokenizer: &Tokenizer, token: u32) -> String {
    let bytes = tokenizer.token_bytes(token).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| text + &format!("\\x{byte:02x}")),
    }
}

/// Minus infinity has no place in JSON; OpenAI writes this for it.
fn finite(logprob: f64) -> f64 {
    logprob.max(-9999.0)
}

/// As chat completions have them.
pub fn of_chat(tokenizer: &Tokenizer, logprobs: &[TokenLogprobs]) -> Value {
    let one = |l: &Logprob| {
        let bytes = tokenizer.token_bytes(l.token).unwrap_or_default();
        json!({ "token": text_of(tokenizer, l.token), "logprob": finite(l.logprob), "bytes": bytes })
    };
    let content = logprobs.iter().map(|logprobs| {
        let mut token = one(&logprobs.chosen);
        token["top_logprobs"] = logprobs.top.iter().map(one).collect();
        token
    });
    json!({ "content": content.collect::<Vec<Value>>(), "refusal": null })
}

/// As completions have them, a list for each thing that is told.
#[derive(Debug, Default)]
pub struct Lists {
    tokens: Vec<Value>,
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<Value>,
    /// Characters so far.
    offset: usize,
}

impl Lists {
    /// Lists of tokens from this place in the text on.
    pub fn from(offset: usize) -> Self {
        Lists { offset, ..Lists::default() }
    }

    /// A token that nothing predicted: the first.
    pub fn push_first(&mut self, tokenizer: &Tokenizer, token: u32) {
        self.push(tokenizer, token, Value::Null, Value::Null);
    }

    /// A token and the likeliest ones.
    pub fn push_told(&mut self, tokenizer: &Tokenizer, logprobs: &TokenLogprobs) {
        let mut top: Map<String, Value> = Map::new();
        for one in &logprobs.top {
            top.insert(text_of(tokenizer, one.token), finite(one.logprob).into());
        }
        let Logprob { token, logprob } = logprobs.chosen;
        self.push(tokenizer, token, finite(logprob).into(), Value::Object(top));
    }

    fn push(&mut self, tokenizer: &Tokenizer, token: u32, logprob: Value, top: Value) {
        let text = text_of(tokenizer, token);
        self.text_offset.push(self.offset.into());
        self.offset += text.chars().count();
        self.tokens.push(text.into());
        self.token_logprobs.push(logprob);
        self.top_logprobs.push(top);
    }

    /// Characters up to here.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// OpenAI's `logprobs`.
    pub fn json(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        })
    }
}
