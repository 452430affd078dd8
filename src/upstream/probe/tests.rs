//! Probes against real sockets, as clusters and picks see them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::base::{Kind, ObjectKey, Origin, Position};
use crate::plan::endpoints::{Endpoint, Place};
use crate::plan::{Cluster, HealthCheck, HttpProbe, Outlier, Plan, ProbeKind, Resolution};
use crate::upstream::fixture::{cluster, first, plan, table};
use crate::upstream::{Ask, ClusterState, DnsOptions, Upstreams};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "never happened: {what}");
}

fn probe(kind: ProbeKind) -> Probe {
    Probe {
        kind,
        tls: None,
        interval: Duration::from_millis(10),
        jitter: Duration::from_millis(2),
        timeout: Duration::from_secs(5),
        healthy_threshold: 1,
        unhealthy_threshold: 2,
    }
}

fn tcp() -> Probe {
    probe(ProbeKind::Tcp { port: None })
}

fn http_probe(http2: bool) -> HttpProbe {
    HttpProbe {
        path: "/ready?x=1".into(),
        host: "probe.example.com".into(),
        headers: vec![("x-probe".into(), "one".into())],
        expected: vec![200..=299],
        port: None,
        http2,
    }
}

fn grpc(service: &str) -> Probe {
    probe(ProbeKind::Grpc {
        service: service.into(),
        port: None,
    })
}

fn checked(name: &str, probe: Probe) -> Cluster {
    Cluster {
        health_check: Some(HealthCheck {
            probe: Arc::new(probe),
            object: ObjectKey {
                kind: Kind::HealthCheckPolicy,
                namespace: "default".into(),
                name: "p".into(),
            },
            origin: Origin::new("p.yaml".into(), Position::default(), 0),
        }),
        ..cluster(name)
    }
}

fn at(addresses: impl IntoIterator<Item = SocketAddr>) -> Resolution {
    let endpoint = |addr| Endpoint {
        addr,
        weight: 1,
        place: Place::default(),
        origin: None,
    };
    Resolution::Static(addresses.into_iter().map(endpoint).collect())
}

fn upstreams(entries: &[(&str, Resolution)]) -> Arc<Upstreams> {
    let upstreams = Upstreams::new(DnsOptions::default(), Handle::current());
    upstreams.publish(&table(entries));
    upstreams
}

fn serve(upstreams: &Upstreams, plan: Arc<Plan>) -> Arc<ClusterState> {
    first(&upstreams.serve(plan))
}

/// Why each address is out of traffic.
fn failures(state: &ClusterState) -> HashMap<SocketAddr, String> {
    let endpoints = state.view().endpoints.into_iter();
    let failing = endpoints.filter_map(|endpoint| {
        let why = endpoint.health.failing?;
        Some((endpoint.addr, why.to_string()))
    });
    failing.collect()
}

fn probed(upstreams: &Upstreams) -> u64 {
    let totals = upstreams.probe_totals();
    totals.passed.load(Ordering::Relaxed) + totals.failed.load(Ordering::Relaxed)
}

/// Waits for two more probes of one target: the second began after this was called.
async fn until_probed_again(upstreams: &Upstreams) {
    let before = probed(upstreams);
    until("it is probed again", || probed(upstreams) >= before + 2).await;
}

/// A server that answers every request as told, over HTTP/1.1 or HTTP/2.
struct Server {
    addr: SocketAddr,
    /// Status of HTTP, or the health protocol's serving status.
    answer: Arc<AtomicU16>,
    heads: Arc<Mutex<Vec<Request<()>>>>,
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

fn http_answer(_request: &Request<()>, _body: &Bytes, answer: u16) -> Response<Body> {
    let body = Full::new(Bytes::from_static(b"hello")).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(answer).unwrap();
    response
}

/// The health protocol as a gRPC library would serve it; asked for `missing`, it knows none.
fn grpc_answer(request: &Request<()>, body: &Bytes, answer: u16) -> Response<Body> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let mut trailers = HeaderMap::new();
    if body.ends_with(b"missing") {
        let mut response = Response::new(Full::default().boxed());
        response.headers_mut().insert("grpc-status", 5.into());
        return response;
    }
    assert_eq!(&body[..], b"\0\0\0\0\x06\x0a\x04shop");
    trailers.insert("grpc-status", 0.into());
    let mut message = BytesMut::new();
    message.put_slice(&[0, 0, 0, 0, 2, 8, answer as u8]);
    let frames = [
        Ok(Frame::data(message.freeze())),
        Ok(Frame::trailers(trailers)),
    ];
    let stream = StreamBody::new(futures_util::stream::iter(frames));
    Response::new(BodyExt::boxed(stream))
}

