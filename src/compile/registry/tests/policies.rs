//! Traffic policies: overlay, what is honoured, what is not, and what protects.

use std::time::Duration;

use crate::plan::pool::{Keepalive, RetryBudget};
use crate::plan::{Balance, Pool, Protocol};

use super::*;

fn with_rule(spec: &str) -> String {
    service("reviews", "default", &["v1"]) + &rule("reviews", "default", spec)
}

#[test]
fn balancing_connect_timeout_and_upgrade_are_honoured() {
    for (simple, expected) in [
        ("ROUND_ROBIN", Balance::RoundRobin),
        ("LEAST_REQUEST", Balance::LeastRequest),
        ("LEAST_CONN", Balance::LeastRequest),
        ("UNSPECIFIED", Balance::LeastRequest),
        ("RANDOM", Balance::Random),
    ] {
        let yaml = with_rule(&format!(
            "  host: reviews
  trafficPolicy:
    loadBalancer: {{simple: {simple}}}
    connectionPool: {{tcp: {{connectTimeout: 1.5s}}, http: {{h2UpgradePolicy: UPGRADE}}}}"
        ));
        let answers = answer(&yaml, &[ask("reviews")]);
        let cluster = answers.cluster(0);
        assert_eq!(cluster.balancing.policy, expected);
        assert_eq!(cluster.pool.connect_timeout, Duration::from_millis(1500));
        assert_eq!(cluster.protocol, Protocol::H2c);
        assert!(cluster.policy_origin.is_some());
        assert_eq!(answers.findings, []);
    }
}

#[test]
fn without_a_rule_istios_defaults_hold() {
    let answers = answer(&service("reviews", "default", &["v1"]), &[ask("reviews")]);
    let cluster = answers.cluster(0);
    assert_eq!(cluster.balancing.policy, Balance::LeastRequest);
    assert_eq!(cluster.pool.connect_timeout, Duration::from_secs(10));
    assert_eq!(cluster.protocol, Protocol::Http1);
    assert_eq!(cluster.policy_origin, None);
}

const LAYERS: &str = "  host: reviews
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool: {tcp: {connectTimeout: 1s}}
    portLevelSettings:
    - port: {number: 8443}
      loadBalancer: {simple: RANDOM}
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy:
      connectionPool: {http: {h2UpgradePolicy: UPGRADE}}";

#[test]
fn a_subsets_block_replaces_the_rules_block_and_leaves_the_others() {
    let answers = answer(&with_rule(LAYERS), &[ask("reviews").subset("v1")]);
    let cluster = answers.cluster(0);
    assert_eq!(cluster.balancing.policy, Balance::RoundRobin);
    // No deep merge: the rule's connectTimeout went with its block.
    assert_eq!(cluster.pool.connect_timeout, Duration::from_secs(10));
    assert_eq!(cluster.protocol, Protocol::H2c);
}

#[test]
fn gotcha_31_port_level_settings_inherit_nothing() {
    let yaml = with_rule(&LAYERS.replace("8443", "80"));
    let answers = answer(&yaml, &[ask("reviews"), ask("reviews").subset("v1")]);
    let cluster = answers.cluster(0);
    assert_eq!(cluster.balancing.policy, Balance::Random);
    assert_eq!(cluster.pool.connect_timeout, Duration::from_secs(10));
    // The subset lies over what the port-level settings made.
    assert_eq!(answers.cluster(1).balancing.policy, Balance::Random);
    assert_eq!(answers.cluster(1).protocol, Protocol::H2c);
}

#[test]
fn gotcha_32_a_subsets_policy_is_inert_until_a_route_names_the_subset() {
    let answers = answer(&with_rule(LAYERS), &[ask("reviews")]);
    let cluster = answers.cluster(0);
    assert_eq!(cluster.protocol, Protocol::Http1);
    assert_eq!(cluster.pool.connect_timeout, Duration::from_secs(1));
    assert!(answers.finding("PGR0209").message.contains("subset `v1`"));
}

