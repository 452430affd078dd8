//! What rules do: destinations, redirects, direct responses, rewrites, timeouts.

use std::time::Duration;

use pingress::base::Code;
use pingress::plan::{Action, Decision};
use pingress::policy::redirect::spec::{Redirect, RedirectPath, RedirectPort};
use pingress::policy::rewrite::spec::PathRewrite;

use crate::support::{EDGE, World, get, routes, service, world};

fn rule(rule: &str) -> World {
    let rules = format!("  - {rule}\n");
    world(&[
        EDGE,
        &service("a.internal"),
        &service("b.internal"),
        &routes("vs", "a.com", &rules),
    ])
}

fn redirect(text: &str, path: &str) -> Redirect {
    rule(text).decide(&get("a.com", path), |decision| match decision {
        Decision::Route { route, .. } => match &*route.action {
            Action::Redirect { redirect, .. } => redirect.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    })
}

const TO_A: &str = "route: [{destination: {host: a.internal}}]";

#[test]
fn weights_are_shares_and_zero_takes_a_destination_out() {
    let world = rule(
        "{route: [{destination: {host: a.internal}, weight: 3}, {destination: {host: b.internal}, weight: 1}, \
         {destination: {host: gone.internal}, weight: 0}]}",
    );
    assert_eq!(
        world.get("a.com", "/"),
        "outbound|80||a.internal, outbound|80||b.internal"
    );
    world.forward(&get("a.com", "/"), |forward| {
        assert_eq!(forward.total_weight, 4);
        assert_eq!(forward.destinations[0].weight, 3);
    });
}

#[test]
fn all_weights_zero_is_an_error_and_fences_the_rule() {
    let world = rule(
        "{route: [{destination: {host: a.internal}, weight: 0}, {destination: {host: b.internal}}]}",
    );
    assert!(world.get("a.com", "/").starts_with("fenced"));
    assert_eq!(world.found(Code::SCHEMA_VALIDATION).len(), 1);
}

#[test]
fn a_short_destination_belongs_to_the_rules_namespace() {
    let service = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {clusterIP: 10.1.1.1, ports: [{name: http, port: 9080}]}
";
    let rules = "  - {route: [{destination: {host: reviews}}]}\n";
    let world = world(&[EDGE, service, &routes("vs", "a.com", rules)]);
    assert_eq!(
        world.get("a.com", "/"),
        "outbound|9080||reviews.default.svc.cluster.local"
    );
}

#[test]
fn a_redirect_may_change_every_part() {
    let all =
        "{redirect: {uri: /new, authority: b.com, scheme: https, port: 8443, redirectCode: 307}}";
    assert_eq!(
        redirect(all, "/"),
        Redirect {
            status: 307,
            path: Some(RedirectPath::Full("/new".into())),
            authority: Some("b.com".into()),
            scheme: Some("https".into()),
            port: RedirectPort::Fixed(8443),
        }
    );
    assert_eq!(redirect("{redirect: {scheme: https}}", "/").status, 301);
    let derived = redirect(
        "{redirect: {scheme: https, derivePort: FROM_REQUEST_PORT}}",
        "/",
    );
    assert_eq!(derived.port, RedirectPort::FromRequest);
    let prefix = redirect(
        "{match: [{uri: {prefix: /old}}], redirect: {prefixRewrite: /new}}",
        "/old/x",
    );
    assert_eq!(
        prefix.path,
        Some(RedirectPath::Prefix {
            length: 4,
            with: "/new".into()
        })
    );
}

#[test]
fn wrong_redirects_are_refused() {
    for text in [
        "{redirect: {uri: /a, redirectCode: 200}}",
        "{redirect: {uri: /a, prefixRewrite: /b}}",
        "{redirect: {redirectCode: 302}}",
        "{redirect: {scheme: ftp}}",
        "{match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /b}}",
        "{redirect: {uri: /a}, route: [{destination: {host: a.internal}}]}",
        "{redirect: {uri: /a}, rewrite: {uri: /b}}",
        "{redirect: {uri: /a}, directResponse: {status: 200}}",
    ] {
        let world = rule(text);
        assert!(world.get("a.com", "/a").starts_with("fenced"), "{text}");
        assert_eq!(world.found(Code::SCHEMA_VALIDATION).len(), 1, "{text}");
    }
}

#[test]
fn a_direct_response_has_text_or_bytes() {
    assert_eq!(
        rule("{directResponse: {status: 200, body: {string: hello}}}").get("a.com", "/"),
        "hello"
    );
    assert_eq!(
        rule("{directResponse: {status: 200, body: {bytes: aGVsbG8=}}}").get("a.com", "/"),
        "hello"
    );
    assert_eq!(
        rule("{directResponse: {status: 204}}").get("a.com", "/"),
        ""
    );
    for text in [
        "{directResponse: {status: 100}}",
        "{directResponse: {}}",
        "{directResponse: {status: 200, body: {bytes: '!'}}}",
    ] {
        assert!(rule(text).get("a.com", "/").starts_with("fenced"), "{text}");
    }
}

#[test]
fn a_rewrite_replaces_a_matched_prefix_or_else_the_whole_path() {
    let path = |matches: &str, path: &str| {
        let world = rule(&format!("{{{matches} rewrite: {{uri: /n}}, {TO_A}}}"));
        world.forward(&get("a.com", path), |forward| {
            forward.rewrite.path.clone().unwrap()
        })
    };
    let prefix = path("match: [{uri: {prefix: /old}}],", "/old/x");
    assert!(matches!(prefix, PathRewrite::Prefix { length: 4, .. }));
    assert!(matches!(
        path("", "/x"),
        PathRewrite::Prefix { length: 1, .. }
    ));
    assert!(matches!(
        path("match: [{uri: {exact: /x}}],", "/x"),
        PathRewrite::Full(_)
    ));
    assert!(matches!(
        path("match: [{uri: {regex: '/.'}}],", "/x"),
        PathRewrite::Full(_)
    ));
}

#[test]
fn each_match_of_a_rule_rewrites_its_own_prefix() {
    let world = rule(&format!(
        "{{match: [{{uri: {{prefix: /a}}}}, {{uri: {{prefix: /bcd}}}}], rewrite: {{uri: /n}}, {TO_A}}}"
    ));
    for (path, expected) in [("/a/x", 2), ("/bcd/x", 4)] {
        world.forward(&get("a.com", path), |forward| {
            let Some(PathRewrite::Prefix { length, .. }) = forward.rewrite.path else {
                panic!("{forward:?}")
            };
            assert_eq!(length, expected);
        });
    }
}

#[test]
fn a_regex_rewrite_takes_re2_references() {
    let world = rule(&format!(
        "{{rewrite: {{uriRegexRewrite: {{match: '/v(\\d)/(.*)', rewrite: '/\\2/\\1'}}}}, {TO_A}}}"
    ));
    world.forward(&get("a.com", "/v1/x"), |forward| {
        let Some(PathRewrite::Regex { pattern, with }) = &forward.rewrite.path else {
            panic!("{forward:?}")
        };
        assert_eq!(pattern.replace_all("/v1/x", with), "/x/1");
    });
}

#[test]
fn a_timeout_is_kept_and_none_is_the_default() {
    let timeout = |text: &str| rule(text).forward(&get("a.com", "/"), |forward| forward.timeout);
    assert_eq!(
        timeout(&format!("{{timeout: 1.5s, {TO_A}}}")),
        Some(Duration::from_millis(1500))
    );
    assert_eq!(timeout(&format!("{{{TO_A}}}")), None);
    assert!(
        rule(&format!("{{timeout: 0s, {TO_A}}}"))
            .get("a.com", "/")
            .starts_with("fenced")
    );
}

#[test]
fn a_written_retry_policy_that_may_repeat_a_post_is_warned_about_and_no_other() {
    let warned = |rule_text: &str| {
        let world = rule(&format!("{{{rule_text}, {TO_A}}}"));
        assert_eq!(world.get("a.com", "/"), "outbound|80||a.internal");
        world.found(Code::UNSAFE_RETRIES).len()
    };
    for safe in [
        "retries: {attempts: 0}",
        "retries: {attempts: 3}",
        "retries: {attempts: 3, retryOn: 'connect-failure,refused-stream,reset-before-request'}",
        "retries: {attempts: 3, retryOn: 'unavailable,cancelled,retriable-status-codes'}",
    ] {
        assert_eq!(warned(safe), 0, "{safe}");
    }
    for condition in [
        "5xx",
        "gateway-error",
        "reset",
        "503",
        "internal",
        "retriable-4xx",
    ] {
        let text = format!("retries: {{attempts: 1, retryOn: 'connect-failure,{condition}'}}");
        assert_eq!(warned(&text), 1, "{condition}");
    }
    let world = rule(&format!(
        "{{match: [{{method: {{exact: GET}}}}], retries: {{attempts: 1, retryOn: 5xx}}, {TO_A}}}"
    ));
    assert_eq!(world.found(Code::UNSAFE_RETRIES).len(), 0);
}

#[test]
fn tls_and_tcp_rules_that_no_server_takes_are_reported() {
    let vs = routes("vs", "a.com", "  - {directResponse: {status: 200}}")
        + "  tls: [{match: [{sniHosts: [a.com]}], route: [{destination: {host: a.internal}}]}]
  tcp: [{route: [{destination: {host: a.internal}}]}]\n";
    let world = world(&[EDGE, &service("a.internal"), &vs]);
    let paths = world.paths(Code::NOT_FOR_THIS_GATEWAY);
    assert_eq!(paths, ["spec.tls[0].match[0]", "spec.tcp[0]"]);
    assert_eq!(world.get("a.com", "/"), "");
}
