//! The training loop: burn-train's learner driven step by step, with checkpoints, validation and a log at any step.
//!
//! burn-train's own strategies checkpoint once an epoch. This one saves every so many steps and when it is stopped, and
//! goes on from any of them with the same batches, so that the head of an interrupted run equals the uninterrupted one's.

mod records;
mod steps;
mod unread;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use burn::tensor::Device;
use burn::train::{
    Learner, SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, ValidLoader,
};

pub use self::records::named;
use self::unread::Unread;
use super::FitError;
use super::batches::LoaderState;
use super::cache::CleanCache;
use super::checkpoint::{State, Store};
use super::progress::Figures;
use super::trainee::{Exchange, Trainee, lock};
use crate::data::{Batch, ImageSet, Tally};
use crate::distributed::ProcessGroup;

/// What a run does besides stepping.
#[derive(Debug)]
pub struct Routine {
    /// Where it stands.
    pub state: State,
    /// The phase's name, where a run has several.
    pub phase: Option<&'static str>,
    /// Steps of the run before the phase.
    pub first: usize,
    /// Steps of the run up to the end of the phase.
    pub end: usize,
    /// Whether what the phase trains is validated.
    pub validates: bool,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// Steps between validations; 0 for the end of each epoch.
    pub validate_every: usize,
    /// Steps between lines of the log.
    pub log_every: usize,
    /// Steps whose figures are read from the device together.
    pub read_every: usize,
    /// Its checkpoints.
    pub store: Store,
    /// Whether `state` is in there already, or is the start, of which no checkpoint is made.
    pub saved: bool,
    /// `metrics.jsonl`.
    pub log: PathBuf,
    /// What the training images' loader tells.
    pub train_state: Arc<Mutex<LoaderState>>,
    /// What the validation images' loader tells.
    pub valid_state: Arc<Mutex<LoaderState>>,
    /// The training images, for their names.
    pub images: Arc<dyn ImageSet>,
    /// Those who train together, each with its share of every batch. The first one writes.
    pub group: Arc<ProcessGroup>,
    /// The fraction of the training images that may be broken.
    pub max_broken: f64,
    /// The clean passes that are kept, if they are.
    pub cache: Option<Arc<CleanCache>>,
    /// Whether the next batch is fetched and seen while gradients are summed.
    pub overlap: bool,
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Where it stands now.
    pub state: Option<State>,
    /// The head of the best validation, `None` where no validation was better than an earlier run's.
    pub best: Option<Trainee>,
    /// Figures of the last validation.
    pub figures: BTreeMap<String, f64>,
    /// Why it failed.
    pub failure: Option<FitError>,
}

/// Drives a learner through a [`Routine`].
pub struct StepStrategy {
    device: Device,
    exchange: Arc<Exchange>,
    routine: Mutex<Option<Routine>>,
    outcome: Arc<Mutex<Outcome>>,
}

impl StepStrategy {
    /// On `device`, which has no autodiff yet.
    pub fn new(device: Device, exchange: Arc<Exchange>, routine: Routine, outcome: Arc<Mutex<Outcome>>) -> Self {
        Self { device, exchange, routine: Mutex::new(Some(routine)), outcome }
    }
}

impl SupervisedLearningStrategy<Trainee> for StepStrategy {
    fn fit(
        &self,
        components: TrainingComponents<Trainee>,
        mut learner: Learner<Trainee>,
        train: TrainLoader<Trainee>,
        valid: ValidLoader<Trainee>,
        _starting_epoch: usize,
    ) -> (Trainee, SupervisedTrainingEventProcessor<Trainee>) {
        learner.fork(&self.device.clone().autodiff());
        let mut processor = components.event_processor;
        if let Some(routine) = lock(&self.routine).take() {
            let stopped = || components.interrupter.should_stop();
            let mut run = Run {
                unread: Vec::new(),
                figures: None,
                tally: Tally::new(routine.images.len(), routine.max_broken),
                halted: false,
                fetched: None,
                saved: routine.saved.then_some((routine.state.step, routine.state.validation_due)),
                seconds_before: routine.state.seconds,
                routine,
                exchange: &self.exchange,
                outcome: &self.outcome,
                stopped: &stopped,
                since_log: Instant::now(),
                images_since_log: 0,
                images_done: 0,
                started: Instant::now(),
            };
            let result = run.steps(&mut learner, train.as_ref(), valid.as_ref(), &mut processor);
            let mut outcome = lock(&self.outcome);
            outcome.failure = result.err();
            outcome.state = Some(run.routine.state);
        }
        (learner.model(), processor)
    }
}

/// `metrics.jsonl`, for the rank that writes.
type Log = Option<File>;

/// A routine under way.
struct Run<'a> {
    routine: Routine,
    exchange: &'a Exchange,
    outcome: &'a Mutex<Outcome>,
    stopped: &'a dyn Fn() -> bool,
    /// Whether one of the ranks was asked to stop, as all know.
    halted: bool,
    /// What the loader gave when it was asked before its turn.
    fetched: Option<Option<Batch>>,
    /// The steps whose figures are still on the device.
    unread: Vec<Unread>,
    /// The figures that were read last.
    figures: Option<Figures>,
    /// What all ranks have found broken.
    tally: Tally,
    /// Step of the last checkpoint, and whether its validation is due; none where there is no checkpoint in the store.
    saved: Option<(usize, bool)>,
    since_log: Instant,
    images_since_log: usize,
    images_done: usize,
    started: Instant,
    seconds_before: f64,
}
