//! Rows of tables: CSV, TSV, JSON lines, JSON arrays and Parquet, as names and values with their place.
//!
//! The form follows from the file's extension, and for unknown extensions from its first bytes. All but
//! Parquet may be compressed with gzip or zstd.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{BadRow, Place, bad_row, parquet};
use crate::corpus::extension;
use crate::error::{DataError, Result};
use crate::record::kind_of;
use crate::text::TextReader;

/// Extensions of tables, for folders.
pub(super) const TABLE_TYPES: &[&str] = &["csv", "tsv", "jsonl", "ndjson", "json", "parquet"];
/// Fields of a JSON object that may hold the rows.
const ROW_FIELDS: &[&str] = &["data", "rows", "examples"];

/// A row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Column names and what they hold. Cells of CSV and TSV are strings.
    pub cells: Map<String, Value>,
    /// Where it is.
    pub place: Place,
}

/// A file as a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// `CSV`, `TSV`, `JSON lines`, `JSON` or `Parquet`.
    pub form: &'static str,
    /// All columns, in the order in which they turn up.
    pub columns: Vec<String>,
    /// The rows that could be read.
    pub rows: Vec<Row>,
    /// Those that could not: broken JSON, too few cells or too many.
    pub bad: Vec<BadRow>,
}

/// Reads a table whole. `file` is its index, for the rows' places. With `nameless` the first line of a CSV
/// or TSV file is a row and the columns are called `#1`, `#2` and so on.
pub fn read_table(path: &Path, file: usize, nameless: bool) -> Result<Table> {
    let extension = extension(path).unwrap_or_default();
    if extension == "parquet" || parquet::is_parquet(path)? {
        return parquet::read(path, file);
    }
    let text = TextReader::open(path)?.rest()?;
    let first_line = text.trim_start().lines().next().unwrap_or_default();
    let json = first_line.starts_with(['{', '[']);
    match extension.as_str() {
        "jsonl" | "ndjson" => Ok(json_lines(path, file, &text)),
        "csv" => delimited(path, file, &text, delimiter_of(first_line), nameless),
        "tsv" => delimited(path, file, &text, b'\t', nameless),
        // Many a `.json` file has a record a line.
        _ if json && is_json_lines(&text) => Ok(json_lines(path, file, &text)),
        _ if json || extension == "json" => json_records(path, file, &text),
        _ => delimited(path, file, &text, delimiter_of(first_line), nameless),
    }
}

/// Counts lines up to offsets that grow.
pub(super) struct Lines<'a> {
    text: &'a str,
    offset: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, offset: 0, line: 1 }
    }

    /// The line, from 1, of a byte of the text; offsets may not go back.
    fn at(&mut self, offset: usize) -> u64 {
        let passed = &self.text.as_bytes()[self.offset..offset];
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.offset = offset;
        self.line
    }

    /// The line where a value borrowed from the text begins; values come in their order.
    pub(super) fn of_value(&mut self, value: &RawValue) -> u64 {
        let offset = (value.get().as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        if (self.offset..=self.text.len()).contains(&offset) { self.at(offset) } else { self.line }
    }
}

/// What serde says is wrong with JSON, without the line, which it can't know.
pub(super) fn json_problem(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    format!("broken JSON at column {}: {message}", error.column())
}

fn is_json_lines(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let whole = |line: &str| serde_json::from_str::<Map<String, Value>>(line).is_ok();
    lines.next().is_some_and(whole) && lines.next().is_some()
}

fn json_lines(path: &Path, file: usize, text: &str) -> Table {
    let mut table = Table::of("JSON lines");
    for (index, line) in text.lines().enumerate() {
        if !line.trim().is_empty() {
            table.push_json(path, Place { file, line: index as u64 + 1 }, serde_json::from_str(line), "");
        }
    }
    table
}

fn json_records(path: &Path, file: usize, text: &str) -> Result<Table> {
    let broken =
        |error: serde_json::Error| DataError::record(path, error.line() as u64, json_problem(&error));
    let mut table = Table::of("JSON");
    let mut records = text;
    if text.trim_start().starts_with('{') {
        let fields: BTreeMap<&str, &RawValue> = serde_json::from_str(text).map_err(broken)?;
        let rows = ROW_FIELDS.iter().find_map(|name| fields.get(name)).map(|rows| rows.get());
        let Some(rows) = rows.filter(|rows| rows.starts_with('[')) else {
            table.push_json(path, Place { file, line: 1 }, serde_json::from_str(text), "");
            return Ok(table);
        };
        records = rows;
    }
    let values: Vec<&RawValue> = serde_json::from_str(records).map_err(broken)?;
    let mut lines = Lines::of(text);
    for (index, value) in values.into_iter().enumerate() {
        let place = Place { file, line: lines.of_value(value) };
        let record = format!("record {}: ", index + 1);
        table.push_json(path, place, serde_json::from_str(value.get()), &record);
    }
    Ok(table)
}

