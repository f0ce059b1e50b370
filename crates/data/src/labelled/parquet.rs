//! Rows of Parquet files, with the names of class labels that `datasets` keeps in their metadata.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use fs_err::File;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Map, Value};

use super::{Place, Table};
use crate::error::{DataError, Result};

const MAGIC: &[u8] = b"PAR1";
/// The metadata key of Hugging Face `datasets`: JSON with the type of each column.
const FEATURES_KEY: &str = "huggingface";

/// Whether a file begins as Parquet does.
pub(super) fn is_parquet(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == MAGIC)
}

/// Reads a file whole. Class labels that have names come as these names.
pub(super) fn read(path: &Path, file: usize) -> Result<Table> {
    let broken =
        |row: u64| move |error| DataError::record(path, row, format!("not readable as Parquet: {error}"));
    let reader = SerializedFileReader::new(File::open(path)?.into_parts().0).map_err(broken(0))?;
    let metadata = reader.metadata().file_metadata();
    let features = metadata.key_value_metadata().into_iter().flatten();
    let features = features.filter(|pair| pair.key == FEATURES_KEY).find_map(|pair| pair.value.as_deref());
    let names = features.map(class_names).unwrap_or_default();
    let mut table = Table::of("Parquet");
    table.columns = metadata.schema().get_fields().iter().map(|field| field.name().to_string()).collect();
    for (index, row) in reader.into_iter().enumerate() {
        let line = index as u64 + 1;
        let Value::Object(mut cells) = row.map_err(broken(line))?.to_json_value() else {
            return Err(DataError::record(path, line, "expected a row of named columns"));
        };
        for (column, names) in &names {
            if let Some(value) = cells.get_mut(column) {
                name_classes(value, names);
            }
        }
        table.push(cells, Place { file, line });
    }
    Ok(table)
}

/// For each column of class labels, alone or in lists, the names of the classes.
fn class_names(features: &str) -> BTreeMap<String, Vec<String>> {
    let Ok(described) = serde_json::from_str::<Value>(features) else { return BTreeMap::new() };
    let columns = described.pointer("/info/features").and_then(Value::as_object);
    let columns = columns.into_iter().flat_map(Map::iter);
    columns.filter_map(|(column, feature)| Some((column.clone(), names_of(feature)?))).collect()
}

fn names_of(feature: &Value) -> Option<Vec<String>> {
    let element = feature.get("feature").or_else(|| feature.get(0)).unwrap_or(feature);
    let names = element.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(String::from)).collect()
}

/// Puts names in the place of class indices, and null for the −1 that `datasets` gives unlabelled rows.
fn name_classes(value: &mut Value, names: &[String]) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| name_classes(value, names)),
        Value::Number(number) => {
            let name = number.as_u64().and_then(|index| names.get(usize::try_from(index).ok()?));
            match name {
                Some(name) => *value = Value::String(name.clone()),
                None if number.as_i64() == Some(-1) => *value = Value::Null,
                None => {}
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::labelled::read_table;

    fn golden(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
    }

    #[test]
    fn rows_of_arrow_files_with_class_names() {
        for codec in ["snappy", "zstd", "gzip", "lz4", "brotli"] {
            let table = read_table(&golden(&format!("labelled-{codec}.parquet")), 0, false).unwrap();
            assert_eq!(table.form, "Parquet");
            assert_eq!(table.columns, ["text", "label", "tokens", "ner_tags", "score", "answers"]);
            let rows: Vec<_> = table.rows.into_iter().map(|row| Value::Object(row.cells)).collect();
            let answers = json!({"text": ["多"], "answer_start": [1]});
            assert_eq!(
                rows[0],
                json!({"text": "很多 good", "label": "pos", "tokens": ["Paris", "!"], "ner_tags": ["B-LOC", "O"],
                    "score": 0.5, "answers": answers})
            );
            let empty = json!({"text": [], "answer_start": []});
            let expected = json!({"text": "bad", "label": null, "tokens": [], "ner_tags": [], "score": null,
                "answers": empty});
            assert_eq!((rows.len(), &rows[1]), (2, &expected));
        }
    }

    #[test]
    fn what_is_not_parquet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        std::fs::write(&path, "text,label\n").unwrap();
        let error = read_table(&path, 0, false).unwrap_err().to_string();
        assert!(error.contains("a.parquet:0: not readable as Parquet: "), "{error}");
    }
}
