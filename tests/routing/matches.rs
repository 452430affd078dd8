//! Every field of `http[].match[]`.

use pingress::base::Code;

use crate::support::{EDGE, World, answers, get, routes, world};

/// One rule with a match, and a last one for everything else.
fn matching(matches: &str) -> World {
    let rules = answers(matches, "hit") + &answers("", "miss");
    world(&[EDGE, &routes("vs", "a.com", &rules)])
}

#[test]
fn a_uri_is_compared_exactly_by_prefix_or_as_a_regex() {
    let exact = matching("{uri: {exact: /a}}");
    assert_eq!(exact.get("a.com", "/a"), "hit");
    assert_eq!(exact.get("a.com", "/a?q"), "hit");
    assert_eq!(exact.get("a.com", "/a/"), "miss");
    let prefix = matching("{uri: {prefix: /a}}");
    assert_eq!(prefix.get("a.com", "/abc"), "hit");
    assert_eq!(prefix.get("a.com", "/b"), "miss");
}

#[test]
fn case_is_ignored_only_where_asked_and_never_for_regexes() {
    let folded = matching("{uri: {prefix: /Api}, ignoreUriCase: true}");
    assert_eq!(folded.get("a.com", "/aPI/x"), "hit");
    let regex = matching("{uri: {regex: '/Api'}, ignoreUriCase: true}");
    assert_eq!(regex.get("a.com", "/api"), "miss");
    assert_eq!(
        matching("{uri: {exact: /Api}}").get("a.com", "/api"),
        "miss"
    );
}

#[test]
fn the_method_and_the_scheme_are_compared() {
    let world = matching("{method: {exact: POST}}");
    assert_eq!(world.ask(&get("a.com", "/").method("POST")), "hit");
    assert_eq!(world.get("a.com", "/"), "miss");
    assert_eq!(
        matching("{method: {regex: 'GET|HEAD'}}").get("a.com", "/"),
        "hit"
    );
    assert_eq!(matching("{scheme: {exact: http}}").get("a.com", "/"), "hit");
    assert_eq!(
        matching("{scheme: {exact: https}}").get("a.com", "/"),
        "miss"
    );
}

#[test]
fn header_names_ignore_case_values_do_not_and_repeated_values_join() {
    let world = matching("{headers: {X-User: {exact: Jason}}}");
    assert_eq!(
        world.ask(&get("a.com", "/").header("x-user", "Jason")),
        "hit"
    );
    assert_eq!(
        world.ask(&get("a.com", "/").header("x-user", "jason")),
        "miss"
    );
    let joined = matching("{headers: {x-user: {exact: 'a,b'}}}");
    assert_eq!(
        joined.ask(
            &get("a.com", "/")
                .header("x-user", "a")
                .header("x-user", "b")
        ),
        "hit"
    );
    let present = matching("{headers: {x-user: {}}}");
    assert_eq!(present.ask(&get("a.com", "/").header("x-user", "")), "hit");
    assert_eq!(present.get("a.com", "/"), "miss");
}

#[test]
fn pseudo_headers_are_the_parts_of_the_request_line() {
    assert_eq!(
        matching("{headers: {':method': {exact: GET}}}").get("a.com", "/"),
        "hit"
    );
    assert_eq!(
        matching("{headers: {':authority': {prefix: a.}}}").get("a.com", "/"),
        "hit"
    );
    assert_eq!(
        matching("{headers: {':scheme': {exact: https}}}").get("a.com", "/"),
        "miss"
    );
    let path = matching("{headers: {':path': {regex: '/x\\?q=.*'}}}");
    assert_eq!(path.get("a.com", "/x?q=1"), "hit");
    assert_eq!(path.get("a.com", "/x"), "miss");
}

#[test]
fn gotcha_16_without_headers_with_a_regex_for_everything_never_matches() {
    let all = matching("{withoutHeaders: {x-a: {regex: '.*'}}}");
    assert_eq!(all.get("a.com", "/"), "miss");
    assert_eq!(all.ask(&get("a.com", "/").header("x-a", "1")), "miss");
    let star = matching("{withoutHeaders: {x-a: {regex: '*'}}}");
    assert_eq!(star.get("a.com", "/"), "hit");
    assert_eq!(star.ask(&get("a.com", "/").header("x-a", "1")), "miss");
    let exact = matching("{withoutHeaders: {x-a: {exact: '1'}}}");
    assert_eq!(exact.get("a.com", "/"), "hit");
    assert_eq!(exact.ask(&get("a.com", "/").header("x-a", "1")), "miss");
    assert_eq!(exact.ask(&get("a.com", "/").header("x-a", "2")), "hit");
    let empty = matching("{withoutHeaders: {x-a: {}}}");
    assert_eq!(empty.get("a.com", "/"), "hit");
    assert_eq!(empty.ask(&get("a.com", "/").header("x-a", "1")), "miss");
}

