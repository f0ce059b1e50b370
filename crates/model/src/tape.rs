//! The training executor: runs a description eagerly on tensors that record their gradients.

use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::executor::{Executor, Linear, Norm, ParamId, Qkv};
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
    spans: Arc<[Span]>,
}

impl TokenBatch {
    /// `batch` rows of equal length; every token sees its row up to itself.
    pub fn causal(tokens: Vec<u32>, batch: usize) -> Self {
        let time = tokens.len().checked_div(batch).unwrap_or(0);
        let positions = (0..batch).flat_map(|_| 0..time as u32).collect();
        TokenBatch { batch, positions, spans: spans_causal(batch, time, time).into(), tokens }
    }

    /// Rows of documents packed one after another: attention stays inside each, and positions start
    /// again. `segments` [B, T] numbers the documents of each row, ascending.
    pub fn packed(tokens: Vec<u32>, batch: usize, segments: &[u32], positions: Vec<u32>) -> Self {
        assert_eq!(tokens.len(), segments.len(), "one segment a token");
        assert_eq!(tokens.len(), positions.len(), "one position a token");
        let spans = spans_segments(segments, batch, true).into();
        TokenBatch { batch, positions: positions.into(), spans, tokens }
    }

    /// Spans and positions of one's own making, for masks that the others don't cover.
    pub fn with_spans(tokens: Vec<u32>, batch: usize, positions: Vec<u32>, spans: Vec<Span>) -> Self {
        assert!(tokens.len() == positions.len() && tokens.len() == spans.len(), "one of each a token");
        TokenBatch { batch, positions: positions.into(), spans: spans.into(), tokens }
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
        Trainable { decoder, rope, dropout: 0.0, dropout_seed: 0 }
    }

    /// The description.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The final hidden states, [N, C].
    pub fn hidden(&self, weights: &Weights, batch: &TokenBatch) -> Result<Tensor, ModelError> {
        let config = self.decoder.config();
        if let Some(&id) = batch.tokens.iter().find(|&&id| id as usize >= config.vocab_size) {
            return Err(ModelError::TokenId { id, vocab_size: config.vocab_size });
        }
        if let Some(&position) = batch.positions.iter().max().filter(|&&p| p as usize >= config.max_positions)
        {
            return Err(ModelError::Context {
                what: "the model",
                got: position as usize + 1,
                limit: config.max_positions,
                hint: "train on shorter windows, or give the model more positions",
            });
        }
        self.decoder.hidden(&mut Tape { model: self, weights, batch, dropouts: 0 })
    }

    /// Logits, [N, V].
    pub fn logits(&self, weights: &Weights, batch: &TokenBatch) -> Result<Tensor, ModelError> {
        let hidden = self.hidden(weights, batch)?;
        Ok(nn::linear(&hidden, weights.get(self.decoder.head().weight), None, None)?)
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
        let head = weights.get(self.decoder.head().weight);
        Ok(nn::linear_cross_entropy(&hidden, head, targets, options)?)
    }
}

struct Tape<'a> {
    model: &'a Trainable,
    weights: &'a Weights,
    batch: &'a TokenBatch,
    dropouts: u64,
}

impl Tape<'_> {
    /// [N, H·D] as [B, T, H, D].
    fn heads(&self, x: &Tensor, head_dim: usize) -> Result<Tensor, ModelError> {
        let (b, t) = (self.batch.batch(), self.batch.time());
        Ok(x.reshape(&[b, t, x.len() / (b * t * head_dim).max(1), head_dim])?)
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
        let rows = nn::embedding(self.weights.get(table), &self.batch.tokens)?;
        Ok(if scale == 1.0 { rows } else { rows.scale(scale) })
    }

    fn embed_positions(&mut self, table: ParamId, _width: usize) -> Result<Tensor, ModelError> {
        Ok(nn::embedding(self.weights.get(table), &self.batch.positions)?)
    }

    fn linear(
        &mut self,
        x: &Tensor,
        layer: &Linear,
        activation: Option<Activation>,
    ) -> Result<Tensor, ModelError> {
        let (weight, bias) = (self.weights.get(layer.weight), layer.bias.map(|b| self.weights.get(b)));
        Ok(if layer.in_out {
            nn::linear_in_out(x, weight, bias, activation)?
        } else {
            nn::linear(x, weight, bias, activation)?
        })
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
        let local = self.model.decoder.config().window_of(layer).is_some();
        let table =
            &self.model.rope.as_ref().expect("a description with RoPE has tables")[usize::from(local)];
        let heads = self.heads(&x, self.model.decoder.config().head_dim)?;
        self.rows(&nn::rope(&heads, &self.batch.positions, table)?)
    }

    fn attention(&mut self, layer: usize, qkv: Qkv<Tensor>) -> Result<Tensor, ModelError> {
        let config = self.model.decoder.config();
        let (dim, scale) = (config.head_dim, config.attention_scale());
        let spans = &match config.window_of(layer) {
            Some(window) => self.batch.windowed(window),
            None => self.batch.spans.clone(),
        };
        let mixed = match qkv {
            Qkv::Fused(qkv) => {
                let (b, t) = (self.batch.batch(), self.batch.time());
                let qkv = qkv.reshape(&[b, t, 3 * config.hidden_size])?;
                nn::attention_qkv(&qkv, config.n_heads, spans, scale)?
            }
            Qkv::Separate { q, k, v } => {
                let (q, k, v) = (self.heads(&q, dim)?, self.heads(&k, dim)?, self.heads(&v, dim)?);
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
        if self.model.dropout == 0.0 {
            return Ok(x);
        }
        self.dropouts += 1;
        let seed = self.model.dropout_seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(self.dropouts);
        Ok(x.dropout(self.model.dropout, seed)?)
    }
}
