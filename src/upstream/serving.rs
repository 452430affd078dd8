//! What a request needs from the slow flow, behind one pointer: a plan and its clusters' state.

use std::collections::HashMap;
use std::sync::Arc;

use crate::plan::{ClusterId, Plan};

use super::ClusterState;

/// A plan with the live state of each of its clusters. A request pins one and keeps it.
#[derive(Debug, Default)]
pub struct Serving {
    pub plan: Arc<Plan>,
    /// Indexed by [`ClusterId`].
    clusters: Vec<Arc<ClusterState>>,
}

impl Serving {
    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<ClusterState>> {
        self.clusters.get(id.0 as usize)
    }
}

/// All live clusters by name, across plans.
#[derive(Debug, Default)]
pub struct Upstreams {
    clusters: std::sync::Mutex<HashMap<Arc<str>, Arc<ClusterState>>>,
}
