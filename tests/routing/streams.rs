//! Connections that are not HTTP: which rule of `tcp` or `tls` takes them, and what becomes of the
//! others.

use std::net::SocketAddr;

use pingress::base::Code;
use pingress::compile::ledger::{Fate, account};
use pingress::compile::{Memory, Options, compile};
use pingress::plan::{Hello, StreamAction, StreamRoute, Target};
use pingress::source::{LoadOptions, Loader};

use crate::support::*;

/// A Gateway `default/edge` with these servers.
fn edge(servers: &[&str]) -> String {
    let servers = servers.join("\n  - ");
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n  - {servers}\n"
    )
}

const TCP: &str = "{port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}";
const THROUGH: &str = "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.a.com', b.com], tls: {mode: PASSTHROUGH}}";

/// A VirtualService on the Gateway `edge`.
fn connections(name: &str, hosts: &str, lists: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{hosts}]\n  gateways: [edge]\n  {lists}\n"
    )
}

fn to(host: &str) -> String {
    format!("route: [{{destination: {{host: {host}}}}}]")
}

impl World {
    /// Where the connections of a TCP port go.
    fn tcp(&self, port: u16) -> String {
        let plan = &self.compiled.plan;
        let socket = plan.tcp_socket(SocketAddr::from(([0, 0, 0, 0], port)));
        socket.map_or("closed".to_owned(), |socket| self.shown(&socket.route))
    }

    /// Where a TLS connection goes; `ended` if TLS ends here.
    fn tls(&self, name: &str) -> String {
        let plan = &self.compiled.plan;
        let socket = plan.tls_socket(SocketAddr::from(([0, 0, 0, 0], 443)));
        let hello = Hello {
            name: Some(name),
            offers_mesh: false,
        };
        match socket.and_then(|socket| socket.choose(&hello)) {
            None => "closed".to_owned(),
            Some(server) => match server.service.route() {
                Some(route) => self.shown(route),
                None => "ended".to_owned(),
            },
        }
    }

    fn shown(&self, route: &StreamRoute) -> String {
        match &route.action {
            StreamAction::Fenced(fence) => format!("fenced: {}", fence.reason),
            StreamAction::Forward(forward) => {
                let names = forward.destinations.iter().map(|it| match &it.target {
                    Target::Cluster(id) => {
                        let cluster = self.compiled.plan.cluster(*id).unwrap();
                        format!("{} {}", it.weight, cluster.name)
                    }
                    Target::Missing { name, .. } => format!("missing {name}"),
                });
                names.collect::<Vec<_>>().join(", ")
            }
        }
    }
}

#[test]
fn the_first_rule_that_holds_takes_all_connections_of_a_tcp_port() {
    let old = connections(
        "old",
        "old.com",
        &format!(
            "tcp: [{{match: [{{port: 1}}], {}}}, {{match: [{{port: 2}}, {{port: 9000}}], {}}}]",
            to("a.internal"),
            to("b.internal")
        ),
    )
    .replace(
        "name: old",
        "name: old, creationTimestamp: '2020-01-01T00:00:00Z'",
    );
    let young = connections("young", "'*'", &format!("tcp: [{{{}}}]", to("a.internal")));
    let services = [service("a.internal"), service("b.internal")];
    let world = world(&[&edge(&[TCP]), &young, &old, &services[0], &services[1]]);
    assert_eq!(world.tcp(9000), "1 outbound|80||b.internal");
    assert_eq!(
        world.paths(Code::SHADOWED),
        ["spec.tcp[0]"],
        "the young one's only rule"
    );
    let foreign = world.paths(Code::NOT_FOR_THIS_GATEWAY);
    assert_eq!(foreign, ["spec.tcp[0].match[0]", "spec.tcp[1].match[0]"]);
}

#[test]
fn of_a_match_only_port_gateways_and_names_count_and_the_rest_is_said() {
    let lists = format!(
        "tcp: [{{match: [{{gateways: [other]}}], {}}}, {{match: [{{destinationSubnets: [10.0.0.0/8], sourceLabels: {{a: b}}, sourceNamespace: x, sourceSubnet: 10.0.0.0/8}}], {}}}]",
        to("a.internal"),
        to("b.internal")
    );
    let world = world(&[
        &edge(&[TCP]),
        &connections("r", "'*'", &lists),
        &service("a.internal"),
        &service("b.internal"),
    ]);
    assert_eq!(world.tcp(9000), "1 outbound|80||b.internal");
    let inert = [
        "destinationSubnets",
        "sourceLabels",
        "sourceNamespace",
        "sourceSubnet",
    ];
    let mut said = world.paths(Code::INERT_FIELD);
    said.sort();
    assert_eq!(
        said,
        inert.map(|field| format!("spec.tcp[1].match[0].{field}"))
    );
}

