//! What a run sees of the ranks: typed values, and errors that all of them learn of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use explainer_zoo::explainer::tame::Sum;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Alone, RankError, Ranks};
use crate::fit::FitError;

/// The processes of a run, as one of them sees it.
#[derive(Debug)]
pub struct Team {
    ranks: Box<dyn Ranks>,
    agreed: AtomicBool,
}

impl Team {
    /// Of these ranks.
    #[must_use]
    pub fn new(ranks: impl Ranks + 'static) -> Arc<Self> {
        Arc::new(Self { ranks: Box::new(ranks), agreed: AtomicBool::new(false) })
    }

    /// A run in one process.
    #[must_use]
    pub fn alone() -> Arc<Self> {
        Self::new(Alone)
    }

    /// The number of this process.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.ranks.rank()
    }

    /// How many processes there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.ranks.size()
    }

    /// The number of this process among those of its machine, and how many these are.
    #[must_use]
    pub fn node(&self) -> (usize, usize) {
        self.ranks.node()
    }

    /// Whether there is no other process.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// Whether this is the process that writes.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.rank() == 0
    }

    /// Whether the error that the run has ended with is known to all ranks: they all end, nobody has to be told.
    #[must_use]
    pub fn agreed(&self) -> bool {
        self.agreed.load(Ordering::Relaxed)
    }

    /// As [`Ranks::abandon`].
    pub fn abandon(&self) {
        self.ranks.abandon();
    }

    /// Replaces `values` by their sum over all ranks.
    ///
    /// # Errors
    /// As [`Ranks::sum`].
    pub fn sum(&self, values: &mut [f32]) -> Result<(), RankError> {
        self.ranks.sum(values)
    }

    /// What each rank says, in the order of their numbers. Numbers have to be finite.
    ///
    /// # Errors
    /// As [`Ranks::gather`]; [`RankError::OutOfStep`] where one says something else.
    pub fn tell<T: Clone + Serialize + DeserializeOwned>(&self, own: &T) -> Result<Vec<T>, RankError> {
        if self.is_alone() {
            return Ok(vec![own.clone()]);
        }
        let all = self.ranks.gather(&self.written(own)?)?;
        all.iter().enumerate().map(|(rank, text)| read(rank, text)).collect()
    }

    /// What rank 0 says.
    ///
    /// # Errors
    /// As [`Team::tell`].
    pub fn first<T: Serialize + DeserializeOwned>(&self, own: T) -> Result<T, RankError> {
        if self.is_alone() {
            return Ok(own);
        }
        let own = if self.writes() { self.written(&own)? } else { Vec::new() };
        read(0, &self.ranks.first(own)?)
    }

    /// Bytes of rank 0; what the others give is ignored.
    ///
    /// # Errors
    /// As [`Ranks::first`].
    pub fn first_bytes(&self, own: Vec<u8>) -> Result<Vec<u8>, RankError> {
        self.ranks.first(own)
    }

    /// What each rank has got, or the failure of one of them: the first to fail returns its own error, all others
    /// [`FitError::OtherRank`], which names it.
    ///
    /// # Errors
    /// One of any rank.
    pub fn share<T: Clone + Serialize + DeserializeOwned>(&self, own: Result<T, FitError>) -> Result<Vec<T>, FitError> {
        if self.is_alone() {
            return Ok(vec![own?]);
        }
        let (own, error) = match own {
            Ok(own) => (Ok(own), None),
            Err(error) => (Err(error.to_string()), Some(error)),
        };
        let all: Vec<Result<T, String>> = self.tell(&own)?;
        let mut got = Vec::with_capacity(all.len());
        for (rank, one) in all.into_iter().enumerate() {
            match one {
                Ok(one) => got.push(one),
                Err(message) => {
                    self.agreed.store(true, Ordering::Relaxed);
                    let other = FitError::OtherRank { rank, message };
                    return Err(error.filter(|_| rank == self.rank()).unwrap_or(other));
                }
            }
        }
        Ok(got)
    }

    /// `own`, if no rank has failed.
    ///
    /// # Errors
    /// As [`Team::share`].
    pub fn together<T>(&self, own: Result<T, FitError>) -> Result<T, FitError> {
        let (own, said) = match own {
            Ok(own) => (Some(own), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.share(said)?;
        own.ok_or_else(|| FitError::Stopped("a failure was not told".into()))
    }

    fn written<T: Serialize>(&self, own: &T) -> Result<Vec<u8>, RankError> {
        let rank = self.rank();
        serde_json::to_vec(own).map_err(|error| RankError::OutOfStep { rank, reason: error.to_string() })
    }
}

fn read<T: DeserializeOwned>(rank: usize, text: &[u8]) -> Result<T, RankError> {
    serde_json::from_slice(text).map_err(|error| RankError::OutOfStep { rank, reason: error.to_string() })
}

impl Sum for Team {
    /// NaN where the ranks cannot be reached: the next thing that they tell each other fails, and says why.
    fn sum(&self, values: &mut [f32]) {
        if Self::sum(self, values).is_err() {
            values.fill(f32::NAN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Threads;
    use super::*;

    #[test]
    fn a_failure_is_told_to_all_and_its_own_rank_says_it() {
        let ends: Vec<_> = std::thread::scope(|scope| {
            let spawn = |ranks: Threads| {
                scope.spawn(move || {
                    let team = Team::new(ranks);
                    let fails = team.rank() > 0;
                    let own = if fails { Err(FitError::NothingRead("lost".into())) } else { Ok(team.rank()) };
                    let error = team.together(own).unwrap_err();
                    (error.to_string(), team.agreed())
                })
            };
            let ranks: Vec<_> = Threads::new(3).into_iter().map(spawn).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        let own = FitError::NothingRead("lost".into()).to_string();
        assert_eq!(ends[1], (own.clone(), true));
        for rank in [0, 2] {
            assert!(ends[rank].0.contains("rank 1") && ends[rank].0.contains(&own) && ends[rank].1, "{ends:?}");
        }
    }

    #[test]
    fn one_process_tells_itself() {
        let team = Team::alone();
        assert_eq!(team.tell(&3), Ok(vec![3]));
        assert_eq!(team.first("x".to_string()), Ok("x".to_string()));
        assert!(team.together::<()>(Err(FitError::NothingRead(String::new()))).is_err() && !team.agreed());
    }
}
