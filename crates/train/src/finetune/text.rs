//! Learning to go on with texts: conversations, documents, middles. The loss is the mean cross-entropy of the tokens
//! that are to be learnt; sequences stand side by side in one row, each of which sees only itself.

use crate::error::TrainError;
use crate::finetune::fit::{Learner, Metrics};
use hearth_engine::Lesson;
use hearth_model::executor::ParamSpec;
use hearth_model::tape::{TokenBatch, Trainable};
use hearth_model::{ModelError, Weights};
use hearth_tensor::{Tensor, nn, no_grad};

/// A decoder that learns to go on, with its texts.
#[derive(Debug)]
pub struct TextLearner<'a> {
    /// The model.
    pub model: &'a Trainable,
    /// Its parameters, updates of low rank among them.
    pub specs: Vec<ParamSpec>,
    /// What it learns from.
    pub training: &'a [Lesson],
    /// What it is judged by.
    pub heldout: &'a [Lesson],
}

/// How well the held-out texts are predicted.
#[derive(Clone, Debug)]
pub struct TextJudgement {
    /// `loss` (nats a token), `perplexity`, `tokens`, `examples`.
    pub metrics: Metrics,
    /// The mean loss of each text.
    pub losses: Vec<f64>,
}

impl AsRef<Metrics> for TextJudgement {
    fn as_ref(&self) -> &Metrics {
        &self.metrics
    }
}

impl<'a> TextLearner<'a> {
    /// A learner for a model with or without updates of low rank.
    pub fn new(model: &'a Trainable, training: &'a [Lesson], heldout: &'a [Lesson]) -> Self {
        let mut specs = model.decoder().specs().to_vec();
        specs.extend(model.lora.iter().flat_map(|lora| lora.specs().iter().cloned()));
        TextLearner { model, specs, training, heldout }
    }
}

impl Learner for TextLearner<'_> {
    type Look = TextJudgement;

    fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    fn examples(&self) -> usize {
        self.training.len()
    }

    fn tokens(&self, example: usize) -> usize {
        self.training[example].ids.len()
    }

    fn weight(&self, examples: &[usize]) -> usize {
        examples.iter().map(|&i| self.training[i].targets()).sum()
    }

    fn less_is_better(&self) -> bool {
        true
    }

    fn loss(&mut self, weights: &Weights, examples: &[usize], _step: u64) -> Result<Tensor, TrainError> {
        let lessons: Vec<&Lesson> = examples.iter().map(|&i| &self.training[i]).collect();
        Ok(loss_of(self.model, weights, &lessons)?.loss)
    }

    fn look(&mut self, weights: &Weights) -> Result<TextJudgement, TrainError> {
        judge_texts(self.model, weights, self.heldout)
    }
}

/// The mean loss of the tokens of `lessons` that are to be learnt. Only their rows go through the head.
///
/// # Errors
/// If a text doesn't fit the model.
pub fn loss_of(
    model: &Trainable,
    weights: &Weights,
    lessons: &[&Lesson],
) -> Result<nn::LossOutput, ModelError> {
    let ids: Vec<u32> = lessons.iter().flat_map(|lesson| lesson.ids.iter().copied()).collect();
    let segments: Vec<u32> =
        (0..).zip(lessons).flat_map(|(i, lesson)| std::iter::repeat_n(i, lesson.ids.len())).collect();
    let positions = lessons.iter().flat_map(|lesson| 0..lesson.ids.len() as u32).collect();
    let (mut rows, mut targets, mut start) = (Vec::new(), Vec::new(), 0);
    for lesson in lessons {
        for i in (1..lesson.ids.len()).filter(|&i| lesson.learnt[i]) {
            rows.push((start + i - 1) as u32);
            targets.push(lesson.ids[i] as i32);
        }
        start += lesson.ids.len();
    }
    let hidden = model.hidden(weights, &TokenBatch::packed(ids, 1, &segments, positions))?;
    let hidden = nn::embedding(&hidden, &rows)?;
    let head = weights.widened(model.decoder().head().weight);
    Ok(nn::linear_cross_entropy(&hidden, &head, None, &targets, &Default::default())?)
}

/// How well texts are predicted.
///
/// # Errors
/// If a text doesn't fit the model.
pub fn judge_texts(
    model: &Trainable,
    weights: &Weights,
    texts: &[Lesson],
) -> Result<TextJudgement, TrainError> {
    let (mut sum, mut count, mut losses) = (0.0, 0, Vec::new());
    for lesson in texts {
        let out = no_grad(|| loss_of(model, weights, &[lesson]))?;
        sum += out.sum;
        count += out.count;
        losses.push(out.sum / out.count.max(1) as f64);
    }
    let loss = sum / count.max(1) as f64;
    let metrics = [
        ("loss", loss),
        ("perplexity", loss.exp()),
        ("tokens", count as f64),
        ("examples", texts.len() as f64),
    ];
    Ok(TextJudgement { metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(), losses })
}
