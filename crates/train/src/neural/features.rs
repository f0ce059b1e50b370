//! What a network sees of texts and sentences: numbers of features that it has learnt.

use crate::classical::crf::Template;
use crate::classical::ngrams::words;
use crate::classical::{ClassicalError, Vocabulary};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The features of texts, or of the tokens of sentences, that occur often enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Features {
    vocabulary: Vocabulary,
    /// What is seen of a sentence's tokens; none for texts, whose words are their own features.
    template: Option<Template>,
}

/// A feature that occurs fewer times isn't learnt.
const LEAST: usize = 2;

impl Features {
    /// The words of `texts` in lower case, or characters in scripts without spaces.
    ///
    /// # Errors
    /// If no word occurs twice.
    pub fn of_texts(texts: &[&str]) -> Result<Self, ClassicalError> {
        let all = texts.iter().flat_map(|text| words(text));
        Ok(Features { vocabulary: often(all)?, template: None })
    }

    /// What `template` sees of the tokens of `sentences`.
    ///
    /// # Errors
    /// If no feature occurs twice.
    pub fn of_sentences(sentences: &[Vec<String>], template: Template) -> Result<Self, ClassicalError> {
        let all = sentences.iter().flat_map(|sentence| template.attributes(sentence)).flatten();
        Ok(Features { vocabulary: often(all)?, template: Some(template) })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.vocabulary.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.vocabulary.is_empty()
    }

    /// The first `limit` words of a text that are known; one token without features if there is none.
    pub fn text(&self, text: &str, limit: usize) -> Vec<Vec<u32>> {
        let known = words(text).into_iter().filter_map(|word| self.vocabulary.id(&word));
        let mut tokens: Vec<Vec<u32>> = known.take(limit).map(|id| vec![id as u32]).collect();
        if tokens.is_empty() {
            tokens.push(Vec::new());
        }
        tokens
    }

    /// The tokens of a sentence.
    pub fn sentence(&self, sentence: &[String]) -> Vec<Vec<u32>> {
        let Some(template) = self.template else { return vec![Vec::new(); sentence.len()] };
        let ids = |attributes: Vec<String>| {
            attributes.iter().filter_map(|name| self.vocabulary.id(name)).map(|id| id as u32).collect()
        };
        template.attributes(sentence).into_iter().map(ids).collect()
    }
}

fn often(all: impl Iterator<Item = String>) -> Result<Vocabulary, ClassicalError> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    all.for_each(|name| *counts.entry(name).or_default() += 1);
    let kept: Vec<String> =
        counts.into_iter().filter(|(_, count)| *count >= LEAST).map(|(name, _)| name).collect();
    if kept.is_empty() {
        return Err(ClassicalError::Empty { what: "no word occurs twice\nhint: give more text" });
    }
    Ok(Vocabulary::new(kept))
}
