//! Bytes of a file as text: decompression, lines and pieces, with places for errors.

use std::io::{BufRead, BufReader, ErrorKind as IoKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use fs_err::File;
use ruzstd::decoding::StreamingDecoder;

use crate::error::{DataError, Result};

const BUFFER_BYTES: usize = 256 << 10;
const GZIP: &[u8] = &[0x1F, 0x8B];
const ZSTD: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];

/// A file being read, decompressed if its first bytes say so, that knows where it is.
pub(crate) struct TextReader {
    file: PathBuf,
    reader: Box<dyn BufRead + Send>,
    compressed: bool,
    offset: u64,
    line: u64,
    buffer: Vec<u8>,
    in_pieces: bool,
}

impl TextReader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut plain = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
        let start = plain.fill_buf()?;
        let (gzip, zstd) = (start.starts_with(GZIP), start.starts_with(ZSTD));
        let reader: Box<dyn BufRead + Send> = if gzip {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(plain)))
        } else if zstd {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, ZstdFrames { source: Some(plain), frame: None }))
        } else {
            Box::new(plain)
        };
        let mut text = Self {
            file: path.to_path_buf(),
            reader,
            compressed: gzip || zstd,
            offset: 0,
            line: 0,
            buffer: Vec::new(),
            in_pieces: false,
        };
        text.skip_byte_order_mark()?;
        Ok(text)
    }

    fn skip_byte_order_mark(&mut self) -> Result<()> {
        const MARK: &[u8] = "\u{FEFF}".as_bytes();
        let mut start = Vec::new();
        let read = self.reader.by_ref().take(3).read_to_end(&mut start);
        read.map_err(|error| self.read_error(error))?;
        if start == MARK {
            self.offset = 3;
        } else {
            self.buffer = start;
        }
        Ok(())
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The number, from 1, of the line last read.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// What a failed read means: of a compressed file, mostly that it is damaged.
    pub(crate) fn read_error(&self, error: std::io::Error) -> DataError {
        let file = self.file.clone();
        match error.kind() {
            IoKind::UnexpectedEof if self.compressed => {
                DataError::Compressed { file, problem: "the compressed data ends too early".to_string() }
            }
            IoKind::InvalidInput | IoKind::InvalidData | IoKind::Other if self.compressed => {
                DataError::Compressed { file, problem: format!("the compressed data is damaged ({error})") }
            }
            _ => DataError::Io(error),
        }
    }

    fn to_text(&self, bytes: Vec<u8>) -> Result<String> {
        String::from_utf8(bytes).map_err(|error| DataError::Utf8 {
            file: self.file.clone(),
            offset: self.offset + error.utf8_error().valid_up_to() as u64,
        })
    }

    /// The next line without its end, or `None` after the last.
    pub(crate) fn next_line(&mut self) -> Result<Option<String>> {
        let mut bytes = std::mem::take(&mut self.buffer);
        self.reader.read_until(b'\n', &mut bytes).map_err(|error| self.read_error(error))?;
        // What the byte order mark's reader put back may hold more than one short line.
        if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.buffer = bytes.split_off(end + 1);
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let len = bytes.len() as u64;
        let mut line = self.to_text(bytes)?;
        self.offset += len;
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(Some(line))
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> Result<String> {
        let mut bytes = std::mem::take(&mut self.buffer);
        self.reader.read_to_end(&mut bytes).map_err(|error| self.read_error(error))?;
        self.to_text(bytes)
    }

    /// The next piece of running text: all of it if the file has no more than `whole` bytes, else
    /// at most `piece` bytes, ended after a blank line, or else a newline, a space, a character.
    pub(crate) fn next_piece(&mut self, whole: usize, piece: usize) -> Result<Option<String>> {
        let whole = if self.in_pieces { piece } else { whole };
        let mut bytes = std::mem::take(&mut self.buffer);
        let want = whole.max(piece).saturating_add(1).saturating_sub(bytes.len()) as u64;
        let read = self.reader.by_ref().take(want).read_to_end(&mut bytes);
        read.map_err(|error| self.read_error(error))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() > whole {
            self.in_pieces = true;
            let end = piece_end(&bytes[..piece.min(bytes.len())]);
            self.buffer = bytes.split_off(end);
        }
        let len = bytes.len() as u64;
        let text = self.to_text(bytes)?;
        self.offset += len;
        Ok(Some(text))
    }
}

/// For formats whose own reader takes bytes; lines and places are then its business.
impl Read for TextReader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.buffer.is_empty() {
            return self.reader.read(out);
        }
        let len = out.len().min(self.buffer.len());
        out[..len].copy_from_slice(&self.buffer[..len]);
        self.buffer.drain(..len);
        Ok(len)
    }
}

/// Where to end a piece of text so that it breaks as little as possible; never 0.
fn piece_end(bytes: &[u8]) -> usize {
    let after_last = |pattern: &[u8]| {
        bytes.windows(pattern.len()).rposition(|window| window == pattern).map(|at| at + pattern.len())
    };
    let boundary = || {
        let start = (0..bytes.len()).rev().take(4).find(|&at| bytes[at] & 0xC0 != 0x80)?;
        if std::str::from_utf8(&bytes[start..]).is_ok() { None } else { Some(start).filter(|&at| at > 0) }
    };
    after_last(b"\n\n")
        .or_else(|| after_last(b"\n\r\n"))
        .or_else(|| after_last(b"\n"))
        .or_else(|| after_last(b" "))
        .or_else(boundary)
        .unwrap_or(bytes.len())
}

/// All frames of a zstd file, one after the other.
struct ZstdFrames<R: Read> {
    source: Option<R>,
    frame: Option<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>,
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let read = frame.read(out)?;
                if read > 0 || out.is_empty() {
                    return Ok(read);
                }
                self.source = self.frame.take().map(StreamingDecoder::into_inner);
            }
            let Some(mut source) = self.source.take() else { return Ok(0) };
            if source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let frame = StreamingDecoder::new(source)
                .map_err(|error| std::io::Error::new(IoKind::InvalidData, error.to_string()))?;
            self.frame = Some(frame);
        }
    }
}
