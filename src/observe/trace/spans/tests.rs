//! What spans say of requests that end-to-end tests do not make.

use super::*;
use crate::base::{Cause, CauseKind};
use crate::plan::tracing::Tracing;
use http::HeaderMap;

fn made(record: Record<'_>) -> SpanData {
    made_with(record, Box::default())
}

fn made_with(record: Record<'_>, tags: Box<[CustomTag]>) -> SpanData {
    let terms = Tracing {
        sampling: crate::base::Share::ALL,
        istio_tags: false,
        tags,
        ..Tracing::default()
    };
    let trace = Trace::begin(&HeaderMap::new(), &terms);
    let traced = TraceRecord {
        trace: &trace,
        terms: &terms,
    };
    let (workload, redaction) = (Workload::default(), Redaction::default());
    spans(&record, traced, &workload, &redaction)
        .last()
        .unwrap()
}

fn attribute(span: &SpanData, name: &str) -> String {
    let mut found = span.attributes.iter().filter(|it| it.key.as_str() == name);
    found
        .next()
        .map_or(String::new(), |it| it.value.to_string())
}

#[test]
fn a_method_that_nobody_knows_makes_no_name() {
    let span = made(Record {
        method: Some("BREW"),
        ..Record::default()
    });
    assert_eq!(span.name, "HTTP");
    assert_eq!(attribute(&span, "http.request.method"), "_OTHER");
    assert_eq!(attribute(&span, "http.request.method_original"), "BREW");
}

#[test]
fn the_server_is_who_the_client_asked_with_the_schemes_port_unless_written() {
    for (authority, https, host, port) in [
        ("a.com", false, "a.com", "80"),
        ("a.com", true, "a.com", "443"),
        ("a.com:8443", true, "a.com", "8443"),
        ("[::1]", false, "[::1]", "80"),
        ("[::1]:81", false, "[::1]", "81"),
    ] {
        let span = made(Record {
            authority: Some(authority),
            https,
            ..Record::default()
        });
        let of = |name| attribute(&span, name);
        assert_eq!((&*of("server.address"), &*of("server.port")), (host, port));
    }
}

#[test]
fn a_refusal_is_no_error_of_the_server_and_no_answer_at_all_is() {
    let cause = Cause::new(CauseKind::ClientDisconnect, "the client left");
    let of = |status| {
        made(Record {
            status,
            cause: Some(&cause),
            ..Record::default()
        })
    };
    let refused = of(403);
    assert_eq!(
        (attribute(&refused, "error.type"), refused.status),
        (String::new(), Status::Unset)
    );
    let gone = of(0);
    assert_eq!(
        attribute(&gone, "error.type"),
        CauseKind::ClientDisconnect.code()
    );
    assert_eq!(gone.status, Status::error("the client left"));
    assert_eq!(attribute(&gone, "http.response.status_code"), "");
}

#[test]
fn a_tag_of_the_users_own_takes_the_place_of_an_attribute_of_its_name() {
    let tag = CustomTag {
        name: "url.path".into(),
        value: TagValue::Literal("mine".into()),
    };
    let span = made_with(Record::default(), [tag].into());
    let named = |it: &&KeyValue| it.key.as_str() == "url.path";
    let all: Vec<_> = span.attributes.iter().filter(named).collect();
    assert_eq!(all, [&KeyValue::new("url.path", "mine")]);
}
