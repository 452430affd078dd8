//! Publishing, serving, and what outlives what.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::plan::{Balance, Cluster, Pool};
use crate::upstream::fixture::*;
use crate::upstream::view::Source;
use crate::upstream::{Ask, Caller, EndpointState, Pick, Wants};

use super::*;

fn upstreams() -> Arc<Upstreams> {
    Upstreams::new(DnsOptions::default(), Handle::current())
}

fn endpoint(state: &ClusterState, addr: SocketAddr) -> Arc<EndpointState> {
    let picks: Vec<Pick> = (0..100)
        .filter_map(|_| state.pick(&Ask::default()).ok())
        .collect();
    let found = picks.iter().find(|pick| pick.addr() == addr);
    found.expect("the address takes traffic").endpoint().clone()
}

fn shares(state: &ClusterState, picks: usize) -> HashMap<SocketAddr, usize> {
    let mut shares = HashMap::new();
    for _ in 0..picks {
        *shares
            .entry(state.pick(&Ask::default()).expect("an endpoint").addr())
            .or_default() += 1;
    }
    shares
}

#[tokio::test]
async fn a_cluster_published_before_its_plan_has_endpoints_at_once() {
    let upstreams = upstreams();
    upstreams.publish(&table(&[("a", fixed(&[(1, 1)]))]));
    let serving = upstreams.serve(plan([cluster("a")]));
    assert_eq!(
        first(&serving)
            .pick(&Ask::default())
            .expect("an endpoint")
            .addr(),
        addr(1)
    );
}

#[tokio::test]
async fn a_cluster_without_endpoints_picks_nobody_until_one_is_published() {
    let upstreams = upstreams();
    let state = first(&upstreams.serve(plan([cluster("a")])));
    assert!(state.pick(&Ask::default()).is_err());
    upstreams.publish(&table(&[("a", fixed(&[(1, 1)]))]));
    assert!(state.pick(&Ask::default()).is_ok());
}

#[tokio::test]
async fn an_address_that_stays_keeps_its_counters_even_when_its_weight_changes() {
    let upstreams = upstreams();
    upstreams.publish(&table(&[("a", fixed(&[(1, 1), (2, 1)]))]));
    let state = first(&upstreams.serve(plan([cluster("a")])));
    let before = endpoint(&state, addr(2));
    upstreams.publish(&table(&[("a", fixed(&[(2, 5), (3, 1)]))]));
    assert!(Arc::ptr_eq(&before, &endpoint(&state, addr(2))));
    assert_eq!(members(&state), [(addr(2), 5), (addr(3), 1)]);
}

