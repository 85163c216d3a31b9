//! The training batches of a phase, shared among the ranks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use burn::train::Interrupter;
use explainer_zoo::feature_extractor::Features;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::FitError;
use super::context::Context;
use super::log::MetricsLog;
use crate::data::{Batch, BrokenImage, BrokenImages, DataError, ImageSet, Loader, LoaderOptions};

/// What a rank sends before a step.
#[derive(Clone, Serialize, Deserialize)]
struct Announcement {
    /// Images in its share of the batch; none behind the last batch.
    images: Option<usize>,
    /// Their height and width.
    size: [usize; 2],
    /// Images that it could not read since the last step.
    broken: Vec<BrokenImage>,
    /// Whether it was asked to stop.
    stop: bool,
}

/// A rank's share of a batch.
pub(super) struct TrainingBatch {
    /// The share, which may be empty. Its number counts all steps of the run.
    pub batch: Batch,
    /// Images in the whole batch.
    pub total: usize,
    /// The clean pass, where it was made while the gradients of the step before were summed.
    pub features: Option<Features>,
}

/// What follows a step.
pub(super) enum Next {
    /// Another batch, of which at least one rank could read at least one image.
    Batch(TrainingBatch),
    /// The end of the phase.
    End,
    /// A rank was asked to stop.
    Stop,
}

/// A batch that was read before its turn, none behind the last one, and its clean pass.
type Prefetched = (Option<Result<Batch, DataError>>, Option<Features>);

/// Reads this rank's share of every batch, and agrees with the other ranks on the next one.
pub(super) struct TrainingBatches<'a> {
    context: &'a Context,
    loader: Loader,
    /// Steps of the run before the phase.
    first: usize,
    /// A batch that was read before its turn, and its clean pass.
    prefetched: Option<Prefetched>,
    /// The broken images of this rank.
    broken: DistinctBrokenImages,
    /// The broken images of all ranks.
    tally: BrokenImages,
}

impl<'a> TrainingBatches<'a> {
    /// The batches of `plan` from its batch number `from` on; `first` steps of the run come before the plan.
    ///
    /// # Errors
    /// [`FitError::Data`].
    pub fn new(
        context: &'a Context,
        set: Arc<dyn ImageSet>,
        plan: LoaderOptions,
        first: usize,
        from: usize,
    ) -> Result<Self, FitError> {
        let tally = BrokenImages::new(set.len(), plan.max_broken);
        let loader = context.group.all_ok(Loader::new(set, plan, from).map_err(FitError::from))?;
        Ok(Self { context, loader, first, prefetched: None, broken: DistinctBrokenImages::default(), tally })
    }

    /// The next batch. Broken images of all ranks are logged, each once. All ranks call it.
    ///
    /// # Errors
    /// [`FitError::Data`] if a rank cannot read on, or if too many images are broken.
    pub fn next(&mut self, interrupter: &Interrupter, log: &mut MetricsLog) -> Result<Next, FitError> {
        let group = self.context.group.as_ref();
        loop {
            if group.is_single() && interrupter.should_stop() {
                return Ok(Next::Stop); // without reading another image
            }
            let (read, features) = self.prefetched.take().unwrap_or_else(|| (self.loader.next(), None));
            let (mut batch, failure) = match read.transpose() {
                Ok(batch) => (batch, None),
                Err(failure) => (None, Some(failure)),
            };
            self.note(batch.as_ref());
            let own = Announcement {
                images: batch.as_ref().map(Batch::len),
                size: batch.as_ref().map_or([0; 2], |batch| [batch.height, batch.width]),
                broken: batch.as_mut().map(|batch| std::mem::take(&mut batch.broken)).unwrap_or_default(),
                stop: !group.is_single() && interrupter.should_stop(),
            };
            let all = group.try_all_gather(failure.map_or(Ok(own), |failure| Err(FitError::from(failure))))?;
            self.log_broken(&all, batch.as_ref().map(|batch| self.first + batch.step), log)?;
            if all.iter().any(|one| one.stop) {
                return Ok(Next::Stop);
            }
            let Some(mut batch) = batch else { return Ok(Next::End) };
            batch.step += self.first;
            if batch.is_empty() {
                let size = all.iter().map(|one| one.size).find(|size| *size != [0; 2]);
                [batch.height, batch.width] = size.unwrap_or_default();
            }
            let total = all.iter().filter_map(|one| one.images).sum();
            if total > 0 {
                return Ok(Next::Batch(TrainingBatch { batch, total, features }));
            }
        }
    }

    /// Reads the next batch and makes its clean pass, which does not depend on the head, before [`TrainingBatches::next`]
    /// asks for it.
    pub fn prefetch(&mut self) {
        let read = self.loader.next();
        let batch = read.as_ref().and_then(|batch| batch.as_ref().ok()).filter(|batch| !batch.is_empty());
        let features = batch.map(|batch| self.context.observe(batch));
        self.prefetched = Some((read, features));
    }

    /// Writes the broken images of all ranks that are new. In another epoch another rank may meet the same image.
    fn log_broken(&mut self, all: &[Announcement], step: Option<usize>, log: &mut MetricsLog) -> Result<(), FitError> {
        let group = self.context.group.as_ref();
        let (mut new, mut counted) = (Vec::new(), Ok(()));
        for broken in all.iter().flat_map(|one| &one.broken) {
            // The loader counts those of a single process.
            match if group.is_single() { Ok(true) } else { self.tally.record(broken) } {
                Ok(true) => new.push(broken),
                Ok(false) => {}
                Err(error) => counted = counted.and(Err(FitError::from(error))),
            }
        }
        for broken in new {
            log.write(&json!({"step": step, "broken": broken.name, "reason": broken.reason}))?;
        }
        group.all_ok(counted)
    }

    /// Keeps the broken images of a batch; behind the last one those that no batch reports.
    fn note(&mut self, batch: Option<&Batch>) {
        match batch {
            Some(batch) => self.broken.extend(&batch.broken),
            None => self.broken.extend(self.loader.broken_images().files()),
        }
    }

    /// The broken images that this rank has met.
    pub fn broken(&self) -> &[BrokenImage] {
        self.broken.images()
    }

    /// Time spent waiting for images.
    pub fn waited(&self) -> Duration {
        self.loader.waited()
    }
}

/// Broken images, each once.
#[derive(Debug, Default)]
pub(super) struct DistinctBrokenImages {
    images: Vec<BrokenImage>,
    known: HashSet<usize>,
}

impl DistinctBrokenImages {
    /// Adds those that are new.
    pub fn extend<'a>(&mut self, broken: impl IntoIterator<Item = &'a BrokenImage>) {
        for image in broken {
            if self.known.insert(image.index) {
                self.images.push(image.clone());
            }
        }
    }

    /// All, in the order in which they were met.
    pub fn images(&self) -> &[BrokenImage] {
        &self.images
    }
}
