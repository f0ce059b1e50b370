//! The engine: a model ready to run, its tokenizer, and the rules for special tokens.

use crate::adapters::AdapterSlot;
use crate::constraint::Grammars;
use crate::convert::ModelFiles;
use crate::error::{EngineError, Result};
use crate::generate::Prompt;
use crate::prefixes::Prefixes;
use crate::special::SpecialRules;
use crate::speculative::Speculation;
use hearth_model::source::Source;
use hearth_model::{CacheType, Decoder, DecoderConfig, ModelError, Runner, Weights};
use hearth_tokenizer::Tokenizer;
use std::path::Path;
use std::sync::OnceLock;

/// A model with its tokenizer.
#[derive(Debug)]
pub struct Engine {
    pub(crate) runner: Runner,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) special: SpecialRules,
    /// Sequences that ended: the next prompt may begin with one of them.
    pub(crate) prefixes: Prefixes,
    /// What requests may go through.
    pub(crate) adapters: Vec<AdapterSlot>,
    /// Made when the first constraint comes: it takes a walk through the whole vocabulary.
    pub(crate) grammars: OnceLock<Grammars>,
    /// Where drafts come from, if there are any.
    pub(crate) speculation: Option<Speculation>,
}

impl Engine {
    /// Opens a model: a GGUF file, or a folder in the Hugging Face layout.
    ///
    /// # Errors
    /// If a file is missing or doesn't hold what it should, or if the tokenizer has more entries than
    /// the model's vocabulary. (Fewer are fine: vocabularies are often rounded up. Ids without a token
    /// are never sampled.)
    pub fn open(path: &Path) -> Result<Self> {
        let ModelFiles { decoder, source, tokenizer, special, .. } = ModelFiles::open(path)?;
        Self::assemble(&path.display().to_string(), decoder, source.as_ref(), tokenizer, special)
    }

    /// Puts an engine together from parts, to draw samples while a model is trained. The weights are
    /// copied.
    ///
    /// # Errors
    /// If the tokenizer has more entries than the model's vocabulary.
    pub fn new(decoder: Decoder, weights: &Weights, tokenizer: Tokenizer) -> Result<Self> {
        let special = SpecialRules::of_tokenizer(&tokenizer);
        Self::assemble("engine", decoder, weights, tokenizer, special)
    }

    fn assemble(
        place: &str,
        decoder: Decoder,
        source: &dyn Source,
        tokenizer: Tokenizer,
        special: SpecialRules,
    ) -> Result<Self> {
        check_vocabulary(place, &tokenizer, decoder.config().vocab_size)?;
        let runner = Runner::new(decoder, source)?;
        Ok(Engine {
            runner,
            tokenizer,
            special,
            prefixes: Prefixes::new(1),
            adapters: Vec::new(),
            grammars: OnceLock::new(),
            speculation: None,
        })
    }

    /// The model, ready to run.
    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    /// The model, to run it without text (as a benchmark does).
    pub fn runner_mut(&mut self) -> &mut Runner {
        &mut self.runner
    }

    /// What sequences made from now on keep keys and values in; see [`Runner::set_cache_type`].
    pub fn set_cache_type(&mut self, cache_type: CacheType) {
        self.runner.set_cache_type(cache_type);
        self.prefixes = Prefixes::new(self.prefixes.most());
    }

    /// Keeps up to `most` sequences that ended, for prompts that begin like them; one unless this is called. Those kept
    /// so far are dropped.
    pub fn keep_prefixes(&mut self, most: usize) {
        self.prefixes = Prefixes::new(most);
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens that begin and end a text.
    pub fn special(&self) -> &SpecialRules {
        &self.special
    }

    /// The model's configuration.
    pub fn config(&self) -> &DecoderConfig {
        self.runner.decoder().config()
    }

    /// The most tokens that are taken in: a prompt, and its continuation but for the last token.
    pub fn context(&self) -> usize {
        self.config().max_positions
    }

    /// The tokens that a prompt given as text stands for: special tokens that are spelled out in it
    /// are recognised, `bos` comes first if the files say so (once, should the text begin with it
    /// already), and an empty text becomes [`SpecialRules::start`].
    ///
    /// # Errors
    /// If a character has no token, or if the text is empty and nothing can begin one.
    pub fn prompt_tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode_with_special(text)?;
        if let Some(bos) = self.special.prepend.filter(|bos| tokens.first() != Some(bos)) {
            tokens.insert(0, bos);
        }
        self.or_start(tokens)
    }

    /// The tokens of a prompt of any kind; each has a row in the model.
    pub(crate) fn tokens_of(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        let tokens = match prompt {
            Prompt::Text(text) => self.prompt_tokens(text)?,
            Prompt::Tokens(tokens) => self.or_start(tokens.clone())?,
            Prompt::Infill { prefix, suffix } => self.infill_tokens(prefix, suffix)?,
        };
        self.check_ids(&tokens)?;
        Ok(tokens)
    }

    /// `tokens`, or the token that begins a text if there are none.
    fn or_start(&self, mut tokens: Vec<u32>) -> Result<Vec<u32>> {
        if tokens.is_empty() {
            tokens.push(self.special.start.ok_or(EngineError::EmptyPrompt)?);
        }
        Ok(tokens)
    }

    /// Checks that each id has a row in the model.
    pub(crate) fn check_ids(&self, tokens: &[u32]) -> Result<()> {
        let vocab_size = self.config().vocab_size;
        match tokens.iter().find(|&&id| id as usize >= vocab_size) {
            Some(&id) => Err(ModelError::TokenId { id, vocab_size }.into()),
            None => Ok(()),
        }
    }
}

/// A model may have more rows than its tokenizer has entries, never fewer.
pub(crate) fn check_vocabulary(place: &str, tokenizer: &Tokenizer, model: usize) -> Result<()> {
    let entries = tokenizer.vocab_size();
    if entries > model {
        return Err(EngineError::VocabularyMismatch { place: place.to_owned(), tokenizer: entries, model });
    }
    Ok(())
}
