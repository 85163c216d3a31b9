//! What a head is trained for: one step on one batch, and the phases of a run. The loop around it, the images and the files
//! are `explainer-train`'s.

use std::fmt::Debug;
use std::sync::Arc;

use burn::optim::GradientsParams;

use super::metrics::{MetricNames, StepOutput};
use super::objective::Objective;
use super::optimizer::Optimizer;
use super::schedule::Schedule;
use crate::feature_extractor::{FeatureExtractor, Features};
use crate::masking::Masking;
use crate::sync_batch_norm::SyncBatchNorm;

/// A training step of a head `H`.
pub trait TrainingTask<H>: Debug + Send + Sync {
    /// The names of the step's metrics.
    fn report(&self) -> MetricNames;

    /// Whether what the task trains draws the maps, so that a validation can measure it.
    fn validates(&self) -> bool {
        true
    }

    /// The gradients of the loss with respect to the head's parameters, and the step's metrics.
    ///
    /// `features` is the clean pass of this rank's share of the batch, without a graph. If the share has no images, it is the
    /// pass of one image that takes their place and has no weight. The sum of all ranks' gradients is the gradient of the
    /// whole batch's loss.
    fn step(
        &self,
        head: &H,
        features: Features,
        batch: &StepBatch<'_>,
        context: &StepContext<'_>,
    ) -> (GradientsParams, StepOutput);
}

/// The batch of a step, as far as a task needs it beside the features. Random values are functions of these numbers, so that
/// a resumed run draws the same ones.
#[derive(Clone, Copy, Debug)]
pub struct StepBatch<'a> {
    /// The step's number in the run, from 0.
    pub step: usize,
    /// The numbers of the share's images in the training set.
    pub indices: &'a [usize],
}

/// What a step needs besides head and batch.
#[derive(Clone, Copy, Debug)]
pub struct StepContext<'a> {
    /// The frozen classifiers with their taps and adapters.
    pub extractor: &'a FeatureExtractor,
    /// The ranks that share the batch; `None` in one process.
    pub ranks: Option<&'a dyn AllGather>,
    /// The head's batch statistics over all ranks, if it uses them.
    pub sync: Option<&'a SyncBatchNorm>,
}

/// The ranks that share a batch.
pub trait AllGather: Debug {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// The numbers of each rank, in rank order; `None` where the collective fails: the loop's next one returns the error.
    fn all_gather(&self, own: &[i64]) -> Option<Vec<Vec<i64>>>;
}

/// The length of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Passes over the training images.
    Epochs(usize),
    /// Steps.
    Steps(usize),
}

/// A part of a run with a task, an optimizer and a schedule of its own.
#[derive(Clone, Debug)]
pub struct PhaseSpec<H> {
    /// Its name in the log, if a run has several.
    pub name: Option<&'static str>,
    /// What it trains.
    pub task: Arc<dyn TrainingTask<H>>,
    /// Images a step.
    pub batch_size: usize,
    /// How long it trains.
    pub length: Length,
    /// Its optimizer, which starts without moments.
    pub optimizer: Optimizer,
    /// Its schedule.
    pub schedule: Schedule,
}

/// The sections of a run that all explainers share.
#[derive(Clone, Copy, Debug)]
pub struct RunSettings<'a> {
    /// `masking`
    pub masking: Masking,
    /// `objective`
    pub objective: &'a Objective,
    /// `optimizer`
    pub optimizer: &'a Optimizer,
    /// `schedule`
    pub schedule: &'a Schedule,
    /// `train.batch_size`
    pub batch_size: usize,
    /// `train.epochs`
    pub epochs: usize,
    /// `train.seed`
    pub seed: u64,
}

impl RunSettings<'_> {
    /// The only phase of a run that uses all of these settings.
    pub fn phase<H>(&self, task: impl TrainingTask<H> + 'static) -> PhaseSpec<H> {
        PhaseSpec {
            name: None,
            task: Arc::new(task),
            batch_size: self.batch_size,
            length: Length::Epochs(self.epochs),
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
        }
    }
}
