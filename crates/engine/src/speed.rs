//! How fast a model runs here, measured as llama-bench measures: random tokens, empty caches, one warm-up,
//! and logits of the last position only.

use crate::engine::Engine;
use crate::error::{EngineError, Result};
use hearth_model::{Feed, Logits};
use std::ops::ControlFlow;
use std::time::Instant;

/// Seconds of each repetition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Speed {
    /// For the whole prompt.
    pub prompt_seconds: Vec<f64>,
    /// For all tokens generated, one after another.
    pub generate_seconds: Vec<f64>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeedTest {
    /// Tokens of the prompt; 0 leaves that part out.
    pub prompt: usize,
    /// Tokens that each sequence generates; 0 leaves that part out.
    pub generate: usize,
    /// Sequences that generate together. Of several each has the prompt behind it, as in llama.cpp's batched
    /// benchmark; one begins with an empty cache, as in llama-bench.
    pub parallel: usize,
    /// How often, after a warm-up.
    pub repetitions: usize,
}

impl Engine {
    /// Takes in prompts, and generates; `go_on` is asked after each repetition.
    ///
    /// # Errors
    /// If there are more tokens than the model's context or a pass holds, or the caller breaks off.
    pub fn measure_speed(
        &mut self,
        test: SpeedTest,
        mut go_on: impl FnMut() -> ControlFlow<()>,
    ) -> Result<Speed> {
        let mut tokens = RandomTokens { state: 1, vocab_size: self.config().vocab_size as u64 };
        let mut speed = Speed::default();
        for repetition in 0..=test.repetitions {
            if test.prompt > 0 {
                let tokens = tokens.take(test.prompt);
                let started = Instant::now();
                let mut sequence = self.runner.sequence(test.prompt)?;
                self.runner.prefill(&mut sequence, &tokens)?;
                speed.prompt_seconds.push(started.elapsed().as_secs_f64());
            }
            if test.generate > 0 {
                // The warm-up needs no more than a few.
                let count = if repetition == 0 { test.generate.min(8) } else { test.generate };
                let seconds = self.generate_together(test, count, &mut tokens)?;
                speed.generate_seconds.push(seconds);
            }
            if repetition == 0 {
                speed = Speed::default();
            }
            if go_on().is_break() {
                return Err(EngineError::Interrupted);
            }
        }
        Ok(speed)
    }

    /// Seconds in which each of the sequences takes `count` tokens in, one after another.
    fn generate_together(&mut self, test: SpeedTest, count: usize, tokens: &mut RandomTokens) -> Result<f64> {
        let before = if test.parallel > 1 { test.prompt } else { 0 };
        let mut sequences = Vec::new();
        for _ in 0..test.parallel {
            let mut sequence = self.runner.sequence(before + count)?;
            if before > 0 {
                self.runner.prefill(&mut sequence, &tokens.take(before))?;
            }
            sequences.push(sequence);
        }
        let steps: Vec<Vec<u32>> = (0..count).map(|_| tokens.take(test.parallel)).collect();
        let started = Instant::now();
        for step in &steps {
            let mut feeds: Vec<Feed> = sequences
                .iter_mut()
                .zip(step.chunks(1))
                .map(|(sequence, tokens)| Feed { sequence, tokens, logits: Logits::Last })
                .collect();
            self.runner.run(&mut feeds)?;
        }
        Ok(started.elapsed().as_secs_f64())
    }
}

/// Tokens that no model expects: speed doesn't depend on them.
struct RandomTokens {
    state: u64,
    vocab_size: u64,
}

impl RandomTokens {
    fn take(&mut self, count: usize) -> Vec<u32> {
        let next = |_| {
            self.state =
                self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.state >> 33) % self.vocab_size) as u32
        };
        (0..count).map(next).collect()
    }
}
