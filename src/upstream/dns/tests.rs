//! Names against a real server on loopback.

pub(crate) mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use tokio::runtime::Handle;

use crate::base::clock;
use crate::upstream::fixture::*;
use crate::upstream::{ClusterState, DnsView, Upstreams};

use super::*;
use server::{Says, Server};

/// Every wait ends by then, with a failure.
const DEADLINE: Duration = Duration::from_secs(20);

/// Quick retries, so that a test sees several.
fn options(server: &Server) -> DnsOptions {
    DnsOptions {
        server: Some(server.addr),
        retry: Duration::from_millis(5),
        max_retry: Duration::from_millis(20),
        timeout: Duration::from_millis(50),
        ..DnsOptions::default()
    }
}

fn start(options: DnsOptions) -> Arc<Upstreams> {
    Upstreams::new(options, Handle::current())
}

/// A cluster `a` resolved from `names`.
fn serve(upstreams: &Upstreams, names: &[&str], single: bool) -> Arc<ClusterState> {
    upstreams.publish(&table(&[("a", resolved(names, single))]));
    first(&upstreams.serve(plan([cluster("a")])))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = clock::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn addresses(state: &ClusterState) -> Vec<SocketAddr> {
    members(state).into_iter().map(|(addr, _)| addr).collect()
}

fn dns(state: &ClusterState) -> DnsView {
    state.view().dns.first().expect("a followed name").clone()
}

#[tokio::test]
async fn all_addresses_of_all_names_take_traffic() {
    let server = Server::start().await;
    server.say(
        "one.test",
        Says::Addresses(vec!["10.0.0.2", "10.0.0.1"], 300),
    );
    server.say(
        "two.test",
        Says::Addresses(vec!["10.0.0.3", "10.0.0.1"], 300),
    );
    let upstreams = start(options(&server));
    upstreams.publish(&table(&[("a", resolved(&["one.test", "two.test"], false))]));
    upstreams.warm(DEADLINE).await;
    let state = first(&upstreams.serve(plan([cluster("a")])));
    assert_eq!(addresses(&state), [addr(1), addr(2), addr(3)]);
    assert!(dns(&state).answered.is_some());
}

#[tokio::test]
async fn an_answer_is_asked_again_when_its_time_to_live_is_over() {
    let server = Server::start().await;
    server.say("one.test", Says::Addresses(vec!["10.0.0.1"], 1));
    server.say("clock.test", Says::Addresses(vec!["10.0.0.9"], 0));
    let upstreams = start(DnsOptions {
        min_ttl: Duration::from_millis(5),
        ..options(&server)
    });
    let state = serve(&upstreams, &["one.test", "clock.test"], false);
    until("the first answer", || {
        addresses(&state) == [addr(1), addr(9)]
    })
    .await;
    server.say("one.test", Says::Addresses(vec!["10.0.0.2"], 300));
    until("the second answer", || {
        addresses(&state) == [addr(2), addr(9)]
    })
    .await;
    let (asked, ticks) = (server.asked("one.test"), server.asked("clock.test"));
    until("time to pass", || server.asked("clock.test") > ticks + 20).await;
    assert_eq!(server.asked("one.test"), asked);
}

#[tokio::test]
async fn failures_of_every_kind_keep_the_last_good_answer_and_are_shown() {
    let failures = [
        Says::Error(ResponseCode::ServFail),
        Says::Error(ResponseCode::Refused),
        Says::Nothing,
    ];
    for failure in failures {
        let server = Server::start().await;
        server.say("one.test", Says::Addresses(vec!["10.0.0.1"], 0));
        let upstreams = start(DnsOptions {
            min_ttl: Duration::from_millis(5),
            ..options(&server)
        });
        let state = serve(&upstreams, &["one.test"], false);
        until("an answer", || addresses(&state) == [addr(1)]).await;
        server.say("one.test", failure);
        until("a failure", || dns(&state).last_error.is_some()).await;
        let asked = server.asked("one.test");
        until("more questions", || server.asked("one.test") > asked + 5).await;
        assert_eq!(addresses(&state), [addr(1)]);
        server.say("one.test", Says::Addresses(vec!["10.0.0.2"], 0));
        until("recovery", || addresses(&state) == [addr(2)]).await;
        assert_eq!(dns(&state).last_error, None);
    }
}

#[tokio::test]
async fn a_name_that_stays_away_loses_its_addresses() {
    for gone in [
        Says::Error(ResponseCode::NXDomain),
        Says::Addresses(vec![], 0),
    ] {
        let server = Server::start().await;
        server.say("one.test", Says::Addresses(vec!["10.0.0.1"], 0));
        let upstreams = start(DnsOptions {
            min_ttl: Duration::from_millis(5),
            ..options(&server)
        });
        let state = serve(&upstreams, &["one.test"], false);
        until("an answer", || addresses(&state) == [addr(1)]).await;
        server.say("one.test", gone);
        until("emptiness", || addresses(&state).is_empty()).await;
        assert!(dns(&state).last_error.is_some());
    }
}

#[tokio::test]
async fn one_name_is_asked_once_for_all_clusters() {
    let server = Server::start().await;
    server.say("one.test", Says::Addresses(vec!["10.0.0.1"], 300));
    let upstreams = start(options(&server));
    let names: Vec<String> = (0..50).map(|index| format!("cluster-{index}")).collect();
    let entries: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), resolved(&["one.test"], false)))
        .collect();
    upstreams.publish(&table(&entries));
    upstreams.warm(DEADLINE).await;
    upstreams.serve(plan(names.iter().map(|name| cluster(name))));
    assert!(
        upstreams
            .clusters()
            .iter()
            .all(|state| addresses(state) == [addr(1)])
    );
    assert_eq!(server.asked("one.test"), 1);
}

