//! Learning-rate schedules, one value per optimizer step.

use std::f64::consts::PI;

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::range::{at_least_one, decay, divisor, fraction};
use crate::tagged;

tagged! {
    /// How the learning rate moves over the run, step by step.
    pub enum Schedule by "name" (ScheduleName) {
        /// Cosine up from `lr / div` to `lr`, then cosine down to `lr / div / final_div` (all TAME-family papers).
        "one_cycle" => OneCycle(OneCycle),
        /// Linear warm-up from 0, if any, then half a cosine down to `final_lr * lr`.
        "cosine" => Cosine(Cosine),
        /// Multiplied by `factor` every `every` steps (the masking model's).
        "step_decay" => StepDecay(StepDecay),
        /// The same learning rate at every step.
        "constant" => Constant(Constant),
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::OneCycle(OneCycle::default())
    }
}

/// The OneCycle policy with PyTorch's defaults (Smith & Topin 2018, two cosine phases).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycle {
    /// Fraction of the run's steps in which the learning rate rises.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup: f64,
    /// The run starts at `lr / div`.
    #[garde(custom(divisor))]
    #[schemars(range(min = 1.0))]
    pub div: f64,
    /// The run ends at `lr / div / final_div`.
    #[garde(custom(divisor))]
    #[schemars(range(min = 1.0))]
    pub final_div: f64,
    /// Moves momentum (SGD) or the first beta (AdamW) against the learning rate.
    #[garde(skip)]
    pub cycle_momentum: bool,
    /// Momentum at the peak of the learning rate.
    #[garde(custom(decay))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub base_momentum: f64,
    /// Momentum at the start and at the end of the run.
    #[garde(custom(decay))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_momentum: f64,
}

impl Default for OneCycle {
    fn default() -> Self {
        Self { warmup: 0.3, div: 25.0, final_div: 1e4, cycle_momentum: true, base_momentum: 0.85, max_momentum: 0.95 }
    }
}

/// Half a cosine, by default without warm-up and down to 0 (Loshchilov & Hutter 2017, without restarts).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// Fraction of the run's steps in which the learning rate rises from 0 to `lr`.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmup: f64,
    /// Learning rate at the end, as a fraction of `lr`.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub final_lr: f64,
}

/// A staircase: `lr * factor^floor(step / every)`, PyTorch's `StepLR`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct StepDecay {
    /// Steps between two falls of the learning rate.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub every: usize,
    /// What each fall leaves of it.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub factor: f64,
}

impl Default for StepDecay {
    fn default() -> Self {
        Self { every: 4000, factor: 0.1 }
    }
}

/// A constant learning rate has no keys of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

/// What an optimizer step runs with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Learning rate.
    pub lr: f64,
    /// SGD's momentum or Adam's first beta, where the schedule moves it; otherwise the optimizer keeps its own.
    pub momentum: Option<f64>,
}

impl Schedule {
    /// What is wrong with keys that are sound one by one; `at` is the path of the section `schedule`, with a dot behind it.
    pub fn problem(&self, at: &str) -> Option<String> {
        let Self::OneCycle(OneCycle { base_momentum, max_momentum, .. }) = self else { return None };
        (base_momentum > max_momentum).then(|| {
            format!(
                "{at}schedule.base_momentum: found {base_momentum}, expected at most {at}schedule.max_momentum \
                 ({max_momentum})"
            )
        })
    }

    /// The rate of step `step` (from 0) of `total`, `lr` being the full learning rate. Steps past the end get the last
    /// one's.
    pub fn at(&self, lr: f64, step: usize, total: usize) -> Rate {
        let total = total.max(1);
        let step = step.min(total - 1);
        match self {
            Self::OneCycle(cycle) => cycle.at(lr, step as f64, total as f64),
            Self::Cosine(cosine) => Rate { lr: lr * cosine.factor(step as f64, total as f64), momentum: None },
            Self::StepDecay(StepDecay { every, factor }) => {
                let falls = i32::try_from(step / every.max(&1)).unwrap_or(i32::MAX);
                Rate { lr: lr * factor.powi(falls), momentum: None }
            }
            Self::Constant(_) => Rate { lr, momentum: None },
        }
    }
}

