//! A chosen endpoint, counted for as long as it is held.
//!
//! `proxy` keeps the pick in the request's context; dropping it, on whichever way the request
//! ends, uncounts it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::EndpointState;

/// What the choice of an endpoint may depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Of the request's hash key, if the cluster hashes and the request has the key.
    pub hash: Option<u64>,
    /// Endpoints that failed this request before; chosen again only if there is no other.
    pub tried: &'a [SocketAddr],
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
}

impl Pick {
    pub(super) fn new(endpoint: Arc<EndpointState>) -> Self {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        Self { endpoint }
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
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.endpoint.active.fetch_sub(1, Ordering::Relaxed);
    }
}
