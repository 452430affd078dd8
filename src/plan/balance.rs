//! How a cluster's endpoint is chosen: what DestinationRule's `loadBalancer` comes to.

/// Everything about the choice of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Balancing {
    pub policy: Balance,
}

impl From<Balance> for Balancing {
    fn from(policy: Balance) -> Self {
        Self { policy }
    }
}

/// How an endpoint is chosen among those of a locality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Balance {
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
}
