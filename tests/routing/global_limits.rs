//! Limits that a rate limit service counts: which requests it is asked about, what it is told, and
//! what becomes of shapes that are not honoured.

use pingress::base::Code;
use pingress::compile::Options;
use pingress::plan::Resolution;

use crate::support::envoy_filter::{BEFORE_ROUTER, EVERY_HOST, object, patch};
use crate::support::{EDGE, World, answers, get, load, routes, service};

mod actions;

const TYPED: &str =
    "'@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit";
const CLIENTS: &str = "{rate_limits: [{actions: [{remote_address: {}}]}]}";
const SERVICE: &str = "rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: limiter}}}";

fn inserted(fields: &str) -> String {
    let value = format!("{{name: limit, typed_config: {{{TYPED}, domain: d, {fields}}}}}");
    patch("HTTP_FILTER", BEFORE_ROUTER, "INSERT_BEFORE", &value)
}

fn added(fields: &str) -> String {
    let value = format!("{{name: limiter, {fields}}}");
    patch("CLUSTER", "{context: GATEWAY}", "ADD", &value)
}

fn hosts(value: &str) -> String {
    patch("VIRTUAL_HOST", EVERY_HOST, "MERGE", value)
}

fn route(name: &str, value: &str) -> String {
    let matches =
        format!("{{context: GATEWAY, routeConfiguration: {{vhost: {{route: {{name: {name}}}}}}}}}");
    patch("HTTP_ROUTE", &matches, "MERGE", value)
}

const STATIC: &str = "type: STATIC, http2_protocol_options: {}, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.9.9.9, port_value: 8081}}}}]}]}";

/// Rules `cart` and an unnamed one for `a.com` that send on, and one that answers by itself.
fn site(objects: &[String]) -> World {
    site_with(objects, &Options::default())
}

fn site_with(objects: &[String], options: &Options) -> World {
    let to = "route: [{destination: {host: shop.internal}}]";
    let rules = format!(
        "  - {{name: cart, match: [{{uri: {{prefix: /cart}}}}], {to}}}\n{}  - {{{to}}}\n",
        answers("{uri: {prefix: /own}}", "own")
    );
    let (shop, origin) = (routes("shop", "a.com", &rules), service("shop.internal"));
    let mut documents = vec![EDGE, &shop, &origin];
    documents.extend(objects.iter().map(String::as_str));
    load(&documents, options)
}

/// What the service is told of requests to `cart`, to the unnamed rule, to the one that answers and
/// to no rule.
fn told(world: &World) -> [Vec<String>; 4] {
    [
        ("a.com", "/cart"),
        ("a.com", "/"),
        ("a.com", "/own"),
        ("c.com", "/"),
    ]
    .map(|(host, path)| {
        let limits = world.limits(&get(host, path)).into_iter();
        let limits = limits.map(|id| &world.compiled.plan.limits[id.0 as usize]);
        let lines = limits.flat_map(|limit| limit.policy.lines());
        lines.map(|line| line.replace("descriptor ", "")).collect()
    })
}

fn policy(world: &World) -> String {
    world.compiled.plan.limits[0].policy.to_string()
}

fn endpoints(world: &World, cluster: &str) -> Vec<String> {
    match &world.compiled.endpoints.clusters[cluster].resolution {
        Resolution::Static(all) => all.iter().map(|one| one.addr.to_string()).collect(),
        Resolution::Dns { names, .. } => names
            .iter()
            .map(|one| format!("{}:{}", one.name, one.port))
            .collect(),
    }
}

const CLIENT: &str = "remote_address=the client address";

#[test]
fn a_service_is_asked_about_what_is_sent_on_and_has_something_to_tell() {
    let world = site(&[
        object("filter", &[inserted(SERVICE), added(STATIC)]),
        object("hosts", &[hosts(CLIENTS)]),
    ]);
    assert_eq!(world.troubles(), [""; 0]);
    let all = vec![CLIENT.to_owned()];
    assert_eq!(told(&world), [all.clone(), all, vec![], vec![]]);
    assert_eq!(
        policy(&world),
        "limiter asked within 20ms for domain d, served if it cannot be asked, refused with 429, x-envoy-ratelimited said"
    );
    assert_eq!(endpoints(&world, "limiter"), ["10.9.9.9:8081"]);
    // All rules share one policy.
    assert_eq!(world.compiled.plan.limits.len(), 1);
    let limit = &world.compiled.plan.limits[0];
    assert_eq!(limit.origins.len(), 1);
    assert_ne!(limit.origins[0].to_string(), limit.origin.to_string());
}

