//! How HTTP/2 connections end, seen in their frames.

use std::time::Duration;

use h2::Reason;
use http::Request;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::protocols::{PREFACE, ask, get, http2};
use super::rig::*;
use crate::base::CauseKind;
use crate::listener::{ListenerLimits, PingRule};

const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// A client that says hello and then answers nothing.
async fn silent(address: std::net::SocketAddr) -> Client {
    let mut client = Client::connect(address).await;
    client.send(PREFACE).await;
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    client
}

/// Types and payloads of all frames up to the connection's end.
async fn frames(client: &mut Client) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut header = [0; 9];
    while within(client.0.read_exact(&mut header)).await.is_ok() {
        let length = usize::from(header[1]) << 8 | usize::from(header[2]);
        let mut payload = vec![0; length];
        within(client.0.read_exact(&mut payload)).await.unwrap();
        frames.push((header[3], payload));
    }
    frames
}

fn reasons(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let goaways = frames.iter().filter(|(kind, _)| *kind == GOAWAY);
    goaways.map(|(_, payload)| payload[7]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_told_goodbye_and_one_at_work_is_left_alone() {
    let limits = ListenerLimits {
        keepalive_idle: Duration::from_millis(50),
        drain_idle: Duration::from_millis(50),
        ..Default::default()
    };
    let (rig, address) = Rig::open(limits).await;
    let (mut sender, connection) = http2(address).await;
    let held = tokio::spawn(async move { ask(&mut sender, get("/held")).await.0 });
    within(rig.door.held.notified()).await;
    // It does not even answer the PING that comes with the first GOAWAY.
    let seen = frames(&mut silent(address).await).await;
    assert_eq!(reasons(&seen), [0], "{seen:?}");
    rig.door.release.add_permits(1);
    assert_eq!(within(held).await.unwrap(), 200);
    within(connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_answers_no_ping_is_dropped_and_one_that_does_stays() {
    let limits = ListenerLimits {
        http2_pings: Some(PingRule {
            every: Duration::from_millis(20),
            within: Duration::from_millis(400),
        }),
        ..Default::default()
    };
    let (rig, address) = Rig::open(limits).await;
    let (mut answering, _connection) = http2(address).await;
    let seen = frames(&mut silent(address).await).await;
    let pings = seen.iter().filter(|(kind, _)| *kind == PING).count();
    assert_eq!((pings, reasons(&seen)), (1, vec![]), "{seen:?}");
    assert_eq!(ask(&mut answering, get("/")).await.0, 200);
    let open = rig
        .ear
        .until(|heard| (!heard.closed.is_empty()).then_some(heard.closed.len()));
    assert_eq!(open.await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_recorded_and_too_many_of_them_end_the_connection() {
    let (rig, address) = Rig::open(ListenerLimits::default()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = within(h2::client::handshake(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut sender = within(sender.ready()).await.unwrap();
    for number in 1..=32 {
        let request = Request::get("http://a/")
            .header("host", "b")
            .body(())
            .unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        // What ends the connection may overtake the last answers.
        let answered = within(answer).await.map(|head| head.status().as_u16());
        assert!(
            number > 30 || answered.as_ref().is_ok_and(|status| *status == 400),
            "{answered:?}"
        );
        let refused = within(sender.clone().ready()).await;
        if number < 32 {
            assert!(refused.is_ok(), "after {number}: {refused:?}");
        }
    }
    let ended = within(connection).await.unwrap().unwrap_err();
    assert_eq!(ended.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{ended}");
    let refusals = rig
        .ear
        .until(|heard| (heard.refused.len() == 32).then(|| heard.refused.clone()));
    for refusal in refusals.await {
        assert_eq!(
            (refusal.kind, refusal.status),
            (CauseKind::MalformedStream, None)
        );
    }
}
