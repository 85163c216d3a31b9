//! What a loader reads, and in which order.

use std::thread;

use super::Augment;

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
        }
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
