//! `hearth convert` and `hearth quantize`: a model in another format, or in smaller types.

use crate::failure::Usage;
use crate::interrupt;
use crate::model::{read_text, resolve};
use crate::terminal::Terminal;
use anyhow::Result;
use hearth_engine::{
    Divergence, EncoderFiles, Engine, ImportanceMap, Mix, ModelFiles, SpeedTest, StoredType,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Write a model as a GGUF file or as a folder; it is opened again and compared before it counts as done
#[derive(clap::Args)]
pub struct Convert {
    /// A model file or folder, or a name of the catalogue
    model: String,
    /// Where to: a file that ends in .gguf, or a folder in the Hugging Face layout
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// The type of the weights; a folder takes F32 or BF16
    #[arg(long = "type", default_value = "F32", value_name = "T", value_parser = mix)]
    mix: Mix,
}

/// Write a model as a GGUF file in smaller types, and measure what that costs
#[derive(clap::Args)]
pub struct Quantize {
    /// A model file or folder, or a name of the catalogue
    model: String,
    /// Where to: a file that ends in .gguf
    #[arg(long, value_name = "F")]
    out: PathBuf,
    /// The type of most weights, as llama.cpp names them
    #[arg(long = "type", default_value = "Q4_K_M", value_name = "T", value_parser = mix)]
    mix: Mix,
    /// A text whose like the model will read: what matters for it is kept nearer (importance matrix)
    #[arg(long, value_name = "F")]
    calibrate: Option<PathBuf>,
    /// A text to compare the two models on: perplexity, Kullback–Leibler divergence
    #[arg(long, value_name = "F")]
    text: Option<PathBuf>,
}

fn mix(name: &str) -> Result<Mix, String> {
    name.parse()
}

impl Convert {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        let model = resolve(&self.model, terminal)?;
        if EncoderFiles::is_encoder(&model)? {
            return encoder(&self.model, &model, &self.out, self.mix, terminal);
        }
        write_model(&ModelFiles::open(&model)?, &model, &self.out, self.mix, terminal)
    }
}

/// Writes a model in the form that `out` ends in, and tells its size beside that of `model`.
pub fn write_model(
    files: &ModelFiles,
    model: &Path,
    out: &Path,
    mix: Mix,
    terminal: &Terminal,
) -> Result<()> {
    if is_gguf(out) {
        files.save_gguf(out, mix, None, |n, of| terminal.progress("writing", n as u64, of as u64))?;
    } else {
        files.save_folder(out, folder_type(mix)?)?;
    }
    let bytes = [size(model)?, size(out)?];
    terminal.result(
        &format!("{}: {}, compared with {}", out.display(), megabytes(bytes[1]), model.display()),
        &json!({ "path": out, "type": mix.name(), "bytes_before": bytes[0], "bytes_after": bytes[1] }),
    )
}

/// The type of a folder's weights.
fn folder_type(mix: Mix) -> Result<StoredType> {
    Ok(mix.stored_type().ok_or_else(|| Usage(format!("--type {mix}: a folder takes F32 or BF16")))?)
}

