//! How the process ends.

use crate::harness::*;

fn held(settings: &str) -> (Gateway, Origin) {
    let origin = Origin::start("held", Behaviour::Hold);
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        (
            "service.yaml",
            service_yaml("held.internal", &[(origin.port, "v1")]),
        ),
        (
            "routes.yaml",
            routes_yaml("held", &["*"], &everything_to("held.internal")),
        ),
    ])
    .settings(settings)
    .ready();
    (gateway, origin)
}

#[test]
fn on_sigterm_readiness_fails_and_a_request_in_flight_is_answered() {
    let (mut gateway, origin) = held("  drain: {delay: 0s, deadline: 30s}\n");
    let mut client = gateway.client();
    client.write(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
    await_until("the request is in flight", || {
        (origin.count() == 1).then_some(())
    });
    gateway.signal("TERM");
    await_until("the listener is closed", || {
        std::net::TcpStream::connect(gateway.addr())
            .is_err()
            .then_some(())
    });
    assert_ne!(gateway.try_status("/healthz/ready"), Some(200));
    assert!(gateway.is_running());
    origin.release();
    assert_eq!(client.read().unwrap().status, 200);
    assert!(gateway.await_exit().success());
}

#[test]
fn while_the_drain_is_delayed_new_connections_are_served() {
    let (mut gateway, origin) = held("  drain: {delay: 3s, deadline: 30s}\n");
    gateway.signal("TERM");
    await_until("readiness fails", || {
        (gateway.try_status("/healthz/ready") == Some(503)).then_some(())
    });
    let mut client = gateway.client();
    client.write(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
    origin.release();
    assert_eq!(client.read().unwrap().status, 200);
    assert!(gateway.await_exit().success());
}

#[test]
fn a_request_that_never_ends_is_cut_at_the_deadline() {
    let (mut gateway, origin) = held("  drain: {delay: 0s, deadline: 0.2s}\n");
    let mut client = gateway.client();
    client.write(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
    await_until("the request is in flight", || {
        (origin.count() == 1).then_some(())
    });
    gateway.signal("TERM");
    assert!(gateway.await_exit().success());
}

#[test]
fn ctrl_c_ends_the_process_at_once() {
    let (mut gateway, _origin) = held("  drain: {delay: 1h, deadline: 1h}\n");
    gateway.signal("INT");
    gateway.await_exit();
}
