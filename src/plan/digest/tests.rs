use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::super::endpoints::{DnsEndpoint, Endpoint, Place};
use super::super::fixture::{
    anchored, cluster, cors, exact, fault, forward, header, host, is, listener, mirror, origin,
    plan, prefix, query, route, without,
};
use super::super::{
    Balance, ClusterId, Clusters, HttpOptions, OriginRules, OriginTls, Outlier, Probe, ProbeKind,
    Protocol, ProxyVersion, RetryPolicy, RetrySource, ServerName,
};
use super::*;
use crate::base::{HostPattern, Origin, Position};
use crate::policy::direct_response::spec::DirectResponse;
use crate::policy::headers::spec::{HeaderEdit, HeaderEdits, ValueTemplate};
use crate::policy::path::PathNormalization;
use crate::policy::redirect::spec::{Redirect, RedirectPath, RedirectPort};

fn check(healthy_threshold: u32) -> HealthCheck {
    HealthCheck {
        probe: Arc::new(Probe {
            kind: ProbeKind::Tcp { port: None },
            tls: None,
            interval: Duration::from_secs(1),
            jitter: Duration::ZERO,
            timeout: Duration::from_secs(1),
            healthy_threshold,
            unhealthy_threshold: 1,
        }),
        object: route(1, exact("/a"), vec![]).object,
        origin: origin(1),
    }
}

/// A plan with something of everything.
fn sample() -> Plan {
    let mut shop = route(1, exact("/a"), vec![header("x", is("1"))]);
    shop.action = Arc::new(Action::Forward(Forward {
        timeout: Some(Duration::from_secs(1)),
        ..forward(&[9, 1])
    }));
    plan(vec![listener(vec![
        host("a.com", vec![shop, route(2, prefix("/"), vec![])]),
        host("*.b.com", vec![]),
    ])])
}

fn edits(value: &'static str) -> HeaderEdits {
    let value = ValueTemplate::Literal(HeaderValue::from_static(value));
    HeaderEdits(vec![HeaderEdit::Set(HeaderName::from_static("x"), value)])
}

fn redirect() -> Redirect {
    Redirect {
        status: 301,
        path: None,
        authority: None,
        scheme: None,
        port: RedirectPort::Keep,
    }
}

fn first_host(plan: &mut Plan) -> &mut VirtualHost {
    Arc::make_mut(&mut plan.listeners[0].virtual_hosts[0])
}

fn first(plan: &mut Plan) -> &mut Route {
    Arc::make_mut(&mut first_host(plan).routes[0])
}

fn act(plan: &mut Plan, action: Action) {
    first(plan).action = Arc::new(action);
}

fn forward_with(plan: &mut Plan, change: impl FnOnce(&mut Forward)) {
    let mut forward = forward(&[9, 1]);
    change(&mut forward);
    act(plan, Action::Forward(forward));
}

fn cluster_with(plan: &mut Plan, change: impl FnOnce(&mut Cluster)) {
    let mut changed = Cluster::clone(plan.clusters.get(ClusterId(0)).unwrap());
    change(&mut changed);
    plan.clusters.insert(ClusterId(0), Arc::new(changed));
}

fn secured(verify: Option<OriginRules>) -> Arc<OriginTls> {
    Arc::new(OriginTls {
        certificate: None,
        server_name: ServerName::OfRequest,
        verify,
    })
}

