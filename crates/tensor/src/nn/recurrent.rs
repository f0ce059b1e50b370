//! Recurrent layers: a state that goes from token to token. Names, order of the gates and equations are PyTorch's
//! (`nn.RNN`, `nn.LSTM`, `nn.GRU`).

use crate::autograd::record;
use crate::error::TensorError;
use crate::tensor::Tensor;
use hearth_kernel::Buffer;
use hearth_kernel::elementwise::column_sum;
use hearth_kernel::gemm::{Epilogue, Mat, MatMut, Write, gemm, gemm_with};
use hearth_kernel::profile::{Work, operation};

/// What becomes of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// `h' = tanh(x + U h)` (Elman 1990).
    Rnn,
    /// Gates i, f, g, o; `c' = f c + i g`, `h' = o tanh(c')` (Hochreiter & Schmidhuber 1997; Gers et al. 2000).
    Lstm,
    /// Gates r, z, n; `n = tanh(x + r (U h + b))`, `h' = (1 - z) n + z h` (Cho et al. 2014).
    Gru,
}

impl Cell {
    /// Gates: rows of the weights for each value of the state.
    pub fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Lstm => 4,
            Cell::Gru => 3,
        }
    }
}

/// The states [N, H] of sequences that lie one behind the other, each from a state of zeros, from its last token to the
/// first if `reverse`. `x` [N, G H] is what the tokens bring to the gates, `W_ih x + b_ih`; `weight` [G H, H] and
/// `bias` `[G H]` are PyTorch's `weight_hh` and `bias_hh`; `lengths` are those of the sequences.
///
/// Sequences take each step together, the longest first, without padding.
///
/// # Errors
/// If the shapes don't agree, or the lengths aren't N in all.
pub fn recurrent(
    cell: Cell,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    lengths: &[usize],
    reverse: bool,
) -> Result<Tensor, TensorError> {
    let mismatch = || {
        let expected = "x [N, G H], weight [G H, H], bias [G H] and lengths of N in all";
        TensorError::shape("recurrent", expected, &[x.shape(), weight.shape(), bias.shape()])
    };
    let (&[n, wide], &[rows, h]) = (x.shape(), weight.shape()) else { return Err(mismatch()) };
    let fits = wide == rows && wide == cell.gates() * h && bias.shape() == [wide];
    if !fits || lengths.iter().sum::<usize>() != n {
        return Err(mismatch());
    }
    let timeline = Timeline::new(lengths, reverse);
    let mut run =
        Run { cell, h, gates: timeline.gather(x.data(), wide), states: Buffer::scratch(n * h), inner: None };
    if cell != Cell::Rnn {
        run.inner = Some(Buffer::scratch(n * h));
    }
    let work = move || Work::product(n, h, wide);
    operation("recurrent", || format!("{h}"), work, || run.forward(&timeline, weight.data(), bias.data()));
    let mut y = Buffer::scratch(n * h);
    timeline.scatter(&run.states, h, &mut y);
    let saved_weight = weight.detach();
    Ok(record(Tensor::from_buffer(y, &[n, h]), &[x, weight, bias], move |dy, grads| {
        let dy = timeline.gather(dy.data(), h);
        let mut back = Back { dx: Buffer::scratch(n * wide), dh: None };
        operation(
            "recurrent, gradient",
            || format!("{h}"),
            work,
            || {
                back.run(&run, &timeline, saved_weight.data(), &dy);
            },
        );
        let dh = back.dh.as_ref().unwrap_or(&back.dx);
        // Each state but the last of a sequence is multiplied by the weight.
        let first = timeline.starts.get(1).copied().unwrap_or(n);
        let mut before = Buffer::scratch((n - first) * h);
        for step in 1..timeline.steps() {
            let (from, count) = (timeline.starts[step - 1], timeline.count(step));
            let to = (timeline.starts[step] - first) * h;
            before[to..to + count * h].copy_from_slice(&run.states[from * h..(from + count) * h]);
        }
        let mut dweight = Buffer::zeros(wide * h);
        if n > first {
            let d = Mat::new(&dh[first * wide..], n - first, wide);
            gemm(
                d.t(),
                Mat::new(&before, n - first, h),
                MatMut::new(&mut dweight, wide, h),
                Write::Overwrite,
            );
        }
        let mut dbias = Buffer::zeros(wide);
        column_sum(dh, wide, &mut dbias);
        let mut dx = Buffer::scratch(n * wide);
        timeline.scatter(&back.dx, wide, &mut dx);
        grads.add(0, Tensor::from_buffer(dx, &[n, wide]));
        grads.add(1, Tensor::from_buffer(dweight, &[wide, h]));
        grads.add(2, Tensor::from_buffer(dbias, &[wide]));
    }))
}

