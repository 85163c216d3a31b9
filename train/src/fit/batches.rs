//! Loaders of this crate as burn-train knows them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;

use super::trainee::lock;
use crate::data::{Batch, Broken, DataError, ImageSet, Loader, Plan};

/// What a loader tells besides its batches.
#[derive(Debug, Default)]
pub struct LoaderState {
    /// Why it ended early.
    pub failure: Option<DataError>,
    /// Images that could not be read.
    pub broken: Vec<Broken>,
    /// Their indices.
    known: HashSet<usize>,
    /// Time that training has waited for images.
    pub waited: Duration,
}

impl LoaderState {
    /// Keeps each image once: every validation meets the same broken ones again.
    pub(super) fn note<'a>(&mut self, broken: impl IntoIterator<Item = &'a Broken>) {
        for image in broken {
            if self.known.insert(image.index) {
                self.broken.push(image.clone());
            }
        }
    }
}

/// A set of images in the order of a plan, from any batch on.
#[derive(Clone, Debug)]
pub struct Batches {
    set: Arc<dyn ImageSet>,
    plan: Plan,
    first: usize,
    from_step: usize,
    state: Arc<Mutex<LoaderState>>,
}

impl Batches {
    /// The batches of `plan` over `set` from batch number `from_step` on.
    pub fn new(set: Arc<dyn ImageSet>, plan: Plan, from_step: usize) -> Self {
        Self { set, plan, first: 0, from_step, state: Arc::default() }
    }

    /// The same batches of a plan that follows others: `first` steps of the run lie before its own.
    #[must_use]
    pub fn behind(self, first: usize) -> Self {
        Self { first, ..self }
    }

    /// What the loaders of this and its copies have told so far.
    pub fn state(&self) -> Arc<Mutex<LoaderState>> {
        self.state.clone()
    }
}

impl DataLoader<Batch> for Batches {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Batch> + 'a> {
        let total = self.num_items();
        let state = self.state.clone();
        match Loader::new(self.set.clone(), self.plan.clone(), self.from_step) {
            Ok(loader) => Box::new(Iter { loader: Some(loader), first: self.first, state, done: 0, total }),
            Err(failure) => {
                lock(&state).failure = Some(failure);
                Box::new(Iter { loader: None, first: self.first, state, done: 0, total })
            }
        }
    }

    fn num_items(&self) -> usize {
        self.plan.batches(self.set.len()).saturating_sub(self.from_step) * self.plan.batch_size
    }

    fn to_device(&self, _device: &Device) -> Arc<dyn DataLoader<Batch>> {
        Arc::new(self.clone()) // batches are host memory until a step asks for their tensor
    }

    fn slice(&self, _start: usize, _end: usize) -> Arc<dyn DataLoader<Batch>> {
        Arc::new(self.clone()) // shards are a matter of the plan
    }
}

struct Iter {
    loader: Option<Loader>,
    first: usize,
    state: Arc<Mutex<LoaderState>>,
    done: usize,
    total: usize,
}

impl Iterator for Iter {
    type Item = Result<Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.loader.as_mut()?.next();
        let mut state = lock(&self.state);
        state.waited = self.loader.as_ref().map(Loader::waited).unwrap_or_default();
        match batch {
            Some(Ok(mut batch)) => {
                self.done += batch.len();
                batch.step += self.first;
                state.note(&batch.broken);
                Some(Ok(batch))
            }
            Some(Err(failure)) => {
                state.failure = Some(failure);
                self.loader = None;
                None
            }
            None => {
                // No batch tells of the images behind the last one that could be read.
                state.note(self.loader.iter().flat_map(|loader| loader.tally().files()));
                None
            }
        }
    }
}

impl DataLoaderIterator<Batch> for Iter {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.total, Some("images".into()))
    }
}
