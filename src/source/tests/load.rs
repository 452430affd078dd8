//! What is read, and as which objects.

use super::*;
use crate::base::Kind;
use crate::model::Spec;

#[test]
fn folders_are_read_with_all_below_and_other_files_are_not() {
    let folder = Folder::new();
    folder.write("a.yaml", service("a"));
    folder.write("team/b.yml", service("b"));
    let c = r#"{"apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": "c", "namespace": "edge"}, "spec": {"servers": []}}"#;
    folder.write("team/deep/c.json", c);
    folder.write("README.md", "not a manifest");
    folder.write("..hidden/d.yaml", service("d"));
    folder.write(".#lock.yaml", "editor");
    let inventory = folder.load();
    assert_eq!(names(&inventory), ["default/a", "default/b", "edge/c"]);
    assert_eq!(codes(&inventory), [""; 0]);
    assert!(!inventory.incomplete);
}

#[test]
fn a_file_named_outright_is_read_whatever_its_name_is() {
    let folder = Folder::new();
    let path = folder.write("manifest.txt", service("a"));
    let inventory = Loader::new(vec![path], LoadOptions::default()).load();
    assert_eq!(names(&inventory), ["default/a"]);
}

#[test]
fn a_file_holds_several_documents_and_each_knows_its_place() {
    let folder = Folder::new();
    let text = format!(
        "# first\n{}---\n---\n# comment\n{}",
        service("a"),
        service("b")
    );
    folder.write("both.yaml", text);
    let inventory = folder.load();
    let places: Vec<_> = inventory
        .objects
        .iter()
        .map(|object| (object.origin.position.line, object.origin.document))
        .collect();
    assert_eq!(places, [(2, 0), (11, 1)]);
}

#[test]
fn lists_are_taken_apart_whether_typed_or_not() {
    let folder = Folder::new();
    let plain = "
apiVersion: v1
kind: List
items:
- apiVersion: networking.istio.io/v1beta1
  kind: VirtualService
  metadata: {name: a}
  spec: {hosts: [a]}
- apiVersion: v1
  kind: Service
  metadata: {name: s}
";
    let typed = "
apiVersion: networking.istio.io/v1
kind: DestinationRuleList
metadata: {resourceVersion: '1'}
items:
- metadata: {name: d, namespace: x}
  spec: {host: x, wrong: 1}
";
    folder.write("plain.yaml", plain);
    folder.write("typed.yaml", typed);
    let inventory = folder.load();
    assert_eq!(names(&inventory), ["default/a", "x/d", "default/s"]);
    let rule = &inventory.objects[1];
    assert_eq!(rule.key.kind, Kind::DestinationRule);
    assert_eq!(rule.origin.position.line, 6);
    assert_eq!(rule.issues[0].path.to_string(), "spec.wrong");
}

#[test]
fn objects_without_a_namespace_get_the_default_one() {
    let folder = Folder::new();
    folder.write("a.yaml", service("a"));
    let options = LoadOptions {
        namespace: "shop".into(),
        ..LoadOptions::default()
    };
    let inventory = Loader::new(vec![folder.path().to_path_buf()], options).load();
    assert_eq!(names(&inventory), ["shop/a"]);
}

#[test]
fn the_order_is_age_then_name_then_namespace_then_kind() {
    let folder = Folder::new();
    let object = |kind: &str, namespace: &str, name: &str, created: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}, creationTimestamp: {created}}}\nspec: {{}}\n---\n"
        )
    };
    let text = [
        object("VirtualService", "z", "b", "null"),
        object("VirtualService", "a", "b", "null"),
        object("Gateway", "a", "b", "null"),
        object("VirtualService", "a", "a", "null"),
        object("VirtualService", "a", "young", "2024-01-02T00:00:00Z"),
        object("VirtualService", "a", "old", "\"2024-01-01T00:00:00Z\""),
    ];
    folder.write("all.yaml", text.concat());
    let inventory = folder.load();
    assert_eq!(
        names(&inventory),
        ["a/old", "a/young", "a/a", "a/b", "a/b", "z/b"]
    );
    assert_eq!(inventory.objects[3].key.kind, Kind::Gateway);
    assert_eq!(inventory.objects[0].created, Some(1_704_067_200));
    assert!(
        inventory
            .objects
            .iter()
            .all(|object| object.issues.is_empty())
    );
}

