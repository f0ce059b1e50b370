//! What the fuzz targets run: good files, and edits to them that are drawn from the fuzzer's bytes.
//!
//! Bytes that a fuzzer makes up rarely get past a magic number or the first brace. So each target
//! begins with a file that is sound and spoils a few places of it, with values that parsers get wrong:
//! counts near the limits, offsets that overflow, types that don't fit. Bytes that begin as a file does
//! are taken as they are, and [`Target::seeds`] are such files.
#![forbid(unsafe_code)]

pub mod chat_template;
pub mod gguf;
pub mod gguf_tokenizer;
mod json;
pub mod safetensors;
pub mod tokenizer_json;

use arbitrary::{Result, Unstructured};
use hearth_tokenizer::Tokenizer;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Once;
use tempfile::TempDir;

/// A parser that is fuzzed.
pub struct Target {
    /// The name of the fuzz target.
    pub name: &'static str,
    /// Reads what the fuzzer's bytes stand for.
    pub run: fn(&[u8]),
    /// Inputs that are sound files, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target { name: "gguf", run: gguf::run, seeds: gguf::seeds },
    Target { name: "safetensors", run: safetensors::run, seeds: safetensors::seeds },
    Target { name: "tokenizer_json", run: tokenizer_json::run, seeds: tokenizer_json::seeds },
    Target { name: "gguf_tokenizer", run: gguf_tokenizer::run, seeds: gguf_tokenizer::seeds },
    Target { name: "chat_template", run: chat_template::run, seeds: chat_template::seeds },
];

/// A text that a tokenizer encodes: several scripts, numbers, spaces, and special tokens spelled out.
const TEXT: &str =
    "The  quick fox, 1234 times — it's naïve?\n\n\tfn main() {} 敏捷的狐狸 🦊 <s></s>[CLS] é a\u{301}  end";

/// Says of panics where they are, and goes on: libFuzzer's own hook ends the process, even if the panic is a library's
/// and is caught. One that isn't caught ends it as before.
fn let_panics_be_caught() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
}

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// Calls `read` with a folder that holds those files and nothing else.
fn in_folder(files: &[(&str, &[u8])], read: impl FnOnce(&Path)) {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| tempfile::tempdir().expect("a folder for temporary files"));
        for entry in std::fs::read_dir(folder.path()).expect("the folder is there").flatten() {
            std::fs::remove_file(entry.path()).expect("it is this target's own file");
        }
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).expect("room for a small file");
        }
        read(folder.path());
    });
}

/// What commands do with a tokenizer that was loaded.
fn encode_and_export(tokenizer: &Tokenizer) {
    for ids in [tokenizer.encode(TEXT), tokenizer.encode_with_special(TEXT)].into_iter().flatten() {
        let _ = tokenizer.decode(&ids, true);
    }
    let _ = tokenizer.to_gguf();
}

/// A number of the kind that parsers get wrong, or any number.
fn number(u: &mut Unstructured) -> Result<u64> {
    const HOSTILE: [u64; 16] = [
        0,
        1,
        2,
        7,
        8,
        31,
        32,
        255,
        65_536,
        1 << 20,
        u32::MAX as u64,
        1 << 32,
        1 << 62,
        1 << 63,
        u64::MAX - 7,
        u64::MAX,
    ];
    if u.ratio(1, 2)? { u.arbitrary() } else { Ok(*u.choose(&HOSTILE)?) }
}

/// A short text, sometimes repeated many times over.
fn text(u: &mut Unstructured) -> Result<String> {
    let part: &str = u.arbitrary()?;
    let times = if u.ratio(1, 16)? { u.int_in_range(1..=2000)? } else { 1 };
    Ok(part.chars().take(64).collect::<String>().repeat(times))
}
