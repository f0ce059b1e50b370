//! Keeping a part of the text aside, to measure on what was not trained on.

use sha2::{Digest, Sha256};

use crate::corpus::{Corpus, Document, Documents};
use crate::error::{DataError, Result};

/// Which part of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What is trained on.
    Training,
    /// What is measured on.
    HeldOut,
}

/// How a corpus is divided.
#[derive(Debug, Clone, PartialEq)]
pub enum Holdout {
    /// A document is held out iff the first eight bytes of the SHA-256 of salt and text, as a
    /// share of their range, fall under `fraction`. Equal documents fall on the same side, however
    /// the files are named or ordered.
    Hash {
        /// Share of the documents, between 0 and 1.
        fraction: f64,
        /// Another salt gives another choice.
        salt: String,
    },
    /// The last `fraction` of the characters, cutting a document in two if need be (nanoGPT's way
    /// with the last tenth).
    LastFraction(f64),
}

/// Where in 0..1 the hash of salt and text falls: evenly spread, and the same everywhere.
pub(crate) fn place_of(salt: &str, text: &str) -> f64 {
    let digest = Sha256::new().chain_update(salt).chain_update([0]).chain_update(text).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first) as f64 / 2f64.powi(64)
}

impl Default for Holdout {
    fn default() -> Self {
        Self::Hash { fraction: 0.05, salt: "hearth".to_string() }
    }
}

impl Holdout {
    /// Whether a document is held out, for [`Self::Hash`]; a [`Self::LastFraction`] depends on the
    /// whole corpus, so it is `None` there.
    pub fn is_held_out(&self, text: &str) -> Option<bool> {
        let Self::Hash { fraction, salt } = self else { return None };
        Some(place_of(salt, text) < *fraction)
    }

    /// The documents of one part. [`Self::LastFraction`] reads the corpus once to count.
    pub fn documents(&self, corpus: &Corpus, part: Part) -> Result<PartDocuments> {
        let (Self::Hash { fraction, .. } | Self::LastFraction(fraction)) = *self;
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(DataError::BadFraction { got: fraction });
        }
        let cut = match self {
            Self::Hash { .. } => None,
            Self::LastFraction(fraction) => {
                let mut total = 0u64;
                for document in corpus.documents() {
                    total += document?.text.chars().count() as u64;
                }
                Some((total as f64 * (1.0 - fraction)) as u64)
            }
        };
        let documents = corpus.documents();
        Ok(PartDocuments {
            documents,
            holdout: self.clone(),
            part,
            cut,
            seen_chars: 0,
            seen: 0,
            given: 0,
            ended: false,
        })
    }
}

/// The documents of one [`Part`] of a corpus. A part without any yields an error.
pub struct PartDocuments {
    documents: Documents,
    holdout: Holdout,
    part: Part,
    /// Characters before the held-out end.
    cut: Option<u64>,
    seen_chars: u64,
    seen: u64,
    given: u64,
    ended: bool,
}

impl Iterator for PartDocuments {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.documents.next() {
                Some(Ok(document)) => {
                    self.seen += 1;
                    if let Some(document) = self.share_of(document) {
                        self.given += 1;
                        return Some(Ok(document));
                    }
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Some(Err(error));
                }
                None => {
                    self.ended = true;
                    if self.given == 0 {
                        let part = if self.part == Part::Training { "training" } else { "held-out" };
                        return Some(Err(DataError::EmptyPart { part, documents: self.seen }));
                    }
                }
            }
        }
        None
    }
}

impl PartDocuments {
    /// What of the document belongs to this part.
    fn share_of(&mut self, mut document: Document) -> Option<Document> {
        let Some(cut) = self.cut else {
            let held_out = self.holdout.is_held_out(&document.text) == Some(true);
            return Some(document).filter(|_| held_out == (self.part == Part::HeldOut));
        };
        let before = self.seen_chars;
        self.seen_chars += document.text.chars().count() as u64;
        let keep = usize::try_from(cut.saturating_sub(before)).unwrap_or(usize::MAX);
        let at = document.text.char_indices().nth(keep).map_or(document.text.len(), |(at, _)| at);
        match self.part {
            Part::Training => document.text.truncate(at),
            Part::HeldOut => _ = document.text.drain(..at),
        }
        Some(document).filter(|document| !document.text.is_empty())
    }
}
