use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;

use super::*;
use crate::policy::global::message::{HeaderValue as Header, RateLimit};
use crate::policy::global::spec::{Entry, Unit};
use crate::policy::rate_limit::spec::{Condition, PathTemplate, Test};

fn ask<'r>(client: &str, headers: &'r HeaderMap, target: &'r str) -> Asked<'r> {
    Asked {
        client: client.parse::<IpAddr>().ok(),
        headers,
        path: target.split('?').next().unwrap_or_default(),
        query: target.split_once('?').map(|(_, query)| query),
        target,
        method: "GET",
        authority: "a.com",
        scheme: "http",
        cluster: Some("outbound|80||a"),
        connection: 0,
    }
}

fn service(descriptors: Vec<Vec<(&str, Value)>>) -> Service {
    let entry = |(key, value): (&str, Value)| Entry {
        key: key.into(),
        value,
    };
    let descriptor = |entries: Vec<(&str, Value)>| Descriptor {
        entries: entries.into_iter().map(entry).collect(),
        limit: Some(Override {
            requests: 5,
            unit: Unit::Hour,
        }),
        hits: None,
    };
    Service {
        cluster: "c".into(),
        authority: "c:80".into(),
        domain: "d".into(),
        timeout: Duration::from_millis(20),
        deny: None,
        descriptors: descriptors.into_iter().map(descriptor).collect(),
        marks: true,
    }
}

fn of(source: Source, absent: Absent) -> Value {
    Value::Of { source, absent }
}

/// The entries of each descriptor about a request.
fn told(service: &Service, asked: &Asked<'_>) -> Vec<Vec<(String, String)>> {
    let Some(message) = service.question(asked) else {
        return Vec::new();
    };
    let request = RateLimitRequest::decode(message).unwrap();
    assert_eq!((&*request.domain, request.hits_addend), ("d", 0));
    let descriptors = request.descriptors.into_iter().map(|descriptor| {
        let limit = descriptor.limit.unwrap();
        assert_eq!((limit.requests_per_unit, limit.unit), (5, 3));
        let entries = descriptor.entries.into_iter();
        entries.map(|entry| (entry.key, entry.value)).collect()
    });
    descriptors.collect()
}

#[test]
fn a_value_is_told_in_the_words_that_a_service_is_configured_with() {
    let mut headers = HeaderMap::new();
    headers.append("x-key", "a".parse().unwrap());
    headers.append("x-key", HeaderValue::from_bytes(b"\xff").unwrap());
    headers.append("cookie", "id=7".parse().unwrap());
    let path = |text: &str| Source::Path(PathTemplate::parse(text).unwrap());
    for (source, client, expected) in [
        (Source::Client { v4: 32, v6: 64 }, "10.1.2.3", "10.1.2.3"),
        (Source::Client { v4: 24, v6: 64 }, "10.1.2.3", "10.1.2.0/24"),
        (
            Source::Client { v4: 32, v6: 64 },
            "2001:db8::1",
            "2001:db8::/64",
        ),
        (
            Source::Client { v4: 32, v6: 128 },
            "2001:db8::1",
            "2001:db8::1",
        ),
        (Source::Header("x-key".parse().unwrap()), "", "a,\u{fffd}"),
        (Source::Cookie("id".into()), "", "7"),
        (Source::Query("q".into()), "", "1"),
        (Source::Parameter("q".into()), "", "1"),
        (
            Source::Network { v4: 32, v6: 64 },
            "10.1.2.3",
            "10.1.2.3/32",
        ),
        (
            Source::Network { v4: 24, v6: 64 },
            "10.1.2.3",
            "10.1.2.0/24",
        ),
        (
            Source::Network { v4: 24, v6: 64 },
            "2001:db8::1",
            "2001:db8::/64",
        ),
        (path("/users/{id}/**"), "", "/users/7/**"),
        (path("/users/*/{what}"), "", "/users/*/cart"),
        (Source::Target, "", "/users/7/cart?q=1"),
        (Source::Method, "", "GET"),
        (Source::Authority, "", "a.com"),
        (Source::Scheme, "", "http"),
        (Source::Cluster, "", "outbound|80||a"),
    ] {
        let asked = ask(client, &headers, "/users/7/cart?q=1");
        let service = service(vec![vec![("k", of(source.clone(), Absent::Drops))]]);
        let expected = vec![vec![("k".to_owned(), expected.to_owned())]];
        assert_eq!(told(&service, &asked), expected, "{source}");
    }
}

#[test]
fn a_request_counts_as_it_says_where_that_is_a_number_that_envoy_takes() {
    let hits = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.append("x-hits", text.parse().unwrap());
        let source = Source::Header("x-hits".parse().unwrap());
        Hits::Of(source).of(&ask("", &headers, "/"))
    };
    // Each as Envoy 1.40 told the service.
    for (text, expected) in [
        ("7", Some(7)),
        ("0", Some(0)),
        ("3.5", Some(3)),
        ("1000000000", Some(1_000_000_000)),
        ("1000000001", None),
        ("99999999999", None),
        ("-1", None),
        ("abc", None),
        ("nan", None),
        ("", None),
    ] {
        assert_eq!(hits(text), expected, "{text}");
    }
    let none = HeaderMap::new();
    assert_eq!(Hits::Number(5).of(&ask("", &none, "/")), Some(5));
    let mut service = service(vec![vec![("k", Value::Fixed("v".into()))]]);
    let source = Source::Header("x-hits".parse().unwrap());
    service.descriptors[0].hits = Some(Hits::Of(source));
    assert_eq!(told(&service, &ask("", &none, "/")), [[]; 0]);
}

