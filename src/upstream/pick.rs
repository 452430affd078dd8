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

    /// The attempt's dial failed. Whether it did not even begin, because another request makes
    /// the connection: then the same attempt is made again.
    pub fn dial_failed(&mut self, error: &Error) -> bool {
        if let Lease::Shared(seat) = &mut self.lease {
            if !is_refusal(error) {
                seat.dial_failed();
            } else {
                if !seat.look_again() {
                    self.lease = Lease::None;
                }
                self.unsent = true;
            }
        }
        self.unsent
    }

    /// The attempt's connection leads to an origin that is not the one that is meant.
    pub fn refused(&mut self) {
        if let Lease::Shared(seat) = &mut self.lease {
            seat.refused();
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