#[test]
fn gotcha_17_query_values_are_compared_undecoded() {
    let world = matching("{queryParams: {q: {exact: 'a b'}}}");
    assert_eq!(world.get("a.com", "/?q=a%20b"), "miss");
    let encoded = matching("{queryParams: {q: {exact: 'a%20b'}}}");
    assert_eq!(encoded.get("a.com", "/?x=1&q=a%20b"), "hit");
    let present = matching("{queryParams: {q: {exact: ''}}}");
    assert_eq!(present.get("a.com", "/?q=anything"), "hit");
    assert_eq!(present.get("a.com", "/?q"), "hit");
    assert_eq!(present.get("a.com", "/"), "miss");
}

#[test]
fn fields_of_one_match_join_by_and_and_matches_by_or() {
    let world = matching("{uri: {prefix: /a}, method: {exact: GET}}, {headers: {x: {exact: '1'}}}");
    assert_eq!(world.get("a.com", "/a"), "hit");
    assert_eq!(world.ask(&get("a.com", "/a").method("PUT")), "miss");
    assert_eq!(world.ask(&get("a.com", "/b").header("x", "1")), "hit");
}

#[test]
fn a_regex_star_is_refused_except_for_absent_headers() {
    let world = matching("{headers: {x: {regex: '*'}}}");
    assert!(world.get("a.com", "/").starts_with("fenced"));
    assert_eq!(world.found(Code::SCHEMA_VALIDATION).len(), 1);
}

#[test]
fn source_labels_and_namespace_compare_to_the_gateway_itself() {
    assert_eq!(
        matching("{sourceLabels: {istio: ingressgateway}}").get("a.com", "/"),
        "hit"
    );
    assert_eq!(
        matching("{sourceNamespace: istio-system}").get("a.com", "/"),
        "hit"
    );
    let other = matching("{sourceLabels: {app: client}}");
    assert_eq!(other.get("a.com", "/"), "miss");
    assert_eq!(other.found(Code::NOT_FOR_THIS_GATEWAY).len(), 1);
    let ignored = matching("{sourceLabels: {app: client}, gateways: [edge]}");
    assert_eq!(ignored.get("a.com", "/"), "hit");
}

#[test]
fn a_match_may_name_the_gateways_it_is_for() {
    let second = EDGE
        .replace("name: edge", "name: second")
        .replace("'*'", "b.com");
    let rules =
        answers("{gateways: [second]}", "second") + &answers("{gateways: [default/edge]}", "edge");
    let vs = routes("vs", "a.com, b.com", &rules).replace("[edge]", "[edge, second]");
    let vs = vs.replace("default/second", "second");
    let edge = EDGE.replace("'*'", "a.com");
    let world = world(&[&edge, &second, &vs]);
    assert_eq!(world.get("a.com", "/"), "edge");
    assert_eq!(world.get("b.com", "/"), "second");
}

#[test]
fn routes_are_named_by_rule_and_match() {
    let rules = "  - {name: rule, match: [{name: m, uri: {exact: /m}}, {uri: {exact: /n}}], directResponse: {status: 200}}
  - {match: [{uri: {exact: /o}}], directResponse: {status: 200}}\n";
    let world = world(&[EDGE, &routes("vs", "a.com", rules)]);
    assert_eq!(world.route_name(&get("a.com", "/m")), "rule.m");
    assert_eq!(world.route_name(&get("a.com", "/n")), "rule");
    assert_eq!(world.route_name(&get("a.com", "/o")), "default");
    assert!(world.troubles().is_empty(), "{:?}", world.troubles());
}

#[test]
fn a_condition_on_the_host_header_tests_the_authority() {
    assert_eq!(
        matching("{headers: {Host: {exact: 'a.com:81'}}}").get("a.com:81", "/"),
        "hit"
    );
}
