//! Objects with errors: what still serves, what answers 503, and what the last good version does.

use pingress::base::Code;
use pingress::compile::{Memory, Options};

use crate::support::{EDGE, answers, get, load, load_after, routes, service, world};

#[test]
fn only_the_rule_with_an_error_is_fenced() {
    let rules = answers("{uri: {prefix: /a}}", "a")
        + "  - {match: [{uri: {prefix: /b}}], redirekt: {}, directResponse: {status: 200}}\n"
        + &answers("", "rest");
    let world = world(&[EDGE, &routes("vs", "a.com", &rules)]);
    assert_eq!(world.get("a.com", "/a"), "a");
    assert!(
        world
            .get("a.com", "/b")
            .starts_with("fenced: spec.http[1].redirekt")
    );
    assert_eq!(world.get("a.com", "/c"), "rest");
    assert_eq!(world.found(Code::UNKNOWN_FIELD).len(), 1);
    assert_eq!(world.found(Code::FENCED).len(), 1);
}

#[test]
fn an_unknown_match_field_counts_as_matching_within_what_is_known() {
    let rules =
        answers("{uri: {prefix: /secret}, cookies: {admin: {}}}", "secret") + &answers("", "rest");
    let world = world(&[EDGE, &routes("vs", "a.com", &rules)]);
    assert!(world.get("a.com", "/secret/x").starts_with("fenced"));
    assert_eq!(world.get("a.com", "/open"), "rest");
}

#[test]
fn a_regex_that_cannot_be_compiled_counts_as_matching() {
    let rules =
        answers("{uri: {regex: '/a(?=b)'}, method: {exact: PUT}}", "x") + &answers("", "rest");
    let world = world(&[EDGE, &routes("vs", "a.com", &rules)]);
    assert!(
        world
            .ask(&get("a.com", "/anything").method("PUT"))
            .starts_with("fenced")
    );
    assert_eq!(world.get("a.com", "/anything"), "rest");
    assert_eq!(world.found(Code::SCHEMA_VALIDATION).len(), 1);
}

#[test]
fn a_rule_of_which_nothing_can_be_read_fences_what_follows_it() {
    let rules = answers("{uri: {prefix: /a}}", "a") + "  - just a text\n" + &answers("", "rest");
    let world = world(&[EDGE, &routes("vs", "a.com", &rules)]);
    assert_eq!(world.get("a.com", "/a"), "a");
    assert!(world.get("a.com", "/b").starts_with("fenced"));
}

#[test]
fn a_wrong_type_fences_its_rule() {
    let rules = "  - {timeout: [1], directResponse: {status: 200}}\n";
    let world = world(&[EDGE, &routes("vs", "a.com", rules)]);
    assert!(world.get("a.com", "/").starts_with("fenced"));
    assert_eq!(world.found(Code::WRONG_TYPE).len(), 1);
}

#[test]
fn an_error_outside_the_rules_fences_every_rule() {
    let vs = routes("vs", "a.com", &answers("", "x")) + "  hots: [b.com]\n";
    assert!(
        world(&[EDGE, &vs])
            .get("a.com", "/")
            .starts_with("fenced: spec.hots")
    );
    let overlapping = routes("vs", "x.a.com, '*.a.com'", &answers("", "x"));
    assert!(
        world(&[EDGE, &overlapping])
            .get("x.a.com", "/")
            .starts_with("fenced")
    );
}

#[test]
fn an_object_whose_hosts_cannot_be_read_binds_nothing_and_says_so() {
    let vs = routes("vs", "a.com", &answers("", "x")).replace("hosts: [a.com]", "hosts: {a: b}");
    let world = world(&[EDGE, &vs]);
    assert_eq!(world.get("a.com", "/"), "404 no host");
    assert_eq!(world.found(Code::FENCED).len(), 1);
}

#[test]
fn a_broken_server_fences_what_it_alone_routes() {
    let broken = EDGE
        .replace("name: edge", "name: broken")
        .replace("hosts: ['*']", "hosts: [a.com, b.com]\n    bnd: 1.2.3.4");
    let vs = routes("vs", "a.com, b.com", &answers("", "x")).replace("[edge]", "[broken, edge]");
    let edge = EDGE.replace("'*'", "a.com");
    let world = world(&[&broken, &edge, &vs]);
    assert_eq!(world.get("a.com", "/"), "x");
    assert!(
        world.get("b.com", "/").starts_with("fenced"),
        "{}",
        world.get("b.com", "/")
    );
}

