//! What the user sees while something is going on: lines and a live progress line on stderr, results
//! on stdout.

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::io::{IsTerminal, Write, stderr, stdout};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Without a terminal, a line of progress at most so often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// How to talk to the user.
pub struct Terminal {
    json: bool,
    quiet: bool,
    live: bool,
    bar: RefCell<Option<(String, ProgressBar)>>,
    last_plain: Cell<Instant>,
}

impl Terminal {
    /// `json` asks for a result object on stdout, `quiet` for silence on stderr.
    pub fn new(json: bool, quiet: bool) -> Self {
        let live = !quiet && stderr().is_terminal();
        Terminal { json, quiet, live, bar: RefCell::new(None), last_plain: Cell::new(Instant::now()) }
    }

    /// Whether stdout is to end with a JSON object.
    pub fn json(&self) -> bool {
        self.json
    }

    /// A line about what is going on.
    pub fn say(&self, text: &str) {
        if self.quiet {
            return;
        }
        self.clear();
        eprintln!("{text}");
    }

    /// A live line: `done` of `total`, with the rate of bytes or items and the time left.
    pub fn progress(&self, what: &str, done: u64, total: u64) {
        self.advance(what, done, total, "{msg} [{bar:30}] {percent}% · {eta} left");
    }

    /// A live line with text of its own, `{eta}` after it.
    pub fn live(&self, text: &str, done: u64, total: u64) {
        if self.quiet {
            return;
        }
        if !self.live {
            self.plain(text, done, total);
            return;
        }
        let mut slot = self.bar.borrow_mut();
        let (_, bar) = slot.get_or_insert_with(|| ("live".to_owned(), new_bar(total, "{msg}")));
        bar.set_message(text.to_owned());
        bar.set_position(done);
    }

    fn advance(&self, what: &str, done: u64, total: u64, template: &str) {
        if self.quiet {
            return;
        }
        if !self.live {
            self.plain(what, done, total);
            return;
        }
        let mut slot = self.bar.borrow_mut();
        if slot.as_ref().is_none_or(|(name, _)| name != what) {
            if let Some((_, old)) = slot.take() {
                old.finish_and_clear();
            }
            *slot = Some((what.to_owned(), new_bar(total, template)));
        }
        if let Some((_, bar)) = slot.as_ref() {
            bar.set_message(what.to_owned());
            bar.set_position(done.min(total));
        }
    }

    fn plain(&self, text: &str, done: u64, total: u64) {
        if self.last_plain.get().elapsed() >= PLAIN_INTERVAL {
            self.last_plain.set(Instant::now());
            eprintln!("{text} ({}%)", (100 * done.min(total)).checked_div(total).unwrap_or(100));
        }
    }

    /// Takes the live line away.
    pub fn clear(&self) {
        if let Some((_, bar)) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }

    /// Prints the result: the JSON object if that was asked for, else `text`.
    pub fn result(&self, text: &str, json: &Value) -> Result<()> {
        self.clear();
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{json}")?;
        } else if !text.is_empty() {
            writeln!(out, "{text}")?;
        }
        Ok(out.flush()?)
    }
}

/// Text that appears on stdout as it is made.
#[derive(Default)]
pub struct LiveText(Option<std::io::Error>);

impl LiveText {
    /// Shows more of it; breaks off once it can't be written.
    pub fn show(&mut self, text: &str) -> ControlFlow<()> {
        let mut out = stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.0 = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Ends the line.
    pub fn end(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)?;
        Ok(writeln!(stdout())?)
    }
}

fn new_bar(total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(8));
    // The templates are constants of this program; indicatif's default stands in for a wrong one.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.progress_chars("━╸ "))
}

/// A duration as people say it, such as `3 minutes`.
pub fn duration(seconds: f64) -> String {
    HumanDuration(Duration::from_secs_f64(seconds.max(0.0))).to_string()
}

/// A large number in thousands, millions or billions.
pub fn count(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.2} G", n / 1e9),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// The most memory that this process ever had, where the system tells (Linux).
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}
