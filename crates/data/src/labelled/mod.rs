//! Labelled data as people have it: examples of each task, read unchanged from the files they come in.
//!
//! Each task has a reader that takes paths (files, folders or globs) and [`ReadOptions`], and returns
//! [`Loaded`] examples. Which column means what is guessed from its name, told in [`Loaded::columns`],
//! and overruled by [`ReadOptions::columns`]. A row that cannot be used is never dropped in silence:
//! it ends the reading with an error that lists the first of them, or is kept in [`Loaded::bad`].

mod chat;
mod classify;
mod columns;
mod pairs;
mod parquet;
mod qa;
mod table;
mod tag;
mod texts;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

pub use chat::{ChatExample, ChatRole, Turn, read_chat};
pub use classify::{ClassifyExample, Kind, Label, read_classify};
pub use pairs::{PairExample, read_pairs};
pub use qa::{Answer, QaExample, read_qa, read_questions};
pub use table::{Row, Table, read_table};
pub use tag::{TagExample, leave_off_positions, read_tag};
pub use texts::{TextExample, read_texts};

use crate::error::{DataError, Result};
use crate::holdout::Holdout;

/// Bad rows that an error lists.
const LISTED_BAD_ROWS: usize = 10;

/// What becomes of rows that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadRows {
    /// Reading fails, with the first ten of them and how many there are.
    #[default]
    Refuse,
    /// They are left out and listed in [`Loaded::bad`].
    Skip,
}

/// How labelled data is read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The column of a role, such as `label` → `stars`, instead of the guess. `#1` is the first column of
    /// a CSV or TSV file; with such a number the file's first line is a row, not the columns' names.
    pub columns: BTreeMap<String, String>,
    /// What becomes of rows that cannot be used.
    pub bad_rows: BadRows,
    /// Keep the positions behind characters of CoNLL files such as Weibo's, which tell where words begin.
    pub keep_positions: bool,
}

/// Where an example came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file's index in [`Loaded::sources`], from 0.
    pub file: usize,
    /// The line where the example begins, from 1; in Parquet files the row, from 1.
    pub line: u64,
}

/// A row that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The file.
    pub file: PathBuf,
    /// The line where it begins, from 1; in Parquet files the row, from 1.
    pub line: u64,
    /// What was expected and what was found.
    pub problem: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.file.display(), self.line, self.problem)
    }
}

/// A file that examples came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// The form that it was found to have, such as `CSV` or `ShareGPT`.
    pub form: String,
    /// Examples read from it.
    pub examples: usize,
}

/// What a reader found.
#[derive(Debug, Clone)]
pub struct Loaded<X> {
    /// The examples, in the order of the files.
    pub examples: Vec<X>,
    /// Rows left out, for [`BadRows::Skip`].
    pub bad: Vec<BadRow>,
    /// Which column was read for which role, guessed or given; for the user to see.
    pub columns: Vec<(String, String)>,
    /// The files, in the order they were read.
    pub sources: Vec<Source>,
}

impl<X> Loaded<X> {
    /// The same with other examples of these files.
    #[must_use]
    pub fn with(&self, examples: Vec<X>) -> Self {
        let Loaded { bad, columns, sources, .. } = self;
        Loaded { examples, bad: bad.clone(), columns: columns.clone(), sources: sources.clone() }
    }
}

/// What all examples have.
pub trait Example {
    /// Where it came from.
    fn place(&self) -> Place;

    /// The text whose hash decides whether it is held out; examples that would give each other away,
    /// such as questions on one passage, share it.
    fn holdout_text(&self) -> Cow<'_, str>;
}

impl<X: Example> Loaded<X> {
    /// Divides the examples into those to train on and those to measure on. With [`Holdout::Hash`] the
    /// side depends on the example's text alone, however files are named or ordered.
    pub fn hold_out(self, holdout: &Holdout) -> Result<(Vec<X>, Vec<X>)> {
        let (Holdout::Hash { fraction, .. } | Holdout::LastFraction(fraction)) = *holdout;
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(DataError::BadFraction { got: fraction });
        }
        let count = self.examples.len();
        let kept = count - (count as f64 * fraction).round() as usize;
        let (mut training, mut held_out) = (Vec::new(), Vec::new());
        for (index, example) in self.examples.into_iter().enumerate() {
            let aside = holdout.is_held_out(&example.holdout_text()).unwrap_or(index >= kept);
            if aside { held_out.push(example) } else { training.push(example) }
        }
        for (examples, part) in [(&training, "learn from"), (&held_out, "judge by")] {
            if examples.is_empty() {
                return Err(DataError::TooFewExamples { part, examples: count });
            }
        }
        Ok((training, held_out))
    }
}

/// Examples and bad rows as a reader collects them.
struct Collected<X> {
    files: Vec<PathBuf>,
    loaded: Loaded<X>,
}

impl<X> Collected<X> {
    /// Lists the files that `paths` lead to; in folders those with one of the extensions in `known`.
    fn of(paths: &[PathBuf], known: &[&str]) -> Result<Self> {
        let files = crate::corpus::list_files(paths, known)?;
        let loaded =
            Loaded { examples: Vec::new(), bad: Vec::new(), columns: Vec::new(), sources: Vec::new() };
        Ok(Self { files, loaded })
    }

    /// Adds what one file gave. Rows that were bad already before they were looked at come first.
    fn add(
        &mut self,
        form: impl Into<String>,
        mut bad: Vec<BadRow>,
        examples: impl IntoIterator<Item = std::result::Result<X, BadRow>>,
    ) {
        let before = self.loaded.examples.len();
        for example in examples {
            match example {
                Ok(example) => self.loaded.examples.push(example),
                Err(row) => bad.push(row),
            }
        }
        bad.sort_by_key(|row| row.line);
        self.loaded.bad.append(&mut bad);
        let file = self.files[self.loaded.sources.len()].clone();
        let examples = self.loaded.examples.len() - before;
        self.loaded.sources.push(Source { file, form: form.into(), examples });
    }

    /// Remembers which column was read for which role.
    fn used_columns(&mut self, columns: impl IntoIterator<Item = (String, String)>) {
        for column in columns {
            if !self.loaded.columns.contains(&column) {
                self.loaded.columns.push(column);
            }
        }
    }

    /// The outcome, or an error for bad rows that weren't to be skipped, or for no example at all.
    fn finish(self, options: &ReadOptions) -> Result<Loaded<X>> {
        let Loaded { examples, bad, .. } = &self.loaded;
        if !bad.is_empty() && (options.bad_rows == BadRows::Refuse || examples.is_empty()) {
            return Err(refused(bad));
        }
        if examples.is_empty() {
            let place = self.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
            let hint = "check that the files hold examples";
            return Err(DataError::Empty { place: place.join(", "), hint });
        }
        Ok(self.loaded)
    }
}

fn refused(bad: &[BadRow]) -> DataError {
    let mut listed = String::new();
    for row in bad.iter().take(LISTED_BAD_ROWS) {
        _ = write!(listed, "\n  {row}");
    }
    if bad.len() > LISTED_BAD_ROWS {
        _ = write!(listed, "\n  and {} more", bad.len() - LISTED_BAD_ROWS);
    }
    DataError::BadRows { total: bad.len(), listed }
}

/// A bad row of a file.
fn bad_row(file: &Path, line: u64, problem: impl Into<String>) -> BadRow {
    BadRow { file: file.to_path_buf(), line, problem: problem.into() }
}
