use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::base::{HostPattern, Kind, ObjectKey, Origin, Position};
use crate::plan::endpoints::Endpoint;
use crate::plan::hosts::HostIndex;
use crate::plan::paths::PathIndex;
use crate::plan::{
    Action, Balance, Cluster, ClusterEndpoints, ClusterId, Destination, Digest, EndpointTable,
    Fence, Forward, Pool, Predicate, Protocol, Resolution, StringMatch, Target, UriMatch,
};
use crate::policy::direct_response::spec::DirectResponse;
use crate::policy::headers::spec::{HeaderEdit, HeaderEdits, TemplatePart, ValueTemplate};
use crate::policy::redirect::spec::{Redirect, RedirectPath, RedirectPort};
use crate::policy::rewrite::spec::{PathRewrite, Rewrite};

fn origin(line: u32) -> Origin {
    Origin::new("shop.yaml".into(), Position { line, column: 1 }, 0)
}

fn route(line: u32, uri: UriMatch, predicates: Vec<Predicate>, action: Action) -> Route {
    Route {
        name: format!("rule-{line}").into(),
        object: ObjectKey {
            kind: Kind::VirtualService,
            namespace: "default".into(),
            name: "shop".into(),
        },
        path: format!("spec.http[{line}]").into(),
        via: None,
        origin: origin(line),
        uri,
        predicates: predicates.into(),
        action: Arc::new(action),
    }
}

fn prefix(text: &str) -> UriMatch {
    UriMatch::Prefix {
        text: text.into(),
        ignore_case: false,
    }
}

fn destination(target: Target, weight: u64) -> Destination {
    Destination {
        target,
        weight,
        request: HeaderEdits::default(),
        response: HeaderEdits::default(),
        authority: None,
        origin: origin(50),
    }
}

fn forward(destinations: Vec<Destination>, rewrite: Rewrite) -> Action {
    Action::Forward(Forward {
        total_weight: destinations
            .iter()
            .map(|destination| destination.weight)
            .sum(),
        destinations,
        rewrite,
        timeout: Some(Duration::from_millis(1_500)),
        retry: None,
        policies: Default::default(),
    })
}

fn cluster(subset: Option<&str>) -> Arc<Cluster> {
    let host = "cart.default.svc.cluster.local";
    Arc::new(Cluster {
        name: format!("outbound|80|{}|{host}", subset.unwrap_or("")).into(),
        host: host.into(),
        port: 80,
        subset: subset.map(Into::into),
        service_name: "cart".into(),
        service_namespace: "default".into(),
        protocol: Protocol::Http1,
        balancing: Balance::LeastRequest.into(),
        pool: Pool::default(),
        tls: None,
        proxy_protocol: None,
        outlier: None,
        health_check: None,
        origin: Some(origin(90)),
        policy_origin: subset.map(|_| origin(95)),
    })
}

fn host(pattern: &str, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: format!("{pattern}:80").into(),
        host: HostPattern::parse(pattern).unwrap(),
        paths: PathIndex::build(routes.iter().map(|route| &route.uri)),
        routes: routes.into_iter().map(Arc::new).collect(),
        https_redirect: None,
        fence: None,
    }
}

