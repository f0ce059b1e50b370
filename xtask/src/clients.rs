//! Real clients of the server: Python's `openai` package, and the web page in Chromium. Also whether the page that the
//! binary holds is what its source gives.

use crate::{command, root, run as execute};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Builds the page anew and compares, then runs the tests that need these clients.
pub fn run() -> Result<()> {
    let work = root().join("target/clients");
    fs::create_dir_all(&work)?;
    for program in ["node", "npm", "python3"] {
        if !Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success()) {
            bail!("{program} is missing\nhint: on Debian: apt-get install nodejs npm chromium python3-venv");
        }
    }
    build_page(&work.join("page"))?;
    let python = work.join("venv/bin/python");
    if !python.exists() {
        execute(command("python3", &["-m", "venv", "target/clients/venv"]))?;
    }
    let wanted = "crates/serve/tests/clients/requirements.txt";
    execute(command(&python.to_string_lossy(), &["-m", "pip", "install", "--quiet", "-r", wanted]))?;
    let pictures = work.join("pictures");
    fs::create_dir_all(&pictures)?;
    // As all tests are built, so that nothing is built twice.
    let tests =
        ["test", "--release", "--workspace", "--test", "it", "--", "--ignored", "--nocapture", "clients::"];
    let mut tests = command("cargo", &tests);
    tests.env("HEARTH_CLIENTS_PYTHON", python).env("HEARTH_CLIENTS_PICTURES", &pictures);
    execute(tests)?;
    eprintln!("pictures of the page are in {}", pictures.display());
    Ok(())
}

fn build_page(out: &Path) -> Result<()> {
    let npm = |program: &str, args: &[&str]| {
        let mut command = command(program, args);
        command.current_dir(root().join("web"));
        execute(command)
    };
    npm("npm", &["ci", "--no-audit", "--no-fund"])?;
    npm("npx", &["tsc"])?;
    npm("npx", &["vite", "build", "--logLevel", "warn", "--outDir", &out.to_string_lossy()])?;
    let kept = root().join("crates/serve/page");
    for name in ["index.html", "page.js", "page.css"] {
        let read = |folder: &Path| fs::read(folder.join(name)).with_context(|| format!("{name} of the page"));
        if read(out)? != read(&kept)? {
            bail!("crates/serve/page/{name} isn't what web/ gives\nhint: cd web && npm ci && npm run build");
        }
    }
    Ok(())
}
