//! What a document says is decoded as far as it can be, and all that is wrong with it is told.

use serde::de::DeserializeOwned;

use crate::base::Position;
use crate::model::Node;
use crate::model::decode::{Opaque, UnknownFields, decode};
use crate::model::istio::{DestinationRule, EnvoyFilter, Gateway, VirtualService};
use crate::model::kube::{IntOrString, Service};
use crate::model::node::Value;
use crate::model::object::{FieldPath, Issue, IssueKind};
use crate::source::yaml;

/// How many attempts an element gets, and the issue that says there were too many.
const MAX_ISSUES: usize = 65;

fn parse(text: &str) -> Node {
    yaml::parse(text, &mut yaml::KeyNames::default())
        .unwrap()
        .remove(0)
}

fn read<T: DeserializeOwned + Default>(text: &str) -> (T, Vec<Issue>) {
    decode(&parse(text), &FieldPath::spec(), UnknownFields::Report)
}

/// Issues as `path@line:column message | hint`.
fn told<T: DeserializeOwned + Default>(text: &str) -> Vec<String> {
    let (_, issues) = read::<T>(text);
    issues
        .iter()
        .map(|issue| {
            let Position { line, column } = issue.position;
            format!(
                "{}@{line}:{column} {} | {}",
                issue.path, issue.message, issue.hint
            )
        })
        .collect()
}

const ROUTES: &str = "
hosts: [a.example]
http:
- name: first
  match:
  - uri: {prefix: /a}
    port: eighty
  - uri: {prefix: /b}
  route:
  - destination: {host: a, port: {number: 80}}
    weight: 7
- name: second
  timout: 5s
  timeout: 5
  route:
  - destination: {host: b}
- just text
- name: fourth
";

#[test]
fn one_bad_rule_does_not_spoil_its_neighbours() {
    let (service, issues) = read::<VirtualService>(ROUTES);
    let names: Vec<_> = service
        .http
        .iter()
        .map(|rule| {
            rule.good()
                .map(|rule| rule.name.as_deref().unwrap_or_default())
        })
        .collect();
    assert_eq!(names, [Some("first"), Some("second"), None, Some("fourth")]);
    assert_eq!(issues.len(), 4);
    let first = service.http[0].good().unwrap();
    assert_eq!(first.matches.len(), 2);
    assert_eq!(first.matches[0].good().unwrap().port, None);
    assert_eq!(first.route[0].good().unwrap().weight, Some(7));
    assert_eq!(service.http[1].good().unwrap().route.len(), 1);
}

#[test]
fn every_issue_names_its_path_its_line_and_what_to_write() {
    assert_eq!(
        told::<VirtualService>(ROUTES),
        [
            "spec.http[0].match[0].port@7:11 `eighty` is not an integer | write an integer",
            "spec.http[1].timout@13:3 `timout` is not a field of `spec.http[1]` | did you mean `timeout`?",
            "spec.http[1].timeout@14:12 is a number, but a string is expected | put it in quotes: \"5\"",
            "spec.http[2]@17:3 is a string, but a map of fields is expected | write a map of fields",
        ]
    );
}

#[test]
fn elements_know_their_line_even_when_broken() {
    let (service, _) = read::<VirtualService>(ROUTES);
    let lines: Vec<_> = service.http.iter().map(|rule| rule.position.line).collect();
    assert_eq!(lines, [4, 12, 17, 18]);
}

#[test]
fn wrong_types_are_told_one_by_one() {
    let cases = [
        (
            "hosts: a",
            "spec.hosts@1:8 is a string, but a list is expected | write a list",
        ),
        (
            "hosts: [1]",
            "spec.hosts[0]@1:9 is a number, but a string is expected | put it in quotes: \"1\"",
        ),
        (
            "hosts: [1.10]",
            "spec.hosts[0]@1:9 is a number, but a string is expected | put it in quotes: \"1.10\"",
        ),
        (
            "hosts: {a: b}",
            "spec.hosts@1:1 is a map, but a list is expected | write a list",
        ),
        (
            "http: [{match: [{uri: /a}]}]",
            "spec.http[0].match[0].uri@1:23 is a string, but a map of fields is expected | write a map of fields",
        ),
        (
            "http: [{match: [{headers: {x-user: }}]}]",
            "spec.http[0].match[0].headers.x-user@1:28 is empty, but a map is expected | write its fields, or `{}` for none",
        ),
        (
            "http: [{match: [{ignoreUriCase: 'yes'}]}]",
            "spec.http[0].match[0].ignoreUriCase@1:33 is a string, but true or false is expected | write true or false",
        ),
        (
            "http: [{redirect: {redirectCode: -1}}]",
            "spec.http[0].redirect.redirectCode@1:34 is integer `-1`, which does not fit u32 | ",
        ),
        (
            "http: [{fault: {delay: {percentage: {value: lots}}}}]",
            "spec.http[0].fault.delay.percentage.value@1:45 `lots` is not a number | write a number",
        ),
        (
            "http: [{headers: {request: {set: {a: true}}}}]",
            "spec.http[0].headers.request.set.a@1:38 is a boolean, but a string is expected | put it in quotes if text is meant",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told::<VirtualService>(text), [expected], "{text}");
    }
}

