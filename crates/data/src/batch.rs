//! Batches for training and windows for evaluation.
//!
//! B is the number of rows of a batch, T the context. Everything drawn depends on the seed and on
//! counters, so [`BatchState`] is all that a checkpoint needs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::packing::{Piece, has_pieces, pack};
use crate::shard::Shard;
use crate::shuffle::{Draws, Purpose};

/// A target that is not to be learned.
const IGNORED: i32 = -1;

/// How rows are cut from the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchMode {
    /// Windows at uniformly random offsets (nanoGPT's way).
    Random,
    /// Epochs over non-overlapping windows in shuffled order, shifted by a random phase each.
    Shuffled,
    /// Whole documents packed into rows, with the document of each token, so that attention can
    /// stay inside it and positions restart; one that is too long goes on in another row.
    Packed,
}

/// What the batches are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// T, the tokens in a row.
    pub context: usize,
    /// B, the rows in a batch.
    pub batch: usize,
    /// Fixes every draw.
    pub seed: u64,
    /// How rows are cut.
    pub mode: BatchMode,
}

/// A batch, row after row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Inputs, `[B, T]`.
    pub tokens: Vec<u32>,
    /// What follows each input, `[B, T]`; -1 where nothing is to be learned.
    pub targets: Vec<i32>,
    /// `[B, T]`: which document of its row each token belongs to, never falling along a row;
    /// padding is one of its own. Only for packed documents.
    pub segments: Option<Vec<u32>>,
    /// `[B, T]`: the position in the stretch of its document, from 0. Only for packed documents.
    pub positions: Option<Vec<u32>>,
    /// B.
    pub batch: usize,
    /// T.
    pub context: usize,
}

impl Batch {
    /// The number of targets that are not ignored.
    pub fn scored(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORED).count()
    }
}

/// Where the batches stand; with the same shard and options it continues bit for bit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchState {
    /// Batches given so far.
    pub step: u64,
    /// Passes over the tokens completed (not for random windows).
    pub epoch: u64,
    /// Rows given of this pass.
    pub row: usize,
}

/// An endless supply of batches.
pub struct Batches {
    shard: Arc<Shard>,
    options: BatchOptions,
    state: BatchState,
    /// The rows of the epoch it was made for.
    plan: Option<(u64, Plan)>,
}

enum Plan {
    Windows(Vec<usize>),
    Packed(Vec<Vec<Piece>>),
}

impl Plan {
    fn len(&self) -> usize {
        match self {
            Self::Windows(starts) => starts.len(),
            Self::Packed(rows) => rows.len(),
        }
    }
}

impl Batches {
    /// Batches of `shard` from the start.
    pub fn new(shard: Arc<Shard>, options: BatchOptions) -> Result<Self> {
        let BatchOptions { context, batch, mode, .. } = options;
        if context == 0 || batch == 0 {
            return Err(DataError::BadOption(format!(
                "a batch of {batch} rows of {context} tokens: expected at least one of each"
            )));
        }
        let tokens = shard.len();
        let enough = if mode == BatchMode::Packed { has_pieces(&shard) } else { tokens > context };
        if !enough {
            let needed = if mode == BatchMode::Packed { 2 } else { context + 1 };
            let most = tokens.saturating_sub(1);
            return Err(DataError::ShortCorpus { part: shard.name(), tokens, context, needed, most });
        }
        Ok(Self { shard, options, state: BatchState::default(), plan: None })
    }

    /// Batches that go on from `state`.
    pub fn resume(shard: Arc<Shard>, options: BatchOptions, state: BatchState) -> Result<Self> {
        Ok(Self { state, ..Self::new(shard, options)? })
    }

    /// Where the batches stand.
    pub fn state(&self) -> BatchState {
        self.state
    }

    /// The options they were made with.
    pub fn options(&self) -> &BatchOptions {
        &self.options
    }

    /// The next batch; there always is one.
    #[allow(clippy::should_implement_trait, reason = "an endless supply needs no Option")]
    pub fn next(&mut self) -> Batch {
        let BatchOptions { context, batch, seed, mode } = self.options;
        let mut out = Batch {
            tokens: Vec::with_capacity(batch * context),
            targets: Vec::with_capacity(batch * context),
            segments: (mode == BatchMode::Packed).then(Vec::new),
            positions: (mode == BatchMode::Packed).then(Vec::new),
            batch,
            context,
        };
        match mode {
            BatchMode::Random => {
                let mut draws = Draws::new(seed, Purpose::Windows, self.state.step);
                for _ in 0..batch {
                    let start = draws.below(self.shard.len() - context);
                    push_window(&self.shard, start, context, &mut out);
                }
            }
            BatchMode::Shuffled | BatchMode::Packed => {
                for _ in 0..batch {
                    self.push_planned_row(&mut out);
                }
            }
        }
        self.state.step += 1;
        out
    }

