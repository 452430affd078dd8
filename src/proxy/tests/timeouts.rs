//! A route's timeout: what it bounds and what it does not.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::origins;
use super::rig::*;
use crate::base::CauseKind;
use crate::plan::{Action, Protocol};

fn timing_out(millis: u64) -> Action {
    let mut forward = to(&[(0, 1)]);
    forward.timeout = Some(Duration::from_millis(millis));
    Action::Forward(forward)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_says_nothing_costs_a_504() {
    let origin = origins::raw(|mut stream| async move {
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    })
    .await;
    let rig = Site::of(vec![route("/", timing_out(150))])
        .cluster(Default::default(), &[origin])
        .serve()
        .await;
    let answer = rig.get("/").await;
    assert_eq!(
        (answer.status, &*answer.body),
        (504, "upstream request timeout")
    );
    let record = rig.record().await;
    assert_eq!(
        (&*record.flags, &*record.details),
        ("UT", "response_timeout")
    );
    assert_eq!(record.cause, Some(CauseKind::UpstreamTimeout));
    assert_eq!(record.owner.as_deref(), Some("shop.yaml:7"));
    // A POST with its body, too.
    let post = "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 2\r\n\r\nab";
    assert_eq!(rig.ask(post).await.status, 504);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_is_told_how_long_it_has() {
    let origin = origins::echo().await;
    let rig = Site::of(vec![route("/", timing_out(5000))])
        .cluster(Default::default(), &[origin])
        .serve()
        .await;
    assert_eq!(
        rig.get("/")
            .await
            .received("x-envoy-expected-rq-timeout-ms"),
        Some("5000")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gotcha_25_the_timeout_excludes_the_upload_and_bounds_the_whole_response() {
    // Drips a body for ever, fast enough that no single wait is long.
    let drip = origins::raw(|mut stream| async move {
        origins::read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
            beat.tick().await;
        }
    })
    .await;
    let rig = Site::of(vec![
        route(
            "/drip",
            Action::Forward({
                let mut forward = to(&[(1, 1)]);
                forward.timeout = Some(Duration::from_millis(300));
                forward
            }),
        ),
        route("/", timing_out(300)),
    ])
    .cluster(Default::default(), &[origins::echo().await])
    .cluster(Default::default(), &[drip])
    .serve()
    .await;
    let mut client = Client::connect(rig.address).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 20\r\n\r\n")
        .await;
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..20 {
        beat.tick().await;
        client.send("x").await;
    }
    assert_eq!(client.answer(false).await.status, 200);

    let answer = rig.get("/drip").await;
    assert_eq!((answer.status, answer.complete), (200, false));
    assert_eq!(rig.record().await.cause, None);
    assert_eq!(rig.record().await.cause, Some(CauseKind::UpstreamTimeout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_in_the_upload_longer_than_the_timeout_is_no_timeout_on_any_protocol() {
    let rig = Site::of(vec![
        route("/1", timing_out_at(0)),
        route("/2", timing_out_at(1)),
    ])
    .cluster(Protocol::Http1, &[origins::echo().await])
    .cluster(Protocol::H2c, &[origins::echo_h2c().await])
    .serve()
    .await;
    for path in ["/1", "/2"] {
        let mut client = Client::connect(rig.address).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: a.com\r\nContent-Length: 2\r\n\r\na");
        client.send(head).await;
        pause().await;
        let answer = client.ask("b").await;
        assert!(answer.body.ends_with("\n\nab"), "{path}: {}", answer.body);

        let stream = TcpStream::connect(rig.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post(format!("http://a.com{path}"))
            .body(())
            .unwrap();
        let (response, mut body) = client.send_request(request, false).unwrap();
        body.send_data("a".into(), false).unwrap();
        pause().await;
        body.send_data("b".into(), true).unwrap();
        assert_eq!(within(response).await.unwrap().status(), 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_stops_within_is_cut_at_the_deadline_on_any_protocol() {
    let half = origins::raw(|mut stream| async move {
        origins::read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            .await;
        std::future::pending::<()>().await;
    })
    .await;
    let rig = Site::of(vec![route("/", timing_out(200))])
        .cluster(Protocol::Http1, &[half])
        .serve()
        .await;
    let answer = rig.get("/").await;
    assert_eq!((answer.status, answer.complete), (200, false));
    assert_eq!(rig.record().await.cause, Some(CauseKind::UpstreamTimeout));

    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://a.com/").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let mut body = within(response).await.unwrap().into_body();
    assert_eq!(within(body.data()).await.unwrap().unwrap(), "half");
    assert!(within(body.data()).await.unwrap().unwrap_err().is_reset());
    assert_eq!(rig.record().await.cause, Some(CauseKind::UpstreamTimeout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_with_its_request_and_the_connection_goes_on() {
    let rig = Site::of(vec![route("/1", timing_out_at(0)), route("/", forward(1))])
        .cluster(Protocol::Http1, &[origins::echo().await])
        .cluster(
            Protocol::Http1,
            &[origins::slow_echo(Duration::from_millis(400)).await],
        )
        .serve()
        .await;
    let mut client = Client::connect(rig.address).await;
    for path in ["/1", "/slow", "/1"] {
        let answer = client
            .ask(format!("GET {path} HTTP/1.1\r\nHost: a.com\r\n\r\n"))
            .await;
        assert_eq!(answer.status, 200, "{path}");
    }
}

/// Longer than `timing_out_at` allows an answer.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

fn timing_out_at(cluster: u32) -> Action {
    let mut forward = to(&[(cluster, 1)]);
    forward.timeout = Some(Duration::from_millis(200));
    Action::Forward(forward)
}