/// Port 80 is bound at 8080. Cluster 0 has an endpoint, cluster 1 (subset v2) has none.
pub(in crate::admin) fn plan() -> (Plan, EndpointTable) {
    let header = |name: &'static str| http::HeaderName::from_static(name);
    let literal = |text: &'static str| ValueTemplate::Literal(http::HeaderValue::from_static(text));
    let mut cart = destination(Target::Cluster(ClusterId(0)), 90);
    cart.request = HeaderEdits(vec![
        HeaderEdit::Remove(header("cookie")),
        HeaderEdit::Set(header("x-from"), literal("edge")),
        HeaderEdit::Add(
            header("x-client"),
            ValueTemplate::Parts(vec![
                TemplatePart::DownstreamRemoteAddressWithoutPort,
                TemplatePart::Text("!".into()),
            ]),
        ),
    ]);
    cart.response = HeaderEdits(vec![HeaderEdit::Remove(header("x-powered-by"))]);
    let jason = Predicate::Header {
        name: header("end-user"),
        matcher: StringMatch::Exact("jason".into()),
    };
    let missing = Target::Missing {
        name: "outbound|80|v9|cart.default.svc.cluster.local".into(),
        reason: "no DestinationRule defines the subset".into(),
    };
    let fence = Arc::new(Fence {
        origin: origin(77),
        reason: "the regex is not valid".into(),
    });
    let redirect = Redirect {
        status: 302,
        path: Some(RedirectPath::Prefix {
            length: 4,
            with: "/new".into(),
        }),
        authority: None,
        scheme: None,
        port: RedirectPort::Keep,
    };
    let direct = DirectResponse {
        status: 418,
        body: "short and stout".into(),
    };
    let rewrite = Rewrite {
        path: Some(PathRewrite::Prefix {
            length: 5,
            with: "/basket".into(),
        }),
        authority: None,
    };
    let to = |id, weight| destination(Target::Cluster(ClusterId(id)), weight);
    let shop = host(
        "shop.example.com",
        vec![
            route(
                10,
                prefix("/cart"),
                vec![jason],
                forward(vec![to(1, 1)], Rewrite::default()),
            ),
            route(
                20,
                prefix("/cart"),
                vec![],
                forward(vec![cart, to(1, 10)], rewrite),
            ),
            route(30, prefix("/c"), vec![], Action::Fenced(fence)),
            route(
                40,
                prefix("/old"),
                vec![],
                Action::Redirect {
                    redirect,
                    response: HeaderEdits::default(),
                },
            ),
            route(
                45,
                prefix("/tea"),
                vec![],
                Action::Direct {
                    response: direct,
                    edits: HeaderEdits::default(),
                },
            ),
            route(
                47,
                prefix("/lost"),
                vec![],
                forward(vec![destination(missing, 1)], Rewrite::default()),
            ),
        ],
    );
    let many = (1..=60).map(|line| {
        route(
            line,
            prefix(&format!("/{line}/")),
            vec![],
            forward(vec![to(0, 1)], Rewrite::default()),
        )
    });
    let mut secure = host("secure.example.com", vec![]);
    secure.https_redirect = Some(origin(5));
    let virtual_hosts = vec![shop, host("many.example.com", many.collect()), secure];
    let mut hosts = HostIndex::default();
    for (index, host) in (0..).zip(&virtual_hosts) {
        hosts.insert(&host.host, index);
    }
    let listener = Listener {
        addr: "0.0.0.0:8080".parse().unwrap(),
        declared_port: 80,
        is_tls: false,
        grpc_web: false,
        origins: vec![origin(5)],
        hosts: hosts.into(),
        virtual_hosts: virtual_hosts.into_iter().map(Arc::new).collect(),
        fence: None,
        guarding: None,
    };
    let clusters = [cluster(None), cluster(Some("v2"))];
    let endpoints = |endpoints| {
        Arc::new(ClusterEndpoints {
            resolution: Resolution::Static(endpoints),
            digest: Digest::default(),
        })
    };
    let one = Endpoint {
        addr: "10.0.0.1:8080".parse().unwrap(),
        weight: 1,
        place: Default::default(),
        origin: Some(origin(99)),
    };
    let table = EndpointTable {
        clusters: [
            (clusters[0].name.clone(), endpoints(vec![one])),
            (clusters[1].name.clone(), endpoints(vec![])),
        ]
        .into(),
        digest: Digest::default(),
    };
    (
        Plan {
            listeners: vec![listener],
            clusters: clusters.into_iter().collect(),
            ..Plan::default()
        },
        table,
    )
}

fn explained(url: &str, headers: &[&str], all: bool) -> Explained {
    let (plan, endpoints) = plan();
    let headers: Vec<String> = headers.iter().map(ToString::to_string).collect();
    let ask = Ask::new(url, "GET", &headers, all).unwrap();
    explain(&plan, &endpoints, &ask).unwrap()
}

fn as_json(url: &str, headers: &[&str]) -> Value {
    serde_json::to_value(explained(url, headers, false)).unwrap()
}

