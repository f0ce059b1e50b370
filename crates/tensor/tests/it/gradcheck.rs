//! Gradients against central finite differences.

use hearth_tensor::{Rng, Tensor, TensorError};

/// Normal values for a test.
pub fn randn(shape: &[usize], seed: u64) -> Tensor {
    Tensor::randn(shape, 1.0, &mut Rng::new(seed))
}

/// Σ weight · y with fixed random weights: a scalar in which every output counts differently.
fn weighted(y: &Tensor, weights: &Tensor) -> f64 {
    y.data().iter().zip(weights.data()).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
}

/// Holds the gradients of `f` at `inputs` to finite differences with step `1e-2`, whose error is
/// of third order: smooth functions of values near 1 agree to a few thousandths.
pub fn check(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor, TensorError>) {
    check_with(inputs, 1e-2, 4e-3, f);
}

/// [`check`] with a step and a tolerance relative to the largest gradient.
pub fn check_with(
    inputs: &[Tensor],
    step: f32,
    tolerance: f64,
    f: impl Fn(&[Tensor]) -> Result<Tensor, TensorError>,
) {
    let leaves: Vec<Tensor> = inputs.iter().map(Tensor::parameter).collect();
    let y = f(&leaves).expect("the operation takes these inputs");
    let weights = randn(y.shape(), 99);
    y.backward_from(weights.clone()).expect("the output has a history");
    for (which, input) in inputs.iter().enumerate() {
        let gradient = leaves[which].grad().unwrap_or_else(|| panic!("input {which} got no gradient"));
        assert_eq!(gradient.shape(), input.shape(), "the gradient of input {which}");
        let largest = gradient.data().iter().fold(1.0f64, |m, g| m.max(f64::from(g.abs())));
        for i in 0..input.len() {
            let at = |delta: f32| {
                let mut moved = inputs.to_vec();
                moved[which].data_mut()[i] += delta;
                let x = f64::from(moved[which].data()[i]);
                (x, weighted(&f(&moved).expect("as before"), &weights))
            };
            let ((x1, y1), (x0, y0)) = (at(step), at(-step));
            let (expected, got) = ((y1 - y0) / (x1 - x0), f64::from(gradient.data()[i]));
            assert!(
                (expected - got).abs() <= tolerance * largest,
                "input {which}, value {i}: differences give {expected}, backward {got}"
            );
        }
    }
}