#[test]
fn what_a_request_lacks_drops_a_descriptor_an_entry_or_is_empty() {
    let mut headers = HeaderMap::new();
    headers.append("x-empty", "".parse().unwrap());
    let asked = ask("10.1.2.3", &headers, "/");
    let fixed = || ("fixed", Value::Fixed("f".into()));
    let about = |name: &str, absent| {
        let source = Source::Header(name.parse().unwrap());
        let service = service(vec![vec![fixed(), ("k", of(source, absent))]]);
        told(&service, &asked).pop()
    };
    let with = |value: Option<&str>| {
        let mut entries = vec![("fixed".to_owned(), "f".to_owned())];
        entries.extend(value.map(|value| ("k".to_owned(), value.to_owned())));
        Some(entries)
    };
    assert_eq!(about("x-missing", Absent::Drops), None);
    assert_eq!(about("x-missing", Absent::Skips), with(None));
    assert_eq!(about("x-missing", Absent::Empty), with(Some("")));
    assert_eq!(about("x-empty", Absent::Drops), with(None));
    assert_eq!(about("x-empty", Absent::Empty), with(Some("")));
    let other = Source::Path(PathTemplate::parse("/other").unwrap());
    let template = service(vec![vec![fixed(), ("k", of(other, Absent::Empty))]]);
    assert_eq!(told(&template, &asked), [[]; 0]);
    // A descriptor without entries is none.
    let source = Source::Header("x-missing".parse().unwrap());
    let bare = service(vec![vec![("k", of(source, Absent::Skips))]]);
    assert_eq!(bare.question(&asked), None);
}

#[test]
fn a_conditional_entry_is_made_where_its_conditions_hold_or_do_not() {
    let headers = HeaderMap::new();
    let asked = ask("10.1.2.3", &headers, "/cart");
    for (text, expected, is_told) in [
        ("/cart", true, true),
        ("/cart", false, false),
        ("/other", true, false),
        ("/other", false, true),
    ] {
        let condition = Condition {
            source: Source::Target,
            test: Test::Exact {
                text: text.into(),
                ignore_case: false,
            },
            inverted: false,
            missing_is_empty: false,
        };
        let value = Value::When {
            text: "v".into(),
            conditions: Box::new([condition]),
            expected,
        };
        let service = service(vec![vec![("k", value)]]);
        assert_eq!(told(&service, &asked).len(), usize::from(is_told));
    }
}

fn standing(code: i32, remaining: u32, limit: Option<(u32, i32, &str)>) -> DescriptorStatus {
    DescriptorStatus {
        code,
        current_limit: limit.map(|(requests_per_unit, unit, name)| RateLimit {
            requests_per_unit,
            unit,
            name: name.into(),
        }),
        limit_remaining: remaining,
        duration_until_reset: Some(message::Duration {
            seconds: i64::from(remaining) + 10,
            nanos: 5,
        }),
    }
}

fn shown(headers: &Headers) -> Vec<String> {
    let shown = headers.iter();
    shown
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect()
}

#[test]
fn clients_are_told_of_the_limit_that_is_nearest_in_envoys_words_and_in_the_drafts() {
    let response = RateLimitResponse {
        overall_code: OVER_LIMIT,
        statuses: vec![
            standing(message::OK, 0, None),
            standing(message::OK, 7, Some((10, 1, "per-ip"))),
            standing(OVER_LIMIT, 3, Some((1000, 3, ""))),
            standing(message::OK, 9, Some((20, 0, ""))),
        ],
        ..RateLimitResponse::default()
    };
    let answer = Answer::read(response.encode_to_vec().into()).unwrap();
    assert!(answer.is_over);
    assert_eq!(answer.wait(), Some(13));
    let both = Announce {
        ietf: Some("limit".into()),
        x_ratelimit: true,
    };
    assert_eq!(
        shown(&answer.announced(&both)),
        [
            "x-ratelimit-limit: 1000, 10;w=1;name=\"per-ip\", 1000;w=3600",
            "x-ratelimit-remaining: 3",
            "x-ratelimit-reset: 13",
            "ratelimit-policy: \"limit\";q=1000;w=3600",
            "ratelimit: \"limit\";r=3;t=13",
        ]
    );
    assert!(answer.announced(&Announce::default()).is_empty());
    let silent = Answer::read(Bytes::new()).unwrap();
    assert_eq!((silent.is_over, silent.wait()), (false, None));
    assert!(silent.announced(&both).is_empty());
}

#[test]
fn a_service_adds_headers_but_none_that_frame_a_message_or_are_none() {
    let header = |key: &str, value: &str, raw: &'static [u8]| Header {
        key: key.into(),
        value: value.into(),
        raw_value: Bytes::from_static(raw),
    };
    let headers = vec![
        header("X-One", "1", b""),
        header("x-raw", "text", b"raw"),
        header("content-length", "5", b""),
        header("Transfer-Encoding", "chunked", b""),
        header(":path", "/", b""),
        header("x-bad", "a\r\nb", b""),
    ];
    let response = RateLimitResponse {
        response_headers_to_add: headers.clone(),
        request_headers_to_add: headers,
        raw_body: Bytes::from_static(b"body"),
        ..RateLimitResponse::default()
    };
    let answer = Answer::read(response.encode_to_vec().into()).unwrap();
    assert_eq!(shown(&answer.response), ["x-one: 1", "x-raw: raw"]);
    assert_eq!(answer.request, answer.response);
    assert_eq!(&answer.body[..], b"body");
    assert!(Answer::read(Bytes::from_static(b"\x0a\xff")).is_err());
}
