//! Limits that gateways share through Redis: one budget for several processes, and what is declared
//! for when Redis is away.

use crate::harness::{Gateway, Origin, RedisServer, Start, await_until};

const HOST: &str = "shop.example.com";

fn start(origin: &Origin, redis: &str, limits: &str) -> Start {
    let limit = format!(
        "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {{name: limit}}\nspec:\n  targetRef: {{kind: VirtualService, name: shop}}\n  redis: {{{redis}}}\n  limits: [{limits}]\n"
    );
    Start::one_service("shop", HOST, origin.port).file("limit.yaml", limit)
}

/// How many of so many requests with a key were served; no other answer than a refusal is good.
fn served(gateway: &Gateway, key: &str, count: usize) -> usize {
    let mut client = gateway.client();
    let header = format!("X-Key: {key}");
    let statuses = (0..count).map(|_| client.get(HOST, "/", &[&header]).status);
    let statuses: Vec<u16> = statuses.collect();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)));
    statuses.iter().filter(|status| **status == 200).count()
}

fn statuses(gateway: &Gateway, count: usize) -> Vec<u16> {
    let mut client = gateway.client();
    let status = |_| client.get(HOST, "/", &[]).status;
    (0..count).map(status).collect()
}

fn errors(gateway: &Gateway) -> u64 {
    let metrics = gateway.metrics();
    let family = "pingress_rate_limit_errors_total{";
    let line = metrics.lines().find(|line| line.starts_with(family));
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or_else(|| panic!("{metrics}"))
}

#[test]
fn three_gateways_share_one_budget_exactly_however_uneven_their_traffic_is() {
    let origin = Origin::echo("shop");
    let redis = RedisServer::start();
    // One a day comes back: no time that a test may take makes a difference.
    let limits = "{requests: 1, unit: day, burst: 200, key: [{header: x-key}]}, {requests: 1, unit: day, burst: 300}";
    let config = format!("url: {}, timeout: 10s, onError: deny", redis.url());
    let gateways = [(); 3].map(|()| start(&origin, &config, limits).ready());
    let admitted: usize = std::thread::scope(|scope| {
        let skewed = gateways.iter().zip([400, 60, 20]);
        let clients = skewed.flat_map(|(gateway, count)| {
            ["a", "b"].map(|key| scope.spawn(move || served(gateway, key, count)))
        });
        let clients: Vec<_> = clients.collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    // Of 480 requests of each key, no more than 200 may pass, and of all no more than 300.
    assert_eq!(admitted, 300);
    // Nobody gets more by asking elsewhere.
    assert_eq!(
        gateways.each_ref().map(|gateway| served(gateway, "c", 1)),
        [0; 3]
    );
    assert!(gateways.iter().all(|gateway| errors(gateway) == 0));
    // Nothing of a request stands in Redis, and everything there goes by itself.
    let keys = redis.keys();
    assert_eq!(keys.len(), 3, "{keys:?}");
    for key in keys {
        assert!(
            key.starts_with("pingress:{RateLimit default/limit}:"),
            "{key}"
        );
        assert!(redis.expires(&key), "{key}");
    }
}

#[test]
fn a_shared_limit_refuses_tells_and_is_explained_as_one_of_its_own() {
    let origin = Origin::echo("shop");
    let redis = RedisServer::start();
    let config = format!("url: '{}/3', timeout: 10s", redis.url());
    let gateway = start(&origin, &config, "{requests: 2, unit: day}").ready();
    let mut client = gateway.client();
    let first = client.get(HOST, "/", &[]);
    assert_eq!(first.status, 200);
    assert_eq!(
        first.header("ratelimit-policy"),
        Some("\"limit\";q=2;w=86400")
    );
    assert_eq!(first.header("ratelimit"), Some("\"limit\";r=1;t=43200"));
    assert_eq!(client.get(HOST, "/", &[]).status, 200);
    let refused = client.get(HOST, "/", &[]);
    assert_eq!(
        (refused.status, &*refused.body),
        (429, "local_rate_limited")
    );
    assert_eq!(refused.header("retry-after"), Some("43200"));
    let line = gateway.await_log(" 429 ");
    assert!(line.contains(" 429 RL "), "{line}");
    let metrics = gateway.metrics();
    for (result, count) in [
        ("allowed", 2),
        ("limited", 1),
        ("unchecked", 0),
        ("denied", 0),
    ] {
        let sample = format!(
            "policy=\"RateLimit default/limit\",limit=\"0\",result=\"{result}\"}} {count}\n"
        );
        assert!(metrics.contains(&sample), "{metrics}");
    }
    let text = gateway
        .admin(&format!("/explain?url=http%3A%2F%2F{HOST}%2F"))
        .body;
    let expected = format!(
        "counted in {}/3 within 10s, counted here if it cannot be asked, refused with 429",
        redis.url()
    );
    assert!(text.contains(&expected), "{text}");
}

#[test]
fn what_is_declared_holds_while_redis_is_away_and_it_is_asked_again_when_it_is_back() {
    let origin = Origin::echo("shop");
    for (on_error, expected) in [
        ("allow", [200; 10]),
        ("deny", [500; 10]),
        // Two of its own, and none of what Redis knows.
        ("local", [200, 200, 429, 429, 429, 429, 429, 429, 429, 429]),
    ] {
        let mut redis = RedisServer::start();
        let config = format!("url: {}, timeout: 0.25s, onError: {on_error}", redis.url());
        let gateway = start(&origin, &config, "{requests: 2, unit: day}").ready();
        await_until("Redis counts", || {
            gateway.get(HOST, "/");
            (!redis.keys().is_empty()).then_some(())
        });
        let before = errors(&gateway);
        redis.kill();
        let seen = statuses(&gateway, 10);
        if before == 0 {
            assert_eq!(seen, expected, "{on_error}");
        }
        assert_eq!(errors(&gateway), before + 10, "{on_error}");
        redis.start_again();
        // It has forgotten everything, the script as well.
        let known = errors(&gateway);
        await_until("Redis counts again", || {
            gateway.get(HOST, "/");
            (!redis.keys().is_empty()).then_some(())
        });
        assert_eq!(*statuses(&gateway, 5).last().unwrap(), 429, "{on_error}");
        assert!(errors(&gateway) >= known);
    }
}

#[test]
fn a_redis_that_takes_connections_and_says_nothing_holds_no_request_up() {
    let origin = Origin::echo("shop");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let config = format!("url: 'redis://127.0.0.1:{port}', timeout: 0.05s, onError: deny");
    let gateway = start(&origin, &config, "{requests: 2, unit: day}").ready();
    assert_eq!(statuses(&gateway, 20), [500; 20]);
    let line = gateway.await_log(" 500 ");
    assert!(line.contains(" 500 RLSE rate_limiter_error "), "{line}");
}

#[test]
fn a_client_that_leaves_ends_its_wait_for_redis() {
    let origin = Origin::echo("shop");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let config = format!("url: 'redis://127.0.0.1:{port}', timeout: 3600s, onError: deny");
    let gateway = start(&origin, &config, "{requests: 2, unit: day}").ready();
    let mut client = gateway.client();
    client.write(b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
    drop(client);
    gateway.await_log(" 0 DC ");
    await_until("nothing of the request is left", || {
        let metrics = gateway.metrics();
        metrics
            .contains("\npingress_connections_open 0\n")
            .then_some(())
    });
    assert_eq!(errors(&gateway), 0);
}
