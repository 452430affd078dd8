//! Who the origin is told has asked.

use super::origins;
use super::rig::*;
use crate::plan::HttpOptions;

const PROXIED: &str = "GET / HTTP/1.1\r\nHost: a.com\r\nX-Forwarded-For: 56.5.6.7, 72.9.5.6, 98.1.2.3\r\n\
                       X-Forwarded-Proto: https\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_38_a_clients_request_id_and_envoy_headers_are_not_trusted() {
    let rig = Site::to(origins::echo().await).serve().await;
    let answer = rig
        .ask(
            "GET / HTTP/1.1\r\nHost: a.com\r\nX-Request-Id: mine\r\nX-Envoy-Max-Retries: 9\r\n\
             X-Envoy-External-Address: 6.6.6.6\r\nX-Envoy-Upstream-Rq-Timeout-Ms: 1\r\n\
             X-Envoy-Original-Path: /admin\r\nX-Forwarded-Client-Cert: Subject=root\r\n\r\n",
        )
        .await;
    let id = answer.received("x-request-id").unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 4);
    assert_eq!(
        answer.received("x-envoy-external-address"),
        Some("127.0.0.1")
    );
    for gone in [
        "x-envoy-max-retries",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-original-path",
        "x-forwarded-client-cert",
    ] {
        assert_eq!(answer.received(gone), None, "{gone}");
    }
    assert_eq!(rig.record().await.request_id.as_deref(), Some(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peer_is_appended_to_forwarded_for_and_the_protocol_is_ours() {
    let rig = Site::to(origins::echo().await).serve().await;
    let answer = rig.ask(PROXIED).await;
    assert_eq!(
        answer.received("x-forwarded-for"),
        Some("56.5.6.7, 72.9.5.6, 98.1.2.3,127.0.0.1")
    );
    assert_eq!(answer.received("x-forwarded-proto"), Some("http"));
    assert_eq!(
        answer.received("x-envoy-external-address"),
        Some("127.0.0.1")
    );
    assert_eq!(answer.received("x-envoy-attempt-count"), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_trusted_proxies_the_client_is_the_second_address_from_the_right() {
    let mut site = Site::to(origins::echo().await);
    site.http = HttpOptions {
        trusted_proxies: 2,
        ..HttpOptions::default()
    };
    let rig = site.serve().await;
    let answer = rig.ask(PROXIED).await;
    assert_eq!(
        answer.received("x-envoy-external-address"),
        Some("72.9.5.6")
    );
    assert_eq!(answer.received("x-forwarded-proto"), Some("https"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_proxy_header_can_be_turned_off_or_on() {
    let mut site = Site::to(origins::echo().await);
    site.http = HttpOptions {
        request_id: false,
        attempt_count: false,
        envoy_debug_headers: false,
        forwarded_port: true,
        server_header: None,
        ..HttpOptions::default()
    };
    let rig = site.serve().await;
    let answer = rig.get("/").await;
    assert_eq!(answer.received("x-request-id"), None);
    assert_eq!(answer.received("x-envoy-attempt-count"), None);
    assert_eq!(
        answer.received("x-forwarded-port"),
        Some(&*rig.address.port().to_string())
    );
    assert_eq!(answer.header("x-envoy-upstream-service-time"), "");
    assert_eq!(answer.header("server"), "origin");
}