#[test]
fn names_lead_to_their_rule_exact_ones_before_wildcards() {
    let lists = format!(
        "tls: [{{match: [{{sniHosts: ['*.a.com']}}], {}}}, {{match: [{{sniHosts: [x.a.com]}}, {{sniHosts: [b.com], port: 443}}, {{sniHosts: [y.a.com], port: 444}}], {}}}]",
        to("a.internal"),
        to("b.internal")
    );
    let world = world(&[
        &edge(&[THROUGH]),
        &connections("r", "'*.a.com', b.com", &lists),
        &service("a.internal"),
        &service("b.internal"),
    ]);
    assert_eq!(world.tls("x.a.com"), "1 outbound|80||b.internal");
    assert_eq!(world.tls("b.com"), "1 outbound|80||b.internal");
    assert_eq!(world.tls("y.a.com"), "1 outbound|80||a.internal");
    assert_eq!(world.tls("a.com"), "closed");
    assert_eq!(
        world.paths(Code::NOT_FOR_THIS_GATEWAY),
        ["spec.tls[1].match[2]"]
    );
}

#[test]
fn a_name_that_is_taken_leaves_its_whole_match_out() {
    let first = format!(
        "tls: [{{match: [{{sniHosts: [x.a.com]}}], {}}}]",
        to("a.internal")
    );
    let second = format!(
        "tls: [{{match: [{{sniHosts: [y.a.com, x.a.com]}}], {}}}]",
        to("b.internal")
    );
    let ended = "{port: {number: 443, name: https, protocol: HTTPS}, hosts: [z.a.com], tls: {mode: SIMPLE, credentialName: c}}";
    let third = format!(
        "tls: [{{match: [{{sniHosts: [z.a.com]}}], {}}}]",
        to("b.internal")
    );
    let world = world(&[
        &edge(&[THROUGH, ended]),
        &connections("a-first", "x.a.com", &first),
        &connections("b-second", "'*.a.com'", &second),
        &connections("c-third", "z.a.com", &third),
        &service("a.internal"),
        &service("b.internal"),
    ]);
    assert_eq!(world.tls("x.a.com"), "1 outbound|80||a.internal");
    assert_eq!(world.tls("y.a.com"), "closed");
    assert_eq!(world.tls("z.a.com"), "ended", "who ends TLS comes first");
    assert_eq!(world.paths(Code::SHADOWED).len(), 2);
}

#[test]
fn a_name_beyond_the_servers_hosts_is_served_as_by_istio_and_not_under_the_edge_profile() {
    let lists = format!(
        "tls: [{{match: [{{sniHosts: [b.com, c.com]}}], {}}}]",
        to("a.internal")
    );
    let documents = [
        edge(&[THROUGH]),
        connections("r", "b.com, c.com", &lists),
        service("a.internal"),
    ];
    let documents: Vec<&str> = documents.iter().map(String::as_str).collect();
    let mut options = Options::default();
    for (is_edge, served) in [(false, "1 outbound|80||a.internal"), (true, "closed")] {
        options.http.edge = is_edge;
        let world = load(&documents, &options);
        assert_eq!(world.tls("b.com"), "1 outbound|80||a.internal");
        assert_eq!(world.tls("c.com"), served);
        assert_eq!(
            world.paths(Code::HOST_NOT_FOUND_IN_GATEWAY),
            ["spec.hosts", "spec.tls[0].match[0].sniHosts"]
        );
    }
}

#[test]
fn a_tls_rule_without_names_is_a_fault_and_closes_what_its_object_covers() {
    for matches in ["", "match: [{port: 443}], "] {
        let lists = format!("tls: [{{{matches}{}}}]", to("a.internal"));
        let world = world(&[
            &edge(&[THROUGH]),
            &connections("r", "b.com", &lists),
            &service("a.internal"),
        ]);
        assert!(
            world.tls("b.com").starts_with("fenced: "),
            "{}",
            world.tls("b.com")
        );
        assert_eq!(world.tls("x.a.com"), "closed");
        assert!(!world.found(Code::FENCED).is_empty());
    }
}

