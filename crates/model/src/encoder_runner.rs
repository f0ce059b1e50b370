//! Runs an encoder's plan for inference: sequences of any lengths side by side, without padding and without a
//! cache.

use crate::encoder::Encoder;
use crate::error::ModelError;
use crate::layers::{Ids, Layers};
use crate::plan::{Op, Plan};
use crate::runner::MAX_ROWS;
use crate::source::Source;
use hearth_kernel::attention::{AttentionShape, attention_segments};
use hearth_kernel::quant::BlockType;
use hearth_kernel::rope::{RopeTable, rope};

/// An encoder ready to run: packed weights, static buffers.
#[derive(Debug)]
pub struct EncoderRunner {
    encoder: Encoder,
    plan: Plan,
    layers: Layers,
    rope: Option<RopeTable>,
    max_rows: usize,
}

impl EncoderRunner {
    /// Packs the parameters of `encoder`: matrices in the type that the source has, or in `kind`, which is
    /// `F32` or a type of blocks.
    ///
    /// # Errors
    /// If the matrices don't consist of whole blocks of `kind`, or can't be quantised.
    pub fn new(encoder: Encoder, source: &dyn Source, kind: Option<BlockType>) -> Result<Self, ModelError> {
        let plan = Plan::of_encoder(&encoder)?;
        // The longest sequence has to fit in one pass.
        let max_rows = MAX_ROWS.max(encoder.config().max_positions);
        let layers = Layers::pack(&plan, None, source, max_rows, kind)?;
        let positions = encoder.config().max_positions;
        let table = |frequencies: Vec<f64>| RopeTable::with_frequencies(&frequencies, positions);
        let rope = encoder.rope_frequencies().map(table);
        Ok(EncoderRunner { encoder, plan, layers, rope, max_rows })
    }

    /// The description that runs here.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Most tokens in one pass.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// The final hidden states of `sequences`, one after the other: [N, C]. Each token sees its own sequence
    /// and nothing else, so that a sequence has the same bits alone and beside others.
    ///
    /// # Errors
    /// If a sequence is longer than the model has positions, all together are longer than
    /// [`max_rows`](Self::max_rows), or an id is outside the vocabulary.
    pub fn run(&mut self, sequences: &[&[u32]]) -> Result<&[f32], ModelError> {
        let types = vec![0; sequences.iter().map(|s| s.len()).sum()];
        self.run_with_types(sequences, &types)
    }

    /// The same with the type of each token: 0 in a first text, 1 in a second. A model without types doesn't look
    /// at them.
    ///
    /// # Errors
    /// Those of [`run`](Self::run), or if there isn't one type a token, or one isn't the model's.
    pub fn run_with_types(&mut self, sequences: &[&[u32]], types: &[u32]) -> Result<&[f32], ModelError> {
        let config = self.encoder.config();
        let tokens = sequences.concat();
        let highest = types.iter().max().map_or(0, |&kind| kind as usize);
        let known = config.n_types == 0 || highest < config.n_types;
        if types.len() != tokens.len() || !known {
            let (n, t, most) = (tokens.len(), types.len(), config.n_types);
            let problem =
                format!("{t} types up to {highest} for {n} tokens, expected one each, less than {most}");
            return Err(ModelError::Config { place: "batch".into(), problem });
        }
        let longest = sequences.iter().map(|s| s.len()).max().unwrap_or(0);
        let limits = [
            ("the model", longest, config.max_positions, "cut the text"),
            ("one pass", tokens.len(), self.max_rows, "run fewer sequences at a time"),
        ];
        for (what, got, limit, hint) in limits {
            if got > limit {
                return Err(ModelError::Context { what, got, limit, hint });
            }
        }
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= config.vocab_size) {
            return Err(ModelError::TokenId { id, vocab_size: config.vocab_size });
        }
        let positions: Vec<u32> = sequences.iter().flat_map(|s| 0..s.len() as u32).collect();
        let mut segments = Vec::with_capacity(sequences.len());
        let mut end = 0;
        for sequence in sequences {
            segments.push(end..end + sequence.len());
            end += sequence.len();
        }
        let (n, heads, kv_heads) = (tokens.len(), config.n_heads, config.n_kv_heads());
        let mut shape = AttentionShape::contiguous(1, n, n, heads, kv_heads, config.head_dim());
        shape.scale = config.attention_scale();
        let (width, kv_width) = (config.hidden_size, kv_heads * config.head_dim());
        let ids = Ids { tokens: &tokens, positions: &positions, types, adapted: &[] };
        let ops = &self.plan.ops;
        let mut next = 0;
        while next < ops.len() {
            next += match ops[next] {
                Op::Attention { q, k, v, out, .. } => {
                    self.layers.writing(out, |layers, out| {
                        let q = &layers.buffers[q][..n * width];
                        let [k, v] = [k, v].map(|slot| &layers.buffers[slot][..n * kv_width]);
                        attention_segments(&shape, &segments, q, k, v, &mut out[..n * width]);
                    });
                    1
                }
                Op::Rope { x, heads, cols, .. } => {
                    let table = self.rope.as_ref().expect("a description with RoPE has a table");
                    rope(&mut self.layers.buffers[x][..n * cols], &positions, heads, table, false);
                    1
                }
                _ => self.layers.step(&ops[next..], &ids),
            };
        }
        Ok(&self.layers.buffers[self.plan.hidden][..n * width])
    }
}
