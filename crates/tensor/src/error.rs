//! What can go wrong with an operation on tensors: which one, with which shapes.

/// An error that names the operation and the shapes it got.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// Shapes that the operation can't be done with.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What it takes.
        expected: String,
        /// The shapes it got.
        got: String,
    },
    /// An index or axis out of range.
    #[error("{op}: {what} {index} is out of range for {limit}")]
    Range {
        /// The operation.
        op: &'static str,
        /// What was out of range.
        what: &'static str,
        /// Its value.
        index: i64,
        /// The first value too large.
        limit: usize,
    },
    /// `backward` on something that no parameter went into, or that was already differentiated.
    #[error("backward: {problem}")]
    Backward {
        /// Why it can't be.
        problem: &'static str,
    },
}

impl TensorError {
    /// A shape error; `got` lists the operands' shapes.
    pub(crate) fn shape(op: &'static str, expected: impl Into<String>, got: &[&[usize]]) -> Self {
        let got = got.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(" and ");
        TensorError::Shape { op, expected: expected.into(), got }
    }

    /// A range error.
    pub(crate) fn range(op: &'static str, what: &'static str, index: i64, limit: usize) -> Self {
        TensorError::Range { op, what, index, limit }
    }
}
