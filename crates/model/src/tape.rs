//! The training executor: runs a description eagerly on tensors that record their gradients.

use crate::config::DecoderConfig;
use crate::decoder::Decoder;
use crate::encoder::Encoder;
use crate::error::ModelError;
use crate::executor::{Executor, Linear, Norm, ParamId, Qkv};
use crate::lora::Lora;
use crate::weights::Weights;
use hearth_kernel::activation::Activation;
use hearth_kernel::attention::{Span, spans_causal, spans_segments};
use hearth_kernel::rope::RopeTable;
use hearth_tensor::Tensor;
use hearth_tensor::nn;
use std::sync::Arc;

/// Token ids [B, T], and what each may see.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    tokens: Vec<u32>,
    batch: usize,
    positions: Arc<[u32]>,
    /// Which of two texts each token belongs to; none: all to the first.
    types: Option<Arc<[u32]>>,
    spans: Arc<[Span]>,
}

impl TokenBatch {
    /// `batch` rows of equal length; every token sees its row up to itself.
    pub fn causal(tokens: Vec<u32>, batch: usize) -> Self {
        let time = tokens.len().checked_div(batch).unwrap_or(0);
        let positions = (0..batch).flat_map(|_| 0..time as u32).collect();
        TokenBatch { batch, positions, types: None, spans: spans_causal(batch, time, time).into(), tokens }
    }

    /// Rows of documents packed one after another: attention stays inside each, and positions start
    /// again. `segments` [B, T] numbers the documents of each row, ascending.
    pub fn packed(tokens: Vec<u32>, batch: usize, segments: &[u32], positions: Vec<u32>) -> Self {
        assert_eq!(tokens.len(), segments.len(), "one segment a token");
        assert_eq!(tokens.len(), positions.len(), "one position a token");
        let spans = spans_segments(segments, batch, true).into();
        TokenBatch { batch, positions: positions.into(), types: None, spans, tokens }
    }

    /// Spans and positions of one's own making, for masks that the others don't cover.
    pub fn with_spans(tokens: Vec<u32>, batch: usize, positions: Vec<u32>, spans: Vec<Span>) -> Self {
        assert!(tokens.len() == positions.len() && tokens.len() == spans.len(), "one of each a token");
        TokenBatch { batch, positions: positions.into(), types: None, spans: spans.into(), tokens }
    }

    /// Sequences of any lengths side by side in one row, without padding, for an encoder: every token sees
    /// all of its own sequence and nothing else.
    pub fn bidirectional(sequences: &[&[u32]]) -> Self {
        let segments: Vec<u32> =
            (0..).zip(sequences).flat_map(|(i, s)| std::iter::repeat_n(i, s.len())).collect();
        TokenBatch {
            batch: 1,
            positions: sequences.iter().flat_map(|s| 0..s.len() as u32).collect(),
            types: None,
            spans: spans_segments(&segments, 1, false).into(),
            tokens: sequences.concat(),
        }
    }

    /// The same with the type of each token: 0 in a first text, 1 in a second.
    ///
    /// # Panics
    /// If there isn't one type a token.
    #[must_use]
    pub fn with_types(self, types: Vec<u32>) -> Self {
        assert_eq!(types.len(), self.tokens.len(), "one type a token");
        TokenBatch { types: Some(types.into()), ..self }
    }

