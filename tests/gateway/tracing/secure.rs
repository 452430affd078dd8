//! TLS to collectors, with real handshakes.

use std::path::Path;
use std::process::Command;

use super::collector::Collector;
use super::start;
use crate::harness::*;
use crate::origin_tls::origin::{Seen, Shows, TlsOrigin};
use crate::tls::material::{Authority, Issued};

/// The name in collectors' certificates; it is not the one they are reached by.
const NAME: &str = "collector.example";

/// A collector, and TLS in front of it that shows a certificate.
fn secure(protocol: &str, certificate: &Issued) -> (Collector, Shows) {
    let collector = match protocol {
        "grpc" => Collector::grpc(),
        _ => Collector::http(),
    };
    let mut shows = Shows::of(certificate);
    shows.relay = Some(collector.port);
    (collector, shows)
}

/// Writes a file and gives its path.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// A gateway that traces every request over TLS, and its origin.
fn gateway(port: u16, protocol: &str, tls: &str) -> (Gateway, Origin) {
    let settings = format!("protocol: {protocol}, sampling: 100, timeout: 1s, tls: {{{tls}}}");
    let (mut start, origin) = start(port, &settings);
    start.settings = start.settings.replace("http://", "https://");
    (start.ready(), origin)
}

fn metric(gateway: &Gateway, reason: &str) -> u64 {
    let name = format!("pingress_trace_spans_dropped_total{{reason=\"{reason}\"}}");
    super::metric(gateway, &name)
}

#[test]
fn spans_go_over_tls_to_a_collector_with_the_right_certificate() {
    let root = Authority::new("root");
    let folder = tempfile::tempdir().unwrap();
    let authorities = file(folder.path(), "root.pem", &root.pem);
    let own = root.issue(&["gateway.example"]);
    let certificate = file(folder.path(), "own.pem", &own.certificate);
    let key = file(folder.path(), "own.key", &own.key);
    for (protocol, alpn) in [("grpc", "h2"), ("http/protobuf", "http/1.1")] {
        let ca = format!("caCertificates: '{authorities}'");
        let named = format!("{ca}, serverName: {NAME}");
        let mutual = format!("{named}, clientCertificate: '{certificate}', privateKey: '{key}'");
        for (tls, names, server_name, client) in [
            (&ca, ["127.0.0.1"], None, None),
            (&named, [NAME], Some(NAME), None),
            (&mutual, [NAME], Some(NAME), Some("gateway.example")),
        ] {
            let (collector, mut shows) = secure(protocol, &root.issue(&names));
            shows.clients = client.map(|_| root.pem.clone());
            let front = TlsOrigin::start(shows);
            let (gateway, _origin) = gateway(front.port, protocol, tls);
            gateway.get("a.example.com", "/");
            collector.await_spans(2);
            let expected = Seen {
                server_name: server_name.map(str::to_owned),
                client: client.map(str::to_owned),
                protocol: Some(alpn.to_owned()),
                header: String::new(),
            };
            assert_eq!(front.seen(), [expected], "{protocol}, {tls}");
        }
    }
}

#[test]
fn a_collector_with_a_wrong_certificate_gets_no_span_until_it_has_the_right_one() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let folder = tempfile::tempdir().unwrap();
    let authorities = file(folder.path(), "root.pem", &root.pem);
    let tls = format!("caCertificates: '{authorities}', serverName: {NAME}");
    for protocol in ["grpc", "http/protobuf"] {
        for (wrong, reason) in [
            (
                other.issue(&[NAME]),
                "`collector.example`: unable to get local issuer certificate",
            ),
            (
                root.issue(&["other.example", "127.0.0.1"]),
                "`collector.example`: hostname mismatch",
            ),
            (
                root.issue_until(&[NAME], 2020),
                "`collector.example`: certificate has expired",
            ),
        ] {
            let (collector, shows) = secure(protocol, &wrong);
            let front = TlsOrigin::start(shows.clone());
            let (gateway, _origin) = gateway(front.port, protocol, &tls);
            assert_eq!(gateway.get("a.example.com", "/").status, 200);
            await_until("the spans are counted as dropped", || {
                (metric(&gateway, "export_failed") == 2).then_some(())
            });
            let line = gateway.await_stderr("the collector does not take spans");
            assert!(line.to_lowercase().contains(reason), "{line}");
            assert_eq!(collector.spans(), []);
            let mut right = shows;
            right.certificate = root.issue(&[NAME]);
            front.show(right);
            gateway.get("a.example.com", "/");
            collector.await_spans(2);
            assert_eq!(metric(&gateway, "export_failed"), 2);
        }
    }
}

#[test]
fn a_collector_that_does_not_answer_to_tls_or_http2_costs_its_spans_and_no_request() {
    let root = Authority::new("root");
    let folder = tempfile::tempdir().unwrap();
    let authorities = file(folder.path(), "root.pem", &root.pem);
    let tls = format!("caCertificates: '{authorities}'");
    let (plain, stalling) = (Collector::grpc(), Collector::stalling());
    let (_collector, mut shows) = secure("grpc", &root.issue(&["127.0.0.1"]));
    shows.protocols = b"\x08http/1.1";
    let old = TlsOrigin::start(shows);
    for (port, reason) in [
        (plain.port, "WRONG_VERSION_NUMBER"),
        (stalling.port, ""),
        (old.port, "ALPN"),
    ] {
        let (gateway, _origin) = gateway(port, "grpc", &tls);
        for _ in 0..5 {
            assert_eq!(gateway.get("a.example.com", "/").status, 200);
        }
        await_until("the spans are counted as dropped", || {
            (metric(&gateway, "export_failed") == 10).then_some(())
        });
        let line = gateway.await_stderr("the collector does not take spans");
        assert!(line.contains(reason), "{line}");
    }
}

#[test]
fn a_file_for_tls_that_cannot_be_used_is_an_error_at_the_start() {
    let root = Authority::new("root");
    let folder = tempfile::tempdir().unwrap();
    let own = root.issue(&[NAME]);
    let certificate = file(folder.path(), "own.pem", &own.certificate);
    let key = file(folder.path(), "other.key", &root.issue(&[NAME]).key);
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    for (tls, parts) in [
        (
            "caCertificates: /nowhere/ca.pem".to_owned(),
            ["gateway.tracing.tls.caCertificates", "/nowhere/ca.pem"],
        ),
        (
            format!("caCertificates: '{key}'"),
            ["gateway.tracing.tls.caCertificates", "no certificate"],
        ),
        (
            format!("clientCertificate: '{certificate}', privateKey: '{key}'"),
            ["gateway.tracing.tls.privateKey", "does not belong"],
        ),
    ] {
        let bind = |name: &str| format!("{name}: {{bind: '127.0.0.1:{}'}}", free_port());
        let settings = format!(
            "gateway: {{{}, {}, {}, tracing: {{endpoint: 'https://127.0.0.1:1', tls: {{{tls}}}}}}}",
            bind("admin"),
            bind("status"),
            bind("metrics")
        );
        let settings = file(folder.path(), "settings.yaml", &settings);
        let output = Command::new(env!("CARGO_BIN_EXE_pingress"))
            .arg("run")
            .arg("--config")
            .arg(&manifests)
            .args(["--settings", &settings])
            .output()
            .unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
}
