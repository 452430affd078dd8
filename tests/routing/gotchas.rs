//! The gotchas of the Istio reference that concern HTTP routing, by their number.

use std::collections::BTreeMap;

use http::HeaderValue;
use pingress::base::Code;
use pingress::compile::Options;
use pingress::plan::{Action, Decision};
use pingress::policy::headers::spec::{HeaderEdit, ValueTemplate};
use pingress::policy::redirect::spec::{RedirectPath, RedirectPort};
use pingress::policy::rewrite::spec::PathRewrite;

use crate::support::{EDGE, answers, get, load, routes, service, world};

fn gateway(servers: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
{servers}"
    )
}

#[test]
fn gotcha_1_an_omitted_tls_mode_means_passthrough_and_is_not_served_in_plaintext() {
    let edge =
        gateway("  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {}}\n");
    let world = world(&[&edge, &routes("vs", "a.com", &answers("", "a"))]);
    assert!(!world.listens(443));
    assert_eq!(world.paths(Code::UNROUTED_HOST), ["spec.servers[0]"]);
    assert_eq!(world.paths(Code::NOT_FOR_THIS_GATEWAY), ["spec.http"]);
    assert!(world.found(Code::SCHEMA_VALIDATION).is_empty());
}

#[test]
fn gotcha_2_a_virtual_service_without_gateways_is_invisible() {
    let vs = routes("vs", "a.com", &answers("", "a")).replace("  gateways: [edge]\n", "");
    let world = world(&[EDGE, &vs]);
    assert_eq!(world.get("a.com", "/"), "404 no host");
    assert_eq!(world.found(Code::NOT_FOR_THIS_GATEWAY).len(), 1);
}

#[test]
fn gotcha_3_plaintext_servers_of_one_port_share_their_routes() {
    let edge = gateway(
        "  - {port: {number: 80, name: one, protocol: HTTP}, hosts: [a.com]}
  - {port: {number: 80, name: two, protocol: HTTP2}, hosts: [b.com]}\n",
    );
    let world = world(&[&edge, &routes("vs", "a.com, b.com", &answers("", "both"))]);
    assert_eq!(world.compiled.plan.listeners.len(), 1);
    assert_eq!(world.get("a.com", "/"), "both");
    assert_eq!(world.get("b.com", "/"), "both");
}

#[test]
fn gotcha_4_a_host_of_a_tls_server_is_not_served_by_the_plaintext_server() {
    let edge = gateway(
        "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.com]}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [b.com], tls: {mode: SIMPLE, credentialName: c}}\n",
    );
    let world = world(&[&edge, &routes("vs", "a.com, b.com", &answers("", "x"))]);
    assert_eq!(world.get("a.com", "/"), "x");
    assert_eq!(world.get("b.com", "/"), "404 no host");
}

#[test]
fn gotcha_5_one_duplicate_tls_host_discards_the_entire_later_server() {
    let edge = gateway(
        "  - {port: {number: 80, name: one, protocol: HTTP}, hosts: [a.com], tls: {httpsRedirect: true}}
  - {port: {number: 80, name: two, protocol: HTTP}, hosts: [a.com, b.com], tls: {httpsRedirect: true}}\n",
    );
    let world = world(&[&edge]);
    assert_eq!(world.get("a.com", "/"), "https");
    assert_eq!(world.get("b.com", "/"), "404 no host");
    assert_eq!(world.found(Code::CONFLICTING_GATEWAYS).len(), 1);
}

#[test]
fn gotcha_6_no_server_takes_a_name_that_no_rule_names() {
    let edge = gateway(
        "  - {port: {number: 443, name: tls, protocol: TLS}, hosts: [b.com], tls: {mode: PASSTHROUGH}}\n",
    );
    let rule = "tls: [{match: [{sniHosts: [b.com]}], route: [{destination: {host: a.internal}}]}]";
    let vs = routes("vs", "b.com", "").replace("http:", rule);
    let world = world(&[&edge, &vs, &service("a.internal")]);
    let socket = &world.compiled.plan.tls[0];
    assert!(socket.server("b.com").is_some());
    assert!(socket.server("c.com").is_none());
}

#[test]
fn gotcha_7_https_redirect_works_without_any_virtual_service() {
    let edge = gateway(
        "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.a.com'], tls: {httpsRedirect: true}}\n",
    );
    let vs = routes("vs", "x.a.com", &answers("", "x"));
    let alone = world(&[&edge]);
    assert_eq!(alone.get("y.a.com:8080", "/q"), "https");
    let both = world(&[&edge, &vs]);
    assert_eq!(both.get("x.a.com", "/"), "https");
    assert_eq!(both.get("y.a.com", "/"), "https");
}

