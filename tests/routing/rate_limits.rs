//! RateLimits: whose requests they limit, to what, and what becomes of wrong ones.

use pingress::base::Code;
use pingress::compile::{Memory, Options};

use crate::support::{EDGE, World, answers, get, load_after, routes, world};

const PATHS: &str = "{requests: 10, unit: minute}";

fn limit(name: &str, target: &str, rest: &str) -> String {
    format!(
        "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {{name: {name}}}\nspec: {{targetRef: {{{target}}}, {rest}}}\n"
    )
}

fn limited(target: &str) -> String {
    limit("l", target, &format!("limits: [{PATHS}]"))
}

/// Rules `cart` and an unnamed one for `a.com`, and one for `b.com`.
fn site(objects: &[&str]) -> World {
    let cart = answers("{uri: {prefix: /cart}}", "cart").replace("  - {", "  - {name: cart, ");
    let shop = routes("shop", "a.com", &(cart + &answers("", "rest")));
    let other = routes("other", "b.com", &answers("", "other"));
    let mut documents = vec![EDGE, &shop, &other];
    documents.extend(objects);
    world(&documents)
}

/// What requests to both rules of `a.com`, to `b.com` and to an unknown host pass.
fn passed(world: &World) -> [usize; 4] {
    let asks = [
        ("a.com", "/cart"),
        ("a.com", "/"),
        ("b.com", "/"),
        ("c.com", "/"),
    ];
    asks.map(|(host, path)| world.passes(&get(host, path)).len())
}

#[test]
fn a_limit_is_in_front_of_what_its_target_names_and_of_nothing_else() {
    for (target, expected) in [
        ("kind: Gateway, name: edge", [1, 1, 1, 1]),
        ("kind: VirtualService, name: shop", [1, 1, 0, 0]),
        (
            "kind: VirtualService, name: shop, sectionName: cart",
            [1, 0, 0, 0],
        ),
        (
            "kind: VirtualService, name: other, namespace: default",
            [0, 0, 1, 0],
        ),
    ] {
        let world = site(&[&limited(target)]);
        assert_eq!(world.troubles(), [""; 0], "{target}");
        assert_eq!(passed(&world), expected, "{target}");
    }
}

#[test]
fn limits_of_a_gateway_a_service_and_a_rule_all_hold_in_the_order_of_objects() {
    let world = site(&[
        &limit(
            "c",
            "kind: VirtualService, name: shop, sectionName: cart",
            &format!("limits: [{PATHS}]"),
        ),
        &limit(
            "b",
            "kind: VirtualService, name: shop",
            &format!("limits: [{PATHS}]"),
        ),
        &limit(
            "a",
            "kind: Gateway, name: edge",
            &format!("limits: [{PATHS}]"),
        ),
    ]);
    let cart = ["a", "b", "c"].map(|name| format!("RateLimit default/{name}"));
    assert_eq!(world.passes(&get("a.com", "/cart")), cart);
    assert_eq!(world.passes(&get("a.com", "/")), cart[..2]);
    assert_eq!(world.passes(&get("b.com", "/")), cart[..1]);
}

#[test]
fn what_tells_clients_apart_is_asked_before_what_all_share() {
    let keyed = "limits: [{requests: 1, unit: day, key: [{clientAddress: {}}]}]";
    let target = "kind: Gateway, name: edge";
    let world = site(&[
        &limit("a", target, &format!("limits: [{PATHS}]")),
        &limit("b", target, keyed),
        &limit("c", target, &format!("limits: [{PATHS}]")),
        &limit("d", target, keyed),
    ]);
    let order = ["b", "d", "a", "c"].map(|name| format!("RateLimit default/{name}"));
    assert_eq!(world.passes(&get("a.com", "/")), order);
}

