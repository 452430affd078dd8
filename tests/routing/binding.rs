//! Gateways: which are ours, which sockets they open, which hosts meet which VirtualServices.

use std::collections::BTreeMap;

use pingress::base::Code;
use pingress::compile::Options;

use crate::support::{EDGE, answers, get, load, routes, world};

fn servers(hosts: &str) -> String {
    EDGE.replace("'*'", hosts)
}

#[test]
fn a_selector_must_be_contained_in_the_gateways_labels() {
    let vs = routes("vs", "a.com", &answers("", "x"));
    let foreign = EDGE.replace("{istio: ingressgateway}", "{istio: other}");
    let other = world(&[&foreign, &vs]);
    assert!(!other.listens(80));
    assert_eq!(other.found(Code::NOT_FOR_THIS_GATEWAY).len(), 2);
    assert_eq!(other.found(Code::NO_GATEWAY).len(), 1);
    let empty = EDGE.replace("{istio: ingressgateway}", "{}");
    assert_eq!(world(&[&empty, &vs]).get("a.com", "/"), "x");
    let labels = BTreeMap::from([
        ("istio".to_owned(), "other".to_owned()),
        ("app".to_owned(), "x".to_owned()),
    ]);
    let ours = load(
        &[&foreign, &vs],
        &Options {
            labels,
            ..Options::default()
        },
    );
    assert_eq!(ours.get("a.com", "/"), "x");
}

#[test]
fn the_more_specific_of_both_hosts_survives() {
    let vs = routes("vs", "'*'", &answers("", "x"));
    let narrow = world(&[&servers("'*.a.com'"), &vs]);
    assert_eq!(narrow.get("x.a.com", "/"), "x");
    assert_eq!(narrow.get("b.com", "/"), "404 no host");
    let wide = world(&[
        &servers("x.a.com, y.b.com"),
        &routes("vs", "'*.a.com'", &answers("", "x")),
    ]);
    assert_eq!(wide.get("x.a.com", "/"), "x");
    assert_eq!(wide.get("z.a.com", "/"), "404 no host");
    assert_eq!(wide.get("y.b.com", "/"), "404 no host");
}

#[test]
fn a_namespace_before_a_host_restricts_who_may_bind() {
    let vs = |namespace: &str| {
        routes("vs", "a.com", &answers("", namespace))
            .replace(
                "{name: vs}",
                &format!("{{name: vs, namespace: {namespace}}}"),
            )
            .replace("[edge]", "[default/edge]")
    };
    for (host, admitted) in [
        ("default/a.com", "default"),
        ("./a.com", "default"),
        ("shop/a.com", "shop"),
    ] {
        let world = world(&[&servers(host), &vs("default"), &vs("shop")]);
        assert_eq!(world.get("a.com", "/"), admitted, "{host}");
        assert_eq!(
            world.found(Code::HOST_NOT_FOUND_IN_GATEWAY).len(),
            1,
            "{host}"
        );
    }
    assert_eq!(
        world(&[&servers("'*/a.com'"), &vs("shop")]).get("a.com", "/"),
        "shop"
    );
}

#[test]
fn gateways_are_named_bare_with_namespace_or_in_the_old_form() {
    let edge = EDGE.replace("{name: edge}", "{name: edge, namespace: infra}");
    for (name, old) in [
        ("infra/edge", false),
        ("edge.infra.svc.cluster.local", true),
        ("edge.infra", true),
    ] {
        let vs = routes("vs", "a.com", &answers("", "x")).replace("[edge]", &format!("[{name}]"));
        let world = world(&[&edge, &vs]);
        assert_eq!(world.get("a.com", "/"), "x", "{name}");
        assert_eq!(!world.troubles().is_empty(), old, "{name}");
    }
    let bare = world(&[&edge, &routes("vs", "a.com", &answers("", "x"))]);
    assert_eq!(bare.get("a.com", "/"), "404 no host");
    assert_eq!(bare.found(Code::REFERENCED_RESOURCE_NOT_FOUND).len(), 1);
}

