//! What closing does to connections.

use std::time::Duration;

use super::protocols::{ask, get, http2};
use super::rig::*;
use crate::listener::ListenerLimits;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_all_lets_requests_in_flight_finish_on_both_protocols() {
    let (rig, address) = Rig::open(ListenerLimits::default()).await;
    let mut client = Client::connect(address).await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    within(rig.door.held.notified()).await;
    let (mut sender, connection) = http2(address).await;
    let held = tokio::spawn(async move { ask(&mut sender, get("/held")).await.0 });
    within(rig.door.held.notified()).await;

    rig.listeners.close_all().await;
    assert_eq!(rig.listeners.open_addresses(), []);
    assert_eq!(rig.listeners.connections(), 2);
    rig.door.release.add_permits(2);
    let http1 = client.answer().await;
    let http2_status = within(held).await.unwrap();
    assert!(http1.starts_with("HTTP/1.1 200"), "{http1}");
    assert_eq!(http2_status, 200);
    // GOAWAY ends the HTTP/2 connection without an error.
    within(connection).await.unwrap();
    drop(client);
    within(rig.listeners.drained()).await;
    assert_eq!(rig.listeners.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_does_not_hold_up_the_drain() {
    let limits = ListenerLimits {
        drain_idle: Duration::from_millis(50),
        ..Default::default()
    };
    let (rig, address) = Rig::open(limits).await;
    let mut unused = Client::connect(address).await;
    let mut idle = Client::connect(address).await;
    idle.ask(GET).await;
    rig.ear
        .until(|heard| (heard.opened == 2).then_some(()))
        .await;
    rig.listeners.close_all().await;
    assert_eq!(
        (idle.rest().await, unused.rest().await),
        (String::new(), String::new())
    );
    within(rig.listeners.drained()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_one_port_does_not_stop_the_shared_application() {
    let (rig, address) = Rig::open(ListenerLimits::default()).await;
    rig.listeners.close_all().await;
    rig.listeners.apply(&[address]).await;
    let mut client = Client::connect(address).await;
    for number in 1..=3 {
        let answer = client.ask(GET).await;
        assert!(answer.contains(&format!("request {number} at")), "{answer}");
    }
}
