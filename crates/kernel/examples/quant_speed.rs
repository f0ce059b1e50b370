//! Speed of products with quantised weights beside those in single precision, in billions of multiply-adds a second:
//! `cargo run --release -p hearth-kernel --example quant_speed`; the arguments are a number of threads, and a
//! format if it shall be one alone.

use hearth_kernel::gemm::{Mat, MatMut, Write, gemm};
use hearth_kernel::qgemm::{QuantMatrix, QuantizedRows, quant_linear};
use hearth_kernel::quant::BlockType;
use std::time::Instant;

const KINDS: [BlockType; 7] = [
    BlockType::Q8_0,
    BlockType::Q4_0,
    BlockType::Q4_1,
    BlockType::Q5_0,
    BlockType::Q4K,
    BlockType::Q5K,
    BlockType::Q6K,
];

/// Billions of multiply-adds a second, of the fastest of seven tries.
fn speed(products: usize, mut run: impl FnMut()) -> f64 {
    run();
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    products as f64 / (0..7).map(time).fold(f64::MAX, f64::min) / 1e9
}

fn main() {
    let mut args = std::env::args().skip(1);
    if let Some(threads) = args.next() {
        hearth_kernel::pool::set_threads(threads.parse().expect("the first argument is a number of threads"));
    }
    let wanted = args.next().unwrap_or_default();
    for (rows, inputs, outputs) in [(1, 1536, 4096), (16, 1536, 4096), (512, 512, 1536)] {
        let products = rows * inputs * outputs;
        println!("{rows} rows, {inputs} inputs, {outputs} outputs");
        let (x, w) = (vec![0.5f32; rows * inputs], vec![0.25f32; outputs * inputs]);
        let mut y = vec![0f32; rows * outputs];
        let f32_speed = speed(products, || {
            let w = Mat::new(&w, outputs, inputs);
            gemm(Mat::new(&x, rows, inputs), w.t(), MatMut::new(&mut y, rows, outputs), Write::Overwrite);
        });
        println!("{:6} {f32_speed:7.1}", "F32");
        let mut quantized = QuantizedRows::new();
        let quantizing = speed(rows * inputs, || quantized.quantize(&x, inputs));
        for kind in KINDS.into_iter().filter(|kind| kind.name().contains(&wanted)) {
            let bytes = vec![17u8; outputs * inputs / kind.block_len() * kind.block_bytes()];
            let w = QuantMatrix::pack(kind, &bytes, outputs, inputs, |i| i);
            let speed = speed(products, || quant_linear(&quantized, &w, None, &mut y));
            println!("{:6} {speed:7.1}", kind.name());
        }
        println!("{quantizing:.2} billion values a second quantised");
    }
}