impl Quantize {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        if !is_gguf(&self.out) {
            return Err(
                Usage(format!("--out {}: expected a file that ends in .gguf", self.out.display())).into()
            );
        }
        let model = resolve(&self.model, terminal)?;
        if EncoderFiles::is_encoder(&model)? {
            if self.calibrate.is_some() || self.text.is_some() {
                let problem =
                    "--calibrate, --text: an encoder predicts no text, so there is nothing to measure on it";
                return Err(Usage(problem.into()).into());
            }
            return encoder(&self.model, &model, &self.out, self.mix, terminal);
        }
        let text = self.text.as_deref().map(read_text).transpose()?;
        let importance = match &self.calibrate {
            Some(file) => Some(self.importance(&model, &read_text(file)?, terminal)?),
            None => None,
        };
        let files = ModelFiles::open(&model)?;
        files.save_gguf(&self.out, self.mix, importance.as_ref(), |n, of| {
            terminal.progress("quantising", n as u64, of as u64);
        })?;
        drop(files);
        let bytes = [size(&model)?, size(&self.out)?];
        let mut report = format!(
            "{}: {}, was {} ({:.2} of it)",
            self.out.display(),
            megabytes(bytes[1]),
            megabytes(bytes[0]),
            bytes[1] as f64 / bytes[0] as f64
        );
        let mut result = json!({
            "path": self.out,
            "type": self.mix.name(),
            "bytes_before": bytes[0],
            "bytes_after": bytes[1],
        });
        if let Some(text) = text {
            let (found, speed) = self.compare(&model, &text, terminal)?;
            report += &format!(
                "\nperplexity {:.4}, was {:.4} · divergence {:.5} nats · same likeliest token {:.2}%\n\
                 generating {:.0} tokens/s, was {:.0}",
                found.perplexity_after,
                found.perplexity_before,
                found.kl,
                100.0 * found.same_top,
                speed[1],
                speed[0]
            );
            add(&mut result, &found, speed);
        }
        terminal.result(&report, &result)
    }

    fn importance(&self, model: &Path, text: &str, terminal: &Terminal) -> Result<ImportanceMap> {
        let found = Engine::open(model)?.importance(text, |n, of| {
            terminal.progress("calibrating", n as u64, of as u64);
            interrupt::go_on()
        })?;
        Ok(found)
    }

    /// What the types cost on a text, and tokens generated a second before and after.
    fn compare(&self, model: &Path, text: &str, terminal: &Terminal) -> Result<(Divergence, [f64; 2])> {
        let (mut before, mut after) = (Engine::open(model)?, Engine::open(&self.out)?);
        let found = before.divergence(&mut after, text, |n, of| {
            terminal.progress("comparing", n as u64, of as u64);
            interrupt::go_on()
        })?;
        let mut speed = [0.0; 2];
        for (engine, speed) in [&mut before, &mut after].into_iter().zip(&mut speed) {
            let measured = engine.measure_speed(SPEED, interrupt::go_on)?;
            let fastest = measured.generate_seconds.iter().copied().fold(f64::INFINITY, f64::min);
            *speed = SPEED.generate as f64 / fastest;
        }
        Ok((found, speed))
    }
}

/// Writes an encoder, and says how near its vectors are.
fn encoder(name: &str, model: &Path, out: &Path, mix: Mix, terminal: &Terminal) -> Result<()> {
    let files = EncoderFiles::open(model)?;
    let cosine = match is_gguf(out) {
        true => files.save_gguf(out, mix, |n, of| terminal.progress("writing", n as u64, of as u64))?,
        false => files.save_folder(out, folder_type(mix)?)?,
    };
    let bytes = [size(model)?, size(out)?];
    terminal.result(
        &format!(
            "{}: {}, was {}; compared with {name}: cosine of the sample's vectors at least {cosine:.5}",
            out.display(),
            megabytes(bytes[1]),
            megabytes(bytes[0]),
        ),
        &json!({ "path": out, "type": mix.name(), "bytes_before": bytes[0], "bytes_after": bytes[1],
            "cosine": cosine }),
    )
}

/// How speed is measured before and after.
const SPEED: SpeedTest = SpeedTest { prompt: 0, generate: 32, parallel: 1, repetitions: 3 };

fn add(result: &mut Value, found: &Divergence, speed: [f64; 2]) {
    result["perplexity_before"] = json!(found.perplexity_before);
    result["perplexity_after"] = json!(found.perplexity_after);
    result["kl_divergence"] = json!(found.kl);
    result["same_top"] = json!(found.same_top);
    result["tokens"] = json!(found.tokens);
    result["generate_tokens_per_second_before"] = json!(speed[0]);
    result["generate_tokens_per_second_after"] = json!(speed[1]);
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}

/// Bytes of a file, or of the weights in a folder.
fn size(path: &Path) -> Result<u64> {
    if path.is_file() {
        return Ok(fs_err::metadata(path)?.len());
    }
    let mut sum = 0;
    for entry in fs_err::read_dir(path)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|end| end == "safetensors") {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
