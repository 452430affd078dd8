//! Envoy's local rate limit, in the shapes in which EnvoyFilters write it.

use pingress::base::Code;

use crate::support::envoy_filter::{BEFORE_ROUTER, EVERY_HOST, object, patch};
use crate::support::{EDGE, World, answers, get, routes, service, world};

const TYPED: &str =
    "'@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const ON: &str = "filter_enabled: {runtime_key: a, default_value: {numerator: 100, denominator: HUNDRED}}, filter_enforced: {default_value: {numerator: 100}}";
const BUCKET: &str = "token_bucket: {max_tokens: 5, tokens_per_fill: 2, fill_interval: 60s}";

/// A local rate limit with these fields.
fn local(fields: &str) -> String {
    format!("{{name: limit, typed_config: {{{TYPED}, stat_prefix: s{fields}}}}}")
}

fn full() -> String {
    local(&format!(", {BUCKET}, {ON}"))
}

/// The same in a typed struct, as Istio's examples write it.
fn in_struct(fields: &str) -> String {
    format!(
        "{{name: limit, typed_config: {{'@type': type.googleapis.com/udpa.type.v1.TypedStruct, type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, value: {{stat_prefix: s{fields}}}}}}}"
    )
}

fn inserted(value: &str) -> String {
    patch("HTTP_FILTER", BEFORE_ROUTER, "INSERT_BEFORE", value)
}

/// Rules `cart` and an unnamed one for `a.com` that send on, and one that answers for `b.com`;
/// `b.com` also on port 8080.
fn site(objects: &[String]) -> World {
    let edge = EDGE.to_owned()
        + "  - {port: {number: 8080, name: second, protocol: HTTP}, hosts: [b.com]}\n";
    let to = "route: [{destination: {host: shop.internal}}]";
    let rules =
        format!("  - {{name: cart, match: [{{uri: {{prefix: /cart}}}}], {to}}}\n  - {{{to}}}\n");
    let (shop, origin) = (routes("shop", "a.com", &rules), service("shop.internal"));
    let other = routes("other", "b.com", &answers("", "other"));
    let mut documents = vec![edge.as_str(), &shop, &origin, &other];
    documents.extend(objects.iter().map(String::as_str));
    world(&documents)
}

/// What requests to both rules of `a.com`, to `b.com`, to it on port 8080 and to an unknown host
/// pass: each limit with its place.
fn passed(world: &World) -> [Vec<String>; 5] {
    let ask = |host, path, port| get(host, path).port(port);
    [
        ask("a.com", "/cart", 80),
        ask("a.com", "/", 80),
        ask("b.com", "/", 80),
        ask("b.com", "/", 8080),
        ask("c.com", "/", 80),
    ]
    .map(|ask| world.passes(&ask))
}

fn counts(world: &World) -> [usize; 5] {
    passed(world).map(|passed| passed.len())
}

/// The groups of the buckets that requests of a rule use.
fn groups(world: &World, host: &str, path: &str) -> Vec<String> {
    let plan = &world.compiled.plan;
    let ids = world.limits(&get(host, path));
    let limits = ids
        .iter()
        .flat_map(|id| &plan.limits[id.0 as usize].policy.limits);
    limits.map(|limit| limit.group.to_string()).collect()
}

#[test]
fn a_filter_is_told_by_its_type_and_limits_all_that_its_listeners_serve() {
    for value in [full(), in_struct(&format!(", {BUCKET}, {ON}"))] {
        let world = site(&[object("l", &[inserted(&value)])]);
        assert_eq!(world.troubles(), [""; 0], "{value}");
        assert_eq!(counts(&world), [1; 5]);
        // Each listener's filter has a bucket of its own.
        let limits = &world.compiled.plan.limits;
        assert_eq!(limits.len(), 2);
        assert_eq!(
            limits[0].policy.limits[0].to_string(),
            "2 per 60s, at most 5 at once"
        );
        assert_eq!(limits[0].policy.to_string(), "refused with 429");
        assert_ne!(
            limits[0].policy.limits[0].group,
            limits[1].policy.limits[0].group
        );
    }
    let other = "{name: envoy.filters.http.local_ratelimit, typed_config: {'@type': type.googleapis.com/other}}";
    let world = site(&[object("l", &[inserted(other)])]);
    assert!(world.get("a.com", "/").starts_with("fenced"));
}

