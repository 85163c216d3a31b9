//! The schedule as burn-train's learner asks for it: one learning rate a step, and the momentum turned on the way.

use burn::optim::LearningRate;
use burn::optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};

use explainer_zoo::training::{Momentum, Schedule};

/// Steps through a [`Schedule`] and sets the optimizer's momentum to its value.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// The schedule.
    pub schedule: Schedule,
    /// Full learning rate.
    pub lr: f64,
    /// Steps of the whole run.
    pub total: usize,
    /// The next step's number.
    pub next: usize,
    /// What the optimizer reads its momentum (Adam: beta1) from.
    pub momentum: Momentum,
}

impl LrScheduler for Scheduled {
    fn step(&mut self) -> LearningRate {
        let rate = self.schedule.at(self.lr, self.next, self.total);
        self.next += 1;
        if let Some(momentum) = rate.momentum {
            self.momentum.set(momentum);
        }
        rate.lr
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("next", self.next)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        self.next = record.scalar("next").unwrap_or(self.next);
    }
}
