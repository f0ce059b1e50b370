//! Opening a GGUF file: everything but the tensors' values is read and checked at once.

use super::cursor::Cursor;
use super::tensors::{Declared, Slot, TensorInfo, check_apart};
use super::value::{Value, ValueType};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, FromValue, MAGIC, VERSION, shown};
use crate::error::ModelError;
use crate::source::FileBytes;
use hearth_kernel::mapped::MappedFile;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// More keys or tensors than any model has: a file that announces more isn't one, and what it takes
/// to remember their names stays small.
const MOST_ENTRIES: usize = 1 << 16;

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    bytes: Arc<FileBytes>,
    path: PathBuf,
    header: Header,
}

impl Gguf {
    /// Maps and checks a file.
    ///
    /// # Errors
    /// If it can't be read or isn't a sound GGUF file; the message says where and what was expected.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::new(FileBytes::Mapped(MappedFile::open(path)?), path)
    }

    /// The same for bytes in memory; errors name them by `path`.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, ModelError> {
        Self::new(FileBytes::Held(bytes), path)
    }

    fn new(bytes: FileBytes, path: &Path) -> Result<Self, ModelError> {
        let header = Header::read(bytes.all()).map_err(|problem| weights_error(path, problem))?;
        Ok(Gguf { bytes: Arc::new(bytes), path: path.to_owned(), header })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// What the tensors' offsets are multiples of.
    pub fn alignment(&self) -> usize {
        self.header.alignment
    }

    /// The keys of the metadata, in the file's order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.header.keys.iter().map(|key| key.name.as_str())
    }

    /// The value of a key, if it is there.
    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        let key = find(&self.header.keys, &self.header.keys_by_name, |key| &key.name, key)?;
        // It was read once before, when the file was opened.
        Value::read(&mut Cursor::new(self.bytes.all(), key.at), key.kind, 0).ok()
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// If it isn't, or isn't a `T`.
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, ModelError> {
        self.find(key)?.ok_or_else(|| {
            weights_error(&self.path, format!("key {key} is missing, expected {}", T::expected()))
        })
    }

    /// The value of a key that may be missing.
    ///
    /// # Errors
    /// If it is there and isn't a `T`.
    pub fn find<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, ModelError> {
        let read = |value| {
            T::from_value(value).map_err(|got| {
                weights_error(&self.path, format!("key {key}: expected {}, got {got}", T::expected()))
            })
        };
        self.value(key).map(read).transpose()
    }

    /// The tensors, in the file's order.
    ///
    /// # Errors
    /// An item is an error if its tensor is of a type that isn't read here.
    pub fn tensors(&self) -> impl Iterator<Item = Result<&TensorInfo, ModelError>> {
        self.header.tensors.iter().map(|slot| self.readable(slot))
    }

    /// The tensors' names, in the file's order, whatever their types.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.iter().map(Slot::name)
    }

    /// A tensor, if it is there.
    ///
    /// # Errors
    /// If it is of a type that isn't read here.
    pub fn tensor(&self, name: &str) -> Result<Option<&TensorInfo>, ModelError> {
        let slot = find(&self.header.tensors, &self.header.tensors_by_name, Slot::name, name);
        slot.map(|slot| self.readable(slot)).transpose()
    }

    /// A tensor that must be there.
    ///
    /// # Errors
    /// If it isn't, or is of a type that isn't read here.
    pub fn require(&self, name: &str) -> Result<&TensorInfo, ModelError> {
        self.tensor(name)?.ok_or_else(|| weights_error(&self.path, format!("tensor {name} is missing")))
    }

    /// The bytes of a tensor of this file.
    ///
    /// # Panics
    /// If `tensor` is another file's and lies where this one has nothing.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.bytes.all()[tensor.range()]
    }

    /// All of the file, in which a tensor's [`range`](TensorInfo::range) lies.
    pub(super) fn shared_bytes(&self) -> Arc<FileBytes> {
        self.bytes.clone()
    }

    fn readable<'a>(&self, slot: &'a Slot) -> Result<&'a TensorInfo, ModelError> {
        slot.tensor().map_err(|problem| weights_error(&self.path, problem))
    }
}

pub(super) fn weights_error(path: &Path, problem: String) -> ModelError {
    ModelError::Weights { file: path.to_owned(), problem }
}

/// What stands before the data.
#[derive(Debug)]
struct Header {
    version: u32,
    alignment: usize,
    keys: Vec<Key>,
    /// Indices into `keys`, sorted by name.
    keys_by_name: Vec<usize>,
    tensors: Vec<Slot>,
    /// Indices into `tensors`, sorted by name.
    tensors_by_name: Vec<usize>,
}

