//! Endpoints of Kubernetes Services.

use super::*;

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.9
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
";

fn slice(name: &str, endpoints: &str) -> String {
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: other, port: 1}}, {{name: http, port: 8080}}]
endpoints:
{endpoints}
---
"
    )
}

#[test]
fn only_ready_endpoints_of_a_slice_take_traffic_and_unset_counts_as_ready() {
    let yaml = SERVICE.to_owned()
        + &slice(
            "a",
            "- {addresses: [10.0.0.1], conditions: {ready: true}}
- {addresses: [10.0.0.2]}
- {addresses: [10.0.0.3], conditions: {ready: false}}
- {addresses: [10.0.0.4], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.5], conditions: {ready: true, terminating: true}}",
        );
    let answers = answer(&yaml, &[ask("web")]);
    assert_eq!(answers.addresses(0), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(answers.findings, []);
}

#[test]
fn publish_not_ready_addresses_takes_the_unready_too_but_not_the_terminating() {
    let service = SERVICE.replace("selector:", "publishNotReadyAddresses: true\n  selector:");
    let yaml = service
        + &slice(
            "a",
            "- {addresses: [10.0.0.3], conditions: {ready: false}}
- {addresses: [10.0.0.4], conditions: {ready: false, terminating: true}}",
        );
    assert_eq!(answer(&yaml, &[ask("web")]).addresses(0), ["10.0.0.3:8080"]);
}

#[test]
fn an_address_in_several_slices_is_one_endpoint_and_order_does_not_matter() {
    let one = "- {addresses: [10.0.0.2]}\n- {addresses: [10.0.0.1]}";
    let two = "- {addresses: [10.0.0.1]}";
    let apart = answer(
        &(SERVICE.to_owned() + &slice("a", one) + &slice("b", two)),
        &[ask("web")],
    );
    let together = answer(
        &(SERVICE.to_owned() + &slice("z", "- {addresses: [10.0.0.1]}\n- {addresses: [10.0.0.2]}")),
        &[ask("web")],
    );
    assert_eq!(apart.addresses(0), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(apart.table.digest, together.table.digest);
}

#[test]
fn slices_without_a_usable_endpoint_are_no_reason_to_fall_back() {
    let yaml = SERVICE.to_owned()
        + &slice("a", "- {addresses: [10.0.0.3], conditions: {ready: false}}")
        + &pod("web-1", "default", "10.0.0.3", "web", "v1");
    let answers = answer(&yaml, &[ask("web")]);
    assert_eq!(answers.addresses(0), [""; 0]);
    let finding = answers.finding("PGR0204");
    assert!(
        finding.message.contains("no usable endpoint"),
        "{}",
        finding.message
    );
}

#[test]
fn slices_of_names_are_ignored_with_a_finding() {
    let yaml = SERVICE.to_owned()
        + "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: names, labels: {kubernetes.io/service-name: web}}
addressType: FQDN
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [web.example.com]}]
";
    let answers = answer(&yaml, &[ask("web")]);
    assert_eq!(answers.addresses(0), ["10.96.0.9:80"]);
    assert_eq!(answers.finding("PGR0202").path, "addressType");
}

#[test]
fn a_dual_stack_service_uses_the_family_of_its_cluster_ip() {
    let slices = slice("a", "- {addresses: [10.0.0.1]}")
        + &slice("b", "- {addresses: ['fd00::1']}").replace("IPv4", "IPv6");
    let answers = answer(&(SERVICE.to_owned() + &slices), &[ask("web")]);
    assert_eq!(answers.addresses(0), ["10.0.0.1:8080"]);
    let service = SERVICE.replace("10.96.0.9", "'fd01::9'");
    let answers = answer(&(service + &slices), &[ask("web")]);
    assert_eq!(answers.addresses(0), ["[fd00::1]:8080"]);
}

#[test]
fn endpoints_stand_in_for_slices_that_are_not_there() {
    let record = "
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets:
- addresses: [{ip: 10.0.0.7, targetRef: {kind: Pod, name: web-v1}}]
  notReadyAddresses: [{ip: 10.0.0.8}]
  ports: [{name: http, port: 8081}]
---
";
    let yaml = SERVICE.to_owned() + record + &pod("web-v1", "default", "10.0.0.7", "web", "v1");
    assert_eq!(answer(&yaml, &[ask("web")]).addresses(0), ["10.0.0.7:8081"]);
    let yaml = yaml + &slice("a", "- {addresses: [10.0.0.1]}");
    assert_eq!(answer(&yaml, &[ask("web")]).addresses(0), ["10.0.0.1:8080"]);
}

