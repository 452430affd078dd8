//! HTTP/2 connections to origins: shared, limited, retired in time.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use tokio::net::TcpStream;

use super::gauge::{Counting, Gauge, Http2};
use super::origins;
use super::rig::*;
use crate::plan::{Pool, Protocol};

async fn serve(origin: &Counting, protocol: Protocol, pool: Pool) -> Arc<Rig> {
    let site = Site::of(vec![route("/", forward(0))])
        .cluster(protocol, &[origin.address])
        .pool(pool);
    Arc::new(site.serve().await)
}

async fn ask_at_once(rig: &Arc<Rig>, count: usize) -> Vec<u16> {
    let asked: Vec<_> = (0..count)
        .map(|_| {
            let rig = rig.clone();
            tokio::spawn(async move { rig.get("/").await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for status in asked {
        statuses.push(status.await.unwrap());
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_burst_shares_connections_and_no_request_fails() {
    for (streams, bound) in [(None, 2), (Some(10), 11), (Some(1), 101)] {
        for _ in 0..5 {
            let origin = Counting::http2(Http2::default()).await;
            let pool = Pool {
                max_streams: streams.and_then(std::num::NonZeroU32::new),
                ..Pool::default()
            };
            let rig = serve(&origin, Protocol::H2c, pool).await;
            let burst = tokio::spawn({
                let rig = rig.clone();
                async move { ask_at_once(&rig, 100).await }
            });
            // All at the same time, so none can use a place that another has left.
            origin.until(|gauge| Gauge::get(&gauge.active) == 100).await;
            origin.open_gate();
            assert_eq!(burst.await.unwrap(), [200; 100]);
            // However the threads are held up: a connection in another's hands is no full one.
            let made = Gauge::get(&origin.gauge.made);
            assert!(
                made <= bound,
                "{made} connections for {streams:?} streams each"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_allows_fewer_streams_gets_more_connections_and_no_request_fails() {
    // Cold, the gateway sends more than is allowed before it can know; what the origin refuses
    // for that goes out again, without any retry policy.
    for is_cold in [false, true] {
        let origin = Counting::http2(Http2 {
            streams: 10,
            ..Http2::default()
        })
        .await;
        let rig = serve(&origin, Protocol::H2c, Pool::default()).await;
        if !is_cold {
            origin.gate.add_permits(1);
            assert_eq!(rig.get("/").await.status, 200);
        }
        let burst = tokio::spawn({
            let rig = rig.clone();
            async move { ask_at_once(&rig, 100).await }
        });
        // More than one connection can hold. On a cold one, the rest may wait in h2.
        let together = if is_cold { 5 } else { 20 };
        origin
            .until(|gauge| Gauge::get(&gauge.active) > together)
            .await;
        origin.open_gate();
        assert_eq!(burst.await.unwrap(), [200; 100]);
        let made = Gauge::get(&origin.gauge.made);
        eprintln!("MADE {made} {is_cold}");
        assert!(made <= 25, "{made} connections, cold: {is_cold}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_http2_origin_fails_those_who_wait_for_the_dial_too() {
    let origin = origins::nobody().await;
    let site = Site::of(vec![route("/", forward(0))]).cluster(Protocol::H2c, &[origin]);
    let rig = Arc::new(site.serve().await);
    assert_eq!(ask_at_once(&rig, 20).await, [503; 20]);
    for _ in 0..20 {
        assert_eq!(rig.record().await.flags, "UF");
    }
}

/// Sends gRPC calls over one client connection, `at_once` at a time; how many failed.
async fn failed_calls(rig: &Arc<Rig>, calls: usize, at_once: usize) -> usize {
    let workers: Vec<_> = (0..at_once)
        .map(|_| {
            let rig = rig.clone();
            tokio::spawn(async move {
                let stream = TcpStream::connect(rig.address).await.unwrap();
                let (client, connection) = h2::client::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                let mut failed = 0;
                for _ in 0..calls / at_once {
                    failed += usize::from(!call(client.clone()).await);
                }
                failed
            })
        })
        .collect();
    let mut failed = 0;
    for worker in workers {
        failed += worker.await.unwrap();
    }
    failed
}

/// Whether a call came back with its message and status.
async fn call(client: h2::client::SendRequest<Bytes>) -> bool {
    let request = Request::post("http://a.com/s/m")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let mut client = within(client.ready()).await.unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data("x".into(), true).unwrap();
    let Ok(response) = within(response).await else {
        return false;
    };
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(data) = within(body.data()).await {
        let Ok(data) = data else { return false };
        text.extend_from_slice(&data);
    }
    let trailers = within(body.trailers()).await;
    let status = trailers
        .ok()
        .flatten()
        .and_then(|trailers| trailers.get("grpc-status").cloned());
    text == b"ok" && status.is_some_and(|status| status == "0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_data_frames_before_trailers_fail_no_call() {
    let origin = Counting::http2(Http2 {
        empty_data: true,
        trailers: true,
        ..Http2::default()
    })
    .await;
    origin.open_gate();
    let rig = serve(&origin, Protocol::H2c, Pool::default()).await;
    assert_eq!(failed_calls(&rig, 2000, 20).await, 0);
    let made = Gauge::get(&origin.gauge.made);
    assert!(
        (2000 / 96..=2000 / 96 + 21).contains(&made),
        "{made} connections"
    );
    // Those that are used up do not lie around.
    origin.until(|gauge| Gauge::get(&gauge.open) <= 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_without_trailers_never_use_a_connection_up() {
    let origin = Counting::http2(Http2::default()).await;
    origin.open_gate();
    let rig = serve(&origin, Protocol::H2c, Pool::default()).await;
    let mut client = Client::connect(rig.address).await;
    for _ in 0..300 {
        let answer = client.ask("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n").await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(Gauge::get(&origin.gauge.made), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn useclientprotocol_keeps_the_protocol_of_each_request() {
    // Says by its first bytes what it is spoken to in.
    let origin = origins::raw(|stream: TcpStream| async move {
        let mut start = [0; 3];
        stream.peek(&mut start).await.unwrap();
        let http2 = start == *b"PRI";
        let service = hyper::service::service_fn(move |_| async move {
            let text = if http2 { "two" } else { "one" };
            Ok::<_, std::convert::Infallible>(http::Response::new(origins::full(text)))
        });
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let _ = match http2 {
            true => {
                hyper::server::conn::http2::Builder::new(executor)
                    .serve_connection(io, service)
                    .await
            }
            false => {
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await
            }
        };
    })
    .await;
    let site = Site::of(vec![route("/", forward(0))]).cluster(Protocol::Client, &[origin]);
    let rig = site.serve().await;
    for _ in 0..2 {
        assert_eq!(rig.get("/").await.body, "one");
        let stream = TcpStream::connect(rig.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://a.com/").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let mut body = within(response).await.unwrap().into_body();
        assert_eq!(within(body.data()).await.unwrap().unwrap(), "two");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_stream_flows_both_ways_at_once_and_ends_with_its_trailers() {
    // Sends each message back as it comes, and its trailers at the end.
    let origin = origins::raw(|stream: TcpStream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut answer = respond
                    .send_response(http::Response::new(()), false)
                    .unwrap();
                while let Some(Ok(data)) = body.data().await {
                    let _ = body.flow_control().release_capacity(data.len());
                    answer.send_data(data, false).unwrap();
                }
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                answer.send_trailers(trailers).unwrap();
            });
        }
    })
    .await;
    let site = Site::of(vec![route("/", forward(0))]).cluster(Protocol::H2c, &[origin]);
    let rig = site.serve().await;
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://a.com/s/m")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut sink) = client.send_request(request, false).unwrap();
    let mut answers = within(response).await.unwrap().into_body();
    // Each is answered before the next is sent.
    for number in 0..50_u8 {
        sink.send_data(Bytes::copy_from_slice(&[number; 10]), false)
            .unwrap();
        let answer = within(answers.data()).await.unwrap().unwrap();
        assert_eq!(&*answer, [number; 10]);
        answers
            .flow_control()
            .release_capacity(answer.len())
            .unwrap();
    }
    sink.send_data(Bytes::new(), true).unwrap();
    assert!(within(answers.data()).await.is_none());
    let trailers = within(answers.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}