#[test]
fn gotcha_37_an_https_port_does_not_originate_tls() {
    let yaml = service("reviews", "default", &["v1"]).replace("name: http,", "name: https,");
    let answers = answer(&yaml, &[ask("reviews")]);
    assert_eq!(answers.cluster(0).protocol, Protocol::Http1);
    assert_eq!(answers.findings, []);
}

#[test]
fn every_field_that_is_not_honoured_is_reported_with_its_line_and_traffic_is_served() {
    let yaml = with_rule(
        "  host: reviews
  trafficPolicy:
    loadBalancer: {warmup: {duration: 10s}}
    connectionPool:
      tcp: {maxConnections: 5, connectTimeout: 1s, idleTimeout: 1h}
      http: {http1MaxPendingRequests: 1, maxRetries: 0, useClientProtocol: false, idleTimeout: 5s}
    outlierDetection: {consecutive5xxErrors: 3}
    tunnel: {targetHost: a.com, targetPort: 1}",
    );
    let answers = answer(&yaml, &[ask("reviews")]);
    assert_eq!(answers.addresses(0), ["10.0.0.1:8080"]);
    let found = answers.with("PGR0101");
    let paths: Vec<_> = found
        .iter()
        .map(|finding| finding.path.strip_prefix("spec.trafficPolicy.").unwrap())
        .collect();
    assert_eq!(paths, ["tunnel"]);
    let lines: Vec<_> = found
        .iter()
        .filter_map(|finding| Some(finding.origin.as_ref()?.position.line))
        .collect();
    assert!(lines.is_sorted() && lines[0] > 0, "{lines:?}");
}

#[test]
fn every_field_of_a_connection_pool_reaches_the_cluster_and_zero_is_no_limit() {
    let yaml = with_rule(
        "  host: reviews
  trafficPolicy:
    retryBudget: {percent: 12.5, minRetryConcurrency: 7}
    connectionPool:
      tcp:
        maxConnections: 1
        connectTimeout: 2s
        maxConnectionDuration: 3s
        idleTimeout: 4s
        tcpKeepalive: {probes: 5, time: 6s, interval: 7s}
      http:
        http1MaxPendingRequests: 8
        http2MaxRequests: 9
        maxRequestsPerConnection: 10
        maxRetries: 11
        maxConcurrentStreams: 12
        http2KeepAlive: {interval: 13s}",
    );
    let secs = Duration::from_secs;
    let limit = std::num::NonZeroU32::new;
    let expected = Pool {
        connect_timeout: secs(2),
        idle_timeout: Some(secs(4)),
        stream_idle_timeout: Some(secs(4)),
        max_duration: Some(secs(3)),
        keepalive: Some(Keepalive {
            probes: Some(5),
            time: Some(secs(6)),
            interval: Some(secs(7)),
        }),
        max_connections: limit(1),
        max_pending: limit(8),
        max_requests: limit(9),
        max_requests_per_connection: limit(10),
        max_streams: limit(12),
        ping_interval: Some(secs(13)),
        max_retries: limit(11),
        retry_budget: Some(RetryBudget {
            millipercent: 12_500,
            min_concurrency: 7,
        }),
    };
    let answers = answer(&yaml, &[ask("reviews")]);
    assert_eq!(answers.cluster(0).pool, expected);

    let yaml = with_rule(
        "  host: reviews
  trafficPolicy:
    retryBudget: {}
    connectionPool:
      tcp: {maxConnections: 0, idleTimeout: 0s}
      http: {http1MaxPendingRequests: 0, http2MaxRequests: 0, maxRetries: 0, maxRequestsPerConnection: 0, maxConcurrentStreams: 0}",
    );
    let answers = answer(&yaml, &[ask("reviews")]);
    let expected = Pool {
        idle_timeout: None,
        stream_idle_timeout: None,
        retry_budget: Some(RetryBudget::default()),
        ..Pool::default()
    };
    assert_eq!(answers.cluster(0).pool, expected);
}