#[test]
fn gotcha_8_a_match_on_a_port_means_the_declared_port() {
    let rules = answers("{port: 80}", "declared") + &answers("{port: 8080}", "bound");
    let options = Options {
        ports: BTreeMap::from([(80, 8080)]),
        ..Options::default()
    };
    let world = load(&[EDGE, &routes("vs", "a.com", &rules)], &options);
    assert_eq!(world.ask(&get("a.com", "/").port(8080)), "declared");
    assert_eq!(world.found(Code::NOT_FOR_THIS_GATEWAY).len(), 1);
}

#[test]
fn gotcha_9_catch_alls_move_last_across_merged_virtual_services() {
    let older = routes(
        "a-older",
        "a.com",
        &(answers("{uri: {prefix: /one}}", "one") + &answers("", "older")),
    );
    let newer = routes(
        "b-newer",
        "a.com",
        &(answers("{uri: {prefix: /one/two}}", "two") + &answers("", "newer")),
    );
    let world = world(&[EDGE, &newer, &older]);
    assert_eq!(world.get("a.com", "/one/two"), "one");
    assert_eq!(world.get("a.com", "/else"), "older");
    assert_eq!(world.found(Code::SHADOWED).len(), 2);
}

#[test]
fn gotcha_10_rules_after_a_catch_all_are_dead() {
    let rules = answers("{uri: {prefix: /}}", "all") + &answers("{uri: {exact: /x}}", "dead");
    let world = world(&[EDGE, &routes("vs", "a.com", &rules)]);
    assert_eq!(world.get("a.com", "/x"), "all");
    assert_eq!(world.found(Code::UNREACHABLE_RULE).len(), 1);
}

#[test]
fn gotcha_11_a_request_does_not_fall_from_its_host_to_a_wildcard() {
    let exact = routes("exact", "x.a.com", &answers("{uri: {exact: /x}}", "exact"));
    let wildcard = routes("wildcard", "'*.a.com'", &answers("", "wildcard"));
    let world = world(&[EDGE, &exact, &wildcard]);
    assert_eq!(world.get("x.a.com", "/x"), "exact");
    assert_eq!(world.get("x.a.com", "/y"), "404 no route");
    assert_eq!(world.get("y.a.com", "/y"), "wildcard");
}

#[test]
fn gotcha_12_hosts_ignore_port_and_case_but_an_authority_match_does_not() {
    let rules = answers("{authority: {exact: 'A.com:8080'}}", "authority") + &answers("", "host");
    let world = world(&[EDGE, &routes("vs", "A.com", &rules)]);
    assert_eq!(world.get("A.com:8080", "/"), "authority");
    assert_eq!(world.get("a.COM", "/"), "host");
    assert_eq!(world.get("a.com:8080", "/"), "host");
}

#[test]
fn gotcha_13_a_trailing_dot_makes_another_host_and_a_wildcard_excludes_its_apex() {
    let apex = routes("apex", "'*.a.com'", &answers("", "wildcard"));
    let world = world(&[EDGE, &apex, &routes("b", "b.com", &answers("", "b"))]);
    assert_eq!(world.get("a.com", "/"), "404 no host");
    assert_eq!(world.get("x.y.a.com", "/"), "wildcard");
    assert_eq!(world.get("b.com.", "/"), "404 no host");
}

#[test]
fn gotcha_14_prefixes_are_textual_and_rewriting_one_repairs_no_slash() {
    let rules = "  - {match: [{uri: {prefix: /foo}}], rewrite: {uri: /}, route: [{destination: {host: a.internal}}]}\n";
    let world = world(&[EDGE, &service("a.internal"), &routes("vs", "a.com", rules)]);
    world.forward(&get("a.com", "/foobar"), |forward| {
        let Some(PathRewrite::Prefix { length, with }) = &forward.rewrite.path else {
            panic!("{forward:?}")
        };
        assert_eq!((*length, with.as_str()), (4, "/"));
    });
}

#[test]
fn gotcha_15_regexes_match_the_whole_path_and_never_the_query() {
    let rules = answers("{uri: {regex: '/v[0-9]+'}}", "regex");
    let world = world(&[EDGE, &routes("vs", "a.com", &rules)]);
    assert_eq!(world.get("a.com", "/v12"), "regex");
    assert_eq!(world.get("a.com", "/v12?x=1"), "regex");
    assert_eq!(world.get("a.com", "/v12/x"), "404 no route");
    assert_eq!(world.get("a.com", "/x/v12"), "404 no route");
}

