//! What a plan runs on: parameters packed for products, static buffers, and every operation that looks at a
//! row alone. Positions and attention, which look further, are left to the runner.

use crate::error::ModelError;
use crate::executor::{Linear, Norm, ParamId};
use crate::plan::{Op, Plan, Slot};
use crate::source::{Rows as FileRows, Source, Stored};
use crate::updates::{Adapted, add_updates};
use hearth_kernel::Buffer;
use hearth_kernel::activation::{activation_forward, gated_forward};
use hearth_kernel::embedding::embedding_forward;
use hearth_kernel::gemm::{Epilogue, Mat, MatMut, PackedMatrix, Write, gemm_packed};
use hearth_kernel::norm::{layer_norm_forward, rms_norm_forward};
use hearth_kernel::optim::{axpy, scale};
use hearth_kernel::qgemm::{QuantLinear, QuantMatrix, QuantizedRows, quant_linears};
use hearth_kernel::quant::{BlockType, quantize};
use std::collections::HashMap;

/// The packed parameters of a plan, and its buffers.
#[derive(Debug)]
pub(crate) struct Layers {
    tables: HashMap<usize, Table>,
    linears: HashMap<usize, Matrix>,
    pub(crate) buffers: Vec<Buffer<f32>>,
    statistics: [Buffer<f32>; 2],
    /// Sums of squares of what goes into each linear layer, and how many rows they are of.
    watched: Option<HashMap<ParamId, (Vec<f64>, usize)>>,
    /// What goes into a quantised layer.
    quantized: QuantizedRows,
    /// Whether some linear layer's weights are in single precision.
    pub(crate) single_precision: bool,
}

/// What the rows of a pass are looked up by.
pub(crate) struct Ids<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) positions: &'a [u32],
    /// Of encoders alone.
    pub(crate) types: &'a [u32],
    /// Rows with an adapter.
    pub(crate) adapted: &'a [Adapted],
}

/// A vector, or a table that rows are looked up in.
#[derive(Debug)]
enum Table {
    Values(Buffer<f32>),
    /// Rows of a file, and how many were read since its pages were given back.
    File(FileRows, usize),
}

/// Reading one row of a file maps what lies around it too, some 64 kB; after so many rows that is given back.
const ROWS_KEPT: usize = 64;

impl Table {
    fn values(&self) -> &[f32] {
        match self {
            Table::Values(values) => values,
            Table::File(..) => unreachable!("only embedding tables stay in their file"),
        }
    }

    /// Rows by their indices.
    fn look_up(&mut self, cols: usize, ids: &[u32], out: &mut [f32]) {
        match self {
            Table::Values(values) => embedding_forward(values, cols, ids, out),
            Table::File(rows, kept) => {
                for (id, out) in ids.iter().zip(out.chunks_exact_mut(cols)) {
                    rows.row(*id as usize, out);
                    *kept += 1;
                    if *kept == ROWS_KEPT {
                        rows.release();
                        *kept = 0;
                    }
                }
            }
        }
    }
}

fn table_of(tables: &mut HashMap<usize, Table>, id: ParamId) -> &mut Table {
    tables.get_mut(&id.0).expect("each table of a plan is there")
}

/// The weight of a linear layer.
#[derive(Debug)]
enum Matrix {
    Dense(PackedMatrix),
    Quantized(QuantMatrix),
}

impl Matrix {
    /// The weight in the type that its source has, or in `kind`.
    fn pack(layer: &Linear, stored: &Stored, kind: Option<BlockType>) -> Result<Self, String> {
        if let Some(kind) = kind {
            let values = stored.values();
            return match kind.is_quantized() {
                true => Self::quantize(layer, &values, kind),
                false => Ok(Self::dense(layer, &values)),
            };
        }
        let rows = match stored {
            Stored::Values(values) => return Ok(Self::dense(layer, values)),
            Stored::File(rows) => rows,
        };
        let row_of = |i| rows.order.row_of(i);
        let (kind, bytes, outputs, inputs) = (rows.kind, rows.bytes(), layer.outputs, layer.inputs);
        Ok(if QuantMatrix::takes(kind) {
            Matrix::Quantized(QuantMatrix::pack(kind, bytes, outputs, inputs, row_of))
        } else if layer.in_out && !rows.transposed {
            Matrix::Dense(PackedMatrix::pack_in_out(kind, bytes, inputs, outputs))
        } else {
            Matrix::Dense(PackedMatrix::pack_rows(kind, bytes, outputs, inputs, row_of))
        })
    }

