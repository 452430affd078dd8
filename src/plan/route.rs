//! One route: when it applies and what it does. A rule with several matches is several routes.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{ObjectKey, Origin};
use crate::policy::direct_response::spec::DirectResponse;
use crate::policy::headers::spec::HeaderEdits;
use crate::policy::redirect::spec::Redirect;
use crate::policy::rewrite::spec::Rewrite;

use super::predicate::{Predicate, UriMatch};
use super::{ClusterId, Policies, RetryPolicy};

/// A match of an http rule with the rule's action.
#[derive(Clone, Debug)]
pub struct Route {
    /// `rule.match` as Istio names routes; `default` if the rule has no name.
    pub name: Arc<str>,
    /// The object that wrote the rule (the leaf, for a delegate).
    pub object: ObjectKey,
    /// The rule's field path (`spec.http[2]`).
    pub path: Arc<str>,
    /// The rule that delegates to this one.
    pub via: Option<Box<RuleRef>>,
    /// The line of the match, or of the rule if it has none.
    pub origin: Origin,
    pub uri: UriMatch,
    /// All must hold, cheapest first.
    pub predicates: Box<[Predicate]>,
    /// Shared by all matches of the rule.
    pub action: Arc<Action>,
}

/// A rule of another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRef {
    pub object: ObjectKey,
    /// The rule's field path (`spec.http[2]`).
    pub path: Arc<str>,
}

#[derive(Clone, Debug)]
pub enum Action {
    Forward(Forward),
    Redirect {
        redirect: Redirect,
        response: HeaderEdits,
    },
    Direct {
        response: DirectResponse,
        edits: HeaderEdits,
    },
    /// The rule, or what protects it, could not be compiled: 503 with this cause.
    Fenced(Arc<Fence>),
}

/// Sends the request to one of several destinations.
#[derive(Clone, Debug)]
pub struct Forward {
    /// At least one; weights are positive.
    pub destinations: Vec<Destination>,
    /// Sum of all weights.
    pub total_weight: u64,
    pub rewrite: Rewrite,
    /// Clock starts when the request is fully received.
    pub timeout: Option<Duration>,
    /// When failed attempts are repeated; `None` never.
    pub retry: Option<Arc<RetryPolicy>>,
    pub policies: Policies,
}

impl Forward {
    /// The destination that a uniformly random number chooses. `None` only if there are none.
    pub fn pick(&self, random: u64) -> Option<&Destination> {
        if let [only] = self.destinations.as_slice() {
            return Some(only);
        }
        let mut rest = random % self.total_weight.max(1);
        for destination in &self.destinations {
            if rest < destination.weight {
                return Some(destination);
            }
            rest -= destination.weight;
        }
        self.destinations.last()
    }
}

#[derive(Clone, Debug)]
pub struct Destination {
    pub target: Target,
    pub weight: u64,
    /// Route and destination level merged in Istio's order for this destination.
    pub request: HeaderEdits,
    pub response: HeaderEdits,
    /// Host sent to the origin when header edits name it; `rewrite.authority` beats it.
    pub authority: Option<http::HeaderValue>,
    pub origin: Origin,
}

#[derive(Clone, Debug)]
pub enum Target {
    Cluster(ClusterId),
    /// The host, port or subset does not exist: 503, NC.
    Missing {
        name: Arc<str>,
        reason: Arc<str>,
    },
}

/// Why something answers 503 instead of serving, and where to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub origin: Origin,
    /// One sentence: what is wrong and what to change.
    pub reason: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::super::fixture::forward;
    use super::*;

    /// How often each destination is chosen when every number below the sum is drawn once.
    fn shares(weights: &[u64]) -> Vec<u64> {
        let forward = forward(weights);
        let mut shares = vec![0; weights.len()];
        for random in 0..forward.total_weight {
            if let Some(Destination {
                target: Target::Cluster(id),
                ..
            }) = forward.pick(random)
            {
                shares[id.0 as usize] += 1;
            }
        }
        shares
    }

    #[test]
    fn every_destination_gets_exactly_its_weight() {
        for weights in [&[90, 10][..], &[1, 2, 3], &[7], &[1, 1000, 1], &[1; 50]] {
            assert_eq!(shares(weights), weights);
        }
    }

    #[test]
    fn gotcha_18_a_sole_destination_is_chosen_whatever_its_weight() {
        assert!(forward(&[0]).pick(5).is_some());
        assert!(forward(&[]).pick(5).is_none());
    }
}
