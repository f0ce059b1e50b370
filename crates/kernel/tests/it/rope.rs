//! Rotary embedding.

use crate::compare::{everywhere, near, noise, wide};
use hearth_kernel::rope::*;
use proptest::prelude::*;

/// `rotate_half`, as written for whole vectors: `x cos + concat(-x[half..], x[..half]) sin`.
fn plain(x: &[f64], positions: &[u32], heads: usize, dim: usize, theta: f64) -> Vec<f64> {
    let half = dim / 2;
    let mut y = Vec::with_capacity(x.len());
    for (row, &position) in x.chunks(heads * dim).zip(positions) {
        for head in row.chunks(dim) {
            for i in 0..dim {
                let angle = f64::from(position) * theta.powf(-2.0 * (i % half) as f64 / dim as f64);
                let turned = if i < half { -head[i + half] } else { head[i - half] };
                y.push(head[i] * angle.cos() + turned * angle.sin());
            }
        }
    }
    y
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn rotates_and_turns_back(n in 0usize..60, heads in 1usize..6, half in 1usize..70, start in 0u32..400) {
        let (dim, theta) = (2 * half, 10_000.0);
        let x = noise(n * heads * dim, 1, 1.0);
        let positions: Vec<u32> = (0..n as u32).map(|i| start + (i * 37) % 101).collect();
        let table = RopeTable::new(dim, 512, theta);
        prop_assert_eq!((table.head_dim(), table.max_positions()), (dim, 512));
        let want = plain(&wide(&x), &positions, heads, dim, theta.into());
        let run = || {
            let mut turned = x.clone();
            rope(&mut turned, &positions, heads, &table, false);
            let mut back = turned.clone();
            rope(&mut back, &positions, heads, &table, true);
            [turned, back]
        };
        for (isa, [turned, back]) in everywhere(run) {
            near(isa, "turned", &turned, &want, 3e-7);
            near(isa, "back", &back, &wide(&x), 5e-7);
        }
    }
}