#[test]
fn istios_names_for_tcp_are_tcp_and_a_tcp_port_takes_one_server() {
    for protocol in ["TCP", "MONGO", "REDIS", "MYSQL", "tcp"] {
        let server = TCP.replace("TCP", protocol);
        let again = TCP.replace("name: tcp", "name: again");
        let world = world(&[
            &edge(&[&server, &again]),
            &connections("r", "'*'", &format!("tcp: [{{{}}}]", to("a.internal"))),
            &service("a.internal"),
        ]);
        assert_eq!(world.tcp(9000), "1 outbound|80||a.internal");
        assert_eq!(world.paths(Code::PORT_CONFLICT), ["spec.servers[1]"]);
    }
}

#[test]
fn weights_are_kept_zero_takes_out_and_a_missing_host_is_named() {
    let lists = "tcp: [{route: [{destination: {host: a.internal}, weight: 3}, {destination: {host: b.internal}}, {destination: {host: gone.internal}, weight: 1}]}]";
    let world = world(&[
        &edge(&[TCP]),
        &connections("r", "'*'", lists),
        &service("a.internal"),
        &service("b.internal"),
    ]);
    let to = world.tcp(9000);
    assert_eq!(
        to,
        "3 outbound|80||a.internal, missing outbound|9000||gone.internal"
    );
    let found = world.paths(Code::REFERENCED_RESOURCE_NOT_FOUND);
    assert_eq!(found, ["spec.tcp[0].route[2].destination"]);
}

#[test]
fn without_a_route_a_port_is_not_opened_and_the_server_is_named() {
    let world = world(&[&edge(&[TCP, THROUGH])]);
    assert_eq!(world.compiled.plan.addresses().count(), 0);
    assert_eq!(
        world.paths(Code::UNROUTED_HOST),
        ["spec.servers[0]", "spec.servers[1]"]
    );
}

#[test]
fn tls_to_the_origin_that_cannot_be_made_closes_connections() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\nspec: {host: a.internal, trafficPolicy: {tls: {mode: SIMPLE, credentialName: nowhere}}}\n";
    let world = world(&[
        &edge(&[TCP]),
        &connections("r", "'*'", &format!("tcp: [{{{}}}]", to("a.internal"))),
        &service("a.internal"),
        rule,
    ]);
    assert!(
        world.tcp(9000).starts_with("fenced: "),
        "{}",
        world.tcp(9000)
    );
}

#[test]
fn everything_about_connections_is_accounted_for() {
    let http = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}";
    let auto = "{port: {number: 444, name: auto, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}";
    let ended = "{port: {number: 443, name: ended, protocol: TLS}, hosts: [ended.com], tls: {mode: SIMPLE, credentialName: c}}";
    let rules = [
        format!(
            "tcp: [{{match: [{{port: 9000}}, {{port: 9000}}], {}}}, {{{}}}]",
            to("a.internal"),
            to("a.internal")
        ),
        format!(
            "tls: [{{match: [{{sniHosts: [x.a.com]}}, {{sniHosts: [b.com], port: 9}}], {}}}]",
            to("a.internal")
        ),
        format!("http: [{{{}}}]", to("a.internal")),
        "tcp: [{route: []}, {route: [{weight: x}]}]\n  tls: [{match: x}, {oops: 1}]".to_owned(),
    ];
    let hosts = [
        "'*'",
        "x.a.com, b.com",
        "x.a.com",
        "ended.com",
        "nowhere.com",
    ];
    let gateways = [
        edge(&[TCP, THROUGH, http, auto, ended]),
        edge(&[TCP]),
        edge(&[http]),
    ];
    for gateway in &gateways {
        for (first, second) in (0..rules.len()).flat_map(|a| (0..rules.len()).map(move |b| (a, b)))
        {
            for host in hosts {
                let documents = [
                    gateway.clone(),
                    connections("one", host, &rules[first]),
                    connections("two", "'*.a.com', ended.com", &rules[second]),
                    service("a.internal"),
                ];
                let folder = tempfile::tempdir().unwrap();
                std::fs::write(folder.path().join("all.yaml"), documents.join("\n---\n")).unwrap();
                let paths = vec![folder.path().to_owned()];
                let inventory = Loader::new(paths, LoadOptions::default()).load();
                let compiled = compile(&inventory, &mut Memory::default(), &Options::default());
                let entries = account(&inventory, &compiled);
                let lost = entries.iter().filter(|entry| entry.fate == Fate::Lost);
                let lost: Vec<String> = lost.map(ToString::to_string).collect();
                assert!(
                    lost.is_empty(),
                    "{lost:?} of\n{}",
                    documents.join("\n---\n")
                );
            }
        }
    }
}

