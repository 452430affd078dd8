//! HealthCheckPolicies: targets, precedence, defaults, and what is wrong with them.

use std::time::Duration;

use crate::compile::{Memory, compile};
use crate::plan::{HttpProbe, Probe, ProbeKind};

use super::*;

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.pingress.io/v1alpha1\nkind: HealthCheckPolicy\nmetadata: {{name: {name}, namespace: default}}\nspec:\n{spec}\n"
    )
}

fn reviews() -> String {
    service("reviews", "default", &["v1"])
}

fn probe(answers: &Answers, index: usize) -> Option<&Probe> {
    let check = answers.cluster(index).health_check.as_ref()?;
    Some(&check.probe)
}

/// Code and path of each finding about a policy.
fn faults(yaml: &str) -> Vec<(&'static str, String)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.yaml");
    std::fs::write(&file, yaml).unwrap();
    let inventory = Loader::new(vec![file], LoadOptions::default()).load();
    let compiled = compile(&inventory, &mut Memory::default(), &Options::default());
    let findings = compiled.findings.into_iter();
    let about = findings.filter(|finding| {
        let object = finding.object.as_ref();
        object.is_none_or(|key| key.kind == Kind::HealthCheckPolicy)
    });
    about
        .map(|finding| (finding.code.id, finding.path))
        .collect()
}

#[test]
fn a_policy_probes_every_subset_of_its_host_with_its_defaults_filled_in() {
    let yaml = reviews()
        + &rule(
            "reviews",
            "default",
            "  host: reviews\n  subsets:\n  - {name: one, labels: {version: v1}}",
        )
        + &policy("p", "  targetRef: {kind: Host, name: reviews}\n  tcp: {}");
    let answers = answer(&yaml, &[ask("reviews"), ask("reviews").subset("one")]);
    let expected = Probe {
        kind: ProbeKind::Tcp { port: None },
        tls: None,
        interval: Duration::from_secs(10),
        jitter: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        healthy_threshold: 1,
        unhealthy_threshold: 3,
    };
    assert_eq!(probe(&answers, 0), Some(&expected));
    assert_eq!(probe(&answers, 1), Some(&expected));
    assert!(answers.with("PGR0209").is_empty(), "{:?}", answers.findings);
}

#[test]
fn every_field_of_a_policy_reaches_the_plan() {
    let yaml = reviews()
        + &policy(
            "p",
            "  targetRef: {kind: Service, name: reviews, namespace: default, port: 80}
  interval: 2s
  jitter: 0s
  timeout: 300ms
  healthyThreshold: 2
  unhealthyThreshold: 4
  http:
    path: /ready?full
    host: probe.example.com
    headers: {x-probe: one}
    expectedStatuses: [204, 200-201, \"301\"]
    port: 9000",
        );
    let answers = answer(&yaml, &[ask("reviews")]);
    let expected = Probe {
        kind: ProbeKind::Http(HttpProbe {
            path: "/ready?full".into(),
            host: "probe.example.com".into(),
            headers: vec![("x-probe".into(), "one".into())],
            expected: vec![204..=204, 200..=201, 301..=301],
            port: Some(9000),
            http2: false,
        }),
        tls: None,
        interval: Duration::from_secs(2),
        jitter: Duration::ZERO,
        timeout: Duration::from_millis(300),
        healthy_threshold: 2,
        unhealthy_threshold: 4,
    };
    assert_eq!(probe(&answers, 0), Some(&expected));
    let check = answers.cluster(0).health_check.as_ref().unwrap();
    assert_eq!(check.object.to_string(), "HealthCheckPolicy default/p");
}

#[test]
fn a_plain_http_check_asks_for_the_root_of_the_targets_host_and_any_2xx() {
    let yaml = reviews() + &policy("p", "  targetRef: {kind: Host, name: reviews}\n  http: {}");
    let answers = answer(&yaml, &[ask("reviews")]);
    let Some(ProbeKind::Http(http)) = probe(&answers, 0).map(|probe| &probe.kind) else {
        panic!("{:?}", probe(&answers, 0));
    };
    assert_eq!(&*http.path, "/");
    assert_eq!(&*http.host, "reviews.default.svc.cluster.local");
    assert_eq!(http.expected, [200..=299]);
}

#[test]
fn a_check_of_an_http2_cluster_speaks_http2() {
    let yaml = reviews().replace("name: http,", "name: grpc,")
        + &policy("p", "  targetRef: {kind: Host, name: reviews}\n  http: {}");
    let answers = answer(&yaml, &[ask("reviews")]);
    let kind = probe(&answers, 0).map(|probe| &probe.kind);
    assert!(matches!(kind, Some(ProbeKind::Http(http)) if http.http2));
}

#[test]
fn a_service_entry_is_a_target_with_all_its_hosts() {
    let yaml = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: two, namespace: default}
spec:
  hosts: [a.internal, b.internal]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
"
    .to_owned()
        + &policy(
            "p",
            "  targetRef: {kind: ServiceEntry, name: two}\n  grpc: {service: shop}",
        );
    let answers = answer(&yaml, &[ask("a.internal"), ask("b.internal")]);
    for index in [0, 1] {
        let kind = probe(&answers, index).map(|probe| &probe.kind);
        let expected = ProbeKind::Grpc {
            service: "shop".into(),
            port: None,
        };
        assert_eq!(kind, Some(&expected));
    }
}