#[test]
fn on_a_shared_port_a_gateways_limit_is_in_front_of_its_hosts_only() {
    let second = EDGE
        .replace("name: edge", "name: second")
        .replace("'*'", "b.com");
    let edge = EDGE.replace("'*'", "a.com");
    let shop = routes("shop", "a.com", &answers("", "a"));
    let other = routes("other", "b.com", &answers("", "b")).replace("[edge]", "[second]");
    let limit = limited("kind: Gateway, name: second");
    let world = world(&[&edge, &second, &shop, &other, &limit]);
    assert_eq!(passed(&world), [0, 0, 1, 0]);
}

#[test]
fn a_limit_of_a_rule_that_delegates_is_in_front_of_what_it_delegates_to() {
    let root = "  - {name: cart, match: [{uri: {prefix: /cart}}], delegate: {name: leaf}}\n  - {name: old, match: [{uri: {prefix: /old}}], delegate: {name: leaf}}\n";
    let leaf = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: leaf}}\nspec:\n  http:\n{}",
        answers("", "leaf")
    );
    for (target, expected) in [
        ("kind: VirtualService, name: shop", [1, 1]),
        (
            "kind: VirtualService, name: shop, sectionName: cart",
            [1, 0],
        ),
        ("kind: VirtualService, name: leaf", [1, 1]),
    ] {
        let world = world(&[
            EDGE,
            &routes("shop", "a.com", root),
            &leaf,
            &limited(target),
        ]);
        assert_eq!(world.get("a.com", "/old"), "leaf");
        let passed = ["/cart", "/old"].map(|path| world.passes(&get("a.com", path)).len());
        assert_eq!(passed, expected, "{target}");
    }
}

#[test]
fn every_word_of_a_limit_has_its_meaning() {
    for (rest, expected) in [
        (
            "limits: [{requests: 100, unit: minute}]",
            "100 per 60s, at most 100 at once",
        ),
        (
            "limits: [{requests: 5, unit: second, burst: 20, key: [{clientAddress: {}}]}]",
            "5 per 1s, at most 20 at once for each client address (IPv4 /32, IPv6 /64)",
        ),
        (
            "limits: [{requests: 1, unit: hour, key: [{header: X-Key}, {cookie: id}, {query: q}, {path: '/users/{id}/*'}]}]",
            "1 per 3600s, at most 1 at once for each header x-key and for each cookie id and for each query parameter q and for each path /users/{id}/*",
        ),
        (
            "limits: [{requests: 2, unit: day, maxKeys: 1024, key: [{clientAddress: {ipv4PrefixLength: 24, ipv6PrefixLength: 48}}]}]",
            "2 per 86400s, at most 2 at once for each client address (IPv4 /24, IPv6 /48)",
        ),
    ] {
        let world = site(&[&limit("l", "kind: Gateway, name: edge", rest)]);
        assert_eq!(world.troubles(), [""; 0], "{rest}");
        let limit = &world.compiled.plan.limits[0].policy.limits[0];
        assert_eq!(limit.to_string(), expected);
    }
    for (rest, expected) in [
        (
            "mode: enforce",
            "refused with 429, retry-after said, ratelimit said",
        ),
        (
            "headers: x-ratelimit",
            "refused with 429, retry-after said, x-ratelimit-* said",
        ),
        ("headers: none", "refused with 429, retry-after said"),
        ("mode: observe, headers: both", "observed, never refused"),
    ] {
        let rest = format!("limits: [{PATHS}], {rest}");
        let world = site(&[&limit("l", "kind: Gateway, name: edge", &rest)]);
        assert_eq!(world.compiled.plan.limits[0].policy.to_string(), expected);
    }
}

