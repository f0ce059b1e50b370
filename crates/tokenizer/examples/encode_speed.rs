//! MB/s of encoding, the crate `tokenizers` itself and Hearth's type over it, ids compared:
//! `cargo run --release -p hearth-tokenizer --example encode_speed -- tokenizer.json FILE [ROUNDS]`.
//! Each line of FILE is a text. Prints one JSON object.

use hearth_tokenizer::{Tokenizer, set_threads};
use sha2::{Digest, Sha256};
use std::time::Instant;
use tokenizers::pipeline::{EncodeOptions, Override, PipelineTokenizer};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [tokenizer, file, rest @ ..] = &args[..] else {
        return Err("tokenizer.json and FILE, please".into());
    };
    let rounds: usize = rest.first().map_or(Ok(5), |r| r.parse())?;
    let text = std::fs::read_to_string(file)?;
    let lines: Vec<&str> = text.lines().collect();
    let megabytes = lines.iter().map(|l| l.len()).sum::<usize>() as f64 / 1e6;
    let mut json = serde_json::from_str(&std::fs::read_to_string(tokenizer)?)?;
    tokenizers::canonicalize_value(&mut json).map_err(|e| e.to_string())?;
    let of_crate = tokenizers::from_json(&json.to_string()).map_err(|e| e.to_string())?;
    let hearth = Tokenizer::from_file(tokenizer.as_ref())?;

    let mut report = serde_json::Map::new();
    for threads in [1, 2] {
        set_threads(threads);
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            let start = Instant::now();
            let theirs = encode_by_crate(&of_crate, &lines, threads)?;
            rates[0].push(megabytes / start.elapsed().as_secs_f64());
            let start = Instant::now();
            let ours = hearth.encode_batch(&lines)?;
            rates[1].push(megabytes / start.elapsed().as_secs_f64());
            assert!(theirs.iter().flatten().eq(ours.iter().flatten()), "the ids differ");
        }
        let [theirs, ours] = rates;
        report.insert(format!("threads_{threads}"), serde_json::json!({ "crate": theirs, "hearth": ours }));
    }
    let mut digest = Sha256::new();
    hearth.encode_batch(&lines)?.iter().flatten().for_each(|id| digest.update(id.to_le_bytes()));
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    report.insert("sha256".into(), digest.into());
    report.insert("megabytes".into(), megabytes.into());
    println!("{}", serde_json::Value::Object(report));
    Ok(())
}

/// The ids of each line, `threads` runs of lines side by side.
fn encode_by_crate(
    tokenizer: &PipelineTokenizer,
    lines: &[&str],
    threads: usize,
) -> Result<Vec<Vec<u32>>, Failure> {
    let options = EncodeOptions {
        add_special_tokens: false,
        encode_special_tokens: true,
        padding: Override::Off,
        truncation: Override::Off,
    };
    let encode = |lines: &[&str]| -> Result<Vec<Vec<u32>>, String> {
        let one = |line: &&str| {
            let mut tokens = Vec::with_capacity(line.len() / 4);
            tokenizer.encode_into(line, &options, &mut tokens).map_err(|e| e.to_string())?;
            Ok(tokens.into_iter().map(u32::from).collect())
        };
        lines.iter().map(one).collect()
    };
    let parts = std::thread::scope(|scope| {
        let run = |part| scope.spawn(move || encode(part));
        let running: Vec<_> = lines.chunks(lines.len().div_ceil(threads)).map(run).collect();
        running.into_iter().map(|part| part.join().expect("a thread panicked")).collect::<Vec<_>>()
    });
    let parts: Result<Vec<_>, _> = parts.into_iter().collect();
    Ok(parts?.into_iter().flatten().collect())
}
