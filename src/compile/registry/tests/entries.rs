//! ServiceEntries and WorkloadEntries.

use super::*;

#[test]
fn static_endpoints_take_their_port_by_name_then_target_port_then_number() {
    let spec = |ports: &str, endpoint: &str| {
        format!(
            "  hosts: [api.example.com]
  ports: [{ports}]
  resolution: STATIC
  endpoints: [{endpoint}]"
        )
    };
    for (ports, endpoint, expected) in [
        (
            "{number: 80, name: http, protocol: HTTP}",
            "{address: 1.1.1.1}",
            "1.1.1.1:80",
        ),
        (
            "{number: 80, name: http, protocol: HTTP, targetPort: 81}",
            "{address: 1.1.1.1}",
            "1.1.1.1:81",
        ),
        (
            "{number: 80, name: http, protocol: HTTP, targetPort: 81}",
            "{address: 1.1.1.1, ports: {http: 82}}",
            "1.1.1.1:82",
        ),
        (
            "{number: 80, name: http}",
            "{address: '2001:db8::1'}",
            "[2001:db8::1]:80",
        ),
    ] {
        let answers = answer(
            &entry("api", &spec(ports, endpoint)),
            &[ask("api.example.com")],
        );
        assert_eq!(answers.addresses(0), [expected]);
        assert_eq!(answers.findings, []);
    }
}

#[test]
fn static_names_and_sockets_are_dropped_with_a_finding() {
    let yaml = entry(
        "api",
        "  hosts: [api.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 1.1.1.1, weight: 3}
  - {address: name.example.com}
  - {address: 'unix:///var/run/x.sock'}",
    );
    let answers = answer(&yaml, &[ask("api.example.com")]);
    assert_eq!(answers.addresses(0), ["1.1.1.1:80"]);
    match answers.resolution(0) {
        Resolution::Static(endpoints) => assert_eq!(endpoints[0].weight, 3),
        other => panic!("{other:?}"),
    }
    assert_eq!(answers.finding("PGR0201").path, "spec.endpoints[1].address");
    assert_eq!(answers.finding("PGR0101").path, "spec.endpoints[2].address");
}

#[test]
fn dns_resolves_the_endpoints_or_else_the_host_itself() {
    let base = "  hosts: [API.example.com]
  ports: [{number: 443, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: DNS";
    let answers = answer(&entry("api", base), &[ask("api.example.com")]);
    assert_eq!(answers.names(0), ["api.example.com:8080"]);

    let named =
        format!("{base}\n  endpoints: [{{address: b.example.com}}, {{address: a.example.com}}]");
    let answers = answer(&entry("api", &named), &[ask("api.example.com")]);
    assert_eq!(
        answers.names(0),
        ["a.example.com:8080", "b.example.com:8080"]
    );

    let addresses = format!("{base}\n  endpoints: [{{address: 1.1.1.1}}]");
    let answers = answer(&entry("api", &addresses), &[ask("api.example.com")]);
    assert_eq!(answers.addresses(0), ["1.1.1.1:8080"]);

    let mixed = format!("{base}\n  endpoints: [{{address: 1.1.1.1}}, {{address: a.example.com}}]");
    let answers = answer(&entry("api", &mixed), &[ask("api.example.com")]);
    assert_eq!(answers.names(0), ["1.1.1.1:8080", "a.example.com:8080"]);
}

#[test]
fn dns_round_robin_uses_a_single_address() {
    let yaml = entry(
        "api",
        "  hosts: [api.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS_ROUND_ROBIN",
    );
    let answers = answer(&yaml, &[ask("api.example.com")]);
    assert!(matches!(
        answers.resolution(0),
        Resolution::Dns { single: true, .. }
    ));
}

#[test]
fn no_resolution_has_no_endpoint_and_says_so() {
    let yaml = entry(
        "api",
        "  hosts: ['*.example.com', x.example.org]
  ports: [{number: 80, name: http, protocol: HTTP}]",
    );
    let asks = [
        ask("*.example.com"),
        ask("x.example.org"),
        ask("a.example.com"),
    ];
    let answers = answer(&yaml, &asks);
    assert_eq!(&*answers.cluster(0).name, "outbound|80||*.example.com");
    assert_eq!(answers.addresses(0), [""; 0]);
    assert_eq!(answers.addresses(1), [""; 0]);
    assert!(
        answers.with("PGR0204")[0]
            .hint
            .contains("resolution NONE is for sidecars")
    );
    assert_eq!(answers.missing(2), "outbound|80||a.example.com");
    assert!(
        answers
            .finding("IST0101")
            .hint
            .contains("`*.example.com` covers it")
    );
}

#[test]
fn dynamic_dns_is_unsupported() {
    let yaml = entry(
        "api",
        "  hosts: ['*.example.com']
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DYNAMIC_DNS",
    );
    let answers = answer(&yaml, &[ask("*.example.com")]);
    assert_eq!(answers.addresses(0), [""; 0]);
    assert_eq!(answers.finding("PGR0101").path, "spec.resolution");
}

const WORKLOADS: &str = "
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: one, labels: {app: vm, version: v1}}
spec: {address: 192.168.0.1, ports: {http: 7000}, weight: 5}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: two, labels: {version: v1}}
spec: {address: 192.168.0.2, labels: {app: vm, version: v2}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: other, labels: {app: other}}
spec: {address: 192.168.0.3}
---
";

