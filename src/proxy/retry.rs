//! Whether a failed attempt is repeated, and what a request remembers for that.
//!
//! The rule's policy says what is repeated (`plan::retry`); here are the counts, the bounds, and
//! what makes a repetition impossible: an answer that has begun, a body that is not kept.

use std::net::SocketAddr;
use std::time::Duration;

use pingora::proxy::Session;
use pingora::{Error, Result};
use tokio::time::sleep;

use super::context::Context;
use super::limits::Limits;
use crate::base::clock;
use crate::plan::RetryPolicy;
use crate::upstream::{Ask, RetryPermit};

/// How often a request that met a closing connection is sent again without the policy knowing.
/// The last time goes over a connection of its own, so that it cannot meet another one.
pub(super) const REPLAYS: u32 = 3;

/// The attempts of one request beside the first.
#[derive(Debug, Default)]
pub(super) struct Retrying {
    /// Repetitions that the rule's policy decided.
    pub retries: u32,
    /// Repetitions because of a connection that was just closing.
    pub replays: u32,
    /// The current attempt was given up for its response; the next one follows.
    pub given_up: bool,
    /// What became of the current attempt was reported.
    pub reported: bool,
    /// Endpoints of attempts that were repeated.
    pub tried: Vec<SocketAddr>,
    /// Why the last failure was not repeated although the policy covers it.
    pub refused: Option<RetryRefused>,
    wait: Duration,
    permit: Option<RetryPermit>,
}

impl Retrying {
    /// What the choice of the next endpoint is to know of the earlier ones.
    pub fn ask(&self, policy: Option<&RetryPolicy>) -> Ask<'_> {
        let mut ask = Ask::default();
        if let Some(policy) = policy {
            if policy.avoid_previous {
                ask.tried = &self.tried;
            }
            if policy.remote_localities {
                // Every second one, as Istio sets Envoy's `previous_priorities`.
                let count = self.tried.len() / 2 * 2;
                ask.beyond = self.tried.get(..count).unwrap_or_default();
            }
        }
        ask
    }
}

/// What stood against a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryRefused {
    /// The policy's `attempts` are used up (URX).
    Limit,
    /// Too many requests to the cluster are on a retry (UO).
    Overflow,
}

impl RetryRefused {
    /// Envoy's response flag.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Limit => "URX",
            Self::Overflow => "UO",
        }
    }
}

/// Whether the attempt that just ended is repeated, if its rule's policy is one that `covers` it.
/// If so, everything it left behind is cleared.
pub(super) fn again(
    session: &Session,
    ctx: &mut Context,
    limits: &Limits,
    covers: impl FnOnce(&RetryPolicy) -> bool,
) -> bool {
    // A retry that has its response is over, in whichever way.
    ctx.retrying.permit = None;
    ctx.retrying.refused = None;
    let policy = ctx.retry_policy().filter(|policy| covers(policy));
    let Some(attempts) = policy.map(|policy| policy.retries) else {
        return false;
    };
    if ctx.is_late() || !is_repeatable(session, ctx, limits) {
        return false;
    }
    if ctx.retrying.retries >= attempts || is_exhausted(ctx, limits) {
        ctx.retrying.refused = Some(RetryRefused::Limit);
        return false;
    }
    let Some(permit) = ctx.cluster_state().and_then(|cluster| cluster.retry()) else {
        ctx.retrying.refused = Some(RetryRefused::Overflow);
        return false;
    };
    ctx.retrying.permit = Some(permit);
    ctx.retrying.retries += 1;
    let number = ctx.retrying.retries;
    let wait = ctx
        .retry_policy()
        .map(|policy| policy.wait(number, fastrand::u64(..)));
    ctx.retrying.wait = wait.unwrap_or_default();
    if let Some(pick) = &ctx.pick {
        let addr = pick.addr();
        ctx.retrying.tried.push(addr);
    }
    ctx.cause = None;
    ctx.upstream_failure = None;
    ctx.grpc_status = None;
    true
}

/// Whether there is no further attempt, whatever the rule says.
pub(super) fn is_exhausted(ctx: &Context, limits: &Limits) -> bool {
    ctx.attempts >= limits.attempts || ctx.turns >= limits.turns
}

/// Whether the request can be sent again as it came: nothing of an answer has been written, and
/// its body so far is kept.
pub(super) fn is_repeatable(session: &Session, ctx: &Context, limits: &Limits) -> bool {
    let is_answered = session
        .response_written()
        .is_some_and(|head| !head.status.is_informational() || session.was_upgraded());
    !is_answered
        && !ctx.has_response()
        && !session.as_ref().retry_buffer_truncated()
        && session.body_bytes_read() <= limits.retry_body
}

/// Waits before a retry, as long as the client stays and the route's timeout lasts.
///
/// # Errors
/// The client left meanwhile.
pub(super) async fn back_off(session: &mut Session, ctx: &mut Context) -> Result<()> {
    let mut wait = std::mem::take(&mut ctx.retrying.wait);
    if let Some(deadline) = ctx.deadline {
        wait = wait.min(deadline.saturating_duration_since(clock::now()));
    }
    if wait.is_zero() {
        return Ok(());
    }
    if !session.is_body_done() {
        // Reading now would take a part of the body that belongs to the next attempt.
        sleep(wait).await;
        return Ok(());
    }
    tokio::select! {
        () = sleep(wait) => Ok(()),
        left = session.as_downstream_mut().read_body_or_idle(true) => {
            left.map(drop).map_err(Error::into_down)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_retry_looks_further_where_the_policy_says_so_and_none_elsewhere() {
        let tried: Vec<_> = (1..=5)
            .map(|port| SocketAddr::from(([10, 0, 0, 1], port)))
            .collect();
        let policy = |avoid_previous, remote_localities| RetryPolicy {
            avoid_previous,
            remote_localities,
            ..RetryPolicy::default()
        };
        for (count, beyond) in [(0, 0), (1, 0), (2, 2), (3, 2), (4, 4), (5, 4)] {
            let retrying = Retrying {
                tried: tried[..count].to_vec(),
                ..Retrying::default()
            };
            let ask = |avoid, remote| {
                let policy = policy(avoid, remote);
                let ask = retrying.ask(Some(&policy));
                (ask.tried.len(), ask.beyond.len())
            };
            assert_eq!(ask(true, true), (count, beyond));
            assert_eq!(ask(false, true), (0, beyond));
            assert_eq!(ask(true, false), (count, 0));
        }
    }
}
