//! A chosen endpoint, counted for as long as it is held.
//!
//! `proxy` keeps the pick in the request's context; dropping it, on whichever way the request
//! ends, uncounts it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::EndpointState;

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

    pub fn addr(&self) -> SocketAddr {
        self.endpoint.addr
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.endpoint.active.fetch_sub(1, Ordering::Relaxed);
    }
}
