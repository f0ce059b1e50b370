//! Runs a model with a head for inference: the architecture's plan, then the head on packed weights. A
//! sequence's numbers have the same bits alone and beside others.

use crate::encoder_runner::EncoderRunner;
use crate::error::ModelError;
use crate::executor::Linear;
use crate::task::{Backbone, Task, TaskModel};
use crate::weights::Weights;
use hearth_kernel::activation::Activation;
use hearth_kernel::gemm::{Epilogue, Mat, MatMut, PackedMatrix, Write, gemm_packed};

/// A model with a head, ready to run.
#[derive(Debug)]
pub struct TaskRunner {
    runner: EncoderRunner,
    task: Task,
    summary: Option<Summary>,
    head: Packed,
}

/// What a sequence is judged by.
#[derive(Debug)]
enum Summary {
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
    /// If the architecture can't run with a head.
    pub fn new(model: &TaskModel, weights: &Weights) -> Result<Self, ModelError> {
        let Backbone::Encoder(encoder) = model.backbone() else {
            let problem = "a decoder's head doesn't run yet".to_owned();
            return Err(ModelError::Config { place: "task".into(), problem });
        };
        let merged = model.lora().map(|lora| lora.merge(weights));
        let weights = merged.as_ref().unwrap_or(weights);
        let encoder = encoder.encoder();
        let pooled = matches!(model.task(), Task::Sequence(_));
        Ok(TaskRunner {
            runner: EncoderRunner::new(encoder.clone(), weights, None)?,
            task: model.task(),
            summary: match (model.dense(), encoder.pooler().filter(|_| pooled)) {
                (Some(dense), _) => Some(Summary::Mean(Packed::new(dense, weights))),
                (None, pooler) => pooler.map(|layer| Summary::First(Packed::new(layer, weights))),
            },
            head: Packed::new(model.head(), weights),
        })
    }

    /// What is answered.
    pub fn task(&self) -> Task {
        self.task
    }

    /// Most tokens in one pass, and of one sequence.
    pub fn limits(&self) -> (usize, usize) {
        (self.runner.max_rows(), self.runner.encoder().config().max_positions)
    }

    /// The head's numbers for `sequences` with the types of all their tokens: [sequences, outputs] for a task
    /// about sequences, else [N, outputs].
    ///
    /// # Errors
    /// Those of [`EncoderRunner::run_with_types`].
    pub fn logits(&mut self, sequences: &[&[u32]], types: &[u32]) -> Result<Vec<f32>, ModelError> {
        let c = self.runner.encoder().config().hidden_size;
        let hidden = self.runner.run_with_types(sequences, types)?;
        let mut rows = 0;
        let ranges = sequences.iter().map(|sequence| {
            rows += sequence.len();
            rows - sequence.len()..rows
        });
        Ok(match &self.summary {
            None => self.head.apply(hidden, None),
            Some(Summary::First(pooler)) => {
                let firsts: Vec<f32> =
                    ranges.flat_map(|r| hidden[r.start * c..(r.start + 1) * c].to_vec()).collect();
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
