//! How the process ends.

use std::io::Read;

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

/// Connections whose client has switched protocols; each is told apart by its socket.
fn websockets(gateway: &Gateway, count: usize) -> Vec<std::net::TcpStream> {
    let open = |_| {
        let mut client = gateway.client();
        let upgrade = ["Connection: upgrade", "Upgrade: websocket"];
        assert_eq!(client.get("a.example.com", "/", &upgrade).status, 101);
        client.into_stream()
    };
    (0..count).map(open).collect()
}

#[test]
fn websockets_are_released_evenly_over_the_window_and_then_the_process_ends() {
    const COUNT: usize = 500;
    const PARTS: usize = 4;
    let origin = Origin::echo("origin");
    let mut gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        (
            "service.yaml",
            service_yaml("ws.internal", &[(origin.port, "v1")]),
        ),
        (
            "routes.yaml",
            routes_yaml("ws", &["*"], &everything_to("ws.internal")),
        ),
    ])
    .settings("  drain: {delay: 0s, window: 6s, deadline: 60s}\n")
    .ready();
    let open = websockets(&gateway, COUNT);
    gateway.signal("TERM");
    gateway.await_stderr("draining: 500 connections open");
    let began = std::time::Instant::now();
    let closed: Vec<_> = open
        .into_iter()
        .map(|mut stream| {
            std::thread::spawn(move || {
                let mut rest = [0; 1];
                assert!(
                    matches!(stream.read(&mut rest), Ok(0)),
                    "not closed in order"
                );
                began.elapsed()
            })
        })
        .collect();
    let closed: Vec<_> = closed.into_iter().map(|it| it.join().unwrap()).collect();
    assert!(gateway.await_exit().success());
    // Measured against each other: a machine that is slow is slow in every part.
    let last = closed.iter().max().unwrap().as_secs_f64();
    let mut parts = [0; PARTS];
    for at in &closed {
        let part = (at.as_secs_f64() / last * PARTS as f64) as usize;
        parts[part.min(PARTS - 1)] += 1;
    }
    let even = COUNT / PARTS;
    for part in parts {
        assert!(part * 10 >= even * 8 && part * 10 <= even * 12, "{parts:?}");
    }
}
