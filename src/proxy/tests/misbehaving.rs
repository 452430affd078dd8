//! Origins that fail in every way, under load: which requests may fail, and that no other does.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::origins;
use super::rig::*;
use super::script::{Act, OK, Script};
use crate::plan::{Action, Condition, Conditions, Protocol, RetryPolicy};

/// As Istio serves a rule that says nothing.
fn usual() -> Action {
    with(RetryPolicy::default())
}

fn with(policy: RetryPolicy) -> Action {
    let mut forward = to(&[(0, 1)]);
    forward.retry = Some(Arc::new(policy));
    Action::Forward(forward)
}

async fn serve(action: Action, protocol: Protocol, origins: &[SocketAddr]) -> Rig {
    Site::of(vec![route("/", action)])
        .cluster(protocol, origins)
        .serve()
        .await
}

/// A POST that says which one it is.
fn post(number: usize) -> String {
    format!(
        "POST /{number} HTTP/1.1\r\nHost: a.com\r\nx-number: {number}\r\nContent-Length: 2\r\n\r\nhi"
    )
}

/// The POSTs that an origin got, each as often as it got it.
fn posts(origin: &Script) -> Vec<usize> {
    let number = |request: &String| {
        let lines = request.lines();
        let mut headers = lines.filter_map(|line| line.split_once(": "));
        let (_, number) = headers.find(|(name, _)| name.eq_ignore_ascii_case("x-number"))?;
        number.parse().ok()
    };
    origin.seen().iter().filter_map(number).collect()
}