#[tokio::test]
async fn hundreds_of_names_are_answered_at_the_start_without_a_failure() {
    let server = Server::start().await;
    let names: Vec<String> = (0..500).map(|index| format!("name-{index}.test")).collect();
    for name in &names {
        server.say(name, Says::Addresses(vec!["10.0.0.1"], 300));
    }
    let upstreams = start(DnsOptions {
        timeout: DEADLINE,
        ..options(&server)
    });
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    upstreams.publish(&table(&[("a", resolved(&names, false))]));
    upstreams.warm(DEADLINE).await;
    let view = first(&upstreams.serve(plan([cluster("a")]))).view();
    let failed = view.dns.iter().find(|name| name.last_error.is_some());
    assert_eq!((view.dns.len(), failed), (500, None));
}

#[tokio::test]
async fn a_name_is_asked_no_more_when_its_last_cluster_is_gone() {
    let server = Server::start().await;
    for name in ["one.test", "two.test"] {
        server.say(name, Says::Addresses(vec!["10.0.0.1"], 0));
    }
    let upstreams = start(DnsOptions {
        min_ttl: Duration::from_millis(2),
        ..options(&server)
    });
    let entry = |name| resolved(&[name], false);
    upstreams.publish(&table(&[
        ("a", entry("one.test")),
        ("b", entry("one.test")),
        ("c", entry("two.test")),
    ]));
    until("questions", || server.asked("one.test") > 3).await;
    upstreams.publish(&table(&[
        ("b", entry("one.test")),
        ("c", entry("two.test")),
    ]));
    let asked = server.asked("one.test");
    until("questions for the other cluster", || {
        server.asked("one.test") > asked + 3
    })
    .await;
    upstreams.publish(&table(&[("b", entry("two.test"))]));
    // A question that was under way may still arrive; after that there is none.
    let other = server.asked("two.test");
    until("the last question to arrive", || {
        server.asked("two.test") > other + 3
    })
    .await;
    let (asked, other) = (server.asked("one.test"), server.asked("two.test"));
    until("time to pass", || server.asked("two.test") > other + 10).await;
    assert_eq!(server.asked("one.test"), asked);
}

#[tokio::test]
async fn asking_ends_with_the_upstreams() {
    let server = Server::start().await;
    for name in ["one.test", "two.test"] {
        server.say(name, Says::Addresses(vec!["10.0.0.1"], 0));
    }
    let quick = DnsOptions {
        min_ttl: Duration::from_millis(2),
        ..options(&server)
    };
    let (gone, clock) = (start(quick.clone()), start(quick));
    let state = serve(&gone, &["one.test"], false);
    serve(&clock, &["two.test"], false);
    until("questions", || server.asked("one.test") > 3).await;
    drop(gone);
    let other = server.asked("two.test");
    until("the last question to arrive", || {
        server.asked("two.test") > other + 3
    })
    .await;
    let (asked, other) = (server.asked("one.test"), server.asked("two.test"));
    until("time to pass", || server.asked("two.test") > other + 10).await;
    assert_eq!(server.asked("one.test"), asked);
    assert_eq!(
        addresses(&state),
        [addr(1)],
        "what was found stays with who holds it"
    );
}

#[tokio::test]
async fn round_robin_dns_uses_one_address_and_then_the_next() {
    let server = Server::start().await;
    server.say("one.test", Says::Addresses(vec!["10.0.0.1", "10.0.0.2"], 0));
    let upstreams = start(DnsOptions {
        min_ttl: Duration::from_millis(20),
        ..options(&server)
    });
    let state = serve(&upstreams, &["one.test"], true);
    for expected in [addr(1), addr(2), addr(1)] {
        until("its turn", || addresses(&state) == [expected]).await;
    }
}

#[tokio::test]
async fn the_family_decides_which_addresses_are_used() {
    let v6 = "[2001:db8::1]:80".parse().expect("an address");
    let cases = [
        (IpFamily::V4Preferred, "both.test", vec![addr(1)]),
        (IpFamily::V4Preferred, "six.test", vec![v6]),
        (IpFamily::V4Only, "six.test", vec![]),
        (IpFamily::V6Only, "both.test", vec![v6]),
        (IpFamily::All, "both.test", vec![addr(1), v6]),
    ];
    let server = Server::start().await;
    server.say(
        "both.test",
        Says::Addresses(vec!["10.0.0.1", "2001:db8::1"], 300),
    );
    server.say("six.test", Says::Addresses(vec!["2001:db8::1"], 300));
    for (ip_family, name, expected) in cases {
        let upstreams = start(DnsOptions {
            ip_family,
            ..options(&server)
        });
        upstreams.publish(&table(&[("a", resolved(&[name], false))]));
        upstreams.warm(DEADLINE).await;
        let state = first(&upstreams.serve(plan([cluster("a")])));
        assert_eq!(addresses(&state), expected, "{ip_family:?} {name}");
    }
}

#[tokio::test]
async fn what_is_no_name_at_all_is_shown_as_that() {
    let server = Server::start().await;
    let upstreams = start(options(&server));
    let long = "a".repeat(70);
    let state = serve(&upstreams, &[&long], false);
    upstreams.warm(DEADLINE).await;
    assert!(
        dns(&state)
            .last_error
            .expect("an error")
            .contains("not a DNS name")
    );
}
