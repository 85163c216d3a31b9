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
use burn::data::dataset::DatasetError;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use burn::train::{
    EventProcessorTraining, Learner, LearnerEvent, SupervisedLearningStrategy, SupervisedTrainingEventProcessor,
    TrainLoader, TrainStep, TrainingComponents, TrainingItem, ValidLoader,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::FitError;
use super::batches::LoaderState;
use super::checkpoint::{Best, State, Store};
use super::log;
use super::progress::Figures;
use super::trainee::{Exchange, StepOutput, Trainee, lock};
use crate::data::{Batch, Broken, ImageSet, Tally};
use crate::distributed::Team;
use crate::metric::{Confidence, MaskedConfidence, Summary};

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
    /// Those who train together, each with its share of every batch. The first one writes.
    pub team: Arc<Team>,
    /// The fraction of the training images that may be broken.
    pub max_broken: f64,
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

/// What a rank says before a step.
#[derive(Clone, Serialize, Deserialize)]
struct Here {
    /// Images in its share of the batch; none where there is no batch any more.
    images: Option<usize>,
    /// Their height and width.
    size: [usize; 2],
    /// Images that it has found broken since the last step.
    broken: Vec<Broken>,
    /// Whether it is asked to stop.
    stop: bool,
}

struct Run<'a> {
    routine: Routine,
    exchange: &'a Exchange,
    outcome: &'a Mutex<Outcome>,
    stopped: &'a dyn Fn() -> bool,
    /// Whether one of the ranks was asked to stop, as all know.
    halted: bool,
    /// What the loader gave when it was asked before its turn.
    fetched: Option<Option<Batch>>,
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
        while let Some((batch, images)) = self.next_batch(batches.as_mut(), &mut log)? {
            if images == 0 {
                continue; // no rank could read any of it
            }
            let before = self.routine.state.step;
            let output = self.step(learner, (batch, images), batches.as_mut(), &mut log)?;
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
        if !self.halted {
            self.finish(learner, valid, &mut log)?;
        }
        self.save(learner)
    }

    /// This rank's share of the next batch, and how many images all shares have; nothing at the end, or where the run is
    /// halted. The share may be empty.
    fn next_batch(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<Batch, DatasetError>>,
        log: &mut Log,
    ) -> Result<Option<(Batch, usize)>, FitError> {
        let alone = self.routine.team.is_alone();
        if alone && (self.stopped)() {
            self.halted = true; // without another image read
            return Ok(None);
        }
        // A batch that is no batch ends the loop; the loader's own state says why.
        let mut batch = self.fetched.take().unwrap_or_else(|| batches.next().and_then(Result::ok));
        let failure = lock(&self.routine.train_state).failure.take();
        let here = Here {
            images: batch.as_ref().map(Batch::len),
            size: batch.as_ref().map_or([0; 2], |batch| [batch.height, batch.width]),
            broken: batch.as_mut().map(|batch| std::mem::take(&mut batch.broken)).unwrap_or_default(),
            stop: !alone && (self.stopped)(),
        };
        let all = self.routine.team.share(failure.map_or(Ok(here), |failure| Err(failure.into())))?;
        let step = batch.as_ref().map(|batch| batch.step);
        // In another epoch another rank meets an image: it is new once.
        let mut counted = Ok(());
        let mut new = Vec::new();
        for broken in all.iter().flat_map(|one| &one.broken) {
            match if alone { Ok(true) } else { self.tally.record(broken) } {
                Ok(true) => new.push(broken),
                Ok(false) => {}
                Err(error) => counted = counted.and(Err(error.into())),
            }
        }
        for broken in new {
            self.note(log, json!({"step": step, "broken": broken.name, "reason": broken.reason}))?;
        }
        self.routine.team.together(counted)?;
        self.halted = all.iter().any(|one| one.stop);
        if let Some(batch) = batch.as_mut().filter(|batch| batch.is_empty()) {
            let size = all.iter().map(|one| one.size).find(|size| *size != [0; 2]);
            [batch.height, batch.width] = size.unwrap_or_default();
        }
        let images = all.iter().filter_map(|one| one.images).sum();
        Ok(batch.filter(|_| !self.halted).map(|batch| (batch, images)))
    }

    /// Learns from one batch, of whose `images` images this rank has a share.
    fn step(
        &mut self,
        learner: &mut Learner<Trainee>,
        (batch, images): (Batch, usize),
        batches: &mut dyn Iterator<Item = Result<Batch, DatasetError>>,
        log: &mut Log,
    ) -> Result<StepOutput, FitError> {
        let team = self.routine.team.clone();
        let step = batch.step;
        let indices = batch.indices.clone();
        let model = learner.model();
        let mut output = TrainStep::step(&model, batch);
        let answered = model.answered().map_err(FitError::from);
        let read = || output.item.figures().map_err(|e| FitError::Device(e.to_string()));
        let figures = whole(answered.and_then(|()| read()), images, &team)?;
        if let Some(name) = bad_figure(&figures) {
            return Err(self.not_finite(step, &indices, name));
        }
        // Without them the optimizer would hand out its state, and nothing would be learned.
        if output.grads.is_empty() {
            let reason = format!("the loss of step {} has no gradient in the head", step + 1);
            return team.together(Err(FitError::Stopped(reason)));
        }
        // A batch without a readable image is passed over, but its step of the schedule is not.
        let before = self.routine.state.step;
        for _ in before..=step {
            learner.lr_step();
        }
        let weight = indices.len() as f64 / images.max(1) as f64;
        let fetched = &mut self.fetched;
        let ahead = self.routine.overlap.then_some(|| {
            // The clean pass of the next batch does not need the head that this step is about to change.
            let batch = batches.next().and_then(Result::ok);
            batch.iter().for_each(|batch| model.look(batch));
            *fetched = Some(batch);
        });
        let failure = match model.sum(&mut output.grads, weight, ahead) {
            Ok(()) => {
                learner.optimizer_step(output.grads);
                lock(&self.exchange.failure).take()
            }
            Err(failure) => Some(failure),
        };
        let failure = failure.map(|failure| failure.to_string());
        if let Some(failure) = team.tell(&failure)?.into_iter().flatten().next() {
            return Err(self.not_finite(step, &indices, failure));
        }
        self.images_done += images;
        self.images_since_log += images;
        self.routine.state.skipped += step - before;
        self.routine.state.step = step + 1;
        self.routine.state.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        if reached(self.routine.log_every, before, step + 1) || step + 1 == self.routine.end {
            self.log_step(log, step, learner.lr_current().base(), &figures)?;
        }
        Ok(match team.is_alone() {
            true => output.item,
            false => StepOutput::of(&figures, &output.item.values.device()),
        })
    }

    /// The end of the phase's last epoch, also where no image behind the last batch could be read.
    fn finish(
        &mut self,
        learner: &Learner<Trainee>,
        valid: &dyn DataLoader<Batch>,
        log: &mut Log,
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
            let first = self.routine.team.tell(&first)?.into_iter().flatten().next();
            return self.routine.team.together(Err(FitError::NothingRead(first.unwrap_or_default())));
        }
        if missing > 0 {
            self.note(log, json!({"step": self.routine.state.step, "skipped": missing}))?;
        }
        self.validate(learner, valid, log)
    }

    /// The log, which the rank that writes has.
    fn open_log(&self) -> Result<Log, FitError> {
        let path = &self.routine.log;
        let log = self.routine.team.writes().then(|| log::open(path)).transpose();
        self.routine.team.together(log.map_err(|source| FitError::Output { path: path.clone(), source }))
    }

    /// One line, whole, in the file before anything else happens. All ranks call it.
    fn note(&self, log: &mut Log, line: serde_json::Value) -> Result<(), FitError> {
        let text = format!("{line}\n");
        let written = log.as_mut().map_or(Ok(()), |log| log.write_all(text.as_bytes()));
        let written = written.map_err(|source| FitError::Output { path: self.routine.log.clone(), source });
        self.routine.team.together(written)
    }

    fn log_step(&mut self, log: &mut Log, step: usize, lr: f64, figures: &Figures) -> Result<(), FitError> {
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
        log: &mut Log,
    ) -> Result<(), FitError> {
        if !self.routine.state.validation_due {
            return Ok(());
        }
        let model = learner.model().valid();
        let result = self.measure(&model, valid);
        // Every rank has measured its share, or as much of it as it came to.
        let all = self.routine.team.share(result)?;
        if all.iter().any(|(_, stopped)| *stopped) {
            self.halted = true;
            return Ok(());
        }
        let rows: Vec<Confidence> = all.into_iter().flat_map(|(rows, _)| rows).collect();
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

    /// This rank's share of a validation, and whether it was asked to stop in the middle of it.
    fn measure(&self, model: &Trainee, valid: &dyn DataLoader<Batch>) -> Result<(Vec<Confidence>, bool), FitError> {
        let mut rows = Vec::new();
        for batch in valid.iter().map_while(Result::ok) {
            if (self.stopped)() {
                return Ok((rows, true));
            }
            if !batch.is_empty() {
                rows.extend(burn::train::InferenceStep::step(model, batch).0);
                model.answered()?;
            }
        }
        match lock(&self.routine.valid_state).failure.take() {
            Some(failure) => Err(failure.into()),
            None => Ok((rows, false)),
        }
    }

    /// Writes a checkpoint, unless the last one says the same.
    fn save(&mut self, learner: &Learner<Trainee>) -> Result<(), FitError> {
        let now = (self.routine.state.step, self.routine.state.validation_due);
        if self.saved == Some(now) {
            return Ok(());
        }
        let write = || {
            // The learner has no other way to its optimizer's state.
            learner.clone().optimizer_step(GradientsParams::new());
            let record = lock(&self.exchange.record).take();
            let record = record.ok_or_else(|| FitError::Stopped("the optimizer's state cannot be had".into()))?;
            let path = &self.routine.log;
            log::sync(path).map_err(|source| FitError::Output { path: path.clone(), source })?;
            self.routine.store.save(self.routine.state.clone(), learner.model().into_record(), record.0)?;
            Ok(())
        };
        let written = if self.routine.team.writes() { write() } else { Ok(()) };
        self.routine.team.together(written)?;
        self.saved = Some(now);
        Ok(())
    }

    /// The failure of a step in all ranks, with the images of the whole batch; `indices` are those of this rank's share.
    fn not_finite(&self, step: usize, indices: &[usize], what: String) -> FitError {
        let team = &self.routine.team;
        let indices = team.tell(&indices.to_vec()).map(|all| all.concat()).unwrap_or_else(|_| indices.to_vec());
        let images = indices.iter().map(|i| self.routine.images.name(*i)).collect();
        let failure = FitError::NotFinite { step: step + 1, what, images };
        team.together::<()>(Err(failure)).err().unwrap_or_else(|| FitError::Stopped("no rank has failed".into()))
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

/// The figures of a batch of `images` images, from those of the shares that the ranks have.
fn whole(own: Result<Figures, FitError>, images: usize, team: &Team) -> Result<Figures, FitError> {
    if team.is_alone() {
        return own;
    }
    let (report, said) = match own {
        // Bit by bit: a NaN is to arrive as one.
        Ok(own) => (own.report, Ok((own.images, own.values.into_iter().map(f64::to_bits).collect::<Vec<_>>()))),
        Err(error) => (Default::default(), Err(error)),
    };
    let mut values = vec![0.0; report.len()];
    for (share, own) in team.share(said)? {
        let weight = share as f64 / images.max(1) as f64;
        values.iter_mut().zip(own).for_each(|(sum, bits)| *sum += weight * f64::from_bits(bits));
    }
    Ok(Figures { report, values, images })
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
