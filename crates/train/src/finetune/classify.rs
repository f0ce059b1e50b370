//! Learning to classify: whole texts, or pairs of them, to one label, to any number of labels, or to a value.

use crate::error::TrainError;
use crate::finetune::fit::{Learner, Metrics};
use crate::finetune::loss::{Targets, loss};
use crate::finetune::settings::Settings;
use crate::metrics::calibration::{BINS, calibration};
use crate::metrics::classification::{Confusion, classification, multi_label};
use crate::metrics::regression::regression;
use hearth_engine::{Framed, highest, run_framed, to_scores};
use hearth_model::executor::ParamSpec;
use hearth_model::{Problem, TaskModel, TaskRunner, Weights};
use hearth_tensor::Tensor;
use std::ops::ControlFlow;

/// The right answer of an example.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A label's place.
    Label(usize),
    /// For each label whether it holds.
    Labels(Vec<bool>),
    /// A value.
    Value(f32),
}

/// An example as the model sees it.
#[derive(Clone, Debug)]
pub struct Example {
    /// Token ids and types.
    pub input: Framed,
    /// What is right.
    pub answer: Answer,
}

/// A model that learns to classify, with its examples.
#[derive(Debug)]
pub struct ClassifyLearner<'a> {
    /// The model.
    pub model: &'a mut TaskModel,
    /// What its numbers mean.
    pub problem: Problem,
    /// What it learns from.
    pub training: &'a [Example],
    /// What it is judged by.
    pub heldout: &'a [Example],
    /// Probability of dropout.
    pub dropout: f32,
}

/// Scores of examples, and what follows from them.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// By name: what the contract calls them.
    pub metrics: Metrics,
    /// Which label was taken for which, for one label of several.
    pub confusion: Option<Confusion>,
    /// For each example a number a label: probabilities, or the value.
    pub scores: Vec<Vec<f32>>,
}

impl<'a> ClassifyLearner<'a> {
    /// A learner with the settings' dropout.
    pub fn new(
        model: &'a mut TaskModel,
        problem: Problem,
        training: &'a [Example],
        heldout: &'a [Example],
        settings: &Settings,
    ) -> Self {
        ClassifyLearner { model, problem, training, heldout, dropout: settings.dropout }
    }

    /// The metric that decides between looks.
    pub fn metric(problem: Problem) -> &'static str {
        match problem {
            Problem::SingleLabel => "accuracy",
            Problem::MultiLabel => "micro_f1",
            Problem::Regression => "pearson",
        }
    }
}

impl AsRef<Metrics> for Judgement {
    fn as_ref(&self) -> &Metrics {
        &self.metrics
    }
}

impl Learner for ClassifyLearner<'_> {
    type Look = Judgement;

    fn specs(&self) -> &[ParamSpec] {
        self.model.specs()
    }

    fn examples(&self) -> usize {
        self.training.len()
    }

    fn tokens(&self, example: usize) -> usize {
        self.training[example].input.ids.len()
    }

    fn loss(&mut self, weights: &Weights, examples: &[usize], step: u64) -> Result<Tensor, TrainError> {
        let chosen: Vec<&Example> = examples.iter().map(|&i| &self.training[i]).collect();
        let sequences: Vec<&[u32]> = chosen.iter().map(|e| e.input.ids.as_slice()).collect();
        let types = chosen.iter().flat_map(|e| e.input.types.iter().copied()).collect();
        let batch = self.model.backbone().batch(&sequences).with_types(types);
        (self.model.dropout, self.model.dropout_seed) = (self.dropout, step);
        let logits = self.model.logits(weights, &batch)?;
        loss(&logits, &targets(&chosen), &batch)
    }

    fn look(&mut self, weights: &Weights) -> Result<Judgement, TrainError> {
        judge(self.model, weights, self.problem, self.heldout)
    }
}