#[test]
fn a_wrong_limit_fences_what_it_is_for_and_says_where_it_is_wrong() {
    let target = "kind: VirtualService, name: shop";
    for (rest, path) in [
        ("limits: []", "spec.limits"),
        (
            "scope: gateway, global: {service: 'a.internal:80', domain: d}, limits: [{}]",
            "spec.scope",
        ),
        (
            "scope: replica, redis: {url: 'redis://a:6379'}, limits: [{requests: 5, unit: second}]",
            "spec.scope",
        ),
        (
            "limits: [{requests: 0, unit: minute}]",
            "spec.limits[0].requests",
        ),
        ("limits: [{unit: minute}]", "spec.limits[0].requests"),
        ("limits: [{requests: 5}]", "spec.limits[0].unit"),
        ("limits: [{requests: 5, unit: year}]", "spec.limits[0].unit"),
        (
            "limits: [{requests: 2000000, unit: second}]",
            "spec.limits[0].requests",
        ),
        (
            "limits: [{requests: 5, unit: second, burst: 0}]",
            "spec.limits[0].burst",
        ),
        (
            "limits: [{requests: 1, unit: day, burst: 400}]",
            "spec.limits[0].burst",
        ),
        (
            "limits: [{requests: 5, unit: second, maxKeys: 3}]",
            "spec.limits[0].maxKeys",
        ),
        (
            "limits: [{requests: 5, unit: second, key: [{}]}]",
            "spec.limits[0].key[0]",
        ),
        (
            "limits: [{requests: 5, unit: second, key: [{header: a, query: b}]}]",
            "spec.limits[0].key[0]",
        ),
        (
            "limits: [{requests: 5, unit: second, key: [{header: 'a b'}]}]",
            "spec.limits[0].key[0].header",
        ),
        (
            "limits: [{requests: 5, unit: second, key: [{path: a}]}]",
            "spec.limits[0].key[0].path",
        ),
        (
            "limits: [{requests: 5, unit: second, key: [{clientAddress: {ipv4PrefixLength: 33}}]}]",
            "spec.limits[0].key[0].clientAddress.ipv4PrefixLength",
        ),
        (
            "limits: [{requests: 5, unit: second}], mode: perhaps",
            "spec.mode",
        ),
        (
            "limits: [{requests: 5, unit: second}], headers: all",
            "spec.headers",
        ),
    ] {
        let world = site(&[&limit("l", target, rest)]);
        assert_eq!(world.paths(Code::SCHEMA_VALIDATION), [path], "{rest}");
        assert_eq!(world.found(Code::UNENFORCED_PROTECTION).len(), 1, "{rest}");
        assert!(world.get("a.com", "/").starts_with("fenced"), "{rest}");
        assert_eq!(world.get("b.com", "/"), "other", "{rest}");
        assert!(world.compiled.plan.limits.is_empty());
    }
    let unknown = limit("l", target, &format!("limits: [{PATHS}], memcached: {{}}"));
    assert!(
        site(&[&unknown])
            .get("a.com", "/cart")
            .starts_with("fenced")
    );
    let section = limit(
        "l",
        "kind: VirtualService, name: shop, sectionName: cart",
        "limits: [{requests: 0, unit: day}]",
    );
    let world = site(&[&section]);
    assert!(world.get("a.com", "/cart").starts_with("fenced"));
    assert_eq!(world.get("a.com", "/"), "rest");
    let gateway = limit("l", "kind: Gateway, name: edge", "limits: []");
    assert!(site(&[&gateway]).get("c.com", "/").starts_with("fenced"));
}

