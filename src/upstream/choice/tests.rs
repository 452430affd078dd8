//! Shares over many choices, with fixed seeds.

use std::net::SocketAddr;

use crate::base::clock;
use crate::upstream::fixture::detector;

use super::*;

fn endpoints(count: u16) -> Vec<Arc<EndpointState>> {
    let detector = detector();
    let endpoint = |port| {
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        Arc::new(EndpointState::new(addr, &detector, clock::now()))
    };
    (0..count).map(endpoint).collect()
}

fn choose(balance: Balance, endpoints: &[Arc<EndpointState>], weights: &[u32]) -> Choice {
    let weights: Vec<f64> = weights.iter().map(|&weight| f64::from(weight)).collect();
    Choice::new(balance, endpoints, &weights)
}

/// How often each endpoint comes up; `hold` decides what stays in flight after each choice.
fn counts(
    balance: Balance,
    weights: &[u32],
    picks: usize,
    mut hold: impl FnMut(&EndpointState),
) -> Vec<usize> {
    let endpoints = endpoints(weights.len() as u16);
    let choice = choose(balance, &endpoints, weights);
    let (cursor, mut rng) = (AtomicUsize::new(11), fastrand::Rng::with_seed(7));
    let mut counts = vec![0; weights.len()];
    for _ in 0..picks {
        let endpoint = choice
            .next(&endpoints, &cursor, || rng.u64(..))
            .expect("there are endpoints");
        counts[usize::from(endpoint.addr.port())] += 1;
        hold(endpoint);
    }
    counts
}

/// Pearson's statistic of counts against shares.
fn chi_square(counts: &[usize], weights: &[u32]) -> f64 {
    let picks = counts.iter().sum::<usize>() as f64;
    let total = f64::from(weights.iter().sum::<u32>());
    let terms = counts.iter().zip(weights).map(|(&count, &weight)| {
        let expected = picks * f64::from(weight) / total;
        (count as f64 - expected).powi(2) / expected
    });
    terms.sum()
}

#[test]
fn round_robin_is_exact_over_every_turn_wherever_it_starts() {
    assert_eq!(
        counts(Balance::RoundRobin, &[1, 1, 1], 300, |_| {}),
        [100, 100, 100]
    );
    assert_eq!(
        counts(Balance::RoundRobin, &[50, 30, 20], 1000, |_| {}),
        [500, 300, 200]
    );
}

#[test]
fn an_idle_cluster_is_shared_by_weight() {
    // 99.9 % of fair draws stay below these bounds (9 and 3 degrees of freedom).
    let even = [1; 10];
    assert!(
        chi_square(
            &counts(Balance::LeastRequest, &even, 100_000, |_| {}),
            &even
        ) < 27.9
    );
    assert!(chi_square(&counts(Balance::Random, &even, 100_000, |_| {}), &even) < 27.9);
    let uneven = [1, 2, 3, 4];
    assert!(
        chi_square(
            &counts(Balance::LeastRequest, &uneven, 100_000, |_| {}),
            &uneven
        ) < 16.3
    );
}

#[test]
fn random_does_not_look_at_weights() {
    let counts = counts(Balance::Random, &[1, 1000], 100_000, |_| {});
    assert!(chi_square(&counts, &[1, 1]) < 10.9);
}

#[test]
fn least_request_evens_out_what_is_in_flight() {
    let hold = |endpoint: &EndpointState| {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
    };
    let even = counts(Balance::LeastRequest, &[1; 10], 10_000, hold);
    assert!(
        even.iter().all(|count| count.abs_diff(1000) < 10),
        "{even:?}"
    );
    let uneven = counts(Balance::LeastRequest, &[1, 4], 10_000, hold);
    assert!(uneven[0].abs_diff(2000) < 20, "{uneven:?}");
}

#[test]
fn least_request_turns_away_from_a_stuck_endpoint() {
    let endpoints = endpoints(3);
    endpoints[1].active.store(100, Ordering::Relaxed);
    let choice = choose(Balance::LeastRequest, &endpoints, &[1, 1, 1]);
    let (cursor, mut rng) = (AtomicUsize::new(0), fastrand::Rng::with_seed(7));
    for _ in 0..1000 {
        let chosen = choice
            .next(&endpoints, &cursor, || rng.u64(..))
            .expect("there are endpoints");
        assert_ne!(chosen.addr, endpoints[1].addr);
    }
}

#[test]
fn nobody_is_chosen_of_nobody_and_the_only_one_of_one() {
    for balance in [Balance::LeastRequest, Balance::RoundRobin, Balance::Random] {
        let cursor = AtomicUsize::new(usize::MAX);
        assert!(choose(balance, &[], &[]).next(&[], &cursor, || 0).is_none());
        let one = endpoints(1);
        assert!(
            choose(balance, &one, &[9])
                .next(&one, &cursor, || u64::MAX)
                .is_some()
        );
    }
}
