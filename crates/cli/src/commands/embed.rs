//! `hearth embed`: a vector a line of text.

use crate::interrupt;
use crate::lines::Lines;
use crate::model::resolve;
use crate::terminal::Terminal;
use anyhow::Result;
use hearth_engine::{BlockType, EmbedOptions, Embedder, Pooling};
use serde_json::json;
use std::fmt::Write as _;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::time::Instant;

/// Turn each line of a text into a vector, space-separated, a line a line
#[derive(clap::Args)]
pub struct Embed {
    /// A model file or folder, or a name of the catalogue
    model: String,
    /// Texts, a line each; - is stdin, whose lines are answered as they come
    #[arg(long = "in", value_name = "F")]
    input: PathBuf,
    /// How tokens become one vector: mean, cls or last [default: as the model's files say]
    #[arg(long, value_name = "P")]
    pooling: Option<Pooling>,
    /// Leave vectors as long as they are, whatever the model's files say
    #[arg(long)]
    no_normalize: bool,
    /// The type that an encoder's matrices are multiplied in: f32 or q8_0 [default: as the file has them]
    #[arg(long = "type", value_name = "T", value_parser = weight_type)]
    weight_type: Option<BlockType>,
    /// The prompt to put in front of each text, by its name in the model's files, such as query [default: none]
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,
    /// Most texts in one pass through the model
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
}

fn weight_type(name: &str) -> Result<BlockType, String> {
    match name.to_ascii_lowercase().as_str() {
        "f32" => Ok(BlockType::F32),
        "q8_0" => Ok(BlockType::Q8_0),
        _ => Err("expected f32 or q8_0".to_owned()),
    }
}

impl Embed {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        let mut input = Lines::open(&self.input)?;
        let options = EmbedOptions {
            pooling: self.pooling,
            normalize: self.no_normalize.then_some(false),
            weight_type: self.weight_type,
            batch: self.batch as usize,
            prompt: self.prompt,
            ..EmbedOptions::default()
        };
        let mut embedder = Embedder::open(&resolve(&self.model, terminal)?, &options)?;
        embedder.notes().iter().for_each(|note| terminal.say(note));
        let (mut count, mut tokens, mut truncated, mut seconds) = (0, 0, 0, 0.0);
        loop {
            let lines = input.next_few()?;
            if lines.is_empty() {
                break;
            }
            let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
            let started = Instant::now();
            let embedded = embedder.embed(&texts, |_| interrupt::go_on())?;
            seconds += started.elapsed().as_secs_f64();
            write_vectors(&embedded.vectors)?;
            count += lines.len();
            (tokens, truncated) = (tokens + embedded.tokens, truncated + embedded.truncated);
            terminal.live(&format!("embedding · {count} texts"), 0, 0);
        }
        if truncated > 0 {
            let limit = embedder.max_tokens();
            terminal.say(&format!("{truncated} of {count} texts were cut to the model's {limit} tokens"));
        }
        let rate = |n: usize| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
        terminal.result(
            "",
            &json!({
                "count": count,
                "dim": embedder.dim(),
                "tokens": tokens,
                "truncated": truncated,
                "pooling": embedder.pooling().to_string(),
                "texts_per_second": rate(count),
                "tokens_per_second": rate(tokens),
            }),
        )
    }
}

fn write_vectors(vectors: &[Vec<f32>]) -> Result<()> {
    let mut out = String::new();
    for vector in vectors {
        for (i, x) in vector.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(out, "{space}{x}")?;
        }
        out.push('\n');
    }
    let mut stdout = stdout().lock();
    stdout.write_all(out.as_bytes())?;
    Ok(stdout.flush()?)
}
