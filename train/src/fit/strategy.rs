//! The training loop: burn-train's learner driven step by step, with checkpoints, validation and a log at any step.
//!
//! burn-train's own strategies checkpoint once an epoch. This one saves every so many steps and when it is stopped, and
//! goes on from any of them with the same batches, so that the head of an interrupted run equals the uninterrupted one's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use burn::data::dataloader::{DataLoader, Progress};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use burn::train::{
    EventProcessorTraining, Learner, LearnerEvent, SupervisedLearningStrategy, SupervisedTrainingEventProcessor,
    TrainLoader, TrainStep, TrainingComponents, TrainingItem, ValidLoader,
};
use serde_json::json;

use super::FitError;
use super::batches::LoaderState;
use super::checkpoint::{Best, State, Store};
use super::log;
use super::progress::Figures;
use super::trainee::{Exchange, StepOutput, Trainee, lock};
use crate::data::{Batch, ImageSet};
use crate::metric::{MaskedConfidence, Summary};

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

struct Run<'a> {
    routine: Routine,
    exchange: &'a Exchange,
    outcome: &'a Mutex<Outcome>,
    stopped: &'a dyn Fn() -> bool,
    /// Step of the last checkpoint, and whether its validation is due; none where there is no checkpoint in the store.
    saved: Option<(usize, bool)>,
    since_log: Instant,
    images_since_log: usize,
    images_done: usize,
    started: Instant,
    seconds_before: f64,
}

