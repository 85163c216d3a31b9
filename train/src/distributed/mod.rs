//! Data-parallel training: several ranks train one head, each on its share of every batch.
//!
//! [`Communicator`] is the transport. [`SingleProcess`], [`ThreadCommunicator`], [`DeviceCommunicator`] and, with the Cargo
//! feature `mpi`, `MpiCommunicator` implement it. [`ProcessGroup`] is what a run uses: typed collectives on top of it, and
//! failures that all ranks learn of.

mod devices;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod process_group;
mod threads;

use std::fmt::Debug;

pub use devices::DeviceCommunicator;
pub use launch::{Environment, LaunchError, connect, gpus, own_device, own_threads};
#[cfg(feature = "mpi")]
pub use mpi::MpiCommunicator;
pub use process_group::ProcessGroup;
pub use threads::ThreadCommunicator;

/// Collectives among `size()` ranks, numbered from 0.
///
/// All ranks call the same collectives in the same order. A collective ([`all_reduce_sum`](Communicator::all_reduce_sum),
/// [`all_gather`](Communicator::all_gather), [`broadcast`](Communicator::broadcast)) blocks until all ranks have called it
/// and returns the same to all of them.
pub trait Communicator: Debug + Send + Sync {
    /// The number of this rank, in `0..size()`.
    fn rank(&self) -> usize;

    /// The number of ranks; at least one.
    fn size(&self) -> usize;

    /// The number of this rank among the ranks of its machine, and how many these are.
    fn local_rank(&self) -> (usize, usize);

    /// Replaces `values`, which have the same length on all ranks, by their sum over all ranks.
    ///
    /// # Errors
    /// [`CommunicatorError`] if a rank has ended or cannot sum.
    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), CommunicatorError>;

    /// The bytes of each rank, in rank order. Lengths may differ.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce_sum`].
    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, CommunicatorError>;

    /// The bytes of rank 0; those of the other ranks are ignored.
    ///
    /// # Errors
    /// As [`Communicator::all_reduce_sum`].
    fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>, CommunicatorError>;

    /// Ends all ranks, or makes their next collective fail: this rank cannot continue.
    fn abort(&self);
}

/// Why a collective failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommunicatorError {
    /// A rank has ended.
    #[error("rank {rank} has ended before the others; its own message, or the launcher's, says why")]
    Left {
        /// Its number.
        rank: usize,
    },
    /// A rank has reported a failure and the others end with it.
    #[error("rank {rank} failed: {message}")]
    Failed {
        /// Its number.
        rank: usize,
        /// Its error.
        message: String,
    },
    /// A rank has called another collective.
    #[error(
        "rank {rank} is at another point of the run ({reason}): start all ranks with the same program and arguments"
    )]
    Mismatch {
        /// Its number.
        rank: usize,
        /// What differs.
        reason: String,
    },
    /// A device could not sum.
    #[error(
        "the device of rank {rank} cannot sum with the others: {reason}. Sums of GPUs are NCCL's, whose libnccl.so has to be \
         where the loader looks for libraries (LD_LIBRARY_PATH)"
    )]
    Device {
        /// The rank's number.
        rank: usize,
        /// The device's error.
        reason: String,
    },
    /// The message exceeds the transport's limit.
    #[error("{bytes} bytes are more than the ranks can exchange at once")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// A run in one process, in which every collective is the identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl Communicator for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn local_rank(&self) -> (usize, usize) {
        (0, 1)
    }

    fn all_reduce_sum(&self, _: &mut [f32]) -> Result<(), CommunicatorError> {
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, CommunicatorError> {
        Ok(vec![own.to_vec()])
    }

    fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>, CommunicatorError> {
        Ok(own)
    }

    fn abort(&self) {}
}
