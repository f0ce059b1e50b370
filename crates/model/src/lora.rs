//! LoRA: updates of low rank beside matrices that stay as they are (Hu et al. 2022, "LoRA: Low-Rank Adaptation of
//! Large Language Models", section 4). A layer `y = x Wᵀ` becomes `y = x Wᵀ + s (x Aᵀ) Bᵀ` with A [r, in] and
//! B [out, r]; only these are trained. `s` is alpha / r, or alpha / √r (Kalajdzievski 2023, rsLoRA).

use crate::error::ModelError;
use crate::executor::{Init, ParamId, ParamSpec, Role};
use crate::weights::Weights;
use hearth_kernel::gemm::{Mat, MatMut, Write, gemm};
use hearth_tensor::{Rng, Tensor};
use std::collections::BTreeMap;

/// Which layers get an update, and how large it may be.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// r.
    pub rank: usize,
    /// What the update is scaled by, before it is divided by r or its root.
    pub alpha: f32,
    /// Divide by √r instead of r, so that the update doesn't shrink as r grows.
    pub rank_stabilized: bool,
    /// Ends of module names, such as `q_proj`; none stands for all matrices of the blocks.
    pub targets: Vec<String>,
}

impl LoraConfig {
    /// s, for a layer of this rank.
    pub fn scale(&self, rank: usize) -> f32 {
        let rank = rank as f32;
        self.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }

    fn wants(&self, module: &str) -> bool {
        let ends = |target: &String| {
            module.strip_suffix(target.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.targets.is_empty() || self.targets.iter().any(ends)
    }
}

/// The update of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowRank {
    /// A, [r, in].
    pub a: ParamId,
    /// B, [out, r].
    pub b: ParamId,
    /// s.
    pub scale: f32,
    /// The layer's weight is stored [in, out].
    pub in_out: bool,
}

/// The updates of a model's layers. Their parameters follow those of the model in one list.
#[derive(Clone, Debug)]
pub struct Lora {
    config: LoraConfig,
    /// In the order of the weights, so that sums over them have one order.
    layers: BTreeMap<ParamId, LowRank>,
    specs: Vec<ParamSpec>,
    /// Parameters of the model, which come first.
    base: usize,
}

impl Lora {
    /// Updates for the layers of blocks among `base` that the configuration wants; a pooler and what else a task puts
    /// on top are trained whole or not at all. `in_out` says how the architecture stores its matrices.
    ///
    /// # Errors
    /// If the rank is 0, or a target names no layer.
    pub fn new(config: LoraConfig, base: &[ParamSpec], in_out: bool) -> Result<Self, ModelError> {
        let fail = |problem| Err(ModelError::Config { place: "LoRA".into(), problem });
        if config.rank == 0 || !(config.alpha.is_finite() && config.alpha > 0.0) {
            let LoraConfig { rank, alpha, .. } = config;
            return fail(format!("rank {rank} and alpha {alpha}, expected both to be more than 0"));
        }
        let matrices = || base.iter().enumerate().filter_map(matrix);
        for target in &config.targets {
            let one = LoraConfig { targets: vec![target.clone()], ..config.clone() };
            if !matrices().any(|(_, module)| one.wants(module)) {
                let mut names: Vec<&str> =
                    matrices().filter_map(|(_, module)| module.rsplit('.').next()).collect();
                names.sort_unstable();
                names.dedup();
                return fail(format!("no layer is called {target:?}\nhint: there are {}", names.join(", ")));
            }
        }
        let chosen = matrices().filter(|(_, module)| config.wants(module)).map(|(i, _)| (i, config.rank));
        Ok(Self::over(chosen.collect(), config.clone(), base, in_out))
    }

    /// Updates of these ranks for these layers.
    pub(crate) fn over(
        chosen: Vec<(usize, usize)>,
        config: LoraConfig,
        base: &[ParamSpec],
        in_out: bool,
    ) -> Self {
        let (mut specs, mut layers) = (Vec::new(), BTreeMap::new());
        for (i, rank) in chosen {
            let module = module_of(&base[i].name);
            let (outputs, inputs) = sizes(&base[i].shape, in_out);
            let mut add = |name: &str, shape: [usize; 2], init| {
                let name = format!("{module}.{name}.weight");
                specs.push(ParamSpec { name, shape: shape.to_vec(), init, role: Role::Matrix });
                ParamId(base.len() + specs.len() - 1)
            };
            // A's start is PEFT's: uniform within ±1/√in, which this normal has the variance of.
            let a = add("lora_A", [rank, inputs], Init::Normal(1.0 / (3.0 * inputs as f32).sqrt()));
            let b = add("lora_B", [outputs, rank], Init::Zeros);
            layers.insert(ParamId(i), LowRank { a, b, scale: config.scale(rank), in_out });
        }
        Lora { config, layers, specs, base: base.len() }
    }

