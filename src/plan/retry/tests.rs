//! Envoy's answers, condition by condition.

use super::*;

const FAILURES: [Failure; 5] = [
    Failure::Connect,
    Failure::Refused,
    Failure::BeforeRequest,
    Failure::Reset,
    Failure::PerTryTimeout,
];

fn on(condition: Condition) -> RetryPolicy {
    RetryPolicy {
        conditions: Conditions::of(&[condition]),
        ..RetryPolicy::default()
    }
}

fn head(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

#[test]
fn each_condition_covers_the_failures_that_envoy_says() {
    for condition in Condition::ALL {
        let covered = FAILURES.map(|failure| on(condition).covers(failure));
        let expected = match condition {
            ServerError | GatewayError | Reset => [true; 5],
            ConnectFailure => [true, false, false, false, false],
            RefusedStream => [false, true, false, false, false],
            ResetBeforeRequest => [false, false, true, false, false],
            _ => [false; 5],
        };
        assert_eq!(covered, expected, "{}", condition.as_str());
    }
}

#[test]
fn each_condition_covers_the_statuses_that_envoy_says() {
    let none = HeaderMap::new();
    for condition in Condition::ALL {
        let mut policy = on(condition);
        policy.statuses = [418, 503].into();
        let covered: Vec<u16> = (100..600)
            .filter(|status| policy.covers_response(*status, &none))
            .collect();
        let expected: Vec<u16> = match condition {
            ServerError => (500..600).collect(),
            GatewayError => vec![502, 503, 504],
            Retriable4xx => vec![409],
            StatusCodes => vec![418, 503],
            _ => vec![],
        };
        assert_eq!(covered, expected, "{}", condition.as_str());
    }
}

#[test]
fn each_grpc_condition_covers_its_status_in_the_head() {
    let statuses = [
        (GrpcCancelled, 1),
        (GrpcDeadlineExceeded, 4),
        (GrpcResourceExhausted, 8),
        (GrpcInternal, 13),
        (GrpcUnavailable, 14),
    ];
    for condition in Condition::ALL {
        for code in 0..17_u16 {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", code.into());
            let covered = on(condition).covers_response(200, &headers);
            assert_eq!(
                covered,
                statuses.contains(&(condition, code)),
                "{} {code}",
                condition.as_str()
            );
        }
    }
    let odd = head(&[("grpc-status", "fourteen")]);
    assert!(!on(GrpcUnavailable).covers_response(200, &odd));
}

#[test]
fn a_rate_limited_answer_is_repeated_only_where_that_is_asked_for() {
    let limited = head(&[("x-envoy-ratelimited", "true")]);
    for condition in Condition::ALL {
        let mut policy = on(condition);
        policy.statuses = [503].into();
        let covered = policy.covers_response(503, &limited);
        assert_eq!(covered, condition == RateLimited, "{}", condition.as_str());
    }
}

#[test]
fn gotcha_23_the_default_repeats_no_503_and_nothing_that_an_origin_worked_on_but_for_grpc() {
    let policy = RetryPolicy::default();
    assert!(!policy.covers_response(503, &HeaderMap::new()));
    assert!(policy.covers_response(200, &head(&[("grpc-status", "14")])));
    let covered = FAILURES.map(|failure| policy.covers(failure));
    assert_eq!(covered, [true, true, false, false, false]);
}

#[test]
fn waits_are_jittered_grow_and_stay_below_ten_times_the_backoff() {
    let policy = RetryPolicy::default();
    let longest = |number| {
        (0..2_000_000)
            .step_by(997)
            .map(|random| policy.wait(number, random))
            .max()
            .unwrap()
            .as_millis()
    };
    assert_eq!(
        [1, 2, 3, 4, 5, 64, u32::MAX].map(longest),
        [24, 74, 174, 249, 249, 249, 249]
    );
    assert_eq!(policy.wait(3, 0), Duration::ZERO);
}

#[test]
fn every_word_is_read_back() {
    for condition in Condition::ALL {
        assert_eq!(Condition::parse(condition.as_str()), Some(condition));
    }
    assert_eq!(Condition::parse("5XX"), None);
}
