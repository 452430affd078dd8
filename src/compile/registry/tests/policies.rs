//! Traffic policies: overlay, what is honoured, what is not, and what protects.

use std::time::Duration;

use crate::plan::{Balance, Protocol};

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
    loadBalancer:
      consistentHash: {httpHeaderName: x-user}
      localityLbSetting: {enabled: true}
      warmup: {duration: 10s}
    connectionPool:
      tcp: {maxConnections: 5, connectTimeout: 1s, idleTimeout: 1h}
      http: {http1MaxPendingRequests: 1, maxRetries: 0, useClientProtocol: false, idleTimeout: 5s}
    outlierDetection: {consecutive5xxErrors: 3}
    proxyProtocol: {version: V1}
    portLevelSettings:
    - port: {number: 1}
      loadBalancer: {simple: PASSTHROUGH}",
    );
    let answers = answer(&yaml, &[ask("reviews")]);
    assert_eq!(answers.addresses(0), ["10.0.0.1:8080"]);
    let found = answers.with("PGR0101");
    let paths: Vec<_> = found
        .iter()
        .map(|finding| finding.path.strip_prefix("spec.trafficPolicy.").unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "loadBalancer.consistentHash",
            "loadBalancer.localityLbSetting",
            "loadBalancer.warmup",
            "connectionPool.tcp.maxConnections",
            "connectionPool.tcp.idleTimeout",
            "connectionPool.http.http1MaxPendingRequests",
            "connectionPool.http.idleTimeout",
            "proxyProtocol",
            "portLevelSettings[0].loadBalancer.simple",
        ]
    );
    let lines: Vec<_> = found
        .iter()
        .filter_map(|finding| Some(finding.origin.as_ref()?.position.line))
        .collect();
    assert!(lines.is_sorted() && lines[0] > 0, "{lines:?}");
}

const TLS: &str = "  host: reviews
  trafficPolicy: {tls: {mode: SIMPLE}}
  subsets:
  - {name: plain, trafficPolicy: {tls: {mode: DISABLE}}}
  - {name: inherits}";

#[test]
fn tls_to_the_origin_fences_the_traffic_it_protects_and_no_other() {
    let asks = [
        ask("reviews"),
        ask("reviews").subset("plain"),
        ask("reviews").subset("inherits"),
    ];
    let answers = answer(&with_rule(TLS), &asks);
    assert!(answers.fence(0).reason.contains("TLS (SIMPLE)"));
    assert_eq!(answers.cluster(1).port, 80);
    assert_eq!(answers.fence(0), answers.fence(2));
    let finding = answers.finding("PGR0102");
    assert_eq!(finding.path, "spec.trafficPolicy.tls");
    assert!(
        finding.hint.contains("`DestinationRule/default/reviews`"),
        "{}",
        finding.hint
    );
}

#[test]
fn accepted_tls_is_served_in_plain_text_with_a_warning() {
    for (entry, accepted) in [
        ("DestinationRule", true),
        ("DestinationRule/default/reviews", true),
        ("DestinationRule/default/ratings", false),
        ("DestinationRule/default", false),
        ("AuthorizationPolicy", false),
    ] {
        let options = Options {
            accept_unenforced: vec![entry.into()],
            ..Options::default()
        };
        let answers = answer_with(&options, &with_rule(TLS), &[ask("reviews")]);
        let served = matches!(answers.resolved[0], Resolved::Cluster(_));
        assert_eq!(served, accepted, "{entry}");
        assert_eq!(
            answers.with("PGR0107").len(),
            usize::from(accepted),
            "{entry}"
        );
    }
}

#[test]
fn mesh_tls_fences_like_any_other() {
    let yaml = with_rule("  host: reviews\n  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
    assert!(
        answer(&yaml, &[ask("reviews")])
            .fence(0)
            .reason
            .contains("ISTIO_MUTUAL")
    );
}

#[test]
fn outlier_detection_is_overlaid_whole_and_inherits_nothing_at_a_port() {
    let yaml = with_rule(
        "  host: reviews
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3, maxEjectionPercent: 50}
  subsets:
  - {name: inherits}
  - name: own
    trafficPolicy: {outlierDetection: {interval: 1s}}
  - name: port
    trafficPolicy:
      portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]",
    );
    let asks = ["inherits", "own", "port"].map(|subset| ask("reviews").subset(subset));
    let answers = answer(&yaml, &asks);
    let outlier = |index| answers.cluster(index).outlier.clone();
    let inherited = outlier(0).unwrap();
    assert_eq!(inherited.consecutive_5xx.unwrap().get(), 3);
    assert_eq!(inherited.max_ejection_percent, 50);
    let own = outlier(1).unwrap();
    assert_eq!(own.consecutive_5xx.unwrap().get(), 5);
    assert_eq!(own.max_ejection_percent, 10);
    assert_eq!(own.interval, Duration::from_secs(1));
    assert_eq!(outlier(2), None);
}

#[test]
fn outlier_fields_without_effect_are_reported_with_their_line() {
    let yaml = with_rule(
        "  host: reviews
  trafficPolicy:
    outlierDetection:
      consecutiveErrors: 7
      maxEjectionPercent: 0",
    );
    let answers = answer(&yaml, &[ask("reviews")]);
    let paths: Vec<_> = answers
        .with("PGR0202")
        .iter()
        .map(|finding| finding.path.clone())
        .collect();
    let block = "spec.trafficPolicy.outlierDetection";
    assert_eq!(
        paths,
        [
            format!("{block}.consecutiveErrors"),
            format!("{block}.maxEjectionPercent")
        ]
    );
    assert!(answers.with("PGR0101").is_empty());
}
