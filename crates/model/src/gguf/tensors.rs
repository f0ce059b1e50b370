//! The table of a GGUF file's tensors: read, and each one's place in the file checked.

use super::cursor::Cursor;
use super::types::foreign_name;
use super::{MAX_DIMS, shown};
use hearth_kernel::quant::BlockType;
use std::ops::Range;

/// A tensor of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// One to four sizes, the contiguous one first: `dims[0]` is the row length.
    pub dims: Vec<usize>,
    /// How its values are stored.
    pub kind: BlockType,
    /// Where its bytes are in the file.
    pub(super) range: Range<usize>,
}

impl TensorInfo {
    /// Values in a row.
    pub fn row_len(&self) -> usize {
        self.dims[0]
    }

    /// Rows, over all other dimensions.
    pub fn rows(&self) -> usize {
        self.dims[1..].iter().product()
    }

    /// Values in all.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// The sizes in the order of a tensor's shape elsewhere, rows before columns.
    pub fn shape(&self) -> Vec<usize> {
        self.dims.iter().rev().copied().collect()
    }

    /// Where its bytes are in the file.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// How many bytes it takes.
    pub fn byte_len(&self) -> usize {
        self.range.len()
    }
}

/// An entry of the table. A file may hold types that aren't known here as long as nobody wants them.
#[derive(Debug)]
pub(super) enum Slot {
    Readable(TensorInfo),
    Foreign { name: String, type_id: u32, at: usize },
}

impl Slot {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Readable(tensor) => &tensor.name,
            Self::Foreign { name, .. } => name,
        }
    }

    /// The tensor, or why it can't be read.
    pub(super) fn tensor(&self) -> Result<&TensorInfo, String> {
        match self {
            Self::Readable(tensor) => Ok(tensor),
            Self::Foreign { name, type_id, .. } => Err(format!(
                "tensor {} is of type {type_id} ({}), which isn't read here\nhint: {} are",
                shown(name),
                foreign_name(*type_id),
                BlockType::ALL.map(BlockType::name).join(", ")
            )),
        }
    }

    /// The bytes that it takes; at least one if its size isn't known.
    fn range(&self) -> Range<usize> {
        match self {
            Self::Readable(tensor) => tensor.range.clone(),
            Self::Foreign { at, .. } => *at..*at + 1,
        }
    }
}

/// An entry as the file has it.
pub(super) struct Declared<'a> {
    name: &'a str,
    dims: Vec<u64>,
    type_id: u32,
    offset: u64,
}

impl<'a> Declared<'a> {
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, String> {
        let name = cursor.name("tensor name")?;
        let here = |problem: String| format!("tensor {}: {problem}", shown(name));
        let n_dims = cursor.u32("the number of dimensions").map_err(here)?;
        if !(1..=MAX_DIMS as u32).contains(&n_dims) {
            return Err(here(format!("expected 1 to {MAX_DIMS} dimensions, got {n_dims}")));
        }
        let dims = (0..n_dims).map(|_| cursor.u64("a dimension")).collect::<Result<_, _>>().map_err(here)?;
        let type_id = cursor.u32("the type").map_err(here)?;
        let offset = cursor.u64("the offset").map_err(here)?;
        Ok(Declared { name, dims, type_id, offset })
    }

    /// Checks the tensor's place in a file of `file_len` bytes whose data begin at `data_start`.
    pub(super) fn place(self, data_start: usize, file_len: usize, alignment: usize) -> Result<Slot, String> {
        let here = |problem: String| format!("tensor {}: {problem}", shown(self.name));
        let offset = self.offset;
        if !offset.is_multiple_of(alignment as u64) {
            return Err(here(format!("expected an offset that is a multiple of {alignment}, got {offset}")));
        }
        let dims = sizes(&self.dims).map_err(here)?;
        let kind = BlockType::from_id(self.type_id);
        let len = match kind {
            Some(kind) => byte_len(&dims, kind).map_err(here)?,
            None => 1,
        };
        let start = usize::try_from(offset).ok().and_then(|offset| data_start.checked_add(offset));
        let range =
            start.and_then(|start| Some(start..start.checked_add(len)?)).filter(|r| r.end <= file_len);
        let range = range.ok_or_else(|| {
            let room = file_len.saturating_sub(data_start);
            here(format!("{len} bytes at offset {offset} end past the file, whose data have {room} bytes"))
        })?;
        let name = self.name.to_owned();
        Ok(match kind {
            Some(kind) => Slot::Readable(TensorInfo { name, dims, kind, range }),
            None => Slot::Foreign { name, type_id: self.type_id, at: range.start },
        })
    }
}

fn sizes(dims: &[u64]) -> Result<Vec<usize>, String> {
    if dims.contains(&0) {
        return Err(format!("expected dimensions of at least 1, got {dims:?}"));
    }
    let elements = dims.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
    match elements.map(usize::try_from) {
        // No size is larger than the product, so that none is changed by the cast.
        Some(Ok(_)) => Ok(dims.iter().map(|size| *size as usize).collect()),
        _ => Err(format!("dimensions {dims:?} have more values than this machine can count")),
    }
}

/// The bytes of a tensor whose dimensions are at least 1 and have a product.
pub(super) fn byte_len(dims: &[usize], kind: BlockType) -> Result<usize, String> {
    let (row_len, block_len) = (dims[0], kind.block_len());
    if !row_len.is_multiple_of(block_len) {
        return Err(format!(
            "expected rows of a multiple of {block_len} values, for they are {}, got {row_len}",
            kind.name()
        ));
    }
    let blocks = dims[1..].iter().product::<usize>() * (row_len / block_len);
    blocks
        .checked_mul(kind.block_bytes())
        .ok_or_else(|| format!("dimensions {dims:?} have more bytes than this machine can count"))
}

/// Refuses tensors that share bytes.
pub(super) fn check_apart(slots: &[Slot]) -> Result<(), String> {
    let mut in_place: Vec<&Slot> = slots.iter().collect();
    in_place.sort_by_key(|slot| slot.range().start);
    for pair in in_place.windows(2) {
        let (first, second) = (pair[0].range(), pair[1].range());
        if second.start < first.end {
            return Err(format!(
                "tensors {} and {} overlap: the first takes bytes {} to {} of the file, the second begins at {}",
                shown(pair[0].name()),
                shown(pair[1].name()),
                first.start,
                first.end,
                second.start
            ));
        }
    }
    Ok(())
}
