//! The training loop: steps, looks at held-out text, samples, checkpoints, and what is left at the end.

use crate::card::{self, Card};
use crate::checkpoint::{Checkpoints, RunState, SourceFile};
use crate::curves;
use crate::error::TrainError;
use crate::evaluate::{Score, TokenLengths, ngram_floor, spread_tokens};
use crate::network::{Network, Pretrained};
use crate::optimizer::Optimizer;
use crate::power::PowerMeter;
use crate::prepare::{Prepared, source_file};
use crate::pretrain::{Floor, Observer, Summary};
use crate::recipe::{BatchOrder, Recipe};
use crate::runlog::{self, Record, RunLog};
use crate::schedule::Schedule;
use hearth_data::{BatchMode, BatchOptions, Batches, Shard};
use hearth_engine::{Engine, Prompt, Request, Sampling};
use hearth_kernel::buffer::memory_in_use;
use hearth_kernel::profile;
use hearth_model::{Decoder, Weights};
use hearth_tensor::nn::CrossEntropyOptions;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Steps at least, and seconds, of the timing that decides how many steps fit into a given time.
const LEAST_TRIALS: usize = 4;
const TRIAL_SECONDS: f64 = 3.0;

/// A run in memory.
pub(crate) struct Trainer {
    recipe: Recipe,
    prepared: Prepared,
    lengths: TokenLengths,
    network: Network,
    weights: Weights,
    optimizer: Optimizer,
    batches: Batches,
    schedule: Option<Schedule>,
    state: RunState,
    checkpoints: Checkpoints,
    run: PathBuf,
    log: Option<RunLog>,
    power: Option<PowerMeter>,
    /// The weights that the run began with, if it didn't begin with random ones.
    from: Option<SourceFile>,
}

impl Trainer {
    /// A run of prepared text before its first step.
    pub(crate) fn new(
        mut recipe: Recipe,
        pretrained: Option<Pretrained>,
        prepared: Prepared,
        checkpoints: Checkpoints,
        run: &Path,
    ) -> Result<Self, TrainError> {
        let config = match &pretrained {
            Some(pretrained) => pretrained.config(),
            None => recipe.resolve(prepared.tokenizer.vocab_size())?,
        };
        let (rows, tokens) = (config.vocab_size(), prepared.tokenizer.vocab_size());
        if tokens > rows {
            return Err(TrainError::Recipe {
                place: "recipe".into(),
                problem: format!("the tokenizer has {tokens} tokens, but the model has room for {rows}"),
            });
        }
        let from = recipe.model.from.as_ref().map(|from| weights_of(Path::new(from))).transpose()?;
        let (network, weights) = Network::new(&recipe, config, pretrained, &prepared.tokenizer)?;
        let optimizer = Optimizer::new(recipe.optimizer.settings(), network.specs());
        let options = batch_options(&recipe, network.framed_by())?;
        let batches = Batches::new(prepared.training.clone(), options)?;
        Ok(Trainer {
            lengths: TokenLengths::of(&prepared.tokenizer),
            network,
            log: None,
            state: RunState {
                step: 0,
                tokens: 0,
                seconds: 0.0,
                joules: None,
                batches: batches.state(),
                tokenizer_hash: prepared.tokenizer.hash().to_owned(),
                data_hash: data_hash(&prepared),
                sources: prepared.sources.clone(),
            },
            prepared,
            weights,
            optimizer,
            batches,
            recipe,
            schedule: None,
            checkpoints,
            run: run.to_owned(),
            power: PowerMeter::open(),
            from,
        })
    }