#[test]
fn the_last_version_without_errors_goes_on_serving() {
    let good = routes("vs", "a.com", &answers("", "good"));
    let bad = routes("vs", "a.com", &answers("", "bad")) + "  oops: 1\n";
    let mut memory = Memory::default();
    let mut load = |documents: &[&str]| load_after(documents, &Options::default(), &mut memory);
    let first = load(&[EDGE, &good]);
    let second = load(&[EDGE, &bad]);
    assert_eq!(second.get("a.com", "/"), "good");
    assert_eq!(second.found(Code::SERVES_PREVIOUS_VERSION).len(), 1);
    assert_eq!(first.compiled.plan.digest, second.compiled.plan.digest);
    let third = load(&[EDGE, &bad]);
    assert_eq!(third.get("a.com", "/"), "good");
    load(&[EDGE]);
    assert!(!memory.objects().any(|object| &*object.key.name == "vs"));
}

#[test]
fn claims_of_tokens_are_not_tested_yet_and_fence_their_rule() {
    let rules = answers(
        "{uri: {prefix: /admin}, headers: {'@request.auth.claims.group': {exact: admin}}}",
        "admin",
    ) + &answers("", "rest");
    let world = world(&[EDGE, &routes("vs", "a.com", &rules)]);
    assert!(world.get("a.com", "/admin").starts_with("fenced"));
    assert_eq!(world.get("a.com", "/"), "rest");
    assert_eq!(world.found(Code::UNENFORCED_PROTECTION).len(), 1);
}

#[test]
fn what_istio_refuses_in_a_virtual_service_is_refused() {
    let rule = "  - {route: [{destination: {host: a.internal}}]}\n";
    let vs = routes("vs", "a.com", rule);
    let route = |text: &str| routes("vs", "a.com", &format!("  - {{{text}}}\n"));
    let to = "route: [{destination: {host: a.internal}}]";
    for (text, manifest) in [
        ("no rules", vs.replace(rule, "").replace("  http:\n", "")),
        ("no action", route("name: x")),
        (
            "host * on mesh",
            vs.replace("[a.com]", "['*']")
                .replace("[edge]", "[edge, mesh]"),
        ),
        ("partial wildcard", vs.replace("[a.com]", "['*a.com']")),
        ("export", vs.clone() + "  exportTo: ['a b']\n"),
        ("gateway name", vs.replace("[edge]", "[edge, 'a/b/c']")),
        (
            "prefix",
            route(&format!("match: [{{uri: {{prefix: ''}}}}], {to}")),
        ),
        (
            "two kinds",
            route(&format!(
                "match: [{{uri: {{prefix: /a, exact: /b}}}}], {to}"
            )),
        ),
        (
            "long regex",
            route(&format!(
                "match: [{{uri: {{regex: '{}'}}}}], {to}",
                "a".repeat(1025)
            )),
        ),
        ("port", route(&format!("match: [{{port: 70000}}], {to}"))),
        (
            "weight",
            route("route: [{destination: {host: a.internal}, weight: -1}]"),
        ),
        ("destination", route("route: [{weight: 1}]")),
        ("star", route("route: [{destination: {host: '*'}}]")),
        (
            "subset",
            route("route: [{destination: {host: a.internal, subset: a_b}}]"),
        ),
        (
            "destination port",
            route("route: [{destination: {host: a.internal, port: {number: 0}}}]"),
        ),
        (
            "retryOn",
            route(&format!(
                "retries: {{attempts: 1, retryOn: '5xx, reset'}}, {to}"
            )),
        ),
        (
            "attempts",
            route(&format!(
                "retries: {{attempts: 0, perTryTimeout: 1s}}, {to}"
            )),
        ),
        (
            "mirrors",
            route(&format!(
                "mirror: {{host: a.internal}}, mirrors: [{{destination: {{host: a.internal}}}}], {to}"
            )),
        ),
        (
            "percentage",
            route(&format!(
                "mirror: {{host: a.internal}}, mirrorPercentage: {{value: 101}}, {to}"
            )),
        ),
        (
            "maxAge",
            route(&format!(
                "corsPolicy: {{allowOrigins: [{{exact: a}}], maxAge: 1.5s}}, {to}"
            )),
        ),
        (
            "fault",
            route(&format!("fault: {{delay: {{exponentialDelay: 1s}}}}, {to}")),
        ),
        ("rewrite", route(&format!("rewrite: {{}}, {to}"))),
        (
            "two rewrites",
            route(&format!(
                "rewrite: {{uri: /a, uriRegexRewrite: {{match: a, rewrite: b}}}}, {to}"
            )),
        ),
        (
            "direct and fault",
            route("fault: {abort: {httpStatus: 500}}, directResponse: {status: 200}"),
        ),
    ] {
        let world = world(&[EDGE, &service("a.internal"), &manifest]);
        assert_eq!(
            world.found(Code::SCHEMA_VALIDATION).len(),
            1,
            "{text}: {:?}",
            world.troubles()
        );
    }
}

