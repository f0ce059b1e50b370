//! Files mapped into memory, read only: weights are paged in as they are used.

use std::fs::File;
use std::io;
use std::path::Path;

/// A file's bytes, mapped.
#[derive(Debug)]
pub struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// If it can't be opened or mapped; the message names it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let name = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let file = File::open(path).map_err(name)?;
        // SAFETY: the mapping is private and read only. Hearth replaces files by renaming, never in
        // place, so the bytes don't change under the mapping unless another program rewrites the file.
        unsafe { memmap2::Mmap::map(&file) }.map(MappedFile).map_err(name)
    }

    /// Gives the memory of some bytes back to the system; they are paged in again if they are read again.
    pub fn release(&self, range: std::ops::Range<usize>) {
        #[cfg(unix)]
        {
            let (offset, len) = (range.start, range.len().min(self.0.len().saturating_sub(range.start)));
            // SAFETY: the mapping is of a file and read only, so its pages hold nothing but what is in the file.
            // Advice that isn't taken costs memory, nothing else.
            let _ = unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, len) };
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
