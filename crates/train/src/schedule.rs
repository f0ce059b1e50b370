//! Learning-rate schedules, as multiples of the peak rate.

use serde::{Deserialize, Serialize};
use std::f32::consts::PI;

/// The shape of the learning rate over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Warm-up, then constant, then linear to the floor over the last part (Hu et al. 2024, MiniCPM,
    /// section 4). A run can be prolonged from before the decay.
    Wsd,
    /// Warm-up, then half a cosine to the floor (Loshchilov & Hutter 2017).
    Cosine,
    /// Warm-up, then constant.
    Constant,
}

/// A schedule over a known number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The shape.
    pub kind: ScheduleKind,
    /// Steps in all.
    pub steps: u64,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// The share of the steps that decay, for [`ScheduleKind::Wsd`].
    pub decay: f32,
    /// The rate at the end, as a share of the peak.
    pub floor: f32,
}

impl Schedule {
    /// The multiple of the peak rate at `step`, counted from 0.
    pub fn factor(&self, step: u64) -> f32 {
        if step < self.warmup {
            return (step + 1) as f32 / (self.warmup + 1) as f32;
        }
        let span = self.steps.saturating_sub(self.warmup).max(1) as f32;
        let progress = ((step - self.warmup) as f32 / span).min(1.0);
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => self.floor + (1.0 - self.floor) * 0.5 * (1.0 + (PI * progress).cos()),
            ScheduleKind::Wsd => {
                let decay_steps = (self.steps as f32 * self.decay).max(1.0);
                let left = self.steps.saturating_sub(step) as f32;
                self.floor + (1.0 - self.floor) * (left / decay_steps).min(1.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: ScheduleKind, expect: [(u64, f32); 5]) {
        let schedule = Schedule { kind, steps: 110, warmup: 10, decay: 0.5, floor: 0.1 };
        for (step, want) in expect {
            let got = schedule.factor(step);
            assert!((got - want).abs() < 1e-6, "{kind:?} at {step}: {got}, expected {want}");
        }
    }

    #[test]
    fn shapes() {
        let warm = [(0, 1.0 / 11.0), (9, 10.0 / 11.0)];
        check(ScheduleKind::Constant, [warm[0], warm[1], (10, 1.0), (60, 1.0), (500, 1.0)]);
        check(ScheduleKind::Cosine, [warm[0], warm[1], (10, 1.0), (60, 0.55), (110, 0.1)]);
        check(ScheduleKind::Wsd, [warm[0], warm[1], (55, 1.0), (82, 0.1 + 0.9 * 28.0 / 55.0), (110, 0.1)]);
    }
}
