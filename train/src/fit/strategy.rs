//! The training loop: burn-train's learner driven step by step, with checkpoints, validation and a log at any step.
//!
//! burn-train's own strategies checkpoint once an epoch. This one saves every so many steps and when it is stopped, and
//! goes on from any of them with the same batches, so that the head of an interrupted run equals the uninterrupted one's.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use burn::data::dataloader::{DataLoader, Progress};
use burn::module::Module;
use burn::tensor::Device;
use burn::train::{
    EventProcessorTraining, Learner, LearnerEvent, SupervisedLearningStrategy, SupervisedTrainingEventProcessor,
    TrainLoader, TrainStep, TrainingComponents, TrainingItem, ValidLoader,
};
use serde_json::json;

use super::FitError;
use super::batches::LoaderState;
use super::checkpoint::{Best, State, Store};
use super::progress::Figures;
use super::trainee::{Exchange, Trainee, lock};
use crate::data::{Batch, ImageSet};
use crate::metric::{MaskedConfidence, Summary};

/// What a run does besides stepping.
#[derive(Debug)]
pub struct Routine {
    /// Where it stands.
    pub state: State,
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
    /// `metrics.jsonl`.
    pub log: PathBuf,
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
            let mut run = Run {
                routine,
                exchange: &self.exchange,
                outcome: &self.outcome,
                since_log: Instant::now(),
                images_since_log: 0,
                started: Instant::now(),
                seconds_before: 0.0,
            };
            run.seconds_before = run.routine.state.seconds;
            let stopped = || components.interrupter.should_stop();
            let result = run.steps(&mut learner, train.as_ref(), valid.as_ref(), &mut processor, &stopped);
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
    since_log: Instant,
    images_since_log: usize,
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
        stopped: &dyn Fn() -> bool,
    ) -> Result<(), FitError> {
        let mut log = self.open_log()?;
        let total = self.routine.state.total_steps;
        let total_images = train.num_items();
        let mut images_done = 0;
        let validate_every = match self.routine.validate_every {
            0 => self.routine.steps_per_epoch.max(1),
            every => every,
        };
        let _ = processor.process_train(LearnerEvent::StartSplit { epoch_number: 1, total_items: total_images });
        for batch in train.iter() {
            let Ok(batch) = batch else { break }; // the loader's own state says why
            for broken in &batch.broken {
                self.note(&mut log, json!({"step": batch.step, "broken": broken.name, "reason": broken.reason}))?;
            }
            let step = batch.step;
            let indices = batch.indices.clone();
            let last = step + 1 == total;
            let validate = last || (step + 1).is_multiple_of(validate_every);
            // Asked before the step, because the optimizer's state has to be taken while the step is made.
            // A validation is not given up: the resumed run would not come back to it.
            let stop = stopped() && !validate;
            let save = stop || last || (step + 1).is_multiple_of(self.routine.checkpoint_every);
            self.exchange.wanted.store(save || validate, Ordering::Relaxed);
            let output = TrainStep::step(&learner.model(), batch);
            let figures = output.item.figures().map_err(|e| FitError::Device(e.to_string()))?;
            if let Some(name) = bad_figure(&figures) {
                return Err(self.not_finite(step, &indices, name));
            }
            // A batch without a readable image is passed over, but its step of the schedule is not.
            for _ in self.routine.state.step..=step {
                learner.lr_step();
            }
            learner.optimizer_step(output.grads);
            if let Some(failure) = lock(&self.exchange.failure).take() {
                return Err(self.not_finite(step, &indices, failure.to_string()));
            }
            images_done += indices.len();
            self.images_since_log += indices.len();
            self.routine.state.step = step + 1;
            self.routine.state.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
            if (step + 1).is_multiple_of(self.routine.log_every) || last {
                self.log_step(&mut log, step, learner.lr_current().base(), &figures)?;
            }
            let progress = Progress::new(images_done, total_images, Some("images".into()));
            let item = TrainingItem::new(output.item, progress, Some(step + 1), Some(learner.lr_current()));
            let _ = processor.process_train(LearnerEvent::ProcessedItem(item));

            if validate {
                self.validate(learner, valid, &mut log)?;
            }
            if save {
                self.save(learner)?;
            }
            if stop {
                break;
            }
        }
        let _ = processor.process_train(LearnerEvent::EndSplit(1));
        Ok(())
    }

    fn open_log(&self) -> Result<File, FitError> {
        let path = &self.routine.log;
        let open = OpenOptions::new().create(true).append(true).open(path);
        open.map_err(|source| FitError::Output { path: path.clone(), source })
    }

    /// One line, whole, in the file before anything else happens.
    fn note(&self, log: &mut File, line: serde_json::Value) -> Result<(), FitError> {
        let text = format!("{line}\n");
        log.write_all(text.as_bytes()).map_err(|source| FitError::Output { path: self.routine.log.clone(), source })
    }

    fn log_step(&mut self, log: &mut File, step: usize, lr: f64, figures: &Figures) -> Result<(), FitError> {
        let [loss, ce, area, smooth, agreement] = figures.values;
        let rate = self.images_since_log as f64 / self.since_log.elapsed().as_secs_f64().max(1e-9);
        self.since_log = Instant::now();
        self.images_since_log = 0;
        let line = json!({
            "step": step + 1, "epoch": step / self.routine.steps_per_epoch.max(1) + 1, "lr": lr, "loss": loss, "ce": ce,
            "area": area, "smooth": smooth, "agreement": agreement, "images_per_second": rate,
        });
        self.note(log, line)
    }

    /// AD, IC and AG over the validation images; keeps the head if AD(50) is the best so far.
    fn validate(
        &mut self,
        learner: &Learner<Trainee>,
        valid: &dyn DataLoader<Batch>,
        log: &mut File,
    ) -> Result<(), FitError> {
        let model = learner.model().valid();
        let mut rows = Vec::new();
        for batch in valid.iter().map_while(Result::ok) {
            rows.extend(burn::train::InferenceStep::step(&model, batch).0);
        }
        if let Some(failure) = lock(&self.routine.valid_state).failure.take() {
            return Err(failure.into());
        }
        if rows.is_empty() {
            return Ok(());
        }
        let figures = named(&MaskedConfidence::default().summary(&rows));
        let ad50 = figures.get("AD(50)").copied().unwrap_or(f64::INFINITY);
        self.note(log, json!({"step": self.routine.state.step, "validation": figures, "images": rows.len()}))?;
        let mut outcome = lock(self.outcome);
        outcome.figures.clone_from(&figures);
        if self.routine.state.best.as_ref().is_none_or(|best| ad50 < best.ad50) {
            self.routine.state.best = Some(Best { step: self.routine.state.step, ad50, figures });
            outcome.best = Some(model);
            drop(outcome);
            self.save(learner)?;
        }
        Ok(())
    }

    fn save(&self, learner: &Learner<Trainee>) -> Result<(), FitError> {
        let record = lock(&self.exchange.record).take();
        let Some(record) = record else { return Ok(()) }; // this very step is saved already
        self.routine.store.save(self.routine.state.clone(), learner.model().into_record(), record.0)?;
        Ok(())
    }

    fn not_finite(&self, step: usize, indices: &[usize], what: String) -> FitError {
        let images = indices.iter().map(|i| self.routine.images.name(*i)).collect();
        FitError::NotFinite { step: step + 1, what, images }
    }
}

/// The first figure that is NaN or infinite.
fn bad_figure(figures: &Figures) -> Option<String> {
    let bad = figures.values.iter().zip(super::progress::Term::ALL).find(|(value, _)| !value.is_finite());
    bad.map(|(value, (name, _))| format!("{name} is {value}"))
}

/// Figures by their usual names, such as `AD(50)`.
pub fn named(summaries: &[Summary]) -> BTreeMap<String, f64> {
    let of = |s: &Summary| {
        [("AD", s.ad), ("IC", s.ic), ("AG", s.ag)].map(|(name, value)| (format!("{name}({})", s.percent), value))
    };
    summaries.iter().flat_map(of).collect()
}
