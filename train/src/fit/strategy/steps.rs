//! The loop: batches shared out among the ranks, a step of each, and what is due behind it.

use burn::data::dataloader::{DataLoader, Progress};
use burn::data::dataset::DatasetError;
use burn::train::{
    EventProcessorTraining, Learner, LearnerEvent, SupervisedTrainingEventProcessor, TrainStep, TrainingItem,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::unread::Unread;
use super::{Log, Run};
use crate::data::{Batch, Broken};
use crate::distributed::ProcessGroup;
use crate::fit::FitError;
use crate::fit::progress::Figures;
use crate::fit::trainee::{StepOutput, Trainee, lock};

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

impl Run<'_> {
    /// All steps of the routine, from where it stands, and what is due behind each.
    pub(super) fn steps(
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
        let alone = self.routine.group.is_single();
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
        let all =
            self.routine.group.try_all_gather(failure.map_or(Ok(here), |failure| Err(FitError::from(failure))))?;
        let step = batch.as_ref().map(|batch| batch.step);
        // In another epoch another rank meets an image: it is new once.
        let mut counted: Result<(), FitError> = Ok(());
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
        self.routine.group.all_ok(counted)?;
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
        let group = self.routine.group.clone();
        let step = batch.step;
        let indices = batch.indices.clone();
        let model = learner.model();
        let mut output = TrainStep::step(&model, batch);
        let answered = model.check_failures().map_err(FitError::from);
        if group.is_single() {
            answered?;
        } else {
            // Those of the whole batch, which no rank has on its device.
            let read = || output.item.figures().map_err(|e| FitError::Device(e.to_string()));
            output.item.known = Some(whole(answered.and_then(|()| read()), images, &group)?);
        }
        // Without them the optimizer would hand out its state, and nothing would be learned.
        if output.grads.is_empty() {
            let reason = format!("the loss of step {} has no gradient in the head", step + 1);
            return group.all_ok(Err(FitError::Stopped(reason)));
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
        let summed = model.sum(&mut output.grads, weight, ahead).map_err(|failure| failure.to_string());
        if let Some(failure) = group.all_gather(&summed.err())?.into_iter().flatten().next() {
            return Err(self.not_finite(step, &indices, failure));
        }
        learner.optimizer_step(output.grads);
        let norms = lock(&self.exchange.norms).take();
        self.unread.push(Unread { step, indices, output: output.item.clone(), norms });
        if self.unread.len() >= self.routine.read_every {
            self.settle()?;
        }
        self.images_done += images;
        self.images_since_log += images;
        self.routine.state.skipped += step - before;
        self.routine.state.step = step + 1;
        self.routine.state.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        if reached(self.routine.log_every, before, step + 1) || step + 1 == self.routine.end {
            self.settle()?;
            if let Some(figures) = self.figures.clone() {
                self.log_step(log, step, learner.lr_current().base(), &figures)?;
            }
        }
        Ok(StepOutput { known: self.figures.clone(), ..output.item })
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
            let first = self.routine.group.all_gather(&first)?.into_iter().flatten().next();
            return self.routine.group.all_ok(Err(FitError::NothingRead(first.unwrap_or_default())));
        }
        if missing > 0 {
            self.note(log, json!({"step": self.routine.state.step, "skipped": missing}))?;
        }
        self.validate(learner, valid, log)
    }
}

/// Whether a multiple of `every` lies behind step `before` and not behind step `now`: more than one step lies between
/// them where batches were passed over.
fn reached(every: usize, before: usize, now: usize) -> bool {
    now / every.max(1) > before / every.max(1)
}

/// The figures of a batch of `images` images, from those of the shares that the ranks have.
fn whole(own: Result<Figures, FitError>, images: usize, group: &ProcessGroup) -> Result<Figures, FitError> {
    if group.is_single() {
        return own;
    }
    let (report, said) = match own {
        // Bit by bit: a NaN is to arrive as one.
        Ok(own) => (own.report, Ok((own.images, own.values.into_iter().map(f64::to_bits).collect::<Vec<_>>()))),
        Err(error) => (Default::default(), Err(error)),
    };
    let mut values = vec![0.0; report.len()];
    for (share, own) in group.try_all_gather(said)? {
        let weight = share as f64 / images.max(1) as f64;
        values.iter_mut().zip(own).for_each(|(sum, bits)| *sum += weight * f64::from_bits(bits));
    }
    Ok(Figures { report, values, images })
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
