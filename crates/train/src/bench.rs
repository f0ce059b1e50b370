//! The speed of training, on shapes that are easily run elsewhere.
//!
//! A decoder of GPT-2's shape without biases, exact GELU, a tied head, weights N(0, 0.02), one fixed
//! batch of random tokens, `f32`; AdamW at 1e-3 with decays 0.9 and 0.95, weight decay 0.1, gradients
//! clipped at 1.

use crate::error::TrainError;
use crate::optimizer::{Optimizer, OptimizerKind, OptimizerSettings};
use hearth_kernel::activation::Activation;
use hearth_kernel::profile;
use hearth_model::tape::{TokenBatch, Trainable};
use hearth_model::{Decoder, DecoderConfig, Weights};
use hearth_tensor::nn::CrossEntropyOptions;
use hearth_tensor::{Rng, Tensor};
use std::time::Instant;

/// A shape to train, and on how much at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// Blocks.
    pub layers: usize,
    /// C.
    pub width: usize,
    /// H.
    pub heads: usize,
    /// V.
    pub vocab: usize,
    /// B.
    pub batch: usize,
    /// T.
    pub context: usize,
    /// Learned positions, at least T.
    pub positions: usize,
    /// Steps when none are asked for.
    pub steps: usize,
}

/// The presets, smallest first.
pub const PRESETS: [Preset; 4] = [
    Preset {
        name: "nanogpt-cpu",
        layers: 4,
        width: 128,
        heads: 4,
        vocab: 65,
        batch: 12,
        context: 64,
        positions: 64,
        steps: 20,
    },
    Preset {
        name: "small",
        layers: 6,
        width: 384,
        heads: 6,
        vocab: 65,
        batch: 8,
        context: 256,
        positions: 256,
        steps: 8,
    },
    Preset {
        name: "small-8k",
        layers: 6,
        width: 384,
        heads: 6,
        vocab: 8192,
        batch: 8,
        context: 256,
        positions: 256,
        steps: 7,
    },
    Preset {
        name: "gpt2-124m",
        layers: 12,
        width: 768,
        heads: 12,
        vocab: 50304,
        batch: 4,
        context: 64,
        positions: 1024,
        steps: 6,
    },
];

/// What a run took.
#[derive(Clone, Debug)]
pub struct Report {
    /// The loss of each step, nats a token.
    pub losses: Vec<f32>,
    /// Milliseconds of each step: forward, backward, optimiser.
    pub step_ms: Vec<f64>,
    /// Trained parameters.
    pub params: usize,
    /// Floating-point operations a step, by six a weight and the attention products.
    pub flops_per_step: f64,
    /// Tokens a step.
    pub tokens_per_step: usize,
}

impl Report {
    /// The middle step, milliseconds.
    pub fn step_ms_median(&self) -> f64 {
        let mut times = self.step_ms.clone();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Tokens a second at the median step.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens_per_step as f64 * 1000.0 / self.step_ms_median()
    }
}

impl Preset {
    /// The preset of that name.
    pub fn named(name: &str) -> Option<Preset> {
        PRESETS.iter().find(|p| p.name == name).copied()
    }

    /// The decoder that is trained.
    pub fn decoder(&self) -> Result<Decoder, TrainError> {
        let config = DecoderConfig {
            activation: Activation::GeluErf,
            biases: false,
            ..DecoderConfig::gpt2(self.vocab, self.width, self.layers, self.heads, self.positions)
        };
        Ok(Decoder::new(config)?)
    }

    /// Trains for `steps` steps, telling `progress` of each with its loss and milliseconds.
    pub fn run(
        &self,
        steps: usize,
        seed: u64,
        mut progress: impl FnMut(usize, f32, f64),
    ) -> Result<Report, TrainError> {
        let decoder = self.decoder()?;
        let mut rng = Rng::new(seed);
        let normal = |shape: &[usize], rng: &mut Rng| match shape.len() {
            1 => Tensor::ones(shape),
            _ => Tensor::randn(shape, 0.02, rng),
        };
        let tensors = decoder.specs().iter().map(|s| normal(&s.shape, &mut rng)).collect();
        let mut weights = Weights::from_tensors(&decoder, tensors)?;
        let settings = OptimizerSettings {
            kind: OptimizerKind::Adamw,
            lr: 1e-3,
            weight_decay: 0.1,
            clip: 1.0,
            ..OptimizerSettings::default()
        };
        let mut optimizer = Optimizer::new(settings, decoder.specs());
        let (config, params) = (decoder.config().clone(), decoder.n_params());
        let mut draw = || rng.below(self.vocab as u64) as u32;
        let tokens: Vec<u32> = (0..self.batch * self.context).map(|_| draw()).collect();
        let targets: Vec<i32> = (0..self.batch * self.context).map(|_| draw() as i32).collect();
        let batch = TokenBatch::causal(tokens, self.batch);
        let model = Trainable::new(decoder);
        let (mut losses, mut step_ms) = (Vec::new(), Vec::new());
        for step in 0..steps {
            let start = Instant::now();
            let loss = profile::step(|| -> Result<f32, TrainError> {
                let out = model.loss(&weights, &batch, &targets, &CrossEntropyOptions::default())?;
                out.loss.backward()?;
                let loss = out.loss.item()?;
                drop(out);
                optimizer.step(&mut weights, 1.0)?;
                Ok(loss)
            })?;
            let ms = start.elapsed().as_secs_f64() * 1e3;
            progress(step, loss, ms);
            losses.push(loss);
            step_ms.push(ms);
        }
        let tokens_per_step = self.batch * self.context;
        let flops_per_step = config.train_flops_per_token(self.context) * tokens_per_step as f64;
        Ok(Report { losses, step_ms, params, flops_per_step, tokens_per_step })
    }
}
