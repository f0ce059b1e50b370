//! A corpus: files, and the documents that stream out of them.
//!
//! What a document is depends on the file. JSONL and JSON arrays: a record. CSV and TSV: a row.
//! Text and Markdown: the whole file if it has at most 8 MiB, else pieces of at most 1 MiB, each
//! ended after a blank line where there is one; or, if the options say so, each run of lines
//! between blank lines. Any of these may be compressed with gzip or zstd. Documents of nothing but
//! white space are skipped.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use serde_json::Value;

use crate::error::{DataError, Result};
use crate::holdout::place_of;
use crate::record::{text_column, text_of_json};
use crate::text::TextReader;

/// How files become documents.
#[derive(Debug, Clone)]
pub struct CorpusOptions {
    /// The field or column that holds the text. By default `text`; in tables also the likes of
    /// `content` or `review`, or the only column.
    pub field: Option<String>,
    /// Whether blank lines divide a text file into documents.
    pub split_blank_lines: bool,
    /// The share of the documents that is read, chosen by the hash of their text; the others are as if
    /// they weren't there.
    pub share: f64,
    /// A text file up to this many bytes is one document.
    pub whole_bytes: usize,
    /// A larger one comes in pieces up to this many bytes.
    pub piece_bytes: usize,
}

impl Default for CorpusOptions {
    fn default() -> Self {
        Self { field: None, split_blank_lines: false, share: 1.0, whole_bytes: 8 << 20, piece_bytes: 1 << 20 }
    }
}

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its text.
    pub text: String,
    /// The file it came from.
    pub source: Arc<Path>,
    /// Its number in the corpus, from 0.
    pub index: u64,
}

/// A list of files to read documents from, as often as needed.
#[derive(Debug, Clone)]
pub struct Corpus {
    files: Vec<PathBuf>,
    options: CorpusOptions,
}

impl Corpus {
    /// Lists the files: each path is a file, a folder (read recursively in sorted order, files of
    /// known types only), or a glob.
    pub fn open(paths: &[PathBuf], options: CorpusOptions) -> Result<Self> {
        let files = list_files(paths, TEXT_TYPES)?;
        Ok(Self { files, options })
    }

    /// The files, in the order they are read.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Bytes of the files on disk, to measure progress by.
    pub fn bytes_on_disk(&self) -> u64 {
        self.files.iter().filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    }

    /// Streams the documents from the start. A corpus without any yields an error.
    pub fn documents(&self) -> Documents {
        Documents {
            files: self.files.clone().into_iter(),
            place: match self.files.as_slice() {
                [] => "no file".to_string(),
                [only] => only.display().to_string(),
                [first, others @ ..] => format!("{} and {} more files", first.display(), others.len()),
            },
            options: self.options.clone(),
            current: None,
            index: 0,
            ended: false,
        }
    }
}

/// Types of files that are read as text, by their extensions.
const TEXT_TYPES: &[&str] = &["txt", "text", "md", "markdown", "jsonl", "ndjson", "json", "csv", "tsv"];

/// Lists the files: each path is a file, a folder (read recursively in sorted order, files with one of
/// the extensions in `known` only), or a glob.
pub(crate) fn list_files(paths: &[PathBuf], known: &[&str]) -> Result<Vec<PathBuf>> {
    let none =
        |path: &Path, problem, hint: String| DataError::NoFiles { path: path.to_path_buf(), problem, hint };
    let mut files = Vec::new();
    for path in paths {
        if path.is_file() {
            files.push(path.clone());
        } else if path.is_dir() {
            let before = files.len();
            list_folder(path, known, &mut files)?;
            if files.len() == before {
                let hint = format!("known types are .{}, also with .gz or .zst", known.join(" ."));
                return Err(none(path, "the folder holds no file of a known type", hint));
            }
        } else {
            list_glob(path, &mut files)?;
        }
    }
    if files.is_empty() {
        return Err(none(Path::new(""), "no path was given", "name a file, a folder or a glob".to_string()));
    }
    Ok(files)
}

/// The lower-case extension of a file's name, without that of the compression.
pub(crate) fn extension(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    name.rsplit_once('.').map(|(_, extension)| extension.to_string())
}

fn list_folder(folder: &Path, known: &[&str], files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        } else if path.is_dir() {
            list_folder(&path, known, files)?;
        } else if extension(&path).is_some_and(|extension| known.contains(&extension.as_str())) {
            files.push(path);
        }
    }
    Ok(())
}

