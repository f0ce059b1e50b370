//! Developer commands: `cargo xtask check`, `test`, `clients`, `fuzz`, `peers`, `asan`.

mod clients;
mod fuzz;
mod peers;
mod test_all;
mod tidy;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check [--no-tests]   what CI runs: fmt, clippy, tidy, docs, deny if installed, tests
  test                 all tests, with a summary of them all at the end
  clients              the page against its source, then in Chromium; Python's openai package (Node.js, Python)
  fuzz [--seconds N] [TARGET…]
                       parsers of outside bytes under libFuzzer, 60 s each (nightly and cargo-fuzz)
  peers                checks against PyTorch and transformers (makes bench/.venv, about 5 GB)
  asan                 the kernels' tests under AddressSanitizer (Linux, macOS)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["check"] => check(true),
        ["check", "--no-tests"] => check(false),
        ["test"] => test_all::run(),
        ["clients"] => clients::run(),
        ["fuzz", ref rest @ ..] => fuzz::run(rest),
        ["peers"] => peers::run(),
        ["asan"] => asan(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// A command in the repository's root.
fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// Runs a command to its end, its output shown.
fn run(mut command: Command) -> Result<()> {
    eprintln!("$ {}", format!("{command:?}").replace('"', ""));
    let status = command.status().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{:?} failed: {status}", command.get_program());
    }
    Ok(())
}

fn check(with_tests: bool) -> Result<()> {
    run(command("cargo", &["fmt", "--all", "--check"]))?;
    tidy::run(&root())?;
    run(command("cargo", &["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let mut docs = command("cargo", &["doc", "--release", "--workspace", "--no-deps"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    run(docs)?;
    if Command::new("cargo-deny").arg("--version").output().is_ok_and(|o| o.status.success()) {
        run(command("cargo", &["deny", "check"]))?;
    } else {
        eprintln!("cargo-deny is not installed: licences and advisories were not checked");
    }
    if with_tests { test_all::run() } else { Ok(()) }
}

/// Memory errors in the only crate with `unsafe` kernels.
fn asan() -> Result<()> {
    let target = match (std::env::consts::ARCH, std::env::consts::OS) {
        (arch, "linux") => format!("{arch}-unknown-linux-gnu"),
        (arch, "macos") => format!("{}-apple-darwin", if arch == "aarch64" { arch } else { "x86_64" }),
        (_, os) => bail!("AddressSanitizer isn't available on {os}"),
    };
    let nightly = Command::new("rustup").args(["run", "nightly", "rustc", "--version"]).output();
    let mut tests = if nightly.is_ok_and(|o| o.status.success()) {
        command("rustup", &["run", "nightly", "cargo"])
    } else {
        eprintln!("no nightly toolchain: taking the installed one, with its unstable options unlocked");
        let mut cargo = command("cargo", &[]);
        cargo.env("RUSTC_BOOTSTRAP", "1");
        cargo
    };
    tests.args(["test", "--release", "-p", "hearth-kernel", "--tests", "--lib"]);
    tests.args(["--target", &target, "--target-dir", "target/asan"]);
    tests.env("RUSTFLAGS", "-Zsanitizer=address");
    run(tests)
}
