//! Where the time of a thread goes: calls, nanoseconds, floating-point operations and bytes by the
//! operation's name.
//!
//! A [`step`] is what is measured, an [`operation`] a part of it. Both cost a look at a thread-local
//! unless the thread is between [`start`] and [`stop`]. Operations don't nest: one inside another is the
//! outer one's time, and one outside any step isn't counted.

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// What an operation has to do, as its definition says and not as a kernel happens to do it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Floating-point operations, a multiply-add being two; 0 where moving the values is the work.
    pub flops: f64,
    /// Bytes of all operands and results, each counted once.
    pub bytes: f64,
}

impl Work {
    /// A matrix product of `m`×`k` and `k`×`n` values in `f32`.
    pub fn product(m: usize, k: usize, n: usize) -> Self {
        let (m, k, n) = (m as f64, k as f64, n as f64);
        Work { flops: 2.0 * m * k * n, bytes: 4.0 * (m * k + k * n + m * n) }
    }

    /// A pass over so many `f32` values, reads and writes together.
    pub fn values(values: usize) -> Self {
        Work { flops: 0.0, bytes: 4.0 * values as f64 }
    }
}

/// An [`operation`] that is a pass over so many `f32` values, reads and writes together.
#[inline]
pub fn pass<R>(name: &str, values: usize, f: impl FnOnce() -> R) -> R {
    operation(name, String::new, || Work::values(values), f)
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Work>>(parts: I) -> Self {
        parts.fold(Work::default(), |a, b| Work { flops: a.flops + b.flops, bytes: a.bytes + b.bytes })
    }
}

/// All calls of one name.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The operation.
    pub name: String,
    /// How often it ran.
    pub calls: u64,
    /// Wall time of all calls together.
    pub time: Duration,
    /// What all calls together had to do.
    pub work: Work,
}

/// Some steps and what they were made of.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// How many.
    pub steps: u64,
    /// Wall time of all steps together.
    pub time: Duration,
    /// Their operations; what is left of the steps' time lies between them.
    pub entries: Vec<Entry>,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Outside,
    Step,
    Operation,
}

thread_local! {
    static PROFILE: RefCell<Option<(Profile, Place)>> = const { RefCell::new(None) };
}

/// Measures this thread's steps from now on, from zero.
pub fn start() {
    PROFILE.set(Some((Profile::default(), Place::Outside)));
}

/// Ends measuring; what was measured, the longest operation first. Nothing if nothing was started.
pub fn stop() -> Profile {
    let mut profile = PROFILE.take().map(|(p, _)| p).unwrap_or_default();
    profile.entries.sort_by_key(|e| std::cmp::Reverse(e.time));
    profile
}

/// Goes from one place to the one inside it; false if this thread is elsewhere, or isn't measured.
fn enter(from: Place, to: Place) -> bool {
    PROFILE.with_borrow_mut(|p| match p {
        Some((_, place)) if *place == from => {
            *place = to;
            true
        }
        _ => false,
    })
}

/// Runs `f` as a step.
pub fn step<R>(f: impl FnOnce() -> R) -> R {
    if !enter(Place::Outside, Place::Step) {
        return f();
    }
    let begun = Instant::now();
    let result = f();
    let time = begun.elapsed();
    PROFILE.with_borrow_mut(|p| {
        let Some((profile, place)) = p else { return };
        *place = Place::Outside;
        profile.steps += 1;
        profile.time += time;
    });
    result
}

/// Runs `f` as the operation `name`; `detail`, such as the operands' shape, sets it apart from its like.
#[inline]
pub fn operation<R>(
    name: &str,
    detail: impl FnOnce() -> String,
    work: impl FnOnce() -> Work,
    f: impl FnOnce() -> R,
) -> R {
    if !enter(Place::Step, Place::Operation) {
        return f();
    }
    let begun = Instant::now();
    let result = f();
    let time = begun.elapsed();
    let detail = detail();
    let name = if detail.is_empty() { name.to_owned() } else { format!("{name} {detail}") };
    PROFILE.with_borrow_mut(|p| {
        let Some((Profile { entries, .. }, place)) = p else { return };
        *place = Place::Step;
        let at = entries.iter().position(|e| e.name == name).unwrap_or_else(|| {
            entries.push(Entry { name, calls: 0, time: Duration::ZERO, work: Work::default() });
            entries.len() - 1
        });
        let (entry, work) = (&mut entries[at], work());
        entry.calls += 1;
        entry.time += time;
        entry.work.flops += work.flops;
        entry.work.bytes += work.bytes;
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_name_add_up_and_inner_ones_belong_to_the_outer() {
        let inner = || operation("inner", String::new, || Work::values(1), || 1);
        let outer = || operation("outer", || "2x3".into(), || Work::product(2, 1, 3), inner);
        assert_eq!(step(outer), 1, "runs when nothing is measured");
        start();
        assert_eq!(step(|| outer() + outer() + inner()), 3);
        assert_eq!(outer(), 1, "runs outside a step");
        let mut profile = stop();
        profile.entries.sort_by(|a, b| a.name.cmp(&b.name));
        let seen: Vec<_> =
            profile.entries.iter().map(|e| (&e.name[..], e.calls, e.work.flops, e.work.bytes)).collect();
        assert_eq!(seen, [("inner", 1, 0.0, 4.0), ("outer 2x3", 2, 24.0, 88.0)]);
        assert_eq!(profile.steps, 1);
        assert!(profile.time >= profile.entries.iter().map(|e| e.time).sum());
        assert_eq!(stop().steps, 0);
    }
}