fn targets(examples: &[&Example]) -> Targets {
    match examples[0].answer {
        Answer::Label(_) => {
            let label = |e: &&Example| if let Answer::Label(place) = e.answer { place as i32 } else { -1 };
            Targets::Classes(examples.iter().map(label).collect())
        }
        Answer::Labels(_) => {
            let labels = examples.iter().flat_map(|e| match &e.answer {
                Answer::Labels(labels) => &labels[..],
                _ => &[],
            });
            Targets::Labels(labels.map(|&holds| f32::from(u8::from(holds))).collect())
        }
        Answer::Value(_) => {
            let value = |e: &&Example| if let Answer::Value(value) = e.answer { value } else { f32::NAN };
            Targets::Values(examples.iter().map(value).collect())
        }
    }
}

/// What weights make of examples, run as they will be used: by the planned executor.
///
/// # Errors
/// If an example doesn't fit the model.
pub fn judge(
    model: &TaskModel,
    weights: &Weights,
    problem: Problem,
    examples: &[Example],
) -> Result<Judgement, TrainError> {
    let mut runner = TaskRunner::new(model, weights)?;
    let inputs: Vec<&Framed> = examples.iter().map(|e| &e.input).collect();
    let mut scores = run_framed(&mut runner, &inputs, |_| ControlFlow::Continue(()))?;
    scores.iter_mut().for_each(|logits| to_scores(logits, problem));
    let answers: Vec<&Answer> = examples.iter().map(|e| &e.answer).collect();
    Ok(measure(&answers, scores, model.task().outputs(), true))
}

/// The metrics of scores against the right answers; how sure a model is counts only where its scores are probabilities.
pub fn measure(answers: &[&Answer], scores: Vec<Vec<f32>>, n_labels: usize, sure: bool) -> Judgement {
    let mut metrics = Metrics::new();
    let mut put = |name: &str, value: f64| {
        metrics.insert(name.to_owned(), value);
    };
    put("examples", answers.len() as f64);
    let mut confusion = None;
    match answers.first() {
        Some(Answer::Label(_)) => {
            let place = |a: &&Answer| if let Answer::Label(place) = a { *place } else { 0 };
            let gold: Vec<usize> = answers.iter().map(place).collect();
            let predicted: Vec<usize> = scores.iter().map(|s| highest(s)).collect();
            let found = classification(&gold, &predicted, n_labels);
            put("accuracy", found.accuracy);
            put("macro_f1", found.macro_average.f1);
            put("mcc", found.matthews);
            if sure {
                let pairs = gold.iter().zip(&predicted).zip(&scores);
                let top: Vec<(f32, bool)> = pairs.clone().map(|((g, p), s)| (s[*p], g == p)).collect();
                let (confidence, right): (Vec<f32>, Vec<bool>) = top.into_iter().unzip();
                put("ece", calibration(&confidence, &right, BINS).expected_error);
                let surprise = pairs.map(|((g, _), s)| -f64::from(s[*g].max(f32::MIN_POSITIVE)).ln());
                put("loss", surprise.sum::<f64>() / gold.len() as f64);
            }
            confusion = Some(found.confusion);
        }
        Some(Answer::Labels(_)) => {
            let labels =
                |a: &&Answer| if let Answer::Labels(labels) = a { labels.clone() } else { Vec::new() };
            let gold: Vec<Vec<bool>> = answers.iter().map(labels).collect();
            let predicted: Vec<Vec<bool>> =
                scores.iter().map(|s| s.iter().map(|p| *p > 0.5).collect()).collect();
            let found = multi_label(&gold, &predicted);
            put("accuracy", found.subset_accuracy);
            put("micro_f1", found.micro_average.f1);
            put("macro_f1", found.macro_average.f1);
        }
        Some(Answer::Value(_)) => {
            let value = |a: &&Answer| if let Answer::Value(value) = a { f64::from(*value) } else { f64::NAN };
            let gold: Vec<f64> = answers.iter().map(value).collect();
            let predicted: Vec<f64> = scores.iter().map(|s| f64::from(s[0])).collect();
            let found = regression(&gold, &predicted);
            put("mse", found.mean_squared_error);
            // A constant has no correlation; as a number to choose weights by, that is none.
            put("pearson", found.pearson.unwrap_or(0.0));
            put("spearman", found.spearman.unwrap_or(0.0));
        }
        None => {}
    }
    Judgement { metrics, confusion, scores }
}