#[test]
fn the_text_says_what_is_sent_where_and_why_nothing_else_won() {
    let text = explained(
        "http://shop.example.com/x/../cart/7?a=1",
        &["Cookie: c=1"],
        false,
    )
    .to_string();
    assert_eq!(
        text,
        "GET http://shop.example.com/x/../cart/7?a=1\n\
         \x20 comes in at 0.0.0.0:8080 (port 80)\n\
         \x20 as host shop.example.com, path /cart/7, normalised from \"/x/../cart/7\"\n\
         \n\
         rule shop.yaml:20 VirtualService default/shop spec.http[20] (name \"rule-20\")\n\
         \x20 matches uri.prefix \"/cart\"\n\
         \n\
         sends 90 of 100 to outbound|80||cart.default.svc.cluster.local, at shop.yaml:50\n\
         \x20 path /basket/7?a=1\n\
         \x20 host shop.example.com\n\
         \x20 request header x-from: edge\n\
         \x20 request header x-client: %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%!\n\
         \x20 request header cookie removed\n\
         \x20 response header x-powered-by removed\n\
         \x20 service at shop.yaml:90\n\
         \x20 endpoints\n\
         \x20   10.0.0.1:8080 from shop.yaml:99\n\
         sends 10 of 100 to outbound|80|v2|cart.default.svc.cluster.local, subset v2, at shop.yaml:50\n\
         \x20 path /basket/7?a=1\n\
         \x20 host shop.example.com\n\
         \x20 service at shop.yaml:90\n\
         \x20 policy at shop.yaml:95\n\
         \x20 answers 503 UH: the cluster has no usable endpoint\n\
         \x20 endpoints\n\
         \x20   no endpoint\n\
         within 1500 ms\n\
         without retries\n\
         \n\
         tried before, not matching\n\
         \x20 shop.yaml:10 VirtualService default/shop spec.http[10] (name \"rule-10\")\n\
         \x20   headers[end-user].exact \"jason\": header is absent\n\
         \n\
         matching too, but later\n\
         \x20 shop.yaml:30 VirtualService default/shop spec.http[30] (name \"rule-30\")\n"
    );
}

#[test]
fn the_json_form_has_stable_keys() {
    let value = as_json("http://shop.example.com/cart", &["end-user: jason"]);
    assert_eq!(
        value["request"],
        json!({
            "url": "http://shop.example.com/cart", "method": "GET", "authority": "shop.example.com",
            "host": "shop.example.com", "path": "/cart", "received_path": null, "query": null, "scheme": "http",
        })
    );
    assert_eq!(
        value["listener"],
        json!({"address": "0.0.0.0:8080", "port": 80, "servers": ["shop.yaml:5"]})
    );
    assert_eq!(value["virtual_host"], json!("shop.example.com:80"));
    assert_eq!(
        value["rule"],
        json!({
            "name": "rule-10", "object": "VirtualService default/shop", "path": "spec.http[10]",
            "origin": "shop.yaml:10", "match": "uri.prefix \"/cart\", headers[end-user].exact \"jason\"",
        })
    );
    assert_eq!(
        value["outcome"],
        json!({
            "kind": "forward",
            "timeout_ms": 1500,
            "retries": null,
            "policies": {"fault": null, "cors": null, "mirrors": []},
            "destinations": [{
                "weight": 1, "total_weight": 1,
                "cluster": "outbound|80|v2|cart.default.svc.cluster.local",
                "service": "cart.default.svc.cluster.local", "port": 80, "subset": "v2",
                "host": "shop.example.com", "target": "/cart",
                "request_headers": {"set": [], "removed": []},
                "response_headers": {"set": [], "removed": []},
                "limits": null,
                "outliers": null, "probe": null, "endpoints": [], "names": [],
                "problem": {
                    "status": 503, "flags": "UH", "cause": "no_healthy_upstream",
                    "reason": "the cluster has no usable endpoint",
                },
                "origin": "shop.yaml:50", "service_origin": "shop.yaml:90", "policy_origin": "shop.yaml:95",
            }],
        })
    );
    assert_eq!(value["losers"], json!([]));
    assert_eq!(value["losers_omitted"], json!(0));
    assert_eq!(value["shadowed"][0]["origin"], json!("shop.yaml:20"));
}