impl Run<'_> {
    fn steps(
        &mut self,
        learner: &mut Learner<Trainee>,
        train: &dyn DataLoader<Batch>,
        valid: &dyn DataLoader<Batch>,
        processor: &mut SupervisedTrainingEventProcessor<Trainee>,
    ) -> Result<(), FitError> {
        let mut log = self.open_log()?;
        self.validate(learner, valid, &mut log)?; // for which the run had no time before it was stopped
        let end = self.routine.end;
        let total_images = train.num_items();
        let validate_every = match self.routine.validate_every {
            0 => self.routine.steps_per_epoch,
            every => every,
        };
        let _ = processor.process_train(LearnerEvent::StartSplit { epoch_number: 1, total_items: total_images });
        let mut batches = train.iter();
        // A batch that is no batch ends the loop; the loader's own state says why.
        while !(self.stopped)()
            && let Some(Ok(batch)) = batches.next()
        {
            let before = self.routine.state.step;
            let output = self.step(learner, batch, &mut log)?;
            let step = self.routine.state.step;
            let progress = Progress::new(self.images_done, total_images, Some("images".into()));
            let item = TrainingItem::new(output, progress, Some(step), Some(learner.lr_current()));
            let _ = processor.process_train(LearnerEvent::ProcessedItem(item));

            let first = self.routine.first;
            let due = step == end || reached(validate_every, before.saturating_sub(first), step.saturating_sub(first));
            self.routine.state.validation_due = self.routine.validates && due;
            self.validate(learner, valid, &mut log)?;
            if reached(self.routine.checkpoint_every, before, step) {
                self.save(learner)?;
            }
        }
        let _ = processor.process_train(LearnerEvent::EndSplit(1));
        if let Some(failure) = lock(&self.routine.train_state).failure.take() {
            return Err(failure.into());
        }
        if !(self.stopped)() {
            self.finish(learner, valid, &mut log)?;
        }
        self.save(learner)
    }

    /// Learns from one batch.
    fn step(&mut self, learner: &mut Learner<Trainee>, batch: Batch, log: &mut File) -> Result<StepOutput, FitError> {
        for broken in &batch.broken {
            self.note(log, json!({"step": batch.step, "broken": broken.name, "reason": broken.reason}))?;
        }
        let step = batch.step;
        let indices = batch.indices.clone();
        let model = learner.model();
        let output = TrainStep::step(&model, batch);
        model.answered()?;
        let figures = output.item.figures().map_err(|e| FitError::Device(e.to_string()))?;
        if let Some(name) = bad_figure(&figures) {
            return Err(self.not_finite(step, &indices, name));
        }
        // Without them the optimizer would hand out its state, and nothing would be learned.
        if output.grads.is_empty() {
            return Err(FitError::Stopped(format!("the loss of step {} has no gradient in the head", step + 1)));
        }
        // A batch without a readable image is passed over, but its step of the schedule is not.
        let before = self.routine.state.step;
        for _ in before..=step {
            learner.lr_step();
        }
        learner.optimizer_step(output.grads);
        if let Some(failure) = lock(&self.exchange.failure).take() {
            return Err(self.not_finite(step, &indices, failure.to_string()));
        }
        self.images_done += indices.len();
        self.images_since_log += indices.len();
        self.routine.state.skipped += step - before;
        self.routine.state.step = step + 1;
        self.routine.state.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        if reached(self.routine.log_every, before, step + 1) || step + 1 == self.routine.end {
            self.log_step(log, step, learner.lr_current().base(), &figures)?;
        }
        Ok(output.item)
    }

    /// The end of the phase's last epoch, also where no image behind the last batch could be read.
    fn finish(
        &mut self,
        learner: &Learner<Trainee>,
        valid: &dyn DataLoader<Batch>,
        log: &mut File,
    ) -> Result<(), FitError> {
        let end = self.routine.end;
        let state = &mut self.routine.state;
        let missing = end.saturating_sub(state.step);
        if missing > 0 {
            state.skipped += missing;
            state.step = end;
            state.validation_due = self.routine.validates;
        }
        if state.skipped == end {
            let first = lock(&self.routine.train_state).broken.first().map(|broken| broken.reason.clone());
            return Err(FitError::NothingRead(first.unwrap_or_default()));
        }
        if missing > 0 {
            self.note(log, json!({"step": self.routine.state.step, "skipped": missing}))?;
        }
        self.validate(learner, valid, log)
    }

    fn open_log(&self) -> Result<File, FitError> {
        let path = &self.routine.log;
        log::open(path).map_err(|source| FitError::Output { path: path.clone(), source })
    }

    /// One line, whole, in the file before anything else happens.
    fn note(&self, log: &mut File, line: serde_json::Value) -> Result<(), FitError> {
        let text = format!("{line}\n");
        log.write_all(text.as_bytes()).map_err(|source| FitError::Output { path: self.routine.log.clone(), source })
    }

    fn log_step(&mut self, log: &mut File, step: usize, lr: f64, figures: &Figures) -> Result<(), FitError> {
        let rate = self.images_since_log as f64 / self.since_log.elapsed().as_secs_f64().max(1e-9);
        self.since_log = Instant::now();
        self.images_since_log = 0;
        let epoch = (step - self.routine.first.min(step)) / self.routine.steps_per_epoch.max(1) + 1;
        let mut line = json!({"step": step + 1, "epoch": epoch, "lr": lr});
        if let Some(phase) = self.routine.phase {
            line["phase"] = phase.into();
        }
        figures.named().for_each(|(name, value)| line[name] = value.into());
        line["images_per_second"] = rate.into();
        self.note(log, line)
    }

    /// AD, IC and AG over the validation images, if they are due; keeps the head if AD(50) is the best so far. Where the
    /// run is stopped meanwhile they stay due, and the run that goes on from here comes back to them.
    fn validate(
        &mut self,
        learner: &Learner<Trainee>,
        valid: &dyn DataLoader<Batch>,
        log: &mut File,
    ) -> Result<(), FitError> {
        if !self.routine.state.validation_due {
            return Ok(());
        }
        let model = learner.model().valid();
        let mut rows = Vec::new();
        for batch in valid.iter().map_while(Result::ok) {
            if (self.stopped)() {
                return Ok(());
            }
            rows.extend(burn::train::InferenceStep::step(&model, batch).0);
            model.answered()?;
        }
        if let Some(failure) = lock(&self.routine.valid_state).failure.take() {
            return Err(failure.into());
        }
        self.routine.state.validation_due = false;
        if rows.is_empty() {
            return Ok(());
        }
        let figures = named(&MaskedConfidence::default().summary(&rows));
        let ad50 = figures.get("AD(50)").copied().unwrap_or(f64::INFINITY);
        self.note(log, json!({"step": self.routine.state.step, "validation": figures, "images": rows.len()}))?;
        let mut outcome = lock(self.outcome);
        outcome.figures.clone_from(&figures);
        if is_best(self.routine.state.best.as_ref(), ad50, rows.len()) {
            self.routine.state.best = Some(Best { step: self.routine.state.step, ad50, images: rows.len(), figures });
            outcome.best = Some(model);
            drop(outcome);
            self.save(learner)?;
        }
        Ok(())
    }

    /// Writes a checkpoint, unless the last one says the same.
    fn save(&mut self, learner: &Learner<Trainee>) -> Result<(), FitError> {
        let now = (self.routine.state.step, self.routine.state.validation_due);
        if self.saved == Some(now) {
            return Ok(());
        }
        // The learner has no other way to its optimizer's state.
        learner.clone().optimizer_step(GradientsParams::new());
        let record = lock(&self.exchange.record).take();
        let record = record.ok_or_else(|| FitError::Stopped("the optimizer's state cannot be had".into()))?;
        let path = &self.routine.log;
        log::sync(path).map_err(|source| FitError::Output { path: path.clone(), source })?;
        self.routine.store.save(self.routine.state.clone(), learner.model().into_record(), record.0)?;
        self.saved = Some(now);
        Ok(())
    }

    fn not_finite(&self, step: usize, indices: &[usize], what: String) -> FitError {
        let images = indices.iter().map(|i| self.routine.images.name(*i)).collect();
        FitError::NotFinite { step: step + 1, what, images }
    }
}