    fn dense(layer: &Linear, values: &[f32]) -> Self {
        Matrix::Dense(PackedMatrix::pack(match layer.in_out {
            true => Mat::new(values, layer.inputs, layer.outputs),
            false => Mat::new(values, layer.outputs, layer.inputs).t(),
        }))
    }

    /// Values [out, in] as blocks of `kind`.
    fn quantize(layer: &Linear, values: &[f32], kind: BlockType) -> Result<Self, String> {
        let (outputs, inputs, block) = (layer.outputs, layer.inputs, kind.block_len());
        if layer.in_out || !QuantMatrix::takes(kind) || !inputs.is_multiple_of(block) {
            let name = kind.name();
            return Err(format!("{name} needs rows [out, in] of a multiple of {block} values, got {inputs}"));
        }
        let mut bytes = vec![0; values.len() / block * kind.block_bytes()];
        quantize(kind, values, inputs, None, &mut bytes).map_err(|error| error.to_string())?;
        Ok(Matrix::Quantized(QuantMatrix::pack(kind, &bytes, outputs, inputs, |i| i)))
    }
}

impl Layers {
    /// Packs the parameters of a plan and of an output head, with buffers of `rows` rows. Matrices are in the
    /// type that the source has, or in `kind`.
    pub(crate) fn pack(
        plan: &Plan,
        head: Option<&Linear>,
        source: &dyn Source,
        rows: usize,
        kind: Option<BlockType>,
    ) -> Result<Self, ModelError> {
        let (mut tables, mut linears) = (HashMap::new(), HashMap::new());
        let mut single_precision = false;
        let mut pack = |layer: &Linear| {
            let stored = source.stored(layer.weight);
            single_precision |= !matches!(&stored, Stored::File(rows) if rows.kind != BlockType::F32);
            let matrix = Matrix::pack(layer, &stored, kind);
            let place = || "weights in another type".to_owned();
            let matrix = matrix.map_err(|problem| ModelError::Config { place: place(), problem })?;
            linears.insert(layer.weight.0, matrix);
            if let Stored::File(rows) = stored {
                rows.release();
            }
            Ok::<_, ModelError>(layer.bias)
        };
        let mut vectors: Vec<ParamId> = Vec::new();
        let mut lookups: Vec<ParamId> = Vec::new();
        vectors.extend(head.map(&mut pack).transpose()?.flatten());
        for op in &plan.ops {
            match op {
                Op::Linear { layer, .. } => vectors.extend(pack(layer)?),
                Op::Norm { norm, .. } => vectors.extend([Some(norm.scale), norm.shift].into_iter().flatten()),
                Op::EmbedTokens { table, .. }
                | Op::EmbedPositions { table, .. }
                | Op::EmbedTypes { table, .. } => {
                    lookups.push(*table);
                }
                _ => {}
            }
        }
        for id in vectors {
            tables.insert(id.0, Table::Values(Buffer::from_slice(&source.stored(id).values())));
        }
        for id in lookups {
            let table = match source.stored(id) {
                Stored::Values(values) => Table::Values(Buffer::from_slice(values)),
                Stored::File(rows) => Table::File(rows, 0),
            };
            tables.insert(id.0, table);
        }
        Ok(Layers {
            tables,
            linears,
            buffers: plan.widths.iter().map(|w| Buffer::scratch(w * rows)).collect(),
            statistics: [Buffer::scratch(rows), Buffer::scratch(rows)],
            watched: None,
            quantized: QuantizedRows::new(),
            single_precision,
        })
    }

    /// Begins to measure what goes into each linear layer.
    pub(crate) fn watch_inputs(&mut self) {
        self.watched = Some(HashMap::new());
    }

