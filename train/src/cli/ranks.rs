//! A command as one of several ranks: processes, or threads of this one. One of them says why they fail.

use super::{OfRank, Told, eprint, report, signals};
use crate::distributed::{self, Communicator, CommunicatorError, ProcessGroup};
use crate::fit::FitError;
use burn::train::Interrupter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// How long threads may take to end when one of them has failed: a GPU that waits for the others' values never does.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Works as the process that a launcher has started, or as the only one.
pub(super) fn process(work: impl FnOnce(&Arc<ProcessGroup>, &Interrupter) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let group = distributed::connect()?;
    let End { result, alone } = one(&group, |group| work(group, &signals::interrupter()?));
    if alone {
        if let Err(error) = &result {
            eprint(&report(error));
        }
        group.abort();
    }
    result
}

/// Works as all of `ranks`, each in a thread. Threads that do not end when one has failed are left behind.
pub(super) fn threads<R: Communicator + 'static>(
    ranks: Vec<R>,
    work: impl Fn(&Arc<ProcessGroup>, &Interrupter) -> anyhow::Result<()> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    all(ranks, &signals::interrupter()?, work, LAST_WORDS)
}

fn all<R: Communicator + 'static>(
    ranks: Vec<R>,
    interrupter: &Interrupter,
    work: impl Fn(&Arc<ProcessGroup>, &Interrupter) -> anyhow::Result<()> + Send + Sync + 'static,
    last_words: Duration,
) -> anyhow::Result<()> {
    let work = Arc::new(work);
    let (sender, ends) = channel();
    let count = ranks.len();
    for own in ranks {
        let (work, interrupter, sender) = (work.clone(), interrupter.clone(), sender.clone());
        let thread = thread::Builder::new().name(format!("rank-{}", own.rank()));
        thread.spawn(move || {
            // Dropped at the end, or by a panic: the others learn that this rank has left.
            let group = ProcessGroup::new(own);
            let end = catch_unwind(AssertUnwindSafe(|| one(&group, |group| work(group, &interrupter))));
            // Before the group is dropped: what others say of a rank that has left comes after its own words. And where the
            // others' last words have been waited for, nobody is left to tell.
            let _ = sender.send(end.unwrap_or_else(|_| {
                let source = anyhow::anyhow!("it has panicked, see above");
                End { result: Err(OfRank { rank: group.rank(), size: group.size(), source }.into()), alone: true }
            }));
        })?;
    }
    drop(sender);
    let (mut first, mut deadline): (Option<End>, Option<Instant>) = (None, None);
    for _ in 0..count {
        let end = match deadline {
            Some(deadline) => ends.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok(),
            None => ends.recv().ok(),
        };
        let Some(end) = end else { break };
        if end.alone {
            deadline = deadline.or_else(|| Some(Instant::now() + last_words));
        }
        let says_more = |first: &End| first.is_an_echo() && !end.is_an_echo();
        if end.result.is_err() && first.as_ref().is_none_or(says_more) {
            first = Some(end);
        }
    }
    first.map_or(Ok(()), |end| end.result)
}

/// How a rank ends.
struct End {
    result: anyhow::Result<()>,
    /// Whether it has failed and the others do not know.
    alone: bool,
}

impl End {
    /// Whether it has failed because another has.
    fn is_an_echo(&self) -> bool {
        let Err(error) = &self.result else { return false };
        let left = |cause: &(dyn std::error::Error + 'static)| {
            matches!(cause.downcast_ref(), Some(FitError::Communicator(CommunicatorError::Left { .. })))
        };
        error.is::<Told>() || error.chain().any(left)
    }
}

/// Several ranks fail together, and one of them says why; or one fails alone, and takes the others with it.
fn one(group: &Arc<ProcessGroup>, work: impl FnOnce(&Arc<ProcessGroup>) -> anyhow::Result<()>) -> End {
    let result = work(group);
    if group.is_single() {
        return End { result, alone: false };
    }
    let alone = result.is_err() && !group.failed_together();
    let result = match result {
        Err(error)
            if matches!(error.downcast_ref(), Some(FitError::Communicator(CommunicatorError::Failed { .. }))) =>
        {
            Err(Told.into())
        }
        result => result.map_err(|source| OfRank { rank: group.rank(), size: group.size(), source }.into()),
    };
    End { result, alone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::ThreadCommunicator;

    /// What three ranks end with that wait for each other for ever, but for what `does` of rank 1.
    fn end(does: impl Fn(&ProcessGroup) -> anyhow::Result<()> + Send + Sync + 'static) -> anyhow::Result<()> {
        let work = move |group: &Arc<ProcessGroup>, _: &Interrupter| {
            if group.rank() == 1 { does(group) } else { Ok(group.all_gather(&0).map(drop).map_err(FitError::from)?) }
        };
        all(ThreadCommunicator::new(3), &Interrupter::new(), work, LAST_WORDS)
    }

    #[test]
    fn all_come_to_their_end() {
        assert!(end(|group| Ok(group.all_gather(&1).map(drop)?)).is_ok());
    }

    #[test]
    fn the_rank_that_fails_says_why() {
        let error = end(|_| Err(FitError::NothingRead("lost".into()).into())).unwrap_err();
        assert!(report(&error).starts_with("error: rank 1 of 3: "), "{}", report(&error));
        assert!(report(&error).contains("lost"));
        let error = end(|_| panic!("on purpose")).unwrap_err();
        assert_eq!(report(&error), "error: rank 1 of 3: it has panicked, see above\n");
    }

    #[test]
    fn a_failure_that_all_know_is_said_once_by_its_own_rank() {
        let work = |group: &Arc<ProcessGroup>, _: &Interrupter| {
            let own = if group.rank() == 2 { Err(FitError::NothingRead("lost".into())) } else { Ok(()) };
            Ok(group.all_ok(own)?)
        };
        let error = all(ThreadCommunicator::new(3), &Interrupter::new(), work, LAST_WORDS).unwrap_err();
        assert!(report(&error).starts_with("error: rank 2 of 3: "), "{}", report(&error));
    }

    #[test]
    fn the_cause_is_told_whoever_ends_first() {
        // Ranks 0 and 2 learn that rank 1 has left, and may end before or after it.
        for _ in 0..50 {
            let error = end(|group| {
                group.abort();
                thread::yield_now();
                Err(FitError::NothingRead("lost".into()).into())
            });
            assert!(report(&error.unwrap_err()).starts_with("error: rank 1 of 3: "));
        }
    }

    #[test]
    fn nobody_waits_for_a_thread_that_never_ends() {
        let work = |group: &Arc<ProcessGroup>, _: &Interrupter| match group.rank() {
            0 | 3 => loop {
                thread::park();
            },
            _ => Err(FitError::NothingRead("lost".into()).into()),
        };
        let error = all(ThreadCommunicator::new(4), &Interrupter::new(), work, Duration::from_millis(1)).unwrap_err();
        assert!(report(&error).contains("lost"), "{}", report(&error));
    }
}
