//! An adapter beside the weights: rows of a pass that belong to a sequence with an adapter get its updates of low
//! rank, the others don't. So one model serves several adapters at once, quantised weights included.

use crate::adapter::Adapter;
use crate::error::ModelError;
use crate::executor::ParamId;
use hearth_kernel::Buffer;
use hearth_kernel::gemm::{Epilogue, Mat, MatMut, PackedMatrix, Write, gemm_packed};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// The updates of an adapter, packed for products with rows.
#[derive(Debug)]
pub struct Updates {
    /// By the weight that each is beside.
    layers: HashMap<usize, Update>,
}

/// `y += (x Aᵀ) (s B)ᵀ`.
#[derive(Debug)]
struct Update {
    rank: usize,
    /// [in, r].
    a: PackedMatrix,
    /// s B, [r, out].
    b: PackedMatrix,
}

/// Rows of a pass, and the adapter that they are for.
pub(crate) type Adapted = (Range<usize>, Arc<Updates>);

impl Updates {
    /// Packs an adapter.
    ///
    /// # Errors
    /// If it replaces parameters whole, which can't be done for some rows alone.
    pub fn of(adapter: &Adapter) -> Result<Self, ModelError> {
        if !adapter.replaced.is_empty() {
            return Err(ModelError::Config {
                place: "the adapter".into(),
                problem: format!(
                    "it replaces {} parameters of the model whole (modules_to_save), which needs a model of its own\n\
                     hint: hearth merge puts it into the weights",
                    adapter.replaced.len()
                ),
            });
        }
        let packed = |(weight, layer): (ParamId, &crate::LowRank)| {
            let [a, b] = [layer.a, layer.b].map(|part| &adapter.tensors[part.index() - adapter.lora.base()]);
            let (rank, inputs, outputs) = (a.shape()[0], a.shape()[1], b.shape()[0]);
            let scaled = b.detach().scale(layer.scale);
            let update = Update {
                rank,
                a: PackedMatrix::pack(Mat::new(a.data(), rank, inputs).t()),
                b: PackedMatrix::pack(Mat::new(scaled.data(), outputs, rank).t()),
            };
            (weight.0, update)
        };
        Ok(Updates { layers: adapter.lora.layers().map(packed).collect() })
    }

    /// Whether the layer with this weight has an update.
    pub(crate) fn has(&self, weight: ParamId) -> bool {
        self.layers.contains_key(&weight.0)
    }

    /// Adds the update of the layer with this weight, if it has one, to its outputs `y` [rows, out] for `x`
    /// [rows, in].
    pub(crate) fn add(&self, weight: ParamId, x: &[f32], y: &mut [f32], rows: usize) {
        let Some(update) = self.layers.get(&weight.0) else { return };
        let (inputs, outputs, rank) = (x.len() / rows, y.len() / rows, update.rank);
        let mut inner = Buffer::scratch(rows * rank);
        let plain = Epilogue::default();
        let to_inner = MatMut::new(&mut inner, rows, rank);
        gemm_packed(Mat::new(x, rows, inputs), &update.a, to_inner, Write::Overwrite, plain);
        let y = MatMut::new(y, rows, outputs);
        gemm_packed(Mat::new(&inner, rows, rank), &update.b, y, Write::Accumulate, Epilogue::default());
    }
}

/// Adds to each row of `y` [N, out] what its adapter, if it has one, does to the layer with this weight; `x` is
/// [N, in].
pub(crate) fn add_updates(
    adapted: &[Adapted],
    weight: ParamId,
    (x, inputs): (&[f32], usize),
    (y, outputs): (&mut [f32], usize),
) {
    for (rows, updates) in adapted {
        let x = &x[rows.start * inputs..rows.end * inputs];
        updates.add(weight, x, &mut y[rows.start * outputs..rows.end * outputs], rows.len());
    }
}

/// Puts rows behind those of the same adapter, or begins a new part.
pub(crate) fn push_adapted(adapted: &mut Vec<Adapted>, rows: Range<usize>, updates: &Arc<Updates>) {
    if rows.is_empty() {
        return;
    }
    match adapted.last_mut() {
        Some((last, of)) if last.end == rows.start && Arc::ptr_eq(of, updates) => last.end = rows.end,
        _ => adapted.push((rows, updates.clone())),
    }
}
