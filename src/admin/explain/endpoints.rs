//! Where an explanation gets a cluster's endpoints from: the running gateway, or compiled files.

use crate::plan::{Cluster, ClusterId, EndpointTable, Resolution};
use crate::upstream::Serving;

use super::{Member, Members, Name};

/// Knows the endpoints of a plan's clusters.
pub trait EndpointSource {
    fn members(&self, id: ClusterId, cluster: &Cluster) -> Members;
}

/// As they are now.
impl EndpointSource for Serving {
    fn members(&self, id: ClusterId, _cluster: &Cluster) -> Members {
        self.cluster(id)
            .map(|cluster| Members::of(&cluster.view()))
            .unwrap_or_default()
    }
}

/// As they are written; names are not asked.
impl EndpointSource for EndpointTable {
    fn members(&self, _id: ClusterId, cluster: &Cluster) -> Members {
        let rules = Members::rules(cluster.outlier.as_ref(), cluster.health_check.as_ref());
        let Some(entry) = self.clusters.get(&cluster.name) else {
            return rules;
        };
        match &entry.resolution {
            Resolution::Static(endpoints) => Members {
                endpoints: endpoints
                    .iter()
                    .map(|endpoint| Member {
                        address: endpoint.addr.to_string(),
                        weight: endpoint.weight,
                        active: None,
                        source: endpoint.origin.as_ref().map(ToString::to_string),
                        health: None,
                    })
                    .collect(),
                ..rules
            },
            Resolution::Dns { names, .. } => Members {
                names: names
                    .iter()
                    .map(|entry| Name {
                        name: format!("{}:{}", entry.name, entry.port),
                        addresses: None,
                        error: None,
                    })
                    .collect(),
                ..rules
            },
        }
    }
}
