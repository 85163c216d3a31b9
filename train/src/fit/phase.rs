//! The phases of a run: one for most explainers, two for the masking model. Each has its own batches, optimizer and
//! schedule; steps are counted through.

use explainer_zoo::explainer::masking::MaskingModelSection;

use super::setup::training;
use super::step::{MaskingTask, PhaseName, Task};
use crate::config::{Config, ExplainerConfig, Optimizer, Schedule};
use crate::data::Plan;
use crate::distributed::ProcessGroup;

/// A part of a run between two changes of what is trained.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Its name, where there are several.
    pub name: Option<&'static str>,
    /// What its steps train the head for.
    pub task: Task,
    /// Largest global norm of the gradients, if they are clipped.
    pub clip_norm: Option<f64>,
    /// Steps of the run before it.
    pub first: usize,
    /// Its own steps.
    pub steps: usize,
    /// Steps of one pass over the training images.
    pub per_epoch: usize,
    /// Its batches.
    pub plan: Plan,
    /// Its optimizer.
    pub optimizer: Optimizer,
    /// Its schedule.
    pub schedule: Schedule,
}

impl Phase {
    /// The phases of a run of the ranks of `group` over `images` training images.
    pub fn all(config: &Config, group: &ProcessGroup, images: usize) -> Vec<Self> {
        match &config.explainer {
            ExplainerConfig::MaskingModel(section) => masking_model(config, section, images),
            _ => {
                let mut plan = training(config, config.train.batch_size, config.train.epochs);
                (plan.rank, plan.world_size) = (group.rank(), group.size());
                plan.split_shards = config.distributed.split_shards;
                let (steps, per_epoch) = (plan.batches(images), plan.batches_per_epoch(images));
                vec![Self {
                    name: None,
                    task: Task::of(config),
                    clip_norm: config.optimizer.clip_norm(),
                    first: 0,
                    steps,
                    per_epoch,
                    plan,
                    optimizer: config.optimizer.clone(),
                    schedule: config.schedule.clone(),
                }]
            }
        }
    }

    /// Steps of the run up to its end.
    pub fn end(&self) -> usize {
        self.first.saturating_add(self.steps)
    }
}

/// The selector's phase, if there is a selector, and the decoder's.
fn masking_model(config: &Config, section: &MaskingModelSection, images: usize) -> Vec<Phase> {
    let names = [PhaseName::Selector, PhaseName::Decoder];
    let mut phases: Vec<Phase> = Vec::new();
    for name in names.into_iter().filter(|name| section.class_selector || *name == PhaseName::Decoder) {
        let own = name.settings(section);
        let mut plan = training(config, own.batch_size, own.epochs.unwrap_or(usize::MAX));
        plan.max_batches = own.epochs.is_none().then_some(own.steps);
        phases.push(Phase {
            name: Some(name.name()),
            task: Task::MaskingModel(MaskingTask::new(section, name, config.train.seed)),
            clip_norm: own.optimizer.clip_norm(),
            first: phases.last().map_or(0, Phase::end),
            steps: plan.batches(images),
            per_epoch: plan.batches_per_epoch(images),
            plan,
            optimizer: own.optimizer,
            schedule: own.schedule,
        });
    }
    phases
}
