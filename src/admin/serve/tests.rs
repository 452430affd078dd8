use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as Plain};

use arc_swap::ArcSwap;

use super::*;
use crate::admin::Readiness;
use crate::admin::explain::tests::plan;
use crate::base::Finding;
use crate::base::finding::Code;
use crate::observe::{Observe, ObserveOptions, Record};
use crate::upstream::{DnsOptions, Upstreams};

/// The three endpoints on free ports. Dropping it ends them.
struct Operator {
    status: SocketAddr,
    metrics: SocketAddr,
    admin: SocketAddr,
    state: Arc<State>,
    _stop: watch::Sender<bool>,
    runtime: tokio::runtime::Runtime,
}

impl Operator {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (plan, endpoints) = plan();
        let upstreams = Upstreams::new(DnsOptions::default(), runtime.handle().clone());
        upstreams.publish(&endpoints);
        let serving = upstreams.serve(Arc::new(plan));
        let finding = Finding::new(Code::NO_GATEWAY, "no Gateway is here").hint("write one");
        let state = Arc::new(State {
            serving: Arc::new(ArcSwap::new(serving)),
            upstreams,
            findings: Arc::new(ArcSwap::from_pointee(vec![finding])),
            ready: Arc::new(Readiness::default()),
            observe: Observe::new(ObserveOptions::default()).unwrap(),
            hosts: vec!["ops.example.com".into()],
        });
        let (stop, watch) = watch::channel(false);
        let open = |page| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            runtime.spawn(serve(listener, page, state.clone(), watch.clone()));
            address
        };
        let (status, metrics, admin) = (open(Page::Status), open(Page::Metrics), open(Page::Admin));
        Self {
            status,
            metrics,
            admin,
            state,
            _stop: stop,
            runtime,
        }
    }

    fn admin(&self, path: &str) -> (u16, String) {
        let (status, _, body) = ask(
            self.admin,
            &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        );
        (status, body)
    }
}

/// Status, head and body. The server ends each connection.
fn ask(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = Plain::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) = ask(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: 10.1.2.3\r\n\r\n"),
    );
    (status, body)
}

#[test]
fn readiness_answers_a_kubelet_by_any_host_and_says_why_not() {
    let operator = Operator::start();
    for address in [operator.status, operator.metrics] {
        assert_eq!(
            get(address, "/healthz/ready"),
            (503, "not ready: no plan is live yet\n".into())
        );
    }
    operator.state.ready.plan_is_live();
    assert_eq!(
        get(operator.status, "/healthz/ready"),
        (200, "ready\n".into())
    );
    operator.state.ready.drain();
    assert_eq!(
        get(operator.status, "/healthz/ready"),
        (503, "not ready: draining\n".into())
    );
    assert_eq!(get(operator.status, "/routes").0, 404);
    assert_eq!(get(operator.status, "/stats/prometheus").0, 404);
}

#[test]
fn metrics_come_in_the_prometheus_format_whatever_the_http_version() {
    let operator = Operator::start();
    operator.state.observe.finished(&Record {
        status: 404,
        flags: "NR",
        ..Record::default()
    });
    for path in ["/stats/prometheus", "/metrics"] {
        let (status, head, body) = ask(
            operator.metrics,
            &format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n"),
        );
        assert_eq!(status, 200);
        assert!(
            head.contains("content-type: text/plain; version=0.0.4"),
            "{head}"
        );
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        assert!(
            body.contains("istio_requests_total{reporter=\"source\""),
            "{body}"
        );
        assert!(body.ends_with("\r\n0\r\n\r\n"));
    }
    let (_, head, body) = ask(operator.metrics, "GET /metrics HTTP/1.0\r\n\r\n");
    assert!(!head.contains("chunked"), "{head}");
    assert!(
        body.starts_with("# HELP") && body.ends_with('\n') && !body.contains('\r'),
        "{body}"
    );
    assert_eq!(get(operator.metrics, "/findings").0, 404);
}

