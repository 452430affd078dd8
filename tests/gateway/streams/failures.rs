//! Connections that cannot be served: closed, and recorded with the cause and Envoy's flags.

use super::*;

/// Opens a connection that is closed without a byte; gives its line of the access log.
fn refused(gateway: &Gateway, flag: &str) -> String {
    let mut wire = Wire::open(gateway.addr_of(9000));
    assert_eq!(wire.rest(), "");
    gateway.await_log(&format!("\"- - -\" 0 {flag} "))
}

#[test]
fn an_origin_that_cannot_be_reached_is_uf() {
    let gateway = start(&[free_port()], "").ready();
    let line = refused(&gateway, "UF,URX");
    assert!(line.contains("outbound|1||origin.test"), "{line}");
    assert!(
        line.contains("delayed_connect_error:_Connection_refused"),
        "{line}"
    );
    let texts = ["istio_tcp_connections_closed_total", "\"UF,URX\""];
    await_until("it is counted", || metric(&gateway, &texts));
    let texts = ["pingress_local_replies_total", "upstream_connect_failure"];
    assert_eq!(metric(&gateway, &texts), Some(1));
}

#[test]
fn a_cluster_without_endpoints_is_uh() {
    let gateway = start(&[], "").ready();
    refused(&gateway, "UH");
}

#[test]
fn a_missing_destination_is_nc() {
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[TCP])),
        ("routes.yaml", routes("r", "'*'", &all_to("gone.test"))),
    ])
    .port(9000)
    .ready();
    refused(&gateway, "NC");
}

#[test]
fn the_connection_limit_refuses_one_too_many_and_lets_the_next_in() {
    let origin = ByteOrigin::echo("one");
    let policy = "connectionPool: {tcp: {maxConnections: 2}}";
    let gateway = start(&[origin.port], policy).ready();
    let addr = gateway.addr_of(9000);
    let mut held = [Wire::open(addr), Wire::open(addr)];
    for wire in &mut held {
        assert_eq!(wire.line(), "one");
    }
    refused(&gateway, "UO");
    let [first, _second] = held;
    drop(first);
    await_until("there is room again", || {
        (Wire::open(addr).line() == "one").then_some(())
    });
}

#[test]
fn endpoints_that_refuse_connections_are_ejected() {
    let origin = ByteOrigin::echo("one");
    let policy = "outlierDetection: {consecutive5xxErrors: 2, interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 100}, loadBalancer: {simple: ROUND_ROBIN}";
    let gateway = start(&[origin.port, free_port()], policy).ready();
    await_until("the dead endpoint is ejected", || {
        Wire::open(gateway.addr_of(9000)).line();
        metric(&gateway, &["ejections", "origin.test"]).filter(|count| *count > 0)
    });
    for _ in 0..10 {
        assert_eq!(Wire::open(gateway.addr_of(9000)).line(), "one");
    }
}

#[test]
fn a_silent_connection_is_closed_after_the_idle_timeout() {
    let origin = ByteOrigin::echo("one");
    let policy = "connectionPool: {tcp: {idleTimeout: 0.3s}}";
    let gateway = start(&[origin.port], policy).ready();
    let mut wire = Wire::open(gateway.addr_of(9000));
    assert_eq!(wire.line(), "one");
    assert_eq!(wire.rest(), "");
    let line = gateway.await_log("tcp_session_idle_timeout");
    assert!(line.contains("outbound|1||origin.test"), "{line}");
}

#[test]
fn an_old_connection_is_closed_though_it_is_busy() {
    let origin = ByteOrigin::echo("one");
    let policy = "connectionPool: {tcp: {maxConnectionDuration: 0.5s, idleTimeout: 10s}}";
    let gateway = start(&[origin.port], policy).ready();
    let mut wire = Wire::open(gateway.addr_of(9000));
    assert_eq!(wire.line(), "one");
    await_until("the connection is closed", || {
        use std::io::{Read, Write};
        let mut byte = [0];
        let is_open =
            wire.0.write_all(b"x").is_ok() && wire.0.read(&mut byte).is_ok_and(|got| got > 0);
        (!is_open).then_some(())
    });
    gateway.await_log("\"- - -\" 0 DT ");
}

