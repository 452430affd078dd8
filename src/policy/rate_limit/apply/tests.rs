use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::super::spec::{Announce, Bucket, Limit, Manner, Part, Source};
use super::super::state::Limiters;
use super::*;
use crate::base::{Share, clock};

fn limit(requests: u32, parts: Vec<Part>) -> Limit {
    Limit {
        group: format!("{requests} {parts:?}").into(),
        bucket: Bucket {
            capacity: requests,
            per_fill: requests,
            interval: Duration::from_secs(60),
            replicas: 1,
        },
        ways: Box::new([parts.into()]),
        keys: 1024,
        otherwise: false,
    }
}

fn by_header(name: &'static str) -> Vec<Part> {
    vec![Part::Each {
        source: Source::Header(HeaderName::from_static(name)),
        shared: true,
    }]
}

fn policy(limits: Vec<Limit>) -> RateLimit {
    RateLimit::new("RateLimit default/a", limits)
}

fn ask_at(limiter: &Limiter, headers: &HeaderMap, now: Instant, random: u32) -> Verdict {
    limiter.ask(&Asked::bare(headers), now, |_| random)
}

fn ask(limiter: &Limiter, value: &'static str) -> Verdict {
    let value = HeaderValue::from_static(value);
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-a"), value)]);
    ask_at(limiter, &headers, clock::now(), 0)
}

/// A policy alone in force.
fn alone(spec: RateLimit) -> (Arc<Limiter>, Limiters) {
    let mut limiters = Limiters::default();
    let limiter = limiters.of([Arc::new(spec)].iter())[0].clone();
    (limiter, limiters)
}

fn counts(limiters: &Limiters) -> Vec<Vec<u64>> {
    limiters.totals().into_values().collect()
}

fn is_limited(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Limited(_))
}

#[test]
fn a_refused_request_takes_no_token_of_the_limits_before() {
    let limits = vec![limit(5, vec![]), limit(1, by_header("x-a"))];
    let (limiter, limiters) = alone(policy(limits));
    assert!(!is_limited(ask(&limiter, "greedy")));
    for _ in 0..20 {
        assert!(is_limited(ask(&limiter, "greedy")));
    }
    for value in ["a", "b", "c", "d"] {
        assert!(!is_limited(ask(&limiter, value)), "{value}");
    }
    assert!(is_limited(ask(&limiter, "e")));
    assert_eq!(counts(&limiters), [[5, 1, 0], [5, 20, 0]]);
}

#[test]
fn in_envoys_manner_tokens_before_a_refusal_are_lost_and_the_first_limit_is_told() {
    let mut spec = policy(vec![limit(5, by_header("x-a")), limit(2, vec![])]);
    spec.manner = Manner::Envoys;
    let (limiter, _) = alone(spec.clone());
    let told = |verdict: Verdict| match verdict {
        Verdict::Allowed(reading) => (200, reading.limit, reading.remaining),
        Verdict::Limited(reading) => (429, reading.limit, reading.remaining),
        Verdict::Observed(reading) => (0, reading.limit, reading.remaining),
        Verdict::Unconcerned => panic!(),
    };
    let ask_on = || told(ask(&limiter, "a"));
    assert_eq!(ask_on(), (200, 0, 4));
    assert_eq!(ask_on(), (200, 0, 3));
    // Over the second limit, at the first's expense until that is used up.
    assert_eq!([ask_on(), ask_on(), ask_on()], [(429, 1, 0); 3]);
    assert_eq!(ask_on(), (429, 0, 0));
    spec.enforced = Share::NONE;
    let (limiter, _) = alone(spec);
    let told: Vec<_> = (0..3).map(|_| told(ask(&limiter, "a"))).collect();
    assert_eq!(told, [(200, 0, 4), (200, 0, 3), (0, 1, 0)]);
}

#[test]
fn what_is_only_observed_is_counted_and_served() {
    let mut spec = policy(vec![limit(1, vec![])]);
    spec.enforced = Share::NONE;
    let (limiter, limiters) = alone(spec);
    assert!(matches!(ask(&limiter, "a"), Verdict::Allowed(_)));
    assert!(matches!(ask(&limiter, "a"), Verdict::Observed(_)));
    assert_eq!(counts(&limiters), [[1, 0, 1]]);
}

#[test]
fn gotcha_40_shares_say_for_which_requests_limits_are_asked_and_enforced() {
    let mut spec = policy(vec![limit(1, vec![])]);
    (spec.enabled, spec.enforced) = (Share::of_percent(50.0), Share::of_percent(10.0));
    let limiter = alone(spec).0;
    let ask = |random| ask_at(&limiter, &HeaderMap::new(), clock::now(), random);
    assert!(!limiter.is_asked(|_| 600_000));
    assert!(limiter.is_asked(|_| 400_000));
    assert!(matches!(ask(400_000), Verdict::Allowed(_)));
    assert!(matches!(ask(400_000), Verdict::Observed(_)));
    assert!(is_limited(ask(50_000)));
}

