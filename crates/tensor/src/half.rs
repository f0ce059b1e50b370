//! Values kept in 16 bits: half the memory, widened to `f32` when they are used.

use crate::error::TensorError;
use crate::tensor::Tensor;
use hearth_kernel::convert::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use hearth_kernel::{Buffer, bf16, f16};
use std::sync::Arc;

/// Which 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfType {
    /// 8 bits of exponent, 7 of fraction: the range of `f32`.
    Bf16,
    /// 5 bits of exponent, 10 of fraction: ±65504.
    F16,
}

#[derive(Clone, Debug)]
enum Storage {
    Bf16(Arc<Buffer<bf16>>),
    F16(Arc<Buffer<f16>>),
}

/// A tensor stored in 16 bits a value, rounded to nearest even. It has no gradient: it is for weights
/// at rest, optimiser state and activations kept for later.
#[derive(Clone, Debug)]
pub struct HalfTensor {
    storage: Storage,
    shape: Arc<[usize]>,
}

impl HalfTensor {
    /// `tensor` rounded to 16 bits.
    pub fn new(tensor: &Tensor, kind: HalfType) -> Self {
        let len = tensor.len();
        let storage = match kind {
            HalfType::Bf16 => {
                let mut values = Buffer::scratch(len);
                f32_to_bf16(tensor.data(), &mut values);
                Storage::Bf16(Arc::new(values))
            }
            HalfType::F16 => {
                let mut values = Buffer::scratch(len);
                f32_to_f16(tensor.data(), &mut values);
                Storage::F16(Arc::new(values))
            }
        };
        HalfTensor { storage, shape: tensor.shape().into() }
    }

    /// The values as `f32`, exactly.
    pub fn to_f32(&self) -> Tensor {
        Tensor::filled(&self.shape, |y| match &self.storage {
            Storage::Bf16(x) => bf16_to_f32(x, y),
            Storage::F16(x) => f16_to_f32(x, y),
        })
    }

    /// The rows `ids` of a table [V, C] as `f32`, exactly: [N, C].
    ///
    /// # Errors
    /// If it isn't of two dimensions, or an id lies outside it.
    pub fn rows(&self, ids: &[u32]) -> Result<Tensor, TensorError> {
        let &[rows, cols] = &self.shape[..] else {
            return Err(TensorError::shape("rows", "a table [V, C]", &[&self.shape]));
        };
        if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
            return Err(TensorError::range("rows", "id", i64::from(*id), rows));
        }
        Ok(Tensor::filled(&[ids.len(), cols], |y| {
            for (&id, y) in ids.iter().zip(y.chunks_exact_mut(cols.max(1))) {
                let row = id as usize * cols..(id as usize + 1) * cols;
                match &self.storage {
                    Storage::Bf16(x) => bf16_to_f32(&x[row], y),
                    Storage::F16(x) => f16_to_f32(&x[row], y),
                }
            }
        }))
    }

    /// Which 16 bits.
    pub fn kind(&self) -> HalfType {
        match self.storage {
            Storage::Bf16(_) => HalfType::Bf16,
            Storage::F16(_) => HalfType::F16,
        }
    }

    /// Sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
}
