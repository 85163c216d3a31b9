//! The phases of a run: one for most explainers, two for the masking model. Each has its own batches, optimizer and
//! schedule. Step numbers count all steps of the run.

use std::sync::Arc;

use explainer_zoo::explainer::AnyHead;
use explainer_zoo::training::{Length, Optimizer, PhaseSpec, Schedule, TrainingTask};

use super::setup::training;
use crate::config::Config;
use crate::data::LoaderOptions;
use crate::distributed::ProcessGroup;

/// A part of a run with a task, an optimizer and a schedule of its own.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Its name, if a run has several.
    pub name: Option<&'static str>,
    /// What its steps train the head for.
    pub task: Arc<dyn TrainingTask<AnyHead>>,
    /// Largest global norm of the gradients, if they are clipped.
    pub clip_norm: Option<f64>,
    /// Steps of the run before it.
    pub first: usize,
    /// Its own steps.
    pub steps: usize,
    /// Steps of one pass over the training images.
    pub per_epoch: usize,
    /// Its batches.
    pub plan: LoaderOptions,
    /// Its optimizer.
    pub optimizer: Optimizer,
    /// Its schedule.
    pub schedule: Schedule,
}

impl Phase {
    /// The phases of a run of the ranks of `group` over `images` training images; none for a method without a head.
    pub fn all(config: &Config, group: &ProcessGroup, images: usize) -> Vec<Self> {
        let specs = config.explainer.learned().map(|explainer| explainer.phases(&config.run_settings()));
        let mut phases: Vec<Self> = Vec::new();
        for spec in specs.into_iter().flatten() {
            let first = phases.last().map_or(0, Self::end);
            phases.push(Self::new(spec, first, config, group, images));
        }
        phases
    }

    fn new(spec: PhaseSpec<AnyHead>, first: usize, config: &Config, group: &ProcessGroup, images: usize) -> Self {
        let PhaseSpec { name, task, batch_size, length, optimizer, schedule } = spec;
        let (epochs, max_batches) = match length {
            Length::Epochs(epochs) => (epochs, None),
            Length::Steps(steps) => (usize::MAX, Some(steps)),
        };
        let mut plan = training(config, batch_size, epochs);
        plan.max_batches = max_batches;
        (plan.rank, plan.world_size) = (group.rank(), group.size());
        plan.split_shards = config.distributed.split_shards;
        Self {
            name,
            task,
            clip_norm: optimizer.clip_norm(),
            first,
            steps: plan.batches(images),
            per_epoch: plan.batches_per_epoch(images),
            plan,
            optimizer,
            schedule,
        }
    }

    /// Steps of the run up to its end.
    pub fn end(&self) -> usize {
        self.first.saturating_add(self.steps)
    }
}