#[test]
fn a_place_before_the_router_is_after_cors_and_any_other_is_the_front() {
    let manager = "filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}";
    for (matches, operation, expected) in [
        (BEFORE_ROUTER.to_owned(), "INSERT_BEFORE", [""; 5]),
        (
            format!("{{context: GATEWAY, listener: {{{manager}}}}}"),
            "INSERT_BEFORE",
            ["first "; 5],
        ),
        (BEFORE_ROUTER.to_owned(), "INSERT_FIRST", ["first "; 5]),
        ("{context: ANY}".to_owned(), "INSERT_FIRST", ["first "; 5]),
    ] {
        let world = site(&[object(
            "l",
            &[patch("HTTP_FILTER", &matches, operation, &full())],
        )]);
        let name = "EnvoyFilter istio-system/l spec.configPatches[0]";
        let expected = expected.map(|front| vec![format!("{front}{name}")]);
        assert_eq!(passed(&world), expected, "{matches} {operation}");
    }
    let second = format!("{{context: GATEWAY, listener: {{portNumber: 8080, {manager}}}}}");
    let world = site(&[object(
        "l",
        &[patch("HTTP_FILTER", &second, "INSERT_FIRST", &full())],
    )]);
    assert_eq!(counts(&world), [0, 0, 0, 1, 0]);
    let obsolete = "{context: GATEWAY, listener: {filterChain: {filter: {name: envoy.http_connection_manager}}}}";
    let world = site(&[object(
        "l",
        &[patch("HTTP_FILTER", obsolete, "INSERT_BEFORE", &full())],
    )]);
    assert_eq!(
        (counts(&world), world.found(Code::INERT_FIELD).len()),
        ([0; 5], 1)
    );
}

#[test]
fn a_host_or_route_has_its_own_limit_in_place_of_the_filters() {
    let own = |bucket: &str| {
        format!(
            "typed_per_filter_config: {{limit: {{{TYPED}, stat_prefix: s, token_bucket: {{max_tokens: {bucket}, fill_interval: 1s}}, {ON}}}}}"
        )
    };
    let host = patch(
        "VIRTUAL_HOST",
        "{context: GATEWAY, routeConfiguration: {vhost: {name: 'a.com:80'}}}",
        "MERGE",
        &format!("{{{}}}", own("7")),
    );
    let route = patch(
        "HTTP_ROUTE",
        "{context: GATEWAY, routeConfiguration: {vhost: {name: 'a.com:80', route: {name: cart}}}}",
        "MERGE",
        &format!("{{{}}}", own("9")),
    );
    let bare = inserted(&local(""));
    for (patches, expected) in [
        (vec![bare.clone()], ["", "", ""]),
        (vec![bare.clone(), host.clone()], ["7", "7", ""]),
        (vec![bare.clone(), route.clone()], ["9", "", ""]),
        (vec![bare, host.clone(), route.clone()], ["9", "7", ""]),
        (vec![route, host, inserted(&full())], ["9", "7", "5"]),
    ] {
        let world = site(&[object("l", &patches)]);
        assert_eq!(world.troubles(), [""; 0]);
        let capacities =
            [("a.com", "/cart"), ("a.com", "/"), ("b.com", "/")].map(|(host, path)| {
                let ids = world.limits(&get(host, path));
                let limits = ids
                    .iter()
                    .map(|id| &world.compiled.plan.limits[id.0 as usize]);
                let capacity =
                    limits.map(|limit| limit.policy.limits[0].bucket.capacity.to_string());
                capacity.collect::<String>()
            });
        assert_eq!(capacities, expected);
    }
}

