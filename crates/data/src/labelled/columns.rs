//! Which column of a table means what: guessed from its name, or as told.

use std::path::Path;

use serde_json::{Map, Value};

use super::ReadOptions;
use crate::error::{DataError, Result};
use crate::record::kind_of;

/// Known names that an error lists.
const SHOWN_NAMES: usize = 5;

/// What a column can be for, and the names it goes by, likeliest first.
pub(super) struct Role {
    pub(super) name: &'static str,
    pub(super) names: &'static [&'static str],
}

/// The columns in use, of each role the name that the table has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen(pub(super) Vec<(&'static str, String)>);

impl Chosen {
    /// The column of a role.
    pub(super) fn get(&self, role: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == role).map(|(_, column)| column.as_str())
    }

    /// Roles and columns, to be shown.
    pub(super) fn shown(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0.iter().map(|(role, column)| (role.to_string(), column.clone()))
    }
}

/// The column called `name`, in any case.
pub(super) fn find<'a>(columns: &'a [String], name: &str) -> Option<&'a str> {
    let is_it = |column: &&String| column.trim().eq_ignore_ascii_case(name.trim());
    columns.iter().find(|column| *column == name).or_else(|| columns.iter().find(is_it)).map(String::as_str)
}

/// Refuses overrides of roles that the task does not have.
pub(super) fn check_roles(options: &ReadOptions, roles: &[&Role]) -> Result<()> {
    let Some(unknown) = options.columns.keys().find(|name| roles.iter().all(|role| role.name != *name))
    else {
        return Ok(());
    };
    let known: Vec<_> = roles.iter().map(|role| role.name).collect();
    Err(DataError::BadOption(format!(
        "no column is read as {unknown:?}\nhint: columns can be given for {}",
        known.join(", ")
    )))
}

/// The column of one role: the one given, which must be there, or the first of its names that is.
pub(super) fn choose(
    role: &Role,
    columns: &[String],
    options: &ReadOptions,
    file: &Path,
) -> Result<Option<String>> {
    match options.columns.get(role.name) {
        Some(given) => match find(columns, given) {
            Some(column) => Ok(Some(column.to_string())),
            None => Err(missing(role, Some(given), columns, file)),
        },
        None => Ok(role.names.iter().find_map(|name| find(columns, name)).map(String::from)),
    }
}

/// The error of a table without the column `given`, or without any that `role` could be.
pub(super) fn missing(role: &Role, given: Option<&str>, columns: &[String], file: &Path) -> DataError {
    let quoted: Vec<_> = columns.iter().map(|column| format!("{column:?}")).collect();
    let columns = if quoted.is_empty() { "none".to_string() } else { quoted.join(", ") };
    let name = role.name;
    let (role, hint) = match given {
        Some(given) => (
            format!("{name} called {given:?}"),
            format!("give one of them for the {name}, or #1 for the first if the first line holds no names"),
        ),
        None => (
            name.to_string(),
            format!(
                "name it with --column {name}=NAME, or --column {name}=#1 for the first if the first line holds \
                 no names; known names are such as {}",
                role.names[..role.names.len().min(SHOWN_NAMES)].join(", ")
            ),
        ),
    };
    DataError::NoColumn { file: file.to_path_buf(), role, columns, hint }
}

/// The text in a column of a row; an empty one is a problem, too.
pub(super) fn text<'a>(cells: &'a Map<String, Value>, column: &str) -> Result<&'a str, String> {
    match cells.get(column) {
        Some(Value::String(text)) if text.trim().is_empty() => Err(format!("{column:?} is empty")),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("{column:?} holds {}, expected text", kind_of(other))),
        None => Err(no_cell(cells, column)),
    }
}

/// The problem of a row without a column.
pub(super) fn no_cell(cells: &Map<String, Value>, column: &str) -> String {
    let names: Vec<_> = cells.keys().map(|name| format!("{name:?}")).collect();
    let names = if names.is_empty() { "none".to_string() } else { names.join(", ") };
    format!("no field {column:?}; the fields are {names}")
}
