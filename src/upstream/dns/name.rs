//! One followed name: what is known of it, and how an outcome changes that.
//!
//! The rule is a pure function from what was known to what is known, so that `follow` holds
//! nothing but the loop.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::DnsOptions;

/// "No such name" in a row after which the last good answer is dropped.
const EMPTY_ENOUGH: u32 = 3;

/// A followed name. Written by its task alone.
#[derive(Debug)]
pub(in crate::upstream) struct Name {
    pub(in crate::upstream) name: Arc<str>,
    status: watch::Sender<Arc<Status>>,
}

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::upstream) struct Status {
    /// In use: the last good answer, sorted.
    pub(in crate::upstream) addresses: Arc<[IpAddr]>,
    /// When the last good answer came, since the Unix epoch.
    pub(in crate::upstream) answered: Option<Duration>,
    /// Why the last question brought none.
    pub(in crate::upstream) last_error: Option<Arc<str>>,
    /// Good answers so far.
    answers: u64,
    /// Questions without a good answer since the last one.
    failures: u32,
    /// Those of them that were answered with "no such name" or "no such record".
    empty: u32,
}

/// What a question brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// At least one address, good for the time to live.
    Found {
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    /// The server says that there is none.
    Empty(String),
    /// Nobody knows.
    Failed(String),
}

impl Name {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            status: watch::Sender::new(Arc::default()),
        }
    }

    pub(in crate::upstream) fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    pub(super) fn set(&self, status: Status) {
        self.status.send_replace(Arc::new(status));
    }

    /// Returns when the name was asked once, with whatever outcome.
    pub(in crate::upstream) async fn asked(&self) {
        // The sender is `self`, so that waiting cannot fail.
        let _ = self
            .status
            .subscribe()
            .wait_for(|status| status.asked())
            .await;
    }
}

impl Status {
    /// All addresses; a `single` one moves on with each answer.
    pub(in crate::upstream) fn addresses(&self, single: bool) -> impl Iterator<Item = IpAddr> {
        let count = self.addresses.len();
        let (skip, take) = match u64::try_from(count) {
            Ok(places @ 1..) if single => (self.answers % places, 1),
            _ => (0, count),
        };
        self.addresses
            .iter()
            .copied()
            .skip(usize::try_from(skip).unwrap_or_default())
            .take(take)
    }

    fn asked(&self) -> bool {
        self.answers > 0 || self.failures > 0
    }

    /// What is known after `outcome`, and how long it may stand before the next question.
    pub(super) fn after(
        &self,
        outcome: Outcome,
        now: Duration,
        options: &DnsOptions,
    ) -> (Self, Duration) {
        let (error, empty) = match outcome {
            Outcome::Found { mut addresses, ttl } => {
                addresses.sort_unstable();
                addresses.dedup();
                let status = Self {
                    addresses: addresses.into(),
                    answered: Some(now),
                    last_error: None,
                    answers: self.answers.wrapping_add(1),
                    failures: 0,
                    empty: 0,
                };
                return (status, ttl.min(options.max_ttl).max(options.min_ttl));
            }
            Outcome::Empty(error) => (error, self.empty.saturating_add(1)),
            Outcome::Failed(error) => (error, self.empty),
        };
        let failures = self.failures.saturating_add(1);
        let pause = options
            .retry
            .saturating_mul(1 << (failures - 1).min(16))
            .min(options.max_retry);
        let addresses = if empty < EMPTY_ENOUGH {
            self.addresses.clone()
        } else {
            Arc::default()
        };
        let status = Self {
            addresses,
            last_error: Some(error.into()),
            failures,
            empty,
            ..self.clone()
        };
        (status, pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(last: u8, ttl: u64) -> Outcome {
        let addresses = vec![IpAddr::from([10, 0, 0, last]), IpAddr::from([10, 0, 0, 1])];
        Outcome::Found {
            addresses,
            ttl: Duration::from_secs(ttl),
        }
    }

    fn after(outcomes: impl IntoIterator<Item = Outcome>) -> (Status, Duration) {
        let options = DnsOptions::default();
        outcomes.into_iter().fold(
            (Status::default(), Duration::ZERO),
            |(status, _), outcome| status.after(outcome, Duration::from_secs(7), &options),
        )
    }

    fn failed() -> Outcome {
        Outcome::Failed("server failure".to_owned())
    }

    fn empty() -> Outcome {
        Outcome::Empty("no such name".to_owned())
    }

    #[test]
    fn an_answer_stands_for_its_time_to_live_within_the_bounds() {
        for (ttl, stands) in [(0, 1), (1, 1), (60, 60), (86_400, 300)] {
            assert_eq!(after([found(2, ttl)]).1, Duration::from_secs(stands));
        }
    }

    #[test]
    fn failures_keep_the_last_good_answer_for_ever_and_slow_down() {
        let (status, pause) = after([found(2, 60), failed(), failed(), failed()]);
        assert_eq!(status.addresses.len(), 2);
        assert_eq!(status.last_error.as_deref(), Some("server failure"));
        assert_eq!(status.answered, Some(Duration::from_secs(7)));
        assert_eq!(pause, Duration::from_secs(4));
        let (status, pause) =
            after(std::iter::once(found(2, 60)).chain((0..100).map(|_| failed())));
        assert_eq!(
            (status.addresses.len(), pause),
            (2, Duration::from_secs(30))
        );
    }

    #[test]
    fn no_such_name_empties_only_after_three_in_a_row() {
        assert_eq!(after([found(2, 60), empty(), empty()]).0.addresses.len(), 2);
        assert_eq!(
            after([found(2, 60), empty(), empty(), empty()])
                .0
                .addresses
                .len(),
            0
        );
        assert_eq!(
            after([empty(), empty(), found(2, 60), empty()])
                .0
                .addresses
                .len(),
            2
        );
    }

    #[test]
    fn a_good_answer_clears_the_error() {
        let (status, _) = after([failed(), found(2, 60)]);
        assert_eq!(status.last_error, None);
    }

    #[test]
    fn a_single_address_moves_on_with_each_answer() {
        let used = |answers: usize| {
            let (status, _) = after((0..answers).map(|_| found(2, 60)));
            status.addresses(true).collect::<Vec<_>>()
        };
        assert_eq!(used(1).len(), 1);
        assert_ne!(used(1), used(2));
        assert_eq!(used(1), used(3));
        assert!(Status::default().addresses(true).next().is_none());
    }
}