#[test]
fn every_change_of_meaning_changes_the_digest() {
    let fence = || {
        Some(Arc::new(Fence {
            origin: origin(1),
            reason: "why".into(),
        }))
    };
    type Change = Box<dyn FnOnce(&mut Plan)>;
    let changes: Vec<Change> = vec![
        Box::new(|_| {}),
        Box::new(|plan| plan.listeners[0].addr = "0.0.0.0:8081".parse().unwrap()),
        Box::new(|plan| plan.listeners[0].declared_port = 81),
        Box::new(move |plan| plan.listeners[0].fence = fence()),
        Box::new(move |plan| first_host(plan).fence = fence()),
        Box::new(|plan| first_host(plan).https_redirect = Some(origin(1))),
        Box::new(|plan| first_host(plan).name = "a.com:81".into()),
        Box::new(|plan| first_host(plan).host = HostPattern::parse("b.com").unwrap()),
        Box::new(|plan| first_host(plan).routes.swap(0, 1)),
        Box::new(|plan| first_host(plan).routes = [first_host(plan).routes[0].clone()].into()),
        Box::new(|plan| plan.listeners[0].virtual_hosts.swap(0, 1)),
        Box::new(|plan| first(plan).name = "other".into()),
        Box::new(|plan| first(plan).object.name = "other".into()),
        Box::new(|plan| first(plan).path = "spec.http[7]".into()),
        Box::new(|plan| first(plan).uri = exact("/b")),
        Box::new(|plan| first(plan).uri = prefix("/a")),
        Box::new(|plan| {
            first(plan).uri = UriMatch::Exact {
                text: "/a".into(),
                ignore_case: true,
            }
        }),
        Box::new(|plan| first(plan).uri = UriMatch::Regex(anchored("/a"))),
        Box::new(|plan| first(plan).uri = UriMatch::Any),
        Box::new(|plan| first(plan).predicates = [].into()),
        Box::new(|plan| first(plan).predicates = [header("x", is("2"))].into()),
        Box::new(|plan| first(plan).predicates = [header("y", is("1"))].into()),
        Box::new(|plan| {
            first(plan).predicates = [header("x", StringMatch::Prefix("1".into()))].into()
        }),
        Box::new(|plan| {
            first(plan).predicates = [header("x", StringMatch::Regex(anchored("1")))].into()
        }),
        Box::new(|plan| first(plan).predicates = [header("x", StringMatch::Present)].into()),
        Box::new(|plan| first(plan).predicates = [without("x", is("1"))].into()),
        Box::new(|plan| first(plan).predicates = [query("x", is("1"))].into()),
        Box::new(|plan| first(plan).predicates = [Predicate::Method(Method::GET)].into()),
        Box::new(|plan| first(plan).predicates = [Predicate::MethodMatch(is("GET"))].into()),
        Box::new(|plan| first(plan).predicates = [Predicate::Scheme(is("GET"))].into()),
        Box::new(|plan| first(plan).predicates = [Predicate::Authority(is("GET"))].into()),
        Box::new(|plan| {
            first(plan).predicates = [Predicate::Unreadable { text: "GET".into() }].into()
        }),
        Box::new(|plan| forward_with(plan, |_| {})),
        Box::new(|plan| {
            forward_with(plan, |forward| {
                forward.timeout = Some(Duration::from_secs(2))
            })
        }),
        Box::new(|plan| forward_with(plan, |forward| forward.retry = Some(Arc::default()))),
        Box::new(|plan| {
            forward_with(plan, |forward| {
                forward.retry = Some(Arc::new(RetryPolicy {
                    source: RetrySource::Rule,
                    ..RetryPolicy::default()
                }))
            })
        }),
        Box::new(|plan| forward_with(plan, |forward| forward.policies.fault = fault(1))),
        Box::new(|plan| forward_with(plan, |forward| forward.policies.fault = fault(2))),
        Box::new(|plan| forward_with(plan, |forward| forward.policies.cors = cors("a"))),
        Box::new(|plan| forward_with(plan, |forward| forward.policies.cors = cors("b"))),
        Box::new(|plan| forward_with(plan, |forward| forward.policies.mirrors = mirror(0, 1.0))),
        Box::new(|plan| forward_with(plan, |forward| forward.policies.mirrors = mirror(0, 2.0))),
        Box::new(|plan| forward_with(plan, |forward| forward.policies.mirrors = mirror(9, 1.0))),
        Box::new(|plan| forward_with(plan, |forward| forward.destinations[0].weight = 8)),
        Box::new(|plan| forward_with(plan, |forward| forward.destinations[0].request = edits("1"))),
        Box::new(|plan| forward_with(plan, |forward| forward.destinations[0].request = edits("2"))),
        Box::new(|plan| {
            forward_with(plan, |forward| {
                forward.destinations[0].response = edits("1")
            })
        }),
        Box::new(|plan| {
            forward_with(plan, |forward| {
                forward.destinations[0].authority = Some(HeaderValue::from_static("h"))
            })
        }),
        Box::new(|plan| {
            forward_with(plan, |forward| {
                forward.destinations[0].target = Target::Cluster(ClusterId(5))
            })
        }),
        Box::new(|plan| {
            forward_with(plan, |forward| {
                forward.destinations[0].target = Target::Missing {
                    name: "x".into(),
                    reason: "y".into(),
                };
            });
        }),
        Box::new(|plan| {
            forward_with(plan, |forward| {
                forward.rewrite.authority = Some(HeaderValue::from_static("h"))
            })
        }),
        Box::new(|plan| {
            forward_with(plan, |forward| {
                forward.rewrite.path = Some(PathRewrite::Full("/".into()))
            })
        }),
        Box::new(|plan| {
            forward_with(plan, |forward| {
                forward.rewrite.path = Some(PathRewrite::Prefix {
                    length: 2,
                    with: "/".into(),
                });
            });
        }),
        Box::new(|plan| {
            forward_with(plan, |forward| {
                forward.rewrite.path = Some(PathRewrite::Regex {
                    pattern: anchored("a"),
                    with: "/".into(),
                });
            });
        }),
        Box::new(|plan| {
            act(
                plan,
                Action::Redirect {
                    redirect: redirect(),
                    response: HeaderEdits::default(),
                },
            )
        }),
        Box::new(|plan| {
            act(
                plan,
                Action::Redirect {
                    redirect: redirect(),
                    response: edits("1"),
                },
            )
        }),
        Box::new(|plan| {
            let redirect = Redirect {
                port: RedirectPort::FromRequest,
                ..redirect()
            };
            act(
                plan,
                Action::Redirect {
                    redirect,
                    response: HeaderEdits::default(),
                },
            );
        }),
        Box::new(|plan| {
            let redirect = Redirect {
                path: Some(RedirectPath::Full("/".into())),
                ..redirect()
            };
            act(
                plan,
                Action::Redirect {
                    redirect,
                    response: HeaderEdits::default(),
                },
            );
        }),
        Box::new(|plan| {
            let response = DirectResponse {
                status: 200,
                body: "a".into(),
            };
            act(
                plan,
                Action::Direct {
                    response,
                    edits: HeaderEdits::default(),
                },
            );
        }),
        Box::new(|plan| {
            let response = DirectResponse {
                status: 200,
                body: "b".into(),
            };
            act(
                plan,
                Action::Direct {
                    response,
                    edits: HeaderEdits::default(),
                },
            );
        }),
        Box::new(|plan| {
            act(
                plan,
                Action::Fenced(Arc::new(Fence {
                    origin: origin(1),
                    reason: "why".into(),
                })),
            )
        }),
        Box::new(|plan| {
            act(
                plan,
                Action::Fenced(Arc::new(Fence {
                    origin: origin(1),
                    reason: "else".into(),
                })),
            )
        }),
        Box::new(|plan| plan.clusters.insert(ClusterId(1), cluster("other"))),
        Box::new(|plan| plan.clusters = Clusters::default()),
        Box::new(|plan| cluster_with(plan, |cluster| cluster.name = "n".into())),
        Box::new(|plan| cluster_with(plan, |cluster| cluster.host = "n".into())),
        Box::new(|plan| cluster_with(plan, |cluster| cluster.port = 1)),
        Box::new(|plan| cluster_with(plan, |cluster| cluster.subset = Some("v1".into()))),
        Box::new(|plan| cluster_with(plan, |cluster| cluster.service_name = "n".into())),
        Box::new(|plan| cluster_with(plan, |cluster| cluster.service_namespace = "n".into())),
        Box::new(|plan| cluster_with(plan, |cluster| cluster.protocol = Protocol::H2c)),
        Box::new(|plan| {
            cluster_with(plan, |cluster| {
                cluster.balancing.policy = Balance::RoundRobin
            })
        }),
        Box::new(|plan| cluster_with(plan, |cluster| cluster.tls = Some(secured(None)))),
        Box::new(|plan| {
            cluster_with(plan, |cluster| {
                cluster.tls = Some(secured(Some(OriginRules {
                    authorities: None,
                    revocations: None,
                    names: Vec::new(),
                    request_host: true,
                })))
            })
        }),
        Box::new(|plan| {
            cluster_with(plan, |cluster| {
                cluster.proxy_protocol = Some(ProxyVersion::V2);
            })
        }),
        Box::new(|plan| {
            cluster_with(plan, |cluster| {
                cluster.pool.connect_timeout = Duration::from_secs(1)
            })
        }),
        Box::new(|plan| cluster_with(plan, |cluster| cluster.outlier = Some(Outlier::default()))),
        Box::new(|plan| {
            cluster_with(plan, |cluster| {
                cluster.outlier = Some(Outlier {
                    min_health_percent: 1,
                    ..Outlier::default()
                })
            })
        }),
        Box::new(|plan| cluster_with(plan, |cluster| cluster.health_check = Some(check(1)))),
        Box::new(|plan| cluster_with(plan, |cluster| cluster.health_check = Some(check(2)))),
        Box::new(|plan| plan.http.edge = true),
        Box::new(|plan| plan.http.trusted_proxies = 1),
        Box::new(|plan| plan.http.path_normalization = PathNormalization::None),
        Box::new(|plan| plan.http.server_header = None),
        Box::new(|plan| {
            plan.http = HttpOptions {
                http10: true,
                ..HttpOptions::default()
            }
        }),
        Box::new(|plan| plan.listeners.clear()),
        Box::new(|plan| plan.listeners.push(listener(vec![]))),
        Box::new(|plan| plan.listeners[0].grpc_web = true),
    ];
    let count = changes.len();
    let mut seen = std::collections::BTreeSet::new();
    for (number, change) in changes.into_iter().enumerate() {
        let mut plan = sample();
        change(&mut plan);
        plan.seal();
        assert!(
            seen.insert(plan.digest),
            "change {number} has the digest of an earlier one"
        );
    }
    assert_eq!(seen.len(), count);
}