#[test]
fn descriptors_concern_the_requests_of_which_actions_make_them() {
    let descriptors = "descriptors: [{entries: [{key: header_match, value: cart}], token_bucket: {max_tokens: 1, fill_interval: 60s}}, {entries: [{key: remote_address, value: 10.0.0.1}, {key: PATH}], token_bucket: {max_tokens: 3, fill_interval: 60s}}, {entries: [{key: other, value: x}], token_bucket: {max_tokens: 1, fill_interval: 1s}}]";
    let filter = inserted(&local(&format!(", {BUCKET}, {ON}, {descriptors}")));
    let actions = "{rate_limits: [{actions: [{header_value_match: {descriptor_value: cart, headers: [{name: ':path', string_match: {prefix: /CART, ignore_case: true}}]}}]}, {actions: [{remote_address: {}}, {request_headers: {header_name: ':path', descriptor_key: PATH}}]}]}";
    let host = patch("VIRTUAL_HOST", EVERY_HOST, "MERGE", actions);
    let world = site(&[object("one", &[filter]), object("two", &[host])]);
    assert_eq!(world.troubles(), [""; 0]);
    let ids = world.limits(&get("a.com", "/"));
    let policy = &world.compiled.plan.limits[ids[0].0 as usize].policy;
    let limits: Vec<String> = policy.limits.iter().map(ToString::to_string).collect();
    assert_eq!(
        limits,
        [
            "1 per 60s, at most 1 at once where the path with query starts with \"/cart\" in any case",
            "1 per 60s, at most 3 at once where the client address is 10.0.0.1 and for each path with query",
            "2 per 60s, at most 5 at once",
        ]
    );
    // All rules of a listener share the buckets of its filter.
    let all = groups(&world, "a.com", "/");
    assert_eq!(all, groups(&world, "a.com", "/cart"));
    // Of what the gateway answers itself Envoy makes no descriptors (1.40, asked).
    assert_eq!(groups(&world, "b.com", "/"), all[2..]);
}

#[test]
fn a_filter_of_another_stage_has_the_actions_of_that_stage() {
    let descriptors = "descriptors: [{entries: [{key: generic_key, value: x}], token_bucket: {max_tokens: 1, fill_interval: 60s}}, {entries: [{key: masked_remote_address, value: 10.1.2.0/24}], token_bucket: {max_tokens: 2, fill_interval: 60s}}, {entries: [{key: masked_remote_address, value: 10.1.2.3/32}], token_bucket: {max_tokens: 3, fill_interval: 60s}}]";
    let filter = inserted(&local(&format!(
        ", {BUCKET}, {ON}, {descriptors}, stage: 2"
    )));
    let actions = "{rate_limits: [{actions: [{generic_key: {descriptor_value: x}}]}, {stage: 2, actions: [{masked_remote_address: {v4_prefix_mask_len: 24}}]}]}";
    let host = patch("VIRTUAL_HOST", EVERY_HOST, "MERGE", actions);
    let world = site(&[object("l", &[filter, host])]);
    // No filter is of the other item's stage.
    assert_eq!(world.paths(Code::INERT_FIELD), ["spec.configPatches[1]"]);
    let ids = world.limits(&get("a.com", "/"));
    let policy = &world.compiled.plan.limits[ids[0].0 as usize].policy;
    let expected = [
        "2 per 60s, at most 2 at once where the client network (IPv4 /24, IPv6 /128) is 10.1.2.0",
        "2 per 60s, at most 5 at once",
    ];
    assert_eq!(
        policy.lines(),
        expected.map(|line| line.replacen("2 per 60s, at most 2", "1 per 60s, at most 2", 1))
    );
}

