//! Queries with texts that belong to them, and perhaps texts that seem to but don't.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::columns::{Chosen, Role, check_roles, choose, missing, no_cell, text};
use super::table::{Row, TABLE_TYPES};
use super::{Collected, Example, Loaded, Place, ReadOptions, bad_row, read_table};
use crate::error::Result;
use crate::record::kind_of;

const QUERY: Role = Role {
    name: "query",
    names: &["query", "question", "anchor", "search_query", "sentence1", "text1", "prompt"],
};
const POSITIVE: Role = Role {
    name: "positive",
    names: &[
        "positive",
        "positives",
        "pos",
        "positive_passages",
        "positive_passage",
        "positive_ctxs",
        "passage",
        "document",
        "answer",
        "response",
        "context",
        "sentence2",
        "text2",
        "text",
    ],
};
const NEGATIVE: Role = Role {
    name: "negative",
    names: &[
        "negative",
        "negatives",
        "neg",
        "hard_negative",
        "hard_negatives",
        "hard_negative_ctxs",
        "negative_passages",
        "negative_passage",
    ],
};
/// How columns begin that hold one more negative each, numbered.
const NUMBERED: &[&str] = &["negative_", "hard_negative_", "neg_"];

/// A query with its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairExample {
    /// The query; not empty.
    pub query: String,
    /// Texts that belong to it, at least one.
    pub positives: Vec<String>,
    /// Hard negatives: texts that don't, though they seem to.
    pub negatives: Vec<String>,
    /// Where it came from.
    pub place: Place,
}

impl Example for PairExample {
    fn place(&self) -> Place {
        self.place
    }

    fn holdout_text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.query)
    }
}

/// Reads queries with their texts from tables (CSV, TSV, JSON lines, JSON, Parquet).
///
/// The roles are `query`, `positive` and, if there is such a column, `negative`; columns `negative_1`,
/// `negative_2` and so on count, too. A cell holds a text or a list of texts; of records, as in DPR's files,
/// the field `text`, with the `title` on a line before it.
pub fn read_pairs(paths: &[PathBuf], options: &ReadOptions) -> Result<Loaded<PairExample>> {
    check_roles(options, &[&QUERY, &POSITIVE, &NEGATIVE])?;
    let mut collected = Collected::of(paths, TABLE_TYPES)?;
    let nameless = options.columns.values().any(|column| column.starts_with('#'));
    for index in 0..collected.files.len() {
        let file = collected.files[index].clone();
        let table = read_table(&file, index, nameless)?;
        let chosen = choose_columns(&table.columns, options, &file)?;
        let examples: Vec<_> = table
            .rows
            .iter()
            .map(|row| example(row, &chosen).map_err(|problem| bad_row(&file, row.place.line, problem)))
            .collect();
        collected.used_columns(chosen.shown());
        collected.add(table.form, table.bad, examples);
    }
    collected.finish(options)
}

fn choose_columns(columns: &[String], options: &ReadOptions, file: &Path) -> Result<Chosen> {
    let mut chosen = Vec::new();
    if columns.is_empty() {
        return Ok(Chosen(chosen));
    }
    for role in [&QUERY, &POSITIVE] {
        let column = choose(role, columns, options, file)?;
        chosen.push((role.name, column.ok_or_else(|| missing(role, None, columns, file))?));
    }
    chosen.extend(choose(&NEGATIVE, columns, options, file)?.map(|column| (NEGATIVE.name, column)));
    if !options.columns.contains_key(NEGATIVE.name) {
        let numbered = columns.iter().filter(|column| {
            let lower = column.to_ascii_lowercase();
            let number = NUMBERED.iter().find_map(|start| lower.strip_prefix(start));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        });
        chosen.extend(numbered.map(|column| (NEGATIVE.name, column.clone())));
    }
    Ok(Chosen(chosen))
}

fn example(row: &Row, chosen: &Chosen) -> Result<PairExample, String> {
    let query = text(&row.cells, chosen.get(QUERY.name).unwrap_or_default())?.to_string();
    let column = chosen.get(POSITIVE.name).unwrap_or_default();
    let positives = texts(row.cells.get(column).ok_or_else(|| no_cell(&row.cells, column))?, column)?;
    if positives.is_empty() {
        return Err(format!("{column:?} is empty"));
    }
    let mut negatives = Vec::new();
    for (_, column) in chosen.0.iter().filter(|(role, _)| *role == NEGATIVE.name) {
        // A query may have fewer negatives than others.
        negatives.extend(
            row.cells.get(column).map(|value| texts(value, column)).transpose()?.into_iter().flatten(),
        );
    }
    if let Some(both) = negatives.iter().find(|text| positives.contains(text)) {
        return Err(format!("a text is positive and negative: {both:?}"));
    }
    Ok(PairExample { query, positives, negatives, place: row.place })
}

/// The texts of a cell; an empty cell has none, but in a list each has to be there.
fn texts(value: &Value, column: &str) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.trim().is_empty() => Ok(Vec::new()),
        Value::String(text) if text.starts_with("[\"") => {
            let parsed = serde_json::from_str(text).ok().filter(Value::is_array);
            parsed.map_or_else(|| Ok(vec![text.clone()]), |list| texts(&list, column))
        }
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(values) => {
            let one =
                |(index, value)| one_text(value).map_err(|problem| format!("{column:?}[{index}] {problem}"));
            values.iter().enumerate().map(one).collect()
        }
        Value::Object(_) => {
            one_text(value).map(|text| vec![text]).map_err(|problem| format!("{column:?} {problem}"))
        }
        other => Err(format!("{column:?} holds {}, expected a text or a list of texts", kind_of(other))),
    }
}

fn one_text(value: &Value) -> Result<String, String> {
    let text = value.as_str().or_else(|| value.get("text")?.as_str());
    let text = text.ok_or_else(|| format!("holds {}, expected a text", kind_of(value)))?;
    if text.trim().is_empty() {
        return Err("is empty".to_string());
    }
    let title = value.get("title").and_then(Value::as_str).filter(|title| !title.trim().is_empty());
    Ok(title.map_or_else(|| text.to_string(), |title| format!("{title}\n{text}")))
}