#[test]
fn files_and_lines_do_not_change_the_digest() {
    let elsewhere = || Origin::new("moved.yaml".into(), Position { line: 7, column: 3 }, 2);
    let mut moved = sample();
    moved.listeners[0].origins = vec![elsewhere()];
    for route in &mut first_host(&mut moved).routes {
        let route = Arc::make_mut(route);
        route.origin = elsewhere();
        let Action::Forward(mut forward) = Action::clone(&route.action) else {
            continue;
        };
        for destination in &mut forward.destinations {
            destination.origin = elsewhere();
        }
        route.action = Arc::new(Action::Forward(forward));
    }
    cluster_with(&mut moved, |cluster| {
        cluster.origin = None;
        cluster.policy_origin = Some(elsewhere());
    });
    moved.seal();
    assert_eq!(moved.digest, sample().digest);
    let fenced = |origin| {
        Digest::of(|to| {
            fenced(
                &Fence {
                    origin,
                    reason: "why".into(),
                },
                to,
            )
        })
    };
    assert_eq!(fenced(origin(1)), fenced(elsewhere()));
}

#[test]
fn the_digest_does_not_depend_on_whether_an_action_is_shared() {
    let mut shared = sample();
    let action = first(&mut shared).action.clone();
    Arc::make_mut(&mut first_host(&mut shared).routes[1]).action = action;
    let mut copied = sample();
    let action = Action::clone(&first(&mut copied).action);
    Arc::make_mut(&mut first_host(&mut copied).routes[1]).action = Arc::new(action);
    assert_eq!(Digest::of_plan(&shared), Digest::of_plan(&copied));
}