#[test]
fn gotcha_18_a_sole_destination_ignores_its_weight_even_zero() {
    let rules = "  - {route: [{destination: {host: a.internal}, weight: 0}]}\n";
    let world = world(&[EDGE, &service("a.internal"), &routes("vs", "a.com", rules)]);
    assert_eq!(world.get("a.com", "/"), "outbound|80||a.internal");
    world.forward(&get("a.com", "/"), |forward| {
        assert!(forward.total_weight > 0)
    });
}

#[test]
fn gotcha_19_a_service_of_several_ports_needs_one_that_matches_the_gateways() {
    let service = service("a.internal").replace(
        "[{number: 80, name: http, protocol: HTTP}]",
        "[{number: 8080, name: http, protocol: HTTP}, {number: 9090, name: admin, protocol: HTTP}]",
    );
    let rules = "  - {route: [{destination: {host: a.internal}}]}\n";
    let without = world(&[EDGE, &service, &routes("vs", "a.com", rules)]);
    assert_eq!(without.get("a.com", "/"), "missing outbound|80||a.internal");
    let rules = "  - {route: [{destination: {host: a.internal, port: {number: 9090}}}]}\n";
    let with = world(&[EDGE, &service, &routes("vs", "a.com", rules)]);
    assert_eq!(with.get("a.com", "/"), "outbound|9090||a.internal");
}

#[test]
fn gotcha_20_an_unknown_destination_is_a_missing_cluster_and_not_a_fence() {
    let rules = "  - {route: [{destination: {host: nowhere.internal}}]}\n";
    let world = world(&[EDGE, &routes("vs", "a.com", rules)]);
    assert_eq!(
        world.get("a.com", "/"),
        "missing outbound|80||nowhere.internal"
    );
    assert_eq!(world.found(Code::REFERENCED_RESOURCE_NOT_FOUND).len(), 1);
}

#[test]
fn gotcha_21_header_precedence_flips_between_one_and_several_destinations() {
    let headers = |text: &str| format!("headers: {{request: {{set: {{x-who: {text}}}}}}}");
    let one = format!(
        "  - {{{}, route: [{{destination: {{host: a.internal}}, {}}}]}}\n",
        headers("rule"),
        headers("destination")
    );
    let two = format!(
        "  - {{{}, route: [{{destination: {{host: a.internal}}, weight: 1, {}}}, {{destination: {{host: a.internal}}, weight: 1}}]}}\n",
        headers("rule"),
        headers("destination")
    );
    for (rules, winner) in [(one, "destination"), (two, "rule")] {
        let world = world(&[EDGE, &service("a.internal"), &routes("vs", "a.com", &rules)]);
        world.forward(&get("a.com", "/"), |forward| {
            let last = forward.destinations[0].request.0.last();
            let Some(HeaderEdit::Set(_, ValueTemplate::Literal(value))) = last else {
                panic!("{last:?}")
            };
            assert_eq!(value, &HeaderValue::from_static(winner));
        });
    }
}

#[test]
fn gotcha_22_a_host_header_edit_rewrites_the_authority_unless_rewrite_does() {
    let edit =
        "headers: {request: {set: {Host: edited.com}}}, route: [{destination: {host: a.internal}}]";
    let rules = format!(
        "  - {{match: [{{uri: {{prefix: /r}}}}], rewrite: {{authority: rewritten.com}}, {edit}}}\n  - {{{edit}}}\n"
    );
    let world = world(&[EDGE, &service("a.internal"), &routes("vs", "a.com", &rules)]);
    world.forward(&get("a.com", "/"), |forward| {
        assert_eq!(
            forward.destinations[0].authority.as_ref().unwrap(),
            "edited.com"
        );
        assert!(forward.destinations[0].request.0.is_empty());
        assert_eq!(forward.rewrite.authority, None);
    });
    world.forward(&get("a.com", "/r"), |forward| {
        assert_eq!(forward.rewrite.authority.as_ref().unwrap(), "rewritten.com");
    });
}

#[test]
fn gotcha_29_a_redirect_names_only_what_it_changes() {
    let rules = "  - {redirect: {uri: /new, redirectCode: 308}}\n";
    let world = world(&[EDGE, &routes("vs", "a.com", rules)]);
    world.decide(&get("a.com:8080", "/old?q=1"), |decision| {
        let Decision::Route { route, .. } = decision else {
            panic!("{decision:?}")
        };
        let Action::Redirect { redirect, .. } = &*route.action else {
            panic!("{route:?}")
        };
        assert_eq!(redirect.status, 308);
        assert_eq!(redirect.path, Some(RedirectPath::Full("/new".into())));
        assert_eq!(
            (redirect.port, &redirect.authority),
            (RedirectPort::Keep, &None)
        );
    });
}
