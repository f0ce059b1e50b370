//! Integration tests of the data crate, in one binary.

mod batch;
mod chat;
mod classify;
mod corpus;
mod files;
mod holdout;
mod masking;
mod ngram;
mod pairs;
mod qa;
mod shard;
mod tag;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_data::{Corpus, CorpusOptions, DataError, Document, ErrorKind, Result, Shard, write_shard};
use hearth_tokenizer::{Tokenizer, train_chars};

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

fn gzip(content: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
}

fn read(paths: &[PathBuf], options: CorpusOptions) -> Result<Vec<String>> {
    Corpus::open(paths, options)?.documents().map(|document| Ok(document?.text)).collect()
}

fn refused<T: std::fmt::Debug>(result: Result<T>, parts: &[&str]) -> DataError {
    let error = result.unwrap_err();
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    assert_eq!(error.kind(), ErrorKind::Input, "{message}");
    error
}

/// A tokenizer for small letters whose ids are a = 0, b = 1, …, and the separator after them.
fn letters(separator: bool) -> Tokenizer {
    let specials: Vec<String> = separator.then(|| "<|endoftext|>".to_string()).into_iter().collect();
    train_chars([Ok::<_, std::io::Error>(('a'..='z').collect())].into_iter(), &specials).unwrap()
}

fn documents(texts: &[String]) -> impl Iterator<Item = Result<Document>> {
    let source: Arc<Path> = Arc::from(Path::new("here"));
    let documents: Vec<_> = (0..)
        .zip(texts)
        .map(|(index, text)| Ok(Document { text: text.clone(), source: source.clone(), index }))
        .collect();
    documents.into_iter()
}

/// A shard of the texts; the folder lives as long as its guard.
fn shard(texts: &[String], separator: bool) -> (tempfile::TempDir, Arc<Shard>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.bin");
    let tokenizer = letters(separator);
    write_shard(&path, documents(texts), &tokenizer, |_| {}).unwrap();
    let shard = Arc::new(Shard::open(&path, &tokenizer).unwrap());
    (folder, shard)
}
