//! Several VirtualServices on one host, and rules that no request reaches.

use pingress::base::Code;
use pingress::compile::Options;

use crate::support::{EDGE, answers, load, routes, world};

#[test]
fn rules_of_several_virtual_services_join_by_age_then_name() {
    let aged = |name: &str, time: &str, text: &str| {
        let vs = routes(name, "a.com", &answers("{uri: {prefix: /x}}", text));
        vs.replace(
            &format!("{{name: {name}}}"),
            &format!("{{name: {name}, creationTimestamp: '{time}'}}"),
        )
    };
    let old = aged("z", "2020-01-01T00:00:00Z", "old");
    let new = aged("a", "2024-01-01T00:00:00Z", "new");
    let ageless = routes("0", "a.com", &answers("{uri: {prefix: /x}}", "ageless"));
    assert_eq!(
        world(&[EDGE, &ageless, &new, &old]).get("a.com", "/x"),
        "old"
    );
    assert_eq!(world(&[EDGE, &ageless, &new]).get("a.com", "/x"), "new");
}

#[test]
fn private_virtual_services_come_before_public_ones() {
    let edge = EDGE.replace("name: edge", "name: edge, namespace: istio-system");
    let private = routes(
        "z-private",
        "a.com",
        &answers("{uri: {prefix: /x}}", "private"),
    )
    .replace(
        "{name: z-private}",
        "{name: z-private, namespace: istio-system}",
    ) + "  exportTo: ['.']\n";
    let public = routes(
        "a-public",
        "a.com",
        &answers("{uri: {prefix: /x}}", "public"),
    )
    .replace("[edge]", "[istio-system/edge]");
    let world = world(&[&edge, &public, &private]);
    assert_eq!(world.get("a.com", "/x"), "private");
    assert_eq!(world.found(Code::SHADOWED).len(), 1);
}

#[test]
fn what_is_not_exported_here_is_not_served() {
    for export in ["'~'", "'.'", "other"] {
        let vs = routes("vs", "a.com", &answers("", "x")) + &format!("  exportTo: [{export}]\n");
        let world = world(&[EDGE, &vs]);
        assert_eq!(world.get("a.com", "/"), "404 no host", "{export}");
        assert_eq!(world.found(Code::NOT_FOR_THIS_GATEWAY).len(), 1, "{export}");
    }
    let options = Options {
        virtual_service_export_to: vec![".".into()],
        ..Options::default()
    };
    let world = load(&[EDGE, &routes("vs", "a.com", &answers("", "x"))], &options);
    assert_eq!(world.get("a.com", "/"), "404 no host");
}

#[test]
fn a_catch_all_is_no_match_a_slash_or_dot_star_and_nothing_else() {
    let other = routes("b", "a.com", &answers("{uri: {prefix: /b}}", "b"));
    for (matches, moves) in [
        ("", true),
        ("{uri: {prefix: /}}", true),
        ("{uri: {regex: '.*'}}", true),
        ("{uri: {regex: '/.*'}}", false),
        ("{method: {exact: GET}}", false),
        ("{uri: {prefix: /}, queryParams: {q: {}}}", false),
    ] {
        let first = routes("a", "a.com", &answers(matches, "a"));
        let world = world(&[EDGE, &first, &other]);
        let path = if matches.contains("queryParams") {
            "/b?q=1"
        } else {
            "/b"
        };
        assert_eq!(
            world.get("a.com", path),
            if moves { "b" } else { "a" },
            "{matches}"
        );
    }
}

#[test]
fn equal_conditions_are_reported_where_they_are_written() {
    let rules = answers("{uri: {prefix: /x}}", "one") + &answers("{uri: {prefix: /x}}", "two");
    let same = world(&[EDGE, &routes("vs", "a.com", &rules)]);
    assert_eq!(same.found(Code::UNREACHABLE_RULE).len(), 1);
    let narrower = answers("{uri: {prefix: /x}}", "one")
        + &answers("{uri: {exact: /x/y}}, {uri: {exact: /z}}", "two");
    let part = world(&[EDGE, &routes("vs", "a.com", &narrower)]);
    assert_eq!(part.found(Code::INEFFECTIVE_MATCH).len(), 1);
    assert!(part.found(Code::UNREACHABLE_RULE).is_empty());
}

#[test]
fn long_runs_of_rules_told_apart_by_headers_are_reported() {
    let rules: String = (0..250)
        .map(|n| answers(&format!("{{headers: {{x: {{exact: '{n}'}}}}}}"), "x"))
        .collect();
    let world = world(&[EDGE, &routes("vs", "a.com", &rules)]);
    assert_eq!(world.found(Code::LINEAR_RULES).len(), 1);
}

#[test]
fn a_virtual_service_through_two_gateways_gives_each_rule_once() {
    let second = EDGE.replace("name: edge", "name: second");
    let vs = routes(
        "vs",
        "a.com",
        &(answers("{uri: {exact: /x}}", "x") + &answers("", "rest")),
    );
    let vs = vs.replace("[edge]", "[edge, second]");
    let world = world(&[EDGE, &second, &vs]);
    assert_eq!(
        world.compiled.plan.listeners[0].virtual_hosts[0]
            .routes
            .len(),
        2
    );
    assert!(world.troubles().is_empty(), "{:?}", world.troubles());
}
