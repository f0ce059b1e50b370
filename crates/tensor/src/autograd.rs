//! Reverse-mode automatic differentiation: what an operation records, and the pass back through it.

use crate::error::TensorError;
use crate::tensor::Tensor;
use hearth_kernel::gemm::Write;
use hearth_kernel::optim::axpy;
use hearth_kernel::profile::pass;
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What passes a gradient from an operation's output to its inputs; runs once.
type Backward = Box<dyn FnOnce(Tensor, &mut Grads) -> Result<(), TensorError> + Send>;

/// A place in the graph: a parameter, or the output of a recorded operation.
pub(crate) struct Node {
    /// Ascends with time, so a node's inputs always have smaller ids.
    id: u64,
    kind: Kind,
}

enum Kind {
    Leaf(Mutex<Option<Tensor>>),
    /// Emptied by the backward pass.
    Operation(Mutex<Option<Recorded>>),
}

struct Recorded {
    inputs: Vec<Option<Arc<Node>>>,
    backward: Backward,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Node { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), kind })
    }

    pub(crate) fn leaf() -> Arc<Self> {
        Node::new(Kind::Leaf(Mutex::new(None)))
    }

    /// The gradient of a leaf; operations never keep one.
    pub(crate) fn grad(&self) -> MutexGuard<'_, Option<Tensor>> {
        static NONE: Mutex<Option<Tensor>> = Mutex::new(None);
        match &self.kind {
            Kind::Leaf(grad) => lock(grad),
            Kind::Operation(_) => lock(&NONE),
        }
    }

    fn take_inputs(&mut self) -> Vec<Option<Arc<Node>>> {
        match &mut self.kind {
            Kind::Leaf(_) => Vec::new(),
            Kind::Operation(recorded) => {
                let recorded = recorded.get_mut().unwrap_or_else(PoisonError::into_inner);
                recorded.as_mut().map(|r| std::mem::take(&mut r.inputs)).unwrap_or_default()
            }
        }
    }
}

impl Drop for Node {
    /// Takes a chain of any length apart without recursion.
    fn drop(&mut self) {
        let mut orphans = self.take_inputs();
        while let Some(node) = orphans.pop() {
            if let Some(mut node) = node.and_then(Arc::into_inner) {
                orphans.append(&mut node.take_inputs());
            }
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.id)
    }
}

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
}

/// Sets whether this thread records, until dropped.
struct Recording(bool);

impl Recording {
    fn set(recording: bool) -> Self {
        Recording(RECORDING.replace(recording))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDING.set(self.0);
    }
}

/// Runs `f` without recording: what it computes has no history, and holds no inputs alive.
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    let _guard = Recording::set(false);
    f()
}

/// Whether this thread records operations; false inside [`no_grad`].
pub fn grad_enabled() -> bool {
    RECORDING.get()
}

/// Whether an operation on these inputs has to be recorded.
pub(crate) fn recording(inputs: &[&Tensor]) -> bool {
    grad_enabled() && inputs.iter().any(|t| t.requires_grad())
}

/// Ties `output` to its inputs, if anything wants a gradient.
pub(crate) fn record(
    output: Tensor,
    inputs: &[&Tensor],
    backward: impl FnOnce(Tensor, &mut Grads) + Send + 'static,
) -> Tensor {
    if !recording(inputs) {
        return output;
    }
    record_always(output, inputs, move |dy, grads| {
        backward(dy, grads);
        Ok(())
    })
}

fn record_always(
    output: Tensor,
    inputs: &[&Tensor],
    backward: impl FnOnce(Tensor, &mut Grads) -> Result<(), TensorError> + Send + 'static,
) -> Tensor {
    let inputs = inputs.iter().map(|t| t.node().cloned()).collect();
    let recorded = Recorded { inputs, backward: Box::new(backward) };
    output.with_node(Node::new(Kind::Operation(Mutex::new(Some(recorded)))))
}

/// Gradients on their way, by node id.
type Pending = BTreeMap<u64, (Arc<Node>, Option<Tensor>)>;

/// Where an operation's backward pass puts the gradients of its inputs.
pub struct Grads<'a> {
    inputs: &'a [Option<Arc<Node>>],
    pending: &'a mut Pending,
}

