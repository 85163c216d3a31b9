//! Data parallelism on the CPU: the chunks of a batch on worker threads.
//!
//! Many tensor operations of a network use one core only. A frozen network has no shared state, so the batch is split into
//! small chunks, and every worker takes chunk after chunk through the whole network with single-threaded operations. The
//! activations of a few images also fit the cache better.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::BackboneError;

/// Worker threads that share the chunks of a batch.
#[derive(Debug)]
pub struct WorkerPool {
    pools: Vec<ThreadPool>,
    chunk: usize,
}

impl WorkerPool {
    /// `threads` workers with chunks of `chunk` images. The chunk size must not depend on the number of threads: then results
    /// are bit-identical for any number.
    pub fn new(threads: usize, chunk: usize) -> Result<Self, BackboneError> {
        let pool = |_| {
            ThreadPoolBuilder::new()
                .num_threads(1)
                .build()
                .map_err(|e| BackboneError::Threads { threads, reason: e.to_string() })
        };
        Ok(Self { pools: (0..threads).map(pool).collect::<Result<_, _>>()?, chunk: chunk.max(1) })
    }

    /// No workers: a batch is one chunk on the caller's thread. For accelerators.
    pub fn inline() -> Self {
        Self { pools: Vec::new(), chunk: usize::MAX }
    }

    /// Whether there are no workers.
    pub fn is_inline(&self) -> bool {
        self.pools.is_empty()
    }

    /// Runs `job` for every chunk of `0..batch`; the results are in the chunks' order.
    pub fn run<R: Send>(&self, batch: usize, job: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
        self.run_chunks(split(0..batch, self.chunk).collect(), job)
    }

    /// [`WorkerPool::run`] for given chunks, in ascending order. They must not depend on the number of threads, either.
    pub fn run_chunks<R: Send>(&self, chunks: Vec<Range<usize>>, job: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
        let Some(first) = self.pools.first() else { return chunks.into_iter().map(job).collect() };
        if self.pools.len() == 1 {
            return first.install(|| chunks.into_iter().map(&job).collect());
        }
        if chunks.len() < 2 {
            // A single chunk runs on the caller's thread, where its operations may use all threads.
            return chunks.into_iter().map(job).collect();
        }
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(chunks.len()));
        std::thread::scope(|scope| {
            for pool in &self.pools {
                scope.spawn(|| {
                    pool.install(|| {
                        while let Some(range) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                            let result = (range.start, job(range.clone()));
                            done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(result);
                        }
                    })
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        done.sort_by_key(|(start, _)| *start);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

/// `range` in chunks of `size`; the last one may be shorter.
pub fn split(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(size.max(1)).map(move |from| from..end.min(from.saturating_add(size.max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_back_in_order_and_cover_the_batch() {
        let workers = WorkerPool::new(3, 4).unwrap();
        for batch in [1, 4, 5, 8, 31] {
            let ranges = workers.run(batch, |range| range);
            assert_eq!(ranges.iter().flat_map(|r| r.clone()).collect::<Vec<_>>(), (0..batch).collect::<Vec<_>>());
            assert!(ranges.iter().all(|r| r.len() <= 4));
        }
        assert_eq!(WorkerPool::inline().run(9, |range| (range.start, range.end)), [(0, 9)]);
        assert!(workers.run(0, |range| range).is_empty());
    }
}
