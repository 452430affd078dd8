//! Outlier detection: overlay, and fields that change nothing.

use std::time::Duration;

use super::*;

fn with_rule(spec: &str) -> String {
    service("reviews", "default", &["v1"]) + &rule("reviews", "default", spec)
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
