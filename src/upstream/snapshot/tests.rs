//! Who is picked of several localities and priorities, and after failed attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::clock;
use crate::plan::HashTable;
use crate::plan::balance::{Number, WarmUp};
use crate::upstream::Outcome;
use crate::upstream::dns::Name;
use crate::upstream::fixture::{addr, detector};

use super::*;

const RING: Balance = Balance::Hash(HashTable::Ring { minimum_size: 1024 });
const MAGLEV: Balance = Balance::Hash(HashTable::Maglev { size: 65_537 });
const ALL: [Balance; 5] = [
    Balance::LeastRequest,
    Balance::RoundRobin,
    Balance::Random,
    RING,
    MAGLEV,
];

/// A member by the last number of its address.
fn member(last: u8, weight: u32, place: Place) -> Member {
    Member {
        endpoint: Arc::new(EndpointState::new(addr(last), &detector(), clock::now())),
        role: Role {
            weight,
            place,
            source: Source::Static,
        },
    }
}

fn plain(last: u8) -> Member {
    member(last, 1, Place::default())
}

fn placed(last: u8, locality: &str, priority: u32, share: Option<u32>) -> Member {
    let place = Place {
        locality: locality.into(),
        priority,
        share,
    };
    member(last, 1, place)
}

fn snapshot(members: &[Member], balancing: &Balancing) -> Snapshot {
    let terms = Terms {
        balancing,
        panic_threshold: 0,
        now: clock::now(),
    };
    let names: Arc<[Arc<Name>]> = Arc::default();
    Snapshot::build(members.into(), names, &terms)
}

/// How often each address is picked, by its last number.
fn counts(snapshot: &Snapshot, ask: &Ask<'_>, picks: usize) -> BTreeMap<u8, usize> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut counts = BTreeMap::new();
    for _ in 0..picks {
        let picked = snapshot.next(ask, || rng.u64(..)).expect("an endpoint");
        let last = (1..=250).find(|last| addr(*last) == picked.addr);
        *counts.entry(last.expect("a known address")).or_default() += 1;
    }
    counts
}

#[test]
fn a_lower_priority_gets_nothing_while_the_first_is_fit() {
    let members = [placed(1, "a", 0, None), placed(2, "b", 1, None)];
    for balance in ALL {
        let snapshot = snapshot(&members, &balance.into());
        assert_eq!(counts(&snapshot, &Ask::default(), 200), [(1, 200)].into());
    }
}

#[test]
fn localities_get_their_shares_whatever_the_number_of_their_endpoints() {
    let members = [
        placed(1, "a", 0, Some(80)),
        placed(2, "b", 0, Some(20)),
        placed(3, "b", 0, Some(20)),
        placed(4, "b", 0, Some(20)),
    ];
    for balance in ALL {
        let snapshot = snapshot(&members, &balance.into());
        let near = counts(&snapshot, &Ask::default(), 20_000)[&1];
        assert!(near.abs_diff(16_000) < 800, "{balance:?}: {near}");
    }
}

#[test]
fn an_endpoint_of_weight_zero_gets_nothing() {
    let members = [plain(1), member(2, 0, Place::default())];
    for balance in ALL {
        let snapshot = snapshot(&members, &balance.into());
        assert_eq!(counts(&snapshot, &Ask::default(), 200), [(1, 200)].into());
        assert_eq!(snapshot.members().count(), 2);
    }
}

#[test]
fn a_tried_endpoint_is_avoided_while_there_is_another() {
    let members = [plain(1), plain(2), plain(3)];
    let tried = [addr(1), addr(3)];
    let ask = Ask {
        tried: &tried,
        ..Ask::default()
    };
    for balance in [Balance::LeastRequest, Balance::RoundRobin, Balance::Random] {
        let several = snapshot(&members, &balance.into());
        assert_eq!(counts(&several, &ask, 500), [(2, 500)].into());
        let only = snapshot(&members[..1], &balance.into());
        assert_eq!(counts(&only, &ask, 10), [(1, 10)].into());
    }
}

#[test]
fn a_retry_does_not_leave_its_priority_for_an_untried_endpoint() {
    let members = [placed(1, "a", 0, None), placed(2, "b", 1, None)];
    let ask = Ask {
        tried: &[addr(1)],
        ..Ask::default()
    };
    let snapshot = snapshot(&members, &Balance::LeastRequest.into());
    assert_eq!(counts(&snapshot, &ask, 100), [(1, 100)].into());
}

