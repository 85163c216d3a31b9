use std::sync::atomic::AtomicUsize;

use super::*;

/// Images of one pixel whose values are index and crop. Some of them are broken.
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
        assert!(!self.panics.contains(&index), "a bug of a decoder");
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

fn batches(set: &Arc<Numbers>, options: &LoaderOptions, from_step: usize) -> Vec<Batch> {
    Loader::new(set.clone(), options.clone(), from_step).unwrap().map(Result::unwrap).collect()
}

#[test]
fn validation_reads_all_images_in_order() {
    let batches = batches(&numbers(10), &LoaderOptions::validation(4), 0);
    let indices: Vec<_> = batches.iter().map(|batch| batch.indices.clone()).collect();
    assert_eq!(indices, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
    assert_eq!(batches[2].pixels, [8.0, 0.0, 0.0, 9.0, 0.0, 0.0]);
    assert_eq!(batches[2].classes, [Some(2), Some(0)]);
    let tensor = batches[2].images(&burn::tensor::Device::default());
    assert_eq!(tensor.dims(), [2, 3, 1, 1]);
}

#[test]
fn training_shuffles_each_epoch_and_drops_the_last_batch() {
    let batches = batches(&numbers(11), &LoaderOptions::training(3, 2, 5), 0);
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
    let options = LoaderOptions { max_broken: 0.5, workers: 1, prefetch: 1, ..LoaderOptions::training(7, 3, 1) };
    let one = batches(&set, &options, 0);
    assert_eq!(one.len(), 15);
    for (workers, prefetch) in [(2, 1), (3, 4), (8, 2)] {
        assert_eq!(one, batches(&set, &LoaderOptions { workers, prefetch, ..options.clone() }, 0), "{workers} workers");
    }
}

#[test]
fn resume_reads_the_remaining_batches_only() {
    let options = LoaderOptions { workers: 3, ..LoaderOptions::training(4, 3, 9) };
    let whole = batches(&numbers(18), &options, 0);
    for from in [0, 1, 4, 6, 11, 12, 99] {
        let set = numbers(18);
        let tail = batches(&set, &options, from);
        assert_eq!(whole[from.min(12)..], tail, "from step {from}");
        assert_eq!(set.loaded.load(Ordering::Relaxed), 4 * tail.len());
    }
}

#[test]
fn a_limit_of_batches_ends_within_an_epoch() {
    let whole = batches(&numbers(18), &LoaderOptions::training(4, 3, 9), 0);
    for (limit, expected) in [(0, 0), (6, 6), (12, 12), (99, 12)] {
        let options = LoaderOptions { max_batches: Some(limit), ..LoaderOptions::training(4, 3, 9) };
        assert_eq!(batches(&numbers(18), &options, 0), whole[..expected]);
    }
}

#[test]
fn broken_images_shorten_their_batch_and_are_reported_once() {
    let set = Arc::new(Numbers { len: 8, broken: vec![1, 4, 5], panics: vec![2], ..Numbers::default() });
    let options = LoaderOptions { epochs: 2, max_broken: 0.5, ..LoaderOptions::validation(2) };
    let mut loader = Loader::new(set, options, 0).unwrap();
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
    assert_eq!(loader.broken_images().files().map(|broken| broken.index).collect::<Vec<_>>(), [1, 2, 4, 5]);
    assert!(batches[1].broken[0].reason.contains("2.jpg: the decoder panicked"));
}

#[test]
fn processes_share_the_batches_whatever_their_number() {
    let set = Arc::new(Numbers { len: 30, broken: vec![3, 4, 20], ..Numbers::default() });
    for options in [
        LoaderOptions { max_broken: 0.5, ..LoaderOptions::training(8, 3, 1) },
        LoaderOptions { max_broken: 0.5, ..LoaderOptions::validation(8) },
    ] {
        let whole = batches(&set, &options, 1);
        for of in [2, 3, 4, 8] {
            let read = |rank| batches(&set, &LoaderOptions { rank, world_size: of, ..options.clone() }, 1);
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
    let mut loader = Loader::new(set, LoaderOptions::validation(4), 0).unwrap();
    assert!(loader.by_ref().take(3).all(|batch| batch.is_ok()));
    let error = loader.next().unwrap().unwrap_err();
    assert!(matches!(error, DataError::TooManyBroken { count: 3, total: 200, .. }), "{error}");
    assert!(loader.next().is_none());
}

#[test]
fn no_more_than_the_prefetched_batches_is_loaded() {
    let set = numbers(1000);
    let options = LoaderOptions { workers: 4, prefetch: 3, ..LoaderOptions::validation(10) };
    let mut loader = Loader::new(set.clone(), options, 0).unwrap();
    loader.next().unwrap().unwrap();
    drop(loader);
    assert!(set.loaded.load(Ordering::Relaxed) <= 40, "one batch taken, three prefetched");
    assert_eq!(Arc::strong_count(&set), 1, "every worker has ended");
}

#[test]
fn less_than_one_batch_is_an_error() {
    for (len, options) in
        [(3, LoaderOptions::training(4, 1, 0)), (0, LoaderOptions::validation(4)), (3, LoaderOptions::validation(0))]
    {
        let error = Loader::new(numbers(len), options, 0).unwrap_err();
        assert!(matches!(error, DataError::NoBatch { .. }), "{error}");
    }
}
