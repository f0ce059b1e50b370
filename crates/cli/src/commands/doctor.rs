//! `hearth doctor`: what this machine can do.

use crate::terminal::{Terminal, count, duration};
use anyhow::Result;
use hearth_kernel::gemm::{Mat, MatMut, Write, gemm};
use hearth_kernel::peak::fma_peak_gflops;
use hearth_kernel::pool::{parallel_chunks_mut, set_threads, threads};
use hearth_kernel::{Buffer, current_isa};
use hearth_model::DecoderConfig;
use hearth_train::Recipe;
use hearth_train::recipe::ModelConfig;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Say what this machine has, how fast it is, and what to expect
#[derive(clap::Args)]
pub struct Doctor {}

impl Doctor {
    pub fn run(self, terminal: &Terminal) -> Result<()> {
        let all = threads();
        let gflops = matrix_gflops();
        set_threads(1);
        let gflops_one = matrix_gflops();
        set_threads(all);
        let peak = fma_peak_gflops(Duration::from_millis(50));
        let copy = copy_gbytes();
        let (total, free) = memory().unzip();
        let clients: Vec<&str> = ["npm", "pip", "pip3"].into_iter().filter(|c| on_path(c)).collect();
        let expectations = expectations(gflops);
        let isa = current_isa().name();
        let mut lines = vec![
            format!("processor       {} cores, {all} threads, kernels for {isa}", cores()),
            format!(
                "memory          {}",
                match (total, free) {
                    (Some(total), Some(free)) => format!("{}B, {}B free", count(total), count(free)),
                    _ => "unknown".to_owned(),
                }
            ),
            format!("matrix products {gflops:.0} GFLOP/s ({gflops_one:.0} on one thread), f32"),
            format!("at most         {peak:.0} GFLOP/s, multiply-adds that never leave the registers"),
            format!("memory copies   {copy:.1} GB/s, read and written"),
            format!(
                "clients         {}",
                if clients.is_empty() {
                    "neither npm nor pip: hearth get needs one of them".to_owned()
                } else {
                    clients.join(", ")
                }
            ),
            String::new(),
            "what to expect of training here, at 70% of that speed:".to_owned(),
        ];
        for e in &expectations {
            lines.push(format!(
                "  {:<28} {:>9} tokens/s   20 tokens a weight: {}",
                e.name,
                count(e.tokens_per_second),
                duration(e.seconds)
            ));
        }
        let expected: Vec<Value> = expectations
            .iter()
            .map(|e| json!({ "model": e.name, "tokens_per_second": e.tokens_per_second, "seconds": e.seconds }))
            .collect();
        terminal.result(
            &lines.join("\n"),
            &json!({
                "cores": cores(),
                "threads": all,
                "instructions": isa,
                "memory_bytes": total,
                "memory_free_bytes": free,
                "gflops": gflops,
                "gflops_one_thread": gflops_one,
                "fma_peak_gflops": peak,
                "copy_gbytes_per_second": copy,
                "clients": clients,
                "expectations": expected,
            }),
        )
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The best of several products of 768×768 matrices, as a Transformer's layers have.
fn matrix_gflops() -> f64 {
    const N: usize = 768;
    let values = |scale: f32| (0..N * N).map(|i| (i % 251) as f32 * scale - 1.0).collect::<Vec<f32>>();
    let (a, b, mut c) = (values(0.008), values(0.007), vec![0.0; N * N]);
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.8 {
        let step = Instant::now();
        gemm(Mat::new(&a, N, N), Mat::new(&b, N, N), MatMut::new(&mut c, N, N), Write::Overwrite);
        best = best.min(step.elapsed().as_secs_f64());
    }
    2.0 * (N * N * N) as f64 / best / 1e9
}

/// Bytes read and written a second while copying more than the caches hold.
fn copy_gbytes() -> f64 {
    const LEN: usize = 1 << 24;
    const CHUNK: usize = 1 << 16;
    let (source, mut target) = (Buffer::<f32>::zeros(LEN), Buffer::<f32>::zeros(LEN));
    let mut best = f64::INFINITY;
    for _ in 0..6 {
        let step = Instant::now();
        parallel_chunks_mut(&mut target, CHUNK, |i, part| {
            part.copy_from_slice(&source[i * CHUNK..][..part.len()])
        });
        best = best.min(step.elapsed().as_secs_f64());
    }
    (2 * LEN * size_of::<f32>()) as f64 / best / 1e9
}

/// Total and available memory in bytes, where the system tells (Linux).
fn memory() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kb| kb * 1024.0)
    };
    Some((field("MemTotal:")?, field("MemAvailable:")?))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .any(|dir| dir.join(program).is_file() || dir.join(format!("{program}.exe")).is_file())
}

struct Expectation {
    name: String,
    tokens_per_second: f64,
    seconds: f64,
}

fn expectations(gflops: f64) -> Vec<Expectation> {
    let native = |depth: usize| {
        let mut recipe = Recipe::default();
        recipe.model.depth = Some(depth);
        Some((format!("depth {depth}, vocabulary 8192"), recipe.resolve(8192).ok()?))
    };
    let mut models: Vec<_> = [4, 6, 12].into_iter().filter_map(native).collect();
    models.extend(
        DecoderConfig::preset("gpt2").map(|config| ("GPT-2 (124M)".to_owned(), ModelConfig::Decoder(config))),
    );
    models
        .into_iter()
        .map(|(name, config)| {
            let params = config.multiplied_weights() as f64;
            let tokens_per_second =
                0.7 * gflops * 1e9 / config.train_flops_per_token(config.max_positions(), 0.0);
            Expectation { name, tokens_per_second, seconds: 20.0 * params / tokens_per_second }
        })
        .collect()
}
