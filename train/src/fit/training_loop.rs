//! The training loop of one phase: [`TrainingLoop::run`] reads from top to bottom.
//!
//! A step depends on nothing but its number, the configuration and the head: batches, crops and random values are functions
//! of the step. Checkpoints can therefore be made after any step, and a run that is stopped and resumed ends with the same
//! head, bit for bit.

use std::time::Instant;

use burn::optim::{GradientsParams, LearningRate};
use burn::tensor::Device;
use burn::train::Interrupter;
use explainer_zoo::training::{StepBatch, StepMetrics, StepOutput};
use serde_json::json;

use super::FitError;
use super::batches::{Next, TrainingBatch, TrainingBatches};
use super::checkpoint::{Best, State};
use super::context::Context;
use super::learner::{Learner, TrainedHead};
use super::log::MetricsLog;
use super::output::OutputFolder;
use super::pending::{PendingMetrics, PendingStep, gather_metrics, not_finite};
use super::phase::Phase;
use super::progress::TrainingProgress;
use super::validation::{self, ValidationSet};
use crate::config::Config;
use crate::data::ImageSet;

/// One phase of a run on its way.
pub(super) struct TrainingLoop<'a> {
    pub config: &'a Config,
    pub context: &'a Context,
    pub phase: &'a Phase,
    pub learner: Learner,
    pub batches: TrainingBatches<'a>,
    pub validation: ValidationSet,
    /// The training images, for their names.
    pub images: &'a dyn ImageSet,
    pub output: &'a OutputFolder,
    pub log: MetricsLog,
    pub progress: TrainingProgress,
    pub interrupter: &'a Interrupter,
    /// Where the run stands.
    pub state: State,
    /// Step of the last checkpoint in the output folder, and whether its validation is due. The start needs no checkpoint.
    pub saved: Option<(usize, bool)>,
    /// The head of the best validation of this process.
    pub best: Option<TrainedHead>,
    pub pending: PendingMetrics,
    pub stopped: bool,
    pub clock: Clock,
}

/// Times of a phase.
pub(super) struct Clock {
    started: Instant,
    /// Training time of the run before the phase, in seconds.
    seconds_before: f64,
    /// Images learned from since the phase or the process began.
    images: usize,
    logged: Instant,
    images_since_log: usize,
}

