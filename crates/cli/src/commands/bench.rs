//! `hearth bench`: how fast this machine trains.

use crate::failure::{Stopped, Usage};
use crate::interrupt;
use crate::profile_table;
use crate::terminal::{Terminal, count, peak_rss_bytes};
use anyhow::Result;
use hearth_kernel::profile;
use hearth_train::bench::{PRESETS, Preset};
use serde_json::json;

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
        let What::Train(Train { preset, steps, profile }) = self.what;
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
