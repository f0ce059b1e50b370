//! Training a vocabulary: byte-level byte-pair encoding, or one token a character.

use std::collections::BTreeSet;

use crate::alphabet;
use crate::count::Counter;
use crate::error::{Result, TokenizerError};
use crate::json::{self, BpeParts};
use crate::merge::merge_words;
use crate::pretokenize::PreTokenizer;
use crate::tokenizer::Tokenizer;

/// The special token that ends a document in tokenizers trained here. When it is among the special
/// tokens it becomes the tokenizer's beginning and end of sequence.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// The special tokens of encoders trained here, by BERT's names. Where all are among the special tokens, they get
/// their roles, and `tokenizer.json` puts `[CLS]` in front of a text and `[SEP]` behind each.
pub const ENCODER_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", CLS, SEP, "[MASK]"];
const CLS: &str = "[CLS]";
const SEP: &str = "[SEP]";
/// The special token that becomes the padding token when it is among the special tokens.
const PAD: &str = "<|pad|>";
/// The special token that [`train_chars`] takes as the unknown token when it is among the special tokens.
const UNK: &str = "<|unk|>";

/// Trains a byte-level BPE tokenizer in bounded memory.
///
/// Words (by the pre-tokenizer) are counted as the text streams by; only the distinct words are
/// kept, and merging works on those. Should they ever need more than [`Self::memory_bytes`], the
/// rarest are dropped (those seen once, then at most twice, then four times, …) until half of it
/// is free. Ids: the 256 bytes, the merges, then the special tokens. Equal texts give equal
/// tokenizers whatever the number of threads.
#[derive(Debug, Clone)]
pub struct BpeTrainer {
    /// Number of tokens wanted, bytes and special tokens included. Text with too few repetitions
    /// gives fewer; [`Tokenizer::vocab_size`] tells.
    pub vocab_size: usize,
    /// How text is cut into words, across which nothing is merged.
    pub pre_tokenizer: PreTokenizer,
    /// Special tokens, which get the last ids in this order. [`END_OF_TEXT`] and `<|pad|>`, or
    /// all of [`ENCODER_TOKENS`], get their roles by name.
    pub special_tokens: Vec<String>,
    /// A pair is merged only if it occurs at least so often.
    pub min_frequency: u64,
    /// Bound on the memory of the distinct words, about 200 MB by default.
    pub memory_bytes: usize,
}

/// How far a training has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainProgress {
    /// Reading the text.
    Counting {
        /// Bytes of text so far.
        bytes: u64,
        /// Texts so far.
        texts: u64,
        /// Distinct words kept.
        words: usize,
        /// Rare words dropped to stay within the memory bound.
        pruned: u64,
    },
    /// Building the vocabulary.
    Merging {
        /// Tokens so far.
        tokens: usize,
        /// Tokens wanted.
        of: usize,
    },
}

impl BpeTrainer {
    /// A trainer with [`END_OF_TEXT`] as its one special token, merging pairs that occur twice.
    pub fn new(vocab_size: usize, pre_tokenizer: PreTokenizer) -> Self {
        Self {
            vocab_size,
            pre_tokenizer,
            special_tokens: vec![END_OF_TEXT.to_string()],
            min_frequency: 2,
            memory_bytes: 200_000_000,
        }
    }

