//! What an origin and a client see of each other through the gateway.

use super::harness::*;

fn echo(settings: &str) -> (Gateway, Origin) {
    let origin = Origin::echo("echo");
    let gateway = Start::one_service("echo", "*", origin.port)
        .settings(settings)
        .ready();
    (gateway, origin)
}

fn value<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

#[test]
fn gotcha_38_a_clients_request_id_and_envoy_headers_are_not_trusted() {
    let (gateway, origin) = echo("");
    gateway.client().get(
        "a.example.com",
        "/",
        &[
            "X-Request-Id: mine",
            "X-Envoy-Max-Retries: 9",
            "X-Envoy-Upstream-Rq-Timeout-Ms: 1",
            "X-Forwarded-For: 1.2.3.4",
            "X-Forwarded-Proto: https",
        ],
    );
    let head = origin.last_head();
    let id = value(&head, "x-request-id");
    assert_eq!(id.len(), 1);
    assert_eq!((id[0].len(), id[0].split('-').count()), (36, 5), "{id:?}");
    assert!(value(&head, "x-envoy-max-retries").is_empty());
    assert!(value(&head, "x-envoy-upstream-rq-timeout-ms").is_empty());
    assert_eq!(
        value(&head, "x-forwarded-for").join(","),
        "1.2.3.4,127.0.0.1"
    );
    assert_eq!(value(&head, "x-forwarded-proto"), ["http"]);
    assert_eq!(value(&head, "x-envoy-attempt-count"), ["1"]);
    assert_eq!(value(&head, "x-envoy-external-address"), ["127.0.0.1"]);
}

#[test]
fn with_trusted_proxies_the_nth_address_from_the_right_is_the_clients() {
    let (gateway, origin) =
        echo("  mesh: {defaultConfig: {gatewayTopology: {numTrustedProxies: 2}}}\n");
    gateway.client().get(
        "a.example.com",
        "/",
        &[
            "X-Forwarded-For: 56.5.6.7, 72.9.5.6, 98.1.2.3",
            "X-Forwarded-Proto: https",
        ],
    );
    let head = origin.last_head();
    assert_eq!(value(&head, "x-envoy-external-address"), ["72.9.5.6"]);
    assert_eq!(value(&head, "x-forwarded-proto"), ["https"]);
}

#[test]
fn the_server_header_is_istios_and_the_service_time_is_told() {
    let (gateway, _origin) = echo("");
    let response = gateway.get("a.example.com", "/");
    assert_eq!(response.header("server"), Some("istio-envoy"));
    assert!(
        response
            .header("x-envoy-upstream-service-time")
            .is_some_and(|ms| ms.parse::<u64>().is_ok())
    );
    assert!(response.header("date").is_some());
}

#[test]
fn a_path_is_normalised_before_matching_and_forwarding() {
    let (gateway, origin) = echo("");
    gateway.get("a.example.com", "/a/./b/../%7Eu%2Fx\\y?q=../1");
    assert!(
        origin
            .last_head()
            .starts_with("GET /a/~u%2Fx/y?q=../1 HTTP/1.1"),
        "{}",
        origin.last_head()
    );
    assert_eq!(gateway.get("a.example.com", "/a%00b").status, 400);
}

#[test]
fn a_body_arrives_whole_and_the_connection_is_kept() {
    let (gateway, origin) = echo("");
    let mut client = gateway.client();
    let body = "x".repeat(200_000);
    for _ in 0..3 {
        client.write(
            format!(
                "POST /up HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
        let response = client.read().unwrap();
        assert_eq!(response.status, 200);
        assert!(response.body.ends_with(&body));
    }
    assert_eq!(origin.count(), 3);
}

#[test]
fn a_websocket_passes_both_ways() {
    let (gateway, _origin) = echo("");
    let mut client = gateway.client();
    client.write(b"GET /ws HTTP/1.1\r\nHost: a.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_eq!(client.read().unwrap().status, 101);
    client.write(b"HTTP/1.1 299 echoed\r\nContent-Length: 2\r\n\r\nok");
    let echoed = client.read().unwrap();
    assert_eq!((echoed.status, echoed.body.as_str()), (299, "ok"));
}

#[test]
fn http2_with_prior_knowledge_is_served_on_the_same_port() {
    let (gateway, origin) = echo("");
    let output = std::process::Command::new("curl")
        .args([
            "-s",
            "--http2-prior-knowledge",
            "-H",
            "Host: a.example.com",
            "-w",
            "|%{http_version} %{response_code}",
        ])
        .arg(format!("http://{}/two?x=1", gateway.addr()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.ends_with("|2 200"), "{text}");
    let head = origin.last_head().to_ascii_lowercase();
    assert!(
        head.starts_with("get /two?x=1 http/1.1") && head.contains("host: a.example.com"),
        "{head}"
    );
}

#[test]
fn hop_by_hop_headers_end_at_the_gateway() {
    let (gateway, origin) = echo("");
    gateway.client().get(
        "a.example.com",
        "/",
        &[
            "Connection: keep-alive, X-Hop",
            "X-Hop: 1",
            "Keep-Alive: 5",
            "Proxy-Connection: x",
            "TE: gzip",
        ],
    );
    let head = origin.last_head();
    for name in ["x-hop", "keep-alive", "proxy-connection", "te"] {
        assert!(value(&head, name).is_empty(), "{name} in {head}");
    }
}