/// A policy of ours for a target.
fn policy(kind: &str, target: &str, rest: &str) -> String {
    format!(
        "apiVersion: gateway.pingress.io/v1alpha1\nkind: {kind}\nmetadata: {{name: p}}\nspec: {{targetRef: {{{target}}}, {rest}}}\n"
    )
}

const GATEWAY: &str = "kind: Gateway, name: edge";
const RULES: &str = "kind: VirtualService, name: r";

/// TCP port 9000 and the passed-through name `b.com`, both by the VirtualService `r`; the name
/// `x.a.com` by another.
fn guarded(policy: &str) -> World {
    let lists = format!(
        "tcp: [{{match: [{{port: 9000}}], {}}}]\n  tls: [{{match: [{{sniHosts: [b.com]}}], {}}}]",
        to("a.internal"),
        to("a.internal")
    );
    let other = format!(
        "tls: [{{match: [{{sniHosts: [x.a.com]}}], {}}}]",
        to("a.internal")
    );
    world(&[
        &edge(&[TCP, THROUGH]),
        &connections("r", "b.com", &lists),
        &connections("other", "x.a.com", &other),
        &service("a.internal"),
        policy,
    ])
}

/// Which connections stand behind a list of clients.
fn behind_lists(world: &World) -> Vec<String> {
    let routes = world.compiled.plan.stream_routes();
    let guarded = routes.filter(|(_, route)| !route.access.is_empty());
    let mut names: Vec<_> = guarded
        .map(|(_, route)| format!("{} {}", route.object.name, route.path))
        .collect();
    names.sort();
    names
}

#[test]
fn a_list_of_clients_holds_for_the_connections_of_its_target() {
    let all = ["other spec.tls[0]", "r spec.tcp[0]", "r spec.tls[0]"];
    for (target, expected) in [
        (GATEWAY, &all[..]),
        (RULES, &all[1..]),
        ("kind: VirtualService, name: other", &all[..1]),
    ] {
        let world = guarded(&policy("AccessList", target, "deny: [10.0.0.0/8]"));
        assert_eq!(world.troubles(), [""; 0], "{target}");
        assert_eq!(behind_lists(&world), expected, "{target}");
        let text = world.compiled.plan.render();
        let line = "passes AccessList default/p (every client but none from 10.0.0.0/8)";
        assert_eq!(text.matches(line).count(), expected.len(), "{text}");
    }
}

#[test]
fn a_list_of_clients_that_is_wrong_closes_the_connections_of_its_target() {
    let wrong = "allow: [10.0.0.0/33]";
    let is_closed = |shown: String| shown.starts_with("fenced: AccessList default/p");
    let world = guarded(&policy("AccessList", RULES, wrong));
    assert!(is_closed(world.tcp(9000)) && is_closed(world.tls("b.com")));
    assert_eq!(world.tls("x.a.com"), "1 outbound|80||a.internal");
    assert_eq!(world.found(Code::UNENFORCED_PROTECTION).len(), 2);

    let world = guarded(&policy(
        "AccessList",
        "kind: Gateway, name: 5, oops: 1",
        wrong,
    ));
    assert!(
        is_closed(world.tcp(9000)),
        "an unreadable target is everything"
    );
    assert!(is_closed(world.tls("x.a.com")));
}

#[test]
fn policies_for_requests_say_that_connections_pass_them() {
    for (kind, rest) in [
        ("RateLimit", "limits: [{requests: 1, unit: second}]"),
        ("BodyLimit", "maxBytes: 1"),
    ] {
        let world = guarded(&policy(kind, GATEWAY, rest));
        let said = world.found(Code::UNSUPPORTED);
        let message = "spec.targetRef: it is for requests; connections that are not HTTP pass it";
        assert_eq!(said, [message], "{kind}");
        assert_eq!(world.troubles(), [""; 0]);
        assert_eq!(world.tcp(9000), "1 outbound|80||a.internal");
    }
}
