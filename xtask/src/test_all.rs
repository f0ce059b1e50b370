//! All tests of the workspace, with a summary over all test binaries at the end.

use crate::command;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[derive(Default)]
struct Totals {
    passed: u64,
    failed: u64,
    ignored: u64,
    binaries: u64,
}

impl Totals {
    /// Counts a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        let number = |name: &str| {
            let part = rest.split([';', '.']).find_map(|part| part.trim().strip_suffix(name));
            part.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        self.passed += number("passed");
        self.failed += number("failed");
        self.ignored += number("ignored");
        self.binaries += 1;
    }
}

/// Runs them all, showing everything, and fails if one fails or none ran.
pub fn run() -> Result<()> {
    let mut tests = command("cargo", &["test", "--release", "--workspace", "--no-fail-fast"]);
    eprintln!("$ cargo test --release --workspace --no-fail-fast");
    let mut child = tests.stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let mut totals = Totals::default();
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line?;
            println!("{line}");
            totals.add(&line);
        }
    }
    let status = child.wait()?;
    let Totals { passed, failed, ignored, binaries } = totals;
    println!("tests: {passed} passed, {failed} failed, {ignored} ignored, in {binaries} binaries");
    if !status.success() || failed > 0 {
        bail!("tests failed");
    }
    if passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn totals_add_up() {
        let mut totals = Totals::default();
        totals.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s",
        );
        totals.add("test result: FAILED. 2 passed; 5 failed; 0 ignored; 0 measured; 0 filtered out");
        totals.add("test something ... ok");
        assert_eq!((totals.passed, totals.failed, totals.ignored, totals.binaries), (14, 5, 1, 2));
    }
}
