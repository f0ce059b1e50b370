//! Values of a GGUF file's metadata, borrowed from its bytes.

use super::cursor::Cursor;
use super::shown;

/// How deep arrays may hold arrays; files in use have none that do.
const MAX_DEPTH: usize = 4;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ValueType {
    /// 8 bits, unsigned.
    U8 = 0,
    /// 8 bits, signed.
    I8 = 1,
    /// 16 bits, unsigned.
    U16 = 2,
    /// 16 bits, signed.
    I16 = 3,
    /// 32 bits, unsigned.
    U32 = 4,
    /// 32 bits, signed.
    I32 = 5,
    /// 32-bit float.
    F32 = 6,
    /// A byte, 0 or 1.
    Bool = 7,
    /// Bytes, nearly always text.
    Str = 8,
    /// Values of one type.
    Array = 9,
    /// 64 bits, unsigned.
    U64 = 10,
    /// 64 bits, signed.
    I64 = 11,
    /// 64-bit float.
    F64 = 12,
}

impl ValueType {
    const ALL: [(ValueType, &'static str); 13] = [
        (ValueType::U8, "u8"),
        (ValueType::I8, "i8"),
        (ValueType::U16, "u16"),
        (ValueType::I16, "i16"),
        (ValueType::U32, "u32"),
        (ValueType::I32, "i32"),
        (ValueType::F32, "f32"),
        (ValueType::Bool, "bool"),
        (ValueType::Str, "string"),
        (ValueType::Array, "array"),
        (ValueType::U64, "u64"),
        (ValueType::I64, "i64"),
        (ValueType::F64, "f64"),
    ];

    /// What it is called in messages.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// The number that stands for it in a file.
    pub fn id(self) -> u32 {
        self as u32
    }

    pub(super) fn read(cursor: &mut Cursor) -> Result<Self, String> {
        let at = cursor.at();
        let id = cursor.u32("a value's type")?;
        match Self::ALL.get(id as usize) {
            Some((kind, _)) => Ok(*kind),
            None => Err(format!("expected a value type from 0 to 12 at byte {at}, got {id}")),
        }
    }

    /// The least number of bytes that a value of the type takes.
    fn smallest(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Str => 8,
            Self::Array => 12,
        }
    }

    /// Whether all values of the type take the same number of bytes.
    fn is_fixed(self) -> bool {
        !matches!(self, Self::Str | Self::Array)
    }
}

/// A value. Strings are bytes: the format says UTF-8, but vocabularies exist whose tokens are pieces
/// of characters.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are those of ValueType")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Its type.
    pub fn kind(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::Str(_) => ValueType::Str,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// Any integer.
    pub(super) fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(x) => x.into(),
            Self::I8(x) => x.into(),
            Self::U16(x) => x.into(),
            Self::I16(x) => x.into(),
            Self::U32(x) => x.into(),
            Self::I32(x) => x.into(),
            Self::U64(x) => x.into(),
            Self::I64(x) => x.into(),
            _ => return None,
        })
    }

    /// What it is, for a message.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::F32(x) => format!("{x} (f32)"),
            Self::F64(x) => format!("{x} (f64)"),
            Self::Bool(x) => x.to_string(),
            Self::Str(bytes) => format!("\"{}\"", shown(&String::from_utf8_lossy(bytes))),
            Self::Array(array) => format!("an array of {} {}", array.len, array.element.name()),
            whole => format!("{} ({})", whole.integer().unwrap_or_default(), whole.kind().name()),
        }
    }

    /// Reads the value of type `kind` at the cursor, inside of `depth` arrays.
    pub(super) fn read(cursor: &mut Cursor<'a>, kind: ValueType, depth: usize) -> Result<Self, String> {
        let what = kind.name();
        Ok(match kind {
            ValueType::U8 => Self::U8(u8::from_le_bytes(cursor.array(what)?)),
            ValueType::I8 => Self::I8(i8::from_le_bytes(cursor.array(what)?)),
            ValueType::U16 => Self::U16(u16::from_le_bytes(cursor.array(what)?)),
            ValueType::I16 => Self::I16(i16::from_le_bytes(cursor.array(what)?)),
            ValueType::U32 => Self::U32(u32::from_le_bytes(cursor.array(what)?)),
            ValueType::I32 => Self::I32(i32::from_le_bytes(cursor.array(what)?)),
            ValueType::F32 => Self::F32(f32::from_le_bytes(cursor.array(what)?)),
            ValueType::U64 => Self::U64(u64::from_le_bytes(cursor.array(what)?)),
            ValueType::I64 => Self::I64(i64::from_le_bytes(cursor.array(what)?)),
            ValueType::F64 => Self::F64(f64::from_le_bytes(cursor.array(what)?)),
            ValueType::Bool => match cursor.array(what)? {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                [other] => return Err(format!("expected a bool of 0 or 1, got {other}")),
            },
            ValueType::Str => Self::Str(cursor.string(what)?),
            ValueType::Array => Self::Array(Array::read(cursor, depth)?),
        })
    }
}

/// Values of one type, read as they are asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    element: ValueType,
    len: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// The elements' type.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements. All were checked when the file was opened.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (mut cursor, element) = (Cursor::new(self.bytes, 0), self.element);
        (0..self.len).map_while(move |_| Value::read(&mut cursor, element, 1).ok())
    }

    /// Reads an array and checks each element, without storing any.
    fn read(cursor: &mut Cursor<'a>, depth: usize) -> Result<Self, String> {
        if depth >= MAX_DEPTH {
            return Err(format!(
                "expected arrays at most {MAX_DEPTH} deep, got one deeper at {}",
                cursor.at()
            ));
        }
        let element = ValueType::read(cursor)?;
        let len = cursor.count(element.smallest(), "array elements")?;
        let start = cursor.at();
        if element.is_fixed() {
            let bytes = cursor.take((len * element.smallest()) as u64, "an array")?;
            if let (ValueType::Bool, Some(i)) = (element, bytes.iter().position(|byte| *byte > 1)) {
                return Err(format!("element {i}: expected a bool of 0 or 1, got {}", bytes[i]));
            }
        } else {
            for i in 0..len {
                cursor.walk()?;
                Value::read(cursor, element, depth + 1)
                    .map_err(|problem| format!("element {i}: {problem}"))?;
            }
        }
        Ok(Array { element, len, bytes: cursor.since(start) })
    }
}
