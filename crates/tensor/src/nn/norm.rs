//! Normalisation of rows.

use crate::autograd::record;
use crate::error::TensorError;
use crate::tensor::Tensor;
use hearth_kernel::Buffer;
use hearth_kernel::norm::{layer_norm_backward, layer_norm_forward, rms_norm_backward, rms_norm_forward};
use hearth_kernel::profile::pass;

fn check(op: &'static str, x: &Tensor, gamma: &Tensor) -> Result<usize, TensorError> {
    match gamma.shape() {
        [cols] if *cols > 0 && x.shape().last() == Some(cols) => Ok(*cols),
        _ => Err(TensorError::shape(op, "x [.., C] and gamma [C]", &[x.shape(), gamma.shape()])),
    }
}

/// LayerNorm (Ba et al. 2016): `y = γ (x - mean) / √(variance + eps) + β` over the last dimension.
///
/// # Errors
/// If `gamma` or `beta` isn't `[C]` for x [.., C].
pub fn layer_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: Option<&Tensor>,
    eps: f32,
) -> Result<Tensor, TensorError> {
    let cols = check("layer_norm", x, gamma)?;
    if let Some(beta) = beta.filter(|b| b.shape() != gamma.shape()) {
        return Err(TensorError::shape("layer_norm", "gamma and beta [C]", &[gamma.shape(), beta.shape()]));
    }
    let rows = x.len() / cols;
    let (mut mean, mut rstd) = (Buffer::scratch(rows), Buffer::scratch(rows));
    let y = Tensor::filled(x.shape(), |y| {
        pass("norm", 2 * x.len(), || {
            let beta = beta.map(Tensor::data);
            layer_norm_forward(x.data(), gamma.data(), beta, eps, y, &mut mean, &mut rstd);
        });
    });
    let mut operands = vec![x, gamma];
    operands.extend(beta);
    let (saved_x, saved_gamma, has_beta) = (x.detach(), gamma.detach(), beta.is_some());
    Ok(record(y, &operands, move |dy, grads| {
        let mut dgamma = Buffer::zeros(cols);
        let mut dbeta = has_beta.then(|| Buffer::zeros(cols));
        let dx = Tensor::filled(saved_x.shape(), |dx| {
            let (x, gamma, dbeta) = (saved_x.data(), saved_gamma.data(), dbeta.as_deref_mut());
            pass("norm, gradient", 3 * x.len(), || {
                layer_norm_backward(x, gamma, &mean, &rstd, dy.data(), dx, &mut dgamma, dbeta);
            });
        });
        grads.add(0, dx);
        grads.add(1, Tensor::from_buffer(dgamma, &[cols]));
        if let Some(dbeta) = dbeta {
            grads.add(2, Tensor::from_buffer(dbeta, &[cols]));
        }
    }))
}

/// RMSNorm (Zhang & Sennrich 2019): `y = γ x / √(mean of x² + eps)` over the last dimension.
///
/// # Errors
/// If `gamma` isn't `[C]` for x [.., C].
pub fn rms_norm(x: &Tensor, gamma: &Tensor, eps: f32) -> Result<Tensor, TensorError> {
    let cols = check("rms_norm", x, gamma)?;
    let mut rstd = Buffer::scratch(x.len() / cols);
    let y = Tensor::filled(x.shape(), |y| {
        pass("norm", 2 * x.len(), || {
            rms_norm_forward(x.data(), gamma.data(), eps, y, &mut rstd);
        });
    });
    let (saved_x, saved_gamma) = (x.detach(), gamma.detach());
    Ok(record(y, &[x, gamma], move |dy, grads| {
        let mut dgamma = Buffer::zeros(cols);
        let dx = Tensor::filled(saved_x.shape(), |dx| {
            let (x, gamma) = (saved_x.data(), saved_gamma.data());
            pass("norm, gradient", 3 * x.len(), || {
                rms_norm_backward(x, gamma, &rstd, dy.data(), dx, &mut dgamma);
            });
        });
        grads.add(0, dx);
        grads.add(1, Tensor::from_buffer(dgamma, &[cols]));
    }))
}
