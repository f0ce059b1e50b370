//! What the numbers of a head are held against, and the losses that `transformers` takes for each.

use crate::error::TrainError;
use hearth_model::tape::TokenBatch;
use hearth_tensor::{Tensor, nn};

/// The right answers of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// One class a row; -1 doesn't count.
    Classes(Vec<i32>),
    /// For each label of each row, whether it holds: 0 or 1.
    Labels(Vec<f32>),
    /// One value a row.
    Values(Vec<f32>),
    /// First and last token of the answer in each sequence, counted within it.
    Spans(Vec<(u32, u32)>),
}

/// The mean loss of `logits`:
///
/// - classes [rows, classes]: cross-entropy over the rows that count;
/// - labels [rows, labels]: binary cross-entropy, each label on its own;
/// - values [rows, 1]: squared error;
/// - spans [N, 2]: the mean of two cross-entropies, each over the tokens of its sequence (Devlin et al. 2019,
///   section 4.2).
///
/// # Errors
/// If the shapes don't agree.
pub fn loss(logits: &Tensor, targets: &Targets, batch: &TokenBatch) -> Result<Tensor, TrainError> {
    Ok(match targets {
        Targets::Classes(classes) => nn::cross_entropy(logits, classes, &Default::default())?.loss,
        Targets::Labels(labels) => {
            nn::binary_cross_entropy(logits, &Tensor::from_slice(labels, logits.shape())?)?
        }
        Targets::Values(values) => logits.sub(&Tensor::from_slice(values, logits.shape())?)?.square().mean(),
        Targets::Spans(spans) => span_loss(logits, spans, batch)?,
    })
}

fn span_loss(logits: &Tensor, spans: &[(u32, u32)], batch: &TokenBatch) -> Result<Tensor, TrainError> {
    let mut sum = Tensor::scalar(0.0);
    let ranges = batch.first_rows().into_iter().zip(batch.last_rows());
    for ((first, last), &(start, end)) in ranges.zip(spans) {
        // [2, T]: a row of starts, a row of ends.
        let own = logits.slice(0, first as usize..last as usize + 1)?.transpose(0, 1)?;
        let answers = [start as i32, end as i32];
        sum = sum.add(&nn::cross_entropy(&own, &answers, &Default::default())?.loss)?;
    }
    Ok(sum.scale(1.0 / spans.len().max(1) as f32))
}
