//! Batches decoded by worker threads ahead of the step that needs them.
//!
//! The consumer hands out jobs, one an image, and only as many as `ahead` batches hold; so memory is bounded without
//! any waiting on the workers' side. Results come back in any order and are put in their place, which makes the batches
//! the same whatever the number of workers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use explainer_zoo::image::{Crop, Pixels};

use super::{Batch, Broken, DataError, ImageSet, Order, Plan, Tally};

/// An iterator over the batches of a [`Plan`].
///
/// A broken image is left out: its batch is shorter, the other images stay where they are, and a batch without any
/// image is passed over (its number too), except where it is a share of a larger one, which others may have images of. So
/// which images a batch has depends on nothing but its number. The tally of broken images starts anew with each loader.
#[derive(Debug)]
pub struct Loader {
    set: Arc<dyn ImageSet>,
    plan: Plan,
    order: (usize, Order),
    next_step: usize,
    steps: usize,
    pending: VecDeque<Pending>,
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    tally: Tally,
    unreported: Vec<Broken>,
    waited: Duration,
}

/// One image to load, and its place.
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

/// A batch that workers are at.
#[derive(Debug)]
struct Pending {
    step: usize,
    epoch: usize,
    images: Vec<(usize, Crop)>,
    results: Vec<Option<Result<Pixels, DataError>>>,
    missing: usize,
}