#[test]
fn the_http_idle_timeout_comes_before_the_tcp_one() {
    let yaml = with_rule(
        "  host: reviews
  trafficPolicy: {connectionPool: {tcp: {idleTimeout: 4s}, http: {idleTimeout: 5s}}}",
    );
    let idle = answer(&yaml, &[ask("reviews")])
        .cluster(0)
        .pool
        .idle_timeout;
    assert_eq!(idle, Some(Duration::from_secs(5)));
}

#[test]
fn a_ping_timeout_other_than_pingoras_is_reported() {
    for (timeout, reported) in [("5s", 0), ("6s", 1)] {
        let yaml = with_rule(&format!(
            "  host: reviews
  trafficPolicy: {{connectionPool: {{http: {{http2KeepAlive: {{interval: 1s, timeout: {timeout}}}}}}}}}"
        ));
        let answers = answer(&yaml, &[ask("reviews")]);
        let found = answers.with("PGR0101");
        assert_eq!(found.len(), reported, "{timeout}");
        assert!(found.iter().all(|finding| {
            finding.path == "spec.trafficPolicy.connectionPool.http.http2KeepAlive.timeout"
        }));
    }
}

#[test]
fn the_protocol_is_the_clients_the_rules_the_meshs_or_the_ports_in_this_order() {
    let cases = [
        // Port name, connectionPool.http, mesh upgrades, spoken.
        ("http", "{idleTimeout: 1s}", false, Protocol::Http1),
        ("http", "{idleTimeout: 1s}", true, Protocol::H2c),
        ("http", "{h2UpgradePolicy: DEFAULT}", true, Protocol::H2c),
        (
            "http",
            "{h2UpgradePolicy: DO_NOT_UPGRADE}",
            true,
            Protocol::Http1,
        ),
        ("http", "{h2UpgradePolicy: UPGRADE}", false, Protocol::H2c),
        (
            "grpc",
            "{h2UpgradePolicy: DO_NOT_UPGRADE}",
            false,
            Protocol::H2c,
        ),
        ("web", "{idleTimeout: 1s}", true, Protocol::Http1),
        ("tcp", "{h2UpgradePolicy: UPGRADE}", false, Protocol::H2c),
        ("http", "{useClientProtocol: true}", true, Protocol::Client),
        (
            "http2",
            "{useClientProtocol: true}",
            false,
            Protocol::Client,
        ),
        ("http2", "{useClientProtocol: false}", false, Protocol::H2c),
    ];
    for (name, http, mesh, expected) in cases {
        let rule =
            format!("  host: reviews\n  trafficPolicy: {{connectionPool: {{http: {http}}}}}");
        let yaml = with_rule(&rule).replace("name: http,", &format!("name: {name},"));
        let options = Options {
            h2_upgrade: mesh,
            ..Options::default()
        };
        let answers = answer_with(&options, &yaml, &[ask("reviews")]);
        assert_eq!(
            answers.cluster(0).protocol,
            expected,
            "{name} {http} {mesh}"
        );
    }
}

fn balancing(block: &str) -> crate::plan::Balancing {
    let yaml = with_rule(&format!(
        "  host: reviews\n  trafficPolicy: {{loadBalancer: {block}}}"
    ));
    let answers = answer(&yaml, &[ask("reviews")]);
    assert_eq!(answers.findings, [], "{block}");
    answers.cluster(0).balancing.clone()
}

