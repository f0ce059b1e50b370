//! The thread pool: persistent, cheap to enter, the same work split whatever the thread count.
//!
//! [`parallel_for`] runs `f(0) … f(tasks-1)`. Tasks are claimed from a counter, so which thread runs
//! a task is open, but what a task computes is not: callers cut the work by its shape alone, and a
//! result doesn't depend on the number of threads. A worker spins for `SPIN` rounds after a job
//! (decoding enters the pool hundreds of times a token) and then sleeps. A caller never waits for a
//! worker that hasn't joined its job, so an idle machine and a busy one both make progress.

use crate::arch;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

/// Rounds that an idle thread spins before it sleeps: some tens of microseconds.
const SPIN: u32 = 4_000;

/// The bit of the gate that refuses further joiners; below it, the number of threads inside.
const CLOSED: u64 = 1 << 31;
const GENERATION: u64 = 1 << 32;

/// What a job's threads share; lives on the stack of the caller until all have left.
struct Job<'a> {
    run: &'a (dyn Fn(usize) + Sync),
    tasks: usize,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    isa: arch::Isa,
}

impl Job<'_> {
    fn work(&self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = self.next.fetch_add(1, Ordering::Relaxed);
                if task >= self.tasks {
                    break;
                }
                (self.run)(task);
            }
        }));
        if let Err(payload) = outcome {
            self.next.store(self.tasks, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(payload);
        }
    }
}

struct Shared {
    /// Generation in the high half; closed bit and joined count in the low half.
    gate: AtomicU64,
    job: AtomicUsize,
    /// Workers with a number at or above this one sit jobs out.
    workers: AtomicUsize,
}

struct Worker {
    thread: thread::Thread,
    asleep: Arc<AtomicBool>,
}

struct Pool {
    shared: Arc<Shared>,
    workers: Mutex<Vec<Worker>>,
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| {
        let shared =
            Shared { gate: AtomicU64::new(CLOSED), job: AtomicUsize::new(0), workers: AtomicUsize::new(0) };
        let pool = Pool { shared: Arc::new(shared), workers: Mutex::new(Vec::new()) };
        let threads = thread::available_parallelism().map_or(1, |n| n.get());
        pool.grow(threads);
        pool
    })
}

impl Pool {
    fn grow(&self, threads: usize) {
        let wanted = threads.max(1) - 1;
        let mut workers = self.workers.lock().unwrap_or_else(|e| e.into_inner());
        while workers.len() < wanted {
            let number = workers.len();
            let shared = self.shared.clone();
            let asleep = Arc::new(AtomicBool::new(false));
            let flag = asleep.clone();
            let spawned = thread::Builder::new()
                .name(format!("hearth-{}", number + 1))
                .spawn(move || worker_loop(&shared, number, &flag));
            match spawned {
                Ok(handle) => workers.push(Worker { thread: handle.thread().clone(), asleep }),
                // Fewer threads than asked still give the same results, only later.
                Err(_) => break,
            }
        }
        self.shared.workers.store(wanted.min(workers.len()), Ordering::SeqCst);
    }
}