impl Loader {
    /// Starts the workers on batch number `from_step`, counted over all epochs; no earlier image is touched.
    ///
    /// # Errors
    /// [`DataError::NoBatch`] if the set does not fill one batch, [`DataError::Threads`] if no thread can be started.
    pub fn new(set: Arc<dyn ImageSet>, plan: Plan, from_step: usize) -> Result<Self, DataError> {
        let per_epoch = plan.batches_per_epoch(set.len());
        if plan.batch_size == 0 || per_epoch == 0 {
            return Err(DataError::NoBatch { images: set.len(), batch_size: plan.batch_size });
        }
        let (jobs, queue) = channel();
        let (sender, done) = channel();
        let mut loader = Self {
            order: (usize::MAX, Order::sequential(0)),
            next_step: from_step,
            steps: plan.batches(set.len()),
            pending: VecDeque::new(),
            jobs: Some(jobs),
            done,
            stop: Arc::default(),
            workers: Vec::new(),
            tally: Tally::new(set.len(), plan.max_broken),
            unreported: Vec::new(),
            waited: Duration::ZERO,
            set,
            plan,
        };
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..loader.plan.workers.max(1) {
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

    /// Number of batches from the start of the run to the end of the plan, whatever this loader started from.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The broken images met so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Time that the consumer has spent waiting for images, the first batch included.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Hands out jobs until `ahead` batches are in the making.
    fn submit(&mut self) {
        let per_epoch = self.plan.batches_per_epoch(self.set.len());
        let set = self.set.clone();
        let own_stretches = self.plan.own_stretches(set.as_ref());
        let size = self.plan.own(self.plan.batch_size).len();
        while self.pending.len() < self.plan.ahead.max(1) && self.next_step < self.steps {
            let step = self.next_step;
            let (epoch, place) = (step / per_epoch, step % per_epoch);
            if self.order.0 != epoch {
                let seed = self.plan.seed;
                let order = match own_stretches {
                    Some(starts) => {
                        let count = per_epoch * size;
                        Order::of_own_stretches(set.len(), starts, seed, epoch, self.plan.share, count)
                    }
                    None if self.plan.shuffle => Order::shuffled(set.as_ref(), seed, epoch),
                    None => Order::sequential(set.len()),
                };
                self.order = (epoch, order);
            }
            let own = match own_stretches {
                Some(_) => place * size..(place + 1) * size,
                None => {
                    let start = place * self.plan.batch_size;
                    let own = self.plan.own(self.plan.batch_size.min(set.len() - start));
                    start + own.start..start + own.end
                }
            };
            let images: Vec<_> = self
                .order
                .1
                .indices()
                .iter()
                .skip(own.start)
                .take(own.len())
                .map(|&index| (index, self.plan.augment.crop(self.plan.seed, epoch, index)))
                .collect();
            if let Some(jobs) = &self.jobs {
                for (slot, &(index, crop)) in images.iter().enumerate() {
                    // Fails only without workers, which the wait for the results reports.
                    let _ = jobs.send(Job { step, slot, index, crop });
                }
            }
            let missing = images.len();
            let results = images.iter().map(|_| None).collect();
            self.pending.push_back(Pending { step, epoch, images, results, missing });
            self.next_step += 1;
        }
    }

    /// Waits until the oldest batch in the making is complete, and takes it; nothing at the end of the plan.
    fn complete(&mut self) -> Result<Option<Pending>, DataError> {
        while let Some(front) = self.pending.front() {
            if front.missing == 0 {
                return Ok(self.pending.pop_front());
            }
            let first = front.step;
            let start = Instant::now();
            let done = self.done.recv();
            self.waited += start.elapsed();
            let done = done.map_err(|_| DataError::Threads("all of them are gone".into()))?;
            if let Some(pending) = self.pending.get_mut(done.step - first) {
                pending.results[done.slot] = Some(done.result);
                pending.missing -= 1;
            }
        }
        Ok(None)
    }

    /// Puts the images of a batch together and counts the broken ones.
    fn assemble(&mut self, pending: Pending) -> Result<Batch, DataError> {
        let mut batch = Batch { step: pending.step, epoch: pending.epoch, ..Batch::default() };
        for (image, result) in pending.images.into_iter().zip(pending.results.into_iter().flatten()) {
            let index = image.0;
            match result {
                Ok(pixels) => batch.push(&pixels, image, self.set.class(index), || self.set.name(index))?,
                Err(error) => {
                    let broken = Broken { index, name: self.set.name(index), reason: error.to_string() };
                    if self.tally.record(&broken)? {
                        self.unreported.push(broken);
                    }
                }
            }
        }
        Ok(batch)
    }

    fn try_next(&mut self) -> Result<Option<Batch>, DataError> {
        while let Some(pending) = self.complete()? {
            self.submit(); // the workers go on while the consumer uses this batch
            let mut batch = self.assemble(pending)?;
            if !batch.is_empty() || self.plan.is_shared() {
                batch.broken = std::mem::take(&mut self.unreported);
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Stops the workers; each at most finishes the image that it is at.
    fn shut_down(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        self.pending.clear();
        self.next_step = self.steps;
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a panic was reported where it happened
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
        // An idle worker waits with the lock held; the others wait for the lock.
        let job = jobs.lock().map(|jobs| jobs.recv());
        let Ok(Ok(Job { step, slot, index, crop })) = job else { return };
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // A decoder that panics on one file must not take the run with it.
        let result = catch_unwind(AssertUnwindSafe(|| set.load(index, crop)))
            .unwrap_or_else(|_| Err(DataError::Panicked { name: set.name(index) }));
        if done.send(Done { step, slot, result }).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Images of one pixel whose value tells number and crop; some cannot be loaded.
    #[derive(Debug, Default)]
    struct Numbers {
        len: usize,
        broken: Vec<usize>,
        panics: Vec<usize>,
        loaded: AtomicUsize,
    }

    impl ImageSet for Numbers {
        fn len(&self) -> usize {
            self.len
        }

        fn name(&self, index: usize) -> String {
            format!("{index}.jpg")
        }

        fn class(&self, index: usize) -> Option<usize> {
            Some(index % 3)
        }

        fn classes(&self) -> &[String] {
            &[]
        }

        fn load(&self, index: usize, crop: Crop) -> Result<Pixels, DataError> {
            self.loaded.fetch_add(1, Ordering::Relaxed);
            assert!(!self.panics.contains(&index), "a decoder's own mistake");
            if self.broken.contains(&index) {
                return Err(explainer_zoo::image::ImageError::Empty { name: self.name(index) }.into());
            }
            let (top, left) = if let Crop::At { top, left, .. } = crop { (top, left) } else { (0.0, 0.0) };
            Ok(Pixels { values: vec![index as f32, top, left], height: 1, width: 1 })
        }
    }

    fn numbers(len: usize) -> Arc<Numbers> {
        Arc::new(Numbers { len, ..Numbers::default() })
    }

    fn batches(set: &Arc<Numbers>, plan: &Plan, from_step: usize) -> Vec<Batch> {
        Loader::new(set.clone(), plan.clone(), from_step).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn validation_reads_all_in_order() {
        let batches = batches(&numbers(10), &Plan::validation(4), 0);
        let indices: Vec<_> = batches.iter().map(|batch| batch.indices.clone()).collect();
        assert_eq!(indices, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        assert_eq!(batches[2].pixels, [8.0, 0.0, 0.0, 9.0, 0.0, 0.0]);
        assert_eq!(batches[2].classes, [Some(2), Some(0)]);
        let tensor = batches[2].images(&burn::tensor::Device::default());
        assert_eq!(tensor.dims(), [2, 3, 1, 1]);
    }

    #[test]
    fn training_shuffles_each_epoch_and_drops_the_rest() {
        let batches = batches(&numbers(11), &Plan::training(3, 2, 5), 0);
        assert_eq!(
            batches.iter().map(|batch| (batch.step, batch.epoch)).collect::<Vec<_>>(),
            [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]
        );
        let epoch = |range: std::ops::Range<usize>| -> Vec<usize> {
            batches[range].iter().flat_map(|batch| batch.indices.clone()).collect()
        };
        assert_eq!(epoch(0..3), Order::new(11, 5, 0).indices()[..9]);
        assert_eq!(epoch(3..6), Order::new(11, 5, 1).indices()[..9]);
    }

    #[test]
    fn the_number_of_workers_changes_nothing() {
        let set = Arc::new(Numbers { len: 40, broken: vec![3, 20], ..Numbers::default() });
        let plan = Plan { max_broken: 0.5, workers: 1, ahead: 1, ..Plan::training(7, 3, 1) };
        let one = batches(&set, &plan, 0);
        assert_eq!(one.len(), 15);
        for (workers, ahead) in [(2, 1), (3, 4), (8, 2)] {
            assert_eq!(one, batches(&set, &Plan { workers, ahead, ..plan.clone() }, 0), "{workers} workers");
        }
    }

    #[test]
    fn resuming_gives_the_tail_without_loading_the_head() {
        let plan = Plan { workers: 3, ..Plan::training(4, 3, 9) };
        let whole = batches(&numbers(18), &plan, 0);
        for from in [0, 1, 4, 6, 11, 12, 99] {
            let set = numbers(18);
            let tail = batches(&set, &plan, from);
            assert_eq!(whole[from.min(12)..], tail, "from step {from}");
            assert_eq!(set.loaded.load(Ordering::Relaxed), 4 * tail.len());
        }
    }

    #[test]
    fn a_limit_ends_the_plan_in_mid_epoch() {
        let whole = batches(&numbers(18), &Plan::training(4, 3, 9), 0);
        for (limit, expected) in [(0, 0), (6, 6), (12, 12), (99, 12)] {
            let plan = Plan { limit: Some(limit), ..Plan::training(4, 3, 9) };
            assert_eq!(batches(&numbers(18), &plan, 0), whole[..expected]);
        }
    }

    #[test]
    fn broken_images_shorten_their_batch_and_are_reported_once() {
        let set = Arc::new(Numbers { len: 8, broken: vec![1, 4, 5], panics: vec![2], ..Numbers::default() });
        let plan = Plan { epochs: 2, max_broken: 0.5, ..Plan::validation(2) };
        let mut loader = Loader::new(set, plan, 0).unwrap();
        let batches: Vec<Batch> = loader.by_ref().map(Result::unwrap).collect();
        let found: Vec<_> = batches
            .iter()
            .map(|batch| (batch.step, batch.indices.clone(), batch.broken.iter().map(|broken| broken.index).collect()))
            .collect();
        let expected: [(usize, Vec<usize>, Vec<usize>); 6] = [
            (0, vec![0], vec![1]),
            (1, vec![3], vec![2]),
            (3, vec![6, 7], vec![4, 5]), // batch 2 had no image left
            (4, vec![0], vec![]),
            (5, vec![3], vec![]),
            (7, vec![6, 7], vec![]),
        ];
        assert_eq!(found, expected);
        assert_eq!(loader.tally().files().map(|broken| broken.index).collect::<Vec<_>>(), [1, 2, 4, 5]);
        assert!(batches[1].broken[0].reason.contains("2.jpg: the decoder panicked"));
    }

    #[test]
    fn shares_make_up_the_batches_whatever_their_number() {
        let set = Arc::new(Numbers { len: 30, broken: vec![3, 4, 20], ..Numbers::default() });
        for plan in
            [Plan { max_broken: 0.5, ..Plan::training(8, 3, 1) }, Plan { max_broken: 0.5, ..Plan::validation(8) }]
        {
            let whole = batches(&set, &plan, 1);
            for of in [2, 3, 4, 8] {
                let read = |number| batches(&set, &Plan { share: (number, of), ..plan.clone() }, 1);
                let shares: Vec<Vec<Batch>> = (0..of).map(read).collect();
                for (i, batch) in whole.iter().enumerate() {
                    let joined = |part: fn(&Batch) -> Vec<usize>| -> Vec<usize> {
                        shares.iter().flat_map(|share| part(&share[i])).collect()
                    };
                    assert_eq!(joined(|batch| batch.indices.clone()), batch.indices, "{of} shares, batch {i}");
                    let pixels: Vec<f32> = shares.iter().flat_map(|share| share[i].pixels.clone()).collect();
                    assert_eq!(pixels, batch.pixels, "the same crops");
                    assert!(shares.iter().all(|share| share[i].step == batch.step));
                }
            }
        }
    }

    #[test]
    fn too_many_broken_images_end_the_run() {
        let set = Arc::new(Numbers { len: 200, broken: vec![10, 11, 12], ..Numbers::default() });
        let mut loader = Loader::new(set, Plan::validation(4), 0).unwrap();
        assert!(loader.by_ref().take(3).all(|batch| batch.is_ok()));
        let error = loader.next().unwrap().unwrap_err();
        assert!(matches!(error, DataError::TooManyBroken { count: 3, total: 200, .. }), "{error}");
        assert!(loader.next().is_none());
    }

    #[test]
    fn no_more_is_loaded_than_was_planned_ahead() {
        let set = numbers(1000);
        let plan = Plan { workers: 4, ahead: 3, ..Plan::validation(10) };
        let mut loader = Loader::new(set.clone(), plan, 0).unwrap();
        loader.next().unwrap().unwrap();
        drop(loader);
        assert!(set.loaded.load(Ordering::Relaxed) <= 40, "one batch taken, three ahead");
        assert_eq!(Arc::strong_count(&set), 1, "every worker has ended");
    }

    #[test]
    fn less_than_a_batch_is_an_error() {
        for (len, plan) in [(3, Plan::training(4, 1, 0)), (0, Plan::validation(4)), (3, Plan::validation(0))] {
            let error = Loader::new(numbers(len), plan, 0).unwrap_err();
            assert!(matches!(error, DataError::NoBatch { .. }), "{error}");
        }
    }
}