    /// Trains on `texts`, each cut into words on its own.
    pub fn train<E>(
        &self,
        texts: impl Iterator<Item = Result<String, E>>,
        mut progress: impl FnMut(TrainProgress),
    ) -> Result<Tokenizer>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        check_specials(&self.special_tokens)?;
        let needed = 256 + self.special_tokens.len();
        if self.vocab_size < needed {
            let (asked, specials) = (self.vocab_size, self.special_tokens.len());
            return Err(TokenizerError::VocabularyTooSmall { asked, specials, needed });
        }
        let mut counter = Counter::new(self.pre_tokenizer, self.memory_bytes);
        for text in texts {
            let text = text.map_err(|error| TokenizerError::Text(error.into()))?;
            if counter.push(text)? {
                let words = counter.words();
                let Counter { bytes, texts, pruned, .. } = counter;
                progress(TrainProgress::Counting { bytes, texts, words, pruned });
            }
        }
        if counter.bytes == 0 {
            return Err(TokenizerError::EmptyCorpus);
        }
        let of = self.vocab_size - self.special_tokens.len();
        let words = counter.finish()?;
        let merged = merge_words(words, of, self.min_frequency, |tokens| {
            progress(TrainProgress::Merging { tokens, of })
        });
        let mut tokens: Vec<String> = merged.tokens.iter().map(|bytes| alphabet::escape(bytes)).collect();
        let merges = merged
            .merges
            .iter()
            .map(|&(left, right)| (tokens[left as usize].clone(), tokens[right as usize].clone()))
            .collect();
        let special_ids = (tokens.len() as u32..).take(self.special_tokens.len()).collect();
        tokens.extend(self.special_tokens.iter().cloned());
        let parts = BpeParts {
            tokens,
            merges,
            pre_tokenizer: self.pre_tokenizer,
            special_ids,
            added_ids: Vec::new(),
            // llama.cpp takes a whole word that is in the vocabulary as it is under this name.
            ignore_merges: self.pre_tokenizer == PreTokenizer::LlamaBpe,
        };
        let roles = roles_by_name(&self.special_tokens);
        if !is_for_encoders(&self.special_tokens) {
            return Tokenizer::from_bpe_parts(&parts, roles);
        }
        let id = |token: &str| parts.tokens.iter().position(|known| known == token).unwrap_or_default();
        let surround = json::surround((CLS, id(CLS)), (SEP, id(SEP)));
        let text = parts.to_json_with(self.pre_tokenizer.to_json(), surround);
        Tokenizer::from_json_text(text, std::path::Path::new("<trained>"), roles)
    }
}

/// Makes a tokenizer with one token for each character of the texts, ids in order of code point,
/// and `special_tokens` after them (nanoGPT's character setting).
///
/// Encoding a character that did not occur is an error, unless `<|unk|>` is among the special
/// tokens and stands for it.
pub fn train_chars<E>(
    texts: impl Iterator<Item = Result<String, E>>,
    special_tokens: &[String],
) -> Result<Tokenizer>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    check_specials(special_tokens)?;
    let mut characters = BTreeSet::new();
    for text in texts {
        let text = text.map_err(|error| TokenizerError::Text(error.into()))?;
        let mut last = None;
        for character in text.chars() {
            if last != Some(character) {
                characters.insert(character);
                last = Some(character);
            }
        }
    }
    if characters.is_empty() {
        return Err(TokenizerError::EmptyCorpus);
    }
    let characters: Vec<char> = characters.into_iter().collect();
    let unk = special_tokens.iter().find(|token| *token == UNK).cloned();
    let text = json::chars_json(&characters, special_tokens, unk.as_deref());
    let mut config = roles_by_name(special_tokens);
    if let Some(unk) = unk {
        config.insert("unk_token".to_string(), unk.into());
    }
    Tokenizer::from_json_text(text, std::path::Path::new("<trained>"), config)
}

fn check_specials(tokens: &[String]) -> Result<()> {
    for (index, token) in tokens.iter().enumerate() {
        let problem = if token.chars().count() < 2 {
            "a special token needs at least two characters"
        } else if tokens[..index].contains(token) {
            "given twice"
        } else {
            continue;
        };
        return Err(TokenizerError::BadSpecial { token: token.clone(), problem });
    }
    Ok(())
}

fn is_for_encoders(special_tokens: &[String]) -> bool {
    ENCODER_TOKENS.iter().all(|token| special_tokens.iter().any(|known| known == token))
}

fn roles_by_name(special_tokens: &[String]) -> serde_json::Map<String, serde_json::Value> {
    let mut config = serde_json::Map::new();
    let has = |name: &str| special_tokens.iter().any(|token| token == name);
    if has(END_OF_TEXT) {
        config.insert("bos_token".to_string(), END_OF_TEXT.into());
        config.insert("eos_token".to_string(), END_OF_TEXT.into());
    }
    if has(PAD) {
        config.insert("pad_token".to_string(), PAD.into());
    }
    if is_for_encoders(special_tokens) {
        for (role, token) in ["pad", "unk", "cls", "sep", "mask"].iter().zip(ENCODER_TOKENS) {
            config.insert(format!("{role}_token"), token.into());
        }
        // A document ends with a separator in a shard, too.
        config.insert("bos_token".to_string(), CLS.into());
        config.insert("eos_token".to_string(), SEP.into());
    }
    config
}