impl Table {
    pub(super) fn of(form: &'static str) -> Self {
        Self { form, columns: Vec::new(), rows: Vec::new(), bad: Vec::new() }
    }

    fn push_json(&mut self, path: &Path, place: Place, value: serde_json::Result<Value>, record: &str) {
        let problem = match value {
            Ok(Value::Object(cells)) => return self.push(cells, place),
            Ok(other) => format!("{record}expected a JSON object, got {}", kind_of(&other)),
            Err(error) => format!("{record}{}", json_problem(&error)),
        };
        self.bad.push(bad_row(path, place.line, problem));
    }

    pub(super) fn push(&mut self, cells: Map<String, Value>, place: Place) {
        for name in cells.keys() {
            if !self.columns.contains(name) {
                self.columns.push(name.clone());
            }
        }
        self.rows.push(Row { cells, place });
    }
}

/// The character that divides cells: a comma, or where the first line has none, a semicolon or a tab.
fn delimiter_of(first_line: &str) -> u8 {
    let likely = [b'\t', b','].into_iter().max_by_key(|&byte| count(first_line, byte)).unwrap_or(b',');
    match (count(first_line, likely), count(first_line, b';')) {
        (0, 1..) => b';',
        _ => likely,
    }
}

fn count(text: &str, byte: u8) -> usize {
    text.bytes().filter(|&found| found == byte).count()
}

fn delimited(path: &Path, file: usize, text: &str, delimiter: u8, nameless: bool) -> Result<Table> {
    let mut lines = Lines::of(text);
    let marks = quotation_marks(text.as_bytes(), delimiter);
    // Most tables divided by tabs are written without quotation, and a mark in them is just a mark.
    let quoting = delimiter != b'\t' || matches!(marks, Marks::Quotation);
    if let (true, Marks::Open(offset)) = (quoting, marks) {
        let problem = "a cell begins with a quotation mark here that is never closed: expected \"…\" around the \
                       cell, and two marks for each one inside";
        return Err(DataError::record(path, lines.at(offset), problem));
    }
    let mut table = Table::of(if delimiter == b'\t' { "TSV" } else { "CSV" });
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(quoting)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut row = csv::StringRecord::new();
    loop {
        let offset = usize::try_from(reader.position().byte()).unwrap_or(text.len());
        let more = reader.read_record(&mut row);
        if !more.map_err(|error| DataError::record(path, lines.at(offset), error.to_string()))? {
            return Ok(table);
        }
        // The reader has yet to pass the end of the line before, and empty lines.
        let passed = text[offset..].len() - text[offset..].trim_start_matches(['\r', '\n']).len();
        let place = Place { file, line: lines.at(offset + passed) };
        if table.columns.is_empty() {
            table.columns = if nameless {
                (1..=row.len()).map(|number| format!("#{number}")).collect()
            } else {
                row.iter().map(|name| name.trim().to_string()).collect()
            };
            if let Some(twice) = twice(&table.columns) {
                return Err(DataError::record(path, place.line, format!("two columns are called {twice:?}")));
            }
            if !nameless {
                continue;
            }
        }
        if row.len() == table.columns.len() {
            let cells = row.iter().map(|cell| Value::String(cell.to_string()));
            table.rows.push(Row { cells: table.columns.iter().cloned().zip(cells).collect(), place });
        } else {
            let problem = format!("expected {} cells, got {}", table.columns.len(), row.len());
            table.bad.push(bad_row(path, place.line, problem));
        }
    }
}

fn twice(names: &[String]) -> Option<&String> {
    names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)).map(|(_, name)| name)
}

/// How a table uses quotation marks at the start of its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks {
    /// Around whole cells, as in RFC 4180, or not at all.
    Quotation,
    /// At least one cell goes on after the mark that should end it.
    Stray,
    /// The mark at this offset is never closed.
    Open(usize),
}

