//! Writing a GGUF file, tensor by tensor.

use super::reader::weights_error;
use super::tensors::{TensorInfo, byte_len};
use super::value::{Value, ValueType};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC, MAX_DIMS, MAX_NAME, VERSION, shown};
use crate::error::ModelError;
use crate::weights::replace_with;
use hearth_kernel::quant::BlockType;
use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The longest tensor name that llama.cpp opens.
const LONGEST_TENSOR_NAME: usize = 63;

/// A GGUF file to be: metadata and tensors are declared in order, then [`GgufWriter::write`] asks for
/// the tensors' bytes one after the other.
#[derive(Debug, Default)]
pub struct GgufWriter {
    keys: HashSet<String>,
    /// The metadata as the file will have it.
    metadata: Vec<u8>,
    names: HashSet<String>,
    /// The tensors; their ranges count from the start of the data.
    tensors: Vec<TensorInfo>,
    /// Where the next tensor begins in the data.
    data_len: usize,
}

impl GgufWriter {
    /// A file without anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key to one value.
    ///
    /// # Errors
    /// If it was set before.
    pub fn set<T: Element>(&mut self, key: &str, value: T) -> Result<(), ModelError> {
        self.begin(key)?;
        put_u32(&mut self.metadata, T::KIND.id());
        value.put(&mut self.metadata);
        Ok(())
    }

    /// Sets a key to an array.
    ///
    /// # Errors
    /// If it was set before.
    pub fn set_array<T: Element>(&mut self, key: &str, values: &[T]) -> Result<(), ModelError> {
        self.begin(key)?;
        let out = &mut self.metadata;
        put_u32(out, ValueType::Array.id());
        put_u32(out, T::KIND.id());
        put_u64(out, values.len());
        values.iter().for_each(|value| value.put(out));
        Ok(())
    }

    /// Sets a key to a value of another file.
    ///
    /// # Errors
    /// If it was set before.
    pub fn set_value(&mut self, key: &str, value: Value) -> Result<(), ModelError> {
        self.begin(key)?;
        let out = &mut self.metadata;
        put_u32(out, value.kind().id());
        match value {
            Value::U8(x) => x.put(out),
            Value::I8(x) => x.put(out),
            Value::U16(x) => x.put(out),
            Value::I16(x) => x.put(out),
            Value::U32(x) => x.put(out),
            Value::I32(x) => x.put(out),
            Value::F32(x) => x.put(out),
            Value::Bool(x) => x.put(out),
            Value::Str(x) => x.put(out),
            Value::U64(x) => x.put(out),
            Value::I64(x) => x.put(out),
            Value::F64(x) => x.put(out),
            Value::Array(array) => {
                put_u32(out, array.element().id());
                put_u64(out, array.len());
                out.extend_from_slice(array.bytes);
            }
        }
        Ok(())
    }

    fn begin(&mut self, key: &str) -> Result<(), ModelError> {
        let problem = if key.is_empty() || key.len() > MAX_NAME {
            format!("expected 1 to {MAX_NAME} bytes, got {}", key.len())
        } else if key == ALIGNMENT_KEY {
            format!("expected to be left out, for files are written with {DEFAULT_ALIGNMENT}")
        } else if self.keys.contains(key) {
            "is set twice".to_owned()
        } else {
            self.keys.insert(key.to_owned());
            put_str(&mut self.metadata, key.as_bytes());
            return Ok(());
        };
        Err(config_error(format!("key {}: {problem}", shown(key))))
    }

    /// Declares the next tensor; `dims[0]` is its row length.
    ///
    /// # Errors
    /// If llama.cpp wouldn't read it: a name too long or there already, more than four dimensions or
    /// one of 0, rows that aren't whole blocks.
    pub fn declare(&mut self, name: &str, dims: &[usize], kind: BlockType) -> Result<(), ModelError> {
        let here = |problem: String| config_error(format!("tensor {}: {problem}", shown(name)));
        if name.is_empty() || name.len() > LONGEST_TENSOR_NAME {
            return Err(here(format!(
                "expected a name of 1 to {LONGEST_TENSOR_NAME} bytes, got {}",
                name.len()
            )));
        }
        let elements = dims.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        if !(1..=MAX_DIMS).contains(&dims.len()) || matches!(elements, None | Some(0)) {
            return Err(here(format!("expected 1 to {MAX_DIMS} dimensions of at least 1, got {dims:?}")));
        }
        let len = byte_len(dims, kind).map_err(here)?;
        let end =
            self.data_len.checked_add(len).and_then(|end| end.checked_next_multiple_of(DEFAULT_ALIGNMENT));
        let Some(padded_end) = end else {
            return Err(here("the file gets longer than this machine can count".to_owned()));
        };
        if !self.names.insert(name.to_owned()) {
            return Err(here("is declared twice".to_owned()));
        }
        let range = self.data_len..self.data_len + len;
        self.data_len = padded_end;
        self.tensors.push(TensorInfo { name: name.to_owned(), dims: dims.to_vec(), kind, range });
        Ok(())
    }