#[test]
fn the_admin_pages_show_what_is_served() {
    let operator = Operator::start();
    for (path, part) in [
        ("/", "/explain?url=URL"),
        ("/config", "ready      no: no plan is live yet"),
        (
            "/findings",
            "warning [PGR0210 NoGateway]: no Gateway is here\n    hint: write one",
        ),
        ("/routes", "uri.prefix \"/cart\""),
        (
            "/clusters",
            "outbound|80||cart.default.svc.cluster.local\n  10.0.0.1:8080 active 0 healthy\n",
        ),
        ("/endpoints", "10.0.0.1:8080"),
        ("/explain?url=http://shop.example.com/tea", "answers 418"),
        (
            "/explain?url=http%3A%2F%2Fshop.example.com%2Fcart%3Fa%3D1&method=POST&header=End-User:%20jason",
            "rule shop.yaml:10",
        ),
        ("/metrics", "pingress_build_info"),
        ("/healthz/live", "live"),
    ] {
        let (status, body) = operator.admin(path);
        assert_eq!(status, 200, "{path}: {body}");
        assert!(body.contains(part), "{path}: {body}");
    }
    assert_eq!(operator.admin("/ready").0, 503);
    assert_eq!(operator.admin("/nothing").0, 404);
    assert_eq!(operator.admin("/explain").0, 400);
    assert_eq!(operator.admin("/explain?url=ftp://x/").0, 400);
    assert_eq!(operator.admin("/explain?url=http://x:1/").0, 400);
}

#[test]
fn every_admin_page_comes_as_json_in_three_ways() {
    let operator = Operator::start();
    for path in [
        "/config",
        "/findings",
        "/routes",
        "/clusters",
        "/endpoints",
        "/explain",
    ] {
        let query = if path == "/explain" {
            "url=http://shop.example.com/"
        } else {
            ""
        };
        let mut bodies = Vec::new();
        for request in [
            format!("GET {path}.json?{query} HTTP/1.1\r\n"),
            format!("GET {path}?format=json&{query} HTTP/1.1\r\n"),
            format!("GET {path}?{query} HTTP/1.1\r\nAccept: application/json\r\n"),
        ] {
            let (status, head, body) = ask(
                operator.admin,
                &format!("{request}Host: [::1]:15000\r\n\r\n"),
            );
            assert_eq!(status, 200, "{request}");
            assert!(head.contains("content-type: application/json"), "{head}");
            bodies.push(serde_json::from_str::<serde_json::Value>(&body).unwrap());
        }
        assert!(bodies.iter().all(|body| *body == bodies[0]));
    }
    let (_, body) = operator.admin("/findings.json");
    let findings: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(findings["warnings"], 1);
    assert_eq!(findings["findings"][0]["code"], "PGR0210");
    assert_eq!(findings["findings"][0]["line"], serde_json::Value::Null);
}

#[test]
fn foreign_hosts_web_pages_and_writes_are_refused_on_the_admin_endpoint() {
    let operator = Operator::start();
    for (head, expected) in [
        ("GET /config HTTP/1.1\r\nHost: ops.example.com", 200),
        ("HEAD /config HTTP/1.1\r\nHost: localhost", 200),
        ("GET /config HTTP/1.1\r\nHost: evil.example.com", 403),
        ("GET /config HTTP/1.0", 403),
        (
            "GET /config HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site",
            403,
        ),
        (
            "GET /config HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-site",
            403,
        ),
        (
            "GET /config HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example.com",
            403,
        ),
        ("GET /healthz/ready HTTP/1.1\r\nHost: evil.example.com", 403),
        (
            "POST /config HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0",
            405,
        ),
        ("DELETE /config HTTP/1.1\r\nHost: localhost", 405),
        (
            "OPTIONS /config HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example.com",
            403,
        ),
    ] {
        let (status, headers, body) = ask(operator.admin, &format!("{head}\r\n\r\n"));
        assert_eq!(status, expected, "{head}");
        assert!(
            headers.contains("x-content-type-options: nosniff"),
            "{headers}"
        );
        assert!(headers.contains("cache-control: no-store"), "{headers}");
        assert!(!headers.contains("access-control"), "{headers}");
        assert_eq!(body.is_empty(), head.starts_with("HEAD"), "{head}: {body}");
    }
}

#[test]
fn a_broken_request_is_answered_400_and_serving_goes_on() {
    let operator = Operator::start();
    assert_eq!(ask(operator.admin, "what\r\n\r\n").0, 400);
    assert_eq!(operator.admin("/config").0, 200);
}

#[test]
fn ending_closes_the_socket() {
    let operator = Operator::start();
    let (stop, watch) = watch::channel(false);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served =
        operator
            .runtime
            .spawn(serve(listener, Page::Status, operator.state.clone(), watch));
    assert_eq!(get(address, "/healthz/ready").0, 503);
    stop.send(true).unwrap();
    operator.runtime.block_on(served).unwrap();
    assert!(Plain::connect(address).is_err());
}
