//! What a loader reads, and in which order.

use std::ops::Range;
use std::thread;

use super::{Augment, ImageSet};

/// What a [`Loader`](super::Loader) reads, in which order, and with how many threads.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Images in a batch.
    pub batch_size: usize,
    /// Passes over the set.
    pub epochs: usize,
    /// Batches after which the plan ends, if the passes have not ended it before.
    pub limit: Option<usize>,
    /// Seed of the order and of the augmentation.
    pub seed: u64,
    /// A new random order in each epoch, instead of the set's own.
    pub shuffle: bool,
    /// Random crops and flips.
    pub augment: Augment,
    /// Leave out the images that do not fill a last batch, as training does.
    pub drop_last: bool,
    /// The fraction of the set that may be broken.
    pub max_broken: f64,
    /// Threads that decode; at least one.
    pub workers: usize,
    /// Batches in the making while one is in use; at least one.
    pub ahead: usize,
    /// Which share of every batch is read: this one of so many.
    pub share: (usize, usize),
    /// Whether a share is of stretches of its own, where the set has enough of them for all, instead of a part of the
    /// batches that a single loader would read.
    pub own_stretches: bool,
}

impl Plan {
    /// Shuffled and augmented epochs of full batches.
    #[must_use]
    pub fn training(batch_size: usize, epochs: usize, seed: u64) -> Self {
        let augment = Augment { crop: true, flip: true };
        Self { epochs, seed, shuffle: true, augment, drop_last: true, ..Self::validation(batch_size) }
    }

    /// One pass over the whole set in its own order with centre crops.
    #[must_use]
    pub fn validation(batch_size: usize) -> Self {
        Self {
            batch_size,
            epochs: 1,
            limit: None,
            seed: 0,
            shuffle: false,
            augment: Augment::default(),
            drop_last: false,
            max_broken: 0.01,
            workers: thread::available_parallelism().map_or(1, usize::from),
            ahead: 2,
            share: (0, 1),
            own_stretches: false,
        }
    }

    /// Whether a batch is read by several loaders, each of which reads its share.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.share.1 > 1
    }

    /// Where the stretches of `set` begin, if its share is of stretches of its own.
    #[must_use]
    pub fn own_stretches<'a>(&self, set: &'a dyn ImageSet) -> Option<&'a [usize]> {
        let starts = set.stretches();
        (self.own_stretches && self.shuffle && self.is_shared() && starts.len() >= self.share.1).then_some(starts)
    }

    /// The places of its share in a batch of `images`: shares are equal where their number divides the batch, and follow
    /// each other.
    #[must_use]
    pub fn own(&self, images: usize) -> Range<usize> {
        let (number, of) = self.share;
        let start = |number: usize| images * number.min(of) / of.max(1);
        start(number)..start(number + 1)
    }

    /// Batches in one pass over a set of `images`.
    #[must_use]
    pub fn batches_per_epoch(&self, images: usize) -> usize {
        let size = self.batch_size.max(1);
        if self.drop_last { images / size } else { images.div_ceil(size) }
    }

    /// Batches of the whole plan over a set of `images`.
    #[must_use]
    pub fn batches(&self, images: usize) -> usize {
        let all = self.batches_per_epoch(images).saturating_mul(self.epochs);
        self.limit.map_or(all, |limit| limit.min(all))
    }
}