#[test]
fn a_short_host_is_completed_with_namespace_and_domain() {
    let world = world(&[EDGE, &routes("vs", "reviews", &answers("", "x"))]);
    assert_eq!(world.get("reviews.default.svc.cluster.local", "/"), "x");
    assert_eq!(world.get("reviews", "/"), "404 no host");
}

#[test]
fn declared_ports_are_mapped_and_binds_are_separate_listeners() {
    let edge = EDGE.replace("    hosts: ['*']", "    hosts: ['*']\n  - {port: {number: 80, name: local, protocol: HTTP}, bind: 127.0.0.1, hosts: [local.com]}");
    let options = Options {
        ports: BTreeMap::from([(80, 8080)]),
        ..Options::default()
    };
    let world = load(
        &[&edge, &routes("vs", "a.com, local.com", &answers("", "x"))],
        &options,
    );
    let addrs: Vec<String> = world
        .compiled
        .plan
        .listeners
        .iter()
        .map(|listener| listener.addr.to_string())
        .collect();
    assert_eq!(addrs, ["0.0.0.0:8080", "127.0.0.1:8080"]);
    assert_eq!(world.compiled.plan.listeners[1].virtual_hosts.len(), 1);
    assert_eq!(
        &*world.compiled.plan.listeners[0].virtual_hosts[0].name,
        "a.com:80"
    );
    assert_eq!(world.ask(&get("a.com", "/").port(8080)), "x");
}

#[test]
fn the_first_protocol_claims_a_port() {
    let edge = EDGE.replace(
        "    hosts: ['*']",
        "    hosts: [a.com]\n  - {port: {number: 80, name: tcp, protocol: TCP}, hosts: [b.com]}\n  - {port: {number: 80, name: grpc, protocol: GRPC}, hosts: [c.com]}",
    );
    let world = world(&[
        &edge,
        &routes("vs", "a.com, b.com, c.com", &answers("", "x")),
    ]);
    assert_eq!(world.found(Code::PORT_CONFLICT).len(), 1);
    assert_eq!(world.get("a.com", "/"), "x");
    assert_eq!(world.get("b.com", "/"), "404 no host");
    assert_eq!(world.get("c.com", "/"), "x");
    let tls_first = EDGE.replace(
        "  - port:",
        "  - {port: {number: 80, name: tls, protocol: TLS}, hosts: [t.com], tls: {mode: PASSTHROUGH}}\n  - port:",
    );
    let refused = crate::support::world(&[&tls_first, &routes("vs", "a.com", &answers("", "x"))]);
    assert!(
        !refused.listens(80),
        "plaintext must not take the place of TLS"
    );
    assert_eq!(refused.found(Code::PORT_CONFLICT).len(), 1);
}

#[test]
fn a_virtual_service_only_on_servers_that_are_not_served_says_that_it_is_not_served() {
    let edge = EDGE.replace("protocol: HTTP}", "protocol: HTTPS}").replace(
        "    hosts: ['*']",
        "    hosts: ['*']\n    tls: {mode: PASSTHROUGH}",
    );
    let world = world(&[&edge, &routes("vs", "a.com", &answers("", "x"))]);
    assert!(world.compiled.plan.listeners.is_empty());
    assert_eq!(world.found(Code::NOT_FOR_THIS_GATEWAY).len(), 1);
}

#[test]
fn a_server_without_virtual_service_is_reported() {
    let world = world(&[EDGE]);
    assert_eq!(world.found(Code::UNROUTED_HOST).len(), 1);
    assert_eq!(world.get("a.com", "/"), "404 no host");
}

#[test]
fn a_virtual_service_without_http_rules_does_not_hide_a_wildcard() {
    let tcp = routes("tcp", "x.a.com", "").replace(
        "  http:\n",
        "  tcp: [{route: [{destination: {host: a.internal}}]}]\n",
    );
    let world = world(&[
        EDGE,
        &tcp,
        &routes("vs", "'*.a.com'", &answers("", "wildcard")),
    ]);
    assert_eq!(world.get("x.a.com", "/"), "wildcard");
}