#[test]
fn a_repeated_identity_is_an_error_and_the_lowest_path_wins() {
    let folder = Folder::new();
    folder.write("b.yaml", service("same"));
    folder.write(
        "a.yaml",
        format!("# comment\n{}---\n{}", service("same"), service("same")),
    );
    let mut loader = folder.loader();
    let inventory = loader.load();
    assert_eq!(names(&inventory), ["default/same"]);
    assert!(
        inventory.objects[0]
            .origin
            .to_string()
            .ends_with("a.yaml:2")
    );
    assert_eq!(
        codes(&inventory),
        ["DuplicateObject a.yaml:9", "DuplicateObject b.yaml:1"]
    );
    assert!(
        messages(&inventory).contains("a.yaml:2 already"),
        "{}",
        messages(&inventory)
    );

    fs::remove_file(folder.at("a.yaml")).unwrap();
    let inventory = loader.reload(&[folder.at("a.yaml")]);
    assert!(
        inventory.objects[0]
            .origin
            .to_string()
            .ends_with("b.yaml:1")
    );
    assert_eq!(codes(&inventory), [""; 0]);
}

#[test]
fn foreign_kinds_are_summarised_once_per_kind() {
    let folder = Folder::new();
    let object =
        |api: &str, kind: &str| format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\n");
    folder.write("a.yaml", service("a"));
    folder.write("b.yaml", object("apps/v1", "Deployment"));
    folder.write(
        "c.yaml",
        object("apps/v1", "Deployment") + "---\n" + &object("v1", "ConfigMap"),
    );
    folder.write("d.yaml", object("gateway.networking.k8s.io/v1", "Gateway"));
    let inventory = folder.load();
    assert_eq!(
        codes(&inventory),
        [
            "ForeignKind b.yaml:1",
            "ForeignKind c.yaml:5",
            "ForeignKind d.yaml:1"
        ]
    );
    let told = messages(&inventory);
    assert!(
        told.contains("2 Deployment objects are not read by a gateway"),
        "{told}"
    );
    assert!(told.contains("1 ConfigMap object is not read"), "{told}");
    assert!(
        told.contains("Gateway (gateway.networking.k8s.io)"),
        "{told}"
    );
}

#[test]
fn istio_kinds_that_are_not_decoded_stay_in_the_inventory() {
    let folder = Folder::new();
    let text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict}\nspec: {mtls: {mode: STRICT}}\n";
    folder.write("a.yaml", text);
    let inventory = folder.load();
    assert_eq!(
        inventory.objects[0].key.kind,
        Kind::Other("PeerAuthentication".into())
    );
    assert!(matches!(inventory.objects[0].spec, Spec::Unsupported));
    assert_eq!(inventory.objects[0].issues, []);
}

#[test]
fn what_the_api_server_adds_is_never_an_issue_and_other_keys_are() {
    let folder = Folder::new();
    let text = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: a
  generation: 3
  labels: {app: a, version: 1}
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: '{}'
    note: kept
  managedFields: [{manager: kubectl, fieldsV1: {'f:spec': {}}}]
  creationTimestamp: yesterday
status: {validationMessages: []}
hosts: [b]
spec: {hosts: [a]}
";
    folder.write("a.yaml", text);
    let inventory = folder.load();
    let object = &inventory.objects[0];
    let issues: Vec<_> = object
        .issues
        .iter()
        .map(|issue| issue.path.to_string())
        .collect();
    assert_eq!(
        issues,
        [
            "metadata.labels.version",
            "metadata.creationTimestamp",
            "hosts"
        ]
    );
    assert_eq!(
        object
            .annotations
            .keys()
            .map(|key| &**key)
            .collect::<Vec<_>>(),
        ["note"]
    );
    assert_eq!(object.origin_of(&object.issues[0].path).position.line, 7);
}