    /// Checks that ids and positions are the model's.
    fn check(&self, vocab_size: usize, max_positions: usize) -> Result<(), ModelError> {
        if let Some(&id) = self.tokens.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(ModelError::TokenId { id, vocab_size });
        }
        match self.positions.iter().max().filter(|&&p| p as usize >= max_positions) {
            Some(&position) => Err(ModelError::Context {
                what: "the model",
                got: position as usize + 1,
                limit: max_positions,
                hint: "train on shorter windows, or give the model more positions",
            }),
            None => Ok(()),
        }
    }

    /// Spans cut to the last `window` tokens up to each.
    fn windowed(&self, window: usize) -> Arc<[Span]> {
        let time = self.time() as u32;
        let cut = |(i, span): (usize, &Span)| {
            let position = i as u32 % time.max(1);
            Span { lo: span.lo.max((position + 1).saturating_sub(window as u32)), ..*span }
        };
        self.spans.iter().enumerate().map(cut).collect()
    }

    /// The row of each sequence's first token.
    pub fn first_rows(&self) -> Vec<u32> {
        let firsts = (0..).zip(self.positions.iter()).filter(|(_, position)| **position == 0);
        firsts.map(|(row, _)| row).collect()
    }

    /// The row of each sequence's last token.
    pub fn last_rows(&self) -> Vec<u32> {
        let next = self.first_rows().into_iter().skip(1).chain([self.tokens.len() as u32]);
        next.map(|row| row.saturating_sub(1)).collect()
    }

    /// The mean of each sequence's rows of `x` [N, C]: [sequences, C].
    ///
    /// # Errors
    /// If `x` hasn't one row a token.
    pub fn sequence_means(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let (firsts, lasts, n) = (self.first_rows(), self.last_rows(), self.tokens.len());
        // A product with the shares of a sequence's tokens; it is small beside those of one block.
        let mut shares = vec![0.0; firsts.len() * n];
        for ((share, first), last) in shares.chunks_exact_mut(n.max(1)).zip(&firsts).zip(&lasts) {
            share[*first as usize..=*last as usize].fill(1.0 / (last - first + 1) as f32);
        }
        Ok(Tensor::from_vec(shares, &[firsts.len(), n])?.matmul(x)?)
    }

    /// B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// T.
    pub fn time(&self) -> usize {
        self.tokens.len().checked_div(self.batch).unwrap_or(0)
    }
}

/// A decoder with what training needs beside its weights.
#[derive(Debug)]
pub struct Trainable {
    decoder: Decoder,
    /// For blocks that see everything, and for those with a sliding window.
    rope: Option<[Arc<RopeTable>; 2]>,
    /// Probability of zeroing a value where GPT-1 and GPT-2 have dropout; 0 turns it off.
    pub dropout: f32,
    /// Which values: a new seed a step gives new masks, the same seed the same ones.
    pub dropout_seed: u64,
    /// Updates of low rank, whose parameters follow the decoder's.
    pub lora: Option<Lora>,
}

impl Trainable {
    /// Prepares `decoder` for training, without dropout.
    pub fn new(decoder: Decoder) -> Self {
        let config = decoder.config();
        let table = |windowed| {
            let frequencies = config.rope_frequencies(windowed);
            Arc::new(RopeTable::with_frequencies(&frequencies, config.max_positions))
        };
        let rope = (!config.family.is_gpt()).then(|| {
            let global = table(false);
            let local = config.sliding.map_or_else(|| global.clone(), |_| table(true));
            [global, local]
        });
        Trainable { decoder, rope, dropout: 0.0, dropout_seed: 0, lora: None }
    }

    /// The description.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The final hidden states, [N, C].
    pub fn hidden(&self, weights: &Weights, batch: &TokenBatch) -> Result<Tensor, ModelError> {
        let config = self.decoder.config();
        batch.check(config.vocab_size, config.max_positions)?;
        let mut tape = Tape {
            weights,
            batch,
            rope: self.rope.as_ref(),
            windows: Some(config),
            n_heads: config.n_heads,
            head_dim: config.head_dim,
            scale: config.attention_scale(),
            dropout: self.dropout,
            dropout_seed: self.dropout_seed,
            dropouts: 0,
            lora: self.lora.as_ref(),
        };
        self.decoder.hidden(&mut tape)
    }

    /// Logits, [N, V].
    pub fn logits(&self, weights: &Weights, batch: &TokenBatch) -> Result<Tensor, ModelError> {
        let hidden = self.hidden(weights, batch)?;
        Ok(nn::linear(&hidden, &weights.widened(self.decoder.head().weight), None, None)?)
    }

    /// Mean cross-entropy over the targets that aren't -1; the logits of the whole batch never exist.
    pub fn loss(
        &self,
        weights: &Weights,
        batch: &TokenBatch,
        targets: &[i32],
        options: &nn::CrossEntropyOptions,
    ) -> Result<nn::LossOutput, ModelError> {
        let hidden = self.hidden(weights, batch)?;
        let head = weights.widened(self.decoder.head().weight);
        Ok(nn::linear_cross_entropy(&hidden, &head, None, targets, options)?)
    }
}