#[test]
fn unknown_fields_are_told_at_every_depth_with_the_nearest_known_one() {
    let cases = [
        (
            "host: [a]",
            "spec.host@1:1 `host` is not a field of `spec` | did you mean `hosts`?",
        ),
        (
            "http: [{match: [{uri: {perfix: /}}]}]",
            "spec.http[0].match[0].uri.perfix@1:24 `perfix` is not a field of `spec.http[0].match[0].uri` | did you mean `prefix`?",
        ),
        (
            "http: [{route: [{destination: {host: a, Port: {number: 1}}}]}]",
            "spec.http[0].route[0].destination.Port@1:41 `Port` is not a field of `spec.http[0].route[0].destination` | did you mean `port`?",
        ),
        (
            "tcp: [{nonsense: 1}]",
            "spec.tcp[0].nonsense@1:8 `nonsense` is not a field of `spec.tcp[0]` | remove it, or move it to where it belongs; known here: match, route",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told::<VirtualService>(text), [expected], "{text}");
    }
}

#[test]
fn several_mistakes_in_one_element_are_each_told_once() {
    let text = "servers:\n- port: {number: x, name: 1, protocol: HTTP, colour: red}\n  hosts: [1, ok, 2]\n  bnd: 1";
    let (gateway, issues) = read::<Gateway>(text);
    let paths: Vec<_> = issues.iter().map(|issue| issue.path.to_string()).collect();
    assert_eq!(
        paths,
        [
            "spec.servers[0].port.number",
            "spec.servers[0].port.name",
            "spec.servers[0].port.colour",
            "spec.servers[0].hosts[0]",
            "spec.servers[0].hosts[2]",
            "spec.servers[0].bnd",
        ]
    );
    let server = gateway.servers[0].good().unwrap();
    assert_eq!(server.hosts, ["ok"]);
    assert_eq!(
        server.port.as_ref().unwrap().protocol.as_deref(),
        Some("HTTP")
    );
}

#[test]
fn an_element_with_nothing_but_mistakes_is_given_up_rather_than_tried_for_ever() {
    let hosts = (0..500)
        .map(|i| i.to_string())
        .collect::<Vec<_>>()
        .join(",");
    let text = format!("servers: [{{hosts: [{hosts}]}}, {{hosts: [ok]}}]");
    let (gateway, issues) = read::<Gateway>(&text);
    assert!(gateway.servers[0].good().is_none());
    assert_eq!(gateway.servers[1].good().unwrap().hosts, ["ok"]);
    assert!(issues.len() <= MAX_ISSUES, "{}", issues.len());
    let (service, issues) = read::<VirtualService>(&format!("hosts: [{hosts}]"));
    assert_eq!(service, VirtualService::default());
    assert!(issues.len() <= MAX_ISSUES);
}

#[test]
fn protobuf_json_spellings_are_accepted() {
    let text = "
host: a
traffic_policy:
  connection_pool:
    tcp: {max_connections: '7', connectTimeout: null}
    http: {http1MaxPendingRequests: 1.0, maxRetries: 1e2}
  outlier_detection: {consecutive_5xx_errors: 3, consecutiveGatewayErrors: }
  load_balancer: {warmup: {minimumPercent: '12.5', aggression: 2}}
subsets:
";
    let (rule, issues) = read::<DestinationRule>(text);
    assert_eq!(issues, []);
    let policy = rule.traffic_policy.unwrap();
    let pool = policy.connection_pool.unwrap();
    assert_eq!(pool.tcp.unwrap().max_connections, Some(7));
    let http = pool.http.unwrap();
    assert_eq!(
        (http.http1_max_pending_requests, http.max_retries),
        (Some(1), Some(100))
    );
    assert_eq!(
        policy.outlier_detection.unwrap().consecutive_5xx_errors,
        Some(3)
    );
    let warmup = policy.load_balancer.unwrap().warmup.unwrap();
    assert_eq!(
        (warmup.minimum_percent, warmup.aggression),
        (Some(12.5), Some(2.0))
    );
}

