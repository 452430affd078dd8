//! The immutable picture of a cluster that a pick reads.
//!
//! `cluster` keeps it behind an atomic pointer and replaces it as a whole when membership or
//! balance changes. An address that stays keeps its [`EndpointState`], and with it its counters.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::plan::Balance;

use super::EndpointState;
use super::choice::Choice;
use super::dns::Name;
use super::membership::{Membership, Source};

/// The members of a cluster, ready to be picked.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Those that take traffic first, by address; then those of weight 0.
    members: Box<[Member]>,
    /// How many take traffic.
    taking: usize,
    choice: Choice,
    /// The names this cluster is resolved from.
    pub(super) names: Vec<Arc<Name>>,
}

/// One address and its part in the cluster.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) endpoint: Arc<EndpointState>,
    pub(super) weight: u32,
    pub(super) source: Source,
}

impl Member {
    pub(super) fn active(&self) -> usize {
        self.endpoint.active.load(Ordering::Relaxed)
    }
}

impl Snapshot {
    /// A cluster nobody has published yet.
    pub(super) fn empty(balance: Balance) -> Self {
        Self {
            members: Box::default(),
            taking: 0,
            choice: Choice::new(balance, &[]),
            names: Vec::new(),
        }
    }

    /// What `membership` says, with the endpoint states of `self` for addresses that stay.
    pub(super) fn succeeded_by(&self, membership: Membership, balance: Balance) -> Self {
        let known: HashMap<SocketAddr, &Arc<EndpointState>> = self
            .members
            .iter()
            .map(|member| (member.endpoint.addr, &member.endpoint))
            .collect();
        let members = membership.entries().map(|(addr, weight, source)| {
            let endpoint = match known.get(&addr) {
                Some(endpoint) => Arc::clone(endpoint),
                None => Arc::new(EndpointState {
                    addr,
                    active: AtomicUsize::new(0),
                }),
            };
            Member {
                endpoint,
                weight,
                source,
            }
        });
        let (mut members, idle): (Vec<_>, Vec<_>) = members.partition(|member| member.weight > 0);
        let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
        members.extend(idle);
        Self {
            members: members.into(),
            taking: weights.len(),
            choice: Choice::new(balance, &weights),
            names: membership.names,
        }
    }

    /// The same members under another balance.
    pub(super) fn rebalanced(&self, balance: Balance) -> Self {
        let members: Box<[Member]> = self
            .members
            .iter()
            .map(|member| Member {
                endpoint: member.endpoint.clone(),
                weight: member.weight,
                source: member.source.clone(),
            })
            .collect();
        let weights: Vec<u32> = self.taking().iter().map(|member| member.weight).collect();
        Self {
            members,
            taking: self.taking,
            choice: Choice::new(balance, &weights),
            names: self.names.clone(),
        }
    }

    pub(super) fn next(
        &self,
        cursor: &AtomicUsize,
        random: impl FnMut() -> u64,
    ) -> Option<&Arc<EndpointState>> {
        self.choice
            .next(self.taking(), cursor, random)
            .map(|member| &member.endpoint)
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    fn taking(&self) -> &[Member] {
        self.members.get(..self.taking).unwrap_or_default()
    }
}
