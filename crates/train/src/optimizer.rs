//! Optimisers over a model's weights: AdamW for everything, or Muon or NorMuon for the matrices of linear
//! layers with AdamW for embeddings and vectors.

use crate::error::TrainError;
use hearth_kernel::Buffer;
use hearth_kernel::muon::{Muon, MuonMatrix, muon_steps};
use hearth_kernel::optim::{AdamW, adamw_step, sum_of_squares};
use hearth_kernel::profile::{operation, pass};
use hearth_model::Weights;
use hearth_model::executor::{ParamSpec, Role};
use serde::{Deserialize, Serialize};

/// Which optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Loshchilov & Hutter 2019, for every parameter.
    Adamw,
    /// Jordan et al. 2024 for matrices; AdamW for embeddings, output head and vectors.
    Muon,
    /// Muon with its updates' rows evened out (Li et al. 2025); AdamW as beside Muon.
    Normuon,
}

/// Settings of the optimiser; rates are peaks that the schedule multiplies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerSettings {
    /// Which one.
    pub kind: OptimizerKind,
    /// AdamW's rate: for everything, or for vectors beside Muon.
    pub lr: f32,
    /// AdamW's rate for embeddings beside Muon.
    pub embedding_lr: f32,
    /// AdamW's rate for a head of its own beside Muon.
    pub head_lr: f32,
    /// Muon's rate.
    pub muon_lr: f32,
    /// Muon's momentum.
    pub momentum: f32,
    /// AdamW's first decay.
    pub beta1: f32,
    /// AdamW's second decay, and that of NorMuon's mean squares.
    pub beta2: f32,
    /// AdamW's epsilon.
    pub eps: f32,
    /// Decoupled weight decay, on everything with two dimensions.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm; 0 turns clipping off.
    pub clip: f32,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        OptimizerSettings {
            kind: OptimizerKind::Muon,
            lr: 2e-3,
            embedding_lr: 6e-3,
            head_lr: 6e-3,
            muon_lr: 0.02,
            momentum: 0.95,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            clip: 1.0,
        }
    }
}

/// The optimiser's settings as a recipe has them; see [`OptimizerSettings`]. Rates left open follow from
/// the model's width.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerSection {
    /// `muon` or `normuon` (with AdamW for embeddings, head and vectors), or `adamw` for everything.
    pub kind: OptimizerKind,
    /// AdamW's rate: for everything, or for vectors beside Muon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f32>,
    /// AdamW's rate for embeddings beside Muon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_lr: Option<f32>,
    /// AdamW's rate for a head of its own beside Muon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_lr: Option<f32>,
    /// Muon's rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muon_lr: Option<f32>,
    /// Muon's momentum.
    pub momentum: f32,
    /// AdamW's first decay.
    pub beta1: f32,
    /// AdamW's second decay, and that of NorMuon's mean squares.
    pub beta2: f32,
    /// AdamW's epsilon.
    pub eps: f32,
    /// Decoupled weight decay, on everything with two dimensions.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm; 0 turns clipping off.
    pub clip: f32,
}

impl Default for OptimizerSection {
    fn default() -> Self {
        let OptimizerSettings { kind, momentum, beta1, beta2, eps, weight_decay, clip, .. } =
            OptimizerSettings::default();
        OptimizerSection {
            kind,
            lr: None,
            embedding_lr: None,
            head_lr: None,
            muon_lr: None,
            momentum,
            beta1,
            beta2,
            eps,
            weight_decay,
            clip,
        }
    }
}

impl OptimizerSection {
    /// Fills in the rates for a width, by the rules of [`Recipe::resolve`](crate::Recipe::resolve); a model that has
    /// `learnt` already gets a tenth.
    pub(crate) fn resolve(&mut self, hidden_size: usize, learnt: bool) {
        let share = if learnt { 0.1 } else { 1.0 };
        let scale = share * (256.0 / hidden_size as f32).sqrt();
        let base = OptimizerSettings::default();
        let lr = if self.kind == OptimizerKind::Adamw { ADAMW_LR } else { base.lr };
        self.lr.get_or_insert(lr * scale);
        self.embedding_lr.get_or_insert(base.embedding_lr * scale);
        self.head_lr.get_or_insert(base.head_lr * scale);
        self.muon_lr.get_or_insert(base.muon_lr * share);
    }

    /// The settings, once rates are resolved.
    pub fn settings(&self) -> OptimizerSettings {
        let base = OptimizerSettings::default();
        OptimizerSettings {
            kind: self.kind,
            lr: self.lr.unwrap_or(base.lr),
            embedding_lr: self.embedding_lr.unwrap_or(base.embedding_lr),
            head_lr: self.head_lr.unwrap_or(base.head_lr),
            muon_lr: self.muon_lr.unwrap_or(base.muon_lr),
            momentum: self.momentum,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            clip: self.clip,
        }
    }
}