fn worker_loop(shared: &Shared, number: usize, asleep: &AtomicBool) {
    INSIDE.set(true);
    let mut seen = 0;
    loop {
        let mut gate = shared.gate.load(Ordering::Acquire);
        let mut spins = 0;
        while gate / GENERATION == seen || gate & CLOSED != 0 {
            if spins < SPIN {
                spins += 1;
                std::hint::spin_loop();
            } else {
                asleep.store(true, Ordering::SeqCst);
                gate = shared.gate.load(Ordering::SeqCst);
                if gate / GENERATION == seen || gate & CLOSED != 0 {
                    thread::park();
                }
                asleep.store(false, Ordering::SeqCst);
                spins = 0;
            }
            gate = shared.gate.load(Ordering::Acquire);
        }
        seen = gate / GENERATION;
        if number >= shared.workers.load(Ordering::SeqCst) {
            continue;
        }
        // Join unless the caller has closed the job in the meantime.
        while gate / GENERATION == seen && gate & CLOSED == 0 {
            match shared.gate.compare_exchange_weak(gate, gate + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // SAFETY: the job outlives every thread that joined through the gate: its owner
                    // closes the gate and waits until the joined count is back at zero.
                    let job = unsafe { &*(shared.job.load(Ordering::Acquire) as *const Job<'_>) };
                    arch::adopt(job.isa);
                    job.work();
                    shared.gate.fetch_sub(1, Ordering::Release);
                    break;
                }
                Err(now) => gate = now,
            }
        }
    }
}

/// Sets how many threads work, the caller's included; 1 runs everything on the caller.
pub fn set_threads(threads: usize) {
    pool().grow(threads);
}

/// How many threads work, the caller's included.
pub fn threads() -> usize {
    pool().shared.workers.load(Ordering::SeqCst) + 1
}

/// How many threads a [`parallel_for`] from here would use: one inside a task.
pub(crate) fn threads_here() -> usize {
    if INSIDE.get() { 1 } else { threads() }
}

/// Runs `f(0) … f(tasks-1)`, each once, on the pool's threads and the caller's.
///
/// Inside a task, or while another thread's job holds the pool, everything runs on the caller. A
/// panic in a task is passed on once all threads have left the job.
pub fn parallel_for(tasks: usize, f: impl Fn(usize) + Sync) {
    static ENTRY: Mutex<()> = Mutex::new(());
    let pool = pool();
    let workers = pool.shared.workers.load(Ordering::Relaxed);
    let alone = tasks <= 1 || workers == 0 || INSIDE.get();
    let entry = if alone { None } else { ENTRY.try_lock().ok() };
    let Some(_entry) = entry else {
        (0..tasks).for_each(f);
        return;
    };
    let job =
        Job { run: &f, tasks, next: AtomicUsize::new(0), panic: Mutex::new(None), isa: arch::current() };
    let shared = &pool.shared;
    shared.job.store(&raw const job as usize, Ordering::Release);
    let generation = shared.gate.load(Ordering::Relaxed) / GENERATION + 1;
    shared.gate.store((generation & 0x7fff_ffff) * GENERATION, Ordering::SeqCst);
    if let Ok(list) = pool.workers.try_lock() {
        for worker in list.iter().take(workers.min(tasks - 1)) {
            if worker.asleep.load(Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
    }
    INSIDE.set(true);
    job.work();
    INSIDE.set(false);
    shared.gate.fetch_or(CLOSED, Ordering::AcqRel);
    let mut spins = 0u32;
    while shared.gate.load(Ordering::Acquire) & (CLOSED - 1) != 0 {
        spins += 1;
        if spins < SPIN {
            std::hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
    drop(_entry);
    if let Some(payload) = job.panic.into_inner().unwrap_or_else(|e| e.into_inner()) {
        resume_unwind(payload);
    }
}

/// A slice that tasks may write at places that don't overlap.
///
/// Kernels use it to hand each task its own rows; the safe form is [`parallel_chunks_mut`].
pub(crate) struct Shards<T> {
    ptr: *mut T,
    len: usize,
}

// SAFETY: `Shards` only hands out parts through an unsafe method whose callers vouch that no two
// threads hold overlapping parts.
unsafe impl<T: Send> Sync for Shards<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shards<T> {}

impl<T> Shards<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Shards { ptr: slice.as_mut_ptr(), len: slice.len() }
    }

    /// The same slice from `start` on.
    pub(crate) fn tail(&self, start: usize) -> Self {
        assert!(start <= self.len);
        // SAFETY: in bounds by the assertion.
        Shards { ptr: unsafe { self.ptr.add(start) }, len: self.len - start }
    }

    /// The part `start..start+len`.
    ///
    /// # Safety
    /// The part must not overlap one that is still in use, and the slice must outlive it.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: in bounds by the assertion, unaliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }
}

/// Runs `f(i, chunk_i)` over consecutive chunks of `data`, the last one shorter if need be.
pub fn parallel_chunks_mut<T: Send>(data: &mut [T], chunk_len: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let (len, chunk_len) = (data.len(), chunk_len.max(1));
    let shards = Shards::new(data);
    parallel_for(len.div_ceil(chunk_len), |i| {
        let start = i * chunk_len;
        // SAFETY: chunk `i` is handed out once, and chunks don't overlap.
        f(i, unsafe { shards.part(start, chunk_len.min(len - start)) });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for tasks in [0, 1, 2, 3, 64, 1000] {
            let hits: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            parallel_for(tasks, |i| {
                hits[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1), "{tasks} tasks");
        }
    }

    #[test]
    fn nested_and_concurrent_calls_finish() {
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        parallel_for(8, |_| {
                            parallel_for(4, |_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 200 * 32);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let caught = catch_unwind(|| parallel_for(100, |i| assert!(i != 57, "task fifty-seven")));
        assert!(caught.is_err());
        let mut data = vec![0u32; 1000];
        parallel_chunks_mut(&mut data, 7, |i, chunk| chunk.fill(i as u32));
        assert!(data.iter().enumerate().all(|(i, &x)| x == i as u32 / 7));
    }
}