/// Whether a multiple of `every` lies behind step `before` and not behind step `now`: more than one step lies between
/// them where batches were passed over.
fn reached(every: usize, before: usize, now: usize) -> bool {
    now / every.max(1) > before / every.max(1)
}

/// Whether AD(50) of a validation on so many images takes the place of the best so far. Where that was measured on
/// another number of them, the two cannot be compared, and the images of today count.
fn is_best(best: Option<&Best>, ad50: f64, images: usize) -> bool {
    best.is_none_or(|best| best.images != images || ad50 < best.ad50)
}

/// The first figure that is NaN or infinite.
fn bad_figure(figures: &Figures) -> Option<String> {
    figures.named().find(|(_, value)| !value.is_finite()).map(|(name, value)| format!("{name} is {value}"))
}

/// Figures by their usual names, such as `AD(50)`.
pub fn named(summaries: &[Summary]) -> BTreeMap<String, f64> {
    let of = |s: &Summary| {
        [("AD", s.ad), ("IC", s.ic), ("AG", s.ag)].map(|(name, value)| (format!("{name}({})", s.percent), value))
    };
    summaries.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiple_is_not_missed_where_batches_are_passed_over() {
        assert!(reached(10, 9, 10) && !reached(10, 10, 11) && !reached(10, 0, 9));
        assert!(reached(10, 8, 12) && reached(1, 4, 5));
    }

    #[test]
    fn the_best_is_the_best_of_the_same_images() {
        let best = Best { step: 1, ad50: 20.0, images: 16, figures: BTreeMap::new() };
        assert!(is_best(None, 99.0, 16) && is_best(Some(&best), 19.0, 16) && is_best(Some(&best), 99.0, 17));
        assert!(!is_best(Some(&best), 20.0, 16) && !is_best(Some(&best), f64::NAN, 16));
    }
}
