//! Typed collectives, and failures that all ranks learn of.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use explainer_zoo::sync_batch_norm::AllReduce;
use explainer_zoo::training::AllGather;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Communicator, CommunicatorError, SingleProcess};

/// The ranks of a run, as one of them sees it.
#[derive(Debug)]
pub struct ProcessGroup {
    communicator: Box<dyn Communicator>,
    failed_together: AtomicBool,
}

impl ProcessGroup {
    /// The group of a communicator's ranks.
    #[must_use]
    pub fn new(communicator: impl Communicator + 'static) -> Arc<Self> {
        Arc::new(Self { communicator: Box::new(communicator), failed_together: AtomicBool::new(false) })
    }

    /// A run in one process.
    #[must_use]
    pub fn single() -> Arc<Self> {
        Self::new(SingleProcess)
    }

    /// The number of this rank, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.communicator.rank()
    }

    /// The number of ranks.
    #[must_use]
    pub fn size(&self) -> usize {
        self.communicator.size()
    }

    /// The number of this rank among the ranks of its machine, and how many these are.
    #[must_use]
    pub fn local_rank(&self) -> (usize, usize) {
        self.communicator.local_rank()
    }

    /// Whether there is one rank only.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.size() == 1
    }

    /// Whether this is rank 0, which writes the log, the checkpoints and the artifact.
    #[must_use]
    pub fn is_main(&self) -> bool {
        self.rank() == 0
    }

    /// Whether all ranks know the error that the run has ended with, so that no rank waits for this one.
    #[must_use]
    pub fn failed_together(&self) -> bool {
        self.failed_together.load(Ordering::Relaxed)
    }

    /// As [`Communicator::abort`].
    pub fn abort(&self) {
        self.communicator.abort();
    }

    /// Replaces `values` by their sum over all ranks.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce_sum`].
    pub fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), CommunicatorError> {
        self.communicator.all_reduce_sum(values)
    }

    /// The value of each rank, in rank order. Values travel as JSON: floats have to be finite.
    ///
    /// # Errors
    /// As [`Communicator::all_gather`]; [`CommunicatorError::Mismatch`] where a rank sends another type.
    pub fn all_gather<T: Clone + Serialize + DeserializeOwned>(&self, own: &T) -> Result<Vec<T>, CommunicatorError> {
        if self.is_single() {
            return Ok(vec![own.clone()]);
        }
        let all = self.communicator.all_gather(&self.encode(own)?)?;
        all.iter().enumerate().map(|(rank, text)| decode(rank, text)).collect()
    }

    /// The value of rank 0.
    ///
    /// # Errors
    /// As [`ProcessGroup::all_gather`].
    pub fn broadcast<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<T, CommunicatorError> {
        if self.is_single() {
            return Ok(own);
        }
        let own = if self.is_main() { self.encode(&own)? } else { Vec::new() };
        decode(0, &self.communicator.broadcast(own)?)
    }

    /// The bytes of rank 0; those of the other ranks are ignored.
    ///
    /// # Errors
    /// As [`Communicator::broadcast`].
    pub fn broadcast_bytes(&self, own: Vec<u8>) -> Result<Vec<u8>, CommunicatorError> {
        self.communicator.broadcast(own)
    }

    /// The value of each rank if all have one. If ranks have failed, the first of them returns its own error and all
    /// others return [`CommunicatorError::Failed`], which names it.
    ///
    /// # Errors
    /// One of any rank.
    pub fn try_all_gather<T, E>(&self, own: Result<T, E>) -> Result<Vec<T>, E>
    where
        T: Clone + Serialize + DeserializeOwned,
        E: Display + From<CommunicatorError>,
    {
        let (own, error) = match own {
            Ok(own) => (Ok(own), None),
            Err(error) if self.is_single() => return Err(error),
            Err(error) => (Err(error.to_string()), Some(error)),
        };
        let mut values = Vec::with_capacity(self.size());
        for (rank, value) in self.all_gather::<Result<T, String>>(&own)?.into_iter().enumerate() {
            match value {
                Ok(value) => values.push(value),
                Err(message) => {
                    self.failed_together.store(true, Ordering::Relaxed);
                    let own = error.filter(|_| rank == self.rank());
                    return Err(own.unwrap_or_else(|| CommunicatorError::Failed { rank, message }.into()));
                }
            }
        }
        Ok(values)
    }

    /// `own`, if no rank has failed; otherwise as [`ProcessGroup::try_all_gather`]. What `own` holds stays on this rank.
    ///
    /// # Errors
    /// One of any rank.
    pub fn all_ok<T, E: Display + From<CommunicatorError>>(&self, own: Result<T, E>) -> Result<T, E> {
        if self.is_single() {
            return own;
        }
        let messages = self.all_gather(&own.as_ref().err().map(ToString::to_string))?;
        let failed = messages.into_iter().enumerate().find_map(|(rank, message)| message.map(|text| (rank, text)));
        let Some((rank, message)) = failed else { return own };
        self.failed_together.store(true, Ordering::Relaxed);
        if rank == self.rank() { own } else { Err(CommunicatorError::Failed { rank, message }.into()) }
    }

    fn encode<T: Serialize>(&self, own: &T) -> Result<Vec<u8>, CommunicatorError> {
        let rank = self.rank();
        serde_json::to_vec(own).map_err(|error| CommunicatorError::Mismatch { rank, reason: error.to_string() })
    }
}

