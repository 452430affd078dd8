//! What Istio's validation refuses of ServiceEntries, rule by rule.

use crate::base::Findings;
use crate::compile::pattern::Patterns;
use crate::compile::validate::check;
use crate::source::{LoadOptions, Loader};

const PORTS: &str = "\n  ports: [{number: 80, name: http, protocol: HTTP}]\n";

/// Paths of the faults in an object whose spec is given, indented by two.
fn faults_of(kind: &str, spec: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entry.yaml");
    let head = format!(
        "apiVersion: networking.istio.io/v1
kind: {kind}
metadata: {{name: e}}
spec:
"
    );
    std::fs::write(&file, format!("{head}{spec}")).unwrap();
    let inventory = Loader::new(vec![file], LoadOptions::default()).load();
    let object = &inventory.objects[0];
    assert_eq!(
        object.issues,
        [],
        "the manifest of the test itself is wrong"
    );
    let mut findings = Findings::new();
    check(object, &Patterns::default(), &mut findings);
    findings.into_iter().map(|finding| finding.path).collect()
}

fn faults(spec: &str) -> Vec<String> {
    faults_of("ServiceEntry", spec)
}

#[test]
fn hosts_must_be_names_and_not_every_host() {
    assert_eq!(
        faults(&format!("  location: MESH_EXTERNAL{PORTS}")),
        ["spec.hosts"]
    );
    let spec = format!("  hosts: ['*', '*.example.com', 'a b', a.com]{PORTS}");
    assert_eq!(faults(&spec), ["spec.hosts[0]", "spec.hosts[2]"]);
}

#[test]
fn ports_must_be_valid_and_their_own() {
    let spec = "  hosts: [a.com]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 80, name: b, protocol: http2}
  - {number: 81, name: http, protocol: TCP}
  - {number: 0, name: d}
  - {number: 82, protocol: HTTP}
  - {number: 83, name: f, protocol: GOPHER, targetPort: 70000}";
    assert_eq!(
        faults(spec),
        [
            "spec.ports[1].number",
            "spec.ports[2].name",
            "spec.ports[3].number",
            "spec.ports[4].name",
            "spec.ports[5].targetPort",
            "spec.ports[5].protocol",
        ]
    );
}

#[test]
fn endpoints_must_go_with_the_resolution() {
    for (rest, path) in [
        ("  resolution: LOOKUP", "spec.resolution"),
        ("  location: NOWHERE", "spec.location"),
        ("  endpoints: [{address: 1.1.1.1}]", "spec.endpoints"),
        (
            "  resolution: STATIC
  endpoints: [{address: 1.1.1.1}]
  workloadSelector: {labels: {a: b}}",
            "spec.workloadSelector",
        ),
        (
            "  resolution: DNS\n  addresses: [10.0.0.0/8]",
            "spec.addresses[0]",
        ),
        (
            "  resolution: DNS_ROUND_ROBIN\n  endpoints: [{address: a.com}, {address: b.com}]",
            "spec.endpoints",
        ),
        (
            "  resolution: DNS\n  endpoints: [{address: 'a b'}]",
            "spec.endpoints[0].address",
        ),
        (
            "  resolution: STATIC\n  endpoints: [{address: 1.1.1.1, ports: {grpc: 1}}]",
            "spec.endpoints[0].ports.grpc",
        ),
        (
            "  resolution: STATIC\n  endpoints: [{weight: 1}]",
            "spec.endpoints[0].address",
        ),
    ] {
        assert_eq!(
            faults(&format!("  hosts: [a.com]{PORTS}{rest}")),
            [path],
            "{rest}"
        );
    }
    let wildcard = format!("  hosts: ['*.a.com']{PORTS}  resolution: DNS");
    assert_eq!(faults(&wildcard), ["spec.hosts[0]"]);
}

#[test]
fn what_istio_accepts_has_no_fault() {
    for rest in [
        "",
        "  addresses: [10.0.0.0/8]",
        "  resolution: DNS",
        "  resolution: DYNAMIC_DNS",
        "  resolution: STATIC\n  workloadSelector: {labels: {a: b}}",
        "  resolution: DNS\n  endpoints: [{address: 1.1.1.1}, {address: b.com, ports: {http: 1}}]",
    ] {
        assert_eq!(
            faults(&format!("  hosts: [a.com]{PORTS}{rest}")),
            [""; 0],
            "{rest}"
        );
    }
}

#[test]
fn a_workload_entry_needs_an_address_and_real_ports() {
    assert_eq!(
        faults_of("WorkloadEntry", "  {labels: {a: b}}"),
        ["spec.address"]
    );
    let ports = "  {address: 1.1.1.1, ports: {http: 0}}";
    assert_eq!(faults_of("WorkloadEntry", ports), ["spec.ports.http"]);
}
