//! Filling in a middle: what stands before it and after it, between the tokens that a model was trained with
//! for that (Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle").

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use hearth_tokenizer::Tokenizer;

/// The special tokens around the parts of a text with a gap, as far as a tokenizer has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InfillTokens {
    /// What stands before the middle follows.
    pub prefix: Option<u32>,
    /// What stands after the middle follows.
    pub suffix: Option<u32>,
    /// The middle follows.
    pub middle: Option<u32>,
    /// Padding; CodeLlama's end of a middle.
    pub pad: Option<u32>,
    /// The name of a repository follows.
    pub repository: Option<u32>,
    /// Another file follows.
    pub separator: Option<u32>,
}

/// How files say which token has a role.
pub(crate) struct Role {
    /// What an error calls it.
    name: &'static str,
    /// The key of a GGUF file, without `tokenizer.ggml.`.
    pub(crate) key: &'static str,
    /// What older files call it.
    pub(crate) older_key: Option<&'static str>,
    /// Spellings in published vocabularies: Qwen's and CodeGemma's, StarCoder's and Granite's, SantaCoder's,
    /// DeepSeek's, CodeLlama's, GLM's.
    spellings: &'static [&'static str],
    /// Its place among the tokens.
    pub(crate) place: fn(&mut InfillTokens) -> &mut Option<u32>,
}

/// The first three make a prompt.
pub(crate) const ROLES: [Role; 6] = [
    Role {
        name: "prefix",
        key: "fim_pre_token_id",
        older_key: Some("prefix_token_id"),
        spellings: &[
            "<|fim_prefix|>",
            "<fim_prefix>",
            "<fim-prefix>",
            "<｜fim▁begin｜>",
            "▁<PRE>",
            "<|code_prefix|>",
        ],
        place: |tokens| &mut tokens.prefix,
    },
    Role {
        name: "suffix",
        key: "fim_suf_token_id",
        older_key: Some("suffix_token_id"),
        spellings: &[
            "<|fim_suffix|>",
            "<fim_suffix>",
            "<fim-suffix>",
            "<｜fim▁hole｜>",
            "▁<SUF>",
            "<|code_suffix|>",
        ],
        place: |tokens| &mut tokens.suffix,
    },
    Role {
        name: "middle",
        key: "fim_mid_token_id",
        older_key: Some("middle_token_id"),
        spellings: &[
            "<|fim_middle|>",
            "<fim_middle>",
            "<fim-middle>",
            "<｜fim▁end｜>",
            "▁<MID>",
            "<|code_middle|>",
        ],
        place: |tokens| &mut tokens.middle,
    },
    Role {
        name: "padding",
        key: "fim_pad_token_id",
        older_key: None,
        spellings: &["<|fim_pad|>", "<fim_pad>", "<fim-pad>", "▁<EOT>"],
        place: |tokens| &mut tokens.pad,
    },
    Role {
        name: "repository",
        key: "fim_rep_token_id",
        older_key: None,
        spellings: &["<|repo_name|>", "<repo_name>", "<reponame>"],
        place: |tokens| &mut tokens.repository,
    },
    Role {
        name: "separator",
        key: "fim_sep_token_id",
        older_key: None,
        spellings: &["<|file_sep|>", "<|file_separator|>", "<file_sep>"],
        place: |tokens| &mut tokens.separator,
    },
];

impl InfillTokens {
    /// The tokens of a vocabulary by their spellings.
    pub(crate) fn of_tokenizer(tokenizer: &Tokenizer) -> Self {
        let mut tokens = Self::default();
        for role in &ROLES {
            *(role.place)(&mut tokens) = role.spellings.iter().find_map(|token| tokenizer.id_of(token));
        }
        tokens
    }

    /// Whether there are all that make a prompt.
    pub(crate) fn can_fill(&self) -> bool {
        [self.prefix, self.suffix, self.middle].iter().all(Option::is_some)
    }