#[tokio::test]
async fn a_request_in_flight_survives_the_loss_of_its_endpoint() {
    let upstreams = upstreams();
    upstreams.publish(&table(&[("a", fixed(&[(1, 1)]))]));
    let state = first(&upstreams.serve(plan([cluster("a")])));
    let pick = state.pick(&Ask::default()).expect("an endpoint");
    upstreams.publish(&table(&[("a", fixed(&[]))]));
    assert!(state.pick(&Ask::default()).is_err());
    assert_eq!(pick.addr(), addr(1));
    assert_eq!(pick.endpoint().active.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_pick_counts_itself_for_as_long_as_it_is_held() {
    let upstreams = upstreams();
    upstreams.publish(&table(&[("a", fixed(&[(1, 1)]))]));
    let state = first(&upstreams.serve(plan([cluster("a")])));
    let (one, two) = (
        state.pick(&Ask::default()).expect("an endpoint"),
        state.pick(&Ask::default()).expect("an endpoint"),
    );
    assert_eq!(state.view().endpoints[0].active, 2);
    drop(one);
    assert_eq!(state.view().endpoints[0].active, 1);
    drop(two);
    assert_eq!(state.view().endpoints[0].active, 0);
}

#[tokio::test]
async fn weight_0_takes_no_traffic_but_is_shown() {
    for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::Random] {
        let upstreams = upstreams();
        upstreams.publish(&table(&[("a", fixed(&[(1, 0), (2, 3), (3, 1)]))]));
        let state = first(&upstreams.serve(plan([Cluster {
            balancing: balance.into(),
            ..cluster("a")
        }])));
        assert!(!shares(&state, 1000).contains_key(&addr(1)));
        assert_eq!(members(&state), [(addr(2), 3), (addr(3), 1), (addr(1), 0)]);
        upstreams.publish(&table(&[("a", fixed(&[(1, 0)]))]));
        assert!(state.pick(&Ask::default()).is_err());
    }
}

#[tokio::test]
async fn an_address_named_twice_counts_once() {
    let upstreams = upstreams();
    upstreams.publish(&table(&[("a", fixed(&[(1, 4), (2, 1), (1, 9)]))]));
    let state = first(&upstreams.serve(plan([cluster("a")])));
    assert_eq!(members(&state), [(addr(1), 4), (addr(2), 1)]);
    assert_eq!(shares(&state, 500)[&addr(1)], 400);
}

#[tokio::test]
async fn plans_share_the_state_of_clusters_of_the_same_name() {
    let upstreams = upstreams();
    let old = upstreams.serve(plan([cluster("a"), cluster("b")]));
    let new = upstreams.serve(plan([cluster("b")]));
    assert!(Arc::ptr_eq(
        old.cluster(ClusterId(1)).expect("b"),
        new.cluster(ClusterId(0)).expect("b")
    ));
    let names: Vec<_> = upstreams
        .clusters()
        .iter()
        .map(|state| state.view().name)
        .collect();
    assert_eq!(names, [Arc::<str>::from("b")]);
}

#[tokio::test]
async fn a_new_definition_reaches_the_state_and_keeps_its_endpoints() {
    let upstreams = upstreams();
    upstreams.publish(&table(&[("a", fixed(&[(1, 1), (2, 3)]))]));
    let state = first(&upstreams.serve(plan([cluster("a")])));
    let before = endpoint(&state, addr(1));
    let connect_timeout = Duration::from_secs(1);
    upstreams.serve(plan([Cluster {
        balancing: Balance::Random.into(),
        pool: Pool {
            connect_timeout,
            ..Pool::default()
        },
        ..cluster("a")
    }]));
    assert_eq!(state.definition.load().balancing.policy, Balance::Random);
    assert_eq!(
        state
            .peer(
                &state.pick(&Ask::default()).unwrap(),
                &Caller::of(Wants::Http1)
            )
            .options
            .connection_timeout,
        Some(connect_timeout)
    );
    assert!(Arc::ptr_eq(&before, &endpoint(&state, addr(1))));
    let share = shares(&state, 10_000)[&addr(1)];
    assert!(
        share.abs_diff(5000) < 500,
        "random does not look at weights: {share}"
    );
}

#[tokio::test]
async fn a_cluster_no_plan_names_ends_with_its_last_request() {
    let upstreams = upstreams();
    upstreams.publish(&table(&[("a", fixed(&[(1, 1)]))]));
    let pinned = upstreams.serve(plan([cluster("a")]));
    upstreams.publish(&table(&[]));
    upstreams.serve(plan([]));
    let state = first(&pinned);
    assert!(
        state.pick(&Ask::default()).is_ok(),
        "the pinned plan still works"
    );

    upstreams.publish(&table(&[("a", fixed(&[(2, 1)]))]));
    let again = upstreams.serve(plan([cluster("a")]));
    assert!(
        Arc::ptr_eq(&state, &first(&again)),
        "a name that returns finds its state"
    );
    assert_eq!(
        state.pick(&Ask::default()).expect("an endpoint").addr(),
        addr(2)
    );

    let last = Arc::downgrade(&state);
    upstreams.serve(plan([]));
    drop((pinned, again, state));
    assert!(last.upgrade().is_none());
}

#[tokio::test]
async fn a_name_that_is_an_address_is_never_asked() {
    let upstreams = upstreams();
    upstreams.publish(&table(&[("a", resolved(&["10.0.0.7", "::1"], false))]));
    let view = first(&upstreams.serve(plan([cluster("a")]))).view();
    let shown: Vec<_> = view
        .endpoints
        .iter()
        .map(|one| (one.addr.to_string(), &one.source))
        .collect();
    assert_eq!(
        shown,
        [
            ("10.0.0.7:80".to_owned(), &Source::Static),
            ("[::1]:80".to_owned(), &Source::Static)
        ]
    );
    assert!(view.dns.is_empty());
}

#[tokio::test]
async fn no_pick_finds_the_cluster_empty_while_endpoints_are_exchanged() {
    let upstreams = upstreams();
    let tables = [
        table(&[("a", fixed(&[(1, 1)]))]),
        table(&[("a", fixed(&[(2, 1), (3, 2)]))]),
    ];
    upstreams.publish(&tables[0]);
    let state = first(&upstreams.serve(plan([cluster("a")])));
    std::thread::scope(|scope| {
        let picking: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..20_000).all(|_| state.pick(&Ask::default()).is_ok())))
            .collect();
        let mut turn = tables.iter().cycle();
        while !picking.iter().all(|picking| picking.is_finished()) {
            turn.next()
                .into_iter()
                .for_each(|table| upstreams.publish(table));
        }
        assert!(
            picking
                .into_iter()
                .all(|picking| picking.join().expect("no panic"))
        );
    });
    assert!(
        state
            .view()
            .endpoints
            .iter()
            .all(|endpoint| endpoint.active == 0)
    );
}

#[tokio::test]
async fn a_limited_clusters_counters_are_metrics_and_survive_plans() {
    let upstreams = upstreams();
    upstreams.publish(&table(&[("a", fixed(&[(1, 1)]))]));
    let limited = |limit| {
        let mut limited = cluster("a");
        limited.pool.max_requests = std::num::NonZeroU32::new(limit);
        limited
    };
    let state = first(&upstreams.serve(plan([limited(2)])));
    let ask = Ask::default();
    let held = [state.pick(&ask).unwrap(), state.pick(&ask).unwrap()];
    assert_eq!(
        state.pick(&ask).unwrap_err(),
        crate::upstream::Refused::Overflow
    );
    // The next plan allows one more; what is in flight still counts.
    let state = first(&upstreams.serve(plan([limited(3)])));
    let third = state.pick(&ask).unwrap();
    assert!(state.pick(&ask).is_err());
    let metrics = upstreams.metrics();
    for line in [
        "pingress_upstream_overflows_total{cluster=\"a\"} 2",
        "pingress_upstream_limited_requests{cluster=\"a\"} 3",
    ] {
        assert!(metrics.lines().any(|written| written == line), "{metrics}");
    }
    drop((held, third));
    assert_eq!(state.limits().unwrap().requests, 0);
    upstreams.serve(plan([cluster("a")]));
    assert_eq!(upstreams.metrics(), "");
}
