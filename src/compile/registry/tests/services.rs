//! Names, ports and what is missing.

use super::*;

#[test]
fn a_short_name_belongs_to_the_namespace_of_the_config_that_writes_it() {
    let yaml = service("reviews", "default", &["v1"]) + &service("reviews", "prod", &["v1"]);
    let asks = [
        ask("reviews"),
        ask("Reviews").from("prod"),
        ask("reviews.prod.svc.cluster.local"),
    ];
    let answers = answer(&yaml, &asks);
    assert_eq!(
        &*answers.cluster(0).name,
        "outbound|80||reviews.default.svc.cluster.local"
    );
    assert_eq!(
        &*answers.cluster(1).name,
        "outbound|80||reviews.prod.svc.cluster.local"
    );
    assert_eq!(answers.resolved[1], answers.resolved[2]);
    let cluster = answers.cluster(0);
    assert_eq!(&*cluster.service_name, "reviews");
    assert_eq!(&*cluster.service_namespace, "default");
    assert_eq!(answers.clusters.len(), 2);
    assert_eq!(answers.findings, []);
}

#[test]
fn gotcha_20_an_unknown_host_is_missing_and_the_hint_says_what_it_was_expanded_to() {
    let answers = answer(&service("reviews", "default", &["v1"]), &[ask("revews")]);
    assert_eq!(
        answers.missing(0),
        "outbound|80||revews.default.svc.cluster.local"
    );
    let finding = answers.finding("IST0101");
    assert_eq!(finding.path, "spec.http[0]");
    assert_eq!(
        finding.origin.as_ref().map(|origin| origin.position.line),
        Some(7)
    );
    assert!(
        finding.hint.contains("`revews` was expanded to"),
        "{}",
        finding.hint
    );
    assert!(
        finding
            .hint
            .contains("did you mean `reviews.default.svc.cluster.local`?"),
        "{}",
        finding.hint
    );
}

#[test]
fn gotcha_20_a_name_with_a_dot_is_literal_and_the_hint_says_the_full_one() {
    let yaml = service("reviews", "prod", &["v1"]);
    let answers = answer(
        &yaml,
        &[ask("reviews.prod"), ask("reviews.prod.svc"), ask("reviews")],
    );
    for finding in answers.with("IST0101").iter().take(2) {
        assert!(
            finding
                .hint
                .contains("write `reviews.prod.svc.cluster.local`"),
            "{}",
            finding.hint
        );
    }
    assert_eq!(answers.missing(0), "outbound|80||reviews.prod");
    let elsewhere = &answers.with("IST0101")[2].hint;
    assert!(
        elsewhere.contains("did you mean `reviews.prod.svc.cluster.local`?"),
        "{elsewhere}"
    );
}

#[test]
fn the_same_missing_destination_is_reported_once_for_all_listeners() {
    let versions = versions(&service("reviews", "default", &["v1"]));
    let options = Options::default();
    let mut findings = Findings::new();
    let mut registry = Registry::build(&versions, &options, Slots::default(), &mut findings);
    let origin = Origin::new("vs.yaml".into(), Position::default(), 0);
    let object = ObjectKey {
        kind: Kind::VirtualService,
        namespace: "default".into(),
        name: "v".into(),
    };
    for gateway_port in [80, 8080] {
        let reference = DestinationRef {
            host: "nothing",
            subset: None,
            port: None,
            gateway_port,
            namespace: "default",
            origin: &origin,
            object: &object,
            path: &FieldPath::spec(),
            consequence: "its traffic answers 503",
        };
        registry.resolve(&reference, &mut findings);
    }
    assert_eq!(findings.len(), 1);
}

const TWO_PORTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: two}
spec:
  clusterIP: 10.96.0.2
  ports:
  - {name: http, port: 80}
  - {name: grpc-api, port: 9090, targetPort: 9091}
  - {name: dns, port: 53, protocol: UDP}
";

