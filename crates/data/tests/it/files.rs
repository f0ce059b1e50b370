//! Files for the tests of readers.

use std::path::PathBuf;

use hearth_data::labelled::ReadOptions;

/// Files in a folder of their own, which goes with them.
pub(crate) struct Files {
    _folder: tempfile::TempDir,
    pub(crate) paths: Vec<PathBuf>,
}

impl Files {
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = files.iter().map(|(name, content)| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        });
        Self { paths: paths.collect(), _folder: folder }
    }
}

/// Options that name columns.
pub(crate) fn given(columns: &[(&str, &str)]) -> ReadOptions {
    let columns = columns.iter().map(|(role, name)| (role.to_string(), name.to_string())).collect();
    ReadOptions { columns, ..ReadOptions::default() }
}
