//! Priorities and shares of endpoints, seen from a gateway in `eu/west/one`.

use crate::base::Position;
use crate::model::istio::destination_rule::Distribute;
use crate::model::{At, Slot};
use crate::plan::endpoints::Endpoint;

use super::*;

fn options(locality: &str) -> Options {
    Options {
        locality: locality.into(),
        labels: [("track".to_owned(), "stable".to_owned())].into(),
        ..Options::default()
    }
}

fn setting() -> LocalityLb {
    LocalityLb::default()
}

fn slot<T>(value: T) -> At<Slot<T>> {
    At {
        position: Position { line: 1, column: 1 },
        value: Slot::Good(value),
    }
}

fn distribute(from: &str, to: &[(&str, u32)]) -> LocalityLb {
    let rule = Distribute {
        from: from.into(),
        to: to
            .iter()
            .map(|(to, share)| ((*to).into(), *share))
            .collect(),
    };
    LocalityLb {
        distribute: vec![slot(rule)],
        ..setting()
    }
}

fn failover(from: &str, to: &str) -> LocalityLb {
    let rule = Failover {
        from: from.into(),
        to: to.into(),
    };
    LocalityLb {
        failover: vec![slot(rule)],
        ..setting()
    }
}

fn by_labels(labels: &[&str]) -> LocalityLb {
    LocalityLb {
        failover_priority: labels.iter().map(ToString::to_string).collect(),
        ..setting()
    }
}

/// Endpoints of weight 1 in these localities, each with a label `track`.
fn settled(placing: &Placing<'_>, endpoints: &[(&str, &str)]) -> Vec<Endpoint> {
    let endpoint = |(locality, track): &(&'static str, &'static str)| Endpoint {
        addr: ([10, 0, 0, 1], 80).into(),
        weight: 1,
        place: placing.place(Some(locality), |name| (name == "track").then_some(*track)),
        origin: None,
    };
    let endpoints: Vec<(&'static str, &'static str)> = endpoints
        .iter()
        .map(|(locality, track)| {
            let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
            (leak(locality), leak(track))
        })
        .collect();
    let mut resolution = Resolution::Static(endpoints.iter().map(endpoint).collect());
    placing.settle(&mut resolution);
    match resolution {
        Resolution::Static(endpoints) => endpoints,
        Resolution::Dns { .. } => Vec::new(),
    }
}

fn priorities(
    setting: Option<&LocalityLb>,
    detects: bool,
    own: &str,
    localities: &[&str],
) -> Vec<u32> {
    let options = options(own);
    let placing = Placing::new(setting, detects, &options);
    let endpoints: Vec<_> = localities.iter().map(|locality| (*locality, "")).collect();
    let settled = settled(&placing, &endpoints);
    settled
        .iter()
        .map(|endpoint| endpoint.place.priority)
        .collect()
}

const NEAR_TO_FAR: [&str; 4] = ["eu/west/one", "eu/west/two", "eu/north/one", "us/east/one"];

#[test]
fn gotcha_35_failover_needs_outlier_detection() {
    let here = "eu/west/one";
    let plain = setting();
    assert_eq!(
        priorities(Some(&plain), true, here, &NEAR_TO_FAR),
        [0, 1, 2, 3]
    );
    assert_eq!(priorities(Some(&plain), false, here, &NEAR_TO_FAR), [0; 4]);
}

#[test]
fn without_a_setting_the_meshs_failover_holds_and_enabled_false_ends_it() {
    let here = "eu/west/one";
    assert_eq!(priorities(None, true, here, &NEAR_TO_FAR), [0, 1, 2, 3]);
    let off = LocalityLb {
        enabled: Some(false),
        ..failover("eu", "us")
    };
    assert_eq!(priorities(Some(&off), true, here, &NEAR_TO_FAR), [0; 4]);
    let options = Options {
        locality_failover: false,
        ..options(here)
    };
    assert!(!Placing::new(None, true, &options).matters());
    let plain = setting();
    assert!(Placing::new(Some(&plain), true, &options).matters());
}

#[test]
fn gaps_between_priorities_are_closed() {
    let all = ["us/east/one", "eu/west/two"];
    assert_eq!(priorities(None, true, "eu/west/one", &all), [1, 0]);
}

#[test]
fn a_failover_rule_puts_other_regions_behind_its_own() {
    let rule = failover("eu", "us");
    let all = ["asia/a/b", "us/east/one", "eu/west/one"];
    assert_eq!(
        priorities(Some(&rule), true, "eu/west/one", &all),
        [2, 1, 0]
    );
    // One for another region says nothing here.
    let rule = failover("sa", "us");
    assert_eq!(
        priorities(Some(&rule), true, "eu/west/one", &all),
        [1, 1, 0]
    );
}