    /// Which layers, and how.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The update of the layer with this weight, if it has one.
    pub fn of(&self, weight: ParamId) -> Option<&LowRank> {
        self.layers.get(&weight)
    }

    /// All updates, by their weights.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (ParamId, &LowRank)> {
        self.layers.iter().map(|(id, layer)| (*id, layer))
    }

    /// How many parameters come before those of the updates.
    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// Whether the layers store their weights [in, out].
    pub(crate) fn in_out(&self) -> bool {
        self.layers.values().any(|layer| layer.in_out)
    }

    /// The parameters of the updates.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// The layers whose update has another rank than the configuration's.
    pub(crate) fn other_ranks(&self) -> impl Iterator<Item = (&str, usize)> {
        let parts = self
            .specs
            .iter()
            .filter_map(|spec| Some((spec.name.strip_suffix(".lora_A.weight")?, spec.shape[0])));
        parts.filter(|(_, rank)| *rank != self.config.rank)
    }

    /// The names of the layers with an update, without what comes before the last dot, in alphabetical order.
    pub fn targets(&self) -> Vec<&str> {
        let modules = self.specs.iter().filter_map(|spec| spec.name.strip_suffix(".lora_A.weight"));
        let mut names: Vec<&str> = modules.filter_map(|module| module.rsplit('.').next()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Adds new updates to a model's weights: they change nothing until they are trained.
    pub fn start(&self, weights: &mut Weights, seed: u64) {
        let mut rng = Rng::new(seed);
        weights.extend(self.specs.iter().map(|spec| match spec.init {
            Init::Normal(std) => Tensor::randn(&spec.shape, std, &mut rng),
            _ => Tensor::zeros(&spec.shape),
        }));
    }

    /// `W + s B A` of each layer with an update, by its weight's id: what the model is with the updates in it.
    pub fn merged(&self, weights: &Weights) -> Vec<(ParamId, Tensor)> {
        let one = |(id, layer): (ParamId, &LowRank)| {
            let mut merged = weights.widened(id).detach();
            layer.add_to(merged.data_mut(), weights.get(layer.a), weights.get(layer.b), layer.scale);
            (id, merged)
        };
        self.layers().map(one).collect()
    }

    /// The model's own weights with the updates in them, all in single precision.
    #[must_use]
    pub fn merge(&self, weights: &Weights) -> Weights {
        let mut merged = weights.clone();
        merged.truncate(self.base);
        for (id, tensor) in self.merged(weights) {
            merged.set(id, tensor);
        }
        merged.widen_all();
        merged
    }
}

impl LowRank {
    /// Adds `scale · B A` to a weight.
    pub(crate) fn add_to(&self, weight: &mut [f32], a: &Tensor, b: &Tensor, scale: f32) {
        let (rank, inputs) = (a.shape()[0], a.shape()[1]);
        let outputs = b.shape()[0];
        let scaled = b.detach().scale(scale);
        let (a, b) = (Mat::new(a.data(), rank, inputs), Mat::new(scaled.data(), outputs, rank));
        if self.in_out {
            gemm(a.t(), b.t(), MatMut::new(weight, inputs, outputs), Write::Accumulate);
        } else {
            gemm(b, a, MatMut::new(weight, outputs, inputs), Write::Accumulate);
        }
    }
}

/// A matrix of a linear layer in a block, by the name of its module.
fn matrix((i, spec): (usize, &ParamSpec)) -> Option<(usize, &str)> {
    (spec.role == Role::Matrix && block_of(&spec.name).is_some()).then(|| (i, module_of(&spec.name)))
}

fn module_of(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// (out, in) of a matrix.
pub(crate) fn sizes(shape: &[usize], in_out: bool) -> (usize, usize) {
    if in_out { (shape[1], shape[0]) } else { (shape[0], shape[1]) }
}

/// The block that a parameter belongs to: the first number in its name.
pub fn block_of(name: &str) -> Option<usize> {
    name.split('.').find_map(|part| part.parse().ok())
}
