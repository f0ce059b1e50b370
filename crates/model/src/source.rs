//! Where the planned executor finds parameters: in memory, or in a mapped file in whatever type that has.

use crate::executor::ParamId;
use crate::weights::Weights;
use hearth_kernel::mapped::MappedFile;
use hearth_kernel::quant::{BlockType, dequantize};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Parameters by their [`ParamId`]s.
pub trait Source {
    /// A parameter.
    fn stored(&self, id: ParamId) -> Stored<'_>;
}

/// The bytes of a file: mapped, or held in memory.
#[derive(Debug)]
pub(crate) enum FileBytes {
    Mapped(MappedFile),
    Held(Vec<u8>),
}

impl FileBytes {
    pub(crate) fn all(&self) -> &[u8] {
        match self {
            Self::Mapped(file) => file.bytes(),
            Self::Held(bytes) => bytes,
        }
    }

    /// Gives the memory of some of the bytes back to the system.
    fn release(&self, range: Range<usize>) {
        if let Self::Mapped(file) = self {
            file.release(range);
        }
    }
}

/// A parameter as its source has it.
#[derive(Debug)]
pub enum Stored<'a> {
    /// Values in the shape and order of its [`ParamSpec`](crate::executor::ParamSpec).
    Values(&'a [f32]),
    /// Rows of a file: of matrices [out, in], unless it has the model's own order where that is [in, out].
    File(Rows),
}

/// Rows in a mapped file; cheap to clone.
#[derive(Clone, Debug)]
pub struct Rows {
    file: Arc<FileBytes>,
    range: Range<usize>,
    /// How values are stored.
    pub kind: BlockType,
    /// Values a row.
    pub cols: usize,
    /// The order of the rows.
    pub order: RowOrder,
    /// The model's matrix is [in, out], where the file has [out, in].
    pub transposed: bool,
}

/// The order of a matrix' rows in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// As in the model.
    Same,
    /// Heads of `head_dim` rows whose halves are interleaved: llama.cpp's `llama` rotates neighbouring
    /// pairs, where `transformers` and Hearth rotate `i` with `i + D/2`.
    Interleaved {
        /// D
        head_dim: usize,
    },
}

impl RowOrder {
    /// Where the file has the model's row `i`.
    pub fn row_of(self, i: usize) -> usize {
        match self {
            RowOrder::Same => i,
            RowOrder::Interleaved { head_dim } => {
                let (head, at) = (i / head_dim, i % head_dim);
                let (half, pair) = (at / (head_dim / 2), at % (head_dim / 2));
                head * head_dim + 2 * pair + half
            }
        }
    }
}

impl Rows {
    /// Rows of `cols` values at `range` in a file.
    pub(crate) fn new(
        file: Arc<FileBytes>,
        range: Range<usize>,
        kind: BlockType,
        cols: usize,
        order: RowOrder,
        transposed: bool,
    ) -> Self {
        Rows { file, range, kind, cols, order, transposed }
    }

    /// All rows, in the file's order.
    pub fn bytes(&self) -> &[u8] {
        &self.file.all()[self.range.clone()]
    }

    /// Gives the memory of the file's pages back, once the rows are repacked.
    pub fn release(&self) {
        self.file.release(self.range.clone());
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        // A file may have rows of no values; the model has none such.
        self.bytes().len().checked_div(self.row_bytes()).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    fn row_bytes(&self) -> usize {
        self.cols / self.kind.block_len() * self.kind.block_bytes()
    }

    /// The values of the model's row `i`.
    ///
    /// # Panics
    /// If there is no such row, or `out` isn't as long as one.
    pub fn row(&self, i: usize, out: &mut [f32]) {
        let bytes = self.row_bytes();
        dequantize(self.kind, &self.bytes()[self.order.row_of(i) * bytes..][..bytes], out);
    }

    /// All values, in the model's shape and order.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len() * self.cols];
        if self.transposed {
            let (rows, mut row) = (self.len(), vec![0.0; self.cols]);
            for i in 0..rows {
                self.row(i, &mut row);
                row.iter().enumerate().for_each(|(j, x)| values[j * rows + i] = *x);
            }
            return values;
        }
        match self.order {
            RowOrder::Same => dequantize(self.kind, self.bytes(), &mut values),
            _ => values.chunks_exact_mut(self.cols).enumerate().for_each(|(i, out)| self.row(i, out)),
        }
        values
    }
}

impl Stored<'_> {
    /// The values, in the model's order.
    pub fn values(&self) -> Cow<'_, [f32]> {
        match self {
            Stored::Values(values) => Cow::Borrowed(values),
            Stored::File(rows) => Cow::Owned(rows.values()),
        }
    }
}

impl Source for Weights {
    fn stored(&self, id: ParamId) -> Stored<'_> {
        Stored::Values(self.get(id).data())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_are_a_permutation_of_each_head() {
        let order = RowOrder::Interleaved { head_dim: 6 };
        let rows: Vec<usize> = (0..12).map(|i| order.row_of(i)).collect();
        assert_eq!(rows, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
