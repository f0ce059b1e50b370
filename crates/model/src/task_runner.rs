//! Runs a model with a head for inference: the architecture's plan, then the head on packed weights. A
//! sequence's numbers have the same bits alone and beside others.
//!
//! An encoder takes sequences whole. A decoder takes at most [`MAX_ROWS`] tokens in a pass, and remembers the keys and
//! values of a longer sequence between its passes.

use crate::encoder_runner::EncoderRunner;
use crate::error::ModelError;
use crate::executor::Linear;
use crate::runner::{Feed, Logits, MAX_ROWS, Runner, Sequence};
use crate::task::{Backbone, Task, TaskModel};
use crate::weights::Weights;
use hearth_kernel::activation::Activation;
use hearth_kernel::gemm::{Epilogue, Mat, MatMut, PackedMatrix, Write, gemm_packed};
use std::borrow::Cow;

/// A model with a head, ready to run.
#[derive(Debug)]
pub struct TaskRunner {
    body: Body,
    task: Task,
    summary: Option<Summary>,
    head: Packed,
}

#[derive(Debug)]
enum Body {
    Encoder(Box<EncoderRunner>),
    Decoder(Box<Runner>),
}

/// What a sequence is judged by.
#[derive(Debug)]
enum Summary {
    /// A decoder's: the last token.
    Last,
    /// BERT's: tanh of a layer over the first token.
    First(Packed),
    /// EuroBERT's: the mean over all tokens of GELU of a layer.
    Mean(Packed),
}

#[derive(Debug)]
struct Packed {
    weight: PackedMatrix,
    bias: Option<Vec<f32>>,
}

impl Packed {
    fn new(layer: &Linear, weights: &Weights) -> Self {
        let values = weights.get(layer.weight).data();
        let weight = PackedMatrix::pack(Mat::new(values, layer.outputs, layer.inputs).t());
        Packed { weight, bias: layer.bias.map(|b| weights.get(b).data().to_vec()) }
    }

    /// Rows of x [N, in] to [N, out].
    fn apply(&self, x: &[f32], activation: Option<Activation>) -> Vec<f32> {
        let (inputs, outputs) = (self.weight.rows(), self.weight.cols());
        let rows = x.len() / inputs;
        let mut y = vec![0.0; rows * outputs];
        let epilogue = Epilogue { bias: self.bias.as_deref(), activation, pre_activation: None };
        let out = MatMut::new(&mut y, rows, outputs);
        gemm_packed(Mat::new(x, rows, inputs), &self.weight, out, Write::Overwrite, epilogue);
        y
    }
}

impl TaskRunner {
    /// Packs a model's weights, with its updates of low rank in them.
    ///
    /// # Errors
    /// If the architecture can't run.
    pub fn new(model: &TaskModel, weights: &Weights) -> Result<Self, ModelError> {
        let merged = model.lora().map(|lora| lora.merge(weights));
        let weights = merged.as_ref().unwrap_or(weights);
        let about_sequences = matches!(model.task(), Task::Sequence(_));
        let (body, summary) = match model.backbone() {
            Backbone::Encoder(encoder) => {
                let encoder = encoder.encoder();
                let summary = match (model.dense(), encoder.pooler().filter(|_| about_sequences)) {
                    (Some(dense), _) => Some(Summary::Mean(Packed::new(dense, weights))),
                    (None, pooler) => pooler.map(|layer| Summary::First(Packed::new(layer, weights))),
                };
                (Body::Encoder(Box::new(EncoderRunner::new(encoder.clone(), weights, None)?)), summary)
            }
            Backbone::Decoder(decoder) => {
                let runner = Runner::new(decoder.decoder().clone(), weights)?;
                (Body::Decoder(Box::new(runner)), about_sequences.then_some(Summary::Last))
            }
        };
        Ok(TaskRunner { body, task: model.task(), summary, head: Packed::new(model.head(), weights) })
    }

