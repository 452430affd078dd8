//! Which DestinationRule holds, and how several become one.

use crate::plan::Balance;

use super::*;

const V1: &str = "  subsets: [{name: v1, labels: {version: v1}}]";

fn balanced(host: &str, simple: &str) -> String {
    format!("  host: {host}\n  trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}")
}

fn edge() -> Options {
    Options {
        namespace: "edge".into(),
        ..Options::default()
    }
}

#[test]
fn the_gateways_namespace_comes_before_the_services_and_that_before_the_root() {
    let host = "reviews.prod.svc.cluster.local";
    let service = service("reviews", "prod", &["v1"]);
    let in_root = rule("root", "istio-system", &balanced(host, "RANDOM"));
    let in_prod = rule("prod", "prod", &balanced("reviews", "ROUND_ROBIN"));
    let in_edge = rule("edge", "edge", &balanced(host, "LEAST_REQUEST"));
    let elsewhere = rule("far", "staging", &balanced(host, "RANDOM"));
    let balance = |rules: &[&str]| {
        let yaml = service.clone() + &rules.concat();
        answer_with(&edge(), &yaml, &[ask(host)])
            .cluster(0)
            .balancing
            .policy
    };
    assert_eq!(balance(&[&elsewhere]), Balance::LeastRequest);
    assert_eq!(balance(&[&in_root, &elsewhere]), Balance::Random);
    assert_eq!(balance(&[&in_root, &in_prod]), Balance::RoundRobin);
    assert_eq!(
        balance(&[&in_root, &in_prod, &in_edge]),
        Balance::LeastRequest
    );
}

#[test]
fn a_gateway_in_the_root_namespace_does_not_put_mesh_wide_rules_first() {
    let service = service("reviews", "prod", &["v1"]);
    let wide = balanced("'*.local'", "RANDOM");
    let own = rule("prod", "prod", &balanced("reviews", "ROUND_ROBIN"));
    let host = "reviews.prod.svc.cluster.local";
    let yaml = service.clone() + &rule("wide", "istio-system", &wide) + &own;
    assert_eq!(
        answer(&yaml, &[ask(host)]).cluster(0).balancing.policy,
        Balance::RoundRobin
    );
    // One that is private to the root is meant for the gateway.
    let private = format!("{wide}\n  exportTo: ['.']");
    let yaml = service + &rule("wide", "istio-system", &private) + &own;
    assert_eq!(
        answer(&yaml, &[ask(host)]).cluster(0).balancing.policy,
        Balance::Random
    );
}

#[test]
fn an_exact_host_beats_the_longest_wildcard_and_levels_never_merge() {
    let yaml = service("reviews", "default", &["v1"])
        + &rule("a", "default", &balanced("'*.cluster.local'", "RANDOM"))
        + &rule(
            "b",
            "default",
            &balanced("'*.svc.cluster.local'", "ROUND_ROBIN"),
        );
    assert_eq!(
        answer(&yaml, &[ask("reviews")]).cluster(0).balancing.policy,
        Balance::RoundRobin
    );
    let yaml = yaml + &rule("c", "default", &format!("  host: reviews\n{V1}"));
    let answers = answer(&yaml, &[ask("reviews").subset("v1")]);
    assert_eq!(answers.cluster(0).balancing.policy, Balance::LeastRequest);
}

#[test]
fn rules_of_one_host_and_namespace_become_one() {
    let yaml = service("reviews", "default", &["v1", "v2"])
        + &rule("a", "default", &format!("  host: reviews\n{V1}"))
        + &rule(
            "b",
            "default",
            &format!(
                "{}\n  subsets: [{{name: v1, labels: {{version: v2}}}}, {{name: v2, labels: {{version: v2}}}}]",
                balanced("reviews.default.svc.cluster.local", "RANDOM")
            ),
        )
        + &rule("c", "default", &balanced("reviews", "ROUND_ROBIN"));
    let answers = answer(
        &yaml,
        &[ask("reviews").subset("v1"), ask("reviews").subset("v2")],
    );
    assert_eq!(answers.addresses(0), ["10.0.0.1:8080"]);
    assert_eq!(answers.addresses(1), ["10.0.0.2:8080"]);
    assert_eq!(answers.cluster(0).balancing.policy, Balance::Random);
    let shadowed: Vec<_> = answers
        .with("PGR0106")
        .iter()
        .map(|finding| finding.path.clone())
        .collect();
    assert_eq!(shadowed, ["spec.subsets[0]", "spec.trafficPolicy"]);
}

#[test]
fn a_rule_that_is_not_exported_or_selects_other_workloads_does_not_hold() {
    let policy = balanced("reviews", "RANDOM");
    let yaml = service("reviews", "default", &["v1"])
        + &rule("a", "default", &format!("{policy}\n  exportTo: ['.']"))
        + &rule(
            "b",
            "default",
            &format!("{policy}\n  workloadSelector: {{matchLabels: {{istio: ingressgateway}}}}"),
        );
    let answers = answer(&yaml, &[ask("reviews")]);
    assert_eq!(answers.cluster(0).balancing.policy, Balance::LeastRequest);
    assert_eq!(answers.codes(), ["PGR0105", "PGR0105"]);
}

