//! Where a step's time goes, as a table and as JSON.

use hearth_kernel::profile::Profile;
use serde_json::{Value, json};

/// A line of the table: the operation, and per step its calls, milliseconds, GFLOP and GB.
struct Row<'a> {
    name: &'a str,
    calls: f64,
    ms: f64,
    gflop: f64,
    gigabytes: f64,
}

fn rows(profile: &Profile) -> Vec<Row<'_>> {
    let steps = profile.steps.max(1) as f64;
    let mut rows: Vec<Row> = profile
        .entries
        .iter()
        .map(|e| Row {
            name: &e.name,
            calls: e.calls as f64 / steps,
            ms: e.time.as_secs_f64() * 1e3 / steps,
            gflop: e.work.flops / 1e9 / steps,
            gigabytes: e.work.bytes / 1e9 / steps,
        })
        .collect();
    let ms = step_ms(profile) - rows.iter().map(|r| r.ms).sum::<f64>();
    rows.push(Row { name: "between operations", calls: 0.0, ms, gflop: 0.0, gigabytes: 0.0 });
    rows
}

fn step_ms(profile: &Profile) -> f64 {
    profile.time.as_secs_f64() * 1e3 / profile.steps.max(1) as f64
}

/// A table to read, the longest operation first.
pub fn text(profile: &Profile) -> String {
    let rows = rows(profile);
    let width = rows.iter().map(|r| r.name.chars().count()).max().unwrap_or(0);
    let total = step_ms(profile);
    let some = |x: f64, digits: usize| if x > 0.0 { format!("{x:.digits$}") } else { String::new() };
    let mut out = format!("{:width$}  calls  ms/step  share  GFLOP/s   GB/s\n", "operation");
    for r in &rows {
        out += &format!(
            "{:width$}  {:>5}  {:>7.2}  {:>4.1}%  {:>7}  {:>5}\n",
            r.name,
            some(r.calls, 0),
            r.ms,
            100.0 * r.ms / total,
            some(r.gflop / r.ms * 1e3, 0),
            some(r.gigabytes / r.ms * 1e3, 1),
        );
    }
    out + &format!("{:width$}         {total:>7.2}  over {} steps", "a step", profile.steps)
}

/// The same for programs.
pub fn to_json(profile: &Profile) -> Value {
    let total = step_ms(profile);
    let line = |r: &Row| {
        json!({
            "operation": r.name,
            "calls": r.calls,
            "ms": r.ms,
            "share": r.ms / total,
            "gflops": r.gflop / r.ms * 1e3,
            "gigabytes_per_second": r.gigabytes / r.ms * 1e3,
        })
    };
    let operations: Vec<Value> = rows(profile).iter().map(line).collect();
    json!({ "steps": profile.steps, "step_ms": total, "operations": operations })
}
