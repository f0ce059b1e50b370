//! Cross-entropy over the vocabulary, with ignored positions, label smoothing and z-loss.

use crate::arch::{LANES, Simd, simd_fn};
use crate::lanes::{read, total, vectors, write};
use crate::softmax::{exponentials_in_place, row_largest, sum_of_exponentials};
use crate::split::{Cut, Out, parallel_rows, rows_of};

/// A target that counts for nothing: its loss is 0 and its row's gradient is zero.
pub const IGNORED: i32 = -1;

/// The loss of a row of V logits `x` with target `t`, where `lse = ln Σ e^x` and `ln p = x - lse`:
///
/// `(1 - s) · (-ln p[t]) + s · mean over V of (-ln p) + z · lse²`
///
/// with `s` the label smoothing (Szegedy et al. 2016, section 7) and `z` the weight of the z-loss,
/// which keeps the logits from drifting (PaLM, Chowdhery et al. 2022, section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// `s`, in 0..1.
    pub label_smoothing: f32,
    /// `z`.
    pub z_loss: f32,
}

/// Each row's loss, in nats; 0 where the target is [`IGNORED`].
///
/// # Panics
/// If a length doesn't fit, or a target is neither [`IGNORED`] nor in 0..cols.
pub fn cross_entropy_forward(
    logits: &[f32],
    cols: usize,
    targets: &[i32],
    loss: &CrossEntropy,
    losses: &mut [f32],
) {
    let cut = check(logits, cols, targets);
    parallel_rows(cut, [Out::Rows(losses, 1)], |r, [losses]| {
        forward_rows(&logits[r.start * cols..r.end * cols], cols, &targets[r], loss, losses);
    });
}

/// Losses as in [`cross_entropy_forward`], and in the same sweep the logits are replaced by
/// `scale` times their gradient, `p (1 + 2 z lse) - (1 - s) [v = t] - s / V`; zeros where the target
/// is [`IGNORED`].
///
/// # Panics
/// As [`cross_entropy_forward`].
pub fn cross_entropy_backward_in_place(
    logits: &mut [f32],
    cols: usize,
    targets: &[i32],
    loss: &CrossEntropy,
    scale: f32,
    losses: &mut [f32],
) {
    let cut = check(logits, cols, targets);
    parallel_rows(cut, [Out::Rows(logits, cols), Out::Rows(losses, 1)], |r, [logits, losses]| {
        backward_rows(logits, cols, &targets[r], loss, scale, losses);
    });
}

fn check(logits: &[f32], cols: usize, targets: &[i32]) -> Cut {
    let rows = rows_of(logits.len(), cols);
    assert_eq!(targets.len(), rows, "one target a row");
    let outside = |&&t: &&i32| t != IGNORED && usize::try_from(t).map_or(true, |t| t >= cols);
    if let Some(target) = targets.iter().find(outside) {
        panic!("target {target} is neither {IGNORED} nor in 0..{cols}");
    }
    Cut::new(rows, cols)
}

simd_fn! {
    fn forward_rows(s, logits: &[f32], cols: usize, targets: &[i32], loss: &CrossEntropy, losses: &mut [f32]) {
        for ((x, &target), out) in logits.chunks_exact(cols).zip(targets).zip(losses) {
            if target == IGNORED {
                *out = 0.0;
                continue;
            }
            let row = Row::new(s, x, target as usize, loss);
            *out = row.loss(sum_of_exponentials(s, x, row.largest).ln(), loss);
        }
    }
}

simd_fn! {
    fn backward_rows(
        s,
        logits: &mut [f32],
        cols: usize,
        targets: &[i32],
        loss: &CrossEntropy,
        scale: f32,
        losses: &mut [f32],
    ) {
        for ((x, &target), out) in logits.chunks_exact_mut(cols).zip(targets).zip(losses) {
            if target == IGNORED {
                *out = 0.0;
                x.fill(0.0);
                continue;
            }
            let target = target as usize;
            let row = Row::new(s, x, target, loss);
            // The exponentials stay in place, in the second-level cache, until the last pass.
            let sum = exponentials_in_place(s, x, row.largest);
            *out = row.loss(sum.ln(), loss);
            let lse = row.largest + sum.ln();
            let weight = scale * (1.0 + 2.0 * loss.z_loss * lse) / sum;
            let uniform = scale * loss.label_smoothing / cols as f32;
            let (factor, shift) = (s.splat(weight), s.splat(-uniform));
            let at_target = x[target] * weight - uniform - scale * (1.0 - loss.label_smoothing);
            vectors!(cols, |i, n| write(s, x, i, n, s.fma(read(s, x, i, n), factor, shift)));
            x[target] = at_target;
        }
    }
}

/// What a row's loss needs from its logits beside the sum of exponentials; all relative to the
/// largest logit, so that large logits cost no digits.
struct Row {
    largest: f32,
    /// `largest - x[target]`
    target_gap: f32,
    /// The mean of `largest - x`; 0 where there is no smoothing.
    mean_gap: f32,
}

impl Row {
    #[inline(always)]
    fn new<S: Simd>(s: S, x: &[f32], target: usize, loss: &CrossEntropy) -> Row {
        let largest = row_largest(s, x);
        let smooth = loss.label_smoothing != 0.0;
        let mean_gap = if smooth { sum_of_gaps(s, x, largest) / x.len() as f32 } else { 0.0 };
        Row { largest, target_gap: largest - x[target], mean_gap }
    }

    /// With `log_sum = ln Σ e^(x - largest)`.
    fn loss(&self, log_sum: f32, loss: &CrossEntropy) -> f32 {
        let (lse, s) = (self.largest + log_sum, loss.label_smoothing);
        let nll = self.target_gap + log_sum;
        let smoothed = if s == 0.0 { nll } else { (1.0 - s) * nll + s * (self.mean_gap + log_sum) };
        smoothed + loss.z_loss * lse * lse
    }
}

/// `Σ (largest - x)`
#[inline(always)]
fn sum_of_gaps<S: Simd>(s: S, x: &[f32], largest: f32) -> f32 {
    let whole = x.len() / LANES * LANES;
    let (top, mut acc) = (s.splat(largest), [s.splat(0.0); 4]);
    vectors!(whole, |i, n, j| acc[j] = s.add(acc[j], s.sub(top, read(s, x, i, n))));
    total(s, acc) + x[whole..].iter().map(|x| largest - x).sum::<f32>()
}