async fn all(mut clients: JoinSet<()>) {
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_close_under_load_cost_no_get_and_repeat_no_post() {
    // May fail: a POST that meets the closing connection, with 503 UC. No GET.
    let origin = Script::closing(Duration::from_millis(20)).await;
    let rig = Arc::new(serve(usual(), Protocol::Http1, &[origin.addr]).await);
    let answered = Arc::new(std::sync::Mutex::new(HashSet::new()));
    let failed = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for client in 0..4_usize {
        let (rig, answered, failed) = (rig.clone(), answered.clone(), failed.clone());
        clients.spawn(async move {
            for round in 0..60_usize {
                // Around the moment at which the origin closes.
                let pause = 18_000 + (round * 131 + client * 977) % 4_000;
                tokio::time::sleep(Duration::from_micros(pause as u64)).await;
                if round % 2 == 0 {
                    let answer = rig.get("/get").await;
                    assert_eq!((answer.status, &*answer.body), (200, "ok"));
                    continue;
                }
                let number = client * 1_000 + round;
                let answer = rig.ask(post(number)).await;
                if answer.status == 200 {
                    answered.lock().unwrap().insert(number);
                } else {
                    assert_eq!(answer.status, 503);
                    assert!(answer.body.ends_with("connection termination"));
                    failed.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    all(clients).await;
    let came = posts(&origin);
    let once: HashSet<_> = came.iter().copied().collect();
    assert_eq!(once.len(), came.len(), "a POST came twice");
    let answered = answered.lock().unwrap();
    assert!(answered.is_subset(&once));
    assert_eq!(answered.len() + failed.load(Ordering::SeqCst), 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_on_a_connection_that_just_closed_is_sent_again_for_free_and_a_post_is_not() {
    // May fail: nothing but the POST, which the origin may have worked on.
    let origin = Script::of(&[OK, Act::Close, OK, Act::Reset, OK, Act::Close]).await;
    // Without any policy: it is no retry.
    let rig = serve(forward(0), Protocol::Http1, &[origin.addr]).await;
    for _ in 0..3 {
        assert_eq!(rig.get("/").await.status, 200);
        assert_eq!(rig.record().await.flags, "");
    }
    assert_eq!(origin.count(), 5);
    assert_eq!(rig.ask(post(1)).await.status, 503);
    assert_eq!(rig.record().await.flags, "UC");
    assert_eq!(posts(&origin), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_that_meets_only_closing_connections_gets_one_of_its_own() {
    // May fail: nothing. All idle connections close at their next request.
    const IDLE: usize = 5;
    let together = Arc::new(Barrier::new(IDLE));
    let met = Arc::new(AtomicUsize::new(0));
    let (meets, gathers) = (met.clone(), together.clone());
    let opened = AtomicUsize::new(0);
    let origin = origins::raw(move |mut stream| {
        let (met, together) = (meets.clone(), gathers.clone());
        let is_first = opened.fetch_add(1, Ordering::SeqCst) < IDLE;
        async move {
            origins::read_head(&mut stream).await;
            if is_first {
                // They are all open at the same time.
                together.wait().await;
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
            if !origins::read_head(&mut stream).await.is_empty() {
                met.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let rig = Arc::new(serve(forward(0), Protocol::Http1, &[origin]).await);
    let mut clients = JoinSet::new();
    for _ in 0..IDLE {
        let rig = rig.clone();
        clients.spawn(async move { assert_eq!(rig.get("/").await.status, 200) });
    }
    all(clients).await;
    for _ in 0..IDLE {
        rig.record().await;
    }
    let answer = rig.get("/").await;
    assert_eq!((answer.status, &*answer.body), (200, "ok"));
    assert_eq!(met.load(Ordering::SeqCst), 3);
    // The fourth and the fifth are still there.
    assert_eq!(rig.ask(post(1)).await.status, 503);
    assert_eq!(met.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_refuses_connections_while_another_lives_costs_nothing() {
    // May fail: nothing, not even a POST.
    let origin = Script::of(&[OK]).await;
    let (dead, gone) = (origins::nobody().await, origins::nobody().await);
    let rig = serve(usual(), Protocol::Http1, &[dead, origin.addr, gone]).await;
    for number in 0..30 {
        assert_eq!(rig.ask(post(number)).await.status, 200, "{number}");
    }
    assert_eq!(posts(&origin), Vec::from_iter(0..30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_flaps_costs_nothing_where_resets_are_retried() {
    // May fail: nothing, because the policy says that requests may be repeated, and the other
    // origin lives.
    let steady = Script::of(&[OK]).await;
    let mut acts = Vec::new();
    for _ in 0..40 {
        acts.extend([OK, Act::Reset, Act::Close, OK, Act::Reset, OK, Act::Close]);
    }
    let flapping = Script::of(&acts).await;
    let policy = RetryPolicy {
        conditions: Conditions::of(&[Condition::Reset, Condition::ConnectFailure]),
        backoff: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    let origins = [steady.addr, flapping.addr];
    let rig = serve(with(policy), Protocol::Http1, &origins).await;
    for number in 0..40 {
        assert_eq!(rig.get("/").await.status, 200, "{number}");
        assert_eq!(rig.ask(post(number)).await.status, 200, "{number}");
    }
    assert!(flapping.count() >= 20, "{}", flapping.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origins_that_die_midway_reset_or_stall_fail_their_own_requests_only() {
    // May fail: those that the bad origins got. Nothing else on the same client's connection
    // but what follows a body that was cut short, and nothing of a slow or a good origin.
    let half = origins::raw(|mut stream| async move {
        origins::read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            .await;
    })
    .await;
    let resetting = Script::of(&[Act::Reset]).await;
    let stalling = Script::of(&[Act::Stall]).await;
    let slow = origins::slow_echo(Duration::from_millis(50)).await;
    let good = Script::of(&[OK]).await;
    let timed = |cluster, timeout| {
        let mut forward = to(&[(cluster, 1)]);
        forward.retry = Some(Arc::default());
        forward.timeout = Some(Duration::from_millis(timeout));
        Action::Forward(forward)
    };
    let rig = Site::of(vec![
        route("/half", timed(0, 10_000)),
        route("/reset", timed(1, 10_000)),
        route("/stall", timed(2, 100)),
        route("/slow", timed(3, 10_000)),
        route("/", timed(4, 10_000)),
    ])
    .cluster(Protocol::Http1, &[half])
    .cluster(Protocol::Http1, &[resetting.addr])
    .cluster(Protocol::Http1, &[stalling.addr])
    .cluster(Protocol::Http1, &[slow])
    .cluster(Protocol::Http1, &[good.addr])
    .serve()
    .await;
    let rig = Arc::new(rig);
    let mut clients = JoinSet::new();
    for path in ["/half", "/reset", "/stall", "/slow", "/good", "/good"] {
        let rig = rig.clone();
        clients.spawn(async move {
            for _ in 0..8 {
                let answer = rig.get(path).await;
                let expected = match path {
                    "/half" => (200, false),
                    "/reset" => (503, true),
                    "/stall" => (504, true),
                    _ => (200, true),
                };
                assert_eq!((answer.status, answer.complete), expected, "{path}");
            }
        });
    }
    all(clients).await;
    let counts = [good.count(), stalling.count(), resetting.count()];
    assert_eq!(counts, [16, 8, 8]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goaway_before_any_work_costs_nothing_for_any_method_even_without_retries() {
    // May fail: nothing. The origin says that it has not looked at the request.
    for times in [1, 3] {
        let (origin, connections) = origins::h2c_going_away(times).await;
        let rig = serve(forward(0), Protocol::H2c, &[origin]).await;
        let answer = rig.ask(post(7)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.request_line(), "POST http://a.com/7 HTTP/2.0");
        assert!(answer.body.ends_with("\n\nhi"), "{}", answer.body);
        assert_eq!(connections.load(Ordering::SeqCst), times + 1);
        assert_eq!(rig.record().await.flags, "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_only_says_goaway_is_given_up_after_a_few_times() {
    // May fail: all.
    let (origin, connections) = origins::h2c_going_away(usize::MAX).await;
    let rig = serve(forward(0), Protocol::H2c, &[origin]).await;
    assert_eq!(rig.get("/").await.status, 503);
    assert_eq!(connections.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stream_is_a_retry_of_any_method_under_istios_default_and_none_without() {
    // May fail: those without a policy, with UR, and those that are refused more often than the
    // policy repeats, with UR,URX.
    for (action, times, status, flags, count) in [
        (usual(), 2, 200, "", 3),
        (usual(), 3, 503, "UR,URX", 3),
        (forward(0), 1, 503, "UR", 1),
    ] {
        let (origin, streams) = origins::h2c_resetting(times, h2::Reason::REFUSED_STREAM).await;
        let rig = serve(action, Protocol::H2c, &[origin]).await;
        let answer = rig.ask(post(7)).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(rig.record().await.flags, flags);
        assert_eq!(streams.load(Ordering::SeqCst), count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_over_http2_is_replayed_with_its_body_as_well() {
    // May fail: nothing.
    let (origin, _) = origins::h2c_going_away(1).await;
    let rig = serve(forward(0), Protocol::H2c, &[origin]).await;
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = within(client.ready()).await.unwrap();
    let request = http::Request::post("http://a.com/").body(()).unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data("hello".into(), true).unwrap();
    let (head, mut body) = within(response).await.unwrap().into_parts();
    assert_eq!(head.status, 200);
    let mut text = Vec::new();
    while let Some(data) = within(body.data()).await {
        text.extend_from_slice(&data.unwrap());
    }
    assert!(
        text.ends_with(b"\n\nhello"),
        "{:?}",
        String::from_utf8_lossy(&text)
    );
}
