//! Cross-entropy, alone and fused with the output head.

use crate::autograd::{record, recording};
use crate::error::TensorError;
use crate::tensor::Tensor;
use hearth_kernel::Buffer;
use hearth_kernel::elementwise::column_sum;
use hearth_kernel::gemm::{Epilogue, Mat, MatMut, Write, gemm, gemm_with};
use hearth_kernel::loss::{CrossEntropy, IGNORED, cross_entropy_backward_in_place, cross_entropy_forward};
use hearth_kernel::optim::scale;
use hearth_kernel::profile::{Work, operation, pass};
use std::ops::Range;

/// Variations on cross-entropy; the default is the plain one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropyOptions {
    /// Share of the target spread over the whole vocabulary, in 0..1 (Szegedy et al. 2016).
    pub label_smoothing: f32,
    /// Weight of log²Z (PaLM, section 5).
    pub z_loss: f32,
    /// Rows of logits that exist at once; 0 chooses by the vocabulary.
    pub chunk: usize,
}

impl CrossEntropyOptions {
    fn kernel(&self) -> CrossEntropy {
        CrossEntropy { label_smoothing: self.label_smoothing, z_loss: self.z_loss }
    }
}

/// A loss with what it is a mean of.
#[derive(Clone, Debug)]
pub struct LossOutput {
    /// Mean over the targets that count, in nats; 0 if none does.
    pub loss: Tensor,
    /// Targets that count.
    pub count: usize,
    /// Sum of their losses, in nats.
    pub sum: f64,
}

/// Logits of so many values exist at once, unless one chunk of [`LEAST_ROWS`] is larger.
const CHUNK_VALUES: usize = 1 << 22;
/// Fewer rows than this would multiply badly.
const LEAST_ROWS: usize = 256;

fn check_targets(
    op: &'static str,
    targets: &[i32],
    rows: usize,
    classes: usize,
) -> Result<usize, TensorError> {
    if targets.len() != rows {
        let expected = format!("{rows} targets, one a row");
        return Err(TensorError::Shape { op, expected, got: targets.len().to_string() });
    }
    let outside = |t: i32| t != IGNORED && usize::try_from(t).map_or(true, |t| t >= classes);
    match targets.iter().find(|&&t| outside(t)) {
        Some(&t) => Err(TensorError::range(op, "target", i64::from(t), classes)),
        None => Ok(targets.iter().filter(|&&t| t != IGNORED).count()),
    }
}

fn mean_of(sum: f64, count: usize) -> Tensor {
    Tensor::scalar(if count == 0 { 0.0 } else { (sum / count as f64) as f32 })
}

/// Cross-entropy of `logits` [N, V] with `targets` `[N]`, where -1 doesn't count.
///
/// # Errors
/// If the shapes don't agree or a target lies outside V.
pub fn cross_entropy(
    logits: &Tensor,
    targets: &[i32],
    options: &CrossEntropyOptions,
) -> Result<LossOutput, TensorError> {
    let op = "cross_entropy";
    let &[rows, classes] = logits.shape() else {
        return Err(TensorError::shape(op, "logits [N, V]", &[logits.shape()]));
    };
    let count = check_targets(op, targets, rows, classes)?;
    let kernel = options.kernel();
    let mut losses = Buffer::scratch(rows);
    cross_entropy_forward(logits.data(), classes, targets, &kernel, &mut losses);
    let sum = losses.iter().map(|&l| f64::from(l)).sum();
    let (saved, targets) = (logits.detach(), targets.to_vec());
    let loss = record(mean_of(sum, count), &[logits], move |dy, grads| {
        let mut d = saved;
        let factor = dy.data()[0] / count.max(1) as f32;
        let mut losses = Buffer::scratch(targets.len());
        cross_entropy_backward_in_place(d.data_mut(), classes, &targets, &kernel, factor, &mut losses);
        grads.add(0, d);
    });
    Ok(LossOutput { loss, count, sum })
}

/// Mean over all values of the cross-entropy of `sigmoid(logits)` with `targets` in 0..1, of the same shape: each
/// value is a yes or no of its own. In nats.
///
/// # Errors
/// If the shapes differ.
pub fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor, TensorError> {
    if logits.shape() != targets.shape() {
        let shapes = [logits.shape(), targets.shape()];
        return Err(TensorError::shape("binary_cross_entropy", "two of one shape", &shapes));
    }
    // max(x, 0) - x y + log(1 + exp(-|x|)) doesn't overflow.
    let one = |(x, y): (&f32, &f32)| f64::from(x.max(0.0) - x * y + (-x.abs()).exp().ln_1p());
    let count = logits.len().max(1);
    let sum: f64 = logits.data().iter().zip(targets.data()).map(one).sum();
    let (saved, targets) = (logits.detach(), targets.detach());
    Ok(record(mean_of(sum, count), &[logits], move |dy, grads| {
        let factor = dy.data()[0] / count as f32;
        grads.add(
            0,
            Tensor::filled(saved.shape(), |dx| {
                for (dx, (x, y)) in dx.iter_mut().zip(saved.data().iter().zip(targets.data())) {
                    *dx = factor * (1.0 / (1.0 + (-x).exp()) - y);
                }
            }),
        );
    }))
}