#[test]
fn each_connection_has_buckets_of_its_own_where_the_filter_says_so() {
    let descriptors = "descriptors: [{entries: [{key: generic_key, value: x}], token_bucket: {max_tokens: 1, fill_interval: 60s}}]";
    let apart = "local_rate_limit_per_downstream_connection: true";
    let filter = inserted(&local(&format!(", {BUCKET}, {ON}, {descriptors}, {apart}")));
    let actions = "{rate_limits: [{actions: [{generic_key: {descriptor_value: x}}]}]}";
    let host = patch("VIRTUAL_HOST", EVERY_HOST, "MERGE", actions);
    let world = site(&[object("l", &[filter, host])]);
    assert_eq!(world.troubles(), [""; 0]);
    let ids = world.limits(&get("a.com", "/"));
    let policy = &world.compiled.plan.limits[ids[0].0 as usize].policy;
    let limits: Vec<String> = policy.limits.iter().map(ToString::to_string).collect();
    let expected = [
        "1 per 60s, at most 1 at once for each connection",
        "2 per 60s, at most 5 at once for each connection",
    ];
    assert_eq!(limits, expected);
}

#[test]
fn an_action_that_may_be_skipped_leads_to_a_descriptor_with_and_without_its_entry() {
    let descriptors = "descriptors: [{entries: [{key: fixed, value: x}], token_bucket: {max_tokens: 1, fill_interval: 60s}}, {entries: [{key: tier}, {key: fixed, value: x}], token_bucket: {max_tokens: 2, fill_interval: 60s}}, {entries: [{key: query_match, value: q}], token_bucket: {max_tokens: 3, fill_interval: 60s}}]";
    let filter = inserted(&local(&format!(", {BUCKET}, {ON}, {descriptors}")));
    let actions = "{rate_limits: [{disable_key: none, actions: [{request_headers: {header_name: x-tier, descriptor_key: tier, skip_if_absent: true}}, {generic_key: {descriptor_key: fixed, descriptor_value: x}}]}, {actions: [{query_parameter_value_match: {descriptor_value: q, query_parameters: [{name: a, string_match: {exact: b}}, {name: c, present_match: false}]}}]}, {stage: 2, actions: [{generic_key: {descriptor_key: fixed, descriptor_value: x}}]}]}";
    let host = patch("VIRTUAL_HOST", EVERY_HOST, "MERGE", actions);
    let world = site(&[object("l", &[filter, host])]);
    // No filter is of the last item's stage.
    assert_eq!(world.paths(Code::INERT_FIELD), ["spec.configPatches[1]"]);
    assert_eq!(world.troubles().len(), 1);
    let ids = world.limits(&get("a.com", "/"));
    let policy = &world.compiled.plan.limits[ids[0].0 as usize].policy;
    assert_eq!(
        policy.lines()[..3],
        [
            "1 per 60s, at most 1 at once where not: the header x-tier is there",
            "1 per 60s, at most 2 at once for each header x-tier",
            "1 per 60s, at most 3 at once where the first query parameter a is \"b\" and not: the first query parameter c is there",
        ]
    );
}

#[test]
fn rules_with_other_actions_share_the_buckets_of_their_filter() {
    let descriptors = "descriptors: [{entries: [{key: generic_key, value: x}], token_bucket: {max_tokens: 1, fill_interval: 60s}}]";
    let filter = inserted(&local(&format!(", {BUCKET}, {ON}, {descriptors}")));
    let route = patch(
        "HTTP_ROUTE",
        "{context: GATEWAY, routeConfiguration: {vhost: {route: {name: cart}}}}",
        "MERGE",
        "{route: {rate_limits: [{actions: [{generic_key: {descriptor_value: x}}]}]}}",
    );
    let world = site(&[object("l", &[filter, route])]);
    assert_eq!(world.troubles(), [""; 0]);
    let (cart, rest) = (
        groups(&world, "a.com", "/cart"),
        groups(&world, "a.com", "/"),
    );
    assert_eq!((cart.len(), &cart[1..]), (2, &rest[..]));
}

