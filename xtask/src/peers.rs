//! Checks against PyTorch and `transformers`, which take minutes and 5 GB of packages.

use crate::{command, root, run as execute};
use anyhow::{Result, bail};
use std::process::Command;

/// Trains small models on this project's own documents, and has `transformers` open them: same loss,
/// same greedy text.
fn run_all(python: &str) -> Result<()> {
    execute(command("cargo", &["build", "--release"]))?;
    let hearth = root().join("target/release/hearth");
    let hearth = hearth.to_string_lossy();
    let folder = root().join("target/peers");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    for family in ["qwen3", "gpt2", "gpt1"] {
        let out = folder.join(family);
        let out = out.to_string_lossy();
        let recipe = format!("recipes/tiny-{family}.toml");
        execute(command(&hearth, &["pretrain", &recipe, "--data", "docs", "README.md", "--out", &out]))?;
        execute(command(
            python,
            &[
                "bench/peers/check_export.py",
                &out,
                "--hearth",
                &hearth,
                "--prompt",
                "The model",
                "--max-tokens",
                "24",
                "--text",
                "ARCHITECTURE.md",
            ],
        ))?;
    }
    for preset in ["nanogpt-cpu", "small", "small-8k", "gpt2-124m"] {
        execute(command(python, &["bench/peers/compare.py", "--preset", preset, "--hearth", &hearth]))?;
    }
    Ok(())
}

/// [`run_all`] in `bench/.venv`, made if it isn't there. `HEARTH_PYTHON` names another interpreter.
pub fn run() -> Result<()> {
    if let Ok(python) = std::env::var("HEARTH_PYTHON") {
        return run_all(&python);
    }
    let venv = root().join("bench/.venv");
    let python = venv.join("bin/python");
    let python = python.to_string_lossy();
    if !venv.exists() {
        if !Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success()) {
            bail!("python3 is missing");
        }
        execute(command("python3", &["-m", "venv", "bench/.venv"]))?;
    }
    execute(command(&python, &["-m", "pip", "install", "--quiet", "-r", "bench/requirements.txt"]))?;
    run_all(&python)
}
