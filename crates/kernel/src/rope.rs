//! Rotary position embedding (Su et al. 2021, "RoFormer", section 3.4), in the layout of
//! `transformers`: dimension `i` is paired with `i + D/2`.

use crate::arch::simd_fn;
use crate::lanes::{read, vectors, write};
use crate::split::{Cut, Out, parallel_rows};

/// Cosines and sines of every position's angles, computed in `f64`.
#[derive(Clone, Debug)]
pub struct RopeTable {
    half: usize,
    /// A row a position: D/2 cosines, then D/2 sines.
    values: Vec<f32>,
}

impl RopeTable {
    /// The angle of pair `i` at position `t` is `t · theta^(-2i/D)`.
    ///
    /// # Panics
    /// If `head_dim` is odd.
    pub fn new(head_dim: usize, max_positions: usize, theta: f32) -> Self {
        assert!(head_dim.is_multiple_of(2), "rotary pairs need an even head_dim, got {head_dim}");
        let frequency = |i: usize| f64::from(theta).powf(-2.0 * i as f64 / head_dim as f64);
        let frequencies: Vec<f64> = (0..head_dim / 2).map(frequency).collect();
        Self::with_frequencies(&frequencies, max_positions)
    }

    /// The angle of pair `i` at position `t` is `t · frequencies[i]`: room for scaled variants.
    pub fn with_frequencies(frequencies: &[f64], max_positions: usize) -> Self {
        let mut values = Vec::with_capacity(2 * frequencies.len() * max_positions);
        for t in 0..max_positions {
            values.extend(frequencies.iter().map(|f| (t as f64 * f).cos() as f32));
            values.extend(frequencies.iter().map(|f| (t as f64 * f).sin() as f32));
        }
        RopeTable { half: frequencies.len(), values }
    }

    /// D, the dimensions of a head.
    pub fn head_dim(&self) -> usize {
        2 * self.half
    }

    /// How many positions the table holds.
    pub fn max_positions(&self) -> usize {
        self.values.len().checked_div(2 * self.half).unwrap_or(0)
    }
}

/// Rotates each head of `x` `[N, heads, D]`, in place, by the angles of its row's position:
/// `(a, b) → (a cos - b sin, b cos + a sin)` for `a = x[i]` and `b = x[i + D/2]`.
///
/// With `inverse`, by the opposite angles: the transpose, and so the backward pass.
///
/// # Panics
/// If a length doesn't fit, or a position is beyond the table.
pub fn rope(x: &mut [f32], positions: &[u32], heads: usize, table: &RopeTable, inverse: bool) {
    let (cols, known) = (heads * table.head_dim(), table.max_positions());
    if let Some(&beyond) = positions.iter().find(|&&p| p as usize >= known) {
        panic!("position {beyond} is beyond the {known} of the rotary table");
    }
    let cut = Cut::new(positions.len(), cols);
    parallel_rows(cut, [Out::Rows(x, cols)], |r, [x]| {
        rotate_rows(x, &positions[r], cols, table.half, &table.values, if inverse { -1.0 } else { 1.0 });
    });
}

simd_fn! {
    fn rotate_rows(s, x: &mut [f32], positions: &[u32], cols: usize, half: usize, table: &[f32], sign: f32) {
        if cols == 0 {
            return;
        }
        let sign = s.splat(sign);
        for (row, &position) in x.chunks_exact_mut(cols).zip(positions) {
            let (cos, sin) = table[position as usize * 2 * half..][..2 * half].split_at(half);
            for head in row.chunks_exact_mut(2 * half) {
                let (low, high) = head.split_at_mut(half);
                vectors!(half, |i, n| {
                    let (c, d) = (read(s, cos, i, n), s.mul(sign, read(s, sin, i, n)));
                    let (a, b) = (read(s, low, i, n), read(s, high, i, n));
                    write(s, low, i, n, s.sub(s.mul(a, c), s.mul(b, d)));
                    write(s, high, i, n, s.fma(b, c, s.mul(a, d)));
                });
            }
        }
    }
}