    /// The mean square of each input of each linear layer since [`watch_inputs`](Self::watch_inputs).
    pub(crate) fn watched_inputs(&mut self) -> HashMap<ParamId, Vec<f32>> {
        let mean = |(id, (sums, rows)): (ParamId, (Vec<f64>, usize))| {
            (id, sums.into_iter().map(|sum| (sum / rows as f64) as f32).collect())
        };
        self.watched.take().unwrap_or_default().into_iter().map(mean).collect()
    }

    /// An output head over rows `x` that aren't in a buffer of the plan; `adapted` counts these rows.
    pub(crate) fn head(&mut self, head: &Linear, x: &[f32], out: &mut [f32], adapted: &[Adapted]) {
        let (c, v) = (head.inputs, head.outputs);
        let bias = head.bias.map(|b| self.tables[&b.0].values());
        watch(&mut self.watched, head.weight, x, c);
        match &self.linears[&head.weight.0] {
            Matrix::Dense(weight) => {
                let epilogue = Epilogue { bias, ..Epilogue::default() };
                let rows = x.len() / c;
                let out = MatMut::new(out, rows, v);
                gemm_packed(Mat::new(x, rows, c), weight, out, Write::Overwrite, epilogue);
            }
            Matrix::Quantized(weight) => {
                self.quantized.quantize(x, c);
                quant_linears(&self.quantized, &mut [QuantLinear { weight, bias, y: out }]);
            }
        }
        add_updates(adapted, head.weight, (x, c), (out, v));
    }

    /// Runs the operation that `ops` begins with, or the linear layers if they are several of the same rows;
    /// returns how many operations that were. The runner sees to positions and attention.
    pub(crate) fn step(&mut self, ops: &[Op], ids: &Ids) -> usize {
        let n = ids.tokens.len();
        match ops[0] {
            Op::EmbedTokens { table, cols, scale: factor, out } => {
                let out = &mut self.buffers[out][..n * cols];
                table_of(&mut self.tables, table).look_up(cols, ids.tokens, out);
                if factor != 1.0 {
                    scale(out, factor);
                }
            }
            Op::EmbedPositions { table, cols, out } => {
                let out = &mut self.buffers[out][..n * cols];
                table_of(&mut self.tables, table).look_up(cols, ids.positions, out);
            }
            Op::EmbedTypes { table, cols, out } => {
                let out = &mut self.buffers[out][..n * cols];
                table_of(&mut self.tables, table).look_up(cols, ids.types, out);
            }
            Op::Linear { .. } => {
                let layers = linears_together(ops);
                self.linears(&ops[..layers], n, ids.adapted);
                return layers;
            }
            Op::Norm { x, ref norm, width, cols, out } => {
                self.writing(out, |layers, out| layers.norm(x, norm, width, &mut out[..n * cols]));
            }
            Op::Gated { activation, gate, up, cols, out } => self.writing(out, |layers, out| {
                let (gate, up) = (&layers.buffers[gate][..n * cols], &layers.buffers[up][..n * cols]);
                gated_forward(activation, gate, up, &mut out[..n * cols]);
            }),
            Op::Add { a, b, cols } => {
                self.writing(a, |layers, a| axpy(1.0, &layers.buffers[b][..n * cols], &mut a[..n * cols]));
            }
            Op::Rope { .. } | Op::Attention { .. } | Op::AttentionFused { .. } => {
                unreachable!("the runner's own operations")
            }
        }
        1
    }