/// An encoder with what training needs beside its weights.
#[derive(Debug)]
pub struct TrainableEncoder {
    encoder: Encoder,
    rope: Option<[Arc<RopeTable>; 2]>,
    /// Probability of zeroing a value after the embeddings, each attention and each feed-forward block; 0 turns it off.
    pub dropout: f32,
    /// Which values: a new seed a step gives new masks, the same seed the same ones.
    pub dropout_seed: u64,
    /// Updates of low rank, whose parameters follow the model's.
    pub lora: Option<Lora>,
}

impl TrainableEncoder {
    /// Prepares `encoder` for training, without dropout.
    pub fn new(encoder: Encoder) -> Self {
        let rope = encoder.rope_frequencies().map(|frequencies| {
            let table = RopeTable::with_frequencies(&frequencies, encoder.config().max_positions);
            let table = Arc::new(table);
            [table.clone(), table]
        });
        TrainableEncoder { encoder, rope, dropout: 0.0, dropout_seed: 0, lora: None }
    }

    /// The description.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The final hidden states, [N, C].
    pub fn hidden(&self, weights: &Weights, batch: &TokenBatch) -> Result<Tensor, ModelError> {
        let config = self.encoder.config();
        batch.check(config.vocab_size, config.max_positions)?;
        let types = batch.types.iter().filter(|_| config.n_types > 0).flat_map(|types| types.iter());
        if let Some(kind) = types.copied().find(|&kind| kind as usize >= config.n_types) {
            let problem = format!("token type {kind}, expected less than {}", config.n_types);
            return Err(ModelError::Config { place: "batch".into(), problem });
        }
        let mut tape = Tape {
            weights,
            batch,
            rope: self.rope.as_ref(),
            windows: None,
            n_heads: config.n_heads,
            head_dim: config.head_dim(),
            scale: config.attention_scale(),
            dropout: self.dropout,
            dropout_seed: self.dropout_seed,
            dropouts: 0,
            lora: self.lora.as_ref(),
        };
        self.encoder.hidden(&mut tape)
    }

    /// `tanh(W h + b)` of each sequence's first row in `hidden`, [sequences, C], as BERT's classifiers take it.
    ///
    /// # Errors
    /// If the model has no pooler.
    pub fn pooled(
        &self,
        weights: &Weights,
        batch: &TokenBatch,
        hidden: &Tensor,
    ) -> Result<Tensor, ModelError> {
        let Some(pooler) = self.encoder.pooler() else {
            let problem = "it has no pooler, which is asked for".to_owned();
            return Err(ModelError::Config { place: "encoder".into(), problem });
        };
        let first = nn::embedding(hidden, &batch.first_rows())?;
        adapted(weights, self.lora.as_ref(), &first, pooler, Some(Activation::Tanh))
    }
}

/// A linear layer with the update that it may have.
fn adapted(
    weights: &Weights,
    lora: Option<&Lora>,
    x: &Tensor,
    layer: &Linear,
    activation: Option<Activation>,
) -> Result<Tensor, ModelError> {
    let bias = layer.bias.map(|b| weights.get(b));
    let product = |activation| match weights.half(layer.weight) {
        Some(weight) => nn::linear_half(x, weight, bias, activation, layer.in_out),
        None if layer.in_out => nn::linear_in_out(x, weights.get(layer.weight), bias, activation),
        None => nn::linear(x, weights.get(layer.weight), bias, activation),
    };
    let Some(update) = lora.and_then(|lora| lora.of(layer.weight)) else { return Ok(product(activation)?) };
    let (a, b) = (weights.get(update.a), weights.get(update.b));
    let y = nn::add_low_rank(product(None)?, x, a, b, update.scale)?;
    Ok(match activation {
        Some(kind) => nn::activation(&y, kind),
        None => y,
    })
}

struct Tape<'a> {
    weights: &'a Weights,
    batch: &'a TokenBatch,
    rope: Option<&'a [Arc<RopeTable>; 2]>,
    /// For sliding windows, which decoders may have.
    windows: Option<&'a DecoderConfig>,
    n_heads: usize,
    head_dim: usize,
    scale: f32,
    dropout: f32,
    dropout_seed: u64,
    dropouts: u64,
    lora: Option<&'a Lora>,
}

