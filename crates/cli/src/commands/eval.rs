//! `hearth eval`: how well a model predicts a text.

use crate::interrupt;
use crate::model::{ModelArgs, read_text};
use crate::terminal::Terminal;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

/// Measure how well a model predicts a text: loss, perplexity, bits per byte
#[derive(clap::Args)]
pub struct Eval {
    #[command(flatten)]
    model: ModelArgs,
    /// The text: a file (also .gz, .zst)
    #[arg(long, value_name = "F")]
    text: PathBuf,
    /// Tokens a window [default: the model's context]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// Score only the second half of each window, as llama.cpp's perplexity tool does
    #[arg(long)]
    half: bool,
}

impl Eval {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        let mut engine = self.model.open(terminal)?;
        let text = read_text(&self.text)?;
        let score = engine.score_text(&text, self.ctx, self.half, |progress| {
            let loss = progress.so_far.loss();
            terminal.live(
                &format!("scoring · perplexity {:.3}", loss.exp()),
                progress.read as u64,
                progress.of as u64,
            );
            interrupt::go_on()
        })?;
        let (loss, perplexity, bits) = (score.loss(), score.perplexity(), score.bits_per_byte());
        terminal.result(
            &format!(
                "loss {loss:.4} · perplexity {perplexity:.4} · {bits:.4} bits per byte · {} tokens",
                score.tokens
            ),
            &json!({
                "loss": loss,
                "perplexity": perplexity,
                "bits_per_byte": bits,
                "tokens": score.tokens,
                "bytes": score.bytes,
            }),
        )
    }
}