    /// The first time: decides the steps, saves the recipe, scores the n-gram model.
    pub(crate) fn begin(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        if let Network::Causal(model) = &self.network {
            self.prompts(model.decoder())?;
        }
        let steps = match self.recipe.train.steps {
            Some(steps) => steps,
            None => self.steps_in_time(observer)?,
        };
        self.settle(steps, observer)?;
        hearth_tokenizer::replace_file(&self.run.join("recipe.toml"), self.recipe.to_toml().as_bytes())?;
        self.log = Some(RunLog::open(&self.run.join("run.jsonl"), 0)?);
        let (config, share) = (self.network.config(), self.recipe.objective.mask_share);
        self.write(
            Record::Start {
                step: 0,
                steps,
                params: self.network.n_params(),
                flops_per_token: config.train_flops_per_token(self.context(), share),
                unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            },
            observer,
        )?;
        self.count_ngrams(steps, observer)?;
        self.look(observer)
    }

    /// Scores n-gram models of all training tokens, and of as many as the run will see.
    fn count_ngrams(&mut self, steps: u64, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let order = self.recipe.train.ngram_order;
        if order == 0 {
            return Ok(());
        }
        observer.stage(&format!("the floor: Kneser-Ney {order}-gram models of the same text"));
        let vocab = self.prepared.tokenizer.vocab_size();
        let training = self.prepared.training.clone();
        let options = self.batches.options();
        let seen = steps as usize * self.recipe.train.accumulate * options.batch * options.context;
        let mut limits = vec![training.len()];
        limits.extend((seen < training.len()).then_some(seen));
        for limit in limits {
            let tokens = spread_tokens(&training, limit);
            let floor = ngram_floor(&tokens, &self.prepared.heldout, &self.lengths, order, vocab)?;
            let record = Record::Ngram {
                order,
                tokens: tokens.len() as u64,
                val_loss: floor.loss(),
                val_bits_per_byte: floor.bits_per_byte(),
            };
            self.write(record, observer)?;
            if observer.stop() {
                return Err(TrainError::Stopped);
            }
        }
        Ok(())
    }

