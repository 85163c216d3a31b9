//! Runs a command as one of several ranks, which are processes or threads. If they fail, one of them reports the cause.

use super::{AlreadyReported, RankFailure, eprint, report, signals};
use crate::distributed::{Communicator, CommunicatorError, ProcessGroup};
use crate::fit::FitError;
use burn::train::Interrupter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// The time for threads to end after one of them has failed. A GPU that waits for values of the others never ends.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// The result of a command that this process has run as one rank of `group`. A failure that the other ranks do not know ends
/// them.
pub(super) fn finish(group: &ProcessGroup, result: anyhow::Result<()>) -> anyhow::Result<()> {
    let RankResult { result, failed_alone } = rank_result(group, result);
    if failed_alone {
        if let Err(error) = &result {
            eprint(&report(error));
        }
        group.abort();
    }
    result
}

/// Runs `work` as all ranks, each in a thread. Threads that do not end after one has failed are not joined.
pub(super) fn threads<R: Communicator + 'static>(
    ranks: Vec<R>,
    work: impl Fn(&Arc<ProcessGroup>, &Interrupter) -> anyhow::Result<()> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    all(ranks, &signals::interrupter()?, work, SHUTDOWN_TIME)
}

fn all<R: Communicator + 'static>(
    ranks: Vec<R>,
    interrupter: &Interrupter,
    work: impl Fn(&Arc<ProcessGroup>, &Interrupter) -> anyhow::Result<()> + Send + Sync + 'static,
    shutdown_time: Duration,
) -> anyhow::Result<()> {
    let work = Arc::new(work);
    let (sender, ends) = channel();
    let count = ranks.len();
    for own in ranks {
        let (work, interrupter, sender) = (work.clone(), interrupter.clone(), sender.clone());
        let thread = thread::Builder::new().name(format!("rank-{}", own.rank()));
        thread.spawn(move || {
            // Dropped at the end or by a panic, which tells the others that this rank has left.
            let group = ProcessGroup::new(own);
            let end = catch_unwind(AssertUnwindSafe(|| rank_result(&group, work(&group, &interrupter))));
            // Sent before the group is dropped, so that this rank's error comes before those of ranks that miss it. The
            // receiver is gone if the shutdown time is over.
            let _ = sender.send(end.unwrap_or_else(|_| {
                let source = anyhow::anyhow!("it has panicked, see above");
                RankResult {
                    result: Err(RankFailure { rank: group.rank(), size: group.size(), source }.into()),
                    failed_alone: true,
                }
            }));
        })?;
    }
    drop(sender);
    let (mut first, mut deadline): (Option<RankResult>, Option<Instant>) = (None, None);
    for _ in 0..count {
        let end = match deadline {
            Some(deadline) => ends.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok(),
            None => ends.recv().ok(),
        };
        let Some(end) = end else { break };
        if end.failed_alone {
            deadline = deadline.or_else(|| Some(Instant::now() + shutdown_time));
        }
        let says_more = |first: &RankResult| first.is_consequence() && !end.is_consequence();
        if end.result.is_err() && first.as_ref().is_none_or(says_more) {
            first = Some(end);
        }
    }
    first.map_or(Ok(()), |end| end.result)
}

/// The result of a rank.
struct RankResult {
    result: anyhow::Result<()>,
    /// Whether it has failed and the other ranks do not know it.
    failed_alone: bool,
}

impl RankResult {
    /// Whether it has failed because another rank has.
    fn is_consequence(&self) -> bool {
        let Err(error) = &self.result else { return false };
        let left = |cause: &(dyn std::error::Error + 'static)| {
            matches!(cause.downcast_ref(), Some(FitError::Communicator(CommunicatorError::Left { .. })))
        };
        error.is::<AlreadyReported>() || error.chain().any(left)
    }
}

/// The `result` of one rank. If the ranks fail together, the rank with the cause reports it.
fn rank_result(group: &ProcessGroup, result: anyhow::Result<()>) -> RankResult {
    if group.is_single() {
        return RankResult { result, failed_alone: false };
    }
    let failed_alone = result.is_err() && !group.failed_together();
    let result = match result {
        Err(error)
            if matches!(error.downcast_ref(), Some(FitError::Communicator(CommunicatorError::Failed { .. }))) =>
        {
            Err(AlreadyReported.into())
        }
        result => result.map_err(|source| RankFailure { rank: group.rank(), size: group.size(), source }.into()),
    };
    RankResult { result, failed_alone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::ThreadCommunicator;

    /// The result of three ranks, of which rank 1 runs `does` and the others wait for all.
    fn end(does: impl Fn(&ProcessGroup) -> anyhow::Result<()> + Send + Sync + 'static) -> anyhow::Result<()> {
        let work = move |group: &Arc<ProcessGroup>, _: &Interrupter| {
            if group.rank() == 1 { does(group) } else { Ok(group.all_gather(&0).map(drop).map_err(FitError::from)?) }
        };
        all(ThreadCommunicator::new(3), &Interrupter::new(), work, SHUTDOWN_TIME)
    }

    #[test]
    fn all_ranks_end() {
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
    fn a_common_failure_is_reported_once_by_its_own_rank() {
        let work = |group: &Arc<ProcessGroup>, _: &Interrupter| {
            let own = if group.rank() == 2 { Err(FitError::NothingRead("lost".into())) } else { Ok(()) };
            Ok(group.all_ok(own)?)
        };
        let error = all(ThreadCommunicator::new(3), &Interrupter::new(), work, SHUTDOWN_TIME).unwrap_err();
        assert!(report(&error).starts_with("error: rank 2 of 3: "), "{}", report(&error));
    }

    #[test]
    fn the_cause_is_reported_in_any_order_of_ends() {
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
    fn a_thread_that_never_ends_is_not_awaited() {
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
