//! Throws the dice of a fault: one for the delay, another for the abort.

use std::time::Duration;

use super::spec::{AbortStatus, Fault};
use crate::base::Share;

/// What happens to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Comes first.
    pub delay: Option<Duration>,
    pub abort: Option<AbortStatus>,
}

impl Fault {
    /// Decides for one request; `below` gives uniformly random numbers below its argument.
    pub fn inject(&self, mut below: impl FnMut(u32) -> u32) -> Injected {
        let mut takes = |share: Share| share.takes(below(Share::WHOLE));
        let delay = self.delay.filter(|delay| takes(delay.share));
        let abort = self.abort.filter(|abort| takes(abort.share));
        Injected {
            delay: delay.map(|delay| delay.duration),
            abort: abort.map(|abort| abort.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Abort, Delay};
    use super::*;

    fn fault(delay: f64, abort: f64) -> Fault {
        Fault {
            delay: Some(Delay {
                duration: Duration::from_secs(1),
                share: Share::of_percent(delay),
            }),
            abort: Some(Abort {
                status: AbortStatus::Http(503),
                share: Share::of_percent(abort),
            }),
        }
    }

    #[test]
    fn delays_and_aborts_are_thrown_for_independently_and_in_their_shares() {
        let (fault, count) = (fault(30.0, 10.0), 100_000_u32);
        let mut random = fastrand::Rng::with_seed(7);
        let (mut delayed, mut aborted, mut both) = (0.0, 0.0, 0.0);
        for _ in 0..count {
            let injected = fault.inject(|limit| random.u32(..limit));
            let hits = (injected.delay.is_some(), injected.abort.is_some());
            delayed += f64::from(u8::from(hits.0));
            aborted += f64::from(u8::from(hits.1));
            both += f64::from(u8::from(hits.0 && hits.1));
        }
        for (hits, share) in [(delayed, 0.3), (aborted, 0.1), (both, 0.03)] {
            let mean = f64::from(count) * share;
            // 99.9 % of a normal distribution lie within 3.29 deviations.
            let bound = 3.29 * (mean * (1.0 - share)).sqrt();
            assert!((hits - mean).abs() <= bound, "{hits} of {mean} ± {bound}");
        }
    }

    #[test]
    fn a_share_of_all_takes_every_request_and_one_of_none_takes_nobody() {
        for random in [0, Share::WHOLE / 2, Share::WHOLE - 1] {
            let injected = fault(100.0, 0.0).inject(|_| random);
            assert!(injected.delay.is_some() && injected.abort.is_none());
        }
    }
}