#[test]
fn every_field_of_the_filter_has_its_meaning() {
    for (fields, expected) in [
        (
            "timeout: 0.5s",
            "limiter asked within 500ms for domain d, served",
        ),
        ("failure_mode_deny: true", ", 500 if it cannot be asked,"),
        (
            "failure_mode_deny: true, status_on_error: {code: 503}",
            ", 503 if it cannot be asked,",
        ),
        ("rate_limited_status: {code: 503}", "refused with 503"),
        (
            "enable_x_ratelimit_headers: DRAFT_VERSION_03",
            ", x-ratelimit-* said",
        ),
        (
            "response_headers_to_add: [{header: {key: x-a, value: b}}]",
            "refused with 429, x-a: b",
        ),
        ("request_type: external, stat_prefix: s", "refused with 429"),
        (
            "rate_limited_as_resource_exhausted: true, request_type: both",
            "refused with 429",
        ),
    ] {
        let filter = inserted(&format!("{fields}, {SERVICE}"));
        let world = site(&[object("l", &[filter, added(STATIC), hosts(CLIENTS)])]);
        assert_eq!(world.troubles(), [""; 0], "{fields}");
        assert!(policy(&world).contains(expected), "{}", policy(&world));
    }
    let quiet = inserted(&format!(
        "disable_x_envoy_ratelimited_header: true, {SERVICE}"
    ));
    let world = site(&[object("l", &[quiet, added(STATIC), hosts(CLIENTS)])]);
    assert!(!policy(&world).contains("x-envoy-ratelimited"));
    let slow = SERVICE.replace("}}}", "}, timeout: 2s}}");
    let world = site(&[object(
        "l",
        &[inserted(&slow), added(STATIC), hosts(CLIENTS)],
    )]);
    assert!(policy(&world).contains("within 2s"), "{}", policy(&world));
}

#[test]
fn a_service_is_reached_by_a_cluster_of_any_supported_form() {
    let of_names = |kind: &str, more: &str| {
        format!(
            "type: {kind}, {more}, load_assignment: {{cluster_name: limiter, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: rls.example.com, port_value: 8081}}}}}}}}]}}]}}"
        )
    };
    let h2 = "http2_protocol_options: {}";
    let options = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}";
    for cluster in [of_names("STRICT_DNS", h2), of_names("LOGICAL_DNS", options)] {
        let patches = [inserted(SERVICE), added(&cluster), hosts(CLIENTS)];
        let world = site(&[object("l", &patches)]);
        assert_eq!(world.troubles(), [""; 0], "{cluster}");
        assert_eq!(endpoints(&world, "limiter"), ["rls.example.com:8081"]);
    }
    // A name that is a service's is that service.
    let strict = of_names("STRICT_DNS", h2).replace("8081", "80");
    let known = service("rls.example.com").replace("10.0.0.1", "10.7.7.7");
    let patches = [inserted(SERVICE), added(&strict), hosts(CLIENTS)];
    let world = site(&[object("l", &patches), known]);
    assert_eq!(endpoints(&world, "limiter"), ["10.7.7.7:80"]);
    // A service's own cluster, by Istio's name.
    let own = SERVICE.replace("limiter", "'outbound|80||rls.example.com'");
    let known = service("rls.example.com").replace("10.0.0.1", "10.7.7.7");
    let world = site(&[object("l", &[inserted(&own), hosts(CLIENTS)]), known]);
    assert_eq!(world.troubles(), [""; 0]);
    let cluster = "outbound|80||rls.example.com";
    assert_eq!(endpoints(&world, cluster), ["10.7.7.7:80"]);
    assert!(policy(&world).starts_with(cluster));
}

