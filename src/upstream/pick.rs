//! A chosen endpoint, counted for as long as it is held.
//!
//! `proxy` keeps the pick in the request's context; dropping it, on whichever way the request
//! ends, uncounts it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pingora_core::Error;

use super::EndpointState;
use super::breaker::Permit;
use super::queue::Hold;
use super::shared::{Seat, is_refusal};

/// What the choice of an endpoint may depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Of the request's hash key, if the cluster hashes and the request has the key.
    pub hash: Option<u64>,
    /// Endpoints that failed this request before; chosen again only if there is no other.
    pub tried: &'a [SocketAddr],
    /// Endpoints that failed this request before, whose priorities are left out while another
    /// one has somebody fit (`retryRemoteLocalities`).
    pub beyond: &'a [SocketAddr],
}

/// Why there is no endpoint for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// None takes traffic (503 UH).
    NoEndpoint,
    /// A limit of the cluster's `connectionPool` is reached (503 UO).
    Overflow,
}

/// What became of one attempt at an endpoint; outlier detection counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The origin answered with this status (for gRPC: what the gRPC status maps to).
    Answered(u16),
    /// No connection could be made, or in time.
    ConnectFailed,
    /// The connection or the stream ended before the answer did.
    Reset,
    /// The answer did not come in time (per-try or route timeout).
    TimedOut,
}

/// A request in flight to an endpoint.
#[derive(Debug)]
pub struct Pick {
    endpoint: Arc<EndpointState>,
    // Given back in this order: a connection is handed on to a request that needs a permit.
    pub(super) permit: Option<Permit>,
    pub(super) lease: Lease,
    unsent: bool,
    hurried: bool,
}

/// The request's share in a connection, where connections are shared or counted by us.
#[derive(Debug, Default)]
pub(super) enum Lease {
    /// Pingora's pool has any number for all.
    #[default]
    None,
    Shared(Seat),
    Own(Hold),
}

impl Pick {
    pub(super) fn new(endpoint: Arc<EndpointState>, permit: Option<Permit>) -> Self {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        Self {
            endpoint,
            permit,
            lease: Lease::None,
            unsent: false,
            hurried: false,
        }
    }

    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.endpoint
    }

    /// Says what became of the attempt. Called once per attempt.
    pub fn report(&self, outcome: Outcome) {
        self.endpoint.health.note(outcome);
    }

    pub fn addr(&self) -> SocketAddr {
        self.endpoint.addr
    }

    /// Whether the request goes out over HTTP/2.
    pub fn is_shared(&self) -> bool {
        matches!(self.lease, Lease::Shared(_))
    }

    /// Whether the connection is any of Pingora's pool.
    pub fn is_pooled(&self) -> bool {
        matches!(self.lease, Lease::None)
    }

    /// The attempt has its connection.
    pub fn connected(&mut self) {
        if let Lease::Shared(seat) = &mut self.lease {
            seat.connected();
        }
    }

    /// From now on a shared connection is made and not looked for: Pingora counts the looks.
    pub fn hurry(&mut self) {
        self.hurried = true;
        if matches!(&self.lease, Lease::Shared(seat) if !seat.dials()) {
            self.lease = Lease::None;
        }
    }

    pub(super) fn is_hurried(&self) -> bool {
        self.hurried
    }

    /// The attempt's dial failed. Whether it did not even begin, because another request makes
    /// the connection, or the one that was found is just closing: then the same attempt is made
    /// again.
    pub fn dial_failed(&mut self, error: &Error) -> bool {
        let Lease::Shared(seat) = &mut self.lease else {
            return false;
        };
        let stays = is_refusal(error) && seat.look_again();
        if !is_refusal(error) {
            seat.dial_failed();
        }
        self.unsent = !seat.dials();
        if self.unsent && !stays {
            self.lease = Lease::None;
        }
        self.unsent
    }

    /// The attempt's connection leads to an origin that is not the one that is meant.
    pub fn reject(&mut self) {
        if let Lease::Shared(seat) = &mut self.lease {
            seat.reject();
        }
    }

    /// The origin began to answer the attempt.
    pub fn answered(&self) {
        if let Lease::Shared(seat) = &self.lease {
            seat.answered();
        }
    }

    /// The origin refused the attempt's HTTP/2 stream. Whether that may be because it had not
    /// said yet how many it allows.
    pub fn refused(&mut self) -> bool {
        match &mut self.lease {
            Lease::Shared(seat) => seat.refused(),
            _ => false,
        }
    }

    /// Whether the last attempt did not begin; said once.
    pub fn take_unsent(&mut self) -> bool {
        std::mem::take(&mut self.unsent)
    }

    /// A part of the response's body, or its trailers: `whole` if that was the end, and there are
    /// no trailers.
    pub fn received(&mut self, whole: bool) {
        if let Lease::Shared(seat) = &mut self.lease {
            seat.set_clean(whole);
        }
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.endpoint.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{Balance, Cluster, HashTable, Protocol};
    use crate::upstream::fixture::{cluster, first, fixed, plan, table};
    use crate::upstream::{Caller, DnsOptions, Upstreams, Wants};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_has_looked_often_enough_dials_for_itself() {
        let upstreams = Upstreams::new(DnsOptions::default(), tokio::runtime::Handle::current());
        upstreams.publish(&table(&[("one", fixed(&[(1, 1)]))]));
        let state = first(&upstreams.serve(plan([Cluster {
            protocol: Protocol::H2c,
            ..cluster("one")
        }])));
        let mut dialler = state.pick(&Ask::default()).unwrap();
        state
            .admit(&mut dialler, &Caller::of(Wants::Http2))
            .await
            .unwrap();
        dialler.connected();
        let mut pick = state.pick(&Ask::default()).unwrap();
        let dials = |pick: &Pick| matches!(&pick.lease, Lease::Shared(seat) if seat.dials());
        state
            .admit(&mut pick, &Caller::of(Wants::Http2))
            .await
            .unwrap();
        assert!(!dials(&pick));
        pick.hurry();
        state
            .admit(&mut pick, &Caller::of(Wants::Http2))
            .await
            .unwrap();
        assert!(dials(&pick));
        // Having a line of its own, it stays there.
        pick.hurry();
        assert!(dials(&pick));
    }
    #[tokio::test]
    async fn no_balance_allocates_for_a_choice() {
        let upstreams = Upstreams::new(DnsOptions::default(), tokio::runtime::Handle::current());
        let even: Vec<_> = (1..=100).map(|last| (last, 1)).collect();
        let uneven: Vec<_> = (1..=100)
            .map(|last| (last, 1 + u32::from(last) % 7))
            .collect();
        upstreams.publish(&table(&[
            ("even", fixed(&even)),
            ("uneven", fixed(&uneven)),
        ]));
        for policy in [
            Balance::LeastRequest,
            Balance::RoundRobin,
            Balance::Random,
            Balance::Hash(HashTable::default()),
            Balance::Hash(HashTable::Maglev { size: 65_537 }),
        ] {
            for name in ["even", "uneven"] {
                let balanced = Cluster {
                    balancing: policy.into(),
                    ..cluster(name)
                };
                let state = first(&upstreams.serve(plan([balanced])));
                let choose = |hash| {
                    let ask = Ask {
                        hash: Some(hash),
                        ..Ask::default()
                    };
                    assert!(state.pick(&ask).is_ok());
                };
                // What a thread keeps for itself is made once.
                choose(0);
                let counted = allocation_counter::measure(|| (0..1000).for_each(choose));
                assert_eq!(counted.count_total, 0, "{policy:?}, {name}");
            }
        }
    }
}
