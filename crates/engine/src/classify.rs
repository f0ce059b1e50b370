//! Texts to labels, by a model with a head over sequences.

use crate::error::{EngineError, Result};
use crate::framing::{Framed, Framing};
use hearth_model::{Problem, Task, TaskFolder, TaskRunner};
use hearth_tokenizer::Tokenizer;
use std::ops::ControlFlow;
use std::path::Path;

/// A text, and a second one where the model judges pairs.
pub type TextPair<'a> = (&'a str, Option<&'a str>);

/// A model that classifies, with its tokenizer.
#[derive(Debug)]
pub struct Classifier {
    runner: TaskRunner,
    tokenizer: Tokenizer,
    framing: Framing,
    labels: Vec<String>,
    problem: Problem,
    max_tokens: usize,
}

/// What a model says about some texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Classified {
    /// For each text a number a label: probabilities, or the value of a regression.
    pub scores: Vec<Vec<f32>>,
    /// Texts that were longer than the model takes, and were cut.
    pub truncated: usize,
}

impl Classifier {
    /// Opens the folder of a model with a head over sequences.
    ///
    /// # Errors
    /// If a file is missing or isn't what it should be, or the head is another one.
    pub fn open(dir: &Path) -> Result<Self> {
        let TaskFolder { model, weights, labels, problem } = TaskFolder::open(dir)?;
        if !matches!(model.task(), Task::Sequence(_)) {
            let problem = "its head answers about tokens, not about whole texts".to_owned();
            return Err(EngineError::BadFile { path: dir.join("config.json"), problem });
        }
        let tokenizer = Tokenizer::from_folder(dir)?;
        let runner = TaskRunner::new(&model, &weights)?;
        let positions = runner.limits().1;
        let max_tokens = tokenizer.model_max_length().unwrap_or(positions).min(positions);
        let framing = Framing::of(&tokenizer);
        Ok(Classifier { runner, tokenizer, framing, labels, problem, max_tokens })
    }

    /// The labels' names, in the order of the scores.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// What the scores mean.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// Most tokens of a text, with those around it.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Scores of texts; a text's scores don't depend on the others. `go_on` hears how many are done.
    ///
    /// # Errors
    /// If a text can't be encoded, or the caller breaks off.
    pub fn classify(
        &mut self,
        texts: &[TextPair],
        go_on: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Classified> {
        let inputs = frame_texts(&self.tokenizer, &self.framing, texts, self.max_tokens)?;
        let truncated = inputs.iter().filter(|input| input.cut > 0).count();
        let mut scores = run_framed(&mut self.runner, &inputs.iter().collect::<Vec<_>>(), go_on)?;
        scores.iter_mut().for_each(|logits| to_scores(logits, self.problem));
        Ok(Classified { scores, truncated })
    }
}

/// Encodes texts and puts around them what the model wants, `limit` tokens at most.
///
/// # Errors
/// If a text can't be encoded, or there is a pair and nothing stands between two texts.
pub fn frame_texts(
    tokenizer: &Tokenizer,
    framing: &Framing,
    texts: &[TextPair],
    limit: usize,
) -> Result<Vec<Framed>> {
    let pair = texts.iter().position(|(_, second)| second.is_some());
    if let Some(text) = pair.filter(|_| framing.after.is_empty()) {
        return Err(EngineError::NothingBetween { text });
    }
    let firsts: Vec<&str> = texts.iter().map(|(first, _)| *first).collect();
    let seconds: Vec<&str> = texts.iter().filter_map(|(_, second)| *second).collect();
    let firsts = tokenizer.encode_batch(&firsts)?;
    let mut seconds = tokenizer.encode_batch(&seconds)?.into_iter();
    let framed = firsts.iter().zip(texts).map(|(first, (_, second))| match second {
        Some(_) => framing.pair(first, &seconds.next().unwrap_or_default(), limit),
        None => framing.single(first, limit),
    });
    Ok(framed.collect())
}

/// Most tokens in one pass: more than this fills no product better.
const PASS_TOKENS: usize = 2048;

/// The head's numbers for each input: those of its sequence, or those of all its tokens one after the other.
///
/// # Errors
/// If an input doesn't fit the model, or the caller breaks off.
pub fn run_framed(
    runner: &mut TaskRunner,
    inputs: &[&Framed],
    mut go_on: impl FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Vec<f32>>> {
    let most = PASS_TOKENS.min(runner.limits().0);
    let (outputs, per_token) = (runner.task().outputs(), !matches!(runner.task(), Task::Sequence(_)));
    let mut numbers = Vec::with_capacity(inputs.len());
    while numbers.len() < inputs.len() {
        let rest = &inputs[numbers.len()..];
        let mut tokens = 0;
        let fits = |input: &&&Framed| {
            tokens += input.ids.len();
            tokens <= most
        };
        let pass = &rest[..rest.iter().take_while(fits).count().max(1)];
        let sequences: Vec<&[u32]> = pass.iter().map(|input| input.ids.as_slice()).collect();
        let types: Vec<u32> = pass.iter().flat_map(|input| input.types.iter().copied()).collect();
        let logits = runner.logits(&sequences, &types)?;
        let mut rest = &logits[..];
        for sequence in sequences {
            let (own, others) = rest.split_at(if per_token { sequence.len() * outputs } else { outputs });
            numbers.push(own.to_vec());
            rest = others;
        }
        if go_on(numbers.len()).is_break() {
            return Err(EngineError::Interrupted);
        }
    }
    Ok(numbers)
}

/// Logits to probabilities: softmax over one label of several, a sigmoid each where any may hold; a value stays.
pub fn to_scores(logits: &mut [f32], problem: Problem) {
    match problem {
        Problem::SingleLabel => {
            let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            logits.iter_mut().for_each(|x| *x = (*x - highest).exp());
            let sum: f32 = logits.iter().sum();
            logits.iter_mut().for_each(|x| *x /= sum);
        }
        Problem::MultiLabel => logits.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
        Problem::Regression => {}
    }
}
