//! Options of a loader.

use std::ops::Range;
use std::thread;

use super::{Augment, ImageSet};

/// Options of a [`Loader`](super::Loader): batches, order, augmentation, threads.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Images in a batch.
    pub batch_size: usize,
    /// Number of epochs: passes over the set.
    pub epochs: usize,
    /// Number of batches after which the loader stops, if the epochs have not ended before.
    pub max_batches: Option<usize>,
    /// Seed of the order and the augmentation.
    pub seed: u64,
    /// A new random order in each epoch, in place of the set's own order.
    pub shuffle: bool,
    /// Random crops and flips.
    pub augment: Augment,
    /// Drop the last batch of an epoch if it is not full, as training does.
    pub drop_last: bool,
    /// Fraction of the set that may be broken, 0..=1.
    pub max_broken: f64,
    /// Number of threads that decode; at least one.
    pub workers: usize,
    /// Number of batches that are decoded ahead of the one in use; at least one.
    pub prefetch: usize,
    /// Index of the process that reads, below `world_size`.
    pub rank: usize,
    /// Number of processes that share every batch; at least one.
    pub world_size: usize,
    /// Whether each process reads shards of its own, if the set has at least one for each. Otherwise each reads its part of
    /// the batches that a single process would read.
    pub split_shards: bool,
}

impl LoaderOptions {
    /// Training: shuffled and augmented epochs of full batches.
    #[must_use]
    pub fn training(batch_size: usize, epochs: usize, seed: u64) -> Self {
        let augment = Augment { crop: true, flip: true };
        Self { epochs, seed, shuffle: true, augment, drop_last: true, ..Self::validation(batch_size) }
    }

    /// Validation: one pass over the whole set in its own order, with centre crops.
    #[must_use]
    pub fn validation(batch_size: usize) -> Self {
        Self {
            batch_size,
            epochs: 1,
            max_batches: None,
            seed: 0,
            shuffle: false,
            augment: Augment::default(),
            drop_last: false,
            max_broken: 0.01,
            workers: thread::available_parallelism().map_or(1, usize::from),
            prefetch: 2,
            rank: 0,
            world_size: 1,
            split_shards: false,
        }
    }

    /// Whether several processes share every batch.
    #[must_use]
    pub fn is_distributed(&self) -> bool {
        self.world_size > 1
    }

    /// The first index of each shard of `set`, if each process reads shards of its own.
    #[must_use]
    pub fn split_shards_of<'a>(&self, set: &'a dyn ImageSet) -> Option<&'a [usize]> {
        let starts = set.shard_starts();
        let enough = starts.len() >= self.world_size;
        (self.split_shards && self.shuffle && self.is_distributed() && enough).then_some(starts)
    }

    /// The positions of this process in a batch of `images`: the parts are contiguous, in the order of the ranks, and of
    /// equal size if `world_size` divides the batch.
    #[must_use]
    pub fn local(&self, images: usize) -> Range<usize> {
        let start = |rank: usize| images * rank.min(self.world_size) / self.world_size.max(1);
        start(self.rank)..start(self.rank + 1)
    }

    /// Number of batches in one epoch over a set of `images`.
    #[must_use]
    pub fn batches_per_epoch(&self, images: usize) -> usize {
        let size = self.batch_size.max(1);
        if self.drop_last { images / size } else { images.div_ceil(size) }
    }

    /// Number of batches of all epochs over a set of `images`.
    #[must_use]
    pub fn batches(&self, images: usize) -> usize {
        let all = self.batches_per_epoch(images).saturating_mul(self.epochs);
        self.max_batches.map_or(all, |most| most.min(all))
    }
}
