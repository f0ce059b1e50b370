//! The tensor itself: shared storage, a shape, and where it came from.

use crate::autograd::Node;
use crate::error::TensorError;
use crate::rng::Rng;
use hearth_kernel::Buffer;
use std::fmt;
use std::sync::Arc;

/// A contiguous row-major array of `f32` of any number of dimensions; none is a scalar.
///
/// Cloning is cheap: storage is shared, and copied when a shared one is written to.
#[derive(Clone)]
pub struct Tensor {
    storage: Arc<Buffer<f32>>,
    shape: Arc<[usize]>,
    node: Option<Arc<Node>>,
}

impl Tensor {
    /// A tensor of `values`.
    ///
    /// # Errors
    /// If there aren't as many values as the shape holds.
    pub fn from_vec(values: Vec<f32>, shape: &[usize]) -> Result<Self, TensorError> {
        Self::from_slice(&values, shape)
    }

    /// A copy of `values`.
    ///
    /// # Errors
    /// If there aren't as many values as the shape holds.
    pub fn from_slice(values: &[f32], shape: &[usize]) -> Result<Self, TensorError> {
        if shape.iter().product::<usize>() != values.len() {
            let expected = format!("as many values as {shape:?} holds");
            return Err(TensorError::Shape { op: "from_slice", expected, got: values.len().to_string() });
        }
        Ok(Self::from_buffer(Buffer::from_slice(values), shape))
    }

    /// Zeros.
    pub fn zeros(shape: &[usize]) -> Self {
        Self::from_buffer(Buffer::zeros(shape.iter().product()), shape)
    }

    /// Ones.
    pub fn ones(shape: &[usize]) -> Self {
        Self::full(shape, 1.0)
    }

    /// `value` everywhere.
    pub fn full(shape: &[usize], value: f32) -> Self {
        Self::filled(shape, |y| y.fill(value))
    }

    /// A tensor of no dimensions.
    pub fn scalar(value: f32) -> Self {
        Self::full(&[], value)
    }

    /// Normal values with mean 0 and the given standard deviation.
    pub fn randn(shape: &[usize], std: f32, rng: &mut Rng) -> Self {
        Self::filled(shape, |y| y.iter_mut().for_each(|y| *y = std * rng.normal()))
    }

    /// Uniform values in low..high.
    pub fn uniform(shape: &[usize], low: f32, high: f32, rng: &mut Rng) -> Self {
        Self::filled(shape, |y| y.iter_mut().for_each(|y| *y = low + (high - low) * rng.uniform()))
    }

    pub(crate) fn from_buffer(buffer: Buffer<f32>, shape: &[usize]) -> Self {
        debug_assert_eq!(buffer.len(), shape.iter().product::<usize>());
        Tensor { storage: Arc::new(buffer), shape: shape.into(), node: None }
    }

    /// A tensor whose unspecified contents `fill` overwrites.
    pub(crate) fn filled(shape: &[usize], fill: impl FnOnce(&mut [f32])) -> Self {
        let mut buffer = Buffer::scratch(shape.iter().product());
        fill(&mut buffer);
        Self::from_buffer(buffer, shape)
    }

    /// The same values under another shape of the same size, without a history.
    pub(crate) fn reshaped(&self, shape: &[usize]) -> Self {
        debug_assert_eq!(self.len(), shape.iter().product::<usize>());
        Tensor { storage: self.storage.clone(), shape: shape.into(), node: None }
    }

    pub(crate) fn with_node(mut self, node: Arc<Node>) -> Self {
        self.node = Some(node);
        self
    }

    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    /// The same values as something to be learned: [`backward`](Tensor::backward) leaves its
    /// gradient here.
    pub fn parameter(&self) -> Self {
        self.detach().with_node(Node::leaf())
    }

    /// The same values without a history: no gradient flows past this.
    pub fn detach(&self) -> Self {
        self.reshaped(&self.shape)
    }

    /// Whether a gradient can flow through this tensor.
    pub fn requires_grad(&self) -> bool {
        self.node.is_some()
    }

    /// Sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.storage.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values, row-major.
    pub fn data(&self) -> &[f32] {
        &self.storage
    }

    /// The values, to be written; copied first if something else still shares them. Writes aren't
    /// recorded: this is for optimisers and for filling inputs.
    pub fn data_mut(&mut self) -> &mut [f32] {
        Arc::<Buffer<f32>>::make_mut(&mut self.storage)
    }

    /// The only value.
    ///
    /// # Errors
    /// If there isn't exactly one.
    pub fn item(&self) -> Result<f32, TensorError> {
        match self.data() {
            [value] => Ok(*value),
            _ => Err(TensorError::shape("item", "a single value", &[self.shape()])),
        }
    }

    /// The gradient that `backward` left on this parameter; shares its storage.
    pub fn grad(&self) -> Option<Tensor> {
        self.node.as_ref().and_then(|node| node.grad().clone())
    }

    /// Takes the gradient away, leaving none.
    pub fn take_grad(&self) -> Option<Tensor> {
        self.node.as_ref().and_then(|node| node.grad().take())
    }

    /// Drops the gradient.
    pub fn zero_grad(&self) {
        drop(self.take_grad());
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.data()[..self.len().min(8)];
        write!(f, "Tensor{:?}{shown:?}", self.shape())?;
        f.write_str(if shown.len() < self.len() { "…" } else { "" })
    }
}
