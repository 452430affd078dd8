//! Plans and requests for this room's tests.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::Regex;

use super::decide::Request;
use super::hosts::HostIndex;
use super::paths::PathIndex;
use super::predicate::{Predicate, StringMatch, UriMatch};
use super::route::{Action, Destination, Forward, Route, Target};
use super::table::{Listener, Plan, VirtualHost};
use super::{Balance, Cluster, ClusterId, Mirror, Placed, Pool, Protocol};
use crate::base::{HostPattern, Kind, ObjectKey, Origin, Position, Share};
use crate::policy::cors::spec::{Allowed, Cors, OriginMatch};
use crate::policy::fault::spec::{Delay, Fault};
use crate::policy::rewrite::spec::Rewrite;

pub fn origin(line: u32) -> Origin {
    Origin::new("routes.yaml".into(), Position { line, column: 1 }, 0)
}

pub fn exact(text: &str) -> UriMatch {
    UriMatch::Exact {
        text: text.into(),
        ignore_case: false,
    }
}

pub fn prefix(text: &str) -> UriMatch {
    UriMatch::Prefix {
        text: text.into(),
        ignore_case: false,
    }
}

/// As `compile` anchors it.
pub fn anchored(pattern: &str) -> Regex {
    Regex::new(&format!("^(?:{pattern})$")).unwrap()
}

pub fn header(name: &'static str, matcher: StringMatch) -> Predicate {
    Predicate::Header {
        name: HeaderName::from_static(name),
        matcher,
    }
}

pub fn without(name: &'static str, matcher: StringMatch) -> Predicate {
    Predicate::WithoutHeader {
        name: HeaderName::from_static(name),
        matcher,
    }
}

pub fn query(name: &str, matcher: StringMatch) -> Predicate {
    Predicate::Query {
        name: name.into(),
        matcher,
    }
}

pub fn is(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

pub fn forward(weights: &[u64]) -> Forward {
    let destinations: Vec<Destination> = (0..)
        .zip(weights)
        .map(|(id, &weight)| Destination {
            target: Target::Cluster(ClusterId(id)),
            weight,
            request: Default::default(),
            response: Default::default(),
            authority: None,
            origin: origin(90 + id),
        })
        .collect();
    Forward {
        destinations,
        total_weight: weights.iter().sum(),
        rewrite: Rewrite::default(),
        timeout: None,
        retry: None,
        policies: Default::default(),
    }
}

fn placed<T>(policy: T) -> Option<Arc<Placed<T>>> {
    let origin = origin(1);
    Some(Arc::new(Placed { policy, origin }))
}

pub fn fault(seconds: u64) -> Option<Arc<Placed<Fault>>> {
    placed(Fault {
        delay: Some(Delay {
            duration: Duration::from_secs(seconds),
            share: Share::ALL,
        }),
        abort: None,
    })
}

pub fn cors(origin: &str) -> Option<Arc<Placed<Cors>>> {
    placed(Cors {
        origins: vec![OriginMatch::Exact(origin.into())],
        methods: Allowed::Unsaid,
        headers: Allowed::Unsaid,
        expose: None,
        max_age: None,
        credentials: false,
        forward_unmatched: true,
    })
}

pub fn mirror(id: u32, percent: f64) -> Box<[Mirror]> {
    Box::new([Mirror {
        target: Target::Cluster(ClusterId(id)),
        share: Share::of_percent(percent),
        origin: origin(1),
    }])
}

pub fn route(line: u32, uri: UriMatch, predicates: Vec<Predicate>) -> Route {
    let object = ObjectKey {
        kind: Kind::VirtualService,
        namespace: "default".into(),
        name: "shop".into(),
    };
    Route {
        name: "default".into(),
        object,
        path: format!("spec.http[{line}]").into(),
        via: None,
        origin: origin(line),
        uri,
        predicates: predicates.into(),
        action: Arc::new(Action::Forward(forward(&[1]))),
    }
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

pub fn listener(virtual_hosts: Vec<VirtualHost>) -> Listener {
    let mut hosts = HostIndex::default();
    for (number, host) in (0..).zip(&virtual_hosts) {
        hosts.insert(&host.host, number);
    }
    Listener {
        addr: "0.0.0.0:8080".parse().unwrap(),
        declared_port: 80,
        is_tls: false,
        grpc_web: false,
        origins: vec![origin(5)],
        hosts: hosts.into(),
        virtual_hosts: virtual_hosts.into_iter().map(Arc::new).collect(),
        fence: None,
        guarding: None,
    }
}

pub fn cluster(name: &str) -> Arc<Cluster> {
    Arc::new(Cluster {
        name: name.into(),
        host: "reviews.default.svc.cluster.local".into(),
        port: 9080,
        subset: None,
        service_name: "reviews".into(),
        service_namespace: "default".into(),
        protocol: Protocol::Http1,
        balancing: Balance::LeastRequest.into(),
        pool: Pool::default(),
        tls: None,
        proxy_protocol: None,
        outlier: None,
        health_check: None,
        origin: Some(origin(40)),
        policy_origin: None,
    })
}

pub fn plan(listeners: Vec<Listener>) -> Plan {
    let clusters = [cluster("outbound|9080||reviews.default.svc.cluster.local")];
    let mut plan = Plan {
        listeners,
        clusters: clusters.into_iter().collect(),
        ..Plan::default()
    };
    plan.seal();
    plan
}

/// A request that owns its parts.
pub struct Asked {
    pub host: String,
    pub authority: String,
    pub path: String,
    pub query: Option<String>,
    pub method: Method,
    pub headers: HeaderMap,
    pub forwarded_https: bool,
}

impl Asked {
    /// GET of a path with its query on `a.com:8080`.
    pub fn get(target: &str) -> Self {
        let (path, query) = crate::policy::path::split_target(target);
        Self {
            host: "a.com".into(),
            authority: "a.com:8080".into(),
            path: path.into(),
            query: query.map(Into::into),
            method: Method::GET,
            headers: HeaderMap::new(),
            forwarded_https: false,
        }
    }

    pub fn with(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers
            .append(name, HeaderValue::from_bytes(value).unwrap());
        self
    }

    pub fn request(&self) -> Request<'_> {
        Request {
            host: &self.host,
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            method: &self.method,
            scheme: "http",
            headers: &self.headers,
            forwarded_https: self.forwarded_https,
        }
    }
}
