//! Parsers of outside bytes under libFuzzer and AddressSanitizer, for a while each.

use crate::{command, root, run as execute};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DEFAULT_SECONDS: u64 = 60;
/// More than this at once is a finding.
const MOST_MEMORY_MB: usize = 512;
/// In the build with sanitizers, which is several times slower than a plain one.
const MOST_SECONDS: u64 = 10;

/// `cargo xtask fuzz [--seconds N] [TARGET…]`: all targets, or those named; fails if one finds something.
pub fn run(args: &[&str]) -> Result<()> {
    let (seconds, wanted) = parse(args)?;
    let known = targets(&fs::read_to_string(root().join("fuzz/Cargo.toml")).context("fuzz/Cargo.toml")?);
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        bail!("no fuzz target {unknown}; there are {}", known.join(", "));
    }
    if !Command::new("cargo")
        .args(["+nightly", "fuzz", "--version"])
        .output()
        .is_ok_and(|o| o.status.success())
    {
        bail!(
            "cargo-fuzz or a nightly toolchain is missing\nhint: cargo install cargo-fuzz; rustup toolchain add nightly"
        );
    }
    let fuzz = root().join("fuzz");
    // The plain build first: inputs to begin with, and a judge of those that were slow.
    let plain = |args: &[&str]| {
        let mut cargo = command("cargo", &["run", "--quiet", "--release", "--example"]);
        cargo.args(args).current_dir(&fuzz);
        cargo
    };
    execute(plain(&["seeds", "--", "corpus"]))?;
    let mut failed = Vec::new();
    for name in if wanted.is_empty() { known } else { wanted } {
        let artifacts = fuzz.join("artifacts").join(&name);
        let before = files(&artifacts)?;
        let ran = execute(fuzzer(&fuzz, &name, seconds));
        let found: Vec<PathBuf> = files(&artifacts)?.difference(&before).cloned().collect();
        let (slow, broken): (Vec<_>, Vec<_>) = found.into_iter().partition(|file| is_slow(file));
        let mut judge = plain(&["replay", "--", &name]);
        judge.args(&slow);
        let too_slow = !slow.is_empty() && execute(judge).is_err();
        if ran.is_err() || too_slow || !broken.is_empty() {
            failed.push(name);
        } else {
            // Slow under the sanitizer alone.
            slow.iter().try_for_each(fs::remove_file)?;
        }
    }
    if !failed.is_empty() {
        bail!("something was found by {}; the inputs are in fuzz/artifacts", failed.join(", "));
    }
    Ok(())
}

fn fuzzer(fuzz: &Path, name: &str, seconds: u64) -> Command {
    let mut cargo = command("cargo", &["+nightly", "fuzz", "run", name, "--"]);
    cargo.current_dir(fuzz);
    cargo.arg(format!("-max_total_time={seconds}"));
    cargo.arg(format!("-timeout={MOST_SECONDS}"));
    cargo.args(["-report_slow_units=1", "-print_final_stats=1"]);
    cargo.arg(format!("-rss_limit_mb={MOST_MEMORY_MB}"));
    // Memory that was freed is kept for a while, and would count.
    cargo.env("ASAN_OPTIONS", "quarantine_size_mb=16");
    cargo
}

fn parse(args: &[&str]) -> Result<(u64, Vec<String>)> {
    let (mut seconds, mut wanted) = (DEFAULT_SECONDS, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--seconds" => {
                let number = args.next().and_then(|n| n.parse().ok());
                seconds = number.context("--seconds: expected a whole number")?;
            }
            flag if flag.starts_with('-') => bail!("{flag}: expected --seconds N and names of targets"),
            name => wanted.push(name.to_owned()),
        }
    }
    Ok((seconds, wanted))
}

/// The names of the binaries in a manifest.
fn targets(manifest: &str) -> Vec<String> {
    let bins = manifest.split("[[bin]]").skip(1);
    bins.filter_map(|bin| Some(bin.split_once("name = \"")?.1.split('"').next()?.to_owned())).collect()
}

/// Whether libFuzzer kept an input only because it took more than a second.
fn is_slow(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("slow-unit-"))
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    if !folder.is_dir() {
        return Ok(BTreeSet::new());
    }
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_targets_are_read() {
        assert_eq!(parse(&[]).expect("fine"), (DEFAULT_SECONDS, Vec::new()));
        assert_eq!(parse(&["a", "--seconds", "5"]).expect("fine"), (5, vec!["a".to_owned()]));
        assert!(parse(&["--seconds", "x"]).is_err() && parse(&["--second"]).is_err());
        let manifest =
            "[package]\nname = \"p\"\n\n[[bin]]\nname = \"a\"\npath = \"a.rs\"\n[[bin]]\nname = \"b\"\n";
        assert_eq!(targets(manifest), ["a", "b"]);
        assert!(is_slow(Path::new("x/slow-unit-1")) && !is_slow(Path::new("slow-unit-/crash-1")));
    }
}
