//! The trained head with its optimizer and its learning-rate schedule.

use burn::module::Module;
use burn::optim::{GradientsParams, LearningRate, ModuleOptimizer, OptimizerRecord};
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use explainer_zoo::explainer::{AnyHead, ExplainerHead};
use explainer_zoo::training::{Momentum, Schedule};

use super::FitError;
use super::clip::{GradientError, Norms, clip_gradients};
use super::context::Context;
use super::gradients::FlatGradients;
use super::phase::Phase;
use crate::distributed::ProcessGroup;

/// The trained module. Checkpoints and error messages name its parameters `head.…`.
#[derive(Module, Debug)]
pub(super) struct TrainedHead {
    pub head: AnyHead,
}

/// What a phase trains, and how.
pub(super) struct Learner {
    module: TrainedHead,
    optimizer: ModuleOptimizer,
    momentum: Momentum,
    schedule: Schedule,
    /// Full learning rate.
    lr: f64,
    /// Steps of the phase, the schedule's length.
    steps: usize,
    /// Largest global norm of the gradients, if they are clipped.
    clip_norm: Option<f64>,
}

impl Learner {
    /// A learner of `head`, whose tensors have autodiff, with the optimizer and schedule of `phase`.
    ///
    /// # Errors
    /// [`FitError::Optimizer`].
    pub fn new(head: AnyHead, phase: &Phase) -> Result<Self, FitError> {
        let (optimizer, momentum) = phase.optimizer.build()?;
        Ok(Self {
            module: TrainedHead { head },
            optimizer,
            momentum,
            schedule: phase.schedule.clone(),
            lr: phase.optimizer.lr(),
            steps: phase.steps,
            clip_norm: phase.clip_norm,
        })
    }

    /// Loads the head's parameters and running statistics.
    pub fn load_head(&mut self, record: ModuleRecord) {
        self.module = self.module.clone().load_record(record);
    }

    /// Loads the optimizer's moments.
    pub fn load_optimizer(&mut self, record: OptimizerRecord) {
        self.optimizer = self.optimizer.clone().load_record(record);
    }

    /// Gives the head of every rank the parameters and running statistics of rank 0's.
    ///
    /// # Errors
    /// [`FitError::Communicator`], and [`FitError::Stopped`] for a record that cannot be encoded.
    pub fn broadcast(&mut self, group: &ProcessGroup) -> Result<(), FitError> {
        if group.is_single() {
            return Ok(());
        }
        let encoded = match group.is_main() {
            true => self.module.clone().into_record().into_bytes().map(|bytes| bytes.to_vec()).map_err(not_encoded),
            false => Ok(Vec::new()),
        };
        let bytes = group.broadcast_bytes(group.all_ok(encoded)?)?;
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes)).map_err(not_encoded);
        self.load_head(group.all_ok(record)?);
        Ok(())
    }

    /// The head under training.
    pub fn head(&self) -> &AnyHead {
        &self.module.head
    }

    /// The head as it is now, without autodiff.
    pub fn trained(&self) -> TrainedHead {
        self.module.valid()
    }

    /// Sums the gradients of all ranks' shares; `weight` is this share's part of the batch, in 0..=1. `meanwhile` runs
    /// while the sum is under way. Running statistics that each rank has updated from its share alone become their mean,
    /// weighted as the shares are.
    ///
    /// # Errors
    /// [`GradientError::Device`] and [`GradientError::Communicator`].
    pub fn all_reduce(
        &self,
        gradients: &mut GradientsParams,
        weight: f64,
        context: &Context,
        meanwhile: Option<impl FnOnce()>,
    ) -> Result<(), GradientError> {
        let group = context.group.as_ref();
        if group.is_single() {
            return Ok(());
        }
        let running = if context.sync.is_some() { Vec::new() } else { self.module.head.running() };
        let running = running.iter().map(|value| value * weight as f32).collect();
        let mut flat = FlatGradients::new(&self.module, gradients, running);
        match meanwhile {
            None => flat.all_reduce_sum(group)?,
            Some(meanwhile) => std::thread::scope(|scope| {
                let sum = scope.spawn(|| flat.all_reduce_sum(group));
                meanwhile();
                sum.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })?,
        }
        let running = flat.restore(&self.module, gradients);
        if !running.is_empty() {
            self.module.head.set_running(&running);
        }
        Ok(())
    }

    /// Makes step `step` of the phase (from 0) with these gradients: its learning rate, and the norms of the gradients,
    /// which stay on the device until they are read.
    pub fn step(&mut self, step: usize, gradients: GradientsParams) -> (LearningRate, Option<Norms>) {
        let rate = self.schedule.at(self.lr, step, self.steps);
        if let Some(momentum) = rate.momentum {
            self.momentum.set(momentum);
        }
        // Norms are needed without a limit too: gradients that are not finite end the run before the head is kept.
        let (gradients, norms) = clip_gradients(&self.module, gradients, self.clip_norm);
        self.module = self.optimizer.step(rate.lr, self.module.clone(), gradients);
        (rate.lr, norms)
    }

    /// The records of the head and the optimizer, for a checkpoint.
    pub fn to_records(&self) -> (ModuleRecord, OptimizerRecord) {
        (self.module.clone().into_record(), self.optimizer.to_record())
    }
}

pub(super) fn not_encoded(error: impl std::fmt::Display) -> FitError {
    FitError::Stopped(format!("the head cannot be sent to the other ranks: {error}"))
}
