//! How fast a model runs here, measured as llama-bench measures: random tokens, empty caches, one warm-up,
//! and logits of the last position only.

use crate::engine::Engine;
use crate::error::Result;
use std::ops::ControlFlow;
use std::time::Instant;

/// Seconds of each repetition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Speed {
    /// For the whole prompt.
    pub prompt_seconds: Vec<f64>,
    /// For all tokens generated, one after another from an empty cache.
    pub generate_seconds: Vec<f64>,
}

impl Engine {
    /// Takes in prompts of `prompt` tokens, and generates `generate` tokens, `repetitions` times each; 0
    /// leaves a part out. `go_on` is asked after each.
    ///
    /// # Errors
    /// If there are more tokens than the model's context holds, or the caller breaks off.
    pub fn measure_speed(
        &mut self,
        prompt: usize,
        generate: usize,
        repetitions: usize,
        mut go_on: impl FnMut() -> ControlFlow<()>,
    ) -> Result<Speed> {
        let vocab_size = self.config().vocab_size as u64;
        let mut state = 1u64;
        let mut tokens = |count: usize| -> Vec<u32> {
            let next = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) % vocab_size) as u32
            };
            (0..count).map(next).collect()
        };
        let mut speed = Speed::default();
        for repetition in 0..=repetitions {
            if prompt > 0 {
                let tokens = tokens(prompt);
                let started = Instant::now();
                let mut sequence = self.runner.sequence(prompt)?;
                self.runner.prefill(&mut sequence, &tokens)?;
                speed.prompt_seconds.push(started.elapsed().as_secs_f64());
            }
            if generate > 0 {
                // The warm-up needs no more than a few.
                let count = if repetition == 0 { generate.min(8) } else { generate };
                let tokens = tokens(count);
                let started = Instant::now();
                let mut sequence = self.runner.sequence(count)?;
                for token in &tokens {
                    self.runner.prefill(&mut sequence, std::slice::from_ref(token))?;
                }
                speed.generate_seconds.push(started.elapsed().as_secs_f64());
            }
            if repetition == 0 {
                speed = Speed::default();
            }
            if go_on().is_break() {
                return Err(crate::error::EngineError::Interrupted);
            }
        }
        Ok(speed)
    }
}
