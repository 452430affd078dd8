use std::net::IpAddr;

use http::HeaderMap;

use super::*;
use crate::base::Share;
use crate::policy::rate_limit::spec::{Bucket, Counted, Limit, Part, Source};
use crate::policy::rate_limit::state::Limiters;

fn ask<'r>(client: &str, headers: &'r HeaderMap) -> Asked<'r> {
    Asked {
        client: client.parse::<IpAddr>().ok(),
        ..Asked::bare(headers)
    }
}

fn limit(group: &str, capacity: u32, way: Vec<Part>) -> Limit {
    Limit {
        group: group.into(),
        bucket: Bucket {
            capacity,
            per_fill: 1,
            interval: Duration::from_secs(1),
            replicas: 1,
        },
        ways: Box::new([way.into()]),
        keys: 1024,
        otherwise: false,
    }
}

fn policy(enforced: Share) -> RateLimit {
    let clients = Part::Each {
        source: Source::Client { v4: 32, v6: 64 },
        shared: true,
    };
    let posts = Part::Is {
        source: Source::Method,
        value: b"POST".as_slice().into(),
    };
    RateLimit {
        enforced,
        counted: Counted::Store(Box::new(Store {
            url: "redis://a:b@c:6379/0".into(),
            shown: "redis://c:6379/0".into(),
            timeout: Duration::from_millis(5),
            on_error: OnError::Local,
        })),
        ..RateLimit::new(
            "RateLimit default/a",
            [
                limit("a clients", 3, vec![clients]),
                limit("a posts", 9, vec![posts]),
                limit("a all", 5, vec![]),
            ],
        )
    }
}

#[test]
fn gateways_ask_for_the_same_buckets_and_requests_with_another_key_for_others() {
    let headers = HeaderMap::new();
    let asked = |client: &str| policy(Share::ALL).shared(&ask(client, &headers)).unwrap();
    let one = asked("10.0.0.1");
    assert_eq!(one, asked("10.0.0.1"));
    let other = asked("10.0.0.2");
    assert_ne!(one.keys[0], other.keys[0]);
    assert_eq!(one.keys[1], other.keys[1]);
    // The second limit does not concern a GET.
    assert_eq!(one.limits, [0, 2]);
    const SECOND: u64 = 1_000_000_000;
    assert_eq!(one.terms, [SECOND, 3 * SECOND, SECOND, 5 * SECOND]);
    for key in one.keys {
        let digest = key.strip_prefix("pingress:{RateLimit default/a}:").unwrap();
        assert_eq!(digest.len(), 32);
    }
    assert!(!policy(Share::ALL).to_string().contains("a:b@"));
}

#[test]
fn an_answer_is_told_as_the_bucket_that_is_nearest_or_was_empty() {
    let headers = HeaderMap::new();
    for (enforced, is_refused) in [(Share::ALL, true), (Share::NONE, false)] {
        let spec = Arc::new(policy(enforced));
        let mut limiters = Limiters::default();
        let limiter = limiters.of([spec.clone()].iter())[0].clone();
        let question = spec.shared(&ask("10.0.0.1", &headers)).unwrap();
        let heed = |answer: &[i64]| limiter.heed(&question, answer, |_| 0);
        let second = 1_000_000_000;
        let allowed = heed(&[0, second, 4 * second]).unwrap();
        let Verdict::Allowed(reading) = allowed else {
            panic!("{allowed:?}");
        };
        assert_eq!((reading.limit, reading.remaining, reading.full), (2, 1, 4));
        let over = heed(&[2, second, 5 * second]).unwrap();
        let reading = match over {
            Verdict::Limited(reading) if is_refused => reading,
            Verdict::Observed(reading) if !is_refused => reading,
            _ => panic!("{over:?}"),
        };
        let told = (reading.limit, reading.remaining, reading.wait);
        assert_eq!(told, (2, 0, 1));
        for strange in [&[][..], &[0], &[0, 1], &[3, 0, 0], &[-1, 0, 0]] {
            assert_eq!(heed(strange), None, "{strange:?}");
        }
    }
}