#[derive(Debug)]
struct Key {
    name: String,
    kind: ValueType,
    /// Where its value begins.
    at: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut cursor = Cursor::new(bytes, 0);
        let version = read_version(&mut cursor)?;
        let n_tensors = entries(cursor.u64("the number of tensors")?, "tensors")?;
        let n_keys = entries(cursor.u64("the number of keys")?, "keys")?;
        let keys: Vec<Key> = (0..n_keys).map(|_| read_key(&mut cursor)).collect::<Result<_, _>>()?;
        let keys_by_name = sorted(&keys, |key| &key.name, "key")?;
        let alignment = match find(&keys, &keys_by_name, |key| &key.name, ALIGNMENT_KEY) {
            Some(key) => read_alignment(bytes, key)?,
            None => DEFAULT_ALIGNMENT,
        };
        let declared: Vec<Declared> =
            (0..n_tensors).map(|_| Declared::read(&mut cursor)).collect::<Result<_, _>>()?;
        let too_far = || format!("{ALIGNMENT_KEY} of {alignment} leads past the end of the file");
        let data_start = cursor.at().checked_next_multiple_of(alignment).ok_or_else(too_far)?;
        let place = |tensor: Declared| tensor.place(data_start, bytes.len(), alignment);
        let tensors: Vec<Slot> = declared.into_iter().map(place).collect::<Result<_, _>>()?;
        let tensors_by_name = sorted(&tensors, Slot::name, "tensor")?;
        check_apart(&tensors)?;
        Ok(Header { version, alignment, keys, keys_by_name, tensors, tensors_by_name })
    }
}

fn read_version(cursor: &mut Cursor) -> Result<u32, String> {
    let magic: [u8; 4] = cursor.array("the file's first word")?;
    if magic != MAGIC {
        return Err(format!("not a GGUF file: expected it to begin with \"GGUF\", got {:?}", Bytes4(magic)));
    }
    match cursor.u32("the version")? {
        version @ 2..=VERSION => Ok(version),
        // Half of a small number is zero, unless its bytes are the other way round.
        version if version & 0xffff == 0 && version != 0 => Err(format!(
            "a big-endian file (version {}), expected a little-endian one\nhint: llama.cpp's gguf_convert_endian \
             turns one into the other",
            version.swap_bytes()
        )),
        version => Err(format!("expected version 2 or {VERSION} of GGUF, got {version}")),
    }
}

/// Four bytes, shown as the text that they nearly always are.
struct Bytes4([u8; 4]);

impl std::fmt::Debug for Bytes4 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// A number of entries that is believable; memory is reserved for those alone that are then read.
fn entries(count: u64, what: &str) -> Result<usize, String> {
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= MOST_ENTRIES)
        .ok_or_else(|| format!("expected at most {MOST_ENTRIES} {what}, got {count}"))
}

fn read_key(cursor: &mut Cursor) -> Result<Key, String> {
    let name = cursor.name("key")?;
    let here = |problem: String| format!("key {}: {problem}", shown(name));
    let kind = ValueType::read(cursor).map_err(here)?;
    let at = cursor.at();
    Value::read(cursor, kind, 0).map_err(here)?;
    Ok(Key { name: name.to_owned(), kind, at })
}

fn read_alignment(bytes: &[u8], key: &Key) -> Result<usize, String> {
    let value = Value::read(&mut Cursor::new(bytes, key.at), key.kind, 0)?;
    usize::from_value(value).ok().filter(|n| *n >= 8 && n.is_power_of_two()).ok_or_else(|| {
        format!("key {ALIGNMENT_KEY}: expected a power of two of at least 8, got {}", value.describe())
    })
}

/// Indices in the order of names; refuses a name that is there twice.
fn sorted<T>(items: &[T], name: fn(&T) -> &str, what: &str) -> Result<Vec<usize>, String> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|i| name(&items[*i]));
    match order.windows(2).find(|pair| name(&items[pair[0]]) == name(&items[pair[1]])) {
        Some(pair) => Err(format!("{what} {} is there twice", shown(name(&items[pair[0]])))),
        None => Ok(order),
    }
}

fn find<'a, T>(items: &'a [T], order: &[usize], name: fn(&T) -> &str, wanted: &str) -> Option<&'a T> {
    let at = order.binary_search_by_key(&wanted, |i| name(&items[*i])).ok()?;
    Some(&items[order[at]])
}
