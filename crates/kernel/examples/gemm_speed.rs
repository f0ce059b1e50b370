//! GFLOP/s of the matrix product over shapes of training, and of multiply-adds in registers beside:
//! `cargo run --release -p hearth-kernel --example gemm_speed`; an argument picks the shapes whose name has it, a
//! second one the number of threads.

use hearth_kernel::buffer::Buffer;
use hearth_kernel::gemm::{Mat, MatMut, Write, gemm};
use hearth_kernel::peak::fma_peak_gflops;
use std::time::{Duration, Instant};

fn main() {
    let shapes = [
        ("2048 cube", 2048, 2048, 2048),
        ("1024 cube", 1024, 1024, 1024),
        ("small qkv", 2048, 384, 1152),
        ("small proj", 2048, 384, 384),
        ("small fc", 2048, 384, 1536),
        ("small fc2", 2048, 1536, 384),
        ("small head", 2048, 384, 8192),
        ("small dW", 384, 2048, 1536),
        ("nano fc", 768, 128, 512),
        ("nano proj", 768, 128, 128),
        ("nano dW", 128, 768, 512),
        ("nano dW2", 512, 768, 128),
        ("gpt2 fc", 256, 768, 3072),
        ("gpt2 head", 256, 768, 50304),
        ("gpt2 dW", 768, 256, 3072),
        ("tile qk", 48, 32, 64),
        ("tile 64", 48, 64, 64),
    ];
    let wanted = std::env::args().nth(1).unwrap_or_default();
    if let Some(threads) = std::env::args().nth(2) {
        hearth_kernel::pool::set_threads(
            threads.parse().expect("the second argument is a number of threads"),
        );
    }
    for (name, m, k, n) in shapes.into_iter().filter(|s| s.0.contains(&wanted)) {
        // Memory as training has it: in huge pages from two megabytes on.
        let (mut a, mut b, mut c) = (Buffer::zeros(m * k), Buffer::zeros(k * n), Buffer::zeros(m * n));
        a.fill(0.5);
        b.fill(0.25);
        let mut line = format!("{name:12} {m:5}x{k:5}x{n:5}");
        for (label, ta, tb) in [("nn", false, false), ("nt", false, true), ("tn", true, false)] {
            let av = if ta { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
            let bv = if tb { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
            let flops = 2.0 * m as f64 * k as f64 * n as f64;
            let reps = ((1e9 / flops) as usize).clamp(3, 2000);
            let mut best = f64::MAX;
            for _ in 0..9 {
                let start = Instant::now();
                for _ in 0..reps {
                    gemm(av, bv, MatMut::new(&mut c, m, n), Write::Overwrite);
                }
                best = best.min(start.elapsed().as_secs_f64() / reps as f64);
            }
            line += &format!("  {label} {:6.1}", flops / best / 1e9);
        }
        let peak = fma_peak_gflops(Duration::from_millis(20));
        println!("{line}  peak {peak:6.1}");
    }
}