#[test]
fn a_field_in_both_spellings_is_a_mistake() {
    let text = "traffic_policy: {}\ntrafficPolicy: {}\nhost: a";
    let (rule, issues) = read::<DestinationRule>(text);
    assert_eq!(issues.len(), 1);
    assert_eq!(issues[0].kind, IssueKind::WrongType);
    assert_eq!(issues[0].path.to_string(), "spec.traffic_policy");
    assert_eq!(rule.host, "a");
}

#[test]
fn an_empty_string_match_is_present_and_an_absent_one_is_not() {
    let text = "http: [{match: [{headers: {x: {}, y: {exact: ''}}, uri: }]}]";
    let (service, issues) = read::<VirtualService>(text);
    assert_eq!(issues, []);
    let rule = service.http[0].good().unwrap();
    let condition = rule.matches[0].good().unwrap();
    assert_eq!(condition.headers["x"], Default::default());
    assert_eq!(condition.headers["y"].exact.as_deref(), Some(""));
    assert_eq!(condition.uri, None);
}

#[test]
fn opaque_parts_are_kept_with_their_lines_and_never_judged() {
    let text = "
configPatches:
- applyTo: HTTP_FILTER
  match: {context: GATEWAY, listener: {portNumber: 8080, anything: [1, 2.5, true, null, x]}}
  patch:
    operation: INSERT_BEFORE
    value: {name: envoy.filters.http.local_ratelimit}
";
    let (filter, issues) = read::<EnvoyFilter>(text);
    assert_eq!(issues, []);
    let patch = filter.config_patches[0].good().unwrap();
    let Opaque(node) = patch.patch.as_ref().unwrap();
    assert_eq!(
        node.get("operation").and_then(Node::as_str),
        Some("INSERT_BEFORE")
    );
    assert_eq!(
        node.entries()[1].key_position,
        Position { line: 7, column: 5 }
    );
    let Opaque(listener) = patch.matches.as_ref().unwrap().listener.as_ref().unwrap();
    let kinds: Vec<_> = listener
        .get("anything")
        .unwrap()
        .items()
        .iter()
        .map(Node::kind)
        .collect();
    assert_eq!(
        kinds,
        ["a number", "a number", "a boolean", "empty", "a string"]
    );
    assert_eq!(
        listener.get("portNumber").unwrap().value,
        Value::Int("8080".into())
    );
}

#[test]
fn kubernetes_fields_that_are_not_modelled_are_passed_over() {
    let text = "
type: ClusterIP
sessionAffinity: None
clusterIPs: [10.0.0.1]
ports:
- {name: http, port: 80, targetPort: web, nodePort: 30080}
- {port: 443, targetPort: 8443}
- {port: 1, targetPort: 70000}
";
    let path = FieldPath::spec();
    let (service, issues) = decode::<Service>(&parse(text), &path, UnknownFields::Ignore);
    let targets: Vec<_> = service
        .ports
        .iter()
        .map(|port| port.good().unwrap().target_port.clone())
        .collect();
    assert_eq!(
        targets,
        [
            Some(IntOrString::String("web".into())),
            Some(IntOrString::Int(8443)),
            None
        ]
    );
    assert_eq!(service.cluster_ips, ["10.0.0.1"]);
    assert_eq!(issues.len(), 1);
    assert_eq!(issues[0].path.to_string(), "spec.ports[2].targetPort");
}

#[test]
fn a_spec_that_is_no_map_is_one_issue_and_the_default() {
    let (service, issues) = read::<VirtualService>("[1, 2]");
    assert_eq!(service, VirtualService::default());
    assert_eq!(issues.len(), 1);
    assert_eq!(issues[0].path, FieldPath::spec());
}

#[test]
fn wrappers_are_transparent_to_other_deserializers() {
    let service: VirtualService = serde_json::from_str(r#"{"http": [{"name": "a"}]}"#).unwrap();
    assert_eq!(service.http[0].good().unwrap().name.as_deref(), Some("a"));
}