fn quotation_marks(text: &[u8], delimiter: u8) -> Marks {
    let mut marks = Marks::Quotation;
    let ends_cell = |byte: u8| byte == delimiter || byte == b'\n' || byte == b'\r';
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'"' {
            let open = at;
            loop {
                let Some(next) = text[at + 1..].iter().position(|&byte| byte == b'"') else {
                    return Marks::Open(open);
                };
                at += 1 + next;
                if text.get(at + 1) != Some(&b'"') {
                    break;
                }
                at += 1;
            }
            at += 1;
            if text.get(at).is_some_and(|&byte| !ends_cell(byte)) {
                marks = Marks::Stray;
            }
        }
        at += text[at..].iter().position(|&byte| ends_cell(byte)).map_or(text.len() - at, |end| end + 1);
    }
    marks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(name: &str, content: &[u8], nameless: bool) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        read_table(&path, 0, nameless)
    }

    fn check(name: &str, content: &str, form: &str, rows: &[(u64, Value)], bad: &[(u64, &str)]) {
        let table = table(name, content.as_bytes(), false).unwrap();
        let got: Vec<_> =
            table.rows.into_iter().map(|row| (row.place.line, Value::Object(row.cells))).collect();
        assert_eq!(got, rows, "{name}");
        let got: Vec<_> = table.bad.iter().map(|row| (row.line, row.problem.as_str())).collect();
        assert_eq!((table.form, got.as_slice()), (form, bad), "{name}");
    }

    #[test]
    fn delimited_tables() {
        let csv = "text,label\r\n\"two\r\nlines, \"\"quoted\"\"\",a\r\n\r\nplain,b,c\r\nlast,d\r\n";
        let rows = [
            (2, json!({"text": "two\r\nlines, \"quoted\"", "label": "a"})),
            (6, json!({"text": "last", "label": "d"})),
        ];
        check("a.csv", csv, "CSV", &rows, &[(5, "expected 2 cells, got 3")]);
        check("a.csv", "a;b\n1,5;2\n", "CSV", &[(2, json!({"a": "1,5", "b": "2"}))], &[]);
        let quoted = "a\tb\n\"x\ty\"\t1\n";
        check("a.tsv", quoted, "TSV", &[(2, json!({"a": "x\ty", "b": "1"}))], &[]);
    }

    #[test]
    fn a_mark_in_a_tsv_is_a_mark() {
        let rows = [
            (2, json!({"a": "\"Fine\" he said", "b": "1"})),
            (3, json!({"a": "\"open", "b": "2"})),
            (4, json!({"a": "x", "b": "3"})),
        ];
        check("a.tsv", "a\tb\n\"Fine\" he said\t1\n\"open\t2\nx\t3\n", "TSV", &rows, &[]);
        let error = table("a.csv", b"a,b\nx,1\n\"open,2\ny,3\n", false).unwrap_err().to_string();
        assert!(error.contains("a.csv:3: a cell begins with a quotation mark here that is never"), "{error}");
    }

    #[test]
    fn tables_without_names() {
        let table = table("a.csv", b"3,title\n4,other\n", true).unwrap();
        assert_eq!(table.columns, ["#1", "#2"]);
        assert_eq!((table.rows.len(), &table.rows[0].cells["#2"]), (2, &json!("title")));
    }

    #[test]
    fn json_tables() {
        let one = json!({"a": 1});
        let two = json!({"a": [2]});
        check(
            "a.jsonl",
            "{\"a\":1}\n\n{\"a\":[2]}\n",
            "JSON lines",
            &[(1, one.clone()), (3, two.clone())],
            &[],
        );
        check("a.json", "{\"a\":1}\n{\"a\":[2]}\n", "JSON lines", &[(1, one.clone()), (2, two.clone())], &[]);
        check("a.json", "[\n{\"a\":1},\n\n{\"a\":[2]}]", "JSON", &[(2, one.clone()), (4, two.clone())], &[]);
        let nested = "{\"version\": 1,\n\"data\": [{\"a\":1},\n{\"a\":[2]}]}";
        check("a.json", nested, "JSON", &[(2, one.clone()), (3, two)], &[]);
        check("a", "{\"a\":1}", "JSON", &[(1, one.clone())], &[]);
        let bad = [
            (2, "broken JSON at column 5: EOF while parsing a value"),
            (3, "expected a JSON object, got an array"),
        ];
        check("a.jsonl", "{\"a\":1}\n{\"a\":\n[1]\n", "JSON lines", &[(1, one.clone())], &bad);
        let bad = [(1, "record 2: expected a JSON object, got a number")];
        check("a.json", "[{\"a\":1}, 7]", "JSON", &[(1, one)], &bad);
        let error = table("a.json", b"[{\"a\":1},\n {]", false).unwrap_err().to_string();
        assert!(error.contains("a.json:2: broken JSON at column 3"), "{error}");
    }

    #[test]
    fn two_columns_of_one_name() {
        let error = table("a.csv", b"a,b,a\n1,2,3\n", false).unwrap_err().to_string();
        assert!(error.ends_with("a.csv:1: two columns are called \"a\""), "{error}");
    }
}
