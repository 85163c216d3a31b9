//! Batches that worker threads decode ahead of the step that uses them.
//!
//! The consumer submits one job per image, at most for `prefetch` batches, so memory is bounded and workers never wait for
//! the consumer. Results arrive in any order and are put into their slots, so the batches do not depend on the number of
//! workers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use explainer_zoo::image::{Crop, Pixels};

use super::{Batch, BrokenImage, BrokenImages, DataError, ImageSet, LoaderOptions, Order};

/// An iterator over the batches of an image set.
///
/// A broken image is left out: its batch is shorter, and all other images stay in their batches. A batch without any image
/// is skipped together with its index, except in a distributed run, where other processes may have images of this batch.
/// So the images of a batch depend on the batch's index alone. Each loader counts broken images from zero.
#[derive(Debug)]
pub struct Loader {
    set: Arc<dyn ImageSet>,
    options: LoaderOptions,
    order: (usize, Order),
    next_step: usize,
    steps: usize,
    pending: VecDeque<Pending>,
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    broken: BrokenImages,
    unreported: Vec<BrokenImage>,
    waited: Duration,
}

/// One image to load, and its slot in a batch.
#[derive(Debug)]
struct Job {
    step: usize,
    slot: usize,
    index: usize,
    crop: Crop,
}

#[derive(Debug)]
struct Done {
    step: usize,
    slot: usize,
    result: Result<Pixels, DataError>,
}

/// A batch that workers are loading.
#[derive(Debug)]
struct Pending {
    step: usize,
    epoch: usize,
    images: Vec<(usize, Crop)>,
    results: Vec<Option<Result<Pixels, DataError>>>,
    missing: usize,
}

impl Loader {
    /// Starts the workers at batch `from_step`, counted over all epochs. No earlier image is read.
    ///
    /// # Errors
    /// [`DataError::NoBatch`] if the set does not fill one batch, [`DataError::Threads`] if no thread can be started.
    pub fn new(set: Arc<dyn ImageSet>, options: LoaderOptions, from_step: usize) -> Result<Self, DataError> {
        let per_epoch = options.batches_per_epoch(set.len());
        if options.batch_size == 0 || per_epoch == 0 {
            return Err(DataError::NoBatch { images: set.len(), batch_size: options.batch_size });
        }
        let (jobs, queue) = channel();
        let (sender, done) = channel();
        let mut loader = Self {
            order: (usize::MAX, Order::sequential(0)),
            next_step: from_step,
            steps: options.batches(set.len()),
            pending: VecDeque::new(),
            jobs: Some(jobs),
            done,
            stop: Arc::default(),
            workers: Vec::new(),
            broken: BrokenImages::new(set.len(), options.max_broken),
            unreported: Vec::new(),
            waited: Duration::ZERO,
            set,
            options,
        };
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..loader.options.workers.max(1) {
            let (set, queue, stop) = (loader.set.clone(), queue.clone(), loader.stop.clone());
            let sender = sender.clone();
            let worker = thread::Builder::new()
                .name(format!("decode-{number}"))
                .spawn(move || work(&*set, &queue, &sender, &stop))
                .map_err(|error| DataError::Threads(error.to_string()))?;
            loader.workers.push(worker);
        }
        loader.submit();
        Ok(loader)
    }

    /// Number of batches of all epochs, including those before the first batch of this loader.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The broken images so far.
    #[must_use]
    pub fn broken_images(&self) -> &BrokenImages {
        &self.broken
    }

