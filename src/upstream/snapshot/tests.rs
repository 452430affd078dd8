//! Who is picked of several localities and priorities, and after failed attempts.

use std::collections::BTreeMap;

use crate::base::clock;
use crate::plan::HashTable;
use crate::upstream::dns::Name;
use crate::upstream::fixture::addr;

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
        endpoint: Arc::new(EndpointState::new(addr(last), clock::now())),
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
