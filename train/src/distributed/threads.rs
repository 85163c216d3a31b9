//! A communicator between threads of one process, through host memory: for several GPUs in one process, and for tests.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Communicator, CommunicatorError};

/// The rank of one thread. It leaves the others when it is dropped.
#[derive(Debug)]
pub struct ThreadCommunicator {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    round: Mutex<Round>,
    completed: Condvar,
}

/// One collective.
#[derive(Debug, Default)]
struct Round {
    /// The inputs of this round, by rank.
    inputs: Vec<Option<Vec<u8>>>,
    /// The inputs of the last complete round.
    complete: Arc<Vec<Vec<u8>>>,
    /// How many inputs there are.
    waiting: usize,
    number: u64,
    /// The first rank that has left.
    left: Option<usize>,
}

impl ThreadCommunicator {
    /// `size` ranks, each to be moved to its own thread.
    #[must_use]
    pub fn new(size: usize) -> Vec<Self> {
        let size = size.max(1);
        let round = Round { inputs: vec![None; size], ..Round::default() };
        let shared = Arc::new(Shared { round: Mutex::new(round), completed: Condvar::new() });
        (0..size).map(|rank| Self { rank, size, shared: shared.clone() }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.shared.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One collective: the input of each rank, in rank order.
    fn exchange(&self, own: Vec<u8>) -> Result<Arc<Vec<Vec<u8>>>, CommunicatorError> {
        let mut round = self.lock();
        if let Some(rank) = round.left {
            return Err(CommunicatorError::Left { rank });
        }
        let number = round.number;
        if let Some(place) = round.inputs.get_mut(self.rank) {
            *place = Some(own);
        }
        round.waiting += 1;
        if round.waiting == self.size {
            round.complete = Arc::new(round.inputs.iter_mut().map(|input| input.take().unwrap_or_default()).collect());
            round.waiting = 0;
            round.number += 1;
            self.shared.completed.notify_all();
        }
        while round.number == number {
            // A rank that leaves after the round is complete does not make it fail.
            if let Some(rank) = round.left {
                return Err(CommunicatorError::Left { rank });
            }
            round = self.shared.completed.wait(round).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(round.complete.clone())
    }
}

impl Communicator for ThreadCommunicator {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local_rank(&self) -> (usize, usize) {
        (self.rank, self.size)
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), CommunicatorError> {
        let own = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all = self.exchange(own)?;
        values.fill(0.0);
        for (rank, one) in all.iter().enumerate() {
            let (numbers, rest) = one.as_chunks::<4>();
            if numbers.len() != values.len() || !rest.is_empty() {
                let reason = format!("it sums {} values, others {}", numbers.len(), values.len());
                return Err(CommunicatorError::Mismatch { rank, reason });
            }
            values.iter_mut().zip(numbers).for_each(|(sum, bytes)| *sum += f32::from_le_bytes(*bytes));
        }
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, CommunicatorError> {
        Ok(self.exchange(own.to_vec())?.to_vec())
    }

    fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>, CommunicatorError> {
        let own = if self.rank == 0 { own } else { Vec::new() };
        Ok(self.exchange(own)?.first().cloned().unwrap_or_default())
    }

    fn abort(&self) {
        let mut round = self.lock();
        round.left.get_or_insert(self.rank);
        self.shared.completed.notify_all();
    }
}

impl Drop for ThreadCommunicator {
    fn drop(&mut self) {
        self.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of `work` on each of `size` ranks.
    fn each<T: Send>(size: usize, work: impl Fn(&ThreadCommunicator) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let work = &work;
            let ranks: Vec<_> =
                ThreadCommunicator::new(size).into_iter().map(|one| scope.spawn(move || work(&one))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn all_ranks_get_the_same_results() {
        for size in [1, 2, 5] {
            let seen = each(size, |one| {
                let mut sums = Vec::new();
                for turn in 0..50 {
                    let mut values = [one.rank() as f32, turn as f32];
                    one.all_reduce_sum(&mut values).unwrap();
                    sums.push(values);
                }
                let said = one.all_gather(&vec![7; one.rank()]).unwrap();
                (sums, said, one.broadcast(vec![one.rank() as u8 + 1]).unwrap())
            });
            let all = (0..size).sum::<usize>() as f32;
            for (sums, said, first) in seen {
                assert!(sums.iter().enumerate().all(|(turn, sum)| *sum == [all, (turn * size) as f32]));
                assert!(said.iter().enumerate().all(|(rank, said)| said.len() == rank));
                assert_eq!(first, [1]);
            }
        }
    }

    #[test]
    fn no_rank_waits_for_one_that_has_left() {
        let seen = each(3, |one| if one.rank() == 1 { Ok(()) } else { one.all_reduce_sum(&mut [0.0]) });
        assert_eq!(seen, [Err(CommunicatorError::Left { rank: 1 }), Ok(()), Err(CommunicatorError::Left { rank: 1 })]);
    }

    #[test]
    fn sums_of_other_lengths_are_an_error_that_names_the_rank() {
        let seen = each(2, |one| one.all_reduce_sum(&mut vec![1.0; 1 + one.rank()]));
        let of = |rank: usize| seen[1 - rank].clone().unwrap_err().to_string();
        assert!(of(0).contains("rank 0") && of(1).contains("rank 1"), "{seen:?}");
    }
}