impl Grads<'_> {
    /// Whether input `i` wants a gradient.
    pub fn needs(&self, i: usize) -> bool {
        self.inputs[i].is_some()
    }

    fn slot(&mut self, i: usize) -> Option<&mut Option<Tensor>> {
        let node = self.inputs[i].as_ref()?;
        let slot = self.pending.entry(node.id).or_insert_with(|| {
            // A parameter's gradient from earlier passes is added to in place.
            let earlier = node.grad().take();
            (node.clone(), earlier)
        });
        Some(&mut slot.1)
    }

    /// Adds `gradient` to that of input `i`.
    pub fn add(&mut self, i: usize, gradient: Tensor) {
        let Some(slot) = self.slot(i) else { return };
        match slot {
            Some(sum) => pass("sum of gradients", 3 * gradient.len(), || {
                axpy(1.0, gradient.data(), sum.data_mut());
            }),
            None => *slot = Some(gradient),
        }
    }

    /// Lets `f` write or add the gradient of input `i`, of the given shape, where it will stay.
    pub fn accumulate(&mut self, i: usize, shape: &[usize], f: impl FnOnce(&mut [f32], Write)) {
        let Some(slot) = self.slot(i) else { return };
        match slot {
            Some(sum) => f(sum.data_mut(), Write::Accumulate),
            None => *slot = Some(Tensor::filled(shape, |y| f(y, Write::Overwrite))),
        }
    }
}

impl Tensor {
    /// Leaves d self / d parameter on every parameter that went into this scalar, added to what is
    /// there. The graph is freed on the way; a second call is an error.
    ///
    /// # Errors
    /// If this isn't a single value, no parameter went into it, or it was differentiated before.
    pub fn backward(&self) -> Result<(), TensorError> {
        if self.len() != 1 {
            return Err(TensorError::shape("backward", "a single value", &[self.shape()]));
        }
        self.backward_from(Tensor::ones(self.shape()))
    }

    /// [`backward`](Tensor::backward) from a tensor of any shape, given the gradient of what comes
    /// after it.
    ///
    /// # Errors
    /// If the gradient has another shape, no parameter went into this, or it was differentiated
    /// before.
    pub fn backward_from(&self, gradient: Tensor) -> Result<(), TensorError> {
        if gradient.shape() != self.shape() {
            return Err(TensorError::shape("backward", "one shape", &[self.shape(), gradient.shape()]));
        }
        let no_history = "no parameter went into this tensor, or it was made inside no_grad";
        let root = self.node().ok_or(TensorError::Backward { problem: no_history })?;
        let mut pending = Pending::from([(root.id, (root.clone(), Some(gradient)))]);
        // Ids descend from outputs to inputs, so the largest one has all its consumers behind it.
        while let Some((_, (node, gradient))) = pending.pop_last() {
            let Some(gradient) = gradient else { continue };
            match &node.kind {
                Kind::Leaf(grad) => {
                    let mut grad = lock(grad);
                    match grad.as_mut() {
                        Some(sum) => axpy(1.0, gradient.data(), sum.data_mut()),
                        None => *grad = Some(gradient),
                    }
                }
                Kind::Operation(recorded) => {
                    let twice = "this graph was differentiated before; compute the loss again";
                    let recorded = lock(recorded).take().ok_or(TensorError::Backward { problem: twice })?;
                    let mut grads = Grads { inputs: &recorded.inputs, pending: &mut pending };
                    (recorded.backward)(gradient, &mut grads)?;
                }
            }
        }
        Ok(())
    }
}

/// Activation checkpointing (Chen et al. 2016): computes `f(inputs)` keeping nothing but the inputs,
/// and computes it again on the way back. Parameters that `f` uses beside its inputs get their
/// gradients too. `f` must give the same result each time.
///
/// # Errors
/// What `f` returns.
pub fn checkpoint(
    inputs: &[&Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor, TensorError> + Send + 'static,
) -> Result<Tensor, TensorError> {
    let plain: Vec<Tensor> = inputs.iter().map(|t| t.detach()).collect();
    let output = no_grad(|| f(&plain))?;
    if !grad_enabled() {
        return Ok(output);
    }
    let wanted: HashSet<usize> = (0..inputs.len()).filter(|&i| inputs[i].requires_grad()).collect();
    Ok(record_always(output, inputs, move |dy, grads| {
        let _guard = Recording::set(true);
        let again: Vec<Tensor> = plain
            .into_iter()
            .enumerate()
            .map(|(i, t)| if wanted.contains(&i) { t.parameter() } else { t })
            .collect();
        f(&again)?.backward_from(dy)?;
        for (i, input) in again.iter().enumerate() {
            if let Some(gradient) = input.take_grad() {
                grads.add(i, gradient);
            }
        }
        Ok(())
    }))
}