#[test]
fn a_rule_for_this_workload_beats_the_rule_for_all() {
    let host = "reviews.default.svc.cluster.local";
    let selecting = format!(
        "{}\n  workloadSelector: {{matchLabels: {{istio: ingressgateway}}}}",
        balanced(host, "RANDOM")
    );
    let yaml = service("reviews", "default", &["v1"])
        + &rule("a", "edge", &balanced(host, "ROUND_ROBIN"))
        + &rule("b", "edge", &selecting);
    let answers = answer_with(&edge(), &yaml, &[ask("reviews")]);
    assert_eq!(answers.cluster(0).balancing.policy, Balance::Random);
}

#[test]
fn an_unknown_subset_is_missing_and_the_hint_names_a_near_or_an_unconsulted_one() {
    let host = "reviews.default.svc.cluster.local";
    let yaml = service("reviews", "default", &["v1"])
        + &rule("near", "default", &format!("  host: reviews\n{V1}"))
        + &rule(
            "far",
            "staging",
            &format!("  host: {host}\n  subsets: [{{name: blue}}]"),
        );
    let asks = [
        ask("reviews").subset("v11"),
        ask("reviews").subset("blue"),
        ask("reviews").subset("canary"),
    ];
    let answers = answer(&yaml, &asks);
    assert_eq!(answers.missing(0), format!("outbound|80|v11|{host}"));
    let hints: Vec<_> = answers
        .with("IST0101")
        .iter()
        .map(|finding| &finding.hint)
        .collect();
    assert!(hints[0].contains("did you mean `v1`?"), "{}", hints[0]);
    assert!(
        hints[1].contains("DestinationRule staging/far"),
        "{}",
        hints[1]
    );
    assert!(hints[2].contains("defines: v1"), "{}", hints[2]);
}

#[test]
fn a_broken_subset_fences_only_its_own_traffic() {
    let yaml = service("reviews", "default", &["v1", "v2"])
        + &rule(
            "reviews",
            "default",
            "  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, label: {version: v2}}",
        );
    let asks = [
        ask("reviews"),
        ask("reviews").subset("v1"),
        ask("reviews").subset("v2"),
    ];
    let answers = answer(&yaml, &asks);
    assert_eq!(answers.addresses(0).len(), 2);
    assert_eq!(answers.addresses(1).len(), 1);
    assert!(answers.fence(2).reason.contains("spec.subsets[1].label"));
    assert!(answers.finding("PGR0103").message.contains("subset `v2`"));
}

#[test]
fn of_a_subset_defined_twice_the_first_serves() {
    let yaml = service("reviews", "default", &["v1", "v2"])
        + &rule(
            "reviews",
            "default",
            "  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v1, labels: {version: v2}}",
        );
    let answers = answer(&yaml, &[ask("reviews").subset("v1")]);
    assert_eq!(answers.addresses(0), ["10.0.0.1:8080"]);
}

#[test]
fn a_subset_whose_name_is_lost_fences_the_subsets_nobody_defines() {
    let yaml = service("reviews", "default", &["v1"])
        + &rule(
            "reviews",
            "default",
            "  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {nam: v2, labels: {version: v2}}",
        );
    let answers = answer(
        &yaml,
        &[ask("reviews").subset("v1"), ask("reviews").subset("v2")],
    );
    assert_eq!(answers.addresses(0).len(), 1);
    assert!(answers.fence(1).reason.contains("spec.subsets[1]"));
}

#[test]
fn a_broken_policy_of_a_rule_fences_the_whole_host_and_no_other() {
    let yaml = service("reviews", "default", &["v1"])
        + &service("ratings", "default", &["v1"])
        + &rule(
            "reviews",
            "default",
            &format!("  host: reviews\n  trafficPolicy: {{tsl: {{mode: SIMPLE}}}}\n{V1}"),
        );
    let asks = [ask("reviews"), ask("reviews").subset("v1"), ask("ratings")];
    let answers = answer(&yaml, &asks);
    assert!(answers.fence(0).reason.contains("spec.trafficPolicy.tsl"));
    assert_eq!(answers.fence(0), answers.fence(1));
    assert_eq!(answers.cluster(2).port, 80);
}

#[test]
fn a_rule_for_an_unknown_host_or_without_use_is_reported() {
    let yaml = service("reviews", "default", &["v1"])
        + &service("ratings", "default", &["v1"])
        + &rule("a", "default", &balanced("revews", "RANDOM"))
        + &rule("b", "default", &balanced("ratings", "RANDOM"))
        + &rule("c", "default", &balanced("'*.example.com'", "RANDOM"))
        + &rule("d", "default", &format!("  host: reviews{V1_AND_V2}"));
    let answers = answer(&yaml, &[ask("reviews").subset("v1")]);
    assert_eq!(answers.finding("IST0174").path, "spec.host");
    let unused: Vec<_> = answers
        .with("PGR0209")
        .iter()
        .map(|finding| finding.message.clone())
        .collect();
    assert_eq!(unused.len(), 3, "{unused:?}");
    assert!(
        unused[0].contains("no route of this gateway leads to `ratings"),
        "{}",
        unused[0]
    );
    assert!(unused[1].contains("`*.example.com`"), "{}", unused[1]);
    assert!(unused[2].contains("subset `v2`"), "{}", unused[2]);
}
