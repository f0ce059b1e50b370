//! How well a model predicts held-out text: loss, perplexity, bits per byte, and the same for the
//! n-gram model beside it.

use crate::error::TrainError;
use hearth_data::{KneserNey, Shard};
use hearth_kernel::loss::IGNORED;
use hearth_model::Weights;
use hearth_model::tape::{TokenBatch, Trainable};
use hearth_tensor::nn::CrossEntropyOptions;
use hearth_tensor::no_grad;
use hearth_tokenizer::Tokenizer;

/// A measurement over held-out tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Nats over all scored tokens.
    pub nats: f64,
    /// Tokens scored.
    pub tokens: usize,
    /// Bytes of text that they stand for.
    pub bytes: usize,
    /// How many had the largest logit, where masked tokens are to be found.
    pub correct: Option<usize>,
}

impl Score {
    /// Nats a token.
    pub fn loss(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// e to the loss.
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Share of the tokens that had the largest logit, where masked tokens are to be found.
    pub fn accuracy(&self) -> Option<f64> {
        self.correct.map(|correct| correct as f64 / self.tokens as f64)
    }

    /// Bits for each byte of text: comparable between tokenizers and with compressors. Of masked tokens: for each
    /// byte of theirs, given the text around them.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.bytes as f64
    }
}

/// The bytes of text that each token stands for; special tokens stand for none.
#[derive(Clone, Debug)]
pub struct TokenLengths(Vec<u32>);

impl TokenLengths {
    /// The lengths in `tokenizer`'s vocabulary.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let len = |id| match tokenizer.token_bytes(id) {
            Some(bytes) if !tokenizer.is_special(id) => bytes.len() as u32,
            _ => 0,
        };
        TokenLengths((0..tokenizer.vocab_size() as u32).map(len).collect())
    }

    pub(crate) fn total(&self, tokens: impl Iterator<Item = u32>) -> usize {
        tokens.map(|t| self.0.get(t as usize).copied().unwrap_or(0) as usize).sum()
    }
}

/// Scores held-out tokens in non-overlapping windows of `context`, every token after the first of a
/// window once; `limit` stops after so many tokens.
pub fn evaluate(
    model: &Trainable,
    weights: &Weights,
    heldout: &Shard,
    lengths: &TokenLengths,
    context: usize,
    limit: Option<usize>,
) -> Result<Score, TrainError> {
    let mut score = Score::default();
    // Rows enough for the matrix products, few enough for memory.
    let rows = (4096 / context).clamp(1, 64);
    for batch in heldout.eval_windows(context, rows)? {
        let targets = batch.targets;
        let tokens = TokenBatch::causal(batch.tokens, rows);
        let out = no_grad(|| model.loss(weights, &tokens, &targets, &CrossEntropyOptions::default()))?;
        score.nats += out.sum;
        score.tokens += out.count;
        score.bytes += lengths.total(targets.iter().filter(|&&t| t != IGNORED).map(|&t| t as u32));
        if limit.is_some_and(|limit| score.tokens >= limit) {
            break;
        }
    }
    Ok(score)
}

/// At most `limit` of a shard's tokens: stretches of some thousand from all over it.
pub fn spread_tokens(shard: &Shard, limit: usize) -> Vec<u32> {
    const STRETCH: usize = 8192;
    let stretches = limit.div_ceil(STRETCH).max(1);
    if limit >= shard.len() {
        return shard.all();
    }
    let len = limit / stretches;
    (0..stretches)
        .flat_map(|i| shard.tokens(i * shard.len() / stretches..i * shard.len() / stretches + len))
        .collect()
}

/// A Kneser–Ney model of order `order` trained on `tokens`, scored on all held-out tokens but the
/// first. It sees across the windows that cut the neural model's context.
pub fn ngram_floor(
    tokens: &[u32],
    heldout: &Shard,
    lengths: &TokenLengths,
    order: usize,
    vocab_size: usize,
) -> Result<Score, TrainError> {
    let model = KneserNey::train(tokens, order, vocab_size)?;
    let heldout = heldout.all();
    let (nats, tokens) = model.evaluate(&heldout);
    let bytes = lengths.total(heldout.into_iter().skip(1));
    Ok(Score { nats, tokens, bytes, correct: None })
}
