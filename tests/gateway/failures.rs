//! Every answer of the gateway's own has Istio's status, body and flag.

use super::harness::*;

fn one(origin_port: u16, http: &str) -> Gateway {
    Start::one_service_by("one", "a.example.com", origin_port, http).ready()
}

#[test]
fn no_route_is_an_empty_404_with_flag_nr() {
    let gateway = one(
        1,
        "    - match: [{uri: {prefix: /x}}]\n      route:\n        - destination: {host: one.internal}\n",
    );
    for host in ["a.example.com", "unknown.example.com"] {
        let response = gateway.get(host, "/none");
        assert_eq!((response.status, response.body.as_str()), (404, ""));
        assert!(response.header("x-envoy-upstream-service-time").is_none());
    }
    let line = gateway.await_log("unknown.example.com");
    assert!(
        line.contains("\"GET /none HTTP/1.1\" 404 NR route_not_found - \"-\" 0 0 "),
        "{line}"
    );
}

#[test]
fn gotcha_20_an_unknown_destination_is_an_empty_503_and_no_endpoint_has_a_text() {
    let gateway = one(
        1,
        "    - match: [{uri: {prefix: /nc}}]\n      route:\n        - destination: {host: missing.internal}\n    - route:\n        - destination: {host: one.internal, port: {number: 80}}\n",
    );
    let response = gateway.get("a.example.com", "/nc");
    assert_eq!((response.status, response.body.as_str()), (503, ""));
    assert!(
        gateway
            .await_log("/nc")
            .contains(" 503 NC cluster_not_found "),
        "NC is logged"
    );
    gateway.write(
        "service.yaml",
        &service_yaml("one.internal", &[]).replace("endpoints:\n", "endpoints: []\n"),
    );
    let response = await_until("the endpoint is gone", || {
        let response = gateway.get("a.example.com", "/uh");
        (response.body == "no healthy upstream").then_some(response)
    });
    assert_eq!(response.status, 503);
    gateway.await_log(" 503 UH no_healthy_upstream ");
}

#[test]
fn a_refused_connection_is_503_uf_with_envoys_text() {
    let gateway = one(free_port(), &everything_to("one.internal"));
    let response = gateway.get("a.example.com", "/uf");
    assert_eq!(response.status, 503);
    assert_eq!(
        response.body,
        "upstream connect error or disconnect/reset before headers. retried and the latest reset \
         reason: remote connection failure, transport failure reason: delayed connect error: \
         Connection refused"
    );
    assert!(
        gateway.await_log("/uf").contains(" 503 UF,URX "),
        "UF,URX is logged, as Istio retries by default"
    );
}

#[test]
fn an_origin_that_closes_without_an_answer_is_503_uc_and_not_asked_twice() {
    let origin = Origin::start("closing", Behaviour::Close);
    let gateway = one(origin.port, &everything_to("one.internal"));
    let response = exchange(
        gateway.addr(),
        b"POST /uc HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 2\r\n\r\nhi",
    )
    .unwrap();
    assert_eq!(response.status, 503);
    assert_eq!(
        response.body,
        "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
    );
    assert!(
        gateway.await_log("/uc").contains(" 503 UC "),
        "UC is logged"
    );
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_origin_that_does_not_speak_http_is_a_502() {
    let origin = Origin::start("garbage", Behaviour::Garbage);
    let gateway = one(origin.port, &everything_to("one.internal"));
    assert_eq!(gateway.get("a.example.com", "/upe").status, 502);
    assert!(
        gateway.await_log("/upe").contains(" 502 UPE "),
        "UPE is logged"
    );
}

#[test]
fn gotcha_25_a_route_timeout_is_504_with_envoys_text() {
    let origin = Origin::start("stalling", Behaviour::Stall);
    let gateway = one(
        origin.port,
        &format!("{}      timeout: 0.2s\n", everything_to("one.internal")),
    );
    let response = gateway.get("a.example.com", "/ut");
    assert_eq!(
        (response.status, response.body.as_str()),
        (504, "upstream request timeout")
    );
    assert!(
        gateway
            .await_log("/ut")
            .contains(" 504 UT response_timeout "),
        "UT is logged"
    );
}

#[test]
fn a_grpc_request_gets_its_error_as_a_grpc_status() {
    let gateway = one(
        1,
        "    - match: [{uri: {prefix: /x}}]\n      route:\n        - destination: {host: one.internal}\n",
    );
    let response = gateway.client().get(
        "a.example.com",
        "/none",
        &["Content-Type: application/grpc"],
    );
    assert_eq!(response.status, 200);
    assert_eq!(response.header("grpc-status"), Some("12"));
}

#[test]
fn an_unenforced_protection_fails_closed_until_it_is_accepted() {
    let origin = Origin::echo("one");
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: deny\n  namespace: istio-system\nspec:\n  selector: {matchLabels: {istio: ingressgateway}}\n  action: DENY\n  rules: [{to: [{operation: {paths: [/admin]}}]}]\n";
    let files = [
        ("gateway.yaml", gateway_yaml(&["*"])),
        (
            "service.yaml",
            service_yaml("one.internal", &[(origin.port, "v1")]),
        ),
        (
            "routes.yaml",
            routes_yaml("one", &["*"], &everything_to("one.internal")),
        ),
        ("policy.yaml", policy.to_owned()),
    ];
    let closed = Start::with(&files).ready();
    assert_eq!(closed.get("a.example.com", "/").status, 503);
    assert_eq!(origin.count(), 0);
    closed.await_stderr("PGR0102");
    let accepted = Start::with(&files)
        .settings("  acceptUnenforced: [AuthorizationPolicy/istio-system/deny]\n")
        .ready();
    assert_eq!(accepted.get("a.example.com", "/").status, 200);
}