    /// The steps that fit into the recipe's minutes, by the time of a few passes that change nothing.
    fn steps_in_time(&mut self, observer: &mut dyn Observer) -> Result<u64, TrainError> {
        observer.stage("timing a few steps");
        let options = *self.batches.options();
        let mut trial = Batches::new(self.prepared.training.clone(), options)?;
        let mut fastest = f64::INFINITY;
        // Copies of the weights share their gradients, and are copied as soon as they change.
        let mut weights = self.weights.clone();
        let mut rehearsal = Optimizer::new(self.recipe.optimizer.settings(), self.network.specs());
        // Long enough for the processor to reach its pace, and short beside the run.
        let begun = Instant::now();
        for step in 0.. {
            if step >= LEAST_TRIALS && begun.elapsed().as_secs_f64() > TRIAL_SECONDS {
                break;
            }
            let start = Instant::now();
            for _ in 0..self.recipe.train.accumulate {
                let number = trial.state().step;
                let batch = trial.next();
                let draws = (self.recipe.seed, number);
                let (out, _) = self.network.loss(&self.weights, &batch, draws, &self.loss())?;
                out.loss.backward()?;
            }
            rehearsal.step(&mut weights, 1.0)?;
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        // Looks and samples take a part; a busy machine is slower than its fastest step.
        let seconds = self.recipe.train.minutes.unwrap_or(1.0) * 60.0 * 0.92;
        Ok(((seconds / fastest) as u64).max(10))
    }

    fn settle(&mut self, steps: u64, observer: &mut dyn Observer) -> Result<(), TrainError> {
        self.recipe.resolve_steps(steps);
        let train = &self.recipe.train;
        self.schedule = Some(Schedule {
            kind: train.schedule,
            steps,
            warmup: train.warmup.unwrap_or(0),
            decay: train.decay,
            floor: train.floor,
        });
        observer.resolved(&self.recipe, &self.network.config(), self.network.n_params(), steps);
        Ok(())
    }

    /// Goes on from a checkpoint, provided that nothing it depends on has changed.
    pub(crate) fn restore(&mut self, path: &Path, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let saved = Recipe::read(&self.run.join("recipe.toml"))?;
        if self.recipe.train.steps.is_none() {
            self.recipe.train.steps = saved.train.steps;
        }
        let steps = self.recipe.train.steps.unwrap_or(1);
        self.settle(steps, observer)?;
        let differing = saved.differences(&self.recipe);
        if !differing.is_empty() {
            return Err(TrainError::Folder {
                folder: self.run.clone(),
                problem: format!(
                    "this run was started with another recipe: {}\nhint: resume with the recipe it was started with",
                    differing.join("; ")
                ),
            });
        }
        let (tokenizer_hash, data_hash) = (self.state.tokenizer_hash.clone(), self.state.data_hash.clone());
        self.state = Checkpoints::load(path, self.network.specs(), &mut self.weights, &mut self.optimizer)?;
        if (&self.state.tokenizer_hash, &self.state.data_hash) != (&tokenizer_hash, &data_hash) {
            return Err(TrainError::Checkpoint {
                path: path.to_owned(),
                problem: "the text has changed since this checkpoint was written\nhint: start a new run with another --out".into(),
            });
        }
        if let (Some(power), Some(joules)) = (&mut self.power, self.state.joules) {
            power.add(joules);
        }
        let options = *self.batches.options();
        self.batches = Batches::resume(self.prepared.training.clone(), options, self.state.batches)?;
        self.log = Some(RunLog::open(&self.run.join("run.jsonl"), self.state.step)?);
        observer.stage(&format!("resuming after step {}", self.state.step));
        Ok(())
    }

    fn loss(&self) -> CrossEntropyOptions {
        let train = &self.recipe.train;
        CrossEntropyOptions { label_smoothing: train.label_smoothing, z_loss: train.z_loss, chunk: 0 }
    }

    fn write(&mut self, record: Record, observer: &mut dyn Observer) -> Result<(), TrainError> {
        if let Some(log) = &mut self.log {
            log.write(&record)?;
        }
        observer.record(&record);
        Ok(())
    }

    /// The steps that are left, to the end or until the observer stops.
    pub(crate) fn train(mut self, observer: &mut dyn Observer) -> Result<Summary, TrainError> {
        let steps = self.recipe.train.steps.unwrap_or(0);
        let started = Instant::now();
        let earlier = self.state.seconds;
        let mut stopped = false;
        while self.state.step < steps {
            if let Err(error) = profile::step(|| self.step(observer, started, earlier)) {
                if matches!(error, TrainError::NotFinite { .. }) {
                    let reason = error.to_string();
                    self.write(Record::End { step: self.state.step, reason }, observer)?;
                }
                return Err(error);
            }
            let step = self.state.step;
            let due = |every: Option<u64>| every.is_some_and(|n| n > 0 && step.is_multiple_of(n));
            let (look, sample) = (due(self.recipe.train.eval_every), due(self.recipe.train.sample_every));
            let save = due(self.recipe.train.checkpoint_every);
            stopped = observer.stop() && step < steps;
            if look && step < steps {
                self.look(observer)?;
            }
            if sample && step < steps {
                self.sample(observer)?;
            }
            self.state.seconds = earlier + started.elapsed().as_secs_f64();
            if save || stopped || step == steps {
                self.save_checkpoint(observer)?;
            }
            if stopped {
                break;
            }
        }
        self.finish(steps, stopped, observer)
    }

    /// One optimiser step.
    fn step(
        &mut self,
        observer: &mut dyn Observer,
        started: Instant,
        earlier: f64,
    ) -> Result<(), TrainError> {
        let begun = Instant::now();
        let factor = self.schedule.map_or(1.0, |s| s.factor(self.state.step));
        let accumulate = self.recipe.train.accumulate;
        let (mut loss, mut tokens) = (0.0f64, 0);
        for part in 0..accumulate {
            let draws = (self.recipe.seed, self.batches.state().step);
            let batch = self.batches.next();
            let seed = self.recipe.seed.wrapping_add(self.state.step * accumulate as u64 + part as u64);
            self.network.set_dropout(self.recipe.train.dropout, seed);
            let (out, scored) = self.network.loss(&self.weights, &batch, draws, &self.loss())?;
            let value = out.loss.item()?;
            if !value.is_finite() {
                return Err(TrainError::NotFinite { what: "the loss", step: self.state.step });
            }
            if accumulate == 1 {
                out.loss.backward()?;
            } else {
                out.loss.scale(1.0 / accumulate as f32).backward()?;
            }
            loss += f64::from(value) / accumulate as f64;
            tokens += scored as u64;
        }
        let grad_norm = self.optimizer.step(&mut self.weights, factor)?;
        self.state.step += 1;
        self.state.tokens += tokens;
        self.state.batches = self.batches.state();
        let record = Record::Step {
            step: self.state.step,
            loss: loss as f32,
            lr_factor: factor,
            grad_norm,
            tokens: self.state.tokens,
            tokens_per_second: tokens as f64 / begun.elapsed().as_secs_f64(),
            seconds: earlier + started.elapsed().as_secs_f64(),
            memory_bytes: memory_in_use().0,
            watts: self.power.as_mut().and_then(PowerMeter::watts),
        };
        self.write(record, observer)
    }

    /// A look at a part of the held-out text.
    fn look(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let score = self.score(&self.prepared.heldout.clone(), Some(self.recipe.train.eval_tokens))?;
        self.write(self.looked(&score), observer)?;
        curves::draw(&runlog::read(&self.run.join("run.jsonl"))?, &self.run.join("curves.svg"))
    }

    fn score(&mut self, heldout: &Shard, limit: Option<usize>) -> Result<Score, TrainError> {
        let context = self.context();
        self.network.score(&self.weights, heldout, &self.lengths, context, limit)
    }

    /// What a look came to.
    fn looked(&self, score: &Score) -> Record {
        Record::Eval {
            step: self.state.step,
            val_loss: score.loss(),
            val_bits_per_byte: score.bits_per_byte(),
            val_accuracy: score.accuracy(),
            seconds: self.state.seconds,
        }
    }

    /// T.
    fn context(&self) -> usize {
        self.recipe.model.context.unwrap_or_else(|| self.network.config().max_positions())
    }

    /// What a decoder writes after each prompt, by the same draws every time.
    fn sample(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        let Network::Causal(model) = &self.network else { return Ok(()) };
        let tokenizer = self.prepared.tokenizer.clone();
        let decoder = model.decoder().clone();
        let prompts = self.prompts(&decoder)?;
        let mut engine = Engine::new(decoder, &self.weights, tokenizer)?;
        let requests: Vec<Request> = prompts.into_iter().map(|prompt| self.request(prompt)).collect();
        let (completions, _) = engine.generate(&requests, |_| ControlFlow::Continue(()))?;
        for completion in completions {
            let Prompt::Tokens(prompt) = &requests[completion.request].prompt else { continue };
            let text = self.prepared.tokenizer.decode(prompt, true)? + &completion.text;
            self.write(Record::Sample { step: self.state.step, text }, observer)?;
        }
        Ok(())
    }

    /// The recipe's prompts; without any, the beginning of a text, or of the held-out one.
    fn prompts(&self, decoder: &Decoder) -> Result<Vec<Vec<u32>>, TrainError> {
        let tokenizer = &self.prepared.tokenizer;
        let context = decoder.config().max_positions;
        let mut prompts = Vec::new();
        for text in &self.recipe.train.prompts {
            let tokens = tokenizer.encode(text)?;
            if tokens.is_empty() || tokens.len() >= context {
                let problem = format!(
                    "train.prompts: {text:?} has {} tokens, expected 1 to {}",
                    tokens.len(),
                    context.saturating_sub(1)
                );
                return Err(TrainError::Recipe { place: "recipe".into(), problem });
            }
            prompts.push(tokens);
        }
        if prompts.is_empty() {
            prompts.push(match tokenizer.bos().or(tokenizer.eos()) {
                Some(start) => vec![start],
                None => self.prepared.heldout.tokens(0..self.prepared.heldout.len().min(8).min(context / 2)),
            });
        }
        Ok(prompts)
    }

    fn request(&self, prompt: Vec<u32>) -> Request {
        Request {
            prompt: Prompt::Tokens(prompt),
            sampling: Sampling {
                temperature: 0.8,
                top_p: 0.95,
                seed: self.recipe.seed,
                ..Sampling::default()
            },
            ..Request::new("", self.recipe.train.sample_tokens)
        }
    }

    fn save_checkpoint(&mut self, observer: &mut dyn Observer) -> Result<(), TrainError> {
        self.state.joules = self.power.as_ref().map(PowerMeter::joules);
        self.checkpoints.save(self.network.specs(), &self.weights, &self.optimizer, &self.state)?;
        self.write(Record::Checkpoint { step: self.state.step }, observer)
    }

    /// The last look, on all held-out text; the model and its card, unless stopped.
    fn finish(
        mut self,
        steps: u64,
        stopped: bool,
        observer: &mut dyn Observer,
    ) -> Result<Summary, TrainError> {
        let limit = stopped.then_some(self.recipe.train.eval_tokens);
        let heldout = self.score(&self.prepared.heldout.clone(), limit)?;
        let (step, seconds) = (self.state.step, self.state.seconds);
        if !stopped {
            self.write(self.looked(&heldout), observer)?;
            self.sample(observer)?;
        }
        let reason = if stopped { "stopped" } else { "done" };
        self.write(Record::End { step, reason: reason.into() }, observer)?;
        let records = runlog::read(&self.run.join("run.jsonl"))?;
        curves::draw(&records, &self.run.join("curves.svg"))?;
        let mut floors = records.iter().filter_map(|r| match *r {
            Record::Ngram { order, tokens, val_loss, val_bits_per_byte } => {
                Some(Floor { order, tokens, loss: val_loss, bits_per_byte: val_bits_per_byte })
            }
            _ => None,
        });
        let (ngram, ngram_same_tokens) = (floors.next(), floors.next());
        let tokens = self.state.tokens;
        let summary =
            Summary { heldout, ngram, ngram_same_tokens, steps: (step, steps), tokens, seconds, stopped };
        if !stopped {
            card::save_model(
                &self.run,
                &self.weights,
                &Card {
                    recipe: &self.recipe,
                    prepared: &self.prepared,
                    network: &self.network,
                    summary: &summary,
                    sources: &self.state.sources,
                    from: self.from.clone(),
                    joules: self.power.as_ref().map(PowerMeter::joules),
                },
            )?;
        }
        Ok(summary)
    }
}

fn data_hash(prepared: &Prepared) -> String {
    format!("{}/{}", prepared.training.header().sha256, prepared.heldout.header().sha256)
}

/// The file with a model's weights, by its hash: of a folder, of an adapter's folder, or the model itself.
fn weights_of(model: &Path) -> Result<SourceFile, TrainError> {
    if model.is_file() {
        return source_file(model);
    }
    let names = ["model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"];
    let path = names.map(|name| model.join(name)).into_iter().find(|path| path.is_file());
    source_file(&path.unwrap_or_else(|| model.join(names[0])))
}

/// How batches are cut, with room in each row for the tokens around a text.
fn batch_options(recipe: &Recipe, framed_by: usize) -> Result<BatchOptions, TrainError> {
    let mode = match recipe.train.order {
        BatchOrder::Random => BatchMode::Random,
        BatchOrder::Shuffled => BatchMode::Shuffled,
        BatchOrder::Packed => BatchMode::Packed,
    };
    let missing =
        |key: &str| TrainError::Recipe { place: "recipe".into(), problem: format!("{key} is not resolved") };
    let context = recipe.model.context.ok_or_else(|| missing("model.context"))?;
    if context <= framed_by + 1 {
        let problem = format!("model.context is {context}, expected at least {}", framed_by + 2);
        return Err(TrainError::Recipe { place: "recipe".into(), problem });
    }
    Ok(BatchOptions {
        context: context - framed_by,
        batch: recipe.train.batch.ok_or_else(|| missing("train.batch"))?,
        seed: recipe.seed,
        mode,
    })
}