#[test]
fn every_form_of_consistent_hash_is_honoured() {
    for (hash, expected) in [
        (
            "httpHeaderName: X-User",
            "ring hash of 1024 by header x-user",
        ),
        ("httpHeaderName: host", "ring hash of 1024 by authority"),
        ("httpHeaderName: ':path'", "ring hash of 1024 by path"),
        (
            "useSourceIp: true, minimumRingSize: 9",
            "ring hash of 9 by client address",
        ),
        (
            "httpQueryParameterName: q, ringHash: {minimumRingSize: 7}",
            "ring hash of 7 by query parameter q",
        ),
        (
            "useSourceIp: true, ringHash: {}",
            "ring hash of 1024 by client address",
        ),
        (
            "httpHeaderName: x, maglev: {}",
            "maglev of 65537 by header x",
        ),
        (
            "httpHeaderName: x, maglev: {tableSize: 251}",
            "maglev of 251 by header x",
        ),
        ("httpCookie: {name: c}", "ring hash of 1024 by cookie c"),
        (
            "httpCookie: {name: c, ttl: 0s}",
            "ring hash of 1024 by cookie c (given for 0ns; HttpOnly)",
        ),
        (
            "httpCookie: {name: c, ttl: 60s, path: /p, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}",
            "ring hash of 1024 by cookie c (given for 60s; Path=/p; SameSite=Lax; Secure; HttpOnly)",
        ),
    ] {
        let balancing = balancing(&format!("{{consistentHash: {{{hash}}}}}"));
        assert_eq!(balancing.to_string(), expected);
    }
}

#[test]
fn warm_up_is_honoured_in_both_forms() {
    for (block, expected) in [
        (
            "{warmup: {duration: 30s}}",
            "least request, warm-up within 30s from 10%, aggression 1",
        ),
        (
            "{simple: ROUND_ROBIN, warmup: {duration: 30s, minimumPercent: 5, aggression: 2.5}}",
            "round robin, warm-up within 30s from 5%, aggression 2.5",
        ),
        (
            "{simple: LEAST_REQUEST, warmupDurationSecs: 5s}",
            "least request, warm-up within 5s from 10%, aggression 1",
        ),
    ] {
        assert_eq!(balancing(block).to_string(), expected);
    }
}

#[test]
fn what_has_no_effect_in_a_load_balancer_is_said() {
    for (block, path) in [
        ("{simple: PASSTHROUGH}", "simple"),
        ("{simple: RANDOM, warmup: {duration: 1s}}", "warmup"),
        (
            "{consistentHash: {useSourceIp: true}, warmupDurationSecs: 1s}",
            "warmupDurationSecs",
        ),
        (
            "{consistentHash: {useSourceIp: true, minimumRingSize: 5, maglev: {}}}",
            "consistentHash.minimumRingSize",
        ),
        (
            "{localityLbSetting: {failover: [{from: a, to: b}]}}",
            "localityLbSetting.failover",
        ),
        (
            "{localityLbSetting: {failoverPriority: [a]}}",
            "localityLbSetting.failoverPriority",
        ),
        (
            "{localityLbSetting: {distribute: [{from: a, to: {a: 100}}]}}",
            "localityLbSetting.distribute",
        ),
    ] {
        let yaml = with_rule(&format!(
            "  host: reviews\n  trafficPolicy: {{loadBalancer: {block}}}"
        ));
        let answers = answer(&yaml, &[ask("reviews")]);
        let finding = answers.finding("PGR0202");
        let expected = format!("spec.trafficPolicy.loadBalancer.{path}");
        assert_eq!(finding.path, expected, "{block}");
        assert_eq!(
            answers.cluster(0).name.as_ref(),
            "outbound|80||reviews.default.svc.cluster.local"
        );
    }
}

#[test]
fn outlier_detection_for_a_failover_may_come_from_the_rule_or_the_subset() {
    let failover = "loadBalancer: {localityLbSetting: {failoverPriority: [a]}}";
    let detection = "outlierDetection: {interval: 1s}";
    for (of_rule, of_subset) in [(failover, detection), (detection, failover)] {
        let yaml = with_rule(&format!(
            "  host: reviews
  trafficPolicy: {{{of_rule}}}
  subsets:
  - {{name: v1, labels: {{version: v1}}, trafficPolicy: {{{of_subset}}}}}"
        ));
        let answers = answer(&yaml, &[ask("reviews").subset("v1")]);
        assert_eq!(answers.with("PGR0202").len(), 0, "{of_rule}");
    }
}
