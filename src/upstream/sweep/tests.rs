//! Ejection and return as picks see them, through the task that follows them.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::plan::{Cluster, Outlier};
use crate::upstream::fixture::*;
use crate::upstream::{Ask, ClusterState, DnsOptions, Outcome, Upstreams};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what the task does.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "never happened: {what}");
}

fn watched(base_ejection: Duration) -> Cluster {
    Cluster {
        outlier: Some(Outlier {
            consecutive_5xx: NonZeroU32::new(5),
            interval: Duration::from_millis(5),
            base_ejection,
            max_ejection_percent: 100,
            ..Outlier::default()
        }),
        ..cluster("a")
    }
}

const FOREVER: Duration = Duration::from_secs(3600);

/// Picks; the address fails, all others answer.
fn request(state: &ClusterState, ill: SocketAddr) -> Option<SocketAddr> {
    let pick = state.pick(&Ask::default()).ok()?;
    pick.report(match pick.addr() == ill {
        true => Outcome::ConnectFailed,
        false => Outcome::Answered(200),
    });
    Some(pick.addr())
}

fn ejected(state: &ClusterState) -> Vec<SocketAddr> {
    let view = state.view();
    let out = view
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.health.ejection.is_some());
    out.map(|endpoint| endpoint.addr).collect()
}

#[tokio::test]
async fn the_fifth_failure_stops_traffic_until_the_ejection_is_over() {
    let upstreams = Upstreams::new(DnsOptions::default(), Handle::current());
    upstreams.publish(&table(&[("a", fixed(&[(1, 1), (2, 1), (3, 1)]))]));
    let state = first(&upstreams.serve(plan([watched(Duration::from_millis(20))])));
    let mut failed = 0;
    while ejected(&state).is_empty() {
        failed += usize::from(request(&state, addr(2)) == Some(addr(2)));
    }
    assert_eq!(failed, 5);
    until("it takes traffic again", || {
        ejected(&state).is_empty() && request(&state, addr(9)) == Some(addr(2))
    })
    .await;
    assert_eq!(state.ejections().ejected, 0);
}

#[tokio::test]
async fn an_ejected_endpoint_gets_nothing_and_the_others_share_its_part() {
    let upstreams = Upstreams::new(DnsOptions::default(), Handle::current());
    upstreams.publish(&table(&[("a", fixed(&[(1, 1), (2, 1), (3, 1)]))]));
    let state = first(&upstreams.serve(plan([watched(FOREVER)])));
    while ejected(&state).is_empty() {
        request(&state, addr(2));
    }
    let spread = || -> Vec<_> { (0..90).map(|_| request(&state, addr(2))).collect() };
    assert!(!spread().contains(&Some(addr(2))), "at once");
    until("the others share its part", || {
        let spread = spread();
        let share = |last| {
            spread
                .iter()
                .filter(|got| **got == Some(addr(last)))
                .count()
        };
        (share(1), share(2), share(3)) == (45, 0, 45)
    })
    .await;
}

#[tokio::test]
async fn an_ejection_outlives_plans_and_endpoint_tables_and_ends_with_its_rules() {
    let upstreams = Upstreams::new(DnsOptions::default(), Handle::current());
    upstreams.publish(&table(&[("a", fixed(&[(1, 1), (2, 1)]))]));
    let state = first(&upstreams.serve(plan([watched(FOREVER)])));
    while ejected(&state).is_empty() {
        request(&state, addr(2));
    }
    upstreams.publish(&table(&[("a", fixed(&[(2, 3), (3, 1)]))]));
    let state = first(&upstreams.serve(plan([watched(2 * FOREVER)])));
    assert_eq!(ejected(&state), [addr(2)]);
    upstreams.serve(plan([cluster("a")]));
    assert!(ejected(&state).is_empty());
    let picks: Vec<_> = (0..8).filter_map(|_| request(&state, addr(9))).collect();
    assert!(picks.contains(&addr(2)));
}

#[tokio::test]
async fn an_address_that_leaves_while_ejected_comes_back_healthy_and_uncounted() {
    let upstreams = Upstreams::new(DnsOptions::default(), Handle::current());
    upstreams.publish(&table(&[("a", fixed(&[(1, 1), (2, 1)]))]));
    let state = first(&upstreams.serve(plan([watched(FOREVER)])));
    while ejected(&state).is_empty() {
        request(&state, addr(2));
    }
    upstreams.publish(&table(&[("a", fixed(&[(1, 1)]))]));
    assert_eq!(state.ejections().ejected, 0);
    upstreams.publish(&table(&[("a", fixed(&[(1, 1), (2, 1)]))]));
    assert!(ejected(&state).is_empty());
}

#[tokio::test]
async fn gotcha_34_when_all_are_ejected_there_is_no_endpoint() {
    let upstreams = Upstreams::new(DnsOptions::default(), Handle::current());
    upstreams.publish(&table(&[("a", fixed(&[(1, 1)]))]));
    let state = first(&upstreams.serve(plan([watched(FOREVER)])));
    for _ in 0..5 {
        assert!(request(&state, addr(1)).is_some());
    }
    assert!(request(&state, addr(1)).is_none());
}

#[tokio::test]
async fn the_metrics_of_a_cluster_with_outlier_detection_say_who_is_out() {
    let upstreams = Upstreams::new(DnsOptions::default(), Handle::current());
    upstreams.publish(&table(&[("a", fixed(&[(1, 1)])), ("b", fixed(&[(2, 1)]))]));
    let serving = upstreams.serve(plan([watched(FOREVER), cluster("b")]));
    let state = first(&serving);
    for _ in 0..5 {
        request(&state, addr(1));
    }
    let metrics = upstreams.metrics();
    for line in [
        "pingress_upstream_ejections_total{cluster=\"a\",reason=\"consecutive_5xx\"} 1\n",
        "pingress_upstream_ejections_overflow_total{cluster=\"a\"} 0\n",
        "pingress_upstream_ejected{cluster=\"a\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("cluster=\"b\""), "{metrics}");
    upstreams.serve(plan([cluster("b")]));
    assert_eq!(upstreams.metrics(), "");
}

#[tokio::test]
async fn below_the_minimum_of_healthy_endpoints_the_ejected_take_traffic_too() {
    let upstreams = Upstreams::new(DnsOptions::default(), Handle::current());
    upstreams.publish(&table(&[("a", fixed(&[(1, 1), (2, 1), (3, 1), (4, 1)]))]));
    let mut watched = watched(FOREVER);
    if let Some(outlier) = &mut watched.outlier {
        outlier.min_health_percent = 50;
    }
    let state = first(&upstreams.serve(plan([watched])));
    let fail = |last: u8| {
        for endpoint in (0..500).filter_map(|_| state.pick(&Ask::default()).ok()) {
            if endpoint.addr() == addr(last) && ejected(&state).len() < usize::from(last) {
                endpoint.report(Outcome::ConnectFailed);
            }
        }
    };
    let taking = || {
        let picks = (0..100).filter_map(|_| state.pick(&Ask::default()).ok());
        picks.map(|pick| pick.addr()).collect::<BTreeSet<_>>().len()
    };
    for (last, left) in [(1, 3), (2, 2), (3, 4)] {
        fail(last);
        assert_eq!(ejected(&state).len(), usize::from(last));
        until("as many take traffic", || taking() == left).await;
    }
}