async fn server(
    http2: bool,
    answer: u16,
    respond: fn(&Request<()>, &Bytes, u16) -> Response<Body>,
) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = Arc::new(AtomicU16::new(answer));
    let heads = Arc::new(Mutex::new(Vec::new()));
    let server = Server {
        addr,
        answer: answer.clone(),
        heads: heads.clone(),
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, heads) = (answer.clone(), heads.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (answer, heads) = (answer.clone(), heads.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let request = Request::from_parts(parts, ());
                    let response = respond(&request, &body, answer.load(Ordering::SeqCst));
                    heads.lock().unwrap().push(request);
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(async move {
                let io = TokioIo::new(stream);
                let _ = match http2 {
                    true => {
                        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        http2.serve_connection(io, service).await
                    }
                    false => {
                        let http1 = hyper::server::conn::http1::Builder::new();
                        http1.serve_connection(io, service).await
                    }
                };
            });
        }
    });
    server
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_gets_nothing_until_it_accepts_again() {
    let well = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ill = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (well, addr) = (
        well.local_addr().map(|addr| (well, addr)).unwrap(),
        ill.local_addr().unwrap(),
    );
    drop(ill);
    let upstreams = upstreams(&[("a", at([well.1, addr]))]);
    let state = serve(&upstreams, plan([checked("a", tcp())]));
    until("it fails", || !failures(&state).is_empty()).await;
    assert_eq!(failures(&state)[&addr], "connection refused");
    let picks = || (0..50).filter_map(|_| state.pick(&Ask::default()).ok());
    assert!(picks().all(|pick| pick.addr() == well.1));
    let metrics = upstreams.metrics();
    assert!(
        metrics.contains("pingress_upstream_failing{cluster=\"a\"} 1\n"),
        "{metrics}"
    );
    let _back = TcpListener::bind(addr).await.unwrap();
    until("it takes traffic again", || {
        failures(&state).is_empty() && picks().any(|pick| pick.addr() == addr)
    })
    .await;
}

#[tokio::test]
async fn an_http_probe_asks_as_written_and_judges_by_the_status() {
    for http2 in [false, true] {
        let server = server(http2, 503, http_answer).await;
        let upstreams = upstreams(&[("a", at([server.addr]))]);
        let kind = ProbeKind::Http(http_probe(http2));
        let state = serve(&upstreams, plan([checked("a", probe(kind))]));
        until("it fails", || !failures(&state).is_empty()).await;
        assert_eq!(failures(&state)[&server.addr], "answered 503");
        assert!(state.pick(&Ask::default()).is_err());
        server.answer.store(204, Ordering::SeqCst);
        until("it passes", || state.pick(&Ask::default()).is_ok()).await;
        let heads = server.heads.lock().unwrap();
        let head = heads.first().unwrap();
        assert_eq!(head.method(), "GET");
        assert_eq!(head.uri().path_and_query().unwrap(), "/ready?x=1");
        let host = match http2 {
            true => head.uri().authority().unwrap().as_str(),
            false => head.headers()["host"].to_str().unwrap(),
        };
        assert_eq!(host, "probe.example.com");
        assert_eq!(head.headers()["x-probe"], "one");
        assert_eq!(head.headers()["user-agent"], "Pingress/HC");
    }
}

#[tokio::test]
async fn a_grpc_probe_passes_only_when_the_service_is_serving() {
    let server = server(true, 2, grpc_answer).await;
    let upstreams = upstreams(&[("a", at([server.addr])), ("b", at([server.addr]))]);
    let serving = upstreams.serve(plan([
        checked("a", grpc("shop")),
        checked("b", grpc("missing")),
    ]));
    let state = first(&serving);
    until("it fails", || !failures(&state).is_empty()).await;
    assert_eq!(failures(&state)[&server.addr], "answered NOT_SERVING");
    server.answer.store(1, Ordering::SeqCst);
    until("it serves", || state.pick(&Ask::default()).is_ok()).await;
    let missing = &upstreams.clusters()[1];
    until("the other is unknown", || !failures(missing).is_empty()).await;
    assert_eq!(failures(missing)[&server.addr], "gRPC status 5");
}

#[tokio::test]
async fn a_server_that_does_not_answer_or_speak_http2_fails_its_probe_in_time() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let wrong = server(false, 200, http_answer).await;
    let silent_addr = silent.local_addr().unwrap();
    let upstreams = upstreams(&[("a", at([silent_addr, wrong.addr]))]);
    let hasty = Probe {
        timeout: Duration::from_millis(300),
        ..grpc("shop")
    };
    let state = serve(&upstreams, plan([checked("a", hasty)]));
    until("both fail", || failures(&state).len() == 2).await;
    assert_eq!(failures(&state)[&silent_addr], "no answer within 300ms");
}

#[tokio::test]
async fn another_port_of_the_endpoint_can_be_probed() {
    let server = server(false, 200, http_answer).await;
    let nobody = SocketAddr::new(server.addr.ip(), 1);
    let kind = ProbeKind::Tcp {
        port: Some(server.addr.port()),
    };
    let upstreams = upstreams(&[("a", at([nobody]))]);
    let state = serve(&upstreams, plan([checked("a", probe(kind))]));
    until_probed_again(&upstreams).await;
    assert!(failures(&state).is_empty());
}