#[test]
fn every_field_of_a_refusal_has_its_meaning() {
    for (fields, expected) in [
        ("status: {code: ServiceUnavailable}", "refused with 503"),
        ("status: {code: 503}", "refused with 503"),
        ("status: {code: 302}", "refused with 429"),
        (
            "response_headers_to_add: [{append: false, header: {key: x-local-rate-limit, value: 'true'}}]",
            "refused with 429, x-local-rate-limit: true",
        ),
        (
            "enable_x_ratelimit_headers: DRAFT_VERSION_03",
            "refused with 429, x-ratelimit-* said",
        ),
        ("rateLimitedAsResourceExhausted: true", "refused with 429"),
    ] {
        let value = local(&format!(", {BUCKET}, {ON}, {fields}"));
        let world = site(&[object("l", &[inserted(&value)])]);
        assert_eq!(world.troubles(), [""; 0], "{fields}");
        assert_eq!(world.compiled.plan.limits[0].policy.to_string(), expected);
    }
    let shares = "filter_enabled: {default_value: {numerator: 5, denominator: TEN_THOUSAND}}, filter_enforced: {default_value: {numerator: 50}}";
    let world = site(&[object(
        "l",
        &[inserted(&local(&format!(", {BUCKET}, {shares}")))],
    )]);
    assert_eq!(
        world.compiled.plan.limits[0].policy.to_string(),
        "asked for 0.05% of requests, 50% of what is too much refused with 429"
    );
}

#[test]
fn gotcha_40_a_limit_without_shares_does_nothing_and_that_is_said() {
    let world = site(&[object("l", &[inserted(&local(&format!(", {BUCKET}")))])]);
    assert_eq!(world.paths(Code::INERT_FIELD), ["spec.configPatches[0]"]);
    assert!(!world.get("a.com", "/").starts_with("fenced"));
    let policy = &world.compiled.plan.limits[0].policy;
    assert!(policy.enabled.is_none() && policy.enforced.is_none());
}

#[test]
fn what_is_not_honoured_of_a_limit_fences_it_and_its_finding_quotes_the_patch() {
    for (fields, said) in [
        (
            "request_headers_to_add_when_not_enforced: []",
            "`request_headers_to_add_when_not_enforced` is not supported",
        ),
        (
            "token_bucket: {max_tokens: 0, fill_interval: 1s}",
            "`token_bucket.max_tokens` must be more than 0",
        ),
        (
            "token_bucket: {max_tokens: 1, fill_interval: 20ms}",
            "shorter than 50ms",
        ),
        (
            "token_bucket: {max_tokens: 1}",
            "`token_bucket.fill_interval` is missing",
        ),
        ("stage: 11", "`stage`: 11 is more than 10"),
        (
            "response_headers_to_add: [{header: {key: a, value: '%PROTOCOL%'}}]",
            "`%PROTOCOL%`",
        ),
        (
            "descriptors: [{entries: [{key: a}]}]",
            "`descriptors[0]` has no token_bucket",
        ),
        ("vh_rate_limits: SOMETIMES", "`vh_rate_limits: SOMETIMES`"),
    ] {
        let world = site(&[object("l", &[inserted(&local(&format!(", {fields}")))])]);
        let found = world.found(Code::UNENFORCED_PROTECTION);
        assert_eq!(found.len(), 1, "{fields}");
        assert!(found[0].contains(said), "{}", found[0]);
        assert!(
            found[0].contains("it says `{name: limit, typed_config: {@type: "),
            "{}",
            found[0]
        );
        assert!(world.get("a.com", "/").starts_with("fenced"), "{fields}");
        assert!(world.compiled.plan.limits.is_empty());
    }
    let before_cors = BEFORE_ROUTER.replace("envoy.filters.http.router", "envoy.filters.http.cors");
    for (matches, operation) in [
        (before_cors.as_str(), "INSERT_BEFORE"),
        (BEFORE_ROUTER, "INSERT_AFTER"),
        (
            "{context: GATEWAY, listener: {filterChain: {sni: a}}}",
            "INSERT_FIRST",
        ),
    ] {
        let world = site(&[object(
            "l",
            &[patch("HTTP_FILTER", matches, operation, &full())],
        )]);
        assert!(
            world.get("a.com", "/").starts_with("fenced"),
            "{matches} {operation}"
        );
    }
    for action in [
        "{source_cluster: {name: a}}",
        "{masked_remote_address: {v4_prefix_mask_len: 33}}",
        "{query_parameters: {descriptor_key: a}}",
        "{remote_address: {}, generic_key: {}}",
    ] {
        let actions = format!("{{rate_limits: [{{actions: [{action}]}}]}}");
        let host = patch("VIRTUAL_HOST", EVERY_HOST, "MERGE", &actions);
        let world = site(&[object("l", &[inserted(&full()), host])]);
        assert!(world.get("a.com", "/").starts_with("fenced"), "{action}");
    }
}