#[test]
fn pods_and_slices_are_read_from_the_whole_document() {
    let folder = Folder::new();
    let text = "
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: a}, deletionTimestamp: '2024-01-01T00:00:00Z'}
spec: {nodeName: n1, containers: [{name: c, image: i, ports: [{name: web, containerPort: 8080}]}]}
status:
  podIP: 10.0.0.1
  podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]
  phase: Running
  conditions: [{type: Ready, status: 'True', lastProbeTime: null}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- addresses: [10.0.0.1]
  conditions: {ready: true, serving: true, terminating: false}
  targetRef: {kind: Pod, name: p, namespace: default}
ports: [{name: http, port: 8080, protocol: TCP}]
";
    folder.write("a.yaml", text);
    let inventory = folder.load();
    assert!(
        inventory
            .objects
            .iter()
            .all(|object| object.issues.is_empty())
    );
    let Spec::Pod(pod) = &inventory.objects[0].spec else {
        panic!("no pod")
    };
    assert!(pod.ready() && pod.metadata.deleting());
    assert_eq!(
        pod.status.pod_ips[1].good().unwrap().ip.as_deref(),
        Some("fd00::1")
    );
    let Spec::EndpointSlice(slice) = &inventory.objects[1].spec else {
        panic!("no slice")
    };
    let endpoint = slice.endpoints[0].good().unwrap();
    assert_eq!(
        (endpoint.conditions.ready, endpoint.addresses.len()),
        (Some(true), 1)
    );
}

#[test]
fn the_content_hash_sees_meaning_and_not_layout() {
    let content = |text: &str| {
        let folder = Folder::new();
        folder.write("a.yaml", text);
        folder.load().objects[0].content
    };
    let head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n";
    let plain = content(&format!(
        "{head}metadata: {{name: a}}\nspec:\n  hosts: [a]\n  gateways: [g]\n"
    ));
    let same = content(&format!(
        "# moved\nspec: {{gateways: ['g'], hosts: [\"a\"]}}\nstatus: {{x: 1}}\n{head}metadata: {{name: a, uid: u, generation: 2}}\n"
    ));
    let other = content(&format!(
        "{head}metadata: {{name: a}}\nspec:\n  hosts: [b]\n  gateways: [g]\n"
    ));
    let number = content(&format!(
        "{head}metadata: {{name: a}}\nspec:\n  hosts: [1]\n  gateways: [g]\n"
    ));
    let text = content(&format!(
        "{head}metadata: {{name: a}}\nspec:\n  hosts: ['1']\n  gateways: [g]\n"
    ));
    assert_eq!(plain, same);
    assert_ne!(plain, other);
    assert_ne!(number, text);
}

#[test]
fn anchors_aliases_and_merge_keys_are_resolved_with_lines_to_change() {
    let folder = Folder::new();
    let text = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  http:
  - &rule
    match: [{prot: 1}]
  - *rule
  - <<: *rule
    name: merged
";
    folder.write("a.yaml", text);
    let inventory = folder.load();
    let object = &inventory.objects[0];
    let Spec::VirtualService(service) = &object.spec else {
        panic!("no service")
    };
    let lines: Vec<_> = service.http.iter().map(|rule| rule.position.line).collect();
    assert_eq!(lines[1..], [9, 10]);
    assert_eq!(service.http[2].good().unwrap().matches.len(), 1);
    let issues: Vec<_> = object
        .issues
        .iter()
        .map(|issue| issue.position.line)
        .collect();
    assert_eq!(issues, [8, 8, 8]);
}