    /// Linear layers of the same `n` rows. For quantised ones the rows are quantised once, and the pool is
    /// entered once.
    fn linears(&mut self, ops: &[Op], n: usize, adapted: &[Adapted]) {
        let mut layers = Vec::with_capacity(ops.len());
        for op in ops {
            let Op::Linear { x, ref layer, activation, out } = *op else { continue };
            watch(&mut self.watched, layer.weight, &self.buffers[x][..n * layer.inputs], layer.inputs);
            let out = std::mem::replace(&mut self.buffers[out], Buffer::scratch(0));
            layers.push((x, layer, activation, out));
        }
        let mut together: Vec<QuantLinear> = Vec::with_capacity(layers.len());
        for (x, layer, activation, out) in &mut layers {
            let bias = layer.bias.map(|b| self.tables[&b.0].values());
            let (x, y) = (&self.buffers[*x][..n * layer.inputs], &mut out[..n * layer.outputs]);
            match &self.linears[&layer.weight.0] {
                Matrix::Dense(weight) => {
                    // An update comes before the activation.
                    let activation = activation.filter(|_| !changed(adapted, layer.weight));
                    let epilogue = Epilogue { bias, activation, pre_activation: None };
                    let (x, y) = (Mat::new(x, n, layer.inputs), MatMut::new(y, n, layer.outputs));
                    gemm_packed(x, weight, y, Write::Overwrite, epilogue);
                }
                Matrix::Quantized(weight) => {
                    if together.is_empty() {
                        self.quantized.quantize(x, layer.inputs);
                    }
                    together.push(QuantLinear { weight, bias, y });
                }
            }
        }
        if !together.is_empty() {
            quant_linears(&self.quantized, &mut together);
        }
        for (op, (x, layer, activation, mut y)) in ops.iter().zip(layers) {
            let Op::Linear { out, .. } = *op else { continue };
            add_updates(
                adapted,
                layer.weight,
                (&self.buffers[x], layer.inputs),
                (&mut y[..n * layer.outputs], layer.outputs),
            );
            let open = matches!(self.linears[&layer.weight.0], Matrix::Quantized(_))
                || changed(adapted, layer.weight);
            if let Some(kind) = activation.filter(|_| open) {
                let y = &mut y[..n * layer.outputs];
                let before = Buffer::from_slice(y);
                activation_forward(kind, &before, y);
            }
            self.buffers[out] = y;
        }
    }

    /// Lends a buffer out for writing while the others are read.
    pub(crate) fn writing(&mut self, slot: Slot, f: impl FnOnce(&mut Self, &mut [f32])) {
        let mut out = std::mem::replace(&mut self.buffers[slot], Buffer::scratch(0));
        f(self, &mut out);
        self.buffers[slot] = out;
    }

    fn norm(&mut self, x: Slot, norm: &Norm, width: usize, y: &mut [f32]) {
        let count = y.len() / width;
        let [mean, rstd] = &mut self.statistics;
        if mean.len() < count {
            (*mean, *rstd) = (Buffer::scratch(count), Buffer::scratch(count));
        }
        let (mean, rstd) = (&mut mean[..count], &mut rstd[..count]);
        let (x, scale) = (&self.buffers[x][..y.len()], self.tables[&norm.scale.0].values());
        if norm.rms {
            rms_norm_forward(x, scale, norm.eps, y, rstd);
        } else {
            let shift = norm.shift.map(|s| self.tables[&s.0].values());
            layer_norm_forward(x, scale, shift, norm.eps, y, mean, rstd);
        }
    }
}

/// Whether some rows have an update of the layer with this weight.
fn changed(adapted: &[Adapted], weight: ParamId) -> bool {
    adapted.iter().any(|(_, updates)| updates.has(weight))
}

/// How many of the next operations are linear layers of the same rows: queries, keys and values, or gate and
/// up.
fn linears_together(ops: &[Op]) -> usize {
    let of = |op: &Op| if let Op::Linear { x, .. } = op { Some(*x) } else { None };
    let Some(first) = ops.first().and_then(of) else { return 0 };
    ops.iter().take_while(|op| of(op) == Some(first)).count()
}

/// Adds the squares of rows of `x` to a layer's sums.
fn watch(watched: &mut Option<HashMap<ParamId, (Vec<f64>, usize)>>, id: ParamId, x: &[f32], cols: usize) {
    let Some(watched) = watched else { return };
    let (sums, rows) = watched.entry(id).or_insert_with(|| (vec![0.0; cols], 0));
    for row in x.chunks_exact(cols) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x).powi(2));
        *rows += 1;
    }
}