    /// The time that the consumer has waited for images, including the first batch.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Submits jobs until `prefetch` batches are pending.
    fn submit(&mut self) {
        let per_epoch = self.options.batches_per_epoch(self.set.len());
        let set = self.set.clone();
        let split_shards = self.options.split_shards_of(set.as_ref());
        let size = self.options.local(self.options.batch_size).len();
        while self.pending.len() < self.options.prefetch.max(1) && self.next_step < self.steps {
            let step = self.next_step;
            let (epoch, position) = (step / per_epoch, step % per_epoch);
            if self.order.0 != epoch {
                let LoaderOptions { seed, rank, world_size, .. } = self.options;
                let order = match split_shards {
                    Some(starts) => {
                        let count = per_epoch * size;
                        Order::of_own_shards(set.len(), starts, seed, epoch, (rank, world_size), count)
                    }
                    None if self.options.shuffle => Order::shuffled(set.as_ref(), seed, epoch),
                    None => Order::sequential(set.len()),
                };
                self.order = (epoch, order);
            }
            let local = match split_shards {
                Some(_) => position * size..(position + 1) * size,
                None => {
                    let start = position * self.options.batch_size;
                    let local = self.options.local(self.options.batch_size.min(set.len() - start));
                    start + local.start..start + local.end
                }
            };
            let images: Vec<_> = self
                .order
                .1
                .indices()
                .iter()
                .skip(local.start)
                .take(local.len())
                .map(|&index| (index, self.options.augment.crop(self.options.seed, epoch, index)))
                .collect();
            if let Some(jobs) = &self.jobs {
                for (slot, &(index, crop)) in images.iter().enumerate() {
                    // This fails if there is no worker left, which `complete` reports.
                    let _ = jobs.send(Job { step, slot, index, crop });
                }
            }
            let missing = images.len();
            let results = images.iter().map(|_| None).collect();
            self.pending.push_back(Pending { step, epoch, images, results, missing });
            self.next_step += 1;
        }
    }

    /// Waits until the oldest pending batch is complete, and takes it; `None` at the end.
    fn complete(&mut self) -> Result<Option<Pending>, DataError> {
        while let Some(front) = self.pending.front() {
            if front.missing == 0 {
                return Ok(self.pending.pop_front());
            }
            let first = front.step;
            let start = Instant::now();
            let done = self.done.recv();
            self.waited += start.elapsed();
            let done = done.map_err(|_| DataError::Threads("all of them have ended".into()))?;
            if let Some(pending) = self.pending.get_mut(done.step - first) {
                pending.results[done.slot] = Some(done.result);
                pending.missing -= 1;
            }
        }
        Ok(None)
    }

    /// Collects the images of a batch and counts the broken ones.
    fn assemble(&mut self, pending: Pending) -> Result<Batch, DataError> {
        let mut batch = Batch { step: pending.step, epoch: pending.epoch, ..Batch::default() };
        for (image, result) in pending.images.into_iter().zip(pending.results.into_iter().flatten()) {
            let index = image.0;
            match result {
                Ok(pixels) => batch.push(&pixels, image, self.set.class(index), || self.set.name(index))?,
                Err(error) => {
                    let missing = matches!(error, DataError::MissingImage { .. });
                    let (name, reason) = (self.set.name(index), error.to_string());
                    let broken = BrokenImage { index, name, reason, missing };
                    if self.broken.record(&broken)? {
                        self.unreported.push(broken);
                    }
                }
            }
        }
        Ok(batch)
    }

    fn try_next(&mut self) -> Result<Option<Batch>, DataError> {
        while let Some(pending) = self.complete()? {
            self.submit(); // the workers continue while the consumer uses this batch
            let mut batch = self.assemble(pending)?;
            if !batch.is_empty() || self.options.is_distributed() {
                batch.broken = std::mem::take(&mut self.unreported);
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Stops the workers. Each of them finishes the image that it is loading.
    fn shut_down(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        self.pending.clear();
        self.next_step = self.steps;
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // the panic hook has reported a panic
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    /// The next batch; an error ends the iteration.
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.try_next();
        if next.is_err() {
            self.shut_down();
        }
        next.transpose()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Loads images until there are no more jobs or the loader stops.
fn work(set: &dyn ImageSet, jobs: &Mutex<Receiver<Job>>, done: &Sender<Done>, stop: &AtomicBool) {
    loop {
        // An idle worker waits with the lock held. The others wait for the lock.
        let job = jobs.lock().map(|jobs| jobs.recv());
        let Ok(Ok(Job { step, slot, index, crop })) = job else { return };
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // A decoder that panics on one file must not end the run.
        let result = catch_unwind(AssertUnwindSafe(|| set.load(index, crop)))
            .unwrap_or_else(|_| Err(DataError::Panicked { name: set.name(index) }));
        if done.send(Done { step, slot, result }).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
