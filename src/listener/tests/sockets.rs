//! Opening and closing ports, and the cap on connections.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::rig::*;
use crate::base::CauseKind;
use crate::listener::{ListenerError, ListenerLimits, ListenerOutcome};

fn second_loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 2], 0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_opens_at_run_time_and_requests_see_both_of_its_addresses() {
    let (rig, address) = Rig::open(ListenerLimits::default()).await;
    let mut client = Client::connect(address).await;
    let from = client.0.local_addr().unwrap();
    let answer = client.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains(&format!(
            "at {} from {from} to {address} by HTTP/1",
            any_port()
        )),
        "{answer}"
    );
    assert_eq!(rig.listeners.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_opens_on_ipv6_too() {
    let rig = Rig::new(ListenerLimits::default());
    let outcomes = rig.listeners.apply(&["[::1]:0".parse().unwrap()]).await;
    if let [ListenerOutcome::Failed(_, ListenerError::AddressNotAvailable(_))] = outcomes[..] {
        return; // This machine has no IPv6.
    }
    let answer = Client::connect(rig.listeners.open_addresses()[0])
        .await
        .ask(GET)
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_a_port_refuses_new_connections_and_touches_no_other_port() {
    let rig = Rig::new(ListenerLimits::default());
    rig.listeners.apply(&[any_port(), second_loopback()]).await;
    let [closing, staying] = rig.listeners.open_addresses()[..] else {
        panic!()
    };
    let mut on_staying = Client::connect(staying).await;
    let mut on_closing = Client::connect(closing).await;
    let first = on_staying.ask(GET).await;
    assert!(on_closing.ask(GET).await.starts_with("HTTP/1.1 200"));

    let outcomes = rig.listeners.apply(&[second_loopback()]).await;
    assert!(
        matches!(
            outcomes[..],
            [ListenerOutcome::Closed(_), ListenerOutcome::Kept(_)]
        ),
        "{outcomes:?}"
    );
    assert!(tokio::net::TcpStream::connect(closing).await.is_err());
    assert_eq!(rig.listeners.open_addresses(), [staying]);

    let second = on_staying.ask(GET).await;
    assert!(
        first.contains("request 1") && second.contains("request 2"),
        "{first} {second}"
    );
    assert!(
        !second.to_ascii_lowercase().contains("connection: close"),
        "{second}"
    );
    // The connection of the closed port is answered once more and told to go.
    let last = on_closing.ask(GET).await.to_ascii_lowercase();
    assert!(
        last.starts_with("http/1.1 200") && last.contains("connection: close"),
        "{last}"
    );
    assert_eq!(on_closing.rest().await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_port_leaves_no_descriptor_behind_and_reopens_at_once() {
    let (rig, first) = Rig::open(ListenerLimits::default()).await;
    rig.listeners.apply(&[first]).await;
    let handed = |rig: &Rig| {
        let handles = rig.listeners.handles().unwrap().into_iter();
        handles.map(|(address, _)| address).collect::<Vec<_>>()
    };
    for _ in 0..20 {
        rig.listeners.apply(&[]).await;
        assert_eq!(handed(&rig), []);
        let outcomes = rig.listeners.apply(&[first]).await;
        assert!(
            matches!(outcomes[..], [ListenerOutcome::Opened(_)]),
            "{outcomes:?}"
        );
        assert_eq!(handed(&rig), [first]);
        assert!(
            Client::connect(first)
                .await
                .ask(GET)
                .await
                .starts_with("HTTP/1.1 200")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_an_error_of_that_port_alone() {
    let taken = TcpListener::bind(any_port()).unwrap();
    let taken_address = taken.local_addr().unwrap();
    let rig = Rig::new(ListenerLimits::default());
    let mut outcomes = rig
        .listeners
        .apply(&[taken_address, second_loopback()])
        .await;
    outcomes.retain(|outcome| matches!(outcome, ListenerOutcome::Failed(..)));
    let [ListenerOutcome::Failed(address, ListenerError::InUse(_))] = outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(address, taken_address);
    let answer = Client::connect(rig.listeners.open_addresses()[0])
        .await
        .ask(GET)
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(rig.listeners.handles().unwrap().len(), 1);

    drop(taken);
    let outcomes = rig
        .listeners
        .apply(&[taken_address, second_loopback()])
        .await;
    assert!(
        outcomes
            .iter()
            .any(|outcome| matches!(outcome, ListenerOutcome::Opened(_))),
        "{outcomes:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_another_machine_is_an_error_that_names_it() {
    let rig = Rig::new(ListenerLimits::default());
    let outcomes = rig
        .listeners
        .apply(&["192.0.2.1:8080".parse().unwrap()])
        .await;
    let [ListenerOutcome::Failed(_, error)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(error.to_string().contains("192.0.2.1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inherited_socket_is_adopted_with_the_clients_that_wait_in_it() {
    let inherited = TcpListener::bind(any_port()).unwrap();
    let address = inherited.local_addr().unwrap();
    let mut early = Client::connect(address).await;
    let inherited = HashMap::from([(address, inherited)]);
    let rig = Rig::inheriting(inherited, ListenerLimits::default());
    let outcomes = rig.listeners.apply(&[address]).await;
    assert!(
        matches!(outcomes[..], [ListenerOutcome::Opened(_)]),
        "{outcomes:?}"
    );
    assert!(early.ask(GET).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_over_the_cap_is_closed_and_recorded_and_a_freed_place_is_used_again() {
    let (rig, address) = Rig::open(ListenerLimits {
        max_connections: 2,
        ..Default::default()
    })
    .await;
    let mut first = Client::connect(address).await;
    let mut second = Client::connect(address).await;
    first.ask(GET).await;
    second.ask(GET).await;
    let mut third = Client::connect(address).await;
    assert_eq!(third.rest().await, "");
    let refusal = rig.ear.refusal().await;
    assert_eq!(
        (refusal.kind, refusal.status),
        (CauseKind::ConnectionLimit, None)
    );
    assert_eq!(refusal.connection.peer, Some(third.0.local_addr().unwrap()));

    assert!(first.ask(GET).await.contains("request 2"));
    drop(second);
    rig.ear
        .until(|heard| (heard.closed.len() == 1).then_some(()))
        .await;
    assert!(
        Client::connect(address)
            .await
            .ask(GET)
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(rig.ear.until(|heard| Some(heard.opened)).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_counted_both_ways_over_all_requests_of_a_connection() {
    let (rig, address) = Rig::open(ListenerLimits::default()).await;
    let mut client = Client::connect(address).await;
    let post = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n{}",
        "x".repeat(9000)
    );
    let sent =
        client.ask(GET).await.len() + client.ask(&post).await.len() + client.ask(GET).await.len();
    drop(client);
    let counted = rig.ear.until(|heard| heard.closed.first().copied()).await;
    assert_eq!(counted, ((2 * GET.len() + post.len()) as u64, sent as u64));
}

/// The kernel's timer of an accepted connection: 2 is keepalive's (proc(5), `tcp_timer`).
fn timer_of(listener: SocketAddr, client: SocketAddr) -> Option<String> {
    let hex = |address: SocketAddr| format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    let mut rows =
        rows.filter(|row| row[1].ends_with(&hex(listener)) && row[2].ends_with(&hex(client)));
    rows.next().map(|row| row[5][..2].to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_probes_silent_clients_unless_it_is_told_not_to() {
    for (silence, timer) in [(Some(Duration::from_secs(180)), "02"), (None, "00")] {
        let limits = ListenerLimits {
            tcp_keepalive: silence,
            ..ListenerLimits::default()
        };
        let (_rig, address) = Rig::open(limits).await;
        let mut client = Client::connect(address).await;
        client.ask(GET).await;
        let local = client.0.local_addr().unwrap();
        let seen = within(async {
            loop {
                // Right after an answer it is that of the answer's own acknowledgement.
                match timer_of(address, local).as_deref() {
                    Some("01") | None => tokio::task::yield_now().await,
                    Some(timer) => return timer.to_owned(),
                }
            }
        });
        assert_eq!(seen.await, timer, "{silence:?}");
    }
}
