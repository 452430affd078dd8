//! Hosts and routes made by hand.

use std::sync::Arc;

use crate::base::{HostPattern, Kind, ObjectKey, Origin, Position};
use crate::plan::paths::PathIndex;
use crate::plan::*;
use crate::policy::rewrite::spec::Rewrite;

pub fn origin() -> Origin {
    Origin::new("shop.yaml".into(), Position { line: 7, column: 3 }, 0)
}

pub fn host(pattern: &str, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: format!("{pattern}:80").into(),
        host: HostPattern::parse(pattern).unwrap(),
        paths: PathIndex::build(routes.iter().map(|route| &route.uri)),
        routes: routes.into_iter().map(Arc::new).collect(),
        https_redirect: None,
        fence: None,
    }
}

/// A route by prefix.
pub fn route(prefix: &str, action: Action) -> Route {
    route_by(
        UriMatch::Prefix {
            text: prefix.into(),
            ignore_case: false,
        },
        action,
    )
}

pub fn route_by(uri: UriMatch, action: Action) -> Route {
    Route {
        name: "rule".into(),
        object: ObjectKey {
            kind: Kind::VirtualService,
            namespace: "default".into(),
            name: "shop".into(),
        },
        path: "spec.http[0]".into(),
        via: None,
        origin: origin(),
        uri,
        predicates: Box::new([]),
        action: Arc::new(action),
    }
}

/// Forwards to a cluster.
pub fn forward(cluster: u32) -> Action {
    Action::Forward(to(&[(cluster, 1)]))
}

/// Forwards to clusters by weight.
pub fn to(clusters: &[(u32, u64)]) -> Forward {
    let destinations: Vec<_> = clusters
        .iter()
        .map(|(cluster, weight)| Destination {
            target: Target::Cluster(ClusterId(*cluster)),
            weight: *weight,
            request: Default::default(),
            response: Default::default(),
            authority: None,
            origin: origin(),
        })
        .collect();
    Forward {
        total_weight: destinations
            .iter()
            .map(|destination| destination.weight)
            .sum(),
        destinations,
        rewrite: Rewrite::default(),
        timeout: None,
        retry: None,
        policies: Default::default(),
    }
}