#[test]
fn of_two_policies_for_one_target_the_older_holds_and_a_port_comes_before_none() {
    let spec = |interval: &str, port: &str| {
        format!(
            "  targetRef: {{kind: Host, name: reviews{port}}}\n  interval: {interval}\n  tcp: {{}}"
        )
    };
    let aged = |name: &str, spec: String, year: u32| {
        let created = format!("metadata: {{creationTimestamp: \"{year}-01-01T00:00:00Z\", ");
        policy(name, &spec).replace("metadata: {", &created)
    };
    let yaml =
        reviews() + &aged("young", spec("1s", ""), 2025) + &aged("old", spec("2s", ""), 2024);
    let answers = answer(&yaml, &[ask("reviews")]);
    assert_eq!(probe(&answers, 0).unwrap().interval.as_secs(), 2);
    let finding = answers.finding("PGR0106");
    assert_eq!(&*finding.object.as_ref().unwrap().name, "young");
    assert!(finding.message.contains("HealthCheckPolicy default/old"));

    let yaml = yaml + &aged("port", spec("3s", ", port: 80"), 2026);
    let answers = answer(&yaml, &[ask("reviews")]);
    assert_eq!(probe(&answers, 0).unwrap().interval.as_secs(), 3);
}

#[test]
fn a_policy_without_a_target_or_without_traffic_says_so() {
    for target in [
        "{kind: Host, name: reviewz}",
        "{kind: Service, name: reviews, namespace: other}",
        "{kind: ServiceEntry, name: reviews}",
        "{kind: Host, name: reviews, port: 81}",
    ] {
        let yaml = reviews() + &policy("p", &format!("  targetRef: {target}\n  tcp: {{}}"));
        let answers = answer(&yaml, &[ask("reviews")]);
        assert_eq!(probe(&answers, 0), None, "{target}");
        let finding = answers.finding("IST0101");
        assert!(finding.path.starts_with("spec.targetRef."), "{target}");
    }
    let yaml = reviews() + &policy("p", "  targetRef: {kind: Host, name: reviews}\n  tcp: {}");
    let finding = answer(&yaml, &[]).finding("PGR0209").clone();
    assert_eq!(finding.object.unwrap().kind, Kind::HealthCheckPolicy);
}

#[test]
fn what_is_wrong_with_a_policy_is_said_at_its_field_and_it_probes_nobody() {
    let target = "  targetRef: {kind: Host, name: reviews}\n";
    for (spec, code, path) in [
        ("  tcp: {}".to_owned(), "IST0106", "spec.targetRef.kind"),
        (
            "  targetRef: {kind: Pod, name: a}\n  tcp: {}".into(),
            "IST0106",
            "spec.targetRef.kind",
        ),
        (
            "  targetRef: {kind: Host}\n  tcp: {}".into(),
            "IST0106",
            "spec.targetRef.name",
        ),
        (
            "  targetRef: {kind: Host, name: a, namespace: b}\n  tcp: {}".into(),
            "IST0106",
            "spec.targetRef.namespace",
        ),
        (
            "  targetRef: {kind: Host, name: a, port: 0}\n  tcp: {}".into(),
            "IST0106",
            "spec.targetRef.port",
        ),
        (target.to_owned(), "IST0106", "spec"),
        (
            format!("{target}  tcp: {{}}\n  grpc: {{}}"),
            "IST0106",
            "spec",
        ),
        (
            format!("{target}  tcp: {{}}\n  interval: 0s"),
            "IST0106",
            "spec.interval",
        ),
        (
            format!("{target}  tcp: {{}}\n  timeout: soon"),
            "IST0106",
            "spec.timeout",
        ),
        (
            format!("{target}  tcp: {{}}\n  jitter: -1s"),
            "IST0106",
            "spec.jitter",
        ),
        (
            format!("{target}  tcp: {{}}\n  healthyThreshold: 0"),
            "IST0106",
            "spec.healthyThreshold",
        ),
        (
            format!("{target}  tcp: {{}}\n  unhealthyThreshold: -1"),
            "PGR0004",
            "spec.unhealthyThreshold",
        ),
        (
            format!("{target}  tcp: {{}}\n  colour: red"),
            "PGR0003",
            "spec.colour",
        ),
        (
            format!("{target}  tcp: {{host: a}}"),
            "PGR0003",
            "spec.tcp.host",
        ),
        (
            format!("{target}  tcp: {{port: 70000}}"),
            "IST0106",
            "spec.tcp.port",
        ),
        (
            format!("{target}  http: {{path: x}}"),
            "IST0106",
            "spec.http.path",
        ),
        (
            format!("{target}  http: {{host: \"a b\"}}"),
            "IST0106",
            "spec.http.host",
        ),
        (
            format!("{target}  http: {{headers: {{Host: a}}}}"),
            "IST0106",
            "spec.http.headers.Host",
        ),
        (
            format!("{target}  http: {{headers: {{\"a b\": c}}}}"),
            "IST0106",
            "spec.http.headers.a b",
        ),
        (
            format!("{target}  http: {{expectedStatuses: [200-99]}}"),
            "IST0106",
            "spec.http.expectedStatuses[0]",
        ),
        (
            format!("{target}  grpc: {{port: 0}}"),
            "IST0106",
            "spec.grpc.port",
        ),
    ] {
        let yaml = reviews() + &policy("p", &spec);
        let faults = faults(&yaml);
        assert!(
            faults.contains(&(code, path.to_owned())),
            "{spec}: {faults:?}"
        );
        let answers = answer(&yaml, &[ask("reviews")]);
        assert_eq!(probe(&answers, 0), None, "{spec}");
    }
}

#[test]
fn an_unknown_kind_of_our_own_group_is_an_error() {
    let yaml = policy("p", "  tcp: {}").replace("HealthCheckPolicy", "HealthCheck");
    assert_eq!(faults(&yaml)[0].0, "PGR0009");
}
