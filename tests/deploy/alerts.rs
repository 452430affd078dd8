//! The alerts, checked and fired by Prometheus' own tool.

use std::process::Command;

use super::crds::{PrometheusRule, Rules};
use super::manifests::{plain, settings, the};
use super::{read, root, run, text};

/// The alerts of the manifest.
pub fn rules() -> Rules {
    let object = the(&plain(), "PrometheusRule", "pingress");
    let rule: PrometheusRule = serde_json::from_value(object).unwrap();
    rule.spec
}

#[test]
fn every_alert_fires_when_it_should_and_none_while_all_is_well() {
    // The manifest's, not the chart's file: what is tested is what is installed.
    let folder = tempfile::tempdir().unwrap();
    let rules = rules();
    std::fs::write(
        folder.path().join("rules.yaml"),
        serde_yaml::to_string(&rules).unwrap(),
    )
    .unwrap();
    let cases = read(&root("tests/deploy/alerts.yaml"));
    std::fs::write(folder.path().join("alerts.yaml"), &cases).unwrap();
    run(Command::new("promtool")
        .current_dir(folder.path())
        .args(["check", "rules", "rules.yaml"]));
    run(Command::new("promtool")
        .current_dir(folder.path())
        .args(["test", "rules", "alerts.yaml"]));
    for alert in rules.groups.iter().flat_map(|group| &group.rules) {
        assert!(
            cases.contains(&format!("{{alertname=\"{}\"}}", alert.alert)),
            "{} is not seen firing in alerts.yaml",
            alert.alert
        );
        assert!(["warning", "critical"].contains(&alert.labels["severity"].as_str()));
        assert!(!alert.annotations["summary"].is_empty());
    }
}

#[test]
fn the_alert_about_connections_follows_the_limit_of_the_settings() {
    let limit = settings(&plain()).gateway.limits.max_connections;
    let rules = rules();
    let mut all = rules.groups.iter().flat_map(|group| &group.rules);
    let alert = all
        .find(|alert| alert.alert == "PingressConnectionsNearLimit")
        .unwrap();
    assert!(alert.expr.ends_with(&format!("> {}", limit / 5 * 4)));
    assert!(alert.annotations["summary"].contains(&format!("of {limit} ")));
}

#[test]
fn the_dashboard_of_the_manifest_is_the_file_to_import() {
    let map = the(&plain(), "ConfigMap", "pingress-dashboard");
    let file = read(&root("deploy/helm/pingress/files/dashboard.json"));
    assert_eq!(text(&map, "/data/pingress.json").trim(), file.trim());
}