#[test]
fn every_other_outcome_names_its_status_and_its_owner() {
    for (url, expected) in [
        (
            "http://shop.example.com/old/x?q=1",
            json!({
                "kind": "redirect", "status": 302, "location": "http://shop.example.com/new/x?q=1",
                "response_headers": {"set": [], "removed": []},
            }),
        ),
        (
            "http://shop.example.com/tea",
            json!({
                "kind": "direct_response", "status": 418, "body": "short and stout",
                "response_headers": {"set": [], "removed": []},
            }),
        ),
        (
            "http://secure.example.com/a",
            json!({
                "kind": "https_redirect", "status": 301, "location": "https://secure.example.com/a",
                "server": "shop.yaml:5",
            }),
        ),
        (
            "http://shop.example.com/care",
            json!({
                "kind": "fenced", "status": 503, "cause": "fenced", "reason": "the regex is not valid",
                "origin": "shop.yaml:77",
            }),
        ),
        (
            "http://shop.example.com/",
            json!({
                "kind": "not_found", "status": 404, "flags": "NR",
                "reason": "none of the 6 rules of shop.example.com:80 matches",
            }),
        ),
        (
            "http://nobody.example.com/",
            json!({
                "kind": "not_found", "status": 404, "flags": "NR",
                "reason": "no Gateway serves the host \"nobody.example.com\" here; this listener serves \
                           shop.example.com, many.example.com, secure.example.com",
            }),
        ),
        (
            "http://shop.example.com/a%00b",
            json!({
                "kind": "refused", "status": 400, "cause": "bad_path", "reason": "the path contains %00",
            }),
        ),
    ] {
        assert_eq!(as_json(url, &[])["outcome"], expected, "{url}");
    }
    let lost = as_json("http://shop.example.com/lost", &[]);
    assert_eq!(
        lost["outcome"]["destinations"][0]["problem"],
        json!({
            "status": 503, "flags": "NC", "cause": "cluster_not_found",
            "reason": "no DestinationRule defines the subset",
        })
    );
}

#[test]
fn losers_are_bounded_unless_all_are_asked_for() {
    let some = explained("http://many.example.com/nothing", &[], false);
    assert_eq!((some.losers.len(), some.losers_omitted), (50, 10));
    assert!(
        some.to_string()
            .contains("and 10 more; ask for all to see them")
    );
    let all = explained("http://many.example.com/nothing", &[], true);
    assert_eq!((all.losers.len(), all.losers_omitted), (60, 0));
}

#[test]
fn the_listener_is_chosen_by_bound_port_then_by_declared_port_and_the_host_by_its_header() {
    for url in [
        "http://shop.example.com/tea",
        "shop.example.com/tea",
        "HTTP://SHOP.example.com:8080/tea#x",
    ] {
        assert_eq!(as_json(url, &[])["outcome"]["status"], json!(418), "{url}");
    }
    let value = as_json(
        "http://127.0.0.1:8080/tea",
        &["Host: shop.example.com:8080"],
    );
    assert_eq!(value["outcome"]["status"], json!(418));
    assert_eq!(value["request"]["host"], json!("shop.example.com"));
    let (plan, endpoints) = plan();
    let ask = Ask::new("https://shop.example.com/", "GET", &[], false).unwrap();
    assert_eq!(
        explain(&plan, &endpoints, &ask).unwrap_err().to_string(),
        "no listener has port 443; there are: 0.0.0.0:8080 (port 80)"
    );
}

#[test]
fn a_trusted_proxy_that_saw_https_is_not_redirected_to_https() {
    let (mut plan, endpoints) = plan();
    let headers = ["X-Forwarded-Proto: https".to_owned()];
    let ask = Ask::new("http://secure.example.com/", "GET", &headers, false).unwrap();
    let kind =
        |plan: &Plan| serde_json::to_value(explain(plan, &endpoints, &ask).unwrap()).unwrap();
    assert_eq!(kind(&plan)["outcome"]["kind"], json!("https_redirect"));
    plan.http.trusted_proxies = 1;
    assert_eq!(kind(&plan)["outcome"]["kind"], json!("not_found"));
}

#[test]
fn a_question_that_cannot_be_read_is_refused_with_an_example() {
    for (url, method, header, part) in [
        ("ftp://a/", "GET", "a: b", "is not a URL"),
        ("http://", "GET", "a: b", "is not a URL"),
        ("http://u@a/", "GET", "a: b", "is not a URL"),
        ("http://a/ b", "GET", "a: b", "is not a URL"),
        ("http://a b/", "GET", "a: b", "is not a URL"),
        ("http://a/", "G T", "a: b", "is not a method"),
        ("http://a/", "GET", "nothing", "is not a header"),
        ("http://a/", "GET", "a b: c", "is not a header"),
        ("http://a/", "GET", "host:", "is not a header"),
    ] {
        let error = Ask::new(url, method, &[header.to_owned()], false)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{url} {method} {header}: {error}");
    }
}
