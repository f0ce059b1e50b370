//! How text is cut into words before merging: the three splits that llama.cpp knows by name.
//!
//! A tokenizer trained here uses one of these, so that a GGUF made from it means the same ids in
//! llama.cpp. The regular expressions are those of the published models; the pipeline recognises
//! each and runs a hand-made splitter instead of a regex engine.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};
use tokenizers::SplitDelimiterBehavior;
use tokenizers::pipeline::{PreTokenizer as _, PreTokenizerScratch, Span};
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

use crate::error::{Result, TokenizerError};

/// A pre-tokenizer by the name llama.cpp gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PreTokenizer {
    /// `gpt-2`: a word takes the space before it; runs of letters, of digits, of the rest.
    Gpt2,
    /// `llama-bpe`: as cl100k and Llama 3: digits in groups of up to three, case-blind
    /// contractions, newlines kept apart.
    LlamaBpe,
    /// `qwen2`: as `llama-bpe`, with each digit alone.
    Qwen2,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA_BPE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl PreTokenizer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gpt2, Self::LlamaBpe, Self::Qwen2];

    /// The name that llama.cpp's `tokenizer.ggml.pre` uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt-2",
            Self::LlamaBpe => "llama-bpe",
            Self::Qwen2 => "qwen2",
        }
    }

    /// The regular expression whose matches are the words.
    pub const fn regex(self) -> &'static str {
        match self {
            Self::Gpt2 => GPT2,
            Self::LlamaBpe => LLAMA_BPE,
            Self::Qwen2 => QWEN2,
        }
    }

    /// The words of `text`, in order; joined they are the text.
    pub fn split(self, text: &str) -> Result<Vec<&str>> {
        let mut splitter = Splitter::new(self);
        let mut words = Vec::new();
        splitter.for_each(text, |word| words.push(word))?;
        Ok(words)
    }

    /// The `pre_tokenizer` object of a `tokenizer.json`.
    pub(crate) fn to_json(self) -> Value {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        match self {
            Self::Gpt2 => byte_level(true),
            Self::LlamaBpe | Self::Qwen2 => json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": self.regex()}, "behavior": "Isolated", "invert": false},
                byte_level(false),
            ]}),
        }
    }

    /// Recognises a canonical `pre_tokenizer` object, in which a byte-level one has become a split.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let split = match value.get("pretokenizers").and_then(Value::as_array) {
            Some(members) if members.len() == 1 => &members[0],
            Some(_) => return None,
            None => value,
        };
        let regex = split.get("pattern")?.get("Regex")?.as_str()?;
        Self::ALL.into_iter().find(|pre| pre.regex() == regex)
    }
}

impl fmt::Display for PreTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PreTokenizer {
    type Err = TokenizerError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|pre| pre.name() == name)
            .ok_or_else(|| TokenizerError::UnknownPreTokenizer { name: name.to_string() })
    }
}

/// A [`PreTokenizer`] with the buffers it works in, one a thread.
pub(crate) struct Splitter {
    split: Split,
    scratch: PreTokenizerScratch,
    spans: Vec<Span>,
}

impl Splitter {
    pub(crate) fn new(pre: PreTokenizer) -> Self {
        let pattern = SplitPattern::Regex(pre.regex().to_string());
        let split = Split::native(pattern, SplitDelimiterBehavior::Isolated, false)
            .expect("a native split compiles no regular expression, so it cannot fail");
        Self { split, scratch: PreTokenizerScratch::default(), spans: Vec::new() }
    }

    /// Calls `visit` with each word of `text`.
    pub(crate) fn for_each<'t>(&mut self, text: &'t str, mut visit: impl FnMut(&'t str)) -> Result<()> {
        if text.len() > u32::MAX as usize {
            return Err(TokenizerError::Encode(format!(
                "a text of {} bytes is over the limit of {} bytes",
                text.len(),
                u32::MAX
            )));
        }
        self.spans.clear();
        self.split
            .pre_tokenize(text, &mut self.scratch, &mut self.spans)
            .map_err(|error| TokenizerError::Encode(error.to_string()))?;
        for span in &self.spans {
            visit(&text[span.range()]);
        }
        Ok(())
    }
}
