//! The thread that runs a model: requests go in, what comes of them goes out as it comes, each through a channel of
//! its own. A reader that is slow or gone holds nobody up.

use hearth_engine::{Engine, EngineError, Event, Finished, Request, Schedule, ScheduleLimits, TokenLogprobs};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What comes of a request.
#[derive(Debug)]
pub enum Update {
    /// More text of one of its continuations, with the log-probabilities of its tokens if they are wanted.
    Text {
        /// Index of the continuation.
        sequence: usize,
        /// The text.
        text: String,
        /// Of its tokens.
        logprobs: Vec<TokenLogprobs>,
    },
    /// A continuation is complete.
    Finished(Box<Finished>),
    /// The request was refused, or something went wrong with it; nothing follows.
    Failed(EngineError),
    /// It took longer than it may; nothing follows.
    TimedOut,
}

/// A request for a worker.
struct Job {
    request: Request,
    client: u64,
    deadline: Instant,
    updates: UnboundedSender<Update>,
}

/// What a worker does now, for those who look from outside.
#[derive(Debug, Default)]
pub struct Load {
    /// Continuations under way.
    pub running: AtomicUsize,
    /// Requests that wait.
    pub waiting: AtomicUsize,
    /// Bytes of keys and values.
    pub cache_bytes: AtomicUsize,
}

/// A model's thread. It ends when this is dropped, after what is under way was cancelled.
#[derive(Debug)]
pub struct Worker {
    jobs: Option<mpsc::Sender<Box<Job>>>,
    thread: Option<JoinHandle<()>>,
    load: Arc<Load>,
}

/// How a model is run.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Adapters that requests may choose from, in the order of their numbers.
    pub adapters: Vec<PathBuf>,
    /// Most continuations at once.
    pub together: usize,
    /// Most requests that wait.
    pub waiting: usize,
    /// Bytes that keys and values may take.
    pub cache_bytes: usize,
}

/// Sequences that ended are kept for prompts that begin like them, so many at most.
const KEPT: usize = 256;

impl Worker {
    /// Opens a model on a thread of its own; `describe` takes from it what the outside needs to know.
    ///
    /// # Errors
    /// If the model can't be opened.
    pub fn start<T: Send + 'static>(
        open: impl FnOnce() -> Result<Engine, EngineError> + Send + 'static,
        options: WorkerOptions,
        describe: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<(Self, T), EngineError> {
        let (jobs, received) = mpsc::channel();
        let (opened, result) = mpsc::channel();
        let load = Arc::new(Load::default());
        let shared = load.clone();
        let run = move || {
            let made = open().and_then(|mut engine| {
                for dir in &options.adapters {
                    engine.add_adapter(dir)?;
                }
                let told = describe(&engine)?;
                Ok((engine, told))
            });
            let (mut engine, told) = match made {
                Ok(made) => made,
                Err(error) => return drop(opened.send(Err(error))),
            };
            if opened.send(Ok(told)).is_err() {
                return;
            }
            engine.keep_prefixes(KEPT);
            let pages = (options.cache_bytes / engine.runner().pages().page_bytes()).max(1);
            let limits = ScheduleLimits { together: options.together, pages, waiting: options.waiting };
            Running::new(engine, limits, shared).run(&received);
        };
        let thread = std::thread::Builder::new().name("model".into()).spawn(run)?;
        let told = result.recv().map_err(|_| EngineError::Interrupted)??;
        Ok((Worker { jobs: Some(jobs), thread: Some(thread), load }, told))
    }

    /// Hands a request over; what comes of it is received, and dropping the receiver cancels it.
    pub fn submit(&self, request: Request, client: u64, limit: Duration) -> UnboundedReceiver<Update> {
        let (updates, received) = unbounded_channel();
        let job = Box::new(Job { request, client, deadline: Instant::now() + limit, updates });
        if let Some(Err(mpsc::SendError(job))) = self.jobs.as_ref().map(|jobs| jobs.send(job)) {
            let _ = job.updates.send(Update::Failed(EngineError::Interrupted));
        }
        received
    }

    /// What it does now.
    pub fn load(&self) -> &Load {
        &self.load
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The inside of the thread.
struct Running {
    engine: Engine,
    schedule: Schedule,
    open: HashMap<usize, Open>,
    next_id: usize,
    load: Arc<Load>,
}

/// A request under way.
struct Open {
    updates: UnboundedSender<Update>,
    deadline: Instant,
    left: usize,
}

impl Running {
    fn new(engine: Engine, limits: ScheduleLimits, load: Arc<Load>) -> Self {
        Running { engine, schedule: Schedule::new(limits), open: HashMap::new(), next_id: 0, load }
    }

    /// Until nobody can send requests any more.
    fn run(&mut self, jobs: &mpsc::Receiver<Box<Job>>) {
        loop {
            if self.schedule.is_idle() {
                self.tell_load();
                match jobs.recv() {
                    Ok(job) => self.take(*job),
                    Err(mpsc::RecvError) => return,
                }
            }
            loop {
                match jobs.try_recv() {
                    Ok(job) => self.take(*job),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            self.drop_left();
            self.tell_load();
            if let Err(error) = self.step() {
                // The model itself can't be run: everyone hears of it, and the next request tries again.
                let problem = error.to_string();
                self.schedule = Schedule::new(self.schedule.limits());
                for (_, open) in self.open.drain() {
                    let _ =
                        open.updates.send(Update::Failed(EngineError::Failed { problem: problem.clone() }));
                }
            }
        }
    }

    fn take(&mut self, job: Job) {
        let Job { request, client, deadline, updates } = job;
        let (id, n) = (self.next_id, request.n);
        self.next_id += 1;
        match self.schedule.submit(&self.engine, id, client, request) {
            Ok(()) => drop(self.open.insert(id, Open { updates, deadline, left: n })),
            Err(error) => drop(updates.send(Update::Failed(error))),
        }
    }

    /// Cancels what nobody waits for any more, and what has run for too long.
    fn drop_left(&mut self) {
        let now = Instant::now();
        let schedule = &mut self.schedule;
        self.open.retain(|&id, open| {
            let (gone, late) = (open.updates.is_closed(), now >= open.deadline);
            if gone || late {
                schedule.cancel(id);
                let _ = open.updates.send(Update::TimedOut);
            }
            !(gone || late)
        });
    }

    fn step(&mut self) -> Result<(), EngineError> {
        let open = &self.open;
        let finished = self.schedule.step(&mut self.engine, |event| {
            if let Event::Text { request, sequence, text, logprobs } = event
                && let Some(open) = open.get(&request)
            {
                let (text, logprobs) = (text.to_owned(), logprobs.to_vec());
                let _ = open.updates.send(Update::Text { sequence, text, logprobs });
            }
            ControlFlow::Continue(())
        })?;
        for one in finished {
            let Some(open) = self.open.get_mut(&one.id) else { continue };
            open.left -= 1;
            let over = open.left == 0 || one.completion.is_err();
            let id = one.id;
            let _ = match one.completion {
                Err(error) => open.updates.send(Update::Failed(error)),
                Ok(_) => open.updates.send(Update::Finished(Box::new(one))),
            };
            if over {
                self.open.remove(&id);
            }
        }
        Ok(())
    }

    fn tell_load(&self) {
        let pages = self.engine.runner().pages();
        self.load.running.store(self.schedule.running(), Ordering::Relaxed);
        self.load.waiting.store(self.schedule.waiting(), Ordering::Relaxed);
        self.load.cache_bytes.store(pages.alive() * pages.page_bytes(), Ordering::Relaxed);
    }
}
