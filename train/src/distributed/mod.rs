//! Several processes that train one head: one a GPU, each with its share of every batch.
//!
//! [`Ranks`] is what they can do together; [`Alone`], [`Threads`], [`Devices`] and, with the Cargo feature `mpi`, `Mpi` do
//! it. [`Team`] is what a run sees of them: typed values, errors that all learn of, and sums of gradients.

mod devices;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod team;
mod threads;

use std::fmt::Debug;

pub use devices::Devices;
pub use launch::{Environment, LaunchError, connect, gpus, own_device, own_threads};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use team::Team;
pub use threads::Threads;

/// Processes that call the same functions in the same order, numbered `0..size()`.
///
/// Each function but [`Ranks::rank`], [`Ranks::size`], [`Ranks::node`] and [`Ranks::abandon`] returns once all have called
/// it, and returns the same to all of them.
pub trait Ranks: Debug + Send + Sync {
    /// The number of this process.
    fn rank(&self) -> usize;

    /// How many there are; at least one.
    fn size(&self) -> usize;

    /// The number of this process among those of its machine, and how many these are.
    fn node(&self) -> (usize, usize);

    /// Replaces `values`, of which every process has equally many, by their sum over all processes.
    ///
    /// # Errors
    /// [`RankError`] if one of them is not there any more, or cannot sum.
    fn sum(&self, values: &mut [f32]) -> Result<(), RankError>;

    /// What each process has given as `own`, in the order of their numbers.
    ///
    /// # Errors
    /// As [`Ranks::sum`].
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RankError>;

    /// What process 0 has given; what the others give is ignored.
    ///
    /// # Errors
    /// As [`Ranks::sum`].
    fn first(&self, own: Vec<u8>) -> Result<Vec<u8>, RankError>;

    /// Ends all processes, or makes them fail at their next call: this one cannot go on.
    fn abandon(&self);
}

/// Why processes cannot go on together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RankError {
    /// One of them has ended.
    #[error("rank {rank} has ended before the others; its own message, or the launcher's, says why")]
    Left {
        /// Its number.
        rank: usize,
    },
    /// One of them has said something else than was to be said now.
    #[error(
        "rank {rank} is at another point of the run ({reason}): start all ranks with the same program and arguments"
    )]
    OutOfStep {
        /// Its number.
        rank: usize,
        /// What could not be understood.
        reason: String,
    },
    /// A device did not sum.
    #[error(
        "the device of rank {rank} cannot sum with the others: {reason}. Sums of GPUs are NCCL's, whose libnccl.so has to be \
         where the loader looks for libraries (LD_LIBRARY_PATH)"
    )]
    Device {
        /// The rank's number.
        rank: usize,
        /// What it says.
        reason: String,
    },
    /// More than one message can hold.
    #[error("{bytes} bytes are more than the ranks can exchange at once")]
    TooLong {
        /// How many there are.
        bytes: usize,
    },
}

/// One process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn node(&self) -> (usize, usize) {
        (0, 1)
    }

    fn sum(&self, _: &mut [f32]) -> Result<(), RankError> {
        Ok(())
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RankError> {
        Ok(vec![own.to_vec()])
    }

    fn first(&self, own: Vec<u8>) -> Result<Vec<u8>, RankError> {
        Ok(own)
    }

    fn abandon(&self) {}
}