    /// The tokens that make a prompt: prefix, suffix, middle.
    ///
    /// # Errors
    /// If one is missing.
    fn of_prompt(&self) -> Result<[u32; 3]> {
        if let (Some(prefix), Some(suffix), Some(middle)) = (self.prefix, self.suffix, self.middle) {
            return Ok([prefix, suffix, middle]);
        }
        let has = [self.prefix, self.suffix, self.middle];
        let missing = ROLES.iter().zip(has).filter(|(_, id)| id.is_none());
        let missing =
            missing.map(|(role, _)| format!("no {} token ({})", role.name, role.spellings[..2].join(", ")));
        Err(EngineError::NoInfill { missing: missing.collect::<Vec<_>>().join(", ") })
    }

    /// What ends a text besides its other ends: nothing unless the model can fill in, for others have such tokens
    /// in their vocabulary too, to separate the files that they were trained on.
    pub(crate) fn ends(&self) -> impl Iterator<Item = u32> {
        let ends = [self.pad, self.repository, self.separator].into_iter().flatten();
        ends.filter(|_| self.can_fill())
    }

    /// The tokens up to where the middle begins; see [`Engine::infill_tokens`].
    pub(crate) fn prompt(&self, tokenizer: &Tokenizer, prefix: &str, suffix: &str) -> Result<Vec<u32>> {
        let [before_prefix, before_suffix, before_middle] = self.of_prompt()?;
        let mut tokens = vec![before_prefix];
        tokens.extend(self.plain_tokens(tokenizer, prefix, false)?);
        tokens.push(before_suffix);
        // The suffix goes on within the text, as in CodeLlama's own code: no space is put in front of it.
        tokens.extend(self.plain_tokens(tokenizer, suffix, true)?);
        tokens.push(before_middle);
        Ok(tokens)
    }

    /// The ids of a text in which nothing is taken for one of the tokens above. The tokenizer sees to that where
    /// they are special; Qwen2.5's files list them among those that are not.
    pub(crate) fn plain_tokens(&self, tokenizer: &Tokenizer, text: &str, within: bool) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let whole = if within { tokenizer.encode_within(text)? } else { tokenizer.encode(text)? };
        let marks: Vec<u32> = self.all().collect();
        if !whole.iter().any(|id| marks.contains(id)) {
            return Ok(whole);
        }
        // Cut after its first character, a spelling isn't recognised.
        let spellings = marks.iter().filter_map(|&id| tokenizer.token_of(id));
        let mut cuts: Vec<usize> = spellings
            .flat_map(|token| {
                let first = token.chars().next().map_or(0, char::len_utf8);
                text.match_indices(token).map(move |(at, _)| at + first)
            })
            .chain([0, text.len()])
            .collect();
        cuts.sort_unstable();
        let mut tokens = Vec::new();
        for cut in cuts.windows(2) {
            let piece = &text[cut[0]..cut[1]];
            let within = within || cut[0] > 0;
            tokens.extend(if within { tokenizer.encode_within(piece)? } else { tokenizer.encode(piece)? });
        }
        Ok(tokens)
    }

    /// All that there are.
    fn all(&self) -> impl Iterator<Item = u32> {
        let Self { prefix, suffix, middle, pad, repository, separator } = *self;
        [prefix, suffix, middle, pad, repository, separator].into_iter().flatten()
    }
}

impl Engine {
    /// The tokens of a text with a gap, up to where the middle begins: `bos` if the files say so, the prefix
    /// token, the text before the gap, the suffix token, the text after it, the middle token. Special tokens that
    /// are spelled out in the text stay text.
    ///
    /// # Errors
    /// If the model has no tokens for it, or a character has none.
    pub fn infill_tokens(&self, prefix: &str, suffix: &str) -> Result<Vec<u32>> {
        let mut tokens: Vec<u32> = self.special.prepend.into_iter().collect();
        tokens.extend(self.special.infill.prompt(&self.tokenizer, prefix, suffix)?);
        Ok(tokens)
    }
}
