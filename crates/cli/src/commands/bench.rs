//! `hearth bench`: how fast this machine trains, and runs a model.

use crate::failure::{Stopped, Usage};
use crate::interrupt;
use crate::model::ModelArgs;
use crate::profile_table;
use crate::terminal::{Terminal, count, peak_rss_bytes};
use anyhow::Result;
use hearth_engine::{EngineError, SpeedTest};
use hearth_kernel::profile;
use hearth_train::bench::{PRESETS, Preset};
use serde_json::json;
use std::time::Instant;

/// Measure the speed of this machine
#[derive(clap::Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Train a GPT-2-shaped model on one random batch: forward, backward, clipping, AdamW, in f32
    Train(Train),
    /// Run a model on random tokens: a prompt at once, and tokens one by one, each from an empty cache
    Infer(Infer),
}

#[derive(clap::Args)]
struct Infer {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens of the prompt; 0: none
    #[arg(short, long, default_value_t = 512, value_name = "N")]
    prompt: usize,
    /// Tokens to generate; 0: none
    #[arg(short = 'n', long, default_value_t = 128, value_name = "N")]
    generate: usize,
    /// Sequences that generate together, each after a prompt of its own; their rates are added up
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    parallel: u64,
    /// How often to measure each, after one warm-up
    #[arg(short, long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    repetitions: u64,
}

/// Tokens of the prompt whose first answer `first_token_ms` waits for.
const FIRST_PROMPT: usize = 16;

impl Infer {
    fn run(self, terminal: &Terminal) -> Result<()> {
        let started = Instant::now();
        let mut engine = self.model.open(terminal)?;
        let load_ms = started.elapsed().as_secs_f64() * 1e3;
        let prompt: Vec<u32> = (0..FIRST_PROMPT.min(engine.context()) as u32).collect();
        let mut sequence = engine.runner_mut().sequence(prompt.len())?;
        engine.runner_mut().prefill(&mut sequence, &prompt).map_err(EngineError::from)?;
        let first_token_ms = started.elapsed().as_secs_f64() * 1e3;
        let parallel = self.parallel as usize;
        let (prompt, generate, repetitions) = (self.prompt, self.generate, self.repetitions as usize);
        let test = SpeedTest { prompt, generate, parallel, repetitions };
        let speed = engine.measure_speed(test, interrupt::go_on)?;
        let rates = |tokens: usize, seconds: &[f64]| -> Vec<f64> {
            seconds.iter().map(|s| tokens as f64 / s).collect()
        };
        let prompt = rates(self.prompt, &speed.prompt_seconds);
        let generate = rates(self.generate * parallel, &speed.generate_seconds);
        let line = |name: &str, tokens: usize, rates: &[f64]| match rates.is_empty() {
            true => String::new(),
            false => format!("{name} {tokens}: {} tokens/s · ", count(median(rates))),
        };
        let together = match parallel {
            1 => "generate".to_owned(),
            _ => format!("generate {parallel} ×"),
        };
        terminal.result(
            &format!(
                "{}{}loaded in {load_ms:.0} ms, first token after {first_token_ms:.0} ms",
                line("prompt", self.prompt, &prompt),
                line(&together, self.generate, &generate),
            ),
            &json!({
                "prompt_tokens_per_second": median(&prompt),
                "generate_tokens_per_second": median(&generate),
                "prompt_rates": prompt,
                "generate_rates": generate,
                "load_ms": load_ms,
                "first_token_ms": first_token_ms,
                "peak_rss_bytes": peak_rss_bytes(),
                "threads": hearth_kernel::pool::threads(),
            }),
        )
    }
}

/// The middle of some values; 0 of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[derive(clap::Args)]
struct Train {
    /// nanogpt-cpu, small, small-8k or gpt2-124m
    #[arg(long, default_value = "nanogpt-cpu", value_name = "P")]
    preset: String,
    /// Real steps to take
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Show where a step's time goes, the first step aside
    #[arg(long)]
    profile: bool,
}

impl Bench {
    pub fn run(self, terminal: &Terminal, seed: Option<u64>) -> Result<()> {
        let Train { preset, steps, profile } = match self.what {
            What::Train(train) => train,
            What::Infer(infer) => return infer.run(terminal),
        };
        let chosen = Preset::named(&preset).ok_or_else(|| {
            let names = PRESETS.map(|p| p.name).join(", ");
            Usage(format!("--preset {preset}: expected one of {names}"))
        })?;
        let steps = steps.map_or(chosen.steps, |n| n as usize);
        let report = chosen.run(steps, seed.unwrap_or(0), |step, loss, ms| {
            if interrupt::asked() {
                terminal.clear();
                std::process::exit(130);
            }
            if profile && step == 0 {
                profile::start();
            }
            terminal.live(
                &format!("step {step} · loss {loss:.4} · {ms:.1} ms"),
                step as u64 + 1,
                steps as u64,
            );
        })?;
        if interrupt::asked() {
            return Err(Stopped("interrupted".into()).into());
        }
        let gflops = report.flops_per_step / report.step_ms_median() / 1e6;
        let mut text = format!(
            "{preset}: {} parameters, {:.1} ms a step, {} tokens/s, {gflops:.0} GFLOP/s",
            count(report.params as f64),
            report.step_ms_median(),
            count(report.tokens_per_second())
        );
        let mut result = json!({
            "preset": preset,
            "losses": report.losses,
            "step_ms": report.step_ms,
            "step_ms_median": report.step_ms_median(),
            "tokens_per_second": report.tokens_per_second(),
            "gflops": gflops,
            "parameters": report.params,
            "peak_rss_bytes": peak_rss_bytes(),
            "threads": hearth_kernel::pool::threads(),
        });
        if profile {
            let profile = profile::stop();
            text += &format!("\n\n{}", profile_table::text(&profile));
            result["profile"] = profile_table::to_json(&profile);
        }
        terminal.result(&text, &result)
    }
}
