//! A file mapped into memory for reading: the one place outside the kernels with `unsafe`.

use std::path::Path;

use memmap2::Mmap;

use crate::error::Result;

/// The bytes of a file, without reading them first.
pub(crate) struct MappedFile(Option<Mmap>);

impl MappedFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = fs_err::File::open(path)?;
        if file.metadata()?.len() == 0 {
            // An empty file cannot be mapped everywhere.
            return Ok(Self(None));
        }
        // SAFETY: a mapping is sound as long as no one changes the file under it. Files opened
        // here are token shards, which this crate never writes in place: a new one is written
        // beside and renamed over the old, whose inode, and so this mapping, stays as it was. The
        // bytes are only ever read as integers, for which every bit pattern is valid, and the
        // mapping lives as long as the slices that `bytes` lends out.
        #[allow(unsafe_code, reason = "mapping a file cannot be done safely; see above")]
        let map = unsafe { Mmap::map(file.file()) }.map_err(|error| {
            std::io::Error::new(error.kind(), format!("cannot map {}: {error}", path.display()))
        })?;
        Ok(Self(Some(map)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
