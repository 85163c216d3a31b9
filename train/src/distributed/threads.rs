//! Ranks that are threads of one process: what GPUs that one process trains on tell each other by, and the tests of training
//! on several.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{RankError, Ranks};

/// One of several threads. It leaves the others when it is dropped.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    size: usize,
    table: Arc<Table>,
}

#[derive(Debug, Default)]
struct Table {
    round: Mutex<Round>,
    turned: Condvar,
}

/// A call that all ranks make.
#[derive(Debug, Default)]
struct Round {
    /// What the ranks have given in this round.
    given: Vec<Option<Vec<u8>>>,
    /// What they gave in the last one, and how many have not taken it yet.
    taken: Arc<Vec<Vec<u8>>>,
    waiting: usize,
    number: u64,
    /// The first rank that has left.
    left: Option<usize>,
}

impl Threads {
    /// So many ranks, one for each thread to come.
    #[must_use]
    pub fn new(size: usize) -> Vec<Self> {
        let size = size.max(1);
        let round = Round { given: vec![None; size], ..Round::default() };
        let table = Arc::new(Table { round: Mutex::new(round), turned: Condvar::new() });
        (0..size).map(|rank| Self { rank, size, table: table.clone() }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.table.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One round: what each rank gives, in the order of their numbers.
    fn turn(&self, own: Vec<u8>) -> Result<Arc<Vec<Vec<u8>>>, RankError> {
        let mut round = self.lock();
        if let Some(rank) = round.left {
            return Err(RankError::Left { rank });
        }
        let number = round.number;
        if let Some(place) = round.given.get_mut(self.rank) {
            *place = Some(own);
        }
        round.waiting += 1;
        if round.waiting == self.size {
            round.taken = Arc::new(round.given.iter_mut().map(|given| given.take().unwrap_or_default()).collect());
            round.waiting = 0;
            round.number += 1;
            self.table.turned.notify_all();
        }
        while round.number == number {
            // A rank that has left after the round was complete does not spoil it.
            if let Some(rank) = round.left {
                return Err(RankError::Left { rank });
            }
            round = self.table.turned.wait(round).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(round.taken.clone())
    }
}

impl Ranks for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn node(&self) -> (usize, usize) {
        (self.rank, self.size)
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), RankError> {
        let own = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all = self.turn(own)?;
        values.fill(0.0);
        for (rank, one) in all.iter().enumerate() {
            let (numbers, rest) = one.as_chunks::<4>();
            if numbers.len() != values.len() || !rest.is_empty() {
                let reason = format!("it sums {} values, others {}", numbers.len(), values.len());
                return Err(RankError::OutOfStep { rank, reason });
            }
            values.iter_mut().zip(numbers).for_each(|(sum, bytes)| *sum += f32::from_le_bytes(*bytes));
        }
        Ok(())
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, RankError> {
        Ok(self.turn(own.to_vec())?.to_vec())
    }

    fn first(&self, own: Vec<u8>) -> Result<Vec<u8>, RankError> {
        let own = if self.rank == 0 { own } else { Vec::new() };
        Ok(self.turn(own)?.first().cloned().unwrap_or_default())
    }

    fn abandon(&self) {
        let mut round = self.lock();
        round.left.get_or_insert(self.rank);
        self.table.turned.notify_all();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of `size` ranks makes of its place.
    fn each<T: Send>(size: usize, work: impl Fn(&Threads) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let work = &work;
            let ranks: Vec<_> = Threads::new(size).into_iter().map(|one| scope.spawn(move || work(&one))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn all_see_the_same() {
        for size in [1, 2, 5] {
            let seen = each(size, |one| {
                let mut sums = Vec::new();
                for turn in 0..50 {
                    let mut values = [one.rank() as f32, turn as f32];
                    one.sum(&mut values).unwrap();
                    sums.push(values);
                }
                let said = one.gather(&vec![7; one.rank()]).unwrap();
                (sums, said, one.first(vec![one.rank() as u8 + 1]).unwrap())
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
    fn nobody_waits_for_a_rank_that_has_left() {
        let seen = each(3, |one| if one.rank() == 1 { Ok(()) } else { one.sum(&mut [0.0]) });
        assert_eq!(seen, [Err(RankError::Left { rank: 1 }), Ok(()), Err(RankError::Left { rank: 1 })]);
    }

    #[test]
    fn sums_of_other_lengths_are_an_error_that_names_the_rank() {
        let seen = each(2, |one| one.sum(&mut vec![1.0; 1 + one.rank()]));
        let of = |rank: usize| seen[1 - rank].clone().unwrap_err().to_string();
        assert!(of(0).contains("rank 0") && of(1).contains("rank 1"), "{seen:?}");
    }
}
