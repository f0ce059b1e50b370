//! Runs inputs of a target in a plain build: `replay TARGET FILE…` prints how long each takes, and fails if one
//! takes more than a second. A build with sanitizers is several times slower than what users have.

use hearth_fuzz::TARGETS;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Within this time a file is read, or refused.
const MOST: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        eprintln!(
            "usage: replay TARGET FILE…\nhint: {:?} are the targets",
            TARGETS.map(|target| target.name)
        );
        return ExitCode::from(2);
    };
    let mut slow = false;
    for file in args {
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::from(2);
            }
        };
        let start = Instant::now();
        (target.run)(&bytes);
        let took = start.elapsed();
        slow |= took > MOST;
        println!("{file}: {:.3} s", took.as_secs_f64());
    }
    if slow { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
