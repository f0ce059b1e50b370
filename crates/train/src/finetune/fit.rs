//! The loop of fine-tuning, whatever the task: shuffled batches, AdamW, looks at held-out examples, and the best
//! weights kept.

use crate::error::TrainError;
use crate::finetune::settings::Settings;
use crate::optimizer::Optimizer;
use fs_err::File;
use hearth_model::Weights;
use hearth_model::executor::ParamSpec;
use hearth_tensor::{Rng, Tensor};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

/// A task that is being learnt.
pub trait Learner {
    /// What a look at held-out examples gives: its metrics above all.
    type Look: AsRef<Metrics>;

    /// The parameters that are trained, in the order of the weights.
    fn specs(&self) -> &[ParamSpec];

    /// How many examples there are to learn from.
    fn examples(&self) -> usize;

    /// Tokens of an example.
    fn tokens(&self, example: usize) -> usize;

    /// The mean loss of some examples. `step` decides what dropout zeroes.
    ///
    /// # Errors
    /// If an example doesn't fit the model.
    fn loss(&mut self, weights: &Weights, examples: &[usize], step: u64) -> Result<Tensor, TrainError>;

    /// What the mean of [`loss`](Self::loss) goes over: examples, or tokens of them.
    fn weight(&self, examples: &[usize]) -> usize {
        examples.len()
    }

    /// Whether the loss of a batch is that of its parts. One that compares examples with each other isn't.
    fn divisible(&self) -> bool {
        true
    }

    /// Whether less of the metric is better, as of a loss.
    fn less_is_better(&self) -> bool {
        false
    }

    /// How good the weights are on held-out examples.
    ///
    /// # Errors
    /// If an example doesn't fit the model.
    fn look(&mut self, weights: &Weights) -> Result<Self::Look, TrainError>;
}

/// What a look at held-out examples gave, by the metrics' names.
pub type Metrics = BTreeMap<String, f64>;

/// What a run tells while it goes on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// One optimiser step.
    Step {
        /// Steps done.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Mean loss of its examples.
        loss: f32,
        /// The rate as a share of the peak.
        lr_factor: f32,
        /// Global gradient norm before clipping.
        grad_norm: f32,
        /// Examples learnt from so far.
        examples: u64,
        /// Tokens of these.
        tokens: u64,
        /// Seconds of training so far, without looks.
        seconds: f64,
    },
    /// A look at held-out examples.
    Look {
        /// Steps done.
        step: u64,
        /// What it gave.
        metrics: Metrics,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// Who watches a run, and may stop it.
pub trait Observer {
    /// Something begins or was decided; lines of text.
    fn say(&mut self, text: &str);
    /// A step or a look is done.
    fn event(&mut self, event: &Event);
    /// Whether to stop after this step.
    fn stop(&mut self) -> bool;
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The weights of the best look.
    pub weights: Weights,
    /// Steps after which that was.
    pub best_step: u64,
    /// All that happened.
    pub events: Vec<Event>,
    /// Examples learnt from, and their tokens.
    pub seen: (u64, u64),
    /// Wall seconds of the steps, without looks.
    pub seconds: f64,
    /// Whether it was stopped before the last step.
    pub stopped: bool,
}

impl Fitted {
    /// What was learnt in one go, since `started`, from so many examples; a model without weights of a network.
    pub(crate) fn at_once(examples: usize, started: Instant) -> Self {
        Fitted {
            weights: Weights::none(),
            best_step: 0,
            events: Vec::new(),
            seen: (examples as u64, 0),
            seconds: started.elapsed().as_secs_f64(),
            stopped: false,
        }
    }
}

/// Trains `weights` and gives back those that were best on held-out examples by `metric`, with the look at them. What
/// happens goes into `run.jsonl` in the folder `out` while it happens, if there is to be one.
///
/// # Errors
/// If the loss stops being a number, the metric isn't one of the task's, or the disk fails.
pub fn fit<L: Learner>(
    learner: &mut L,
    mut weights: Weights,
    settings: &Settings,
    metric: &str,
    out: Option<&Path>,
    observer: &mut dyn Observer,
) -> Result<(Fitted, L::Look), TrainError> {
    let count = learner.examples();
    let steps = settings.steps(count);
    let trained = |i: usize| weights.tensors()[i].requires_grad();
    let mut optimizer = Optimizer::over(settings.optimizer(), learner.specs(), trained);
    let mut order = Order::new(count, settings.seed);
    let log = out.map(create_log).transpose()?;
    let mut run = Run { log, events: Vec::new(), examples: 0, tokens: 0, seconds: 0.0 };
    let an_epoch = count.div_ceil(settings.batch).max(1) as u64;
    let between = (an_epoch / settings.looks as u64).max(1);
    let mut best: Option<(f64, u64, L::Look, Weights)> = None;
    let (mut worse, mut stopped) = (0, false);
    for step in 0..steps {
        let examples = order.next(settings.batch);
        let started = Instant::now();
        let factor = lr_factor(step, steps, settings.warmup);
        let value = gradients(learner, &weights, &examples, settings, step)?;
        let grad_norm = optimizer.step(&mut weights, factor)?;
        run.seconds += started.elapsed().as_secs_f64();
        run.examples += examples.len() as u64;
        run.tokens += examples.iter().map(|&i| learner.tokens(i) as u64).sum::<u64>();
        let event = Event::Step {
            step: step + 1,
            steps,
            loss: value,
            lr_factor: factor,
            grad_norm,
            examples: run.examples,
            tokens: run.tokens,
            seconds: run.seconds,
        };
        run.tell(event, observer)?;
        let last = step + 1 == steps;
        stopped = observer.stop() && !last;
        if (step + 1).is_multiple_of(between) || last || stopped {
            let look = learner.look(&weights)?;
            let metrics = look.as_ref();
            let score = *metrics.get(metric).ok_or_else(|| unknown_metric(metric, metrics))?;
            let sign = if learner.less_is_better() { -1.0 } else { 1.0 };
            let better = best.as_ref().is_none_or(|(best, ..)| sign * score > sign * best);
            run.tell(Event::Look { step: step + 1, metrics: metrics.clone(), best: better }, observer)?;
            if better {
                // A copy of what the next steps change; tensors share what they don't.
                best = Some((score, step + 1, look, weights.clone()));
                worse = 0;
            } else {
                worse += 1;
            }
            if settings.patience > 0 && worse >= settings.patience && !last {
                observer
                    .say(&format!("no better look in {worse}: stopping after step {} of {steps}", step + 1));
                break;
            }
        }
        if stopped {
            break;
        }
    }
    let (_, best_step, look, weights) = best.expect("the last step is looked at");
    let Run { events, examples, tokens, seconds, .. } = run;
    let fitted = Fitted { weights, best_step, events, seen: (examples, tokens), seconds, stopped };
    Ok((fitted, look))
}

/// Leaves a step's gradients on the weights, and gives its loss. A batch goes through the model in parts of at most
/// `settings.pass_tokens`, which bounds memory and changes nothing else.
fn gradients<L: Learner>(
    learner: &mut L,
    weights: &Weights,
    examples: &[usize],
    settings: &Settings,
    step: u64,
) -> Result<f32, TrainError> {
    let parts =
        if learner.divisible() { passes(learner, examples, settings.pass_tokens) } else { vec![examples] };
    let (seed, whole) = (settings.seed.wrapping_add(step), learner.weight(examples).max(1) as f32);
    let mut sum = 0.0;
    for part in &parts {
        let share = learner.weight(part) as f32 / whole;
        // Dropout of each part has a seed of its own; that of a whole batch is the step's.
        let seed = seed ^ (((part[0] as u64) << 32) * u64::from(parts.len() > 1));
        let loss = learner.loss(weights, part, seed)?;
        let value = loss.item()?;
        if !value.is_finite() {
            return Err(TrainError::NotFinite { what: "the loss", step });
        }
        loss.scale(share).backward()?;
        sum += share * value;
    }
    Ok(sum)
}

/// Neighbours together as long as they have at most so many tokens.
fn passes<'a, L: Learner>(learner: &L, examples: &'a [usize], most: usize) -> Vec<&'a [usize]> {
    let (mut parts, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (i, &example) in examples.iter().enumerate() {
        let more = learner.tokens(example);
        if i > start && tokens + more > most {
            parts.push(&examples[start..i]);
            (start, tokens) = (i, 0);
        }
        tokens += more;
    }
    parts.push(&examples[start..]);
    parts
}

