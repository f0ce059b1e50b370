//! `run.jsonl`: one event a line, appended as it happens, so that a run that dies has told all it did.

use fs_err::{File, OpenOptions};
use hearth_tokenizer::replace_file;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

/// One line of `run.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Record {
    /// The run starts.
    Start {
        /// First step to be done.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Trained parameters.
        params: usize,
        /// Floating-point operations to train on one token.
        flops_per_token: f64,
        /// Seconds since 1970.
        unix_time: u64,
    },
    /// One optimiser step.
    Step {
        /// Steps done.
        step: u64,
        /// Mean training loss, nats a token.
        loss: f32,
        /// The rate as a share of the peak.
        lr_factor: f32,
        /// Global gradient norm before clipping.
        grad_norm: f32,
        /// Tokens trained on so far.
        tokens: u64,
        /// Of this step.
        tokens_per_second: f64,
        /// Seconds of training so far.
        seconds: f64,
        /// Bytes in tensors now.
        memory_bytes: usize,
        /// Of the processor's package, where the machine tells.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        watts: Option<f64>,
    },
    /// A look at held-out text.
    Eval {
        /// Steps done.
        step: u64,
        /// Nats a token.
        val_loss: f64,
        /// Bits a byte of text.
        val_bits_per_byte: f64,
        /// Share of the masked tokens that were found, where that is the objective.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        val_accuracy: Option<f64>,
        /// Seconds of training so far.
        seconds: f64,
    },
    /// The floor that a neural model has to beat.
    Ngram {
        /// n.
        order: usize,
        /// Tokens that it was counted on.
        tokens: u64,
        /// Nats a token.
        val_loss: f64,
        /// Bits a byte of text.
        val_bits_per_byte: f64,
    },
    /// Text that the model wrote.
    Sample {
        /// Steps done.
        step: u64,
        /// The prompt, then what follows.
        text: String,
    },
    /// A checkpoint is on disk.
    Checkpoint {
        /// Steps done.
        step: u64,
    },
    /// The run is over.
    End {
        /// Steps done.
        step: u64,
        /// Why.
        reason: String,
    },
}

/// The open log of a run.
#[derive(Debug)]
pub struct RunLog {
    file: File,
}

impl RunLog {
    /// Opens a run's log. A resumed run keeps its lines up to `step`; a later line belongs to steps
    /// that will be done again.
    pub fn open(path: &Path, step: u64) -> io::Result<Self> {
        let kept: Vec<Record> = if step > 0 { read(path)? } else { Vec::new() };
        let mut text = Vec::new();
        for record in kept.iter().filter(|r| r.step().is_none_or(|s| s <= step)) {
            text.append(&mut line_of(record)?);
        }
        replace_file(path, &text)?;
        Ok(RunLog { file: OpenOptions::new().append(true).open(path)? })
    }

    /// Appends a line.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        self.file.write_all(&line_of(record)?)
    }
}

fn line_of(record: &Record) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

impl Record {
    fn step(&self) -> Option<u64> {
        match self {
            Record::Step { step, .. } | Record::Eval { step, .. } | Record::Sample { step, .. } => {
                Some(*step)
            }
            Record::Checkpoint { step } | Record::End { step, .. } => Some(*step),
            Record::Start { .. } | Record::Ngram { .. } => None,
        }
    }
}

/// Reads a run's log; a last line that a crash cut short is left out.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut records = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        match serde_json::from_str(&line?) {
            Ok(record) => records.push(record),
            Err(_) => break,
        }
    }
    Ok(records)
}
