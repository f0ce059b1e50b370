//! Texts, or pairs of texts, with a label, several labels, or a number.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::columns::{Chosen, Role, check_roles, choose, missing, no_cell, text};
use super::table::{Row, TABLE_TYPES, Table};
use super::{Collected, Example, Loaded, Place, ReadOptions, bad_row, read_table};
use crate::error::{DataError, Result};
use crate::record::kind_of;

const TEXT: Role = Role {
    name: "text",
    names: &[
        "text",
        "sentence",
        "review",
        "content",
        "body",
        "comment",
        "tweet",
        "document",
        "message",
        "utterance",
        "question",
        "query",
        "title",
        "headline",
        "post",
        "abstract",
        "description",
        "prompt",
        "input",
        "review_body",
        "review_text",
        "comment_text",
        "text_a",
        "sentence1",
        "文本",
        "内容",
    ],
};
const SECOND: Role = Role { name: "second", names: &[] };
const LABEL: Role = Role {
    name: "label",
    names: &[
        "label",
        "labels",
        "class",
        "category",
        "sentiment",
        "target",
        "score",
        "rating",
        "stars",
        "polarity",
        "intent",
        "emotion",
        "topic",
        "gold_label",
        "similarity",
        "similarity_score",
        "relatedness_score",
        "is_duplicate",
        "answer",
        "标签",
        "类别",
    ],
};
/// Names of the two texts of a pair.
const PAIRS: &[(&str, &str)] = &[
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("question", "sentence"),
    ("question", "passage"),
    ("query", "passage"),
    ("query", "document"),
];
/// The column whose texts may hold several labels.
const SEVERAL: &str = "labels";

/// What the labels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of several classes.
    Single,
    /// Any number of them.
    Multi,
    /// A number.
    Regression,
}

/// The label of an example.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    /// A class.
    One(String),
    /// Classes, perhaps none, in the order of the file and each once.
    Several(Vec<String>),
    /// A number, finite.
    Number(f64),
}

impl Label {
    /// The kind of label that this is; all of a data set are of one kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::One(_) => Kind::Single,
            Self::Several(_) => Kind::Multi,
            Self::Number(_) => Kind::Regression,
        }
    }
}

/// A labelled text or pair of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifyExample {
    /// The text, or the first of a pair; not empty.
    pub text: String,
    /// The second of a pair.
    pub second: Option<String>,
    /// Its label.
    pub label: Label,
    /// Where it came from.
    pub place: Place,
}

impl Example for ClassifyExample {
    fn place(&self) -> Place {
        self.place
    }

    fn holdout_text(&self) -> Cow<'_, str> {
        match &self.second {
            None => Cow::Borrowed(&self.text),
            Some(second) => Cow::Owned(format!("{}\t{second}", self.text)),
        }
    }
}

/// Reads labelled texts from tables (CSV, TSV, JSON lines, JSON, Parquet).
///
/// The roles are `text`, `second` (of pairs) and `label`. Without a `kind` it is guessed from all labels
/// together: arrays, or texts in a column `labels` with `|` or `,` in them, are several labels; numbers of
/// which one has a fraction are regression; anything else is one class each. Integers and booleans become
/// the text that JSON has for them.
pub fn read_classify(
    paths: &[PathBuf],
    options: &ReadOptions,
    kind: Option<Kind>,
) -> Result<Loaded<ClassifyExample>> {
    check_roles(options, &[&TEXT, &SECOND, &LABEL])?;
    let mut collected = Collected::of(paths, TABLE_TYPES)?;
    let nameless = options.columns.values().any(|column| column.starts_with('#'));
    let mut tables: Vec<(Table, Chosen)> = Vec::new();
    for (index, file) in collected.files.iter().enumerate() {
        let table = read_table(file, index, nameless)?;
        let chosen = if table.columns.is_empty() {
            Chosen(Vec::new())
        } else {
            choose_columns(&table.columns, options, file)?
        };
        let in_pairs = |chosen: &Chosen| chosen.get(SECOND.name).is_some();
        if let Some(other) = tables.iter().position(|(table, _)| !table.columns.is_empty())
            && !table.columns.is_empty()
            && in_pairs(&tables[other].1) != in_pairs(&chosen)
        {
            let problem = format!(
                "here the examples are {}, but in {} they are {}",
                if in_pairs(&chosen) { "pairs of texts" } else { "single texts" },
                collected.files[other].display(),
                if in_pairs(&chosen) { "single texts" } else { "pairs of texts" },
            );
            return Err(DataError::record(file, 1, problem));
        }
        tables.push((table, chosen));
    }
    let separator = separator_of(&tables);
    let kind = kind.unwrap_or_else(|| guess_kind(&tables, separator.is_some()));
    for (table, chosen) in tables {
        let file = collected.files[collected.loaded.sources.len()].clone();
        collected.used_columns(chosen.shown());
        let examples = table.rows.into_iter().map(|row| {
            let line = row.place.line;
            example(row, &chosen, kind, separator.unwrap_or(','))
                .map_err(|problem| bad_row(&file, line, problem))
        });
        collected.add(table.form, table.bad, examples);
    }
    collected.finish(options)
}