    fn push_planned_row(&mut self, out: &mut Batch) {
        let context = self.options.context;
        let (_, plan) = match self.plan.take() {
            Some(plan) if plan.0 == self.state.epoch => self.plan.insert(plan),
            _ => {
                self.plan.insert((self.state.epoch, make_plan(&self.shard, &self.options, self.state.epoch)))
            }
        };
        match plan {
            Plan::Windows(starts) => push_window(&self.shard, starts[self.state.row], context, out),
            Plan::Packed(rows) => push_packed(&self.shard, &rows[self.state.row], context, out),
        }
        self.state.row += 1;
        if self.state.row == plan.len() {
            self.state = BatchState { epoch: self.state.epoch + 1, row: 0, ..self.state };
        }
    }
}

fn make_plan(shard: &Shard, options: &BatchOptions, epoch: u64) -> Plan {
    let BatchOptions { context, seed, mode, .. } = *options;
    if mode == BatchMode::Packed {
        return Plan::Packed(pack(shard, context, seed, epoch));
    }
    // The number of windows is that of the largest phase, so that every epoch has as many.
    let inputs = shard.len() - 1;
    let phases = context.min(inputs - context + 1);
    let count = (inputs - (phases - 1)) / context;
    let mut draws = Draws::new(seed, Purpose::Epoch, epoch);
    let phase = draws.below(phases);
    Plan::Windows(
        draws.permutation(count).into_iter().map(|window| phase + window as usize * context).collect(),
    )
}

fn push_window(shard: &Shard, start: usize, context: usize, out: &mut Batch) {
    shard.read_into(start..start + context, &mut out.tokens);
    push_targets(shard, start, context, &mut out.targets);
}

fn push_targets(shard: &Shard, start: usize, len: usize, targets: &mut Vec<i32>) {
    // Ids fit: a vocabulary has far fewer than 2^31 tokens.
    targets.extend(shard.tokens(start + 1..start + len + 1).into_iter().map(|id| id as i32));
}

fn push_packed(shard: &Shard, row: &[Piece], context: usize, out: &mut Batch) {
    let Batch { tokens, targets, segments, positions, .. } = out;
    let (segments, positions) = (segments.get_or_insert_default(), positions.get_or_insert_default());
    let full = tokens.len() + context;
    for (segment, piece) in (0..).zip(row) {
        shard.read_into(piece.start..piece.start + piece.len, tokens);
        push_targets(shard, piece.start, piece.len, targets);
        segments.extend(std::iter::repeat_n(segment, piece.len));
        positions.extend(0..piece.len as u32);
    }
    let padding = full - tokens.len();
    tokens.resize(full, 0);
    targets.resize(full, IGNORED);
    segments.resize(full, row.len() as u32);
    positions.extend(0..padding as u32);
}

/// Non-overlapping windows over a whole shard, in order, a batch at a time.
///
/// Every token after the first of a window is scored once; the last position of a window has no
/// target within it and is ignored. The last window may be shorter, and the last batch may lack
/// rows: both are padded with ignored positions.
pub struct EvalWindows<'s> {
    shard: &'s Shard,
    context: usize,
    batch: usize,
    at: usize,
}

impl Shard {
    /// The windows of `context` tokens for evaluation, `batch` rows at a time.
    pub fn eval_windows(&self, context: usize, batch: usize) -> Result<EvalWindows<'_>> {
        if context < 2 || batch == 0 {
            return Err(DataError::BadOption(format!(
                "evaluation on {batch} rows of {context} tokens: expected at least 1 row of 2 tokens"
            )));
        }
        if self.len() < 2 {
            return Err(DataError::ShortCorpus {
                part: self.name(),
                tokens: self.len(),
                context,
                needed: 2,
                most: 0,
            });
        }
        Ok(EvalWindows { shard: self, context, batch, at: 0 })
    }
}

impl Iterator for EvalWindows<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let (context, batch) = (self.context, self.batch);
        // A window of one token has nothing to score.
        if self.at + 1 >= self.shard.len() {
            return None;
        }
        let (mut tokens, mut targets) =
            (Vec::with_capacity(batch * context), Vec::with_capacity(batch * context));
        for row in 1..=batch {
            let len = context.min(self.shard.len() - self.at);
            self.shard.read_into(self.at..self.at + len, &mut tokens);
            if len > 1 {
                push_targets(self.shard, self.at, len - 1, &mut targets);
            }
            self.at += len;
            tokens.resize(row * context, 0);
            targets.resize(row * context, IGNORED);
        }
        Some(Batch { tokens, targets, segments: None, positions: None, batch, context })
    }
}