#[test]
fn whoever_breaks_a_connection_off_is_named() {
    let breaking = ByteOrigin::start("breaking", Manner::Break);
    let gateway = start(&[breaking.port], "").ready();
    let mut wire = Wire::open(gateway.addr_of(9000));
    wire.say("unread");
    wire.rest();
    gateway.await_log("\"- - -\" 0 UC ");
    let origin = ByteOrigin::echo("one");
    gateway.write("origin.yaml", &service("origin.test", &[origin.port]));
    await_until("the other origin is reached", || {
        let mut wire = Wire::open(gateway.addr_of(9000));
        // Unread bytes make the close a reset.
        if wire.peek_line() != "one" {
            return None;
        }
        Some(())
    });
    gateway.await_log("\"- - -\" 0 DC ");
}

#[test]
fn a_rule_that_cannot_be_read_closes_its_connections_and_says_why() {
    let origin = ByteOrigin::echo("one");
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[TCP])),
        (
            "routes.yaml",
            routes(
                "r",
                "'*'",
                "tcp: [{route: [{destination: {host: origin.test}, weight: -1}]}]",
            ),
        ),
        ("origin.yaml", service("origin.test", &[origin.port])),
    ])
    .port(9000)
    .ready();
    let line = refused(&gateway, "-");
    assert!(line.contains("pingress_fenced"), "{line}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn an_authorization_policy_that_is_not_enforced_closes_connections() {
    let origin = ByteOrigin::echo("one");
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: deny, namespace: istio-system}\nspec: {action: DENY, rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}\n";
    let mut start = start(&[origin.port], "");
    start
        .files
        .push(("policy.yaml".to_owned(), policy.to_owned()));
    let gateway = start.ready();
    let line = refused(&gateway, "-");
    assert!(line.contains("pingress_fenced"), "{line}");
    assert_eq!(origin.count(), 0);
}

#[test]
fn an_origin_that_breaks_off_while_the_client_still_speaks_is_heard_to_its_last_byte() {
    let said = "no more of this, please\n".repeat(2_000);
    let breaking = ByteOrigin::start(&said, Manner::Break);
    let gateway = start(&[breaking.port], "").ready();
    for _ in 0..10 {
        let mut wire = Wire::open(gateway.addr_of(9000));
        let mut writing = wire.0.try_clone().unwrap();
        let talk = std::thread::spawn(move || {
            while std::io::Write::write_all(&mut writing, &[0; 64 * 1024]).is_ok() {}
        });
        let heard = wire.rest();
        let counts = (heard.len(), said.len() + 1);
        assert!(heard.trim_end() == said.trim_end(), "{counts:?}");
        wire.0.shutdown(std::net::Shutdown::Both).unwrap();
        talk.join().unwrap();
    }
    gateway.await_log("\"- - -\" 0 UC ");
}

#[test]
fn a_client_that_a_list_does_not_let_in_is_closed_and_others_are_served() {
    let origin = ByteOrigin::echo("one");
    let list = |rest: &str| {
        format!(
            "apiVersion: gateway.pingress.io/v1alpha1\nkind: AccessList\nmetadata: {{name: l}}\nspec: {{targetRef: {{kind: Gateway, name: gw}}, {rest}}}\n"
        )
    };
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[TCP])),
        ("routes.yaml", routes("r", "'*'", &all_to("origin.test"))),
        ("origin.yaml", service("origin.test", &[origin.port])),
        ("list.yaml", list("deny: [127.0.0.1]")),
    ])
    .port(9000)
    .ready();
    let line = refused(&gateway, "-");
    assert!(
        line.contains("rbac_access_denied_matched_policy[none]"),
        "{line}"
    );
    gateway.write("list.yaml", &list("allow: [127.0.0.0/8]"));
    await_until("the list lets the client in", || {
        (Wire::open(gateway.addr_of(9000)).line() == "one").then_some(())
    });
}