fn unknown_metric(metric: &str, metrics: &Metrics) -> TrainError {
    let known: Vec<&str> = metrics.keys().map(String::as_str).collect();
    let problem = format!("metric {metric:?} isn't one of this task's: {}", known.join(", "));
    TrainError::Recipe { place: "fine-tuning".into(), problem }
}

fn create_log(out: &Path) -> io::Result<File> {
    fs_err::create_dir_all(out)?;
    File::create(out.join("run.jsonl"))
}

struct Run {
    log: Option<File>,
    events: Vec<Event>,
    examples: u64,
    tokens: u64,
    seconds: f64,
}

impl Run {
    fn tell(&mut self, event: Event, observer: &mut dyn Observer) -> io::Result<()> {
        if let Some(log) = &mut self.log {
            let mut line = serde_json::to_vec(&event)?;
            line.push(b'\n');
            log.write_all(&line)?;
        }
        observer.event(&event);
        self.events.push(event);
        Ok(())
    }
}

/// Warm-up, then linear to zero, as `transformers`' default.
fn lr_factor(step: u64, steps: u64, warmup: f32) -> f32 {
    let warm = (steps as f32 * warmup).ceil() as u64;
    if step < warm {
        return (step + 1) as f32 / (warm + 1) as f32;
    }
    (steps - step) as f32 / (steps - warm).max(1) as f32
}

/// Every example once an epoch, in an order of its own; batches don't cross epochs.
struct Order {
    rng: Rng,
    places: Vec<usize>,
    at: usize,
}

impl Order {
    fn new(count: usize, seed: u64) -> Self {
        Order { rng: Rng::new(seed), places: (0..count).collect(), at: count }
    }

    fn next(&mut self, batch: usize) -> Vec<usize> {
        if self.at >= self.places.len() {
            for i in (1..self.places.len()).rev() {
                self.places.swap(i, self.rng.below(i as u64 + 1) as usize);
            }
            self.at = 0;
        }
        let end = (self.at + batch).min(self.places.len());
        let next = self.places[self.at..end].to_vec();
        self.at = end;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_comes_once_an_epoch() {
        let mut order = Order::new(10, 3);
        let epoch = |order: &mut Order| -> Vec<usize> { (0..4).flat_map(|_| order.next(3)).collect() };
        let (first, second) = (epoch(&mut order), epoch(&mut order));
        let sorted = |mut places: Vec<usize>| {
            places.sort_unstable();
            places
        };
        assert_ne!(first, second);
        assert_eq!(sorted(first), (0..10).collect::<Vec<_>>());
        assert_eq!(sorted(second), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn the_rate_rises_then_falls_to_nearly_nothing() {
        let factors: Vec<f32> = (0..10).map(|step| lr_factor(step, 10, 0.2)).collect();
        assert_eq!(factors[..3], [1.0 / 3.0, 2.0 / 3.0, 1.0]);
        assert_eq!(factors[9], 1.0 / 8.0);
    }
}
