//! The phases of a run: one for most explainers, two for the masking model. Each has its own batches, optimizer and
//! schedule; steps are counted through.

use std::sync::Arc;

use explainer_zoo::explainer::masking::MaskingModelSection;

use super::context::{Context, Task};
use super::progress::Report;
use super::setup::training;
use super::step::{MaskingTask, PhaseName, TameTask};
use crate::config::{Config, ExplainerConfig, Optimizer, Schedule};
use crate::data::Plan;

/// A part of a run between two changes of what is trained.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Its name, where there are several.
    pub name: Option<&'static str>,
    /// What a step of it works with.
    pub context: Arc<Context>,
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
    /// The phases of a run over `images` training images, in `context` but for the task.
    pub fn all(config: &Config, context: &Context, images: usize) -> Vec<Self> {
        match &config.explainer {
            ExplainerConfig::MaskingModel(section) => masking_model(config, section, context, images),
            _ => {
                let mut plan = training(config, config.train.batch_size, config.train.epochs);
                (plan.rank, plan.world_size) = (context.group.rank(), context.group.size());
                plan.split_shards = config.distributed.split_shards;
                let (steps, per_epoch) = (plan.batches(images), plan.batches_per_epoch(images));
                vec![Self {
                    name: None,
                    context: Arc::new(context.clone()),
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

    /// What its steps report.
    pub fn report(&self) -> Report {
        match &self.context.task {
            Task::Tame(_) => TameTask::REPORT,
            Task::MaskingModel(task) => task.phase.report(),
        }
    }

    /// Whether what it trains draws the maps: a selector alone draws none.
    pub fn validates(&self) -> bool {
        !matches!(&self.context.task, Task::MaskingModel(MaskingTask { phase: PhaseName::Selector, .. }))
    }
}

/// The selector's phase, if there is a selector, and the decoder's.
fn masking_model(config: &Config, section: &MaskingModelSection, context: &Context, images: usize) -> Vec<Phase> {
    let names = [PhaseName::Selector, PhaseName::Decoder];
    let mut phases: Vec<Phase> = Vec::new();
    for name in names.into_iter().filter(|name| section.class_selector || *name == PhaseName::Decoder) {
        let own = name.settings(section);
        let mut plan = training(config, own.batch_size, own.epochs.unwrap_or(usize::MAX));
        plan.max_batches = own.epochs.is_none().then_some(own.steps);
        let task = MaskingTask::new(section, name, config.train.seed);
        let clip_norm = own.optimizer.clip_norm();
        let context = Context { task: Task::MaskingModel(task), clip_norm, ..context.clone() };
        phases.push(Phase {
            name: Some(name.name()),
            context: Arc::new(context),
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