#[test]
fn a_key_keeps_its_endpoint_even_if_it_was_tried() {
    let members = [plain(1), plain(2), plain(3)];
    for balance in [RING, MAGLEV] {
        let snapshot = snapshot(&members, &balance.into());
        let mut met = BTreeMap::new();
        for key in 0..50_u64 {
            let hash = Some(key.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let ask = Ask { hash, tried: &[] };
            let first = counts(&snapshot, &ask, 5);
            assert_eq!(first.len(), 1, "one endpoint for one key");
            let tried = [addr(*first.keys().next().expect("a pick"))];
            let again = Ask {
                hash,
                tried: &tried,
            };
            assert_eq!(counts(&snapshot, &again, 5), first);
            met.extend(first);
        }
        assert_eq!(met.len(), 3, "keys are spread");
    }
}

#[test]
fn a_request_without_a_key_goes_anywhere() {
    let members = [plain(1), plain(2), plain(3)];
    for balance in [RING, MAGLEV] {
        let snapshot = snapshot(&members, &balance.into());
        let counts = counts(&snapshot, &Ask::default(), 3000);
        assert!(counts.values().all(|count| count.abs_diff(1000) < 200));
    }
}

/// Puts an endpoint out of traffic.
fn eject(member: &Member) {
    member.endpoint.health.note(Outcome::Answered(500));
    assert!(!member.is_fit());
}

#[test]
fn gotcha_34_nobody_is_picked_when_nobody_is_fit() {
    let members = [plain(1), plain(2)];
    for balance in ALL {
        let before = snapshot(&members, &balance.into());
        members
            .iter()
            .filter(|member| member.is_fit())
            .for_each(eject);
        for snapshot in [&before, &snapshot(&members, &balance.into())] {
            assert!(snapshot.next(&Ask::default(), || 7).is_none());
        }
    }
}

#[test]
fn an_unfit_endpoint_is_not_picked_even_before_the_snapshot_is_built_again() {
    for balance in ALL {
        let members: Vec<Member> = (1..=20).map(plain).collect();
        let before = snapshot(&members, &balance.into());
        members[1..].iter().for_each(eject);
        let expected = BTreeMap::from([(1, 300)]);
        assert_eq!(counts(&before, &Ask::default(), 300), expected);
        let after = snapshot(&members, &balance.into());
        assert_eq!(counts(&after, &Ask::default(), 300), expected);
    }
}

#[test]
fn a_priority_that_just_lost_its_last_endpoint_is_stood_in_for_at_once() {
    for balance in ALL {
        let members = [placed(1, "a", 0, None), placed(2, "b", 1, None)];
        let before = snapshot(&members, &balance.into());
        eject(&members[0]);
        assert_eq!(counts(&before, &Ask::default(), 100), [(2, 100)].into());
    }
}

#[test]
fn traffic_spills_over_in_the_measure_endpoints_are_lost() {
    for balance in ALL {
        let near = (1..=10).map(|last| placed(last, "a", 0, None));
        let far = (11..=20).map(|last| placed(last, "b", 1, None));
        let members: Vec<Member> = near.chain(far).collect();
        let spilt = |unfit: usize| {
            members[..unfit]
                .iter()
                .filter(|member| member.is_fit())
                .for_each(eject);
            let counts = counts(
                &snapshot(&members, &balance.into()),
                &Ask::default(),
                10_000,
            );
            counts.range(11..).map(|(_, count)| *count).sum::<usize>()
        };
        // Envoy's overprovisioning: 1.4 times what is left.
        assert_eq!(spilt(2), 0, "{balance:?}");
        assert!(spilt(5).abs_diff(3000) < 700, "{balance:?}");
        assert_eq!(spilt(10), 10_000, "{balance:?}");
    }
}

#[test]
fn a_locality_with_unfit_endpoints_gets_less_of_its_share() {
    let a = (1..=4).map(|last| placed(last, "a", 0, Some(50)));
    let b = (5..=8).map(|last| placed(last, "b", 0, Some(50)));
    let members: Vec<Member> = a.chain(b).collect();
    eject(&members[0]);
    eject(&members[1]);
    let counts = counts(
        &snapshot(&members, &Balance::LeastRequest.into()),
        &Ask::default(),
        17_000,
    );
    let a: usize = counts.range(..5).map(|(_, count)| *count).sum();
    // 0.7 of 50 against 50.
    assert!(a.abs_diff(7000) < 400, "{a}");
}

#[test]
fn a_cluster_in_panic_serves_from_all_endpoints() {
    let members: Vec<Member> = (1..=4).map(plain).collect();
    members[..3].iter().for_each(eject);
    let balancing = Balancing::from(Balance::RoundRobin);
    let terms = Terms {
        balancing: &balancing,
        panic_threshold: 20,
        now: clock::now(),
    };
    let snapshot = Snapshot::build(members.as_slice().into(), Arc::default(), &terms);
    assert_eq!(counts(&snapshot, &Ask::default(), 40), [(4, 40)].into());
    let terms = Terms {
        panic_threshold: 60,
        ..terms
    };
    let snapshot = snapshot.rebuilt(&terms);
    let even = [(1, 10), (2, 10), (3, 10), (4, 10)];
    assert_eq!(counts(&snapshot, &Ask::default(), 40), even.into());
}

#[test]
fn a_new_endpoint_warms_up_from_its_least_share_to_the_whole() {
    let created = clock::now();
    let old = created.checked_sub(Duration::from_secs(3600));
    let at = |last: u8, created| Member {
        endpoint: Arc::new(EndpointState::new(addr(last), &detector(), created)),
        ..plain(last)
    };
    let members = [at(1, old.unwrap_or(created)), at(2, created)];
    for policy in [Balance::RoundRobin, Balance::LeastRequest] {
        let balancing = Balancing {
            warm_up: Some(WarmUp {
                duration: Duration::from_secs(100),
                minimum_percent: Number(10.0),
                aggression: Number(1.0),
            }),
            ..policy.into()
        };
        let share = |seconds| {
            let terms = Terms {
                balancing: &balancing,
                panic_threshold: 0,
                now: created + Duration::from_secs(seconds),
            };
            let snapshot = Snapshot::build(members.as_slice().into(), Arc::default(), &terms);
            assert_eq!(snapshot.warming, seconds < 100);
            let counts = counts(&snapshot, &Ask::default(), 22_000);
            counts[&2] as f64 / counts[&1] as f64
        };
        for (seconds, expected) in [(0, 0.1), (50, 0.5), (100, 1.0)] {
            let share = share(seconds);
            assert!(
                (share / expected - 1.0).abs() < 0.08,
                "{policy:?} {seconds}: {share}"
            );
        }
    }
}