#[test]
fn what_istio_refuses_in_a_gateway_is_refused() {
    let server = |text: &str| {
        EDGE.replace(
            "  - port: {number: 80, name: http, protocol: HTTP}\n    hosts: ['*']",
            &format!("  - {{{text}}}"),
        )
    };
    let port = "port: {number: 80, name: http, protocol: HTTP}";
    let https = "port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*']";
    for (text, manifest) in [
        ("dotted name", EDGE.replace("name: edge", "name: a.b")),
        (
            "no servers",
            EDGE.split("  servers:").next().unwrap().to_owned(),
        ),
        ("no hosts", server(port)),
        ("short host", server(&format!("{port}, hosts: [reviews]"))),
        (
            "partial wildcard",
            server(&format!("{port}, hosts: ['*a.com']")),
        ),
        ("no port", server("hosts: ['*']")),
        (
            "port zero",
            server("port: {number: 0, name: http, protocol: HTTP}, hosts: ['*']"),
        ),
        (
            "no port name",
            server("port: {number: 80, protocol: HTTP}, hosts: ['*']"),
        ),
        (
            "protocol",
            server("port: {number: 80, name: http, protocol: SMTP}, hosts: ['*']"),
        ),
        (
            "target port",
            server(
                "port: {number: 80, name: http, protocol: HTTP, targetPort: 8080}, hosts: ['*']",
            ),
        ),
        ("https without tls", server(https)),
        (
            "tls on http",
            server(&format!(
                "{port}, hosts: ['*'], tls: {{mode: SIMPLE, credentialName: c}}"
            )),
        ),
        (
            "tls on tcp",
            server(
                "port: {number: 90, name: tcp, protocol: TCP}, hosts: ['*'], tls: {mode: SIMPLE}",
            ),
        ),
        (
            "no certificate",
            server(&format!("{https}, tls: {{mode: SIMPLE}}")),
        ),
        (
            "no ca",
            server(&format!(
                "{https}, tls: {{mode: MUTUAL, serverCertificate: a, privateKey: b}}"
            )),
        ),
        (
            "tls version",
            server(&format!(
                "{https}, tls: {{mode: SIMPLE, credentialName: a, minProtocolVersion: TLSv1_3}}"
            )),
        ),
        (
            "no tls version left",
            server(&format!(
                "{https}, tls: {{mode: SIMPLE, credentialName: a, maxProtocolVersion: TLSV1_1}}"
            )),
        ),
        (
            "two sources",
            server(&format!(
                "{https}, tls: {{mode: SIMPLE, credentialName: a, serverCertificate: a, privateKey: b}}"
            )),
        ),
        (
            "istio mutual",
            server(&format!(
                "{https}, tls: {{mode: ISTIO_MUTUAL, credentialName: a}}"
            )),
        ),
        (
            "bind",
            server(&format!("{port}, hosts: ['*'], bind: localhost")),
        ),
    ] {
        let world = load(&[&manifest], &Options::default());
        assert_eq!(
            world.found(Code::SCHEMA_VALIDATION).len(),
            1,
            "{text}: {:?}",
            world.troubles()
        );
    }
}

#[test]
fn tls_fields_that_have_no_effect_are_named() {
    let inert = |tls: &str| {
        let edge = EDGE.replace("protocol: HTTP}", "protocol: HTTPS}").replace(
            "    hosts: ['*']",
            &format!("    hosts: ['*']\n    tls: {{credentialName: c, {tls}}}"),
        );
        let world = load(&[&edge], &Options::default());
        world.paths(Code::INERT_FIELD)
    };
    let path = |field: &str| format!("spec.servers[0].tls.{field}");
    assert_eq!(
        inert("mode: SIMPLE, subjectAltNames: [a], caCrl: list, insecureSkipVerify: true"),
        ["subjectAltNames", "caCrl", "insecureSkipVerify"].map(path)
    );
    assert_eq!(
        inert("mode: MUTUAL, subjectAltNames: [a], caCertificates: ca, caCrl: list"),
        ["caCertificates"].map(path)
    );
}

#[test]
fn the_network_of_an_endpoint_is_said_to_have_no_effect() {
    let entry = |endpoint: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: far}}\nspec:\n  hosts: [far.internal]\n  resolution: STATIC\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints: [{{{endpoint}}}]\n"
        )
    };
    let found = |endpoint: &str| {
        let world = load(&[EDGE, &entry(endpoint)], &Options::default());
        world.paths(Code::INERT_FIELD)
    };
    let path = "spec.endpoints[0].network";
    assert_eq!(found("address: 10.0.0.1, network: far"), [path]);
    assert_eq!(found("network: far"), [path]);
    assert!(found("address: 10.0.0.1").is_empty());
}