#[test]
fn endpoint_digests_count_addresses_weights_and_names_but_not_origins() {
    let fixed = |addr: &str, weight, origin| {
        Resolution::Static(vec![Endpoint {
            addr: addr.parse().unwrap(),
            weight,
            place: Place::default(),
            origin,
        }])
    };
    let dns = |name: &str, port, weight, single| Resolution::Dns {
        names: vec![DnsEndpoint {
            name: name.into(),
            port,
            weight,
            place: Place::default(),
            origin: None,
        }],
        single,
    };
    let base = Digest::of_endpoints(&fixed("10.0.0.1:80", 1, None));
    assert_eq!(
        base,
        Digest::of_endpoints(&fixed("10.0.0.1:80", 1, Some(origin(3))))
    );
    let all = [
        fixed("10.0.0.1:80", 1, None),
        fixed("10.0.0.1:81", 1, None),
        fixed("10.0.0.1:80", 2, None),
        Resolution::Static(vec![]),
        dns("a", 80, 1, false),
        dns("b", 80, 1, false),
        dns("a", 81, 1, false),
        dns("a", 80, 2, false),
        dns("a", 80, 1, true),
        Resolution::Dns {
            names: vec![],
            single: false,
        },
    ];
    let distinct: std::collections::BTreeSet<Digest> =
        all.iter().map(Digest::of_endpoints).collect();
    assert_eq!(distinct.len(), all.len());

    let table = |name: &str, resolution: &Resolution| {
        let clusters = [(
            Arc::from(name),
            Arc::new(ClusterEndpoints::new(resolution.clone())),
        )]
        .into();
        let mut table = EndpointTable {
            clusters,
            digest: Digest::default(),
        };
        table.seal();
        table.digest
    };
    assert_ne!(table("a", &all[0]), table("b", &all[0]));
    assert_ne!(table("a", &all[0]), table("a", &all[1]));
    assert_eq!(
        table("a", &all[0]),
        table("a", &fixed("10.0.0.1:80", 1, Some(origin(9))))
    );
}
