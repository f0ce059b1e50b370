//! Sentences with a tag for each token: CoNLL files, and tables of tokens and tags.

mod conll;

pub use conll::leave_off_positions;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::columns::{Chosen, Role, check_roles, choose, missing, no_cell};
use super::table::{Row, TABLE_TYPES};
use super::{BadRow, Collected, Example, Loaded, Place, ReadOptions, bad_row, read_table};
use crate::corpus::extension;
use crate::error::Result;
use crate::record::kind_of;
use crate::tagging::Scheme;
use crate::text::TextReader;

const TOKENS: Role = Role { name: "tokens", names: &["tokens", "words", "token", "word", "form", "字"] };
const TAGS: Role = Role {
    name: "tags",
    names: &[
        "tags",
        "ner_tags",
        "labels",
        "ner",
        "ner_labels",
        "pos_tags",
        "upos",
        "chunk_tags",
        "tag",
        "label",
    ],
};
/// Extensions of CoNLL files, for folders.
const CONLL_TYPES: &[&str] = &["conll", "conllu", "bio", "bioes", "bmes", "iob", "iob2", "ner", "txt"];

/// A sentence with its tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagExample {
    /// The tokens, at least one; none is empty.
    pub tokens: Vec<String>,
    /// A tag for each.
    pub tags: Vec<String>,
    /// Where the sentence begins.
    pub place: Place,
}

impl Example for TagExample {
    fn place(&self) -> Place {
        self.place
    }

    fn holdout_text(&self) -> Cow<'_, str> {
        Cow::Owned(self.tokens.join(" "))
    }
}

/// Tokens and tags with the lines they stand on, before the tags are checked.
struct Sentence {
    tokens: Vec<String>,
    tags: Vec<String>,
    /// The line of each token, or the one line of all.
    lines: Vec<u64>,
}

impl Sentence {
    fn line_of(&self, token: usize) -> u64 {
        self.lines.get(token).or(self.lines.first()).copied().unwrap_or(0)
    }
}

/// Reads tagged sentences, from tables (JSON lines, JSON, Parquet) with a list of tokens and one of tags in
/// a row, or from CoNLL files with a token a line and blank lines between sentences.
///
/// In CoNLL files the cells are divided by tabs or spaces; the token is the first and the tag the last, or
/// those that the roles `tokens` and `tags` name as `#1`, `#2` and so on. `-DOCSTART-` lines are left out,
/// and comments where the file begins with one. CoNLL-U gives forms and universal parts of speech. Where
/// each token is a character followed by its position in the word (`科0`, `技1`, as in Weibo NER), the
/// position is left off, and [`Source::form`](super::Source::form) says so.
///
/// If any tag of a file begins with `B-`, `I-` or the like, all must be `O` or a tag of this form.
pub fn read_tag(paths: &[PathBuf], options: &ReadOptions) -> Result<Loaded<TagExample>> {
    check_roles(options, &[&TOKENS, &TAGS])?;
    let known: Vec<&str> = TABLE_TYPES.iter().chain(CONLL_TYPES).copied().collect();
    let mut collected = Collected::of(paths, &known)?;
    for index in 0..collected.files.len() {
        let file = collected.files[index].clone();
        let (form, columns, sentences, bad) = if is_table(&file)? {
            from_table(&file, index, options)?
        } else {
            conll::read(&file, &TextReader::open(&file)?.rest()?, options)?
        };
        let scheme =
            Scheme::of_prefixes(sentences.iter().flat_map(|sentence| &sentence.tags).map(String::as_str));
        let examples = sentences.into_iter().map(|sentence| check(sentence, scheme, &file, index));
        collected.used_columns(columns);
        let spelling = scheme.map_or_else(|| "plain tags".to_string(), |scheme| scheme.to_string());
        collected.add(format!("{form}, {spelling}"), bad, examples);
    }
    collected.finish(options)
}

/// What a file gave: its form, the columns read, sentences, and bad rows.
type Parsed = (String, Vec<(String, String)>, Vec<Sentence>, Vec<BadRow>);

fn is_table(file: &Path) -> Result<bool> {
    let extension = extension(file).unwrap_or_default();
    let in_lines = extension == "tsv" || extension == "csv" || CONLL_TYPES.contains(&extension.as_str());
    if in_lines || TABLE_TYPES.contains(&extension.as_str()) {
        return Ok(!in_lines);
    }
    // Of an unknown type, with `{` or `[` at the start of more than a token of its own.
    let mut reader = TextReader::open(file)?;
    Ok(reader
        .next_line()
        .is_ok_and(|line| line.is_some_and(|line| line.starts_with("{\"") || line.starts_with("[{"))))
}

fn from_table(file: &Path, index: usize, options: &ReadOptions) -> Result<Parsed> {
    let table = read_table(file, index, false)?;
    let mut bad = table.bad;
    let mut chosen = Vec::new();
    for role in [&TOKENS, &TAGS] {
        match choose(role, &table.columns, options, file)? {
            Some(column) => chosen.push((role.name, column)),
            None if table.rows.is_empty() => {}
            None => return Err(missing(role, None, &table.columns, file)),
        }
    }
    let chosen = Chosen(chosen);
    let mut sentences = Vec::new();
    for row in table.rows {
        let line = row.place.line;
        match sentence(&row, &chosen) {
            Ok(sentence) => sentences.push(sentence),
            Err(problem) => bad.push(bad_row(file, line, problem)),
        }
    }
    Ok((table.form.to_string(), chosen.shown().collect(), sentences, bad))
}

fn sentence(row: &Row, chosen: &Chosen) -> Result<Sentence, String> {
    let column = |role: &Role| chosen.get(role.name).unwrap_or_default();
    let tokens = list(&row.cells, column(&TOKENS))?;
    let tags = list(&row.cells, column(&TAGS))?;
    if tokens.len() != tags.len() {
        return Err(format!("{} tokens but {} tags", tokens.len(), tags.len()));
    }
    if tokens.is_empty() {
        return Err("no token".to_string());
    }
    Ok(Sentence { tokens, tags, lines: vec![row.place.line] })
}

fn list(cells: &Map<String, Value>, column: &str) -> Result<Vec<String>, String> {
    let values = match cells.get(column) {
        Some(Value::Array(values)) => values,
        Some(other) => return Err(format!("{column:?} holds {}, expected an array", kind_of(other))),
        None => return Err(no_cell(cells, column)),
    };
    let text = |(index, value): (usize, &Value)| match value {
        Value::String(text) if text.trim().is_empty() => Err(format!("{column:?}[{index}] is empty")),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("{column:?}[{index}] holds {}, expected text", kind_of(other))),
    };
    values.iter().enumerate().map(text).collect()
}

fn check(
    sentence: Sentence,
    scheme: Option<Scheme>,
    file: &Path,
    index: usize,
) -> Result<TagExample, BadRow> {
    if let Some(scheme) = scheme {
        for (token, tag) in sentence.tags.iter().enumerate() {
            scheme.check(tag).map_err(|problem| bad_row(file, sentence.line_of(token), problem))?;
        }
    }
    let place = Place { file: index, line: sentence.line_of(0) };
    Ok(TagExample { tokens: sentence.tokens, tags: sentence.tags, place })
}
