//! What a run writes down: its log, its validations with the best head, its checkpoints.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::train::Learner;
use serde_json::json;

use super::{Log, Run};
use crate::data::Batch;
use crate::fit::checkpoint::Best;
use crate::fit::progress::Figures;
use crate::fit::trainee::{Trainee, lock};
use crate::fit::{FitError, log};
use explainer_metrics::{Confidence, MaskedConfidence, Summary};

impl Run<'_> {
    /// The log, which the rank that writes has.
    pub(super) fn open_log(&self) -> Result<Log, FitError> {
        let path = &self.routine.log;
        let log = self.routine.group.is_main().then(|| log::open(path)).transpose();
        self.routine.group.all_ok(log.map_err(|source| FitError::Output { path: path.clone(), source }))
    }

    /// One line, whole, in the file before anything else happens. All ranks call it.
    pub(super) fn note(&self, log: &mut Log, line: serde_json::Value) -> Result<(), FitError> {
        let text = format!("{line}\n");
        let written = log.as_mut().map_or(Ok(()), |log| log.write_all(text.as_bytes()));
        let written = written.map_err(|source| FitError::Output { path: self.routine.log.clone(), source });
        self.routine.group.all_ok(written)
    }

    /// A line of the log about `step`.
    pub(super) fn log_step(&mut self, log: &mut Log, step: usize, lr: f64, figures: &Figures) -> Result<(), FitError> {
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
    pub(super) fn validate(
        &mut self,
        learner: &Learner<Trainee>,
        valid: &dyn DataLoader<Batch>,
        log: &mut Log,
    ) -> Result<(), FitError> {
        if !self.routine.state.validation_due {
            return Ok(());
        }
        self.settle()?;
        let model = learner.model().valid();
        let result = self.measure(&model, valid);
        // Every rank has measured its share, or as much of it as it came to.
        let all = self.routine.group.try_all_gather(result)?;
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
                model.check_failures()?;
            }
        }
        match lock(&self.routine.valid_state).failure.take() {
            Some(failure) => Err(failure.into()),
            None => Ok((rows, false)),
        }
    }

    /// Writes a checkpoint, unless the last one says the same.
    pub(super) fn save(&mut self, learner: &Learner<Trainee>) -> Result<(), FitError> {
        let now = (self.routine.state.step, self.routine.state.validation_due);
        if self.saved == Some(now) {
            return Ok(());
        }
        self.settle()?;
        let write = || -> Result<(), FitError> {
            // The learner has no other way to its optimizer's state.
            learner.clone().optimizer_step(GradientsParams::new());
            let record = lock(&self.exchange.record).take();
            let record = record.ok_or_else(|| FitError::Stopped("the optimizer's state cannot be had".into()))?;
            let path = &self.routine.log;
            log::sync(path).map_err(|source| FitError::Output { path: path.clone(), source })?;
            self.routine.store.save(self.routine.state.clone(), learner.model().into_record(), record.0)?;
            Ok(())
        };
        let written = if self.routine.group.is_main() { write() } else { Ok(()) };
        // Clean passes can be made again, this head cannot.
        let written = match (written, &self.routine.cache) {
            (Err(_), Some(cache)) if cache.make_room() => write(),
            (written, _) => written,
        };
        self.routine.group.all_ok(written)?;
        self.saved = Some(now);
        Ok(())
    }

    /// The failure of a step in all ranks, with the images of the whole batch; `indices` are those of this rank's share.
    pub(super) fn not_finite(&self, step: usize, indices: &[usize], what: String) -> FitError {
        let group = &self.routine.group;
        let indices = group.all_gather(&indices.to_vec()).map(|all| all.concat()).unwrap_or_else(|_| indices.to_vec());
        let images = indices.iter().map(|i| self.routine.images.name(*i)).collect();
        let failure = FitError::NotFinite { step: step + 1, what, images };
        group.all_ok::<(), _>(Err(failure)).err().unwrap_or_else(|| FitError::Stopped("no rank has failed".into()))
    }
}

/// Whether AD(50) of a validation on `images` images replaces the best so far. An undefined one (NaN) never does. If the
/// best was measured on another number of images, the two cannot be compared, and the new one replaces it.
fn is_best(best: Option<&Best>, ad50: f64, images: usize) -> bool {
    !ad50.is_nan() && best.is_none_or(|best| best.images != images || ad50 < best.ad50)
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
    fn the_best_is_the_best_of_the_same_images() {
        let best = Best { step: 1, ad50: 20.0, images: 16, figures: BTreeMap::new() };
        assert!(is_best(None, 99.0, 16) && is_best(Some(&best), 19.0, 16) && is_best(Some(&best), 99.0, 17));
        assert!(!is_best(Some(&best), 20.0, 16) && !is_best(Some(&best), f64::NAN, 16));
        assert!(!is_best(None, f64::NAN, 16) && !is_best(Some(&best), f64::NAN, 17), "undefined is never the best");
    }
}
