use regex::Regex;

use super::super::spec::OriginMatch;
use super::*;

fn policy() -> Cors {
    Cors {
        origins: vec![
            OriginMatch::Exact("https://a.com".into()),
            OriginMatch::Prefix("https://b.".into()),
            OriginMatch::Regex(Regex::new("^(?:https://[a-z]+\\.c\\.com)$").unwrap()),
        ],
        methods: Allowed::These(HeaderValue::from_static("GET,POST")),
        headers: Allowed::These(HeaderValue::from_static("x-a,x-b")),
        expose: Some(HeaderValue::from_static("x-c")),
        max_age: Some(HeaderValue::from_static("86400")),
        credentials: true,
        forward_unmatched: true,
    }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn is_allowed(policy: &Cors, origin: &'static str) -> bool {
    let meeting = policy.meet(&Method::GET, &headers(&[("origin", origin)]));
    matches!(meeting, Some(Meeting::Served(Asker::Allowed(named))) if named == origin)
}

/// The names and values of the answer to a preflight.
fn preflight(policy: &Cors, pairs: &[(&'static str, &'static str)]) -> Option<Vec<String>> {
    match policy.meet(&Method::OPTIONS, &headers(pairs)) {
        Some(Meeting::Answered(_, answer)) => Some(
            answer
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect(),
        ),
        _ => None,
    }
}

#[test]
fn an_origin_is_allowed_by_its_whole_text_by_its_beginning_or_by_a_whole_regex() {
    let policy = policy();
    for origin in ["https://a.com", "https://b.com:8443", "https://x.c.com"] {
        assert!(is_allowed(&policy, origin), "{origin}");
    }
    for origin in [
        "https://a.com.evil",
        "https://A.com",
        "http://a.com",
        "https://x.c.com.evil",
        "null",
        "",
    ] {
        assert!(!is_allowed(&policy, origin), "{origin}");
    }
}

#[test]
fn a_star_allows_every_origin_and_the_answer_names_the_asker() {
    let mut policy = policy();
    policy.origins = vec![OriginMatch::Exact("*".into())];
    assert!(is_allowed(&policy, "https://anybody"));
    policy.origins = vec![OriginMatch::Regex(Regex::new("^(?:.*)$").unwrap())];
    assert!(is_allowed(&policy, "null"));
    policy.origins.clear();
    assert!(!is_allowed(&policy, "https://a.com"));
}

#[test]
fn two_origin_headers_are_one_value_that_no_policy_allows_by_mistake() {
    let meeting = policy().meet(
        &Method::GET,
        &headers(&[("origin", "https://a.com"), ("origin", "https://evil")]),
    );
    assert_eq!(meeting, Some(Meeting::Served(Asker::Other)));
}

#[test]
fn a_preflight_is_an_options_request_with_an_origin_that_asks_for_a_method() {
    let policy = policy();
    let asks = ("access-control-request-method", "PUT");
    let origin = ("origin", "https://a.com");
    assert!(preflight(&policy, &[origin, asks]).is_some());
    assert!(preflight(&policy, &[origin]).is_none());
    assert!(preflight(&policy, &[asks]).is_none());
    assert!(preflight(&policy, &[origin, ("access-control-request-method", "")]).is_none());
    let meeting = policy.meet(&Method::GET, &headers(&[origin, asks]));
    assert!(matches!(meeting, Some(Meeting::Served(Asker::Allowed(_)))));
}

#[test]
fn the_answer_says_what_the_policy_says_whatever_was_asked_for() {
    let policy = policy();
    let asked = [
        ("origin", "https://a.com"),
        ("access-control-request-method", "DELETE"),
        ("access-control-request-headers", "x-z"),
    ];
    assert_eq!(
        preflight(&policy, &asked).unwrap(),
        [
            "access-control-allow-credentials: true",
            "access-control-allow-methods: GET,POST",
            "access-control-allow-headers: x-a,x-b",
            "access-control-max-age: 86400",
        ]
    );
    let silent = Cors {
        methods: Allowed::Unsaid,
        headers: Allowed::Unsaid,
        max_age: None,
        credentials: false,
        ..policy.clone()
    };
    assert_eq!(preflight(&silent, &asked).unwrap(), [""; 0]);
    let stars = Cors {
        methods: Allowed::Asked,
        headers: Allowed::Asked,
        ..silent
    };
    assert_eq!(
        preflight(&stars, &asked).unwrap(),
        [
            "access-control-allow-methods: DELETE",
            "access-control-allow-headers: x-z",
        ]
    );
}

#[test]
fn a_preflight_from_elsewhere_is_forwarded_or_answered_without_its_origin() {
    let asked = headers(&[
        ("origin", "https://evil"),
        ("access-control-request-method", "GET"),
    ]);
    let mut policy = policy();
    let meeting = policy.meet(&Method::OPTIONS, &asked);
    assert_eq!(meeting, Some(Meeting::Served(Asker::Other)));
    policy.forward_unmatched = false;
    let meeting = policy.meet(&Method::OPTIONS, &asked);
    assert!(matches!(meeting, Some(Meeting::Answered(Asker::Other, _))));
}

#[test]
fn a_response_to_an_allowed_origin_is_marked_and_any_other_is_left_alone() {
    let respond = || {
        let mut response = ResponseHeader::build(200, None).unwrap();
        response
            .append_header("access-control-allow-origin", "https://old")
            .unwrap();
        response
    };
    let policy = policy();
    let mut marked = respond();
    let allowed = Asker::Allowed(HeaderValue::from_static("https://a.com"));
    policy.mark(&allowed, &mut marked);
    let header = |name: &str| {
        marked
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    assert_eq!(header("access-control-allow-origin"), Some("https://a.com"));
    assert_eq!(header("access-control-allow-credentials"), Some("true"));
    assert_eq!(header("access-control-expose-headers"), Some("x-c"));
    assert_eq!(
        marked
            .headers
            .get_all("access-control-allow-origin")
            .iter()
            .count(),
        1
    );
    let mut other = respond();
    policy.mark(&Asker::Other, &mut other);
    assert_eq!(other.headers, respond().headers);
}