#[test]
fn patches_that_meet_no_filter_are_said() {
    let own = format!(
        "{{typed_per_filter_config: {{other: {{{TYPED}, stat_prefix: s, {BUCKET}, {ON}}}}}}}"
    );
    let host = patch("VIRTUAL_HOST", EVERY_HOST, "MERGE", &own);
    let world = site(&[object("l", &[inserted(&full()), host])]);
    assert_eq!(world.paths(Code::INERT_FIELD), ["spec.configPatches[1]"]);
    assert_eq!(counts(&world), [1; 5]);
}

#[test]
fn the_shape_that_is_written_for_sidecars_is_not_ours_and_works_for_a_gateway() {
    // As Istio's public example for one service has it.
    let bare = patch(
        "HTTP_FILTER",
        "{context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}",
        "INSERT_BEFORE",
        &in_struct("").replace("name: limit", "name: envoy.filters.http.local_ratelimit"),
    );
    let own = format!(
        "{{route: {{rate_limits: [{{actions: [{{remote_address: {{}}}}]}}, {{actions: [{{header_value_match: {{descriptor_value: productpage, expect_match: true, headers: [{{name: ':path', string_match: {{prefix: /productpage, ignore_case: true}}}}]}}}}]}}]}}, typed_per_filter_config: {{envoy.filters.http.local_ratelimit: {{{TYPED}, stat_prefix: test_enabled, token_bucket: {{max_tokens: 100, tokens_per_fill: 100, fill_interval: 60s}}, enable_x_ratelimit_headers: DRAFT_VERSION_03, {ON}, response_headers_to_add: [{{append: false, header: {{key: x-local-rate-limit, value: 'true'}}}}], descriptors: [{{entries: [{{key: header_match, value: productpage}}], token_bucket: {{max_tokens: 10, tokens_per_fill: 10, fill_interval: 60s}}}}]}}}}}}"
    );
    let matches = "{context: SIDECAR_INBOUND, routeConfiguration: {vhost: {name: 'inbound|http|8000', route: {action: ANY}}}}";
    let sidecar = object("l", &[bare, patch("HTTP_ROUTE", matches, "MERGE", &own)]);
    let sidecar = sidecar.replace("istio: ingressgateway", "app: productpage");
    let world = site(std::slice::from_ref(&sidecar));
    assert_eq!(world.troubles(), [""; 0]);
    assert_eq!(world.found(Code::NOT_FOR_THIS_GATEWAY).len(), 1);
    assert_eq!(counts(&world), [0; 5]);
    let gateway = sidecar
        .replace("SIDECAR_INBOUND", "GATEWAY")
        .replace("app: productpage", "istio: ingressgateway")
        .replace("inbound|http|8000", "a.com:80");
    let world = site(&[gateway]);
    assert_eq!(world.troubles(), [""; 0]);
    assert_eq!(counts(&world), [1, 1, 0, 0, 0]);
    let ids = world.limits(&get("a.com", "/cart"));
    let policy = &world.compiled.plan.limits[ids[0].0 as usize].policy;
    let limits: Vec<String> = policy.limits.iter().map(ToString::to_string).collect();
    assert_eq!(
        limits,
        [
            "10 per 60s, at most 10 at once where the path with query starts with \"/productpage\" in any case",
            "100 per 60s, at most 100 at once",
        ]
    );
}
