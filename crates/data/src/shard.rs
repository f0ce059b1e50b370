//! Token shards: a text as token ids on disk.
//!
//! `NAME.bin` holds the ids, little-endian, two bytes each if the vocabulary has at most 65,536
//! tokens and four otherwise. `NAME.docs` holds where each document ends, in tokens from the
//! start, as little-endian u64. `NAME.json` is the header and comes last: without it the other two
//! are the remains of a run that was stopped.

use std::fmt;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use hearth_tokenizer::{Tokenizer, publish_permissions, replace_file};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::corpus::Document;
use crate::error::{DataError, Result};
use crate::mapped::MappedFile;

/// The version of the format that is written.
const VERSION: u32 = 1;
/// Documents are encoded in batches of about this many bytes.
const BATCH_BYTES: usize = 4 << 20;

/// What `NAME.json` says about a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardHeader {
    /// Version of the format.
    pub version: u32,
    /// `u16` or `u32`.
    pub dtype: String,
    /// [`Tokenizer::hash`] of the tokenizer that made the ids.
    pub tokenizer: String,
    /// One more than the largest id the tokenizer knows.
    pub vocab_size: usize,
    /// Number of ids, separators included.
    pub tokens: usize,
    /// Number of documents.
    pub documents: usize,
    /// Bytes of the text, for bits per byte.
    pub text_bytes: u64,
    /// The id that ends each document, if the tokenizer has an end of sequence.
    pub separator: Option<u32>,
    /// SHA-256 of the ids' bytes, in hexadecimal.
    pub sha256: String,
}

/// How far writing a shard has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardProgress {
    /// Bytes of text.
    pub text_bytes: u64,
    /// Documents.
    pub documents: usize,
    /// Tokens.
    pub tokens: usize,
}

/// Encodes documents into the shard `path` (given without an extension, or as `NAME.bin`), each
/// followed by the tokenizer's end of sequence if it has one. Memory is bounded by a batch; on an
/// error nothing is left behind.
pub fn write_shard(
    path: &Path,
    documents: impl Iterator<Item = Result<Document>>,
    tokenizer: &Tokenizer,
    mut progress: impl FnMut(ShardProgress),
) -> Result<ShardHeader> {
    let mut writer = Writer::new(path, tokenizer)?;
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    for document in documents {
        let text = document?.text;
        batch_bytes += text.len();
        batch.push(text);
        if batch_bytes >= BATCH_BYTES {
            writer.write(&batch)?;
            progress(writer.so_far());
            batch.clear();
            batch_bytes = 0;
        }
    }
    writer.write(&batch)?;
    progress(writer.so_far());
    if writer.header.tokens == 0 {
        return Err(DataError::Empty {
            place: path.display().to_string(),
            hint: "no document reached the shard",
        });
    }
    writer.finish()
}

/// The three files of a shard.
struct Files {
    ids: PathBuf,
    ends: PathBuf,
    header: PathBuf,
}

impl Files {
    fn of(path: &Path) -> Self {
        let with = |extension| path.with_extension(extension);
        Self { ids: with("bin"), ends: with("docs"), header: with("json") }
    }
}

struct Writer<'t> {
    files: Files,
    tokenizer: &'t Tokenizer,
    ids: BufWriter<NamedTempFile>,
    ends: BufWriter<NamedTempFile>,
    hasher: Sha256,
    header: ShardHeader,
    bytes: Vec<u8>,
}