/// Rows in the order of time: the first tokens of all sequences, then the second ones. Sequences that have ended drop out
/// at the end of a step, so that those of one step are the beginning of those of the step before.
struct Timeline {
    /// The row of each place.
    rows: Vec<usize>,
    /// Where each step begins, and the end.
    starts: Vec<usize>,
}

impl Timeline {
    fn new(lengths: &[usize], reverse: bool) -> Self {
        let mut end = 0;
        let mut sequences: Vec<(usize, usize)> = Vec::with_capacity(lengths.len());
        for &length in lengths {
            sequences.push((end, length));
            end += length;
        }
        sequences.sort_by_key(|&(_, length)| std::cmp::Reverse(length));
        let (mut rows, mut starts) = (Vec::with_capacity(end), vec![0]);
        for step in 0..sequences.first().map_or(0, |&(_, length)| length) {
            let active = sequences.iter().take_while(|&&(_, length)| length > step);
            rows.extend(
                active.map(|&(first, length)| first + if reverse { length - 1 - step } else { step }),
            );
            starts.push(rows.len());
        }
        Timeline { rows, starts }
    }

    fn steps(&self) -> usize {
        self.starts.len() - 1
    }

    /// Sequences that take a step.
    fn count(&self, step: usize) -> usize {
        self.starts[step + 1] - self.starts[step]
    }

    fn gather(&self, from: &[f32], cols: usize) -> Buffer<f32> {
        let mut to = Buffer::scratch(from.len());
        for (to, &row) in to.chunks_exact_mut(cols.max(1)).zip(&self.rows) {
            to.copy_from_slice(&from[row * cols..(row + 1) * cols]);
        }
        to
    }

