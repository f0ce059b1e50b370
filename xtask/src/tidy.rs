//! Habits that compilers don't check: file length, a first line that says what a file is for, no
//! leftovers, `unsafe` only where it belongs, rooms that use only what lies below them.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

const LONGEST_FILE: usize = 600;
/// Spelled in two halves, so that this file doesn't find itself.
const LEFTOVERS: [(&str, &str); 5] =
    [("todo", "!("), ("unimplemented", "!("), ("dbg", "!("), ("FIX", "ME"), ("XX", "X ")];

/// The rooms, each with those that it may use.
const ROOMS: [(&str, &[&str]); 9] = [
    ("kernel", &[]),
    ("tensor", &["kernel"]),
    ("tokenizer", &[]),
    ("data", &["tokenizer"]),
    ("model", &["tensor", "kernel"]),
    ("engine", &["model", "tokenizer", "tensor", "kernel"]),
    ("train", &["engine", "data", "model", "tokenizer", "tensor", "kernel"]),
    ("serve", &["train", "engine", "data", "model", "tokenizer", "tensor", "kernel"]),
    ("cli", &["serve", "train", "engine", "data", "model", "tokenizer", "tensor", "kernel"]),
];

/// Checks the whole repository, and lists everything that is wrong.
pub fn run(root: &Path) -> Result<()> {
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for dir in ["crates", "fuzz", "xtask"] {
        rust_files(&root.join(dir), &mut files)?;
    }
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let shown = file.strip_prefix(root).unwrap_or(file).display().to_string();
        problems.extend(file_problems(&shown, &text));
    }
    for (room, allowed) in ROOMS {
        let manifest = root.join("crates").join(room).join("Cargo.toml");
        let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        problems.extend(room_problems(room, allowed, &text));
    }
    problems.extend(tree_problems(root)?);
    if !problems.is_empty() {
        bail!("tidy:\n  {}", problems.join("\n  "));
    }
    eprintln!("tidy: {} files are in order", files.len());
    Ok(())
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            rust_files(&path, into)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

fn file_problems(shown: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        problems.push(format!("{shown}: {lines} lines, at most {LONGEST_FILE}"));
    }
    if !text.starts_with("//!") {
        problems.push(format!("{shown}: doesn't begin with //! saying what it is for"));
    }
    for (first, second) in LEFTOVERS {
        if text.contains(&format!("{first}{second}")) {
            problems.push(format!("{shown}: holds {first}{second}"));
        }
    }
    let may_be_unsafe = shown.starts_with("crates/kernel/") || shown == "crates/data/src/mapped.rs";
    let keyword = ["uns", "afe {"].concat();
    if !may_be_unsafe && text.contains(&keyword) {
        problems.push(format!("{shown}: unsafe code outside the kernels"));
    }
    problems
}

fn room_problems(room: &str, allowed: &[&str], manifest: &str) -> Vec<String> {
    manifest
        .lines()
        .filter_map(|line| line.strip_prefix("hearth-")?.split(['.', ' ']).next())
        .filter(|used| !allowed.contains(used))
        .map(|used| format!("crates/{room}: uses {used}, which doesn't lie below it"))
        .collect()
}

/// The README's file tree names only what exists: its lines begin with a path and two spaces.
fn tree_problems(root: &Path) -> Result<Vec<String>> {
    let readme = fs::read_to_string(root.join("README.md")).context("README.md")?;
    let Some((_, tree)) = readme.split_once("```tree\n") else {
        return Ok(vec!["README.md: no file tree (```tree)".to_owned()]);
    };
    let tree = tree.split("```").next().unwrap_or_default();
    let paths = tree.lines().filter_map(|line| line.split_once("  ").map(|(path, _)| path.trim()));
    let missing = paths.filter(|path| !path.is_empty() && !root.join(path).exists());
    Ok(missing.map(|path| format!("README.md: the file tree names {path}, which isn't there")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_breach() {
        let long = format!("//! x\n{}", "\n".repeat(LONGEST_FILE));
        assert_eq!(file_problems("a.rs", &long).len(), 1);
        assert_eq!(file_problems("a.rs", "fn x() {}").len(), 1);
        let leftover = ["//! x\nfn f() { to", "do!() }"].concat();
        assert_eq!(file_problems("a.rs", &leftover).len(), 1);
        let keyword = ["//! x\nuns", "afe { x() }"].concat();
        assert_eq!(file_problems("crates/data/src/x.rs", &keyword).len(), 1);
        assert!(file_problems("crates/kernel/src/x.rs", &keyword).is_empty());
        let manifest = "hearth-kernel.workspace = true\nhearth-train.workspace = true\n";
        assert_eq!(room_problems("tensor", &["kernel"], manifest).len(), 1);
    }
}