#[test]
fn a_limit_for_the_rest_is_asked_only_where_no_other_was() {
    let parts = vec![Part::Is {
        source: Source::Header(HeaderName::from_static("x-a")),
        value: Box::from(*b"own"),
    }];
    let mut rest = limit(1, vec![]);
    rest.otherwise = true;
    let limiter = alone(policy(vec![limit(3, parts), rest])).0;
    assert!((0..3).all(|_| !is_limited(ask(&limiter, "own"))));
    assert!(is_limited(ask(&limiter, "own")));
    assert!(!is_limited(ask(&limiter, "x")));
    assert!(is_limited(ask(&limiter, "y")));
}

#[test]
fn a_reading_says_what_is_left_and_how_long_it_takes() {
    let limiter = alone(policy(vec![limit(3, vec![])])).0;
    let start = clock::now() + Duration::from_secs(5);
    let at = |after| {
        ask_at(
            &limiter,
            &HeaderMap::new(),
            start + Duration::from_secs(after),
            0,
        )
    };
    let reading = |remaining, wait, full| Reading {
        limit: 0,
        remaining,
        wait,
        full,
    };
    assert_eq!(at(0), Verdict::Allowed(reading(2, 0, 20)));
    assert_eq!(at(0), Verdict::Allowed(reading(1, 0, 40)));
    assert_eq!(at(0), Verdict::Allowed(reading(0, 20, 60)));
    assert_eq!(at(5), Verdict::Limited(reading(0, 15, 55)));
    assert_eq!(at(20), Verdict::Allowed(reading(0, 20, 60)));
    assert_eq!(at(3600), Verdict::Allowed(reading(2, 0, 20)));
}

#[test]
fn an_unchanged_limit_keeps_its_buckets_and_a_changed_one_begins_full() {
    let first = policy(vec![limit(1, vec![]), limit(2, by_header("x-a"))]);
    let mut limiters = Limiters::default();
    let mut of = |spec: &RateLimit| limiters.of([Arc::new(spec.clone())].iter())[0].clone();
    let limiter = of(&first);
    assert!(!is_limited(ask(&limiter, "a")));
    assert!(is_limited(ask(&of(&first), "b")));
    // Another limit beside it, another answer: the used one is still used.
    let mut second = policy(vec![limit(9, by_header("x-b")), limit(1, vec![])]);
    second.refusal.status = 503;
    assert!(is_limited(ask(&of(&second), "a")));
    let third = policy(vec![limit(2, vec![])]);
    assert!(!is_limited(ask(&of(&third), "a")));
    // In another group it is another limit.
    let mut fourth = third.clone();
    fourth.limits[0].group = "other".into();
    let limiter = of(&fourth);
    assert!(!is_limited(ask(&limiter, "a")) && !is_limited(ask(&limiter, "a")));
}

#[test]
fn responses_say_how_the_nearest_limit_stands_in_both_forms() {
    let mut spec = policy(vec![limit(100, vec![]), limit(7, by_header("x-a"))]);
    spec.announce = Announce {
        ietf: Some("shop".into()),
        x_ratelimit: true,
    };
    let limiter = alone(spec).0;
    let Verdict::Allowed(reading) = ask(&limiter, "a") else {
        panic!("it is not allowed");
    };
    let mut response = ResponseHeader::build(200, None).unwrap();
    limiter.spec().announce(&reading, &mut response);
    let said = |name: &str| response.headers.get(name).unwrap().to_str().unwrap();
    assert_eq!(
        said("ratelimit-policy"),
        "\"shop\";q=100;w=60, \"shop-2\";q=7;w=60"
    );
    assert_eq!(said("ratelimit"), "\"shop-2\";r=6;t=9");
    assert_eq!(said("x-ratelimit-limit"), "7");
    assert_eq!(said("x-ratelimit-remaining"), "6");
    assert_eq!(said("x-ratelimit-reset"), "0");
}

#[test]
fn a_request_that_is_let_through_allocates_nothing() {
    let limits = vec![limit(1_000_000, by_header("x-a")), limit(1_000_000, vec![])];
    let (limiter, _) = alone(policy(limits));
    let values = ["a", "b", "c", "d"];
    // What a part of the table needs is taken when it is first used.
    assert!(values.iter().all(|value| !is_limited(ask(&limiter, value))));
    let headers = values.map(|value| {
        let value = HeaderValue::from_static(value);
        HeaderMap::from_iter([(HeaderName::from_static("x-a"), value)])
    });
    let now = clock::now();
    let counted = allocation_counter::measure(|| {
        for headers in headers.iter().cycle().take(1000) {
            assert!(matches!(
                ask_at(&limiter, headers, now, 0),
                Verdict::Allowed(_)
            ));
        }
    });
    assert_eq!(counted.count_total, 0);
}
