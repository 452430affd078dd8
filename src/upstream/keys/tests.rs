//! Stability, shares, and agreement with what Envoy builds.

use proptest::prelude::*;

use super::*;

const RING: HashTable = HashTable::Ring { minimum_size: 1024 };
const MAGLEV: HashTable = HashTable::Maglev { size: 65_537 };

fn endpoints(weights: &[f64]) -> Vec<(SocketAddr, f64)> {
    let addr = |index: u16| SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 8080));
    (0..)
        .zip(weights)
        .map(|(index, weight)| (addr(index), *weight))
        .collect()
}

fn key(number: u64) -> u64 {
    XxHash64::oneshot(0, &number.to_le_bytes())
}

fn owners(table: HashTable, endpoints: &[(SocketAddr, f64)], keys: u64) -> Vec<SocketAddr> {
    let table = Keys::new(table, endpoints);
    (0..keys)
        .map(|number| {
            let index = table.find(key(number), 0).expect("an endpoint");
            endpoints[index].0
        })
        .collect()
}

/// The part of all keys that changes its owner when one endpoint leaves.
fn moved(table: HashTable, count: usize) -> f64 {
    const KEYS: u64 = 50_000;
    let before = endpoints(&vec![1.0; count]);
    let gone = before[count / 2].0;
    let mut after = before.clone();
    after.remove(count / 2);
    let (old, new) = (owners(table, &before, KEYS), owners(table, &after, KEYS));
    let moved = old.iter().zip(&new).filter(|(old, new)| old != new);
    let mut lost = 0;
    let moved = moved
        .inspect(|(old, _)| lost += usize::from(**old == gone))
        .count();
    if matches!(table, HashTable::Ring { .. }) {
        assert_eq!(moved, lost, "a ring moves only what the endpoint had");
    }
    moved as f64 / KEYS as f64
}

#[test]
fn the_hash_is_envoys() {
    // Of XXH64's reference implementation with seed 0.
    assert_eq!(hash_text(format_args!(""), 0), 0xEF46_DB37_51D8_E999);
    assert_eq!(hash_text(format_args!("a"), 0), 0xD24E_C4F1_A98C_6E5B);
    assert_eq!(hash_text(format_args!("foo"), 0), 3_728_699_739_546_630_719);
}

#[test]
fn a_ring_has_envoys_places() {
    // Those that Envoy's ring_hash_lb_test `Basic` lists for two places of each host.
    let hosts: Vec<_> = (90..96)
        .map(|port| (SocketAddr::from(([127, 0, 0, 1], port)), 1.0))
        .collect();
    let Keys::Ring(ring) = Keys::new(HashTable::Ring { minimum_size: 2 }, &hosts) else {
        panic!("not a ring");
    };
    let places = &ring.places;
    assert_eq!(places.len(), 12);
    assert_eq!(places[0], (833_437_586_790_550_860, 4));
    assert_eq!(places[3], (3_551_244_743_356_806_947, 5));
    assert_eq!(places[4], (3_851_675_632_748_031_481, 3));
    assert_eq!(places[7], (7_700_377_290_971_790_572, 3));
    let table = Keys::Ring(ring);
    assert_eq!(table.find(0, 0), Some(4));
    assert_eq!(table.find(u64::MAX, 0), Some(4));
    assert_eq!(table.find(3_551_244_743_356_806_947, 0), Some(5));
    assert_eq!(table.find(3_551_244_743_356_806_948, 0), Some(3));
}

#[test]
fn a_ring_of_thousands_of_endpoints_stays_within_its_bound() {
    for (size, most) in [(1024, 262_144), (100_000, 800_000)] {
        let table = HashTable::Ring { minimum_size: size };
        let Keys::Ring(ring) = Keys::new(table, &endpoints(&vec![1.0; 5000])) else {
            panic!("not a ring");
        };
        let count = ring.places.len();
        assert!(count <= most + 5000, "{count}");
    }
}

#[test]
fn one_endpoint_leaving_moves_at_most_its_share_and_a_fifth() {
    for count in [3, 10, 50] {
        let bound = 1.2 / count as f64;
        let ring = moved(RING, count);
        assert!(ring <= bound, "ring of {count}: {ring}");
        let maglev = moved(MAGLEV, count);
        // A Maglev table trades a little of this for a smaller size.
        assert!(maglev <= 1.3 / count as f64, "maglev of {count}: {maglev}");
    }
}

#[test]
fn tables_built_twice_agree_whatever_else_the_process_did() {
    let all = endpoints(&[1.0, 2.0, 3.0, 1.0, 5.0]);
    for table in [RING, MAGLEV] {
        assert_eq!(owners(table, &all, 10_000), owners(table, &all, 10_000));
    }
}

#[test]
fn keys_are_shared_by_weight() {
    let weights = [1.0, 2.0, 3.0, 4.0];
    let all = endpoints(&weights);
    for table in [
        HashTable::Ring {
            minimum_size: 10_000,
        },
        MAGLEV,
    ] {
        let owners = owners(table, &all, 100_000);
        for (addr, weight) in &all {
            let have = owners.iter().filter(|owner| *owner == addr).count() as f64;
            let due = weight * 10_000.0;
            assert!(
                (have / due - 1.0).abs() < 0.05,
                "{table:?} {addr}: {have} of {due}"
            );
        }
    }
}

#[test]
fn every_place_of_a_maglev_table_is_taken_by_its_weight() {
    let Keys::Maglev(places) = Keys::new(MAGLEV, &endpoints(&[1.0, 1.0, 2.0])) else {
        panic!("not a Maglev table");
    };
    let count = |wanted| places.iter().filter(|index| **index == wanted).count();
    assert_eq!(places.len(), 65_537);
    assert!(count(0).abs_diff(16_384) < 3 && count(2).abs_diff(32_768) < 3);
}

#[test]
fn walking_on_meets_every_endpoint() {
    let all = endpoints(&[1.0; 4]);
    for table in [RING, MAGLEV] {
        let table = Keys::new(table, &all);
        let mut met: Vec<_> = (0..200)
            .filter_map(|step| table.find(key(1), step))
            .collect();
        met.sort_unstable();
        met.dedup();
        assert_eq!(met, [0, 1, 2, 3]);
    }
}

#[test]
fn nobody_owns_a_key_of_an_empty_table() {
    for table in [RING, MAGLEV] {
        assert_eq!(Keys::new(table, &[]).find(7, 3), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn any_table_is_built_and_finds(
        weights in prop::collection::vec(0.5_f64..4.0, 1..10),
        size in 0_u64..300, key in any::<u64>(), step in 0_usize..5000
    ) {
        let all = endpoints(&weights);
        for table in [HashTable::Ring { minimum_size: size }, HashTable::Maglev { size: 1009 }] {
            prop_assert!(Keys::new(table, &all).find(key, step).is_some_and(|index| index < all.len()));
        }
    }

    /// The index leads to the place that a search of the whole ring gives, however uneven they are.
    #[test]
    fn the_place_of_a_key_is_the_first_that_is_not_before_it(
        mut hashes in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..5, u64::MAX - 3..=u64::MAX], 0..40),
        keys in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..5, u64::MAX - 3..=u64::MAX], 30),
    ) {
        hashes.sort_unstable();
        let ring = Ring::indexed(hashes.iter().map(|hash| (*hash, 0)).collect());
        for key in keys.into_iter().chain(hashes.clone()) {
            prop_assert_eq!(ring.first(key), hashes.partition_point(|hash| *hash < key));
        }
    }
}
