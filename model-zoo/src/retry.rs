//! Retries of network requests: exponential backoff (`backon`), and the pause that a server wants (`Retry-After`).

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// The longest pause that a server may want; for a longer one the request is given up.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// An error of a request that may be worth a retry.
pub(crate) trait Retryable {
    /// Whether the same request may succeed a moment later.
    fn is_transient(&self) -> bool;

    /// The pause that the server wants before the next request.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// Calls `request` until it succeeds, its error is not transient, or it has been retried `retries` times. The pause before
/// the first retry is `backoff` and doubles each time, unless the server says how long to wait. `sleep` lets time pass.
///
/// # Errors
/// The last error.
pub(crate) fn retry<T, E: Retryable>(
    retries: usize,
    backoff: Duration,
    sleep: &mut dyn FnMut(Duration),
    mut request: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut pauses = ExponentialBuilder::new().with_min_delay(backoff).with_factor(2.0).with_max_times(retries).build();
    loop {
        let error = match request() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let pause = pauses.next().filter(|_| error.is_transient()).map(|pause| error.retry_after().unwrap_or(pause));
        match pause.filter(|pause| *pause <= LONGEST_PAUSE) {
            Some(pause) => sleep(pause),
            None => return Err(error),
        }
    }
}

/// The seconds of an HTTP header `Retry-After`; its other form, a date, is not read.
pub(crate) fn retry_after(header: Option<&str>) -> Option<Duration> {
    header?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Failure {
        transient: bool,
        pause: Option<u64>,
    }

    impl Retryable for Failure {
        fn is_transient(&self) -> bool {
            self.transient
        }

        fn retry_after(&self) -> Option<Duration> {
            self.pause.map(Duration::from_secs)
        }
    }

    /// The pauses in seconds, and how often the request was made.
    fn pauses(failures: &[Failure]) -> (Vec<u64>, usize) {
        let (mut pauses, mut requests) = (Vec::new(), 0);
        let _ = retry(3, Duration::from_secs(1), &mut |pause| pauses.push(pause.as_secs()), || {
            requests += 1;
            match failures.get(requests - 1) {
                Some(Failure { transient, pause }) => Err(Failure { transient: *transient, pause: *pause }),
                None => Ok(()),
            }
        });
        (pauses, requests)
    }

    #[test]
    fn pauses_double_and_end() {
        let busy = || Failure { transient: true, pause: None };
        assert_eq!(pauses(&[]), (vec![], 1));
        assert_eq!(pauses(&[busy(), busy()]), (vec![1, 2], 3));
        assert_eq!(pauses(&[busy(), busy(), busy(), busy(), busy()]), (vec![1, 2, 4], 4));
        assert_eq!(pauses(&[Failure { transient: false, pause: None }]), (vec![], 1));
    }

    #[test]
    fn the_server_says_how_long() {
        let wants = |seconds| Failure { transient: true, pause: Some(seconds) };
        assert_eq!(pauses(&[wants(7), Failure { transient: true, pause: None }, wants(120)]), (vec![7, 2, 120], 4));
        assert_eq!(pauses(&[wants(121)]), (vec![], 1), "nobody waits for longer than two minutes");
        assert_eq!(retry_after(Some(" 7 ")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(Some("Wed, 21 Oct 2015 07:28:00 GMT")), None);
    }
}