#[test]
fn pods_stand_in_for_endpoints_if_they_run_and_are_ready() {
    let not_ready = pod("b", "default", "10.0.0.2", "web", "v1").replace("\"True\"", "\"False\"");
    let pending = pod("c", "default", "10.0.0.3", "web", "v1").replace("Running", "Pending");
    let deleting = pod("d", "default", "10.0.0.4", "web", "v1").replace(
        "{name: d,",
        "{name: d, deletionTimestamp: '2026-01-01T00:00:00Z',",
    );
    let silent =
        pod("e", "default", "10.0.0.5", "web", "v1").replace("{type: Ready, status: \"True\"}", "");
    let yaml = SERVICE.to_owned()
        + &pod("a", "default", "10.0.0.1", "web", "v1")
        + &not_ready
        + &pending
        + &deleting
        + &silent
        + &pod("f", "default", "10.0.0.6", "other", "v1")
        + &pod("g", "prod", "10.0.0.7", "web", "v1");
    let answers = answer(&yaml, &[ask("web")]);
    assert_eq!(answers.addresses(0), ["10.0.0.1:8080", "10.0.0.5:8080"]);
}

#[test]
fn a_named_target_port_is_the_pods_own() {
    let yaml = SERVICE.replace("targetPort: 8080", "targetPort: web")
        + &pod("a", "default", "10.0.0.1", "web", "v1");
    assert_eq!(answer(&yaml, &[ask("web")]).addresses(0), ["10.0.0.1:9080"]);
}

#[test]
fn a_service_without_records_is_reached_by_its_cluster_ip_and_says_so() {
    let answers = answer(SERVICE, &[ask("web")]);
    assert_eq!(answers.addresses(0), ["10.96.0.9:80"]);
    assert!(
        answers
            .finding("PGR0205")
            .message
            .contains("reached as `10.96.0.9`")
    );
}

#[test]
fn a_service_without_records_and_cluster_ip_is_reached_by_its_dns_name() {
    let plain = SERVICE.replace("  clusterIP: 10.96.0.9\n", "");
    let answers = answer(&plain, &[ask("web")]);
    assert_eq!(answers.names(0), ["web.default.svc.cluster.local:80"]);
    assert_eq!(answers.codes(), ["PGR0205"]);
    // The name of a headless service is that of its Pods, which listen on the target port.
    let headless = SERVICE.replace("10.96.0.9", "None");
    let answers = answer(&headless, &[ask("web")]);
    assert_eq!(answers.names(0), ["web.default.svc.cluster.local:8080"]);
}

#[test]
fn a_pod_that_is_only_a_manifest_is_no_record() {
    let yaml = SERVICE.to_owned()
        + "
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: web}}
spec: {containers: [{name: main}]}
";
    assert_eq!(answer(&yaml, &[ask("web")]).addresses(0), ["10.96.0.9:80"]);
}

#[test]
fn a_labelled_subset_of_a_service_without_records_has_no_endpoint() {
    let yaml = SERVICE.to_owned() + &rule("web", "default", &format!("  host: web{V1_AND_V2}"));
    let answers = answer(
        &yaml,
        &[ask("web").subset("v1"), ask("web").subset("v2"), ask("web")],
    );
    assert_eq!(answers.addresses(0), [""; 0]);
    assert_eq!(answers.addresses(2), ["10.96.0.9:80"]);
    assert_eq!(answers.with("PGR0204").len(), 2);
    assert_eq!(answers.with("PGR0205").len(), 1);
}

#[test]
fn a_service_selects_workload_entries_as_well() {
    let yaml = SERVICE.to_owned()
        + "
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, labels: {app: web}}
spec: {address: 192.168.0.1, ports: {http: 7000}}
";
    assert_eq!(
        answer(&yaml, &[ask("web")]).addresses(0),
        ["192.168.0.1:7000"]
    );
}

#[test]
fn subsets_pick_endpoints_by_the_labels_of_their_pods() {
    let yaml = service("reviews", "default", &["v1", "v2"])
        + &rule(
            "reviews",
            "default",
            &format!(
                "  host: reviews{V1_AND_V2}\n  - {{name: all}}\n  - {{name: v9, labels: {{version: v9}}}}"
            ),
        );
    let asks = [
        ask("reviews").subset("v1"),
        ask("reviews").subset("v2"),
        ask("reviews").subset("all"),
        ask("reviews").subset("v9"),
    ];
    let answers = answer(&yaml, &asks);
    assert_eq!(
        &*answers.cluster(0).name,
        "outbound|80|v1|reviews.default.svc.cluster.local"
    );
    assert_eq!(answers.addresses(0), ["10.0.0.1:8080"]);
    assert_eq!(answers.addresses(1), ["10.0.0.2:8080"]);
    assert_eq!(answers.addresses(2), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(answers.addresses(3), [""; 0]);
    let finding = answers.finding("PGR0204");
    assert_eq!(finding.path, "spec.subsets[3]");
    assert!(
        finding.message.contains("version=v9"),
        "{}",
        finding.message
    );
}
