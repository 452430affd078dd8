//! Alerts, dashboard and autoscaling ask only for what a gateway really exposes.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use super::alerts::rules;
use super::live::Live;
use super::{read, root, text};

/// Every expression of the dashboard, as Grafana sends it.
fn panels() -> Vec<(String, String)> {
    let file = read(&root("deploy/helm/pingress/files/dashboard.json"));
    let dashboard: Value = serde_json::from_str(&file).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = text(target, "/expr")
                .replace("$namespace", ".*")
                .replace("$__rate_interval", "1m");
            assert!(!expression.contains('$'), "{expression}");
            found.push((text(panel, "/title").to_owned(), expression));
        }
    }
    assert!(found.len() > 30);
    found
}

/// The selectors of an expression: `name{labels}`.
fn selectors(expression: &str) -> Vec<String> {
    let selector = Regex::new(r"[a-z_]+\{[^}]*\}").unwrap();
    let found = selector.find_iter(expression);
    found.map(|found| found.as_str().to_owned()).collect()
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\b(istio_re[a-z_]+|pingress_[a-z_]+)").unwrap();
    let found = name.find_iter(text);
    found.map(|found| found.as_str().to_owned()).collect()
}

#[test]
fn every_query_of_alerts_and_dashboard_finds_series_of_a_running_gateway() {
    let live = Live::start();
    let exposition = live.exposition();
    let mut wrong = Vec::new();
    for (title, expression) in panels() {
        match live.query(&expression) {
            Ok(result) if result.is_empty() => {
                wrong.push(format!("{title}: {expression} finds nothing"));
            }
            Ok(_) => {}
            Err(error) => wrong.push(format!("{title}: {expression}: {error}")),
        }
    }
    let mut asked = 0;
    for alert in rules().groups.iter().flat_map(|group| &group.rules) {
        if let Err(error) = live.query(&alert.expr) {
            wrong.push(format!("{}: {error}", alert.alert));
        }
        let selectors = selectors(&alert.expr);
        assert!(!selectors.is_empty(), "{}", alert.expr);
        for selector in selectors {
            asked += 1;
            let found = live.query(&selector).unwrap();
            if found.is_empty() {
                wrong.push(format!("{}: {selector} finds nothing", alert.alert));
            }
        }
    }
    assert!(asked > 15);
    assert!(wrong.is_empty(), "{wrong:#?}\n{exposition}");

    // What is only in comments and prose is not asked above.
    let mut mentioned = BTreeSet::new();
    for file in [
        "deploy/README.md",
        "deploy/kubernetes/autoscaler.yaml",
        "deploy/helm/pingress/values.yaml",
        "deploy/helm/pingress/files/rules.yaml",
        "deploy/helm/pingress/files/dashboard.json",
    ] {
        mentioned.extend(names(&read(&root(file))));
    }
    let exposed = names(&exposition);
    let unknown: Vec<&String> = mentioned.difference(&exposed).collect();
    assert!(unknown.is_empty(), "no gateway exposes {unknown:?}");
}

#[test]
fn a_query_for_a_metric_that_does_not_exist_would_be_found() {
    let wrong = "sum(rate(pingress_connectionz_open{job=\"pingress\"}[1m]))";
    assert_eq!(
        selectors(wrong),
        ["pingress_connectionz_open{job=\"pingress\"}"]
    );
    assert!(names(wrong).contains("pingress_connectionz_open"));
}