impl TrainingLoop<'_> {
    /// Trains to the end of the phase, or until the run is asked to stop. A checkpoint is there in both cases.
    ///
    /// # Errors
    /// [`FitError`]; checkpoints and the log up to then are in the output folder.
    pub fn run(&mut self) -> Result<(), FitError> {
        self.validate()?; // still due where the run was stopped before or during it
        while let Some(TrainingBatch { batch, total, features }) = self.next_batch()? {
            let before = self.state.step;
            let step = batch.step;
            // The frozen classifiers see the images: logits, and the feature maps that the head reads.
            let features = features.unwrap_or_else(|| self.context.observe(&batch));
            // Maps, mask, classifier, loss, and the gradient of the loss with respect to the head.
            let step_batch = StepBatch { step, indices: &batch.indices };
            let task = &self.phase.task;
            let (mut gradients, output) = task.step(self.learner.head(), features, &step_batch, &self.context.step());
            let gathered = self.check(step, &gradients, &output, total)?;
            self.all_reduce(step, &mut gradients, &batch.indices, total)?;
            let (lr, norms) = self.learner.step(step - self.phase.first, gradients);
            let indices = batch.indices;
            self.advance(before, total, PendingStep { step, indices, output, gathered, norms })?;
            self.log_step(before, lr)?;
            self.validate()?;
            if reached(self.config.train.checkpoint_every, before, self.state.step) {
                self.save()?;
            }
        }
        if !self.stopped {
            self.finish()?;
        }
        self.save()
    }

    /// The next batch of which any rank could read an image.
    fn next_batch(&mut self) -> Result<Option<TrainingBatch>, FitError> {
        match self.batches.next(self.interrupter, &mut self.log)? {
            Next::Batch(batch) => Ok(Some(batch)),
            Next::End => Ok(None),
            Next::Stop => {
                self.stopped = true;
                Ok(None)
            }
        }
    }

    /// Ends the run on all ranks if a classifier has failed on one, or if nothing can be learned. With several ranks: the
    /// metrics of the whole batch of `total` images, which no rank has on its device.
    fn check(
        &self,
        step: usize,
        gradients: &GradientsParams,
        output: &StepOutput,
        total: usize,
    ) -> Result<Option<StepMetrics>, FitError> {
        let group = &self.context.group;
        let answered = self.context.extractor.check_failures().map_err(FitError::from);
        let gathered = if group.is_single() {
            answered?;
            None
        } else {
            Some(gather_metrics(answered, output, total, group)?)
        };
        if gradients.is_empty() {
            let reason = format!("the loss of step {} has no gradient in the head", step + 1);
            group.all_ok::<(), _>(Err(FitError::Stopped(reason)))?;
        }
        Ok(gathered)
    }

    /// Sums the gradients of all ranks. Meanwhile the next clean pass is made, where `distributed.overlap` is set.
    fn all_reduce(
        &mut self,
        step: usize,
        gradients: &mut GradientsParams,
        indices: &[usize],
        total: usize,
    ) -> Result<(), FitError> {
        let group = &self.context.group;
        let weight = indices.len() as f64 / total.max(1) as f64;
        let overlap = self.config.distributed.overlap && !group.is_single();
        let batches = &mut self.batches;
        let meanwhile = overlap.then_some(|| batches.prefetch());
        let reduced = self.learner.all_reduce(gradients, weight, self.context, meanwhile);
        let failure = reduced.err().map(|failure| failure.to_string());
        match group.all_gather(&failure)?.into_iter().flatten().next() {
            Some(failure) => Err(not_finite(step, indices, failure, group, self.images)),
            None => Ok(()),
        }
    }

    /// Records a completed step. Skipped batches (no readable image) use up their steps of the schedule.
    fn advance(&mut self, before: usize, total: usize, made: PendingStep) -> Result<(), FitError> {
        let step = made.step;
        self.pending.push(made);
        // A read from the CPU's own memory waits for nothing.
        let on_cpu = self.context.device == Device::flex();
        if on_cpu || self.pending.len() >= self.config.train.log_every {
            self.flush()?;
        }
        self.clock.images += total;
        self.clock.images_since_log += total;
        self.state.skipped += step - before;
        self.state.step = step + 1;
        self.state.seconds = self.clock.seconds_before + self.clock.started.elapsed().as_secs_f64();
        let every = match self.config.train.validate_every {
            0 => self.phase.per_epoch,
            every => every,
        };
        let first = self.phase.first;
        let due = step + 1 == self.phase.end() || reached(every, before.saturating_sub(first), step + 1 - first);
        self.state.validation_due = due && self.phase.task.validates();
        Ok(())
    }

    /// A line of the log, if one is due, and the progress bar.
    fn log_step(&mut self, before: usize, lr: LearningRate) -> Result<(), FitError> {
        let step = self.state.step;
        if reached(self.config.train.log_every, before, step) || step == self.phase.end() {
            self.flush()?;
            let Clock { logged, images_since_log, .. } = &mut self.clock;
            let rate = *images_since_log as f64 / logged.elapsed().as_secs_f64().max(1e-9);
            (*logged, *images_since_log) = (Instant::now(), 0);
            let epoch = (step - 1).saturating_sub(self.phase.first) / self.phase.per_epoch.max(1) + 1;
            let mut line = json!({"step": step, "epoch": epoch, "lr": lr});
            if let Some(phase) = self.phase.name {
                line["phase"] = phase.into();
            }
            for (name, value) in self.pending.latest().iter().flat_map(|metrics| metrics.named()) {
                line[name] = value.into();
            }
            line["images_per_second"] = rate.into();
            self.log.write(&line)?;
        }
        self.progress.step(self.pending.latest(), self.clock.images);
        Ok(())
    }

    /// Validates, if it is due, and saves the head if AD(50) is the best so far. Where the run is stopped meanwhile the
    /// validation stays due, and the resumed run makes it.
    fn validate(&mut self) -> Result<(), FitError> {
        if !self.state.validation_due {
            return Ok(());
        }
        self.flush()?;
        let head = self.learner.trained();
        let own = self.validation.measure(&head.head, self.context, self.interrupter);
        let all = self.context.group.try_all_gather(own)?;
        if all.iter().any(|(_, stopped)| *stopped) {
            self.stopped = true;
            return Ok(());
        }
        let rows: Vec<_> = all.into_iter().flat_map(|(rows, _)| rows).collect();
        self.state.validation_due = false;
        if rows.is_empty() {
            return Ok(());
        }
        let (step, images, figures) = (self.state.step, rows.len(), validation::figures(&rows));
        self.log.write(&json!({"step": step, "validation": figures, "images": images}))?;
        let ad50 = figures.get("AD(50)").copied().unwrap_or(f64::INFINITY);
        if validation::is_best(self.state.best.as_ref(), ad50, images) {
            self.state.best = Some(Best { step, ad50, images, figures });
            self.best = Some(head);
            self.save()?;
        }
        Ok(())
    }

    /// The end of the phase, also where no image of its last batches could be read.
    fn finish(&mut self) -> Result<(), FitError> {
        let group = &self.context.group;
        let (end, state) = (self.phase.end(), &mut self.state);
        let missing = end.saturating_sub(state.step);
        if missing > 0 {
            state.skipped += missing;
            state.step = end;
            state.validation_due = self.phase.task.validates();
        }
        if state.skipped == end {
            let first = self.batches.broken().first().map(|broken| broken.reason.clone());
            let first = group.all_gather(&first)?.into_iter().flatten().next();
            return group.all_ok(Err(FitError::NothingRead(first.unwrap_or_default())));
        }
        if missing > 0 {
            self.log.write(&json!({"step": end, "skipped": missing}))?;
        }
        self.validate()
    }

    /// Writes a checkpoint, unless the last one has the same state.
    fn save(&mut self) -> Result<(), FitError> {
        let now = (self.state.step, self.state.validation_due);
        if self.saved == Some(now) {
            return Ok(());
        }
        self.flush()?;
        let write = || -> Result<(), FitError> {
            self.log.sync()?;
            let (head, optimizer) = self.learner.to_records();
            self.output.store.save(self.state.clone(), head, optimizer)?;
            Ok(())
        };
        let group = &self.context.group;
        let written = if group.is_main() { write() } else { Ok(()) };
        // Clean passes can be repeated, this head cannot.
        let written = match (written, &self.context.cache) {
            (Err(_), Some(cache)) if cache.make_room() => write(),
            (written, _) => written,
        };
        group.all_ok(written)?;
        self.saved = Some(now);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), FitError> {
        self.pending.flush(&self.context.group, self.images)
    }
}

impl Clock {
    /// Starts behind `seconds_before` of the run.
    pub fn start(seconds_before: f64) -> Self {
        let now = Instant::now();
        Self { started: now, seconds_before, images: 0, logged: now, images_since_log: 0 }
    }
}

/// Whether a multiple of `every` is in `(before, now]`. Skipped batches can make this interval longer than one step.
fn reached(every: usize, before: usize, now: usize) -> bool {
    now / every.max(1) > before / every.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiple_is_not_missed_where_batches_are_passed_over() {
        assert!(reached(10, 9, 10) && !reached(10, 10, 11) && !reached(10, 0, 9));
        assert!(reached(10, 8, 12) && reached(1, 4, 5));
    }
}
