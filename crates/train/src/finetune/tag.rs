//! Learning to tag: a tag for each word, carried by the word's first token; the others don't count.

use crate::error::TrainError;
use crate::finetune::fit::{Learner, Metrics};
use crate::finetune::loss::{Targets, loss};
use crate::finetune::settings::Settings;
use crate::metrics::classification::classification;
use crate::metrics::spans::span_counts;
use hearth_engine::{FramedWords, tag_pieces};
use hearth_kernel::loss::IGNORED;
use hearth_model::executor::ParamSpec;
use hearth_model::{TaskModel, TaskRunner, Weights};
use hearth_tensor::Tensor;
use std::ops::ControlFlow;

/// A sentence as the model sees it.
#[derive(Clone, Debug)]
pub struct Sentence {
    /// Stretches of its words.
    pub pieces: Vec<FramedWords>,
    /// For each word its tag's place among the labels; none if the label isn't one to learn from.
    pub tags: Vec<Option<usize>>,
}

/// A model that learns to tag, with its sentences.
#[derive(Debug)]
pub struct TagLearner<'a> {
    model: &'a mut TaskModel,
    labels: &'a [String],
    /// Stretches to learn from, with a target a token.
    training: Vec<(&'a FramedWords, Vec<i32>)>,
    heldout: &'a [Sentence],
    gold: &'a [Vec<String>],
    dropout: f32,
}

/// Tags of sentences, and what follows from them.
#[derive(Clone, Debug)]
pub struct TagJudgement {
    /// By name.
    pub metrics: Metrics,
    /// The model's tags.
    pub tags: Vec<Vec<usize>>,
}

impl<'a> TagLearner<'a> {
    /// A learner from `training`, judged on `heldout`, whose right tags are `gold`.
    pub fn new(
        model: &'a mut TaskModel,
        labels: &'a [String],
        training: &'a [Sentence],
        heldout: &'a [Sentence],
        gold: &'a [Vec<String>],
        settings: &Settings,
    ) -> Self {
        let mut pieces = Vec::new();
        for sentence in training {
            let mut tags = sentence.tags.iter();
            for piece in &sentence.pieces {
                let mut targets = vec![IGNORED; piece.input.ids.len()];
                for (row, tag) in piece.rows.iter().zip(tags.by_ref()) {
                    targets[*row] = tag.map_or(IGNORED, |tag| tag as i32);
                }
                pieces.push((piece, targets));
            }
        }
        TagLearner { model, labels, training: pieces, heldout, gold, dropout: settings.dropout }
    }

    /// The metric that decides between looks: spans' F1, or the accuracy where tags make no spans.
    pub fn metric(labels: &[String]) -> &'static str {
        let spans = labels.iter().any(|label| label.starts_with("B-") || label.starts_with("I-"));
        if spans { "span_f1" } else { "accuracy" }
    }
}

impl AsRef<Metrics> for TagJudgement {
    fn as_ref(&self) -> &Metrics {
        &self.metrics
    }
}

impl Learner for TagLearner<'_> {
    type Look = TagJudgement;

    fn specs(&self) -> &[ParamSpec] {
        self.model.specs()
    }

    fn examples(&self) -> usize {
        self.training.len()
    }

    fn tokens(&self, example: usize) -> usize {
        self.training[example].0.input.ids.len()
    }

    fn weight(&self, examples: &[usize]) -> usize {
        examples.iter().flat_map(|&i| &self.training[i].1).filter(|&&target| target != IGNORED).count()
    }

    fn loss(&mut self, weights: &Weights, examples: &[usize], step: u64) -> Result<Tensor, TrainError> {
        let sequences: Vec<&[u32]> =
            examples.iter().map(|&i| self.training[i].0.input.ids.as_slice()).collect();
        let targets = examples.iter().flat_map(|&i| self.training[i].1.iter().copied()).collect();
        let batch = self.model.backbone().batch(&sequences);
        (self.model.dropout, self.model.dropout_seed) = (self.dropout, step);
        let logits = self.model.logits(weights, &batch)?;
        loss(&logits, &Targets::Classes(targets), &batch)
    }

    fn look(&mut self, weights: &Weights) -> Result<TagJudgement, TrainError> {
        judge_tags(self.model, weights, self.labels, self.heldout, self.gold)
    }
}

/// What weights make of sentences whose right tags are `gold`, run as they will be used: by the planned executor.
///
/// # Errors
/// If a sentence doesn't fit the model.
pub fn judge_tags(
    model: &TaskModel,
    weights: &Weights,
    labels: &[String],
    sentences: &[Sentence],
    gold: &[Vec<String>],
) -> Result<TagJudgement, TrainError> {
    let mut runner = TaskRunner::new(model, weights)?;
    let pieces: Vec<&[FramedWords]> = sentences.iter().map(|s| s.pieces.as_slice()).collect();
    let tags = tag_pieces(&mut runner, &pieces, |_| ControlFlow::Continue(()))?;
    Ok(TagJudgement { metrics: measure_tags(labels, &tags, gold), tags })
}

/// The metrics of tags, as places among `labels`, whose right ones are `gold`.
pub fn measure_tags(labels: &[String], tags: &[Vec<usize>], gold: &[Vec<String>]) -> Metrics {
    let names: Vec<Vec<&str>> =
        tags.iter().map(|tags| tags.iter().map(|&tag| labels[tag].as_str()).collect()).collect();
    let gold: Vec<Vec<&str>> = gold.iter().map(|tags| tags.iter().map(String::as_str).collect()).collect();
    let spans = span_counts(&gold, &names);
    // A tag that isn't one of the labels counts as wrong.
    let place = |tag: &str| labels.iter().position(|label| label == tag).unwrap_or(labels.len());
    let right: Vec<usize> = gold.iter().flatten().map(|tag| place(tag)).collect();
    let found: Vec<usize> = tags.iter().flatten().copied().collect();
    let accuracy = classification(&right, &found, labels.len() + 1).accuracy;
    let average = spans.micro_average();
    let metrics = [
        ("accuracy", accuracy),
        ("examples", gold.len() as f64),
        ("span_f1", average.f1),
        ("span_precision", average.precision),
        ("span_recall", average.recall),
    ];
    metrics.map(|(name, value)| (name.to_owned(), value)).into()
}