impl Tape<'_> {
    /// [N, H·D] as [B, T, H, D].
    fn heads(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let (b, t, d) = (self.batch.batch(), self.batch.time(), self.head_dim);
        Ok(x.reshape(&[b, t, x.len() / (b * t * d).max(1), d])?)
    }

    /// Rows of a table.
    fn rows_of(&self, table: ParamId, ids: &[u32]) -> Result<Tensor, ModelError> {
        Ok(match self.weights.half(table) {
            Some(table) => table.rows(ids)?,
            None => nn::embedding(self.weights.get(table), ids)?,
        })
    }

    fn window_of(&self, layer: usize) -> Option<usize> {
        self.windows.and_then(|config| config.window_of(layer))
    }

    /// [B, T, H, D] as [N, H·D].
    fn rows(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let n = self.batch.tokens.len();
        Ok(x.reshape(&[n, x.len() / n.max(1)])?)
    }
}

impl Executor for Tape<'_> {
    type Value = Tensor;

    fn embed_tokens(&mut self, table: ParamId, _width: usize, scale: f32) -> Result<Tensor, ModelError> {
        let rows = self.rows_of(table, &self.batch.tokens)?;
        Ok(if scale == 1.0 { rows } else { rows.scale(scale) })
    }

    fn embed_positions(&mut self, table: ParamId, _width: usize) -> Result<Tensor, ModelError> {
        self.rows_of(table, &self.batch.positions)
    }

    fn embed_types(&mut self, table: ParamId, _width: usize) -> Result<Tensor, ModelError> {
        let first;
        let types = match &self.batch.types {
            Some(types) => types,
            None => {
                first = vec![0; self.batch.tokens.len()].into();
                &first
            }
        };
        self.rows_of(table, types)
    }

    fn linear(
        &mut self,
        x: &Tensor,
        layer: &Linear,
        activation: Option<Activation>,
    ) -> Result<Tensor, ModelError> {
        adapted(self.weights, self.lora, x, layer, activation)
    }

    fn norm(&mut self, x: &Tensor, norm: &Norm, width: usize) -> Result<Tensor, ModelError> {
        let scale = self.weights.get(norm.scale);
        let parts = x.reshape(&[x.len() / width, width])?;
        let normed = if norm.rms {
            nn::rms_norm(&parts, scale, norm.eps)?
        } else {
            nn::layer_norm(&parts, scale, norm.shift.map(|s| self.weights.get(s)), norm.eps)?
        };
        Ok(normed.reshape(x.shape())?)
    }

    fn rope(&mut self, layer: usize, x: Tensor, _heads: usize) -> Result<Tensor, ModelError> {
        let local = self.window_of(layer).is_some();
        let table = &self.rope.expect("a description with RoPE has tables")[usize::from(local)];
        let heads = self.heads(&x)?;
        self.rows(&nn::rope(&heads, &self.batch.positions, table)?)
    }

    fn attention(&mut self, layer: usize, qkv: Qkv<Tensor>) -> Result<Tensor, ModelError> {
        let scale = self.scale;
        let spans = &match self.window_of(layer) {
            Some(window) => self.batch.windowed(window),
            None => self.batch.spans.clone(),
        };
        let mixed = match qkv {
            Qkv::Fused(qkv) => {
                let (b, t) = (self.batch.batch(), self.batch.time());
                let qkv = qkv.reshape(&[b, t, qkv.len() / (b * t).max(1)])?;
                nn::attention_qkv(&qkv, self.n_heads, spans, scale)?
            }
            Qkv::Separate { q, k, v } => {
                let (q, k, v) = (self.heads(&q)?, self.heads(&k)?, self.heads(&v)?);
                nn::attention(&q, &k, &v, spans, scale)?
            }
        };
        self.rows(&mixed)
    }

    fn gated(&mut self, activation: Activation, gate: Tensor, up: Tensor) -> Result<Tensor, ModelError> {
        Ok(match activation {
            Activation::Silu => nn::swiglu(&gate, &up)?,
            kind => nn::activation(&gate, kind).mul(&up)?,
        })
    }

    fn add(&mut self, a: Tensor, b: Tensor) -> Result<Tensor, ModelError> {
        Ok(a.add(&b)?)
    }

    fn dropout(&mut self, x: Tensor) -> Result<Tensor, ModelError> {
        if self.dropout == 0.0 {
            return Ok(x);
        }
        self.dropouts += 1;
        let seed = self.dropout_seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(self.dropouts);
        Ok(x.dropout(self.dropout, seed)?)
    }
}
