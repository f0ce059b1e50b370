//! Names of features, numbered in their alphabetical order.

use super::{ClassicalError, checked_serde};
use serde::{Deserialize, Serialize};

/// A set of strings; the number of one is its place in the order of their bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", transparent)]
pub struct Vocabulary {
    names: Vec<String>,
}

checked_serde!(Vocabulary);

impl Vocabulary {
    /// The set of `names`, in any order and with repeats.
    pub fn new(mut names: Vec<String>) -> Self {
        names.sort_unstable();
        names.dedup();
        Vocabulary { names }
    }

    /// The number of `name`.
    pub fn id(&self, name: &str) -> Option<usize> {
        self.names.binary_search_by(|known| known.as_str().cmp(name)).ok()
    }

    /// All names; the number of each is its index.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn check(&self) -> Result<(), ClassicalError> {
        if self.names.is_sorted_by(|a, b| a < b) {
            return Ok(());
        }
        Err(ClassicalError::Damaged { model: "vocabulary", problem: "names out of order".into() })
    }
}