#[test]
fn a_limit_may_be_counted_in_redis_and_says_where_and_what_if_not() {
    let target = "kind: VirtualService, name: shop";
    let redis = |redis: &str| {
        limit(
            "l",
            target,
            &format!("limits: [{PATHS}], redis: {{{redis}}}"),
        )
    };
    for (written, expected) in [
        (
            "url: redis://r.shop",
            "counted in redis://r.shop:6379/0 within 100ms, counted here if it cannot be asked, refused with 429, retry-after said, ratelimit said",
        ),
        (
            "url: 'redis://user:secret@10.0.0.1:7000/3', timeout: 20ms, onError: allow",
            "counted in redis://10.0.0.1:7000/3 within 20ms, served if it cannot be asked, refused with 429, retry-after said, ratelimit said",
        ),
        (
            "url: 'redis://[::1]', onError: deny",
            "counted in redis://[::1]:6379/0 within 100ms, 500 if it cannot be asked, refused with 429, retry-after said, ratelimit said",
        ),
    ] {
        let world = site(&[&redis(written)]);
        assert_eq!(world.troubles(), [""; 0], "{written}");
        let policy = &world.compiled.plan.limits[0].policy;
        assert_eq!(policy.to_string(), expected);
        assert_eq!(policy.lines(), ["10 per 60s, at most 10 at once"]);
        assert!(!world.compiled.plan.render().contains("secret"));
    }
    for (written, path) in [
        ("timeout: 1s", "spec.redis.url"),
        ("url: r.shop", "spec.redis.url"),
        ("url: http://r.shop", "spec.redis.url"),
        ("url: rediss://r.shop", "spec.redis.url"),
        ("url: 'redis://r.shop:0'", "spec.redis.url"),
        ("url: 'redis://r.shop:x'", "spec.redis.url"),
        ("url: redis://r.shop/db", "spec.redis.url"),
        ("url: 'redis://r.shop/0?protocol=resp3'", "spec.redis.url"),
        ("url: redis://r.shop, timeout: 0s", "spec.redis.timeout"),
        ("url: redis://r.shop, onError: hope", "spec.redis.onError"),
    ] {
        let world = site(&[&redis(written)]);
        assert_eq!(world.paths(Code::SCHEMA_VALIDATION), [path], "{written}");
        assert!(world.get("a.com", "/").starts_with("fenced"), "{written}");
    }
    let both = "url: redis://r.shop}, global: {service: 'a:80', domain: d";
    let found = site(&[&redis(both)]).paths(Code::SCHEMA_VALIDATION);
    assert_eq!(found, ["spec.redis"]);
}

#[test]
fn a_target_that_cannot_be_read_fences_everything() {
    let broken = limit(
        "l",
        "kind: Service, name: shop",
        &format!("limits: [{PATHS}]"),
    );
    assert!(site(&[&broken]).get("b.com", "/").starts_with("fenced"));
}

#[test]
fn a_target_that_is_not_there_is_said() {
    for (target, code) in [
        (
            "kind: Gateway, name: gone",
            Code::REFERENCED_RESOURCE_NOT_FOUND,
        ),
        (
            "kind: VirtualService, name: gone",
            Code::REFERENCED_RESOURCE_NOT_FOUND,
        ),
        (
            "kind: VirtualService, name: shop, sectionName: gone",
            Code::REFERENCED_RESOURCE_NOT_FOUND,
        ),
        ("kind: Gateway, name: foreign", Code::NOT_FOR_THIS_GATEWAY),
        ("kind: VirtualService, name: idle", Code::UNUSED_OBJECT),
    ] {
        let foreign = EDGE
            .replace("name: edge", "name: foreign")
            .replace("ingressgateway", "x");
        let idle = routes("idle", "d.com", &answers("", "d")).replace("[edge]", "[foreign]");
        let world = site(&[&foreign, &idle, &limited(target)]);
        assert_eq!(
            world
                .paths(code)
                .iter()
                .filter(|path| *path == "spec.targetRef")
                .count(),
            1,
            "{target}"
        );
        assert_eq!(passed(&world), [0; 4], "{target}");
    }
}

#[test]
fn a_limit_that_becomes_wrong_goes_on_as_it_was() {
    let shop = routes("shop", "a.com", &answers("", "a"));
    let mut memory = Memory::default();
    let mut load = |limit: &str| {
        let documents = [EDGE, &shop, limit];
        load_after(&documents, &Options::default(), &mut memory)
    };
    let target = "kind: Gateway, name: edge";
    load(&limited(target));
    let world = load(&limit(
        "l",
        target,
        "limits: [{requests: -1, unit: second}]",
    ));
    assert_eq!(world.get("a.com", "/"), "a");
    assert_eq!(world.passes(&get("a.com", "/")), ["RateLimit default/l"]);
    assert_eq!(world.found(Code::SERVES_PREVIOUS_VERSION).len(), 1);
}

fn policy(kind: &str, target: &str, rest: &str) -> String {
    limit("l", target, rest).replace("kind: RateLimit", &format!("kind: {kind}"))
}