/// AdamW's rate for everything at width 256.
const ADAMW_LR: f32 = 1e-3;
/// What an optimiser remembers of one parameter.
#[derive(Clone, Debug)]
pub enum Moments {
    /// First and second moments.
    Adam(Buffer<f32>, Buffer<f32>),
    /// Muon's momentum.
    Muon(Buffer<f32>),
    /// NorMuon's momentum, and the mean squares of the updates' rows.
    Normuon(Buffer<f32>, Buffer<f32>),
}

/// An optimiser with its state.
#[derive(Debug)]
pub struct Optimizer {
    settings: OptimizerSettings,
    moments: Vec<Moments>,
    roles: Vec<Role>,
    steps: u64,
}

impl Optimizer {
    /// A fresh state for the parameters of `specs`.
    pub fn new(settings: OptimizerSettings, specs: &[ParamSpec]) -> Self {
        Self::over(settings, specs, |_| true)
    }

    /// The same, with no state for parameters that aren't trained, by their places.
    pub fn over(settings: OptimizerSettings, specs: &[ParamSpec], trained: impl Fn(usize) -> bool) -> Self {
        let moments = specs.iter().enumerate().map(|(i, spec)| {
            let zeros = || Buffer::zeros(if trained(i) { spec.shape.iter().product() } else { 0 });
            match (settings.kind, spec.role) {
                (OptimizerKind::Muon, Role::Matrix) => Moments::Muon(zeros()),
                (OptimizerKind::Normuon, Role::Matrix) => {
                    Moments::Normuon(zeros(), Buffer::zeros(spec.shape[0]))
                }
                _ => Moments::Adam(zeros(), zeros()),
            }
        });
        Optimizer {
            settings,
            moments: moments.collect(),
            roles: specs.iter().map(|s| s.role).collect(),
            steps: 0,
        }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The state, a parameter each, for checkpoints.
    pub fn moments(&self) -> &[Moments] {
        &self.moments
    }

    /// The state, to be restored.
    pub fn restore(
        &mut self,
        steps: u64,
        mut fill: impl FnMut(usize, &mut Moments) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        self.steps = steps;
        self.moments.iter_mut().enumerate().try_for_each(|(i, moments)| fill(i, moments))
    }

    /// Updates every parameter that has a gradient, clears the gradients, and returns their global
    /// norm from before clipping.
    ///
    /// # Errors
    /// If the norm isn't finite; the weights are untouched then.
    pub fn step(&mut self, weights: &mut Weights, factor: f32) -> Result<f32, TrainError> {
        let gradients: Vec<_> = weights.tensors().iter().map(|t| t.take_grad()).collect();
        let values = gradients.iter().flatten().map(|g| g.len()).sum();
        let squares: f64 = pass("gradient's norm", values, || {
            gradients.iter().flatten().map(|g| sum_of_squares(g.data())).sum()
        });
        let norm = squares.sqrt() as f32;
        if !norm.is_finite() {
            return Err(TrainError::NotFinite { what: "the gradient's norm", step: self.steps });
        }
        let s = self.settings;
        // PyTorch's `clip_grad_norm_`.
        let grad_scale = if s.clip > 0.0 { (s.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        self.steps += 1;
        let muon = Muon {
            lr: s.muon_lr * factor,
            momentum: s.momentum,
            beta2: s.beta2,
            weight_decay: s.weight_decay,
            nesterov: true,
            ns_steps: 5,
            grad_scale,
        };
        let mut matrices = Vec::new();
        let parameters = weights.tensors_mut().iter_mut().zip(&mut self.moments).zip(&gradients);
        for (i, ((tensor, moments), gradient)) in parameters.enumerate() {
            let Some(gradient) = gradient else { continue };
            let (momentum, row_squares) = match moments {
                Moments::Muon(momentum) => (momentum, None),
                Moments::Normuon(momentum, row_squares) => (momentum, Some(&mut row_squares[..])),
                Moments::Adam(m, v) => {
                    let role = self.roles[i];
                    let peak = match (s.kind, role) {
                        (OptimizerKind::Adamw, _) => s.lr,
                        (_, Role::Embedding) => s.embedding_lr,
                        (_, Role::Head) => s.head_lr,
                        _ => s.lr,
                    };
                    let adamw = AdamW {
                        lr: peak * factor,
                        beta1: s.beta1,
                        beta2: s.beta2,
                        eps: s.eps,
                        weight_decay: if role == Role::Vector { 0.0 } else { s.weight_decay },
                        step: self.steps,
                        grad_scale,
                    };
                    pass("AdamW", 7 * gradient.len(), || {
                        adamw_step(tensor.data_mut(), gradient.data(), m, v, &adamw);
                    });
                    continue;
                }
            };
            let [rows, cols] = *tensor.shape() else { unreachable!("matrices have two dimensions") };
            let (p, grad) = (tensor.data_mut(), gradient.data());
            matrices.push(MuonMatrix { p, grad, momentum, row_squares, rows, cols });
        }
        if !matrices.is_empty() {
            let work = matrices.iter().map(|m| muon.work(m.rows, m.cols)).sum();
            let name = if s.kind == OptimizerKind::Normuon { "NorMuon" } else { "Muon" };
            operation(name, String::new, || work, || muon_steps(&mut matrices, &muon));
        }
        Ok(norm)
    }
}