#[tokio::test]
async fn clusters_with_the_same_check_share_the_probes_of_an_address() {
    let server = server(false, 500, http_answer).await;
    let kind = || probe(ProbeKind::Http(http_probe(false)));
    let once = Probe {
        interval: Duration::from_secs(3600),
        ..kind()
    };
    let upstreams = upstreams(&[("a", at([server.addr])), ("b", at([server.addr]))]);
    let serving = upstreams.serve(plan([checked("a", kind()), checked("b", kind())]));
    let other = upstreams.clusters()[1].clone();
    until("both know", || {
        !failures(&first(&serving)).is_empty() && !failures(&other).is_empty()
    })
    .await;
    // One that comes later knows it at once.
    upstreams.publish(&table(&[
        ("a", at([server.addr])),
        ("b", at([server.addr])),
        ("c", at([server.addr])),
    ]));
    let serving = upstreams.serve(plan([
        checked("c", kind()),
        checked("a", kind()),
        checked("b", once),
    ]));
    assert!(!failures(&first(&serving)).is_empty());
    assert!(
        failures(&upstreams.clusters()[2]).is_empty(),
        "another check"
    );
}

#[tokio::test]
async fn results_outlive_a_plan_and_end_with_the_check() {
    let server = server(false, 500, http_answer).await;
    let kind = || probe(ProbeKind::Http(http_probe(false)));
    let upstreams = upstreams(&[("a", at([server.addr]))]);
    let state = serve(&upstreams, plan([checked("a", kind())]));
    until("it fails", || !failures(&state).is_empty()).await;
    let watched = Cluster {
        outlier: Some(Outlier::default()),
        ..checked("a", kind())
    };
    let state = serve(&upstreams, plan([watched]));
    assert!(!failures(&state).is_empty());
    let state = serve(&upstreams, plan([cluster("a")]));
    assert!(failures(&state).is_empty());
    assert!(state.pick(&Ask::default()).is_ok());
    let before = server.heads.lock().unwrap().len();
    upstreams.serve(plan([checked("a", kind())]));
    until("it is probed anew", || {
        server.heads.lock().unwrap().len() > before
    })
    .await;
}

#[tokio::test]
async fn who_leaves_is_probed_no_more() {
    let one = server(false, 200, http_answer).await;
    let two = server(false, 200, http_answer).await;
    let kind = probe(ProbeKind::Http(http_probe(false)));
    let upstreams = upstreams(&[("a", at([one.addr, two.addr]))]);
    upstreams.serve(plan([checked("a", kind)]));
    let count = |server: &Server| server.heads.lock().unwrap().len();
    until("both are probed", || count(&one) > 0 && count(&two) > 0).await;
    let before = count(&one);
    upstreams.publish(&table(&[("a", at([two.addr]))]));
    let stays = count(&two) + 10;
    until("the other is probed ten times", || count(&two) >= stays).await;
    // One may have come before the change, and one may have been under way.
    assert!(count(&one) <= before + 2);
    upstreams.serve(plan([cluster("b")]));
    until("its task has ended", || {
        Arc::strong_count(&upstreams.probe_totals()) == 2
    })
    .await;
}

/// A thousand endpoints, each probed once in every interval: counted, not timed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_endpoints_are_probed_within_each_interval() {
    const ENDPOINTS: usize = 1000;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ip = |index: usize| IpAddr::from([127, 77, (index / 250) as u8, (index % 250) as u8 + 1]);
    let all: Vec<SocketAddr> = (0..ENDPOINTS)
        .map(|index| SocketAddr::new(ip(index), port))
        .collect();
    let interval = Duration::from_secs(2);
    let probe = Probe {
        interval,
        jitter: Duration::ZERO,
        timeout: PATIENCE,
        ..tcp()
    };
    let upstreams = upstreams(&[("a", at(all.iter().copied()))]);
    let state = serve(&upstreams, plan([checked("a", probe)]));
    // Each accepted connection is a probe; its local address says of whom.
    let mut rounds: HashMap<IpAddr, usize> = HashMap::new();
    let mut most = 0;
    let counting = async {
        while rounds.len() < ENDPOINTS || rounds.values().any(|count| *count < 3) {
            let (stream, _) = listener.accept().await.unwrap();
            let count = rounds.entry(stream.local_addr().unwrap().ip()).or_default();
            *count += 1;
            most = most.max(*count);
        }
    };
    assert!(tokio::time::timeout(2 * PATIENCE, counting).await.is_ok());
    // Nobody is probed a third time more often than the others: each had its turn in each
    // interval, at its own moment in it.
    assert!(most <= 4, "{most} probes of one while another had three");
    assert!(failures(&state).is_empty());
}
