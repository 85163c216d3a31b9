//! Ranks by MPI.

use std::sync::Mutex;

use ::mpi::Threading;
use ::mpi::collective::SystemOperation;
use ::mpi::datatype::PartitionMut;
use ::mpi::environment::Universe;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, CommunicatorCollectives, Root};

use super::{RankError, Ranks};

/// Values in one call: MPI counts in 32 bits.
const AT_ONCE: usize = 1 << 28;

/// All processes that a launcher has started. MPI is shut down when it is dropped, for which it waits for the others.
pub struct Mpi {
    rank: usize,
    size: usize,
    node: (usize, usize),
    /// Calls are made one after the other, whatever the library allows.
    turn: Mutex<()>,
    _universe: Universe,
}

impl std::fmt::Debug for Mpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mpi").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Mpi {
    /// Starts MPI; `None` if it was started before or cannot be called from a thread.
    #[must_use]
    pub fn start() -> Option<Self> {
        let (universe, threading) = ::mpi::initialize_with_threading(Threading::Serialized)?;
        if threading < Threading::Serialized {
            return None;
        }
        let world = universe.world();
        let number = |value: i32| usize::try_from(value).unwrap_or(0);
        let node = world.split_shared(world.rank());
        Some(Self {
            rank: number(world.rank()),
            size: number(world.size()).max(1),
            node: (number(node.rank()), number(node.size()).max(1)),
            turn: Mutex::new(()),
            _universe: universe,
        })
    }

    /// Makes a call, alone in this process.
    fn call<T>(&self, make: impl FnOnce(SimpleCommunicator) -> T) -> T {
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        make(SimpleCommunicator::world())
    }
}

impl Drop for Mpi {
    /// A process that panics would wait for the others at MPI's end, and they for its next word.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abandon();
        }
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn node(&self) -> (usize, usize) {
        self.node
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), RankError> {
        for values in values.chunks_mut(AT_ONCE) {
            let own = values.to_vec();
            self.call(|world| world.all_reduce_into(&own[..], values, SystemOperation::sum()));
        }
        Ok(())
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RankError> {
        let length = i32::try_from(own.len()).map_err(|_| RankError::TooLong { bytes: own.len() })?;
        let mut lengths = vec![0_i32; self.size];
        self.call(|world| world.all_gather_into(&length, &mut lengths[..]));
        let bytes: usize = lengths.iter().map(|length| usize::try_from(*length).unwrap_or(0)).sum();
        let mut end = 0_i32;
        let starts: Option<Vec<i32>> = lengths
            .iter()
            .map(|length| {
                let start = end;
                end = end.checked_add(*length)?;
                Some(start)
            })
            .collect();
        let starts = starts.ok_or(RankError::TooLong { bytes })?;
        let mut all = vec![0_u8; bytes];
        self.call(|world| {
            let mut parts = PartitionMut::new(&mut all[..], &lengths[..], &starts[..]);
            world.all_gather_varcount_into(own, &mut parts);
        });
        let mut rest = all.as_slice();
        let part = |length: &i32| {
            let (part, behind) = rest.split_at_checked(usize::try_from(*length).unwrap_or(0)).unwrap_or((rest, &[]));
            rest = behind;
            part.to_vec()
        };
        Ok(lengths.iter().map(part).collect())
    }

    fn first(&self, mut own: Vec<u8>) -> Result<Vec<u8>, RankError> {
        let mut length = own.len() as u64;
        self.call(|world| world.process_at_rank(0).broadcast_into(&mut length));
        own.resize(usize::try_from(length).map_err(|_| RankError::TooLong { bytes: usize::MAX })?, 0);
        for part in own.chunks_mut(AT_ONCE) {
            self.call(|world| world.process_at_rank(0).broadcast_into(part));
        }
        Ok(own)
    }

    fn abandon(&self) {
        SimpleCommunicator::world().abort(1)
    }
}
