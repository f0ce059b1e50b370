//! Rows of a table by their number, and the gradient of that.

use crate::lanes::add_to;
use crate::pool::{Shards, parallel_for};
use crate::split::{Cut, Out, TASK, parallel_rows, rows_of};

/// Columns a task of the backward pass owns at least: a few cache lines.
const LEAST_COLUMNS: usize = 64;

/// `y[n] = table[ids[n]]` for a `table` of rows of `cols` values.
///
/// # Panics
/// If a length doesn't fit, or an id is beyond the table.
pub fn embedding_forward(table: &[f32], cols: usize, ids: &[u32], y: &mut [f32]) {
    check(rows_of(table.len(), cols), ids);
    parallel_rows(Cut::new(ids.len(), cols), [Out::Rows(y, cols)], |r, [y]| {
        for (y, &id) in y.chunks_exact_mut(cols).zip(&ids[r]) {
            y.copy_from_slice(&table[id as usize * cols..][..cols]);
        }
    });
}

/// The gradient of [`embedding_forward`]: `dtable[ids[n]] += dy[n]`.
///
/// A task owns a range of columns and walks all ids, so that rows named twice add up in the order
/// of `ids`.
///
/// # Panics
/// As [`embedding_forward`].
pub fn embedding_backward(ids: &[u32], cols: usize, dy: &[f32], dtable: &mut [f32]) {
    check(rows_of(dtable.len(), cols), ids);
    assert_eq!(dy.len(), ids.len() * cols);
    let width = TASK.div_ceil(ids.len().max(1)).max(LEAST_COLUMNS).next_multiple_of(16).min(cols);
    let shards = Shards::new(dtable);
    parallel_for(cols.div_ceil(width), |task| {
        let start = task * width;
        let len = width.min(cols - start);
        for (n, &id) in ids.iter().enumerate() {
            // SAFETY: within a row of the table the task's columns are its own, one part is in use
            // at a time, and `dtable` outlives the loop.
            let row = unsafe { shards.part(id as usize * cols + start, len) };
            add_to(row, &dy[n * cols + start..][..len]);
        }
    });
}

fn check(rows: usize, ids: &[u32]) {
    if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
        panic!("id {id} is beyond a table of {rows} rows");
    }
}