#[test]
fn gotcha_19_a_port_left_out_is_the_gateways_if_the_service_has_several() {
    let asks = [
        ask("two"),
        ask("two").gateway_port(8080),
        ask("two").port(9090),
    ];
    let answers = answer(TWO_PORTS, &asks);
    assert_eq!(answers.cluster(0).port, 80);
    assert_eq!(
        answers.missing(1),
        "outbound|8080||two.default.svc.cluster.local"
    );
    assert_eq!(answers.cluster(2).port, 9090);
    assert!(answers.finding("IST0112").hint.contains("80, 9090"));
}

#[test]
fn the_only_port_of_a_service_is_taken_whatever_the_gateways() {
    let yaml = service("reviews", "default", &["v1"]);
    let answers = answer(&yaml, &[ask("reviews").gateway_port(8443)]);
    assert_eq!(answers.cluster(0).port, 80);
}

#[test]
fn an_unknown_port_and_a_port_that_is_no_stream_are_missing() {
    let answers = answer(
        TWO_PORTS,
        &[
            ask("two").port(81),
            ask("two").port(53),
            ask("two").port(70000),
        ],
    );
    assert_eq!(
        answers.missing(0),
        "outbound|81||two.default.svc.cluster.local"
    );
    assert_eq!(
        answers.missing(1),
        "outbound|53||two.default.svc.cluster.local"
    );
    assert_eq!(
        answers.missing(2),
        "outbound|70000||two.default.svc.cluster.local"
    );
    assert_eq!(answers.with("IST0101").len(), 3);
}

#[test]
fn gotcha_37_the_protocol_to_the_endpoints_comes_from_the_port() {
    let answers = answer(TWO_PORTS, &[ask("two").port(80), ask("two").port(9090)]);
    assert_eq!(answers.cluster(0).protocol, crate::plan::Protocol::Http1);
    assert_eq!(answers.cluster(1).protocol, crate::plan::Protocol::H2c);
}

#[test]
fn an_external_name_is_an_alias_of_a_known_service() {
    let yaml = service("reviews", "prod", &["v1"])
        + "
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: Reviews.prod.svc.cluster.local, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: portless}
spec: {type: ExternalName, externalName: alias.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: ring}
spec: {type: ExternalName, externalName: ring.default.svc.cluster.local}
";
    let asks = [ask("alias"), ask("portless"), ask("outside"), ask("ring")];
    let answers = answer(&yaml, &asks);
    assert_eq!(
        &*answers.cluster(0).name,
        "outbound|80||reviews.prod.svc.cluster.local"
    );
    assert_eq!(answers.resolved[0], answers.resolved[1]);
    assert_eq!(answers.missing(2), "outbound|80||example.com");
    assert_eq!(
        answers.missing(3),
        "outbound|80||ring.default.svc.cluster.local"
    );
}

#[test]
fn a_service_hidden_by_its_export_to_is_missing_and_the_hint_says_so() {
    let yaml = "
apiVersion: v1
kind: Service
metadata: {name: own, annotations: {networking.istio.io/exportTo: '.'}}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: shared, annotations: {networking.istio.io/exportTo: 'x, istio-system'}}
spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}
";
    let answers = answer(yaml, &[ask("own"), ask("shared")]);
    assert_eq!(
        answers.missing(0),
        "outbound|80||own.default.svc.cluster.local"
    );
    assert!(
        answers
            .finding("IST0101")
            .hint
            .contains("exportTo hides it")
    );
    assert_eq!(answers.cluster(1).port, 80);

    let private = Options {
        service_export_to: vec![".".into()],
        ..Options::default()
    };
    let answers = answer_with(&private, yaml, &[ask("shared")]);
    assert_eq!(answers.cluster(0).port, 80);
}

#[test]
fn a_service_that_cannot_be_read_fences_its_traffic() {
    let yaml = "
apiVersion: v1
kind: Service
metadata: {name: bad}
spec: {clusterIP: 10.96.0.1, ports: [{port: eighty}]}
";
    let answers = answer(yaml, &[ask("bad")]);
    assert!(
        answers
            .fence(0)
            .reason
            .contains("Service default/bad is broken at spec.ports[0].port")
    );
}