/// What a request to a rule meets, as it prints.
fn printed(world: &World) -> Vec<String> {
    let text = world.compiled.plan.render();
    let lines = text.lines().filter(|line| line.contains(" passes "));
    let lines = lines.map(|line| line.trim().split(" at ").next().unwrap_or_default());
    lines.map(str::to_owned).collect()
}

#[test]
fn lists_of_addresses_and_limits_of_bodies_are_in_front_of_their_targets() {
    let rule = "kind: VirtualService, name: shop, sectionName: cart";
    for (kind, rest, expected) in [
        (
            "AccessList",
            "allow: [10.0.0.0/8, '::1'], deny: [10.1.0.0/16]",
            "passes AccessList default/l (only clients from 10.0.0.0/8, ::1/128 but none from 10.1.0.0/16)",
        ),
        (
            "BodyLimit",
            "maxBytes: 1048576",
            "passes BodyLimit default/l (1048576 bytes of a body)",
        ),
    ] {
        let world = site(&[&policy(kind, rule, rest)]);
        assert_eq!(world.troubles(), [""; 0], "{kind}");
        assert_eq!(printed(&world), [expected]);
        let world = site(&[&policy(kind, "kind: Gateway, name: edge", rest)]);
        assert_eq!(printed(&world), [expected]);
    }
}

#[test]
fn a_wrong_list_or_limit_of_bodies_fences_its_target() {
    for (kind, rest, path) in [
        ("AccessList", "allow: []", "spec"),
        (
            "AccessList",
            "allow: [10.0.0.0/8, 10.0.0.0/33]",
            "spec.allow[1]",
        ),
        ("AccessList", "deny: [here]", "spec.deny[0]"),
        ("BodyLimit", "maxBytes: null", "spec.maxBytes"),
    ] {
        let target = "kind: VirtualService, name: shop";
        let world = site(&[&policy(kind, target, rest)]);
        assert_eq!(world.paths(Code::SCHEMA_VALIDATION), [path], "{rest}");
        assert!(world.get("a.com", "/").starts_with("fenced"), "{rest}");
        assert_eq!(world.get("b.com", "/"), "other", "{rest}");
    }
}

#[test]
fn a_limit_of_the_whole_gateway_is_divided_among_as_many_replicas_as_the_settings_say() {
    let rest = "scope: gateway, limits: [{requests: 10, unit: minute}, {requests: 2, unit: minute, key: [{header: x}]}]";
    let shop = routes("shop", "a.com", &answers("", "a"));
    let limit = limit("l", "kind: Gateway, name: edge", rest);
    let load = |replicas: Option<u32>| {
        let options = Options {
            replicas: replicas.and_then(std::num::NonZeroU32::new),
            ..Options::default()
        };
        load_after(&[EDGE, &shop, &limit], &options, &mut Memory::default())
    };
    let shown = |world: &World| {
        let limits = &world.compiled.plan.limits[0].policy.limits;
        limits.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let world = load(Some(3));
    assert_eq!(world.troubles(), [""; 0]);
    assert_eq!(
        shown(&world),
        [
            "10 per 60s over 3 replicas, at most 3 at once",
            "2 per 60s over 3 replicas, at most 1 at once for each header x",
        ]
    );
    for (replicas, paths) in [(Some(1), vec![]), (None, vec!["spec.scope"])] {
        let world = load(replicas);
        assert_eq!(world.paths(Code::INERT_FIELD), paths, "{replicas:?}");
        assert_eq!(shown(&world)[0], "10 per 60s, at most 10 at once");
    }
}

#[test]
fn a_scope_that_does_not_exist_fences_its_target() {
    let rest = format!("scope: cluster, limits: [{PATHS}]");
    let world = site(&[&limit("l", "kind: VirtualService, name: shop", &rest)]);
    assert_eq!(world.paths(Code::SCHEMA_VALIDATION), ["spec.scope"]);
    assert!(world.get("a.com", "/").starts_with("fenced"));
}