impl OneCycle {
    fn at(&self, lr: f64, step: f64, total: f64) -> Rate {
        let first = lr / self.div;
        let last = first / self.final_div;
        // The peak may lie between two steps, or before the first of a very short run: PyTorch's boundaries.
        let peak = self.warmup * total - 1.0;
        let end = total - 1.0;
        let (lr, momentum) = if step <= peak {
            let share = progress(step, 0.0, peak);
            (anneal(first, lr, share), anneal(self.max_momentum, self.base_momentum, share))
        } else {
            let share = progress(step, peak, end);
            (anneal(lr, last, share), anneal(self.base_momentum, self.max_momentum, share))
        };
        Rate { lr, momentum: self.cycle_momentum.then_some(momentum) }
    }
}

impl Cosine {
    fn factor(&self, step: f64, total: f64) -> f64 {
        let warmup = (self.warmup * total).floor();
        if step < warmup {
            return (step + 1.0) / warmup;
        }
        anneal(1.0, self.final_lr, progress(step, warmup, total))
    }
}

/// Share of the way from `start` to `end` at `step`; a way of no length is done.
fn progress(step: f64, start: f64, end: f64) -> f64 {
    if end > start { (step - start) / (end - start) } else { 1.0 }
}

/// Half a cosine from `start` (`share` 0) to `end` (`share` 1).
fn anneal(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + (PI * share).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1e-3), "{found} instead of {expected}");
    }

    #[test]
    fn one_cycle_starts_peaks_and_ends_where_pytorch_does() {
        let schedule = Schedule::default();
        let at = |step| schedule.at(0.01, step, 40);
        close(at(0).lr, 4e-4);
        close(at(0).momentum.unwrap(), 0.95);
        close(at(11).lr, 0.01);
        close(at(11).momentum.unwrap(), 0.85);
        close(at(39).lr, 4e-8);
        close(at(39).momentum.unwrap(), 0.95);
        assert_eq!(at(40), at(39));
    }

    #[test]
    fn runs_of_a_few_steps_stay_finite_and_within_bounds() {
        for total in 0..30 {
            for step in 0..=total {
                let rate = Schedule::default().at(1.0, step, total);
                assert!(rate.lr > 0.0 && rate.lr <= 1.0 + 1e-12, "step {step} of {total}: {rate:?}");
                assert!((0.85 - 1e-12..=0.95 + 1e-12).contains(&rate.momentum.unwrap()));
            }
        }
    }

    #[test]
    fn momentum_stays_where_it_is_not_cycled() {
        let cycle = OneCycle { cycle_momentum: false, ..OneCycle::default() };
        assert_eq!(Schedule::OneCycle(cycle).at(0.1, 3, 10).momentum, None);
        assert_eq!(Schedule::Constant(Constant {}).at(0.1, 3, 10), Rate { lr: 0.1, momentum: None });
    }

    #[test]
    fn cosine_warms_up_and_falls_to_its_floor() {
        let schedule = Schedule::Cosine(Cosine { warmup: 0.2, final_lr: 0.1 });
        close(schedule.at(2.0, 0, 10).lr, 1.0);
        close(schedule.at(2.0, 1, 10).lr, 2.0);
        close(schedule.at(2.0, 2, 10).lr, 2.0);
        close(schedule.at(2.0, 6, 10).lr, 1.1);
        let plain = Schedule::Cosine(Cosine { warmup: 0.0, final_lr: 0.0 });
        close(plain.at(1.0, 5, 10).lr, 0.5);
        close(plain.at(1.0, 0, 10).lr, 1.0);
    }

    #[test]
    fn the_staircase_falls_every_so_many_steps() {
        let schedule = Schedule::StepDecay(StepDecay { every: 3, factor: 0.1 });
        let rates: Vec<f64> = (0..8).map(|step| schedule.at(2.0, step, 8).lr).collect();
        for (rate, expected) in rates.into_iter().zip([2.0, 2.0, 2.0, 0.2, 0.2, 0.2, 0.02, 0.02]) {
            close(rate, expected);
        }
    }
}
