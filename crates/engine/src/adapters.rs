//! Adapters that requests choose from: one model, its weights once, and what each request goes through beside them.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use hearth_model::{Adapter, Updates};
use hearth_tokenizer::Tokenizer;
use std::path::Path;
use std::sync::Arc;

/// An adapter, and what ends its texts.
#[derive(Debug)]
pub(crate) struct AdapterSlot {
    updates: Arc<Updates>,
    ends: Vec<u32>,
    /// If it brings one: the same tokens, perhaps another chat template.
    tokenizer: Option<Tokenizer>,
}

impl Engine {
    /// Opens the folder of an adapter in PEFT's format; requests choose it by the number that this returns.
    ///
    /// # Errors
    /// If the folder has none, if it is for another model, replaces parameters whole, or brings other tokens.
    pub fn add_adapter(&mut self, dir: &Path) -> Result<usize> {
        let decoder = self.runner.decoder();
        let adapter = Adapter::open(dir, decoder.specs(), "", decoder.config().family.is_gpt())?;
        let mut ends = self.special.ends.clone();
        let mut tokenizer = None;
        if dir.join("tokenizer.json").is_file() {
            let tokenizer = tokenizer.insert(Tokenizer::from_folder(dir)?);
            let (mine, its) = (self.tokenizer.vocab_size(), tokenizer.vocab_size());
            let differs = |&id: &u32| tokenizer.token_bytes(id) != self.tokenizer.token_bytes(id);
            if mine != its || (0..mine as u32).any(|id| differs(&id)) {
                let problem = format!(
                    "its tokenizer has other tokens ({its}) than the model's ({mine})\nhint: hearth merge makes a model of \
                     its own of the two"
                );
                return Err(EngineError::Adapter { folder: dir.to_owned(), problem });
            }
            ends.extend(tokenizer.eos());
            ends.sort_unstable();
            ends.dedup();
        }
        let updates = Arc::new(Updates::of(&adapter)?);
        self.adapters.push(AdapterSlot { updates, ends, tokenizer });
        Ok(self.adapters.len() - 1)
    }

    /// The tokenizer of an adapter, or the model's; the tokens are the same, the chat template need not be.
    pub fn tokenizer_of(&self, adapter: Option<usize>) -> &Tokenizer {
        adapter.and_then(|adapter| self.adapters[adapter].tokenizer.as_ref()).unwrap_or(&self.tokenizer)
    }

    /// What requests with this adapter go through.
    pub(crate) fn updates_of(&self, adapter: Option<usize>) -> Option<&Arc<Updates>> {
        adapter.map(|adapter| &self.adapters[adapter].updates)
    }

    /// The tokens that end a text of a request with this adapter.
    pub(crate) fn ends_of(&self, adapter: Option<usize>) -> Vec<u32> {
        adapter.map_or(&self.special.ends, |adapter| &self.adapters[adapter].ends).clone()
    }
}
