//! What a rule has happen to its requests beside forwarding them.

use std::fmt;
use std::sync::Arc;

use crate::base::{Origin, Share};
use crate::policy::cors::spec::Cors;
use crate::policy::fault::spec::Fault;

use super::route::Target;

/// The policies of one rule; most rules have none.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    pub fault: Option<Arc<Placed<Fault>>>,
    pub cors: Option<Arc<Placed<Cors>>>,
    pub mirrors: Box<[Mirror]>,
}

/// Who gets a copy of which share of requests.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub target: Target,
    pub share: Share,
    pub origin: Origin,
}

/// A policy and where it is written.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    pub policy: T,
    /// Of a delegate's rule this may be in the rule that delegates to it.
    pub origin: Origin,
}

impl<T> std::ops::Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.policy
    }
}

impl<T: fmt::Display> fmt::Display for Placed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.policy, self.origin)
    }
}
