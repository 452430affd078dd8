//! Connections live across plans, and through a drain as long as it lasts.

use std::io::Read;

use boring::ssl::ErrorCode;

use super::*;
use crate::tls::client::Asking;
use crate::tls::material::{Authority, secret_yaml};

#[test]
fn a_swap_leads_new_connections_elsewhere_and_leaves_the_open_ones_alone() {
    let (one, two) = (ByteOrigin::echo("one"), ByteOrigin::echo("two"));
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[TCP])),
        ("routes.yaml", routes("r", "'*'", &all_to("one.test"))),
        ("one.yaml", service("one.test", &[one.port])),
        ("two.yaml", service("two.test", &[two.port])),
    ])
    .port(9000)
    .ready();
    let addr = gateway.addr_of(9000);
    let mut old = Wire::open(addr);
    assert_eq!(old.line(), "one");
    gateway.write("routes.yaml", &routes("r", "'*'", &all_to("two.test")));
    await_until("new connections go to the new origin", || {
        (Wire::open(addr).line() == "two").then_some(())
    });
    old.say("still here\n");
    assert_eq!(old.line(), "still here");
    // Not even the end of its port ends it.
    std::fs::remove_file(gateway.manifests.join("routes.yaml")).unwrap();
    await_until("the port is closed", || {
        std::net::TcpStream::connect(addr).err().map(drop)
    });
    old.say("and still\n");
    assert_eq!(old.line(), "and still");
}

#[test]
fn a_drain_waits_for_connections_and_ends_with_the_last() {
    let origin = ByteOrigin::echo("one");
    let settings = "  drain: {delay: 0.1s, deadline: 30s}\n";
    let mut gateway = start(&[origin.port], "").settings(settings).ready();
    let addr = gateway.addr_of(9000);
    let mut wire = Wire::open(addr);
    assert_eq!(wire.line(), "one");
    gateway.signal("TERM");
    await_until("the port is closed", || {
        std::net::TcpStream::connect(addr).err().map(drop)
    });
    wire.say("still here\n");
    assert_eq!(wire.line(), "still here");
    assert!(gateway.is_running());
    drop(wire);
    assert!(gateway.await_exit().success());
}

#[test]
fn a_connection_that_outlives_the_drain_is_closed_and_recorded() {
    let origin = ByteOrigin::echo("one");
    let settings = "  drain: {delay: 0.1s, deadline: 0.3s}\n";
    let mut gateway = start(&[origin.port], "").settings(settings).ready();
    let mut wire = Wire::open(gateway.addr_of(9000));
    assert_eq!(wire.line(), "one");
    gateway.signal("TERM");
    assert_eq!(wire.rest(), "");
    gateway.await_exit();
    gateway.await_log("outbound|1||origin.test");
}

#[test]
fn a_drain_releases_connections_over_its_window_and_tells_both_sides() {
    let root = Authority::new("root");
    let own = root.issue(&["db.example.com"]);
    let plain = ByteOrigin::echo("plain");
    let heard = ByteOrigin::start("heard", Manner::Collect);
    let to_plain = "tcp: [{match: [{port: 9000}], route: [{destination: {host: plain.test}}]}]";
    let tls = "port: {number: 9001, name: tls, protocol: TLS}, hosts: [db.example.com], tls: {mode: SIMPLE, credentialName: own}";
    let mut gateway = Start::with(&[
        ("gateway.yaml", gateway(&[TCP, tls])),
        ("tcp.yaml", routes("tcp", "'*'", to_plain)),
        (
            "tls.yaml",
            routes("tls", "db.example.com", &all_to("heard.test")),
        ),
        ("plain.yaml", service("plain.test", &[plain.port])),
        ("heard.yaml", service("heard.test", &[heard.port])),
        ("secret.yaml", secret_yaml("own", Some(&own), &[])),
    ])
    .port(9000)
    .port(9001)
    .settings("  drain: {delay: 0s, window: 0.5s, deadline: 1h}\n")
    .ready();
    let mut wire = Wire::open(gateway.addr_of(9000));
    assert_eq!(wire.line(), "plain");
    let mut inside = Asking::of(gateway.addr_of(9001), "db.example.com")
        .connect()
        .expect("a handshake");
    await_until("the origin is reached", || {
        (heard.count() == 1).then_some(())
    });
    gateway.signal("TERM");
    // An end, not a reset, and one that TLS has said.
    let mut byte = [0];
    assert_eq!(wire.0.read(&mut byte).unwrap(), 0);
    // What the origin says to being told may still come before it.
    let end = loop {
        match inside.stream.ssl_read(&mut byte) {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert_eq!(end.code(), ErrorCode::ZERO_RETURN);
    await_until("the origin is told of the end", || {
        (!heard.heard.lock().unwrap().is_empty()).then_some(())
    });
    assert!(gateway.await_exit().success());
    for cluster in ["outbound|1||plain.test", "outbound|1||heard.test"] {
        let line = gateway.await_log(cluster);
        assert!(line.contains("released_while_draining"), "{line}");
    }
}

#[test]
fn an_upgrade_keeps_open_connections_and_serves_new_ones_on_the_same_port() {
    let origin = ByteOrigin::echo("one");
    let settings = "  drain: {delay: 0s, window: 1h, deadline: 1h}\n";
    let gateway = start(&[origin.port], "").settings(settings).ready();
    let mut old = Wire::open(gateway.addr_of(9000));
    assert_eq!(old.line(), "one");
    for _ in 0..2 {
        let (worked, said) = gateway.upgrade();
        assert!(worked, "{said}");
        assert_eq!(Wire::open(gateway.addr_of(9000)).line(), "one");
        old.say("still here\n");
        assert_eq!(old.line(), "still here");
    }
}
