//! Walking over bytes that came from outside: every length is compared with what is left.

use super::{MAX_NAME, shown};

/// How many elements of arrays are walked over one by one: far more than there are tokens and merges
/// in any vocabulary, and few enough to be done in a moment.
pub(super) const MOST_WALKED: usize = 1 << 22;

/// A place in a file's bytes. `at` never passes the end.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    walked: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at byte `at`, or at the end if there are fewer.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Cursor { bytes, at: at.min(bytes.len()), walked: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes passed since `start`.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    /// The next `len` bytes, which are `what`.
    pub(super) fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], String> {
        let (at, left) = (self.at, self.left());
        match usize::try_from(len).ok().filter(|len| *len <= left) {
            Some(len) => {
                self.at += len;
                Ok(&self.bytes[at..self.at])
            }
            None => Err(format!("cut short: {what} at byte {at} takes {len} bytes, but {left} are left")),
        }
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64, what)?);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// How many `what` follow, each of which takes at least `smallest` bytes.
    pub(super) fn count(&mut self, smallest: usize, what: &str) -> Result<usize, String> {
        let at = self.at;
        let count = self.u64(what)?;
        let most = self.left() / smallest;
        usize::try_from(count).ok().filter(|count| *count <= most).ok_or_else(|| {
            format!("{count} {what} announced at byte {at}, but the rest of the file holds at most {most}")
        })
    }

    /// Counts an element of an array whose length only walking over it tells.
    pub(super) fn walk(&mut self) -> Result<(), String> {
        self.walked += 1;
        if self.walked > MOST_WALKED {
            return Err(format!("expected at most {MOST_WALKED} strings and arrays within arrays, got more"));
        }
        Ok(())
    }

    /// A string: its length, and that many bytes.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a [u8], String> {
        let len = self.u64(what)?;
        self.take(len, what)
    }

    /// A string that names something, so it is text of a sensible length.
    pub(super) fn name(&mut self, what: &str) -> Result<&'a str, String> {
        let at = self.at;
        let bytes = self.string(what)?;
        if !(1..=MAX_NAME).contains(&bytes.len()) {
            return Err(format!("{what} at byte {at}: expected 1 to {MAX_NAME} bytes, got {}", bytes.len()));
        }
        std::str::from_utf8(bytes).map_err(|e| {
            let lossy = shown(&String::from_utf8_lossy(bytes));
            format!("{what} at byte {at}: expected UTF-8, got \"{lossy}\" ({e})")
        })
    }
}
