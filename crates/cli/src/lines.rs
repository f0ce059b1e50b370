//! Lines of a file or of stdin, some at a time, so that what is piped in is answered as it comes; and where the
//! answers go.

use crate::failure::Usage;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::path::{Path, PathBuf};

/// Lines that are taken in before they are answered.
const CHUNK: usize = 4096;

/// Lines of a text, without their ends.
pub struct Lines {
    input: BufReader<Box<dyn Read>>,
    path: PathBuf,
    count: usize,
}

impl Lines {
    /// Opens a file; `-` is stdin.
    pub fn open(path: &Path) -> Result<Self> {
        let input: Box<dyn Read> = match path.as_os_str() == "-" {
            true => Box::new(stdin()),
            false => Box::new(fs_err::File::open(path)?),
        };
        Ok(Lines { input: BufReader::with_capacity(1 << 20, input), path: path.to_owned(), count: 0 })
    }

    /// The number of the last line that was given, from 1.
    pub fn number(&self) -> usize {
        self.count
    }

    /// The next lines: at least one if there is one, and as many more as have arrived.
    pub fn next_few(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        while lines.len() < CHUNK && (lines.is_empty() || self.input.buffer().contains(&b'\n')) {
            let mut line = Vec::new();
            let place = || self.path.display().to_string();
            if self.input.read_until(b'\n', &mut line).with_context(place)? == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
                line.pop_if(|end| *end == b'\r');
            }
            self.count += 1;
            let number = self.count;
            let text = String::from_utf8(line).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                Usage(format!(
                    "{}, line {number}: invalid UTF-8 at byte {at}\nhint: convert the file to UTF-8",
                    place()
                ))
            })?;
            lines.push(text);
        }
        Ok(lines)
    }
}

/// Where answers go: stdout as they come, or a file that is replaced whole once all are there.
pub struct Output {
    path: Option<PathBuf>,
    held: String,
}

impl Output {
    /// To a file, whose folder must be there before the work begins, or to stdout.
    pub fn open(path: Option<PathBuf>) -> Result<Self> {
        if let Some(folder) = path.as_deref().and_then(Path::parent).filter(|p| !p.as_os_str().is_empty()) {
            fs_err::metadata(folder)?;
        }
        Ok(Output { path, held: String::new() })
    }

    /// More of them.
    pub fn add(&mut self, text: &str) -> Result<()> {
        if self.path.is_some() {
            self.held.push_str(text);
            return Ok(());
        }
        let mut out = stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// All are there.
    pub fn end(self) -> Result<()> {
        match self.path {
            Some(path) => Ok(hearth_tokenizer::replace_file(&path, self.held.as_bytes())?),
            None => Ok(()),
        }
    }
}
