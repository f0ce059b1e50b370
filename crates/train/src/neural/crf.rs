//! The loss of a conditional random field over what a network makes of the tokens (Lample et al. 2016, section 2.2).

use crate::classical::crf::chain::{Steps, Sums};
use crate::error::TrainError;
use hearth_tensor::Tensor;

/// `-log p(tags)` of sequences that lie one behind the other, the mean over tokens, in nats: `emissions` [N, K] are the
/// scores of tags, `transitions` [K, K] those of steps from one to the next.
///
/// The gradients are marginals less what is there, by forward and backward sums in double precision.
///
/// # Errors
/// If the shapes don't agree, or a tag isn't below K.
pub fn crf_loss(emissions: &Tensor, transitions: &Tensor, tags: &[&[usize]]) -> Result<Tensor, TrainError> {
    let (n, k) = (emissions.shape()[0], transitions.shape()[0]);
    let count: usize = tags.iter().map(|tags| tags.len()).sum();
    let fits = emissions.shape() == [count, k] && transitions.shape() == [k, k];
    if !fits || n == 0 || tags.iter().copied().flatten().any(|&tag| tag >= k) {
        let (emissions, transitions) = (emissions.shape(), transitions.shape());
        let problem = format!(
            "emissions {emissions:?} and transitions {transitions:?}, expected [{count}, K] and [K, K], and tags below K"
        );
        return Err(TrainError::Recipe { place: "conditional random field".into(), problem });
    }
    let wide = |x: &Tensor| -> Vec<f64> { x.data().iter().map(|&x| f64::from(x)).collect() };
    let (scores, steps) = (wide(emissions), Steps::new(k, wide(transitions)));
    let (mut by_emission, mut by_step) = (Vec::with_capacity(n * k), vec![0.0; k * k]);
    let (mut sums, mut loss, mut row) = (Sums::default(), 0.0, 0);
    for tags in tags.iter().filter(|tags| !tags.is_empty()) {
        let own = &scores[row * k..(row + tags.len()) * k];
        row += tags.len();
        loss += sums.run(&steps, own, &mut by_step);
        let start = by_emission.len();
        by_emission.extend_from_slice(sums.marginals());
        for (i, &tag) in tags.iter().enumerate() {
            loss -= own[i * k + tag];
            by_emission[start + i * k + tag] -= 1.0;
        }
        for pair in tags.windows(2) {
            loss -= steps.score(pair[0], pair[1]);
            by_step[pair[0] * k + pair[1]] -= 1.0;
        }
    }
    let narrow = |x: &[f64], shape: &[usize]| {
        Tensor::from_vec(x.iter().map(|x| (x / n as f64) as f32).collect(), shape)
    };
    // Linear in both with these gradients; the number added makes the value right too.
    let linear = emissions.mul(&narrow(&by_emission, &[n, k])?)?.sum();
    let linear = linear.add(&transitions.mul(&narrow(&by_step, &[k, k])?)?.sum())?;
    let value = linear.item()?;
    Ok(linear.add_scalar((loss / n as f64) as f32 - value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_tensor::Rng;

    /// By going through all taggings.
    fn plainly(emissions: &Tensor, transitions: &Tensor, tags: &[&[usize]]) -> f64 {
        let k = transitions.shape()[0];
        let (mut loss, mut row, mut count) = (0.0, 0, 0);
        for tags in tags {
            let score = |tags: &[usize]| -> f64 {
                let own = tags.iter().enumerate().map(|(i, tag)| emissions.data()[(row + i) * k + tag]);
                let steps = tags.windows(2).map(|pair| transitions.data()[pair[0] * k + pair[1]]);
                own.chain(steps).map(f64::from).sum()
            };
            let all = (0..k.pow(tags.len() as u32)).map(|number| {
                let one: Vec<usize> = (0..tags.len() as u32).map(|i| number / k.pow(i) % k).collect();
                score(&one).exp()
            });
            loss += all.sum::<f64>().ln() - score(tags);
            row += tags.len();
            count += tags.len();
        }
        loss / count as f64
    }

    #[test]
    fn the_loss_and_its_gradients_are_those_of_all_taggings() {
        let mut rng = Rng::new(5);
        let operands = [Tensor::randn(&[6, 3], 1.0, &mut rng), Tensor::randn(&[3, 3], 1.0, &mut rng)];
        let tags: [&[usize]; 3] = [&[0, 2, 1], &[1], &[2, 2]];
        let leaves = operands.each_ref().map(Tensor::parameter);
        let loss = crf_loss(&leaves[0], &leaves[1], &tags).expect("fits");
        let plain = plainly(&operands[0], &operands[1], &tags);
        assert!((f64::from(loss.item().expect("a number")) - plain).abs() < 1e-6);
        loss.backward().expect("gradients");
        for (which, leaf) in leaves.iter().enumerate() {
            let gradient = leaf.grad().expect("a gradient");
            for i in 0..leaf.len() {
                let at = |delta: f32| {
                    let mut moved = operands.clone();
                    moved[which].data_mut()[i] += delta;
                    plainly(&moved[0], &moved[1], &tags)
                };
                let expected = (at(1e-2) - at(-1e-2)) / 2e-2;
                let got = f64::from(gradient.data()[i]);
                assert!((expected - got).abs() < 1e-4, "operand {which}, value {i}: {expected}, got {got}");
            }
        }
        assert!(crf_loss(&operands[0], &operands[1], &[&[0, 2, 1]]).is_err());
        assert!(crf_loss(&operands[0], &operands[1], &[&[0, 2, 1, 0, 0, 3]]).is_err());
    }
}
