//! A run's folder: one run at a time, and nothing left of a run that couldn't begin.

use crate::error::TrainError;
use std::path::{Path, PathBuf};

/// What a folder held before a run: all that is left of it if the run can't even begin.
pub(crate) struct Contents(Option<Vec<PathBuf>>);

impl Contents {
    /// Of a folder that didn't exist.
    pub(crate) fn none() -> Self {
        Contents(None)
    }

    /// What `dir` holds now.
    pub(crate) fn of(dir: &Path) -> Result<Self, TrainError> {
        let entries = fs_err::read_dir(dir)?.map(|entry| Ok(entry?.path()));
        Ok(Contents(Some(entries.collect::<Result<_, std::io::Error>>()?)))
    }

    /// Removes what has come since. What can't be removed stays: the error that led here counts more.
    pub(crate) fn restore(&self, dir: &Path) {
        let Contents(Some(before)) = self else {
            let _ = fs_err::remove_dir_all(dir);
            return;
        };
        for path in fs_err::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if !before.contains(&path) {
                let _ =
                    if path.is_dir() { fs_err::remove_dir_all(&path) } else { fs_err::remove_file(&path) };
            }
        }
    }
}

/// Keeps a second run out of the folder, until dropped.
pub(crate) struct Lock {
    path: PathBuf,
    _file: std::fs::File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A file that stays is no obstacle: what counts is the lock on it.
        let _ = fs_err::remove_file(&self.path);
    }
}

/// Takes the lock of a run's folder.
pub(crate) fn lock(run: &Path) -> Result<Lock, TrainError> {
    let path = run.join(".lock");
    let file = fs_err::File::create(&path)?.into_parts().0;
    match file.try_lock() {
        Ok(()) => Ok(Lock { path, _file: file }),
        Err(std::fs::TryLockError::WouldBlock) => Err(TrainError::Folder {
            folder: run.to_owned(),
            problem: "another run is writing here\nhint: wait for it, or choose another --out".into(),
        }),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}