    /// What is answered.
    pub fn task(&self) -> Task {
        self.task
    }

    /// Most tokens in one pass over several sequences, and of one sequence.
    pub fn limits(&self) -> (usize, usize) {
        match &self.body {
            Body::Encoder(runner) => (runner.max_rows(), runner.encoder().config().max_positions),
            Body::Decoder(runner) => (MAX_ROWS, runner.decoder().config().max_positions),
        }
    }

    /// The head's numbers for `sequences` with the types of all their tokens, which decoders don't see: [sequences,
    /// outputs] for a task about sequences, else [N, outputs].
    ///
    /// # Errors
    /// Those of [`EncoderRunner::run_with_types`] and [`Runner::run`], or if a sequence has no tokens.
    pub fn logits(&mut self, sequences: &[&[u32]], types: &[u32]) -> Result<Vec<f32>, ModelError> {
        if sequences.iter().any(|sequence| sequence.is_empty()) {
            let problem =
                "a text without tokens, and this model puts none around it\nhint: leave empty texts out";
            return Err(ModelError::Config { place: "task".into(), problem: problem.into() });
        }
        let (hidden, c) = match &mut self.body {
            Body::Encoder(runner) => {
                let c = runner.encoder().config().hidden_size;
                (Cow::Borrowed(runner.run_with_types(sequences, types)?), c)
            }
            Body::Decoder(runner) => {
                (decoder_hidden(runner, sequences)?.into(), runner.decoder().config().hidden_size)
            }
        };
        let hidden = &hidden[..];
        let mut rows = 0;
        let ranges = sequences.iter().map(|sequence| {
            rows += sequence.len();
            rows - sequence.len()..rows
        });
        let rows_of = |places: &mut dyn Iterator<Item = usize>| -> Vec<f32> {
            places.flat_map(|row| hidden[row * c..(row + 1) * c].to_vec()).collect()
        };
        Ok(match &self.summary {
            None => self.head.apply(hidden, None),
            Some(Summary::Last) => self.head.apply(&rows_of(&mut ranges.map(|r| r.end - 1)), None),
            Some(Summary::First(pooler)) => {
                let firsts = rows_of(&mut ranges.map(|r| r.start));
                self.head.apply(&pooler.apply(&firsts, Some(Activation::Tanh)), None)
            }
            Some(Summary::Mean(dense)) => {
                let states = dense.apply(hidden, Some(Activation::GeluErf));
                let mut means = Vec::with_capacity(sequences.len() * c);
                for range in ranges {
                    let mut sum = vec![0.0; c];
                    for row in states[range.start * c..range.end * c].chunks_exact(c) {
                        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                    }
                    means.extend(sum.into_iter().map(|x| x / range.len() as f32));
                }
                self.head.apply(&means, None)
            }
        })
    }
}

/// The hidden states [N, C] of all tokens: in one pass if they fit, else sequence by sequence.
fn decoder_hidden(runner: &mut Runner, sequences: &[&[u32]]) -> Result<Vec<f32>, ModelError> {
    let mut states = Vec::new();
    if sequences.iter().map(|sequence| sequence.len()).sum::<usize>() <= MAX_ROWS {
        let mut caches: Vec<Sequence> =
            sequences.iter().map(|tokens| runner.sequence(tokens.len())).collect::<Result<_, _>>()?;
        let feeds = caches.iter_mut().zip(sequences);
        let feeds = feeds.map(|(sequence, tokens)| Feed { sequence, tokens, logits: Logits::None });
        runner.run(&mut feeds.collect::<Vec<_>>())?;
        states.extend_from_slice(runner.hidden());
        return Ok(states);
    }
    for tokens in sequences {
        let mut sequence = runner.sequence(tokens.len())?;
        for part in tokens.chunks(MAX_ROWS) {
            runner.run(&mut [Feed { sequence: &mut sequence, tokens: part, logits: Logits::None }])?;
            states.extend_from_slice(runner.hidden());
        }
    }
    Ok(states)
}