#[test]
fn a_gateway_without_a_locality_prefers_nobody() {
    assert_eq!(priorities(None, true, "", &["", "us/east/one"]), [0, 0]);
}

#[test]
fn failover_priority_counts_labels_from_the_first_that_differs() {
    let setting = by_labels(&["topology.kubernetes.io/region", "track", "lane=fast"]);
    let options = options("eu/west/one");
    let placing = Placing::new(Some(&setting), true, &options);
    let priorities = |endpoints: &[(&str, &str)]| -> Vec<u32> {
        let settled = settled(&placing, endpoints);
        settled
            .iter()
            .map(|endpoint| endpoint.place.priority)
            .collect()
    };
    // No endpoint has the lane; the region is the first label, so it weighs most.
    let all = [("eu/x", "stable"), ("eu/x", "canary"), ("us/x", "stable")];
    assert_eq!(priorities(&all), [0, 1, 2]);
    assert_eq!(priorities(&all[1..]), [0, 1]);
}

#[test]
fn failover_priority_and_failover_by_region_go_together() {
    let mut setting = by_labels(&["track"]);
    setting.failover = failover("eu", "us").failover;
    let options = options("eu/west/one");
    let placing = Placing::new(Some(&setting), true, &options);
    let all = [
        ("asia/a", "stable"),
        ("us/a", "stable"),
        ("eu/west/one", "stable"),
        ("eu/west/one", "canary"),
    ];
    let settled = settled(&placing, &all);
    let priorities: Vec<u32> = settled
        .iter()
        .map(|endpoint| endpoint.place.priority)
        .collect();
    assert_eq!(priorities, [2, 1, 0, 3]);
}

fn shares(setting: &LocalityLb, own: &str, localities: &[&str]) -> Vec<(Option<u32>, u32)> {
    let options = options(own);
    // No outlier detection: distribution does without.
    let placing = Placing::new(Some(setting), false, &options);
    let endpoints: Vec<_> = localities.iter().map(|locality| (*locality, "")).collect();
    settled(&placing, &endpoints)
        .iter()
        .map(|endpoint| (endpoint.place.share, endpoint.weight))
        .collect()
}

#[test]
fn distribute_gives_shares_and_localities_not_listed_get_nothing() {
    let setting = distribute("eu/*", &[("eu/west/*", 80), ("us", 20)]);
    let all = ["eu/west/one", "us/east/one", "asia/a/b"];
    assert_eq!(
        shares(&setting, "eu/west/one", &all),
        [(Some(80), 1), (Some(20), 1), (None, 0)]
    );
}

#[test]
fn a_share_for_several_localities_is_divided_by_their_weights() {
    let setting = distribute("*", &[("eu/*", 90), ("us/*", 10)]);
    let all = ["eu/west/one", "eu/west/one", "eu/north/a", "us/east/one"];
    assert_eq!(
        shares(&setting, "", &all),
        [(Some(60), 1), (Some(60), 1), (Some(30), 1), (Some(10), 1)]
    );
}

#[test]
fn a_wildcard_is_for_what_no_exact_locality_names() {
    let setting = distribute("*", &[("*", 30), ("eu/west/one", 70)]);
    let all = ["eu/west/one", "eu/north/a"];
    assert_eq!(shares(&setting, "", &all), [(Some(70), 1), (Some(30), 1)]);
}

#[test]
fn distribute_from_elsewhere_leaves_this_gateway_alone() {
    let setting = distribute("us/*", &[("us/*", 100)]);
    let all = ["eu/west/one", "us/east/one"];
    assert_eq!(
        shares(&setting, "eu/west/one", &all),
        [(None, 1), (None, 1)]
    );
}

#[test]
fn labels_of_a_workload_tell_where_it_runs() {
    let locality = |labels: &[(&'static str, &'static str)]| {
        of_labels(|name: &str| {
            let found = labels.iter().find(|(label, _)| *label == name);
            found.map(|(_, value)| *value)
        })
    };
    assert_eq!(
        locality(&[(LOCALITY, "eu.west.one"), (REGION, "us")]),
        "eu/west/one"
    );
    assert_eq!(locality(&[(LOCALITY, "eu/west.1")]), "eu/west.1");
    assert_eq!(locality(&[(REGION, "eu"), (ZONE, "west")]), "eu/west");
    assert_eq!(
        locality(&[(REGION, "eu"), (ZONE, "west"), (SUBZONE, "one")]),
        "eu/west/one"
    );
    assert_eq!(locality(&[("version", "v1")]), "");
}

#[test]
fn a_zone_alone_is_in_the_gateways_region_if_it_is_the_gateways() {
    let options = options("eu/west/one");
    let placing = Placing::new(None, true, &options);
    assert_eq!(placing.of_zone("west"), "eu/west");
    assert_eq!(placing.of_zone("east"), "/east");
}