#[test]
fn what_is_not_honoured_fences_what_it_limits_and_is_quoted() {
    for (fields, said) in [
        ("unknown: 1", "`unknown` is not supported"),
        ("stage: 11", "`stage`: 11 is more than 10"),
        (
            "request_type: internal",
            "`request_type: internal` is not supported",
        ),
        ("rate_limits: []", "`rate_limits` is not supported"),
        ("timeout: soon", "`timeout`"),
        ("rate_limited_status: {code: Perhaps}", "is no status"),
    ] {
        let filter = inserted(&format!("{fields}, {SERVICE}"));
        let world = site(&[object("l", &[filter, added(STATIC), hosts(CLIENTS)])]);
        let found = world.found(Code::UNENFORCED_PROTECTION);
        assert!(found[0].contains(said), "{found:?}");
        assert!(found[0].contains("it says `{name: limit, typed_config: {@type: "));
        assert!(world.get("a.com", "/").starts_with("fenced"), "{fields}");
    }
    for service in [
        "rate_limit_service: {grpc_service: {google_grpc: {target_uri: a}}}",
        "rate_limit_service: {grpc_service: {envoy_grpc: {authority: a}}}",
        "rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: limiter, authority: 'a b'}}}",
        "rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: limiter}}, transport_api_version: V2}",
        "failure_mode_deny: true",
    ] {
        let world = site(&[object(
            "l",
            &[inserted(service), added(STATIC), hosts(CLIENTS)],
        )]);
        assert!(world.get("a.com", "/").starts_with("fenced"), "{service}");
        if service.contains("google_grpc") {
            let found = world.found(Code::UNENFORCED_PROTECTION);
            assert!(found[0].contains("write `envoy_grpc` with"), "{found:?}");
        }
    }
    let own = "{typed_per_filter_config: {limit: {'@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute, override_option: INCLUDE_POLICY}}}";
    let patches = [
        inserted(SERVICE),
        added(STATIC),
        hosts(CLIENTS),
        route("cart", own),
    ];
    assert!(
        site(&[object("l", &patches)])
            .get("a.com", "/cart")
            .starts_with("fenced")
    );
}

#[test]
fn a_service_that_cannot_be_reached_fences_what_it_would_count() {
    for (cluster, said) in [
        (
            STATIC.replace("STATIC", "EDS"),
            "`type: EDS` is not supported",
        ),
        (
            STATIC.replace("http2_protocol_options: {}, ", ""),
            "does not speak HTTP/2",
        ),
        (STATIC.replace("10.9.9.9", "a.example.com"), "is no address"),
        (
            STATIC.replace("port_value: 8081", "port_value: 0"),
            "no port",
        ),
        (
            STATIC.replace("type", "transport_socket: {name: tls}, type"),
            "`value.transport_socket` is not supported",
        ),
        (
            "type: STATIC, http2_protocol_options: {}".into(),
            "no endpoints",
        ),
    ] {
        let patches = [inserted(SERVICE), added(&cluster), hosts(CLIENTS)];
        let world = site(&[object("l", &patches)]);
        let found = world.found(Code::UNSUPPORTED);
        assert!(
            found[0].contains(said) && found[0].contains("it says `{name: limiter"),
            "{found:?}"
        );
        let fence = world.get("a.com", "/");
        let missing = "the cluster `limiter` is neither added";
        assert!(
            fence.starts_with("fenced") && fence.contains(missing),
            "{fence}"
        );
    }
    let own = SERVICE.replace("limiter", "'outbound|81||shop.internal'");
    let world = site(&[object("l", &[inserted(&own), hosts(CLIENTS)])]);
    assert!(
        world
            .get("a.com", "/")
            .contains("`shop.internal` has no port 81")
    );
    assert_eq!(
        world.paths(Code::REFERENCED_RESOURCE_NOT_FOUND),
        ["spec.configPatches[0]"]
    );
}

#[test]
fn what_takes_no_part_is_said() {
    let world = site(&[object("l", &[inserted(SERVICE), added(STATIC)])]);
    assert_eq!(world.paths(Code::INERT_FIELD), ["spec.configPatches[0]"]);
    assert_eq!(told(&world), [(); 4].map(|()| Vec::<String>::new()));
    let world = site(&[object("l", &[added(STATIC)])]);
    assert_eq!(world.paths(Code::UNSUPPORTED), ["spec.configPatches[0]"]);
    assert!(
        world
            .compiled
            .plan
            .clusters
            .iter()
            .all(|cluster| &*cluster.name != "limiter")
    );
}

fn own(global: &str, limits: &str) -> String {
    format!(
        "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {{name: l}}\nspec: {{targetRef: {{kind: VirtualService, name: shop}}, global: {{{global}}}, limits: [{limits}]}}\n"
    )
}

