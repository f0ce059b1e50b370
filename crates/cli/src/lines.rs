//! Lines of a file or of stdin, some at a time, so that what is piped in is answered as it comes.

use crate::failure::Usage;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Read, stdin};
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
