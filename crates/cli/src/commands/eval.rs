//! `hearth eval`: how well a model predicts a text.

use crate::interrupt;
use crate::model::{ModelArgs, read_text};
use crate::terminal::Terminal;
use anyhow::Result;
use fs_err::File;
use hearth_engine::TokenScore;
use serde_json::json;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

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
    /// Write each scored token to a file as JSON, one a line: window, position in it, token,
    /// logprob, top_token, top_logprob
    #[arg(long, value_name = "F")]
    tokens: Option<PathBuf>,
}

impl Eval {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        let mut engine = self.model.open(terminal)?;
        let text = read_text(&self.text)?;
        let mut lines = self.tokens.as_deref().map(TokenLines::create).transpose()?;
        let mut written = Ok(());
        let score = engine.score_text(&text, self.ctx, self.half, |progress| {
            if let Some(lines) = &mut lines {
                written = lines.window(progress.window);
                if written.is_err() {
                    return ControlFlow::Break(());
                }
            }
            let loss = progress.so_far.loss();
            terminal.live(
                &format!("scoring · perplexity {:.3}", loss.exp()),
                progress.read as u64,
                progress.of as u64,
            );
            interrupt::go_on()
        });
        written?;
        let score = score?;
        if let Some(lines) = lines {
            lines.finish()?;
        }
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

/// The file of `--tokens`, which appears under its name once it is whole.
struct TokenLines {
    path: PathBuf,
    partial: PathBuf,
    out: BufWriter<File>,
    windows: usize,
}

impl TokenLines {
    fn create(path: &Path) -> Result<Self> {
        let partial = path.with_added_extension("partial");
        let out = BufWriter::new(File::create(&partial)?);
        Ok(TokenLines { path: path.to_owned(), partial, out, windows: 0 })
    }

    fn window(&mut self, scored: &[TokenScore]) -> Result<()> {
        for TokenScore { position, token, top } in scored {
            let line = json!({
                "window": self.windows,
                "position": position,
                "token": token.token,
                "logprob": token.logprob,
                "top_token": top.token,
                "top_logprob": top.logprob,
            });
            writeln!(self.out, "{line}")?;
        }
        self.windows += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        Ok(fs_err::rename(&self.partial, &self.path)?)
    }
}

impl Drop for TokenLines {
    fn drop(&mut self) {
        // Not there if it was renamed.
        drop(fs_err::remove_file(&self.partial));
    }
}