#[test]
fn a_workload_selector_finds_workload_entries_and_pods_of_its_namespace() {
    let yaml = entry(
        "vm",
        "  hosts: [vm.example.com]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8000}]
  resolution: STATIC
  workloadSelector: {labels: {app: vm}}",
    ) + WORKLOADS
        + &pod("p", "default", "10.0.0.1", "vm", "v1")
        + &pod("q", "prod", "10.0.0.2", "vm", "v1")
        + &rule(
            "vm",
            "default",
            &format!("  host: vm.example.com{V1_AND_V2}"),
        );
    let asks = [
        ask("vm.example.com"),
        ask("vm.example.com").subset("v1"),
        ask("vm.example.com").subset("v2"),
    ];
    let answers = answer(&yaml, &asks);
    assert_eq!(
        answers.addresses(0),
        ["10.0.0.1:8000", "192.168.0.1:7000", "192.168.0.2:8000"]
    );
    assert_eq!(answers.addresses(1), ["10.0.0.1:8000", "192.168.0.1:7000"]);
    assert_eq!(answers.addresses(2), ["192.168.0.2:8000"]);
}

#[test]
fn labels_of_written_endpoints_make_subsets() {
    let yaml = entry(
        "api",
        "  hosts: [api.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 1.1.1.1, labels: {version: v1}}
  - {address: 1.1.1.2, labels: {version: v2}}",
    ) + &rule(
        "api",
        "default",
        &format!("  host: api.example.com{V1_AND_V2}"),
    );
    let answers = answer(&yaml, &[ask("api.example.com").subset("v2")]);
    assert_eq!(answers.addresses(0), ["1.1.1.2:80"]);
}

fn named(host: &str, port: &str, address: &str) -> String {
    format!(
        "  hosts: [{host}]
  ports: [{port}]
  resolution: STATIC
  endpoints: [{{address: {address}}}]"
    )
}

const WEB: &str = "{number: 80, name: http, protocol: HTTP}";

#[test]
fn a_service_owns_its_host_before_a_service_entry() {
    let yaml = entry(
        "first",
        &named("reviews.default.svc.cluster.local", WEB, "1.1.1.1"),
    ) + &service("reviews", "default", &["v1"]);
    let answers = answer(&yaml, &[ask("reviews")]);
    assert_eq!(answers.addresses(0), ["10.0.0.1:8080"]);
    let shadowed = answers.with("PGR0106");
    assert_eq!(shadowed.len(), 1);
    assert_eq!(shadowed[0].path, "spec.hosts[0]");
}

#[test]
fn service_entries_of_one_host_and_namespace_add_their_endpoints() {
    let other_number = "{number: 8080, targetPort: 9080, name: http, protocol: HTTP}";
    let yaml = entry("a", &named("api.example.com", WEB, "1.1.1.1"))
        + &entry("b", &named("API.example.com", WEB, "1.1.1.2"))
        + &entry("c", &named("api.example.com", other_number, "1.1.1.3"));
    let answers = answer(&yaml, &[ask("api.example.com")]);
    assert_eq!(
        answers.addresses(0),
        ["1.1.1.1:80", "1.1.1.2:80", "1.1.1.3:9080"],
        "the ports are the oldest one's, found by name"
    );
    assert_eq!(answers.with("PGR0106").len(), 0);
}

#[test]
fn a_port_that_only_a_younger_service_entry_has_is_named() {
    let yaml = entry("a", &named("api.example.com", WEB, "1.1.1.1"))
        + &entry(
            "b",
            &named(
                "api.example.com",
                "{number: 81, name: other, protocol: HTTP}",
                "1.1.1.2",
            ),
        );
    let answers = answer(&yaml, &[ask("api.example.com")]);
    assert_eq!(answers.addresses(0), ["1.1.1.1:80"]);
    let shadowed = answers.with("PGR0106");
    assert_eq!(shadowed.len(), 1);
    assert!(
        shadowed[0].message.contains("the port `other`"),
        "{}",
        shadowed[0].message
    );
}

#[test]
fn a_service_entry_of_another_resolution_adds_nothing_and_is_named() {
    let dns = "  hosts: [api.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS";
    let yaml = entry("a", &named("api.example.com", WEB, "1.1.1.1")) + &entry("b", dns);
    let answers = answer(&yaml, &[ask("api.example.com")]);
    assert_eq!(answers.addresses(0), ["1.1.1.1:80"]);
    assert_eq!(answers.with("PGR0106").len(), 1);
}

#[test]
fn a_service_entry_that_istio_refuses_fences_its_hosts() {
    let yaml = entry(
        "bad",
        "  hosts: [api.example.com]
  ports: [{number: 80, name: a, protocol: HTTP}, {number: 80, name: b, protocol: HTTP}]
  resolution: DNS",
    );
    let answers = answer(&yaml, &[ask("api.example.com")]);
    let reason = &answers.fence(0).reason;
    assert!(
        reason.contains("spec.ports[1].number: the port 80 is given twice"),
        "{reason}"
    );
}