    /// The declared tensors, in order; their ranges count from the start of the data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Replaces the file at `path` whole. `fill` is called for each tensor in the order of their
    /// declaration, and writes its bytes, in as many pieces as it likes.
    ///
    /// # Errors
    /// If the disk fails, `fill` does, or writes another number of bytes than the tensor takes; what
    /// was at `path` before then stays.
    pub fn write(
        &self,
        path: &Path,
        mut fill: impl FnMut(&TensorInfo, &mut dyn Write) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        replace_with(path, |file| {
            let mut out = BufWriter::with_capacity(1 << 18, file);
            let header = self.header();
            out.write_all(&header)?;
            for tensor in &self.tensors {
                let mut sink = Sink { out: &mut out, written: 0, room: tensor.byte_len(), full: false };
                let filled = fill(tensor, &mut sink);
                let (written, room, full) = (sink.written, sink.room, sink.full);
                if full || (filled.is_ok() && written != room) {
                    let got = if full { "more".to_owned() } else { written.to_string() };
                    let name = shown(&tensor.name);
                    return Err(weights_error(
                        path,
                        format!("tensor {name}: expected {room} bytes to be written, got {got}"),
                    ));
                }
                filled?;
                pad(&mut out, room)?;
            }
            Ok(out.flush()?)
        })
    }

    /// Everything before the data.
    fn header(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, VERSION);
        put_u64(&mut out, self.tensors.len());
        put_u64(&mut out, self.keys.len());
        out.extend_from_slice(&self.metadata);
        for tensor in &self.tensors {
            put_str(&mut out, tensor.name.as_bytes());
            put_u32(&mut out, tensor.dims.len() as u32);
            tensor.dims.iter().for_each(|size| put_u64(&mut out, *size));
            put_u32(&mut out, tensor.kind.id());
            put_u64(&mut out, tensor.range.start);
        }
        out.resize(out.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
        out
    }
}

/// Zeros after `len` bytes, up to the alignment.
fn pad(out: &mut impl Write, len: usize) -> io::Result<()> {
    out.write_all(&[0; DEFAULT_ALIGNMENT][..len.next_multiple_of(DEFAULT_ALIGNMENT) - len])
}

fn config_error(problem: String) -> ModelError {
    ModelError::Config { place: "GGUF to be written".to_owned(), problem }
}

/// Where a tensor's bytes go, counted.
struct Sink<'a, W> {
    out: &'a mut W,
    written: usize,
    room: usize,
    /// Whether more bytes came than the tensor takes.
    full: bool,
}

impl<W: Write> Write for Sink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.room - self.written {
            self.full = true;
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more bytes than the tensor takes"));
        }
        let written = self.out.write(bytes)?;
        self.written += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        // The file is flushed once, at its end.
        Ok(())
    }
}

/// A type that metadata can be written from.
pub trait Element {
    /// The type that it becomes.
    const KIND: ValueType;

    /// Appends the value as a file has it.
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($type:ty: $kind:ident)*) => {$(
        impl Element for $type {
            const KIND: ValueType = ValueType::$kind;

            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
numbers!(u8: U8 i8: I8 u16: U16 i16: I16 u32: U32 i32: I32 f32: F32 u64: U64 i64: I64 f64: F64);

impl Element for bool {
    const KIND: ValueType = ValueType::Bool;

    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

macro_rules! strings {
    ($($type:ty)*) => {$(
        impl Element for $type {
            const KIND: ValueType = ValueType::Str;

            fn put(&self, out: &mut Vec<u8>) {
                put_str(out, self.as_ref());
            }
        }
    )*};
}
strings!(&str String &[u8] Vec<u8>);

fn put_str(out: &mut Vec<u8>, text: &[u8]) {
    put_u64(out, text.len());
    out.extend_from_slice(text);
}

fn put_u32(out: &mut Vec<u8>, x: u32) {
    out.extend_from_slice(&x.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, x: usize) {
    out.extend_from_slice(&(x as u64).to_le_bytes());
}
