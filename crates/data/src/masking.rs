//! Masking: which tokens of a sequence are to be found, and what stands in their places (Devlin et al. 2019, section
//! 3.1 and appendix A.1; whole words as in the authors' later release).

use hearth_tokenizer::Tokenizer;

use crate::error::{DataError, Result};
use crate::shuffle::{Draws, Purpose};

/// Of ten chosen tokens so many become the mask; of the others one half becomes a random token, and one half stays.
const MASKED_OF_TEN: usize = 8;
const RANDOM_OF_TEN: usize = 1;

/// How tokens are masked.
#[derive(Debug, Clone)]
pub struct Masking {
    tokenizer: Tokenizer,
    mask: u32,
    /// Ids that a chosen token may become: all but the special ones.
    plain: Vec<u32>,
    share: f64,
    whole_words: bool,
}

/// What was masked in a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Masked {
    /// The places of the chosen tokens, ascending, counted through all sequences.
    pub rows: Vec<u32>,
    /// What stood there.
    pub targets: Vec<i32>,
}

impl Masking {
    /// Masks a `share` of each sequence's tokens; with `whole_words`, all tokens of a word or none.
    ///
    /// # Errors
    /// If the share isn't above 0 and below 1, or the tokenizer has no token for what is masked.
    pub fn new(tokenizer: &Tokenizer, share: f64, whole_words: bool) -> Result<Self> {
        if !(share > 0.0 && share < 1.0) {
            return Err(DataError::BadOption(format!(
                "a masked share of {share}: expected above 0 and below 1"
            )));
        }
        let Some(mask) = tokenizer.mask() else {
            return Err(DataError::BadOption(
                "the tokenizer has no [MASK] and names no mask_token, so nothing can be masked\nhint: one that is \
                 trained for this objective has it"
                    .into(),
            ));
        };
        let ids = 0..tokenizer.vocab_size() as u32;
        let plain: Vec<u32> =
            ids.filter(|&id| tokenizer.token_of(id).is_some() && !tokenizer.is_special(id)).collect();
        if plain.is_empty() {
            return Err(DataError::BadOption("the tokenizer has no token that isn't special".into()));
        }
        Ok(Self { tokenizer: tokenizer.clone(), mask, plain, share, whole_words })
    }

    /// Masks tokens of a batch's sequences in place. Draws depend on `seed` and on the batch's `number` alone.
    ///
    /// Of each sequence the share of its tokens that aren't special is chosen, rounded, but at least one. With whole
    /// words it may be less: a word that would make it more is left out.
    pub fn apply(&self, sequences: &mut [Vec<u32>], seed: u64, number: u64) -> Masked {
        let mut draws = Draws::new(seed, Purpose::Masks, number);
        let (mut masked, mut start) = (Masked::default(), 0);
        for tokens in sequences {
            for at in self.choose(tokens, &mut draws) {
                masked.rows.push(start + at as u32);
                masked.targets.push(tokens[at] as i32);
                let lot = draws.below(10);
                if lot < MASKED_OF_TEN {
                    tokens[at] = self.mask;
                } else if lot < MASKED_OF_TEN + RANDOM_OF_TEN {
                    tokens[at] = self.plain[draws.below(self.plain.len())];
                }
            }
            start += tokens.len() as u32;
        }
        masked
    }

    /// The places of the tokens to find, ascending.
    fn choose(&self, tokens: &[u32], draws: &mut Draws) -> Vec<usize> {
        let mut words: Vec<std::ops::Range<usize>> = Vec::with_capacity(tokens.len());
        let mut candidates = 0;
        for (at, &id) in tokens.iter().enumerate() {
            if self.tokenizer.is_special(id) {
                continue;
            }
            candidates += 1;
            match words.last_mut() {
                Some(word)
                    if self.whole_words
                        && word.end == at
                        && self.tokenizer.continues_word(tokens[at - 1], id) =>
                {
                    word.end = at + 1;
                }
                _ => words.push(at..at + 1),
            }
        }
        let wanted = (((candidates as f64) * self.share).round() as usize).max(1);
        let mut chosen = Vec::with_capacity(wanted);
        for word in draws.permutation(words.len()).into_iter().map(|word| words[word as usize].clone()) {
            // The first word is taken however long it is, so that each sequence has something to find.
            if chosen.is_empty() || chosen.len() + word.len() <= wanted {
                chosen.extend(word);
            }
            if chosen.len() >= wanted {
                break;
            }
        }
        chosen.sort_unstable();
        chosen
    }
}
