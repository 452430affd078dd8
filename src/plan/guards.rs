//! What requests must pass before they are served: lists of addresses, limits on the size of their
//! bodies and on their rate. And whether their responses are compressed.
//!
//! `compile` finds out for each rule which policies concern it; a request looks them up by the
//! indexes of its host and rule. Rules with the same guards share one set, and a listener without
//! policies has nothing to look up.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use smallvec::SmallVec;

use super::{ClusterId, Plan};
use crate::base::{Cause, CauseKind, Origin};
use crate::policy::access::Access;
use crate::policy::compression::spec::Compression;
use crate::policy::rate_limit::spec::RateLimit;

/// The place of a policy in [`Plan::limits`](super::Plan::limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId(pub u32);

/// A policy with the places of its text.
#[derive(Clone, Debug)]
pub struct PlacedLimit {
    pub policy: Arc<RateLimit>,
    pub origin: Origin,
    /// Of each limit, or of each descriptor that a service is told.
    pub origins: Box<[Origin]>,
    /// The cluster of the service that counts, if one does.
    pub service: Option<ClusterId>,
}

/// The place of a policy in [`Checks::access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccessId(pub usize);

/// The place of a policy in [`Checks::bodies`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyLimitId(pub usize);

/// The place of a policy in [`Checks::compression`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CompressionId(pub usize);

/// The policies among guards that keep nothing between requests.
#[derive(Debug, Default, Hash)]
pub struct Checks {
    pub access: Vec<Policy<Access>>,
    /// Bytes of a request's body.
    pub bodies: Vec<Policy<u64>>,
    pub compression: Vec<Policy<Arc<Compression>>>,
}

impl Policy<Access> {
    /// Why a client is not let in.
    #[must_use]
    pub fn refusal(&self) -> Cause {
        let message = format!("{} does not let the client in", self.id);
        Cause::new(CauseKind::AccessDenied, message).owner(&self.origin)
    }
}

/// A policy with its name and place.
#[derive(Clone, Debug)]
pub struct Policy<T> {
    /// As metrics and explanations name it.
    pub id: Arc<str>,
    pub policy: T,
    pub origin: Origin,
}

/// Without its place, which has no meaning.
impl<T: Hash> Hash for Policy<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            id,
            policy,
            origin: _,
        } = self;
        (id, policy).hash(state);
    }
}

/// What one request passes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Guards {
    /// Before all else.
    pub access: SmallVec<[AccessId; 1]>,
    pub bodies: SmallVec<[BodyLimitId; 1]>,
    /// In front of every other filter.
    pub front: SmallVec<[LimitId; 1]>,
    /// After faults and CORS, so that a preflight passes none.
    pub back: SmallVec<[LimitId; 1]>,
    /// What is done with their responses.
    pub compression: Option<CompressionId>,
}

/// The guards of a listener's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Guarding {
    /// The first is that of requests without a rule.
    sets: Vec<Guards>,
    /// By virtual host, then by route; where nothing is said, it is the first set.
    index: Box<[Box<[u32]>]>,
}

impl Guards {
    pub fn is_empty(&self) -> bool {
        let Self {
            access,
            bodies,
            front,
            back,
            compression,
        } = self;
        access.is_empty()
            && bodies.is_empty()
            && front.is_empty()
            && back.is_empty()
            && compression.is_none()
    }
}

/// A policy that requests pass.
#[derive(Clone, Copy, Debug)]
pub enum Passed<'p> {
    Access(&'p Policy<Access>),
    Body(&'p Policy<u64>),
    /// In front of every other filter.
    Front(&'p PlacedLimit),
    /// Before the router.
    Back(&'p PlacedLimit),
    Compression(&'p Policy<Arc<Compression>>),
}

impl Plan {
    /// The policies that guards stand for, in the order in which requests meet them.
    pub fn passed<'p>(&'p self, guards: &'p Guards) -> impl Iterator<Item = Passed<'p>> {
        let Guards {
            access,
            bodies,
            front,
            back,
            compression,
        } = guards;
        let checks = &self.checks;
        let limit = |id: &LimitId| self.limits.get(id.0 as usize);
        let access = access.iter().filter_map(|id| checks.access.get(id.0));
        let bodies = bodies.iter().filter_map(|id| checks.bodies.get(id.0));
        let compression = compression.iter();
        let compression = compression.filter_map(|id| checks.compression.get(id.0));
        access
            .map(Passed::Access)
            .chain(bodies.map(Passed::Body))
            .chain(front.iter().filter_map(limit).map(Passed::Front))
            .chain(back.iter().filter_map(limit).map(Passed::Back))
            .chain(compression.map(Passed::Compression))
    }
}

impl Guarding {
    /// `cells` are the guards by virtual host and route; none if all are those of requests
    /// without a rule.
    #[must_use]
    pub fn new(unrouted: Guards, cells: Vec<Vec<Guards>>) -> Option<Box<Self>> {
        let mut numbers = HashMap::from([(unrouted.clone(), 0)]);
        let mut sets = vec![unrouted];
        let mut number = |cell: Guards| {
            let next = u32::try_from(sets.len()).unwrap_or(0);
            *numbers.entry(cell).or_insert_with_key(|cell| {
                sets.push(cell.clone());
                next
            })
        };
        let index: Box<[Box<[u32]>]> = cells
            .into_iter()
            .map(|host| host.into_iter().map(&mut number).collect())
            .collect();
        let is_empty = sets.iter().all(Guards::is_empty);
        (!is_empty).then(|| Box::new(Self { sets, index }))
    }

    /// The guards of requests for which there is no rule.
    #[must_use]
    pub fn unrouted(&self) -> Option<&Guards> {
        self.sets.first()
    }

    /// Whether some requests have other guards than those without a rule.
    #[must_use]
    pub fn varies(&self) -> bool {
        self.sets.len() > 1
    }

    /// The guards of a rule's requests, by the indexes of its host and of its route.
    #[inline]
    #[must_use]
    pub fn of(&self, virtual_host: usize, route: usize) -> Option<&Guards> {
        let routes = self.index.get(virtual_host);
        let number = routes.and_then(|routes| routes.get(route)).copied();
        self.sets.get(number.unwrap_or(0) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards(back: &[u32]) -> Guards {
        Guards {
            back: back.iter().map(|id| LimitId(*id)).collect(),
            ..Guards::default()
        }
    }

    #[test]
    fn every_rule_has_its_guards_and_equal_ones_are_kept_once() {
        let cells = vec![
            vec![guards(&[1]), guards(&[]), guards(&[1, 2])],
            vec![guards(&[1])],
        ];
        let guarding = Guarding::new(guards(&[]), cells).unwrap();
        assert_eq!(guarding.sets.len(), 3);
        assert_eq!(guarding.unrouted(), Some(&guards(&[])));
        assert_eq!(guarding.of(0, 0), Some(&guards(&[1])));
        assert_eq!(guarding.of(0, 1), Some(&guards(&[])));
        assert_eq!(guarding.of(0, 2), Some(&guards(&[1, 2])));
        assert_eq!(guarding.of(1, 0), Some(&guards(&[1])));
    }

    #[test]
    fn guards_that_are_everyones_need_no_index_and_none_are_nothing() {
        let guarding = Guarding::new(guards(&[7]), Vec::new()).unwrap();
        assert_eq!(guarding.of(3, 4), Some(&guards(&[7])));
        assert!(Guarding::new(guards(&[]), vec![vec![guards(&[])]]).is_none());
    }
}