fn decode<T: DeserializeOwned>(rank: usize, text: &[u8]) -> Result<T, CommunicatorError> {
    serde_json::from_slice(text).map_err(|error| CommunicatorError::Mismatch { rank, reason: error.to_string() })
}

impl AllReduce for ProcessGroup {
    /// NaN where the collective fails: the next collective returns the error.
    fn all_reduce_sum(&self, values: &mut [f32]) {
        if Self::all_reduce_sum(self, values).is_err() {
            values.fill(f32::NAN);
        }
    }
}

impl AllGather for ProcessGroup {
    fn rank(&self) -> usize {
        Self::rank(self)
    }

    fn all_gather(&self, own: &[i64]) -> Option<Vec<Vec<i64>>> {
        Self::all_gather(self, &own.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ThreadCommunicator;
    use super::*;

    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Failure {
        #[error("lost")]
        Own,
        #[error(transparent)]
        Communicator(#[from] CommunicatorError),
    }

    /// How each of three ranks ends, of which ranks 1 and 2 fail.
    fn ends(work: impl Fn(&ProcessGroup, Result<usize, Failure>) -> Failure + Sync) -> Vec<(Failure, bool)> {
        std::thread::scope(|scope| {
            let work = &work;
            let spawn = |communicator: ThreadCommunicator| {
                scope.spawn(move || {
                    let group = ProcessGroup::new(communicator);
                    let own = if group.rank() > 0 { Err(Failure::Own) } else { Ok(0) };
                    (work(&group, own), group.failed_together())
                })
            };
            let ranks: Vec<_> = ThreadCommunicator::new(3).into_iter().map(spawn).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn all_ranks_learn_of_a_failure_and_the_first_that_failed_returns_its_own() {
        let all_ok = ends(|group, own| group.all_ok(own).unwrap_err());
        let try_all_gather = ends(|group, own| group.try_all_gather(own).unwrap_err());
        for ends in [all_ok, try_all_gather] {
            assert_eq!(ends[1], (Failure::Own, true));
            for rank in [0, 2] {
                let failed = CommunicatorError::Failed { rank: 1, message: "lost".into() };
                assert_eq!(ends[rank], (failed.into(), true));
            }
        }
    }

    #[test]
    fn in_one_process_every_collective_is_the_identity() {
        let group = ProcessGroup::single();
        assert_eq!(group.all_gather(&3), Ok(vec![3]));
        assert_eq!(group.broadcast("x".to_string()), Ok("x".to_string()));
        assert!(group.all_ok::<(), _>(Err(Failure::Own)).is_err() && !group.failed_together());
    }
}