impl<'t> Writer<'t> {
    fn new(path: &Path, tokenizer: &'t Tokenizer) -> Result<Self> {
        let files = Files::of(path);
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs_err::create_dir_all(folder)?;
        let temporary = || {
            let file = tempfile::Builder::new().prefix(".shard-").tempfile_in(folder);
            file.map(BufWriter::new).map_err(|error| about(&files.ids, error))
        };
        let (ids, ends) = (temporary()?, temporary()?);
        let wide = tokenizer.vocab_size() > 1 << 16;
        let header = ShardHeader {
            version: VERSION,
            dtype: if wide { "u32" } else { "u16" }.to_string(),
            tokenizer: tokenizer.hash().to_string(),
            vocab_size: tokenizer.vocab_size(),
            tokens: 0,
            documents: 0,
            text_bytes: 0,
            separator: tokenizer.eos(),
            sha256: String::new(),
        };
        Ok(Self { files, tokenizer, ids, ends, hasher: Sha256::new(), header, bytes: Vec::new() })
    }

    fn write(&mut self, texts: &[String]) -> Result<()> {
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        let wide = self.header.dtype == "u32";
        self.bytes.clear();
        for (text, ids) in texts.iter().zip(self.tokenizer.encode_batch(&borrowed)?) {
            for &id in ids.iter().chain(&self.header.separator) {
                match wide {
                    true => self.bytes.extend_from_slice(&id.to_le_bytes()),
                    // The vocabulary has at most 65,536 tokens, so the upper half is zero.
                    false => self.bytes.extend_from_slice(&(id as u16).to_le_bytes()),
                }
            }
            self.header.tokens += ids.len() + usize::from(self.header.separator.is_some());
            self.header.documents += 1;
            self.header.text_bytes += text.len() as u64;
            let end = self.header.tokens as u64;
            self.ends.write_all(&end.to_le_bytes()).map_err(|error| about(&self.files.ends, error))?;
        }
        self.hasher.update(&self.bytes);
        self.ids.write_all(&self.bytes).map_err(|error| about(&self.files.ids, error))
    }

    fn so_far(&self) -> ShardProgress {
        let ShardHeader { text_bytes, documents, tokens, .. } = self.header;
        ShardProgress { text_bytes, documents, tokens }
    }

    fn finish(mut self) -> Result<ShardHeader> {
        self.header.sha256 = hex(&self.hasher.finalize());
        // An old header must not describe the new ids, should we be stopped in between.
        match fs_err::remove_file(&self.files.header) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        put(self.ids, &self.files.ids)?;
        put(self.ends, &self.files.ends)?;
        let text = serde_json::to_string_pretty(&self.header).expect("a header is plain JSON");
        replace_file(&self.files.header, text.as_bytes())?;
        Ok(self.header)
    }
}

fn put(file: BufWriter<NamedTempFile>, path: &Path) -> Result<()> {
    let file = file.into_inner().map_err(|error| about(path, error.into_error()))?;
    publish_permissions(file.as_file()).map_err(|error| about(path, error))?;
    file.as_file().sync_all().map_err(|error| about(path, error))?;
    file.persist(path).map_err(|error| about(path, error.error))?;
    Ok(())
}