fn choose_columns(columns: &[String], options: &ReadOptions, file: &Path) -> Result<Chosen> {
    let given = |role: &Role| options.columns.contains_key(role.name);
    let label_given = choose(&Role { names: &[], ..LABEL }, columns, options, file)?;
    let free: Vec<String> =
        columns.iter().filter(|column| Some(*column) != label_given.as_ref()).cloned().collect();
    let pair = PAIRS.iter().find_map(|(first, second)| {
        Some((
            super::columns::find(&free, first)?.to_string(),
            super::columns::find(&free, second)?.to_string(),
        ))
    });
    let (text, second) = match pair {
        Some((first, second)) if !given(&TEXT) && !given(&SECOND) => (Some(first), Some(second)),
        _ => (choose(&TEXT, &free, options, file)?, choose(&SECOND, &free, options, file)?),
    };
    let taken = |column: &&String| Some(*column) == text.as_ref() || Some(*column) == second.as_ref();
    let free: Vec<String> = free.iter().filter(|column| !taken(column)).cloned().collect();
    let label = match label_given {
        Some(label) => Some(label),
        None => choose(&LABEL, &free, options, file)?,
    };
    // Of two columns, what is not the one is the other.
    let (text, label) = match (text, label) {
        (Some(text), None) if free.len() == 1 && second.is_none() => (text, free[0].clone()),
        (None, Some(label)) if columns.len() == 2 => {
            let other = columns.iter().find(|column| **column != label).cloned();
            (other.ok_or_else(|| missing(&TEXT, None, columns, file))?, label)
        }
        (Some(text), Some(label)) => (text, label),
        (None, _) => return Err(missing(&TEXT, None, columns, file)),
        (_, None) => return Err(missing(&LABEL, None, columns, file)),
    };
    let second = second.map(|column| (SECOND.name, column));
    Ok(Chosen([Some((TEXT.name, text)), second, Some((LABEL.name, label))].into_iter().flatten().collect()))
}

/// All labels as they stand in the tables, each with whether its column may hold several.
fn labels(tables: &[(Table, Chosen)]) -> impl Iterator<Item = (bool, &Value)> {
    tables.iter().flat_map(|(table, chosen)| {
        let column = chosen.get(LABEL.name).unwrap_or_default();
        let several = column.eq_ignore_ascii_case(SEVERAL);
        table.rows.iter().filter_map(move |row| Some((several, row.cells.get(column)?)))
    })
}

/// What divides the texts of a column of several labels: `|` if it has any, or else `,` if it has any.
fn separator_of(tables: &[(Table, Chosen)]) -> Option<char> {
    ['|', ','].into_iter().find(|&separator| {
        labels(tables)
            .any(|(several, value)| several && value.as_str().is_some_and(|text| text.contains(separator)))
    })
}

fn guess_kind(tables: &[(Table, Chosen)], separated: bool) -> Kind {
    if separated || labels(tables).any(|(_, value)| value.is_array()) {
        return Kind::Multi;
    }
    let mut fraction = false;
    for (_, value) in labels(tables) {
        match number(value) {
            Some(number) => fraction |= number.fract() != 0.0,
            None if value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty()) => {}
            None => return Kind::Single,
        }
    }
    if fraction { Kind::Regression } else { Kind::Single }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite())
}

fn example(row: Row, chosen: &Chosen, kind: Kind, separator: char) -> Result<ClassifyExample, String> {
    let Row { mut cells, place } = row;
    let column = chosen.get(LABEL.name).unwrap_or_default();
    let label = label_of(&cells, column, kind, separator)?;
    let mut take = |role: &Role| {
        let column = chosen.get(role.name).unwrap_or_default();
        text(&cells, column)?;
        match cells.remove(column) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(no_cell(&cells, column)),
        }
    };
    let second = chosen.get(SECOND.name).map(|_| take(&SECOND)).transpose()?;
    Ok(ClassifyExample { text: take(&TEXT)?, second, label, place })
}

fn label_of(cells: &Map<String, Value>, column: &str, kind: Kind, separator: char) -> Result<Label, String> {
    let value = cells.get(column).ok_or_else(|| no_cell(cells, column))?;
    match kind {
        Kind::Regression if !is_empty(value) => {
            let number = number(value);
            number.map(Label::Number).ok_or_else(|| format!("{column:?} holds {value}, expected a number"))
        }
        Kind::Multi => several(value, column, separator).map(Label::Several),
        _ => class(value, column).map(Label::One),
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
}

fn class(value: &Value, column: &str) -> Result<String, String> {
    match value {
        value if is_empty(value) => Err(format!("empty label in {column:?}")),
        Value::String(text) => Ok(text.trim().to_string()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        other => Err(format!("{column:?} holds {}, expected one label", kind_of(other))),
    }
}

fn several(value: &Value, column: &str, separator: char) -> Result<Vec<String>, String> {
    let parts: Vec<Value> = match value {
        Value::Array(values) => values.clone(),
        Value::String(text) if text.trim_start().starts_with('[') => serde_json::from_str(text)
            .map_err(|error| format!("{column:?} holds {text:?}, expected an array of labels: {error}"))?,
        Value::String(text) if text.contains(separator) => text.split(separator).map(Value::from).collect(),
        other => vec![other.clone()],
    };
    let mut labels: Vec<String> = Vec::new();
    for part in &parts {
        let label = class(part, column)?;
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    Ok(labels)
}
