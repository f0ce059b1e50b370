//! Packing whole documents into rows.

use crate::shard::Shard;
use crate::shuffle::{Draws, Purpose};

/// A stretch of a document in a row: inputs `start..start + len`, each with its successor as target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// How many documents may wait for a row that they fit in.
const WAITING: usize = 64;

/// The rows of an epoch: documents in shuffled order, cut into stretches of at most `context`
/// inputs, and put into rows one after another. A row takes the first of the waiting stretches
/// that fits, and is closed when none does, so that little of it is padding.
pub(crate) fn pack(shard: &Shard, context: usize, seed: u64, epoch: u64) -> Vec<Vec<Piece>> {
    let order = Draws::new(seed, Purpose::Documents, epoch).permutation(shard.documents());
    let mut pieces = order.into_iter().flat_map(|index| cut(shard.document(index as usize), context));
    let mut waiting: Vec<Piece> = pieces.by_ref().take(WAITING).collect();
    let mut rows = Vec::new();
    while !waiting.is_empty() {
        let (mut row, mut free) = (Vec::new(), context);
        while let Some(at) = waiting.iter().position(|piece| piece.len <= free) {
            let piece = waiting.remove(at);
            free -= piece.len;
            row.push(piece);
            waiting.extend(pieces.next());
        }
        rows.push(row);
    }
    rows
}

/// Stretches of a document: each input has a successor in the document.
fn cut(document: std::ops::Range<usize>, context: usize) -> impl Iterator<Item = Piece> {
    let last = document.end.saturating_sub(1);
    (document.start..last).step_by(context).map(move |start| Piece { start, len: context.min(last - start) })
}

/// Whether any document has two tokens, so that there is something to predict.
pub(crate) fn has_pieces(shard: &Shard) -> bool {
    (0..shard.documents()).any(|index| shard.document(index).len() > 1)
}