fn about(path: &Path, error: std::io::Error) -> DataError {
    DataError::Io(std::io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A shard opened for reading; its ids stay on disk until they are looked at.
pub struct Shard {
    header: ShardHeader,
    path: PathBuf,
    ids: MappedFile,
    ends: MappedFile,
    wide: bool,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("path", &self.path)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl Shard {
    /// What it is called: its file's name without folder and ending.
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Opens the shard `path` and checks that it is whole and that `tokenizer` made it.
    pub fn open(path: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let shard = Self::open_any(path)?;
        if shard.header.tokenizer != tokenizer.hash() {
            return Err(DataError::Shard {
                file: shard.path,
                problem: "the shard was made with another tokenizer",
                expected: format!("tokenizer {}", short(tokenizer.hash())),
                got: short(&shard.header.tokenizer).to_string(),
                hint: "delete the shard and let it be made again, or use the tokenizer it was made with",
            });
        }
        Ok(shard)
    }

    /// Opens the shard `path` whatever its tokenizer.
    pub fn open_any(path: &Path) -> Result<Self> {
        const AGAIN: &str = "the file was cut short or mixed up; delete the shard and let it be made again";
        let files = Files::of(path);
        let bad = |file: &Path, problem, expected: String, got: String| {
            Err(DataError::Shard { file: file.to_path_buf(), problem, expected, got, hint: AGAIN })
        };
        let header: ShardHeader = match serde_json::from_str(&fs_err::read_to_string(&files.header)?) {
            Ok(header) => header,
            Err(error) => {
                return bad(&files.header, "not a shard header", "a JSON header".into(), error.to_string());
            }
        };
        if header.version != VERSION {
            let (expected, got) = (VERSION.to_string(), header.version.to_string());
            return bad(&files.header, "the format has another version", expected, got);
        }
        let wide = match header.dtype.as_str() {
            "u16" => false,
            "u32" => true,
            other => return bad(&files.header, "unknown dtype", "u16 or u32".into(), other.to_string()),
        };
        let (ids, ends) = (MappedFile::open(&files.ids)?, MappedFile::open(&files.ends)?);
        let width = if wide { 4 } else { 2 };
        for (file, map, each, count) in
            [(&files.ids, &ids, width, header.tokens), (&files.ends, &ends, 8, header.documents)]
        {
            if Some(map.bytes().len()) != count.checked_mul(each) {
                let (expected, got) =
                    (format!("{count} × {each} bytes"), format!("{} bytes", map.bytes().len()));
                return bad(file, "wrong length", expected, got);
            }
        }
        let shard = Self { header, path: files.ids, ids, ends, wide };
        let mut last = 0;
        for document in 0..shard.documents() {
            let end = shard.raw_end(document);
            if end < last || end > shard.len() as u64 {
                let got = format!("{end} after {last}");
                return bad(
                    &files.ends,
                    "document ends out of order",
                    format!("at most {}", shard.len()),
                    got,
                );
            }
            last = end;
        }
        Ok(shard)
    }

    /// Reads everything once and compares its SHA-256 with the header's.
    pub fn verify(&self) -> Result<()> {
        let got = hex(&Sha256::digest(self.ids.bytes()));
        if got == self.header.sha256 {
            return Ok(());
        }
        let expected = format!("SHA-256 {}", short(&self.header.sha256));
        let hint = "the file was changed or damaged; delete the shard and let it be made again";
        let (file, problem, got) = (self.path.clone(), "wrong checksum", short(&got).to_string());
        Err(DataError::Shard { file, problem, expected, got, hint })
    }

    /// What the header says.
    pub fn header(&self) -> &ShardHeader {
        &self.header
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.header.tokens
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of documents.
    pub fn documents(&self) -> usize {
        self.header.documents
    }

    /// Where document `index` lies, its separator included.
    pub fn document(&self, index: usize) -> std::ops::Range<usize> {
        let start = if index == 0 { 0 } else { self.raw_end(index - 1) as usize };
        start..self.raw_end(index) as usize
    }

    fn raw_end(&self, document: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.ends.bytes()[document * 8..][..8]);
        u64::from_le_bytes(bytes)
    }

    /// The tokens of `range`, appended to `out`. Panics if the range is not within [`Self::len`].
    pub fn read_into(&self, range: std::ops::Range<usize>, out: &mut Vec<u32>) {
        let bytes = self.ids.bytes();
        if self.wide {
            let four = bytes[range.start * 4..range.end * 4].chunks_exact(4);
            out.extend(four.map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        } else {
            let two = bytes[range.start * 2..range.end * 2].chunks_exact(2);
            out.extend(two.map(|b| u32::from(u16::from_le_bytes([b[0], b[1]]))));
        }
    }

    /// The tokens of `range`. Panics if it is not within [`Self::len`].
    pub fn tokens(&self, range: std::ops::Range<usize>) -> Vec<u32> {
        let mut out = Vec::with_capacity(range.len());
        self.read_into(range, &mut out);
        out
    }

    /// All tokens.
    pub fn all(&self) -> Vec<u32> {
        self.tokens(0..self.len())
    }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
