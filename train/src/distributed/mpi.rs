//! A communicator between processes, by MPI.

use std::sync::Mutex;

use ::mpi::Threading;
use ::mpi::collective::SystemOperation;
use ::mpi::datatype::PartitionMut;
use ::mpi::environment::Universe;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator as _, CommunicatorCollectives, Root};

use super::{Communicator, CommunicatorError};

/// Values in one call: MPI's counts have 32 bits.
const AT_ONCE: usize = 1 << 28;

/// The rank of one process. MPI is finalised when it is dropped, which waits for the other processes.
pub struct MpiCommunicator {
    rank: usize,
    size: usize,
    node: (usize, usize),
    /// Held during a call: MPI is initialised with `Threading::Serialized`.
    call: Mutex<()>,
    _universe: Universe,
}

impl std::fmt::Debug for MpiCommunicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MpiCommunicator").field("rank", &self.rank).field("size", &self.size).finish_non_exhaustive()
    }
}

impl MpiCommunicator {
    /// Initialises MPI; `None` if it was initialised before or cannot be called from several threads.
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
            call: Mutex::new(()),
            _universe: universe,
        })
    }

    /// Makes one call at a time.
    fn call<T>(&self, make: impl FnOnce(SimpleCommunicator) -> T) -> T {
        let _guard = self.call.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        make(SimpleCommunicator::world())
    }
}

impl Drop for MpiCommunicator {
    /// A process that panics would wait for the others in MPI's finalisation, and they for its next call.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort();
        }
    }
}

impl Communicator for MpiCommunicator {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local_rank(&self) -> (usize, usize) {
        self.node
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), CommunicatorError> {
        for values in values.chunks_mut(AT_ONCE) {
            let own = values.to_vec();
            self.call(|world| world.all_reduce_into(&own[..], values, SystemOperation::sum()));
        }
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, CommunicatorError> {
        let length = i32::try_from(own.len()).map_err(|_| CommunicatorError::TooLong { bytes: own.len() })?;
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
        let starts = starts.ok_or(CommunicatorError::TooLong { bytes })?;
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

    fn broadcast(&self, mut own: Vec<u8>) -> Result<Vec<u8>, CommunicatorError> {
        let mut length = own.len() as u64;
        self.call(|world| world.process_at_rank(0).broadcast_into(&mut length));
        own.resize(usize::try_from(length).map_err(|_| CommunicatorError::TooLong { bytes: usize::MAX })?, 0);
        for part in own.chunks_mut(AT_ONCE) {
            self.call(|world| world.process_at_rank(0).broadcast_into(part));
        }
        Ok(own)
    }

    fn abort(&self) {
        SimpleCommunicator::world().abort(1)
    }
}
