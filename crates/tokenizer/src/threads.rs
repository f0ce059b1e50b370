//! How many threads the parallel parts of this crate use.

use std::sync::atomic::{AtomicUsize, Ordering};

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Sets the number of threads for batch encoding and training; 0 means one a core. Results never
/// depend on it.
pub fn set_threads(n: usize) {
    THREADS.store(n, Ordering::Relaxed);
}

/// The number of threads that the parallel parts use.
pub fn threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// Maps `work` over `items` on up to [`threads`] threads, each with a state of its own from
/// `init`, and returns the results in the order of the items. Items are handed out in runs of
/// about `grain` weight, so that many small ones do not fight over the counter.
pub(crate) fn parallel_map<T: Sync, S, R: Send>(
    items: &[T],
    weight: impl Fn(&T) -> usize,
    grain: usize,
    init: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> R + Sync,
) -> Vec<R> {
    let mut runs = Vec::new();
    let (mut start, mut heavy) = (0, 0);
    for (index, item) in items.iter().enumerate() {
        heavy += weight(item);
        if heavy >= grain {
            runs.push(start..index + 1);
            (start, heavy) = (index + 1, 0);
        }
    }
    if start < items.len() {
        runs.push(start..items.len());
    }
    let workers = threads().min(runs.len());
    if workers <= 1 {
        let mut state = init();
        return items.iter().map(|item| work(&mut state, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut state = init();
        let mut done = Vec::new();
        while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let results: Vec<R> = items[run.clone()].iter().map(|item| work(&mut state, item)).collect();
            done.push((run.start, results));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(worker)).collect();
        let mut done = worker();
        for other in others {
            match other.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(start, _)| *start);
    done.into_iter().flat_map(|(_, results)| results).collect()
}
