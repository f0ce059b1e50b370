//! Embedding and its gradient.

use crate::compare::{everywhere, noise};
use hearth_kernel::embedding::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn rows_are_copied_and_gradients_added_in_order(
        rows in 1usize..50, cols in 1usize..600, ids in prop::collection::vec(any::<u32>(), 0..300)
    ) {
        let ids: Vec<u32> = ids.into_iter().map(|id| id % rows as u32).collect();
        let (table, dy) = (noise(rows * cols, 1, 1.0), noise(ids.len() * cols, 2, 1.0));
        let want: Vec<f32> = ids.iter().flat_map(|&id| &table[id as usize * cols..][..cols]).copied().collect();
        // Added in the order of the ids, and so equal to the bit.
        let mut want_grad = table.clone();
        for (n, &id) in ids.iter().enumerate() {
            for c in 0..cols {
                want_grad[id as usize * cols + c] += dy[n * cols + c];
            }
        }
        let run = || {
            let (mut y, mut dtable) = (vec![0.0; ids.len() * cols], table.clone());
            embedding_forward(&table, cols, &ids, &mut y);
            embedding_backward(&ids, cols, &dy, &mut dtable);
            [y, dtable]
        };
        for (isa, [y, dtable]) in everywhere(run) {
            assert!(y == want, "{isa:?}: rows differ");
            assert!(dtable == want_grad, "{isa:?}: gradients differ");
        }
    }
}