    fn scatter(&self, from: &[f32], cols: usize, to: &mut [f32]) {
        for (from, &row) in from.chunks_exact(cols.max(1)).zip(&self.rows) {
            to[row * cols..(row + 1) * cols].copy_from_slice(from);
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A pass forward, in the order of time.
struct Run {
    cell: Cell,
    h: usize,
    /// [N, G H]: at first what tokens bring, then the gates.
    gates: Buffer<f32>,
    /// [N, H].
    states: Buffer<f32>,
    /// [N, H]: an LSTM's c, or what a GRU's n has of the state before r.
    inner: Option<Buffer<f32>>,
}

impl Run {
    fn forward(&mut self, timeline: &Timeline, weight: &[f32], bias: &[f32]) {
        let (h, wide) = (self.h, self.cell.gates() * self.h);
        let zeros = vec![0.0; h];
        for step in 0..timeline.steps() {
            let (start, count) = (timeline.starts[step], timeline.count(step));
            let (done, states) = self.states.split_at_mut(start * h);
            let before = if step == 0 { &[][..] } else { &done[timeline.starts[step - 1] * h..] };
            let mut brought: Buffer<f32> = Buffer::scratch(count * wide);
            if step == 0 {
                brought.chunks_exact_mut(wide).for_each(|row| row.copy_from_slice(bias));
            } else {
                let out = MatMut::new(&mut brought, count, wide);
                let epilogue = Epilogue { bias: Some(bias), activation: None, pre_activation: None };
                let state = Mat::new(&before[..count * h], count, h);
                gemm_with(state, Mat::new(weight, wide, h).t(), out, Write::Overwrite, epilogue);
            }
            let (inner_before, inner) = match &mut self.inner {
                None => (&[][..], &mut [][..]),
                Some(inner) => {
                    let (done, rest) = inner.split_at_mut(start * h);
                    (if step == 0 { &[][..] } else { &done[timeline.starts[step - 1] * h..] }, rest)
                }
            };
            for i in 0..count {
                let one = i * h..(i + 1) * h;
                let gates = &mut self.gates[(start + i) * wide..(start + i + 1) * wide];
                let (brought, state) = (&brought[i * wide..(i + 1) * wide], &mut states[one.clone()]);
                let or_zeros = |values: &'_ [f32]| values.get(one.clone()).unwrap_or(&zeros).to_vec();
                match self.cell {
                    Cell::Rnn => {
                        for j in 0..h {
                            gates[j] = (gates[j] + brought[j]).tanh();
                            state[j] = gates[j];
                        }
                    }
                    Cell::Lstm => {
                        let (before, c) = (or_zeros(inner_before), &mut inner[one.clone()]);
                        for j in 0..h {
                            let gate = |k: usize| gates[k * h + j] + brought[k * h + j];
                            let (i, f, g, o) =
                                (sigmoid(gate(0)), sigmoid(gate(1)), gate(2).tanh(), sigmoid(gate(3)));
                            c[j] = f * before[j] + i * g;
                            state[j] = o * c[j].tanh();
                            (0..)
                                .zip([i, f, g, o])
                                .for_each(|(k, value): (usize, f32)| gates[k * h + j] = value);
                        }
                    }
                    Cell::Gru => {
                        let (before, from_state) = (or_zeros(before), &mut inner[one.clone()]);
                        for j in 0..h {
                            let (r, z) =
                                (sigmoid(gates[j] + brought[j]), sigmoid(gates[h + j] + brought[h + j]));
                            from_state[j] = brought[2 * h + j];
                            let n = (gates[2 * h + j] + r * from_state[j]).tanh();
                            state[j] = (1.0 - z) * n + z * before[j];
                            (0..)
                                .zip([r, z, n])
                                .for_each(|(k, value): (usize, f32)| gates[k * h + j] = value);
                        }
                    }
                }
            }
        }
    }
}

/// Gradients by the gates, in the order of time.
struct Back {
    /// [N, G H]: by what tokens bring.
    dx: Buffer<f32>,
    /// [N, G H]: by what the state brings, where that is something else: a GRU's.
    dh: Option<Buffer<f32>>,
}

impl Back {
    fn run(&mut self, run: &Run, timeline: &Timeline, weight: &[f32], dy: &[f32]) {
        let (h, wide) = (run.h, run.cell.gates() * run.h);
        if run.cell == Cell::Gru {
            self.dh = Some(Buffer::scratch(self.dx.len()));
        }
        // What comes back from the next step, by the state and by an LSTM's c.
        let widest = if timeline.steps() == 0 { 0 } else { timeline.count(0) };
        let (mut by_state, mut by_cell) = (vec![0.0; widest * h], vec![0.0; widest * h]);
        let zeros = vec![0.0; h];
        for step in (0..timeline.steps()).rev() {
            let (start, count) = (timeline.starts[step], timeline.count(step));
            for i in 0..count {
                let (one, place) = (i * h..(i + 1) * h, start + i);
                let own = place * h..(place + 1) * h;
                let gates = &run.gates[place * wide..(place + 1) * wide];
                let dx = &mut self.dx[place * wide..(place + 1) * wide];
                let (carry, carry_cell) = (&mut by_state[one.clone()], &mut by_cell[one]);
                let previous = |values: &'_ [f32]| match step {
                    0 => zeros.clone(),
                    _ => {
                        let at = timeline.starts[step - 1] + i;
                        values[at * h..(at + 1) * h].to_vec()
                    }
                };
                let dy = &dy[own.clone()];
                match (run.cell, &run.inner) {
                    (Cell::Rnn, _) | (_, None) => {
                        for j in 0..h {
                            dx[j] = (dy[j] + carry[j]) * (1.0 - gates[j] * gates[j]);
                        }
                    }
                    (Cell::Lstm, Some(cells)) => {
                        let (c, before) = (&cells[own], previous(cells));
                        for j in 0..h {
                            let [i, f, g, o] = [0, 1, 2, 3].map(|k| gates[k * h + j]);
                            let (d, tanh) = (dy[j] + carry[j], c[j].tanh());
                            let dc = carry_cell[j] + d * o * (1.0 - tanh * tanh);
                            carry_cell[j] = dc * f;
                            dx[j] = dc * g * i * (1.0 - i);
                            dx[h + j] = dc * before[j] * f * (1.0 - f);
                            dx[2 * h + j] = dc * i * (1.0 - g * g);
                            dx[3 * h + j] = d * tanh * o * (1.0 - o);
                        }
                    }
                    (Cell::Gru, Some(from_state)) => {
                        let (from_state, before) = (&from_state[own], previous(&run.states));
                        for j in 0..h {
                            let [r, z, n] = [0, 1, 2].map(|k| gates[k * h + j]);
                            let d = dy[j] + carry[j];
                            let dn = d * (1.0 - z) * (1.0 - n * n);
                            carry[j] = d * z;
                            dx[j] = dn * from_state[j] * r * (1.0 - r);
                            dx[h + j] = d * (before[j] - n) * z * (1.0 - z);
                            dx[2 * h + j] = dn;
                        }
                        if let Some(dh) = &mut self.dh {
                            let dh = &mut dh[place * wide..(place + 1) * wide];
                            dh.copy_from_slice(dx);
                            (0..h).for_each(|j| dh[2 * h + j] *= gates[j]);
                        }
                    }
                }
            }
            if step > 0 {
                let d = &self.dh.as_ref().unwrap_or(&self.dx)[start * wide..(start + count) * wide];
                let write = if run.cell == Cell::Gru { Write::Accumulate } else { Write::Overwrite };
                let carry = MatMut::new(&mut by_state[..count * h], count, h);
                gemm(Mat::new(d, count, wide), Mat::new(weight, wide, h), carry, write);
            }
        }
    }
}
