//! Whether an endpoint is fit for traffic: what probes and outlier detection found.
//!
//! Every endpoint has one; a pick reads it, [`super::Pick::report`] and probes write it.

use super::pick::Outcome;

/// The health of one endpoint of one cluster.
#[derive(Debug, Default)]
pub struct EndpointHealth {}

impl EndpointHealth {
    /// Whether the endpoint may be given traffic.
    pub(super) fn is_usable(&self) -> bool {
        true
    }

    pub(super) fn note(&self, _outcome: Outcome) {}
}