#[test]
fn our_rate_limit_names_its_service_and_every_part_of_its_keys() {
    let limits = "{key: [{clientAddress: {}}, {header: X-Key}, {cookie: id}, {query: q}, {path: '/a/{id}'}]}, {requests: 5, unit: hour}";
    let known = service("rls.internal").replace("10.0.0.1", "10.7.7.7");
    for (global, expected, reached) in [
        (
            "service: 'rls.internal:80', domain: d",
            "outbound|80||rls.internal asked within 20ms for domain d, served if it cannot be asked",
            "10.7.7.7:80",
        ),
        (
            "service: RLS.internal, port: 80, domain: d, timeout: 1s, onError: deny",
            "outbound|80||rls.internal asked within 1s for domain d, 500 if it cannot be asked",
            "10.7.7.7:80",
        ),
        (
            "service: 'elsewhere.example.com:8081', domain: d, onError: allow",
            "outbound|8081||elsewhere.example.com asked within 20ms for domain d, served",
            "elsewhere.example.com:8081",
        ),
        (
            "service: '10.1.1.1:8081', domain: d",
            "outbound|8081||10.1.1.1 asked within 20ms for domain d, served",
            "10.1.1.1:8081",
        ),
        (
            "service: '[2001:db8::1]:8081', domain: d",
            "outbound|8081||2001:db8::1 asked within 20ms for domain d, served",
            "[2001:db8::1]:8081",
        ),
    ] {
        let world = site(&[own(global, limits), known.clone()]);
        assert_eq!(world.troubles(), [""; 0], "{global}");
        assert!(policy(&world).starts_with(expected), "{}", policy(&world));
        let cluster = expected.split(' ').next().unwrap();
        assert_eq!(endpoints(&world, cluster), [reached]);
        assert_eq!(
            told(&world)[0],
            [
                "remote_address=the client address (IPv4 /32, IPv6 /64) or nothing, header.x-key=the header x-key or nothing, cookie.id=the cookie id or nothing, query.q=the query parameter q or nothing, path=the path /a/{id} or nothing",
                "generic_key=\"l\"; 5 per hour",
            ]
        );
    }
}

#[test]
fn a_wrong_global_limit_of_our_own_fences_what_it_is_for() {
    let good = "service: 'shop.internal:80', domain: d";
    for (global, limits, path) in [
        ("domain: d", "{}", "spec.global.service"),
        (
            "service: shop.internal, domain: d",
            "{}",
            "spec.global.service",
        ),
        (
            "service: 'shop.internal:0', domain: d",
            "{}",
            "spec.global.service",
        ),
        ("service: 'a b:80', domain: d", "{}", "spec.global.service"),
        ("service: 'shop.internal:80'", "{}", "spec.global.domain"),
        (
            "service: 'shop.internal:80', domain: d, timeout: 0s",
            "{}",
            "spec.global.timeout",
        ),
        (
            "service: 'shop.internal:80', domain: d, onError: local",
            "{}",
            "spec.global.onError",
        ),
        (good, "", "spec.limits"),
        (good, "{requests: 5}", "spec.limits[0].unit"),
        (good, "{unit: day}", "spec.limits[0].requests"),
        (good, "{requests: 0, unit: day}", "spec.limits[0].requests"),
        (good, "{requests: 5, unit: year}", "spec.limits[0].unit"),
        (good, "{burst: 5}", "spec.limits[0].burst"),
        (good, "{maxKeys: 512}", "spec.limits[0].maxKeys"),
        (good, "{key: [{}]}", "spec.limits[0].key[0]"),
    ] {
        let world = site(&[own(global, limits)]);
        assert_eq!(
            world.paths(Code::SCHEMA_VALIDATION),
            [path],
            "{global} {limits}"
        );
        assert!(
            world.get("a.com", "/").starts_with("fenced"),
            "{global} {limits}"
        );
    }
    // A bare name is a service's of the policy's namespace.
    let world = site(&[own("service: 'gone:80', domain: d", "{}")]);
    assert_eq!(
        world.paths(Code::REFERENCED_RESOURCE_NOT_FOUND),
        ["spec.global.service"]
    );
    assert!(world.get("a.com", "/").starts_with("fenced"));
    assert_eq!(
        world.get("a.com", "/own").split(' ').next(),
        Some("fenced:")
    );
}
