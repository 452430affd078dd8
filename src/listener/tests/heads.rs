//! Heads that take too long, and heads that no hook ever sees.

use std::time::Duration;

use super::rig::*;
use crate::base::CauseKind;
use crate::listener::ListenerLimits;

const TIMEOUT: &str =
    "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Drips bytes of an endless head until the gateway answers.
async fn drip(client: &mut Client) -> String {
    client.send("GET /drip HTTP/1.1\r\nX: ").await;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            biased;
            ready = client.0.readable() => {
                ready.unwrap();
                return client.rest().await;
            }
            _ = beat.tick() => client.send("x").await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dripped_head_is_cut_by_a_total_deadline_with_a_408_and_recorded() {
    let (rig, address) = Rig::open(impatient()).await;
    let answer = within(drip(&mut Client::connect(address).await)).await;
    assert_eq!(answer, TIMEOUT);
    let refusal = rig.ear.refusal().await;
    assert_eq!(
        (refusal.kind, refusal.status),
        (CauseKind::HeaderTimeout, Some(408))
    );
    assert_eq!(refusal.request_line, "GET /drip HTTP/1.1");
    assert_eq!(refusal.bytes_sent, TIMEOUT.len() as u64);
    assert!(refusal.bytes_received > 22, "{}", refusal.bytes_received);
    assert!(refusal.elapsed >= impatient().header_deadline);
    rig.ear
        .until(|heard| (heard.closed.len() == 1).then_some(()))
        .await;
    assert_eq!(rig.ear.refusals(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_head_of_a_connection_has_the_same_deadline() {
    let (rig, address) = Rig::open(impatient()).await;
    let mut client = Client::connect(address).await;
    assert!(client.ask(GET).await.starts_with("HTTP/1.1 200"));
    assert_eq!(within(drip(&mut client)).await, TIMEOUT);
    let refusal = rig.ear.refusal().await;
    assert_eq!(refusal.bytes_sent, TIMEOUT.len() as u64);
    assert!(refusal.bytes_received < 500, "{}", refusal.bytes_received);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_stalls_within_the_http2_preface_is_cut_too() {
    let (rig, address) = Rig::open(impatient()).await;
    let mut client = Client::connect(address).await;
    client.send("PRI * HTTP/2").await;
    assert_eq!(client.rest().await, TIMEOUT);
    assert_eq!(rig.ear.refusal().await.kind, CauseKind::HeaderTimeout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_body_and_an_idle_connection_outlive_the_head_deadline() {
    let (rig, address) = Rig::open(impatient()).await;
    let mut unused = Client::connect(address).await;
    let mut idle = Client::connect(address).await;
    idle.ask(GET).await;
    let mut uploading = Client::connect(address).await;
    uploading
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        .await;
    let mut waiting = Client::connect(address).await;
    waiting.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    within(rig.door.held.notified()).await;
    // The deadline is known to have passed once a later head has met it.
    assert_eq!(
        within(drip(&mut Client::connect(address).await)).await,
        TIMEOUT
    );

    rig.door.release.add_permits(1);
    assert!(waiting.answer().await.starts_with("HTTP/1.1 200"));
    assert!(uploading.ask("cd").await.starts_with("HTTP/1.1 200"));
    assert!(uploading.ask(GET).await.starts_with("HTTP/1.1 200"));
    assert!(idle.ask(GET).await.contains("request 2"));
    assert!(unused.ask(GET).await.contains("request 1"));
    assert_eq!(rig.ear.refusals(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_closed_without_a_word_when_its_time_is_over() {
    let limits = ListenerLimits {
        keepalive_idle: Duration::from_millis(100),
        ..Default::default()
    };
    let (rig, address) = Rig::open(limits).await;
    let mut unused = Client::connect(address).await;
    let mut idle = Client::connect(address).await;
    idle.ask(GET).await;
    idle.ask(GET).await;
    assert_eq!(
        (idle.rest().await, unused.rest().await),
        (String::new(), String::new())
    );
    rig.ear
        .until(|heard| (heard.closed.len() == 2).then_some(()))
        .await;
    assert_eq!(rig.ear.refusals(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_parser_refuses_before_any_hook_is_recorded_with_its_line_and_status() {
    let cases = [
        (
            "GET /fold HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
            400,
            "GET /fold HTTP/1.1",
        ),
        (
            "GET /hosts HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            400,
            "GET /hosts HTTP/1.1",
        ),
        (
            "GET /cl HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
            400,
            "GET /cl HTTP/1.1",
        ),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400, "GET / HTTP/2.0"),
        (
            "\x16\x03\x01\x02\x00\r\n\r\n",
            400,
            "\\x16\\x03\\x01\\x02\\x00",
        ),
        (
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            405,
            "CONNECT a:1 HTTP/1.1",
        ),
    ];
    for (head, status, line) in cases {
        for earlier in [0, 2] {
            let (rig, address) = Rig::open(ListenerLimits::default()).await;
            let mut client = Client::connect(address).await;
            for _ in 0..earlier {
                client.ask(GET).await;
            }
            client.send(head).await;
            let answer = client.rest().await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{line}: {answer}"
            );
            let refusal = rig.ear.refusal().await;
            let kind = if status == 405 {
                CauseKind::MethodNotAllowed
            } else {
                CauseKind::EarlyRefusal
            };
            assert_eq!(
                (refusal.kind, refusal.status),
                (kind, Some(status)),
                "{line}"
            );
            assert_eq!(refusal.request_line, line);
            assert_eq!(refusal.bytes_received, head.len() as u64, "{line}");
            assert_eq!(refusal.bytes_sent, answer.len() as u64, "{line}");
            assert_eq!(refusal.connection.requests(), earlier);
            rig.ear
                .until(|heard| (heard.closed.len() == 1).then_some(()))
                .await;
            assert_eq!(rig.ear.refusals(), 1, "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_head_of_many_fields_is_recorded_with_all_of_its_bytes() {
    let (rig, address) = Rig::open(ListenerLimits::default()).await;
    let mut head = String::from("GET /many HTTP/1.1\r\nHost: a\r\n");
    (0..300).for_each(|number| head.push_str(&format!("X-Field-{number}: some value\r\n")));
    head.push_str("\r\n");
    let mut client = Client::connect(address).await;
    client.send(&head).await;
    assert!(client.rest().await.starts_with("HTTP/1.1 400 "));
    let refusal = rig.ear.refusal().await;
    assert_eq!(
        (refusal.status, refusal.request_line.as_str()),
        (Some(400), "GET /many HTTP/1.1")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_within_a_head_is_no_refusal() {
    let (rig, address) = Rig::open(ListenerLimits::default()).await;
    for part in ["", "G", "GET / HTTP/1.1\r\nHo"] {
        let mut client = Client::connect(address).await;
        client.send(part).await;
    }
    rig.ear
        .until(|heard| (heard.closed.len() == 3).then_some(()))
        .await;
    assert_eq!(rig.ear.refusals(), 0);
}