fn list_glob(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let pattern = path.to_string_lossy();
    let none = |problem, hint: &str| DataError::NoFiles {
        path: path.to_path_buf(),
        problem,
        hint: hint.to_string(),
    };
    if path.exists() {
        return Err(none("it is neither a file nor a folder", "give a file, a folder or a glob"));
    }
    if !pattern.contains(['*', '?', '[']) {
        return Err(none("it does not exist", "check the path"));
    }
    let matches = glob::glob(&pattern)
        .map_err(|_| none("it is not a valid glob", "use *, ** between slashes, ?, or [a-z]"))?;
    let before = files.len();
    for found in matches {
        let found = found.map_err(|error| DataError::Io(error.into()))?;
        if found.is_file() {
            files.push(found);
        }
    }
    if files.len() == before {
        return Err(none(
            "the glob matches no file",
            "check the glob, and quote it so that the shell leaves it alone",
        ));
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Format {
    Text,
    JsonLines,
    JsonArray,
    Table(u8),
}

impl Format {
    fn of(extension: &str) -> Option<Self> {
        match extension {
            "txt" | "text" | "md" | "markdown" => Some(Self::Text),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "json" => Some(Self::JsonArray),
            "csv" => Some(Self::Table(b',')),
            "tsv" => Some(Self::Table(b'\t')),
            _ => None,
        }
    }
}

/// The documents of a [`Corpus`], streaming.
pub struct Documents {
    files: std::vec::IntoIter<PathBuf>,
    /// The files, for errors.
    place: String,
    options: CorpusOptions,
    current: Option<(Arc<Path>, Source)>,
    index: u64,
    ended: bool,
}

enum Source {
    Text(TextReader, VecDeque<String>),
    JsonLines(TextReader),
    JsonArray(std::iter::Enumerate<std::vec::IntoIter<Value>>),
    Table { rows: Box<csv::Reader<TextReader>>, row: csv::StringRecord, column: usize },
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        match &next {
            Some(Ok(_)) => self.index += 1,
            Some(Err(_)) => self.ended = true,
            None => {
                self.ended = true;
                if self.index == 0 {
                    let hint = "check that the files hold text in the field that is read";
                    let place = std::mem::take(&mut self.place);
                    return Some(Err(DataError::Empty { place, hint }));
                }
            }
        }
        next
    }
}

impl Documents {
    fn advance(&mut self) -> Result<Option<Document>> {
        loop {
            if let Some((source, reader)) = &mut self.current {
                match reader.next_text(source, &self.options)? {
                    Some(text) if text.trim().is_empty() => continue,
                    Some(text)
                        if self.options.share < 1.0 && place_of("share", &text) >= self.options.share =>
                    {
                        continue;
                    }
                    Some(text) => {
                        return Ok(Some(Document { text, source: Arc::clone(source), index: self.index }));
                    }
                    None => self.current = None,
                }
            }
            let Some(path) = self.files.next() else { return Ok(None) };
            let source = Source::open(&path, &self.options)?;
            self.current = Some((Arc::from(path), source));
        }
    }
}

impl Source {
    fn open(path: &Path, options: &CorpusOptions) -> Result<Self> {
        let mut reader = TextReader::open(path)?;
        let format = extension(path).and_then(|extension| Format::of(&extension)).unwrap_or(Format::Text);
        Ok(match format {
            Format::Text => Self::Text(reader, VecDeque::new()),
            Format::JsonLines => Self::JsonLines(reader),
            Format::JsonArray => match serde_json::from_str(&reader.rest()?) {
                Ok(Value::Array(values)) => Self::JsonArray(values.into_iter().enumerate()),
                Ok(value) => Self::JsonArray(vec![value].into_iter().enumerate()),
                Err(error) => return Err(json_error(path, error.line() as u64, &error)),
            },
            Format::Table(delimiter) => {
                let mut rows = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(reader);
                let headers = match rows.headers() {
                    Ok(headers) => headers.clone(),
                    Err(error) => return Err(table_error(path, rows.get_ref(), error)),
                };
                let column = text_column(&headers, options.field.as_deref(), path)?;
                Self::Table { rows: Box::new(rows), row: csv::StringRecord::new(), column }
            }
        })
    }

    fn next_text(&mut self, file: &Path, options: &CorpusOptions) -> Result<Option<String>> {
        let field = options.field.as_deref();
        match self {
            Self::Text(reader, waiting) => {
                if !options.split_blank_lines {
                    return reader.next_piece(options.whole_bytes, options.piece_bytes);
                }
                while waiting.is_empty() {
                    let Some(piece) = reader.next_piece(options.piece_bytes, options.piece_bytes)? else {
                        return Ok(None);
                    };
                    waiting.extend(paragraphs(&piece));
                }
                Ok(waiting.pop_front())
            }
            Self::JsonLines(reader) => loop {
                let Some(line) = reader.next_line()? else { return Ok(None) };
                if line.trim().is_empty() {
                    continue;
                }
                let number = reader.line();
                let value =
                    serde_json::from_str(&line).map_err(|error| json_error(reader.file(), number, &error))?;
                return text_of_json(value, field, reader.file(), number).map(Some);
            },
            Self::JsonArray(values) => match values.next() {
                Some((index, value)) => text_of_json(value, field, file, index as u64 + 1).map(Some),
                None => Ok(None),
            },
            Self::Table { rows, row, column } => match rows.read_record(row) {
                Ok(true) => Ok(Some(row.get(*column).unwrap_or_default().to_string())),
                Ok(false) => Ok(None),
                Err(error) => Err(table_error(file, rows.get_ref(), error)),
            },
        }
    }
}

fn json_error(file: &Path, line: u64, error: &serde_json::Error) -> DataError {
    DataError::record(file, line, format!("not valid JSON at column {}: {error}", error.column()))
}

fn table_error(file: &Path, reader: &TextReader, error: csv::Error) -> DataError {
    let line = error.position().map_or(1, csv::Position::line);
    let offset = error.position().map_or(0, csv::Position::byte);
    let message = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => reader.read_error(error),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            DataError::record(file, line, format!("expected {expected_len} columns, got {len}"))
        }
        // The place of the row: the fields before the bad one may be escaped.
        csv::ErrorKind::Utf8 { .. } => DataError::Utf8 { file: file.to_path_buf(), offset },
        _ => DataError::record(file, line, message),
    }
}

/// Runs of lines between blank lines, without the blank lines.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().chain([""]) {
        if !line.trim().is_empty() {
            lines.push(line);
        } else if !lines.is_empty() {
            paragraphs.push(lines.join("\n"));
            lines.clear();
        }
    }
    paragraphs
}
