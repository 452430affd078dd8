//! The immutable picture of a cluster that a pick reads.
//!
//! `cluster` keeps it behind an atomic pointer and replaces it as a whole when membership or
//! balance changes. An address that stays keeps its [`EndpointState`], and with it its counters.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::plan::Balance;

use super::choice::Choice;
use super::dns::Name;
use super::membership::{Membership, Source};
use super::outlier::Detector;
use super::{EndpointHealth, EndpointState};

/// The members of a cluster, ready to be picked.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Those that take traffic first, by address; then the unhealthy and those of weight 0. Nothing but pointers,
    /// so that a pick among thousands finds them in the cache.
    endpoints: Arc<[Arc<EndpointState>]>,
    /// The part of each of them.
    roles: Arc<[Role]>,
    /// How many take traffic.
    taking: usize,
    choice: Choice,
    /// The names this cluster is resolved from.
    pub(super) names: Vec<Arc<Name>>,
}

/// What an address is to this cluster.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) weight: u32,
    pub(super) source: Source,
}

impl Snapshot {
    /// A cluster nobody has published yet.
    pub(super) fn empty(balance: Balance) -> Self {
        Self {
            endpoints: Arc::default(),
            roles: Arc::default(),
            taking: 0,
            choice: Choice::new(balance, &[]),
            names: Vec::new(),
        }
    }

    /// What `membership` says, with the endpoint states of `self` for addresses that stay.
    pub(super) fn succeeded_by(
        &self,
        membership: Membership,
        balance: Balance,
        detector: &Arc<Detector>,
    ) -> Self {
        let known: HashMap<SocketAddr, &Arc<EndpointState>> = self
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.addr, endpoint))
            .collect();
        let members = membership.entries().map(|(addr, weight, source)| {
            let endpoint = match known.get(&addr) {
                Some(endpoint) => Arc::clone(endpoint),
                None => Arc::new(EndpointState {
                    addr,
                    active: AtomicUsize::new(0),
                    health: EndpointHealth::new(addr, detector),
                }),
            };
            (endpoint, Role { weight, source })
        });
        Self::of(members, membership.names.clone(), balance)
    }

    /// The same members as their health and the balance are now.
    pub(super) fn rebuilt(&self, balance: Balance) -> Self {
        let mut members: Vec<_> = self
            .endpoints
            .iter()
            .cloned()
            .zip(self.roles.iter().cloned())
            .collect();
        members.sort_by_key(|(endpoint, _)| endpoint.addr);
        Self::of(members, self.names.clone(), balance)
    }

    fn of(
        members: impl IntoIterator<Item = (Arc<EndpointState>, Role)>,
        names: Vec<Arc<Name>>,
        balance: Balance,
    ) -> Self {
        let takes = |(endpoint, role): &(Arc<EndpointState>, Role)| {
            role.weight > 0 && endpoint.health.is_usable()
        };
        let (mut members, idle): (Vec<_>, Vec<_>) = members.into_iter().partition(takes);
        let weights: Vec<u32> = members.iter().map(|(_, role)| role.weight).collect();
        members.extend(idle);
        let (endpoints, roles): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        Self {
            endpoints: endpoints.into(),
            roles: roles.into(),
            taking: weights.len(),
            choice: Choice::new(balance, &weights),
            names,
        }
    }

    pub(super) fn next(
        &self,
        cursor: &AtomicUsize,
        random: impl FnMut() -> u64,
    ) -> Option<&Arc<EndpointState>> {
        let taking = self.endpoints.get(..self.taking)?;
        self.choice.next(taking, cursor, random)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&EndpointState, &Role)> {
        let endpoints = self.endpoints.iter().map(Arc::as_ref);
        endpoints.zip(self.roles.iter())
    }
}