/// Cross-entropy of the logits `hidden Wᵀ + b`: hidden [N, C], weight [V, C], bias `[V]`, targets `[N]` where -1
/// doesn't count. The logits of only some rows exist at a time; their gradients are computed on the spot.
///
/// # Errors
/// If the shapes don't agree or a target lies outside V.
pub fn linear_cross_entropy(
    hidden: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    targets: &[i32],
    options: &CrossEntropyOptions,
) -> Result<LossOutput, TensorError> {
    let op = "linear_cross_entropy";
    let mismatch =
        || TensorError::shape(op, "hidden [N, C] and weight [V, C]", &[hidden.shape(), weight.shape()]);
    let (&[rows, cols], &[classes, width]) = (hidden.shape(), weight.shape()) else { return Err(mismatch()) };
    if cols != width || classes == 0 {
        return Err(mismatch());
    }
    if let Some(bias) = bias.filter(|b| b.shape() != [classes]) {
        return Err(TensorError::shape(op, format!("a bias [{classes}]"), &[bias.shape()]));
    }
    let count = check_targets(op, targets, rows, classes)?;
    let chunk = match options.chunk {
        0 => (CHUNK_VALUES / classes).max(LEAST_ROWS),
        rows => rows,
    };
    let kernel = options.kernel();
    let mut operands = vec![hidden, weight];
    operands.extend(bias);
    let differentiate = recording(&operands);
    let mut losses = Buffer::scratch(rows);
    let mut logits = Buffer::scratch(chunk.min(rows) * classes);
    let mut dhidden = differentiate.then(|| Buffer::scratch(rows * cols));
    // A frozen head has no gradient, which would be as large as the head.
    let mut dweight = recording(&[weight]).then(|| Buffer::zeros(classes * cols));
    let mut dbias = bias.filter(|b| recording(&[b])).map(|_| Buffer::zeros(classes));
    let w = Mat::new(weight.data(), classes, cols);
    for start in (0..rows).step_by(chunk) {
        let part: Range<usize> = start..(start + chunk).min(rows);
        let n = part.len();
        let h = Mat::new(&hidden.data()[part.start * cols..part.end * cols], n, cols);
        let logits = &mut logits[..n * classes];
        let detail = || format!("{cols}→{classes}");
        let work = || Work::product(n, cols, classes);
        operation("head", detail, work, || {
            let epilogue = Epilogue { bias: bias.map(Tensor::data), ..Epilogue::default() };
            gemm_with(h, w.t(), MatMut::new(logits, n, classes), Write::Overwrite, epilogue);
        });
        let (targets, losses) = (&targets[part.clone()], &mut losses[part.clone()]);
        let Some(dhidden) = &mut dhidden else {
            cross_entropy_forward(logits, classes, targets, &kernel, losses);
            continue;
        };
        let factor = 1.0 / count.max(1) as f32;
        pass("cross-entropy", 2 * n * classes, || {
            cross_entropy_backward_in_place(logits, classes, targets, &kernel, factor, losses);
        });
        let d = Mat::new(logits, n, classes);
        let dh = &mut dhidden[part.start * cols..part.end * cols];
        operation("head, input's gradient", detail, work, || {
            gemm(d, w, MatMut::new(dh, n, cols), Write::Overwrite);
        });
        if let Some(dweight) = &mut dweight {
            operation("head, weight's gradient", detail, work, || {
                gemm(d.t(), h, MatMut::new(dweight, classes, cols), Write::Accumulate);
            });
        }
        if let Some(dbias) = &mut dbias {
            column_sum(logits, classes, dbias);
        }
    }
    let sum = losses.iter().map(|&l| f64::from(l)).sum();
    let loss = record(mean_of(sum, count), &operands, move |dy, grads| {
        let factor = dy.data()[0];
        let shapes = [vec![rows, cols], vec![classes, cols], vec![classes]];
        let gradients = [dhidden, dweight, dbias].into_iter().zip(shapes).enumerate();
        for (i, (gradient, shape)) in gradients {
            let Some(mut gradient) = gradient else { continue };
            if factor != 1.0 {
                scale(&mut gradient, factor);
            }
            grads.add(i, Tensor::from_buffer(gradient, &shape));
        }
    });
    Ok(LossOutput { loss, count, sum })
}
