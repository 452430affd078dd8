use std::time::Duration;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn terms(capacity: u32, per_second: u32) -> Terms {
    Terms::of(&Bucket {
        replicas: 1,
        capacity,
        per_fill: per_second,
        interval: Duration::from_secs(1),
    })
}

#[test]
fn a_bucket_gives_its_capacity_at_once_and_then_its_rate_however_much_is_asked() {
    for (capacity, rate) in [(1, 1), (20, 100), (100, 7), (1, 1000)] {
        let (terms, meter) = (terms(capacity, rate), Meter::default());
        let start = 5 * SECOND;
        let at_once = (0..10 * capacity).filter(|_| meter.take(terms, start).is_ok());
        assert_eq!(at_once.count(), capacity as usize);
        // Ten times the rate for 20 s.
        let asked = u64::from(rate) * 10 * 20;
        let step = 20 * SECOND / asked;
        let taken = (1..=asked).filter(|index| meter.take(terms, start + index * step).is_ok());
        let (taken, expected) = (taken.count() as f64, f64::from(rate) * 20.0);
        assert!(
            (taken - expected).abs() <= expected * 0.02,
            "{taken} of {expected}"
        );
    }
}

#[test]
fn a_bucket_that_rests_fills_to_its_capacity_and_no_further() {
    let (terms, meter) = (terms(5, 10), Meter::default());
    for now in [0, 3600 * SECOND] {
        let at_once = (0..50).filter(|_| meter.take(terms, now).is_ok());
        assert_eq!(at_once.count(), 5);
    }
}

#[test]
fn a_token_given_back_can_be_taken_again() {
    let (terms, meter) = (terms(1, 1), Meter::default());
    assert!(meter.take(terms, SECOND).is_ok());
    assert!(meter.take(terms, SECOND).is_err());
    meter.give_back(terms);
    assert!(meter.take(terms, SECOND).is_ok());
    assert!(meter.take(terms, SECOND).is_err());
}

#[test]
fn threads_that_take_at_once_never_get_more_than_there_is() {
    let (terms, meter) = (terms(1000, 1), Meter::default());
    let taken: usize = std::thread::scope(|scope| {
        let take = || (0..1000).filter(|_| meter.take(terms, 0).is_ok()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(taken, 1000);
}

/// Hashes as a seeded hasher gives them.
fn hashes(seed: u64) -> impl Iterator<Item = u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(move || random.u64(..))
}

fn take(table: &Table, key: u64, terms: Terms, now: u64) -> bool {
    table.meter(key).unwrap().take(terms, now).is_ok()
}

#[test]
fn a_flood_of_other_keys_gives_nobody_a_fresh_bucket() {
    let (table, terms) = (Table::new(FEWEST), terms(10, 1));
    let busy: Vec<u64> = hashes(1).take(20).collect();
    for key in &busy {
        assert_eq!((0..30).filter(|_| take(&table, *key, terms, 0)).count(), 10);
    }
    let mut flood = hashes(2);
    for round in 0..100 {
        for key in flood.by_ref().take(1000) {
            take(&table, key, terms, 0);
        }
        for key in &busy {
            assert!(!take(&table, *key, terms, 0), "round {round}");
        }
    }
    assert_eq!(table.bytes(), FEWEST as usize * 16);
}

#[test]
fn however_many_keys_one_client_makes_up_a_full_table_lets_through_what_its_buckets_hold() {
    let (table, terms) = (Table::new(FEWEST), terms(10, 1));
    let flood = hashes(3).take(100_000);
    let passed = flood.filter(|key| take(&table, *key, terms, 0)).count();
    assert_eq!(passed, FEWEST as usize * 10);
}

#[test]
fn ten_thousand_keys_have_each_their_own_rate() {
    let (table, terms) = (Table::new(65_536), terms(3, 2));
    let keys: Vec<u64> = hashes(4).take(10_000).collect();
    let mut passed = vec![0_u32; keys.len()];
    // Ten times the rate for 20 s.
    for tick in 0..=400 {
        let now = tick * SECOND / 20;
        for (key, passed) in keys.iter().zip(&mut passed) {
            *passed += u32::from(take(&table, *key, terms, now));
        }
    }
    let expected = 3 + 2 * 20;
    let wrong = passed.iter().filter(|passed| **passed != expected);
    assert_eq!(wrong.count(), 0);
}

#[test]
fn threads_that_meet_at_a_new_key_share_one_bucket_for_it() {
    let terms = terms(1, 1);
    for key in hashes(5).take(500) {
        let table = Table::new(FEWEST);
        let passed: usize = std::thread::scope(|scope| {
            let take = || usize::from(take(&table, key, terms, 0));
            let threads = [scope.spawn(take), scope.spawn(take)];
            threads.map(|thread| thread.join().unwrap()).iter().sum()
        });
        assert_eq!(passed, 1);
    }
}

#[test]
fn memory_is_taken_as_keys_come_and_never_beyond_the_bound() {
    let table = Table::new(65_536);
    assert_eq!(table.bytes(), 0);
    table.meter(7);
    assert_eq!(table.bytes(), 65_536 * 16 / 64);
    for key in hashes(6).take(300_000) {
        table.meter(key);
    }
    assert_eq!(table.bytes(), 65_536 * 16);
}

#[test]
fn replicas_together_let_through_the_limit_whatever_does_not_divide_evenly() {
    for (requests, burst, replicas) in [
        (1, 1, 3),
        (2, 2, 3),
        (10, 10, 3),
        (100, 7, 4),
        (100, 100, 7),
        (5, 5, 1),
        (7, 1, 50),
    ] {
        let bucket = Bucket {
            capacity: burst,
            per_fill: requests,
            interval: Duration::from_secs(60),
            replicas: 1,
        };
        let terms = Terms::of(&bucket.over(replicas.try_into().unwrap()));
        let meters: Vec<_> = (0..replicas).map(|_| Meter::default()).collect();
        // Ten minutes, in which every replica is asked much more often than it lets through.
        let mut admitted = 0_u64;
        for now in (0..60_000).map(|step| step * SECOND / 100) {
            let taken = meters.iter().filter(|meter| meter.take(terms, now).is_ok());
            admitted += taken.count() as u64;
        }
        let limit = u64::from(requests) * 10;
        let most = limit + u64::from(burst.max(replicas));
        assert!(
            admitted <= most,
            "{requests}/{burst}/{replicas}: {admitted} of {most}"
        );
        // What is on its way in each replica at the end, and between two times that it is asked.
        let least = (limit * 99 / 100).saturating_sub(u64::from(replicas));
        assert!(
            admitted >= least,
            "{requests}/{burst}/{replicas}: {admitted} of {least}"
        );
    }
}
