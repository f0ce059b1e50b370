//! The tokenizer of a model in any form.

use crate::error::Result;
use crate::gguf;
use hearth_model::Adapter;
use hearth_model::gguf::Gguf;
use hearth_tokenizer::Tokenizer;
use std::io::Read;
use std::path::Path;

/// Opens the tokenizer of a model in any form, or one by itself: a GGUF file, a model folder, the folder of an adapter,
/// a `tokenizer.json`, or the folder of GPT-2's `encoder.json` and `vocab.bpe`.
///
/// # Errors
/// If there is none, or it isn't one that runs here.
pub fn open_tokenizer(path: &Path) -> Result<Tokenizer> {
    if !path.is_dir() {
        let mut start = Vec::new();
        fs_err::File::open(path)?.take(4).read_to_end(&mut start)?;
        return match start == b"GGUF" {
            true => Ok(gguf::tokenizer(&Gguf::open(path)?)?.0),
            false => Ok(Tokenizer::from_file(path)?),
        };
    }
    if path.join("tokenizer.json").exists() {
        return Ok(Tokenizer::from_folder(path)?);
    }
    if Adapter::is_adapter(path) {
        return open_tokenizer(Path::new(&Adapter::base_of(path)?));
    }
    let gpt2 = ["encoder.json", "vocab.bpe"].map(|name| path.join(name));
    match gpt2.iter().all(|file| file.exists()) {
        true => Ok(Tokenizer::from_gpt2_files(&gpt2[0], &gpt2[1])?),
        false => Ok(Tokenizer::from_folder(path)?),
    }
}
