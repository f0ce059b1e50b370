//! Which tokens begin and end a text, as the model's files say.

use crate::error::{EngineError, Result};
use crate::infill::InfillTokens;
use hearth_tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// GPT-2's separator, which begins and ends its texts.
const END_OF_TEXT: &str = "<|endoftext|>";

/// The tokens that begin and end a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialRules {
    /// Put in front of each prompt that is given as text.
    pub prepend: Option<u32>,
    /// What an empty prompt starts from: `bos`, else `eos` (GPT-2 has one token for both), else
    /// `<|endoftext|>`.
    pub start: Option<u32>,
    /// Any of these ends the generation.
    pub ends: Vec<u32>,
    /// What fills in middles, where the model can do that; the padding and the separators among them are ends too.
    pub infill: InfillTokens,
}

impl SpecialRules {
    /// The rules of a tokenizer alone.
    ///
    /// `bos` is prepended if `tokenizer_config.json` has `add_bos_token: true`; where it doesn't say,
    /// if the template of `tokenizer.json`'s post-processor begins with it (as Llama 3's does).
    pub fn of_tokenizer(tokenizer: &Tokenizer) -> Self {
        let rules = Self::without_infill(tokenizer);
        rules.with_infill(InfillTokens::of_tokenizer(tokenizer))
    }

    fn without_infill(tokenizer: &Tokenizer) -> Self {
        let (bos, eos) = (tokenizer.bos(), tokenizer.eos());
        let add_bos = match tokenizer.config().get("add_bos_token").and_then(Value::as_bool) {
            Some(says) => says,
            None => bos.is_some() && first_of_template(tokenizer) == bos,
        };
        SpecialRules {
            prepend: bos.filter(|_| add_bos),
            start: bos.or(eos).or_else(|| tokenizer.id_of(END_OF_TEXT)),
            ends: eos.into_iter().collect(),
            infill: InfillTokens::default(),
        }
    }

    /// The same with those tokens, in place of others; each end once, in order.
    pub(crate) fn with_infill(mut self, infill: InfillTokens) -> Self {
        self.ends.extend(infill.ends());
        self.ends.sort_unstable();
        self.ends.dedup();
        SpecialRules { infill, ..self }
    }

    /// The rules of a model folder: the tokenizer's, and the ends that `generation_config.json`
    /// lists (a chat model may have several); `config.json`'s if there are no others.
    pub fn of_folder(dir: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let mut rules = Self::without_infill(tokenizer);
        rules.ends.extend(ends_in(&dir.join("generation_config.json"))?);
        if rules.ends.is_empty() {
            rules.ends = ends_in(&dir.join("config.json"))?;
        }
        Ok(rules.with_infill(InfillTokens::of_tokenizer(tokenizer)))
    }
}

/// `eos_token_id` of a file that may be absent: nothing, an id, or a list of ids.
fn ends_in(path: &Path) -> Result<Vec<u32>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let bad = |problem: String| EngineError::BadFile { path: path.to_owned(), problem };
    let json: Value = serde_json::from_str(&fs_err::read_to_string(path)?)
        .map_err(|error| bad(format!("not JSON: {error}")))?;
    let id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| bad(format!("eos_token_id is {value}, expected a token id or a list of them")))
    };
    match &json["eos_token_id"] {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => list.iter().map(id).collect(),
        one => Ok(vec![id(one)?]),
    }
}

/// The part of `tokenizer.json` that says what surrounds a text.
#[derive(Deserialize)]
struct TokenizerFile {
    post_processor: Option<Value>,
}

/// The special token that a post-processor puts first.
fn first_of_template(tokenizer: &Tokenizer) -> Option<u32> {
    template(tokenizer)?.0.first().copied()
}

/// The special tokens that `tokenizer.json` puts before and after a text; none where it puts none.
pub(crate) fn frame(tokenizer: &Tokenizer) -> (Vec<u32>, Vec<u32>) {
    template(tokenizer).unwrap_or_default()
}

fn template(tokenizer: &Tokenizer) -> Option<(Vec<u32>, Vec<u32>)> {
    let json = tokenizer.json();
    // Most tokenizers have none; looking for the words spares parsing megabytes of vocabulary.
    if !["TemplateProcessing", "BertProcessing", "RobertaProcessing"].iter().any(|kind| json.contains(kind)) {
        return None;
    }
    let processor = serde_json::from_str::<TokenizerFile>(json).ok()?.post_processor?;
    let parts = processor.get("processors").and_then(Value::as_array);
    for part in std::iter::once(&processor).chain(parts.into_iter().flatten()) {
        let id = |token: &Value| tokenizer.id_of(token.as_str()?);
        match part["type"].as_str() {
            Some("BertProcessing" | "RobertaProcessing") => {
                return Some((vec![id(&part["cls"][0])?], vec![id(&part["sep"][0])?]));
            }
            Some("TemplateProcessing") => {
                let pieces = part["single"].as_array()?;
                let text = pieces.iter().position(|piece| piece.get("Sequence").is_some())?;
                let ids = |pieces: &[Value]| -> Option<Vec<u32>> {
                    pieces.iter().map(|p| id(&p["SpecialToken"]["id"])).collect()
                };
                return Some((ids(&pieces[..text])?, ids(&pieces[text + 1..])?));
            }
            _ => {}
        }
    }
    None
}
