//! What the processor's package draws, from Linux's powercap interface (Intel RAPL), where the machine
//! has it and lets users read it.

use std::path::PathBuf;
use std::time::Instant;

/// A running meter.
#[derive(Debug)]
pub struct PowerMeter {
    zones: Vec<Zone>,
    last: Instant,
    joules: f64,
}

#[derive(Debug)]
struct Zone {
    counter: PathBuf,
    last_uj: u64,
    range_uj: u64,
}

fn read_number(path: PathBuf) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl PowerMeter {
    /// A meter over all packages; none where there is nothing to read.
    pub fn open() -> Option<Self> {
        let mut zones = Vec::new();
        for package in 0..8 {
            let dir = PathBuf::from(format!("/sys/class/powercap/intel-rapl:{package}"));
            let counter = dir.join("energy_uj");
            let (Some(last_uj), Some(range_uj)) =
                (read_number(counter.clone()), read_number(dir.join("max_energy_range_uj")))
            else {
                break;
            };
            zones.push(Zone { counter, last_uj, range_uj });
        }
        (!zones.is_empty()).then(|| PowerMeter { zones, last: Instant::now(), joules: 0.0 })
    }

    /// Mean watts since the last call.
    pub fn watts(&mut self) -> Option<f64> {
        let mut microjoules = 0;
        for zone in &mut self.zones {
            let now = read_number(zone.counter.clone())?;
            // The counter starts again at its range.
            microjoules +=
                if now >= zone.last_uj { now - zone.last_uj } else { now + zone.range_uj - zone.last_uj };
            zone.last_uj = now;
        }
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let joules = microjoules as f64 / 1e6;
        self.joules += joules;
        (seconds > 0.0).then(|| joules / seconds)
    }

    /// Counts on from what an earlier part of the run took.
    pub fn add(&mut self, joules: f64) {
        self.joules += joules;
    }

    /// Joules since the meter was opened, and those added, as of the last call of [`watts`](Self::watts).
    pub fn joules(&self) -> f64 {
        self.joules
    }
}
