//! A model that labels texts or words, of whichever kind its folder holds: pretrained and fine-tuned, or one from before
//! the Transformer.

use crate::baseline::{TagModel, TextModel, is_baseline, one_text};
use crate::error::TrainError;
use hearth_engine::{Classified, Classifier, Problem, Tagger, TextPair};
use std::ops::ControlFlow;
use std::path::Path;

/// A model that gives texts labels.
#[derive(Debug)]
pub enum AnyClassifier {
    /// A Transformer with a head.
    Pretrained(Box<Classifier>),
    /// What was learnt from labelled texts alone.
    Own(Box<TextModel>),
}

impl AnyClassifier {
    /// The model of a folder.
    ///
    /// # Errors
    /// If it holds none.
    pub fn open(dir: &Path) -> Result<Self, TrainError> {
        Ok(match is_baseline(dir) {
            true => AnyClassifier::Own(Box::new(TextModel::open(dir)?)),
            false => AnyClassifier::Pretrained(Box::new(Classifier::open(dir)?)),
        })
    }

    /// The labels, in the order of the scores.
    pub fn labels(&self) -> &[String] {
        match self {
            AnyClassifier::Pretrained(model) => model.labels(),
            AnyClassifier::Own(model) => model.labels(),
        }
    }

    /// What is asked of it.
    pub fn problem(&self) -> Problem {
        match self {
            AnyClassifier::Pretrained(model) => model.problem(),
            AnyClassifier::Own(_) => Problem::SingleLabel,
        }
    }

    /// Most tokens of a text.
    pub fn max_tokens(&self) -> usize {
        match self {
            AnyClassifier::Pretrained(model) => model.max_tokens(),
            AnyClassifier::Own(_) => usize::MAX,
        }
    }

    /// Scores of texts, one for each label. `go_on` is asked now and then.
    ///
    /// # Errors
    /// If it was interrupted, or the model doesn't fit itself.
    pub fn classify(
        &mut self,
        texts: &[TextPair],
        go_on: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Classified, TrainError> {
        match self {
            AnyClassifier::Pretrained(model) => Ok(model.classify(texts, go_on)?),
            AnyClassifier::Own(model) => {
                let texts: Vec<String> = texts.iter().map(one_text).collect();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                Ok(Classified { scores: model.scores(&texts)?, truncated: 0 })
            }
        }
    }
}

/// A model that gives words tags.
#[derive(Debug)]
pub enum AnyTagger {
    /// A Transformer with a head.
    Pretrained(Box<Tagger>),
    /// What was learnt from tagged words alone.
    Own(Box<TagModel>),
}

impl AnyTagger {
    /// The model of a folder.
    ///
    /// # Errors
    /// If it holds none.
    pub fn open(dir: &Path) -> Result<Self, TrainError> {
        Ok(match is_baseline(dir) {
            true => AnyTagger::Own(Box::new(TagModel::open(dir)?)),
            false => AnyTagger::Pretrained(Box::new(Tagger::open(dir)?)),
        })
    }

    /// All tags that the model knows.
    pub fn labels(&self) -> &[String] {
        match self {
            AnyTagger::Pretrained(model) => model.labels(),
            AnyTagger::Own(model) => model.labels(),
        }
    }

    /// The tags of each sentence's words, as indices into [`labels`](Self::labels). `go_on` is asked now and then.
    ///
    /// # Errors
    /// If it was interrupted, or the model doesn't fit itself.
    pub fn tag(
        &mut self,
        sentences: &[&[String]],
        go_on: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<usize>>, TrainError> {
        match self {
            AnyTagger::Pretrained(model) => Ok(model.tag(sentences, go_on)?),
            AnyTagger::Own(model) => model.tag(sentences),
        }
    }
}
