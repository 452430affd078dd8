//! The connection pool's limits, at origins that count.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::gauge::{Counting, Gauge, Http2};
use super::rig::*;
use crate::base::CauseKind;
use crate::plan::{Action, Pool, Protocol};
use crate::upstream::BreakerView;

const GET: &str = "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n";

fn limit(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

async fn serve(origin: &Counting, protocol: Protocol, pool: Pool) -> Arc<Rig> {
    let site = Site::of(vec![route("/", forward(0))])
        .cluster(protocol, &[origin.address])
        .pool(pool);
    Arc::new(site.serve().await)
}

/// Asks `count` times at once, each on its own connection.
fn ask_at_once(rig: &Arc<Rig>, count: usize) -> Vec<tokio::task::JoinHandle<Answer>> {
    let ask = |_| {
        let rig = rig.clone();
        tokio::spawn(async move { rig.get("/").await })
    };
    (0..count).map(ask).collect()
}

async fn statuses(asked: Vec<tokio::task::JoinHandle<Answer>>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for answer in asked {
        statuses.push(answer.await.unwrap().status);
    }
    statuses.sort_unstable();
    statuses
}

fn breaker(rig: &Rig) -> BreakerView {
    let serving = rig.serving.load();
    let cluster = serving.cluster(crate::plan::ClusterId(0)).unwrap();
    cluster.limits().unwrap()
}

/// Waits until the cluster's counters are so.
async fn until(rig: &Rig, holds: impl Fn(BreakerView) -> bool) {
    within(async {
        while !holds(breaker(rig)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_http2maxrequests_overflow_at_once_on_both_protocols() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let origin = match protocol {
            Protocol::Http1 => Counting::http1().await,
            _ => Counting::http2(Http2::default()).await,
        };
        let pool = Pool {
            max_requests: limit(3),
            ..Pool::default()
        };
        let rig = serve(&origin, protocol, pool).await;
        let held = ask_at_once(&rig, 3);
        origin.until(|gauge| Gauge::get(&gauge.active) == 3).await;
        let mut client = Client::connect(rig.address).await;
        for _ in 0..5 {
            // On one connection: an overflow costs the client nothing but its request.
            let answer = client.ask(GET).await;
            assert_eq!(answer.status, 503);
            assert_eq!(answer.header("x-envoy-overloaded"), "true");
            assert!(
                answer.body.ends_with("reset reason: overflow"),
                "{}",
                answer.body
            );
            let record = rig.record().await;
            assert_eq!(
                (&*record.flags, record.cause),
                ("UO", Some(CauseKind::UpstreamOverflow))
            );
            assert_eq!(
                record.details,
                "upstream_reset_before_response_started{overflow}"
            );
            assert_eq!(record.owner.as_deref(), Some("shop.yaml:7"));
        }
        assert_eq!((breaker(&rig).requests, breaker(&rig).overflows), (3, 5));
        origin.open_gate();
        assert_eq!(statuses(held).await, [200; 3], "{protocol:?}");
        until(&rig, |breaker| breaker.requests == 0).await;
        assert_eq!(client.ask(GET).await.status, 200);
        assert_eq!(Gauge::get(&origin.gauge.most_active), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_maxconnections_requests_wait_and_beyond_the_pending_limit_they_overflow() {
    let origin = Counting::http1().await;
    let pool = Pool {
        max_connections: limit(2),
        max_pending: limit(3),
        ..Pool::default()
    };
    let rig = serve(&origin, Protocol::Http1, pool).await;
    let asked = ask_at_once(&rig, 12);
    until(&rig, |breaker| breaker.overflows == 7).await;
    assert_eq!((breaker(&rig).connections, breaker(&rig).pending), (2, 3));
    origin.until(|gauge| Gauge::get(&gauge.active) == 2).await;
    origin.open_gate();
    let statuses = statuses(asked).await;
    assert_eq!(statuses, [[200; 5].as_slice(), &[503; 7]].concat());
    until(&rig, |breaker| breaker.pending == 0).await;
    let gauge = &origin.gauge;
    assert_eq!(
        (Gauge::get(&gauge.most_active), Gauge::get(&gauge.made)),
        (2, 2)
    );
    // The idle connections count as connections and are free for the next.
    assert_eq!(breaker(&rig).connections, 2);
    assert_eq!(rig.get("/").await.status, 200);
    assert_eq!(Gauge::get(&gauge.made), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_the_origin_never_sees_more_than_maxconnections_and_none_is_lost() {
    let origin = Counting::http1().await;
    origin.open_gate();
    let pool = Pool {
        max_connections: limit(4),
        max_requests_per_connection: limit(7),
        ..Pool::default()
    };
    let rig = serve(&origin, Protocol::Http1, pool).await;
    let clients: Vec<_> = (0..30)
        .map(|_| {
            let rig = rig.clone();
            tokio::spawn(async move {
                let mut client = Client::connect(rig.address).await;
                for _ in 0..20 {
                    assert_eq!(client.ask(GET).await.status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let gauge = &origin.gauge;
    assert!(Gauge::get(&gauge.most_active) <= 4);
    assert!(Gauge::get(&gauge.made) >= 600 / 7);
    until(&rig, |breaker| {
        breaker.pending == 0 && breaker.connections <= 4
    })
    .await;
    assert_eq!(breaker(&rig).overflows, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_served_its_requests_is_closed_and_replaced() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let origin = match protocol {
            Protocol::Http1 => Counting::http1().await,
            _ => Counting::http2(Http2::default()).await,
        };
        origin.open_gate();
        let pool = Pool {
            max_requests_per_connection: limit(3),
            ..Pool::default()
        };
        let rig = serve(&origin, protocol, pool).await;
        let mut client = Client::connect(rig.address).await;
        for _ in 0..12 {
            assert_eq!(client.ask(GET).await.status, 200);
        }
        assert_eq!(Gauge::get(&origin.gauge.made), 4, "{protocol:?}");
        origin.until(|gauge| Gauge::get(&gauge.open) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_maxconnectionduration_is_closed_once_it_is_idle() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let origin = match protocol {
            Protocol::Http1 => Counting::http1().await,
            _ => Counting::http2(Http2::default()).await,
        };
        let pool = Pool {
            max_duration: Some(Duration::from_millis(300)),
            ..Pool::default()
        };
        let rig = serve(&origin, protocol, pool).await;
        // One that lies idle when its time comes.
        origin.gate.add_permits(1);
        assert_eq!(rig.get("/").await.status, 200);
        origin.until(|gauge| Gauge::get(&gauge.open) == 0).await;
        // One that is in use then: its request finishes, and it takes no other.
        let held = ask_at_once(&rig, 1);
        origin.until(|gauge| Gauge::get(&gauge.active) == 1).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        origin.gate.add_permits(2);
        assert_eq!(statuses(held).await, [200], "{protocol:?}");
        assert_eq!(rig.get("/").await.status, 200);
        assert_eq!(Gauge::get(&origin.gauge.made), 3, "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_idle_for_too_long_is_closed() {
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let origin = match protocol {
            Protocol::Http1 => Counting::http1().await,
            _ => Counting::http2(Http2::default()).await,
        };
        origin.open_gate();
        let pool = Pool {
            idle_timeout: Some(Duration::from_millis(100)),
            ..Pool::default()
        };
        let rig = serve(&origin, protocol, pool).await;
        assert_eq!(rig.get("/").await.status, 200);
        origin.until(|gauge| Gauge::get(&gauge.open) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_is_answered_504_at_its_timeout_and_leaves_the_queue() {
    let origin = Counting::http1().await;
    let mut timed = to(&[(0, 1)]);
    timed.timeout = Some(Duration::from_millis(200));
    let site = Site::of(vec![
        route("/timed", Action::Forward(timed)),
        route("/", forward(0)),
    ])
    .cluster(Protocol::Http1, &[origin.address])
    .pool(Pool {
        max_connections: limit(1),
        max_pending: limit(1),
        ..Pool::default()
    });
    let rig = Arc::new(site.serve().await);
    let held = ask_at_once(&rig, 1);
    origin.until(|gauge| Gauge::get(&gauge.active) == 1).await;
    let answer = rig.get("/timed").await;
    assert_eq!(
        (answer.status, &*answer.body),
        (504, "upstream request timeout")
    );
    assert_eq!(breaker(&rig).pending, 0);
    let waiting = ask_at_once(&rig, 1);
    until(&rig, |breaker| breaker.pending == 1).await;
    origin.open_gate();
    assert_eq!(statuses(held).await, [200]);
    assert_eq!(statuses(waiting).await, [200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_without_connections_may_always_have_one() {
    let (one, two) = (Counting::http1().await, Counting::http1().await);
    let site = Site::of(vec![route("/", forward(0))])
        .cluster(Protocol::Http1, &[one.address, two.address])
        .pool(Pool {
            max_connections: limit(1),
            ..Pool::default()
        });
    let rig = Arc::new(site.serve().await);
    // Round robin: one request for each.
    let held = ask_at_once(&rig, 2);
    one.until(|gauge| Gauge::get(&gauge.active) == 1).await;
    two.until(|gauge| Gauge::get(&gauge.active) == 1).await;
    one.open_gate();
    two.open_gate();
    assert_eq!(statuses(held).await, [200; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_gives_its_connections_back() {
    let origin = super::origins::nobody().await;
    let site = Site::of(vec![route("/", forward(0))])
        .cluster(Protocol::Http1, &[origin])
        .pool(Pool {
            max_connections: limit(2),
            ..Pool::default()
        });
    let rig = Arc::new(site.serve().await);
    assert_eq!(statuses(ask_at_once(&rig, 20)).await, [503; 20]);
    until(&rig, |breaker| breaker == BreakerView::default()).await;
}
