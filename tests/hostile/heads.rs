//! One reading: a head that someone could read differently is refused, closed, logged and counted.

use crate::harness::*;

fn gateway(settings: &str) -> (Gateway, Origin) {
    let origin = Origin::echo("safe");
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        (
            "service.yaml",
            service_yaml("safe.internal", &[(origin.port, "v1")]),
        ),
        (
            "routes.yaml",
            routes_yaml("safe", &["*"], &everything_to("safe.internal")),
        ),
    ])
    .settings(settings)
    .ready();
    (gateway, origin)
}

#[test]
fn ambiguous_heads_are_refused_closed_and_never_reach_an_origin() {
    let (gateway, origin) = gateway("");
    let cases: [(&str, u16, &str); 24] = [
        (
            "CL and TE",
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "two different CL",
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        ),
        (
            "two equal CL",
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        ),
        (
            "signed CL",
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        ),
        (
            "listed CL",
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        ),
        (
            "TE gzip, chunked",
            501,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        ("bare LF", 400, "GET / HTTP/1.1\nHost: a\n\n"),
        (
            "one bare LF",
            400,
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        ),
        ("no Host", 400, "GET / HTTP/1.1\r\n\r\n"),
        ("empty Host", 400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        (
            "two Hosts",
            400,
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        ),
        (
            "Host with userinfo",
            400,
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        ),
        (
            "Host with a space",
            400,
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        ),
        (
            "Host with a path",
            400,
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        ),
        ("Host list", 400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        (
            "Host with a bad port",
            400,
            "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
        ),
        (
            "obs-fold",
            400,
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
        ),
        (
            "space before colon",
            400,
            "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        ),
        (
            "CONNECT",
            405,
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        ),
        ("TRACE", 405, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("HTTP/1.0", 426, "GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
        (
            "a long HTTP/2.0 version",
            400,
            "GET / HTTP/2.0\r\nHost: a\r\nX-Padding: ........\r\n\r\n",
        ),
        (
            "TE in 1.0",
            400,
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "absolute-form other than Host",
            400,
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
    ];
    for (name, status, head) in cases {
        let mut client = gateway.client();
        client.write(head.as_bytes());
        let response = client.read().unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(response.status, status, "{name}: {response:?}");
        assert!(client.is_closed(), "{name}: the connection stays open");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn heads_that_never_reach_a_hook_are_logged_and_counted() {
    let (gateway, _origin) = gateway("");
    assert_eq!(
        exchange(
            gateway.addr(),
            b"GET /early HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"
        )
        .unwrap()
        .status,
        400
    );
    assert!(
        gateway.await_log("/early").contains(" 400 "),
        "the refusal is logged"
    );
    let metrics = gateway.metrics();
    assert!(metrics.contains("early_refusal"), "{metrics}");
}

#[test]
fn too_large_a_head_is_431_and_too_long_a_line_414() {
    let (gateway, origin) = gateway("");
    let many: String = (0..120).map(|n| format!("X-{n}: y\r\n")).collect();
    let large = format!("X-Large: {}\r\n", "y".repeat(70_000));
    for extra in [many, large] {
        let response = exchange(
            gateway.addr(),
            format!("GET / HTTP/1.1\r\nHost: a\r\n{extra}\r\n").as_bytes(),
        )
        .unwrap();
        assert_eq!(response.status, 431);
    }
    let line = "/".repeat(20_000);
    let response = exchange(
        gateway.addr(),
        format!("GET {line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
    )
    .unwrap();
    assert_eq!(response.status, 414);
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_head_that_drips_is_cut_with_408_at_its_total_deadline() {
    let (gateway, _origin) = gateway("  limits: {headerDeadline: 0.3s}\n");
    let mut client = gateway.client();
    client.get("a.example.com", "/", &[]);
    // The second head of the connection is covered as well.
    client.write(b"GET / HTTP/1.1\r\nHost: a");
    assert_eq!(client.read().unwrap().status, 408);
    assert!(client.is_closed());
    gateway.await_log(" 408 ");
}

#[test]
fn an_idle_connection_is_closed_at_its_limit_and_not_before_the_first_answer() {
    let (gateway, _origin) = gateway("  limits: {keepaliveIdle: 1s}\n");
    let mut client = gateway.client();
    assert_eq!(client.get("a.example.com", "/", &[]).status, 200);
    assert_eq!(client.get("a.example.com", "/", &[]).status, 200);
    assert_eq!(client.read_all(), "");
}

#[test]
fn connections_beyond_the_cap_are_closed_and_the_others_serve() {
    let (gateway, _origin) = gateway("  limits: {maxConnections: 3}\n");
    let mut kept: Vec<Client> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut kept {
        assert_eq!(client.get("a.example.com", "/", &[]).status, 200);
    }
    assert_eq!(Client::connect(gateway.addr()).read_all(), "");
    for client in &mut kept {
        assert_eq!(client.get("a.example.com", "/", &[]).status, 200);
    }
    drop(kept);
    await_until("there is room again", || {
        let mut client = gateway.client();
        client.write(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
        client.read().filter(|response| response.status == 200)
    });
}

#[test]
fn hostile_traffic_adds_no_metric_series() {
    let (gateway, _origin) = gateway("");
    gateway.get("a.example.com", "/");
    let series = |gateway: &Gateway| {
        gateway
            .metrics()
            .lines()
            .filter(|line| line.starts_with("istio_"))
            .count()
    };
    let before = await_until("the request is counted", || {
        Some(series(&gateway)).filter(|count| *count > 0)
    });
    let mut client = gateway.client();
    for n in 0..500 {
        assert_eq!(
            client
                .get(&format!("host{n}.example.com"), &format!("/path{n}"), &[])
                .status,
            200
        );
    }
    assert_eq!(series(&gateway), before);
}
