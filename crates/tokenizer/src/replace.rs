//! Files are replaced whole: a crash leaves the old file or the new one.

use std::io::{self, Write};
use std::path::Path;

/// Writes `bytes` beside `path`, syncs them to disk, then renames them into place. Parent folders
/// are made.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let context =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()));
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs_err::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".hearth-").tempfile_in(folder).map_err(context)?;
    file.write_all(bytes).map_err(context)?;
    publish_permissions(file.as_file()).map_err(context)?;
    file.as_file().sync_all().map_err(context)?;
    file.persist(path).map_err(|error| context(error.error))?;
    Ok(())
}

/// Temporary files are private to their owner; a finished file should be as readable as any.
#[cfg(unix)]
pub fn publish_permissions(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

/// Temporary files are private to their owner; a finished file should be as readable as any.
#[cfg(not(unix))]
pub fn publish_permissions(_: &std::fs::File) -> io::Result<()> {
    Ok(())
}
