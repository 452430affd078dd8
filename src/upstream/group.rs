//! The endpoints among which a balance chooses: those of one priority, or of one locality of it
//! where localities have shares of their own.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::plan::Balance;

use super::EndpointState;
use super::alias::below;
use super::choice::Choice;

/// How far a key walks on from an endpoint that just became unfit before the rest is looked at
/// in order; the next snapshot is without it.
const WALK: usize = 64;

/// Endpoints that were fit when the snapshot was built, or all of them in a panic.
#[derive(Debug)]
pub(super) struct Group {
    endpoints: Box<[Arc<EndpointState>]>,
    choice: Choice,
    cursor: Cursor,
    /// Of the cluster's traffic, in relation to the other groups.
    pub(super) load: u64,
    /// Health does not count here.
    panics: bool,
}

/// How many turns a round robin made. On a cache line of its own: all threads write it, and
/// what lies beside it is read by all of them.
#[derive(Debug)]
#[repr(align(64))]
struct Cursor(AtomicUsize);

impl Group {
    /// For endpoints with a weight each.
    pub(super) fn new(
        balance: Balance,
        endpoints: Vec<Arc<EndpointState>>,
        weights: &[f64],
        load: u64,
        panics: bool,
    ) -> Self {
        Self {
            choice: Choice::new(balance, &endpoints, weights),
            endpoints: endpoints.into(),
            // Anywhere, so that gateways that start together do not walk in step.
            cursor: Cursor(AtomicUsize::new(fastrand::usize(..=usize::MAX >> 1))),
            load,
            panics,
        }
    }

    pub(super) fn next(&self, random: impl FnMut() -> u64) -> Option<&Arc<EndpointState>> {
        self.choice.next(&self.endpoints, &self.cursor.0, random)
    }

    /// The endpoint of a key, or the next one on its way that is fit.
    pub(super) fn of_key(&self, key: u64) -> Option<&Arc<EndpointState>> {
        let Choice::Keyed(keys) = &self.choice else {
            return None;
        };
        (0..WALK)
            .filter_map(|step| self.endpoints.get(keys.find(key, step)?))
            .find(|endpoint| self.admits(endpoint))
    }

    /// Any endpoint that is fit and wanted, the first from some place on.
    pub(super) fn any(
        &self,
        random: u64,
        wanted: impl Fn(&EndpointState) -> bool,
    ) -> Option<&Arc<EndpointState>> {
        let (before, from) = self
            .endpoints
            .split_at_checked(below(self.endpoints.len(), random))?;
        from.iter()
            .chain(before)
            .find(|endpoint| self.admits(endpoint) && wanted(endpoint))
    }

    pub(super) fn admits(&self, endpoint: &EndpointState) -> bool {
        self.panics || endpoint.health.is_usable()
    }
}
