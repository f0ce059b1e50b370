//! Cutting row-wise work into tasks by its shape alone, so that a result doesn't depend on the
//! number of threads.

use crate::pool::{Shards, parallel_for};
use std::ops::Range;

/// Values a task handles at least, where there are as many: entering the pool then costs little.
pub(crate) const TASK: usize = 1 << 14;

/// Rows in chunks of a fixed number.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    rows: usize,
    chunk: usize,
}

impl Cut {
    /// Chunks of about [`TASK`] values.
    pub(crate) fn new(rows: usize, cols: usize) -> Self {
        Cut { rows, chunk: (TASK / cols.max(1)).max(1) }
    }

    /// Larger chunks, for kernels that keep a partial sum of `cols` values a chunk: at least 32 rows,
    /// so that writing and adding up the partial sums stays a small part of the work.
    pub(crate) fn for_partial_sums(rows: usize, cols: usize) -> Self {
        Cut { rows, chunk: (4 * TASK / cols.max(1)).max(32) }
    }

    /// How many chunks there are.
    pub(crate) fn chunks(&self) -> usize {
        self.rows.div_ceil(self.chunk)
    }

    fn range(&self, i: usize) -> Range<usize> {
        i * self.chunk..((i + 1) * self.chunk).min(self.rows)
    }
}

/// A slice that the tasks of [`parallel_rows`] write, and what a task gets of it.
pub(crate) enum Out<'a> {
    /// This many values for each row.
    Rows(&'a mut [f32], usize),
    /// This many values for each chunk.
    Chunks(&'a mut [f32], usize),
}

/// Runs `f(rows, parts)` for each chunk of `cut`, where `parts[k]` is the chunk's part of `outs[k]`.
pub(crate) fn parallel_rows<const N: usize>(
    cut: Cut,
    outs: [Out<'_>; N],
    f: impl Fn(Range<usize>, [&mut [f32]; N]) + Sync,
) {
    let outs = outs.map(|out| {
        let (slice, width, by_row) = match out {
            Out::Rows(slice, width) => (slice, width, true),
            Out::Chunks(slice, width) => (slice, width, false),
        };
        let units = if by_row { cut.rows } else { cut.chunks() };
        assert_eq!(slice.len(), units * width, "an output of {units} times {width} values");
        (Shards::new(slice), width, by_row)
    });
    parallel_for(cut.chunks(), |i| {
        let rows = cut.range(i);
        let parts = std::array::from_fn(|k| {
            let (shards, width, by_row) = &outs[k];
            let (start, len) = if *by_row { (rows.start, rows.len()) } else { (i, 1) };
            // SAFETY: chunk `i` is handed out once, chunks don't overlap, and the slices outlive
            // this function.
            unsafe { shards.part(start * width, len * width) }
        });
        f(rows, parts);
    });
}

/// How many rows of `cols` values `x` holds.
///
/// # Panics
/// If it isn't a whole number.
#[track_caller]
pub(crate) fn rows_of(len: usize, cols: usize) -> usize {
    assert!(cols > 0 && len.is_multiple_of(cols), "{len} values aren't rows of {cols}");
    len / cols
}
