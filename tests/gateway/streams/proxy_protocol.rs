//! PROXY protocol before everything else: TCP, plaintext HTTP and TLS.

use std::io::{Read, Write};

use boring::ssl::{SslConnector, SslMethod, SslVerifyMode};

use super::*;
use crate::tls::material::{Authority, secret_yaml};

/// Ports that demand a header from the test's own address.
const DEMANDED: &str = "  proxyProtocol: {ports: [80, 443, 9000], sources: [127.0.0.0/8]}\n  limits: {tlsHandshake: 0.5s}\n";

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

/// Version 2 for the client 192.0.2.8:4712, with a TLV.
fn v2() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x11".to_vec();
    bytes.extend([192, 0, 2, 8, 198, 51, 100, 1]);
    bytes.extend(4712_u16.to_be_bytes());
    bytes.extend(443_u16.to_be_bytes());
    bytes.extend([0x04, 0, 2, 1, 2]);
    bytes
}

struct Rig {
    gateway: Gateway,
    tcp: ByteOrigin,
    http: Origin,
}

/// One gateway with a TCP, an HTTP and an HTTPS port.
fn rig(settings: &str) -> Rig {
    let (tcp, http) = (ByteOrigin::echo("one"), Origin::echo("http"));
    let own = Authority::new("root").issue(&["a.example.com"]);
    let servers = [
        TCP,
        "port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']",
        "port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: own}",
    ];
    let rules = format!(
        "{}\n  http: [{{route: [{{destination: {{host: http.test}}}}]}}]",
        all_to("origin.test")
    );
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&servers)),
        ("routes.yaml", routes("r", "'*'", &rules)),
        ("origin.yaml", service("origin.test", &[tcp.port])),
        ("http.yaml", service_yaml("http.test", &[(http.port, "")])),
        ("secrets.yaml", secret_yaml("own", Some(&own), &[])),
    ])
    .settings(settings)
    .port(443)
    .port(9000)
    .ready();
    Rig { gateway, tcp, http }
}

/// The address that the origin was told.
fn told(rig: &Rig) -> String {
    let head = rig.http.last_head();
    let mut lines = head.lines();
    let line = lines.find_map(|line| line.strip_prefix("x-forwarded-for: "));
    line.unwrap_or_default().to_owned()
}

fn request(wire: &mut (impl Read + Write)) -> String {
    wire.write_all(b"GET / HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = wire.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn the_client_that_a_header_tells_of_is_the_client_everywhere() {
    let rig = rig(DEMANDED);
    // TCP: in the log.
    let mut wire = Wire::open(rig.gateway.addr_of(9000));
    for byte in V1 {
        wire.say([*byte]);
    }
    assert_eq!(wire.line(), "one");
    wire.say("hello\n");
    assert_eq!(wire.line(), "hello");
    drop(wire);
    let line = rig.gateway.await_log("outbound|1||origin.test");
    assert!(line.contains(" 198.51.100.1:443 192.0.2.7:4711 "), "{line}");
    // Plaintext HTTP, with the request in the same segment.
    let mut wire = Wire::open(rig.gateway.addr_of(80)).0;
    wire.write_all(&v2()).unwrap();
    assert_eq!(request(&mut wire), "HTTP/1.1 200 OK");
    assert_eq!(told(&rig), "192.0.2.8");
    rig.gateway.await_log(" 192.0.2.8:4712 ");
    // TLS.
    let mut stream = Wire::open(rig.gateway.addr_of(443)).0;
    stream.write_all(V1).unwrap();
    let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    let mut tls = builder.build().connect("a.example.com", stream).unwrap();
    assert_eq!(request(&mut tls), "HTTP/1.1 200 OK");
    assert_eq!(told(&rig), "192.0.2.7");
}

#[test]
fn a_proxy_that_speaks_for_itself_or_does_not_know_is_its_own_client() {
    let rig = rig(DEMANDED);
    for header in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x00\x00\x02ab",
    ] {
        let mut wire = Wire::open(rig.gateway.addr_of(80)).0;
        wire.write_all(header).unwrap();
        assert_eq!(request(&mut wire), "HTTP/1.1 200 OK");
        assert_eq!(told(&rig), "127.0.0.1");
    }
}

#[test]
fn without_a_whole_header_in_time_nothing_is_served_and_that_is_recorded() {
    let rig = rig(DEMANDED);
    let long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    let bad = [
        &b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n"[..],
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 ",
        b"",
        &long,
    ];
    for port in [80, 443, 9000] {
        for bytes in bad {
            let mut wire = Wire::open(rig.gateway.addr_of(port));
            wire.say(bytes);
            assert_eq!(wire.rest(), "", "{bytes:?}");
        }
    }
    let texts = ["pingress_early_refusals_total", "proxy_header"];
    assert_eq!(metric(&rig.gateway, &texts), Some(15));
    rig.gateway.await_log("proxy_header_error");
    assert_eq!((rig.tcp.count(), rig.http.count()), (0, 0));
}

#[test]
fn whoever_is_not_listed_speaks_for_itself() {
    let rig = rig("  proxyProtocol: {ports: [80, 9000], sources: [10.0.0.0/8]}\n");
    let mut wire = Wire::open(rig.gateway.addr_of(80)).0;
    assert_eq!(request(&mut wire), "HTTP/1.1 200 OK");
    assert_eq!(told(&rig), "127.0.0.1");
    let mut wire = Wire::open(rig.gateway.addr_of(80)).0;
    wire.write_all(V1).unwrap();
    let said = request(&mut wire);
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    assert_eq!(rig.http.count(), 1);
    let mut wire = Wire::open(rig.gateway.addr_of(9000));
    assert_eq!(wire.line(), "one");
    wire.say(V1);
    assert_eq!(wire.take(V1.len()), V1, "to TCP it is bytes like others");
}

#[test]
fn istios_topology_demands_a_header_on_every_port_from_everybody() {
    let rig = rig("  mesh: {defaultConfig: {gatewayTopology: {proxyProtocol: {}}}}\n");
    let mut wire = Wire::open(rig.gateway.addr_of(80)).0;
    assert_eq!(request(&mut wire), "");
    let mut wire = Wire::open(rig.gateway.addr_of(80)).0;
    wire.write_all(V1).unwrap();
    assert_eq!(request(&mut wire), "HTTP/1.1 200 OK");
    assert_eq!(told(&rig), "192.0.2.7");
}

#[test]
fn a_source_that_begins_too_many_handshakes_is_closed_and_counted_and_another_is_not() {
    let settings = "  proxyProtocol: {ports: [443], sources: [127.0.0.0/8]}\n  limits: {handshakesPerSource: 1}\n";
    let rig = rig(settings);
    let addr = rig.gateway.addr_of(443);
    let limited = ["pingress_tls_handshakes_total", "\"rate_limited\""];
    let shake = |header: &[u8]| {
        let mut stream = Wire::open(addr).0;
        stream.write_all(header).unwrap();
        let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.build().connect("a.example.com", stream).is_ok()
    };
    assert!(shake(V1));
    await_until("the source is over its number", || {
        (!shake(V1)).then_some(())
    });
    assert!(metric(&rig.gateway, &limited).is_some_and(|count| count > 0));
    assert!(shake(&v2()), "another source has its own");
    rig.gateway.await_stderr("handshakesPerSource");
}
