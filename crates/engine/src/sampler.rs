//! Choosing the next token from logits.
//!
//! The order is that of `transformers`: bias, repetition penalty (then those of OpenAI's API), no-repeat-n-gram; then temperature,
//! top-k, top-p, min-p; then one draw. At temperature 0 the largest logit wins, and of equal ones the
//! lowest id.

use crate::error::{EngineError, Result};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

/// How tokens are chosen. The default draws from the model's own distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Only so many of the likeliest tokens; 0: all (Fan et al. 2018).
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability (Holtzman et al. 2020).
    pub top_p: f32,
    /// Only tokens at least this share as likely as the likeliest (Nguyen et al. 2024).
    pub min_p: f32,
    /// Divides positive logits of tokens that have occurred, and multiplies negative ones (Keskar et
    /// al. 2019); 1: off.
    pub repetition_penalty: f32,
    /// How far back a token counts as having occurred; 0: everything.
    pub repetition_window: usize,
    /// Subtracted from a token's logit for each time that it was drawn (OpenAI's API); 0: off.
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of a token that was drawn (OpenAI's API); 0: off.
    pub presence_penalty: f32,
    /// No n-gram of this length comes twice; 0: off.
    pub no_repeat_ngram: usize,
    /// Added to the logits of these ids; minus infinity rules one out.
    pub logit_bias: HashMap<u32, f32>,
    /// Decides every draw.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            no_repeat_ngram: 0,
            logit_bias: HashMap::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// The largest logit, always.
    pub fn greedy() -> Self {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// Checks that each setting is in its range.
    pub fn validate(&self) -> Result<()> {
        let bad =
            |name, got: f32, expected| Err(EngineError::Sampling { name, got: got.to_string(), expected });
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return bad("temperature", self.temperature, "0 (greedy) or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top_p", self.top_p, "more than 0, at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return bad("min_p", self.min_p, "0 to 1");
        }
        if !self.repetition_penalty.is_finite() || self.repetition_penalty <= 0.0 {
            return bad("repetition_penalty", self.repetition_penalty, "more than 0");
        }
        for (name, penalty) in
            [("frequency_penalty", self.frequency_penalty), ("presence_penalty", self.presence_penalty)]
        {
            if !penalty.is_finite() {
                return bad(name, penalty, "a number");
            }
        }
        match self.logit_bias.values().find(|b| b.is_nan() || **b == f32::INFINITY) {
            Some(&bias) => bad("logit_bias", bias, "a number, or minus infinity"),
            None => Ok(()),
        }
    }
}

/// Draws tokens for one sequence. What it draws depends on the seed and the sequence's index alone.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: Sampling,
    stream: ChaCha8Rng,
    candidates: Vec<(f32, u32)>,
    /// How often each token was drawn, where that counts.
    drawn: BTreeMap<u32, u32>,
}

impl Sampler {
    /// A sampler for sequence `index` of a request.
    ///
    /// # Errors
    /// If a setting is outside its range.
    pub fn new(settings: &Sampling, index: u64) -> Result<Self> {
        settings.validate()?;
        let mut stream = ChaCha8Rng::seed_from_u64(settings.seed);
        stream.set_stream(index);
        Ok(Sampler { settings: settings.clone(), stream, candidates: Vec::new(), drawn: BTreeMap::new() })
    }

    /// Chooses the token after `history` from `logits`, one for each id that may be chosen.
    ///
    /// # Errors
    /// If a logit is NaN or plus infinity, or every token is ruled out.
    pub fn pick(&mut self, logits: &[f32], history: &[u32]) -> Result<u32> {
        if logits.iter().any(|l| l.is_nan() || *l == f32::INFINITY) {
            return Err(EngineError::NotFinite { position: history.len() });
        }
        self.candidates.clear();
        self.candidates.extend(logits.iter().copied().zip(0..));
        self.penalise(history);
        // Larger logits first; of equal ones, lower ids.
        let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let best = self.candidates.iter().copied().min_by(order).filter(|best| best.0 != f32::NEG_INFINITY);
        let (largest, best) = best.ok_or(EngineError::NothingLeft { position: history.len() })?;
        let chosen = if self.settings.temperature == 0.0 {
            best
        } else {
            self.keep_likeliest(largest, order);
            self.draw()
        };
        if self.settings.frequency_penalty != 0.0 || self.settings.presence_penalty != 0.0 {
            *self.drawn.entry(chosen).or_default() += 1;
        }
        Ok(chosen)
    }

    fn penalise(&mut self, history: &[u32]) {
        let settings = &self.settings;
        for (&id, &bias) in &settings.logit_bias {
            if let Some(candidate) = self.candidates.get_mut(id as usize) {
                candidate.0 += bias;
            }
        }
        if settings.repetition_penalty != 1.0 {
            let window = match settings.repetition_window {
                0 => history.len(),
                n => n.min(history.len()),
            };
            let mut seen = history[history.len() - window..].to_vec();
            seen.sort_unstable();
            seen.dedup();
            for id in seen {
                if let Some((logit, _)) = self.candidates.get_mut(id as usize) {
                    let penalty = settings.repetition_penalty;
                    *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                }
            }
        }
        for (&id, &count) in &self.drawn {
            if let Some(candidate) = self.candidates.get_mut(id as usize) {
                candidate.0 -= settings.presence_penalty + settings.frequency_penalty * count as f32;
            }
        }
        let n = settings.no_repeat_ngram;
        if n > 0 && history.len() >= n {
            let end = &history[history.len() + 1 - n..];
            for gram in history.windows(n).filter(|gram| gram[..n - 1] == *end) {
                if let Some(candidate) = self.candidates.get_mut(gram[n - 1] as usize) {
                    candidate.0 = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// Turns logits into weights relative to the largest, and cuts the tail.
    fn keep_likeliest(&mut self, largest: f32, order: impl Fn(&(f32, u32), &(f32, u32)) -> Ordering + Copy) {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.settings;
        let candidates = &mut self.candidates;
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, order);
            candidates.truncate(top_k);
        }
        for (value, _) in candidates.iter_mut() {
            *value = ((*value - largest) / temperature).exp();
        }
        if top_p < 1.0 {
            let total: f64 = candidates.iter().map(|c| f64::from(c.0)).sum();
            // All tokens below this weight together can't reach the tail's share: no need to sort them.
            let negligible = (f64::from(1.0 - top_p) * total / candidates.len() as f64) as f32;
            candidates.retain(|c| c.0 > negligible * 0.5);
            candidates.sort_unstable_by(order);
            let mut sum = 0.0;
            let nucleus = candidates.iter().position(|c| {
                sum += f64::from(c.0);
                sum >= f64::from(top_p) * total
            });
            candidates.truncate(nucleus.map_or(candidates.len(), |at| at + 1));
        }
        if min_p > 0.0 {
            // The likeliest token has weight 1.
            candidates.retain(|c| c.0 >= min_p);
        }
        candidates.retain(|c| c.0 > 0.0);
        // Selection leaves an order that depends on the algorithm; draws shouldn't.
        candidates.sort_unstable_by_key(|c| c.1);
    }

    fn draw(&mut self) -> u32 {
        let total: f64 = self.candidates.iter().map(|c| f64::from(c.0)).sum();
        let unit = (self.stream.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = unit * total;
        for &(weight, id) in &self.candidates {
            left -= f64::from(weight);
            if left < 0.0 {
                return id;
            }
        }
        // Rounding can leave a sliver after the last one.
        self.candidates.last().map_or(0, |c| c.1)
    }
}
