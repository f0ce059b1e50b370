//! Sparse rows of features, in compressed form.

/// A matrix of rows that are mostly zero (compressed sparse rows). `N` rows, `F` columns.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseRows {
    /// `N + 1` places in `entries`: row `i` is `entries[starts[i]..starts[i + 1]]`.
    starts: Vec<usize>,
    /// Column and value, columns ascending within a row.
    entries: Vec<(u32, f32)>,
    n_columns: usize,
}

impl SparseRows {
    /// No rows yet, of `n_columns` columns each.
    pub fn new(n_columns: usize) -> Self {
        SparseRows { starts: vec![0], entries: Vec::new(), n_columns }
    }

    /// Appends a row, given as columns and values in any order; values of the same column are added up.
    ///
    /// # Panics
    /// If a column isn't below [`Self::n_columns`].
    pub fn push(&mut self, row: &mut [(u32, f32)]) {
        row.sort_by_key(|&(column, _)| column);
        let start = self.entries.len();
        for &(column, value) in row.iter() {
            assert!((column as usize) < self.n_columns, "column {column} of {}", self.n_columns);
            match self.entries[start..].last_mut() {
                Some(last) if last.0 == column => last.1 += value,
                _ => self.entries.push((column, value)),
            }
        }
        self.starts.push(self.entries.len());
    }

    /// Columns and values of row `index`, columns ascending.
    pub fn row(&self, index: usize) -> &[(u32, f32)] {
        &self.entries[self.starts[index]..self.starts[index + 1]]
    }

    pub(super) fn row_mut(&mut self, index: usize) -> &mut [(u32, f32)] {
        &mut self.entries[self.starts[index]..self.starts[index + 1]]
    }

    /// All rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[(u32, f32)]> {
        (0..self.len()).map(|index| self.row(index))
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many columns each row has.
    pub fn n_columns(&self) -> usize {
        self.n_columns
    }
}
