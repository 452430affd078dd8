//! Headers in, headers out.

use super::*;
use crate::base::Share;
use crate::plan::tracing::Tracing;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, value.parse().unwrap());
    }
    headers
}

/// Trace, span and decision as they were read; `?` for what is not said.
fn seen(format: Propagation, lines: &[(&str, &str)]) -> String {
    let received = read(&headers(lines), &[format]);
    let ids = match received.parent {
        Some(parent) => format!("{}-{}", parent.trace_id, parent.span_id),
        None => "?".into(),
    };
    let sampled = match (received.debug, received.sampled) {
        (true, _) => "d",
        (_, Some(true)) => "1",
        (_, Some(false)) => "0",
        (_, None) => "?",
    };
    format!("{ids} {sampled}")
}

#[test]
fn a_traceparent_is_read_as_trace_context_says_and_nothing_else_is() {
    let seen = |value: &str| seen(Propagation::TraceContext, &[("traceparent", value)]);
    assert_eq!(
        seen(&format!("00-{TRACE}-{SPAN}-01")),
        format!("{TRACE}-{SPAN} 1")
    );
    assert_eq!(
        seen(&format!("00-{TRACE}-{SPAN}-00")),
        format!("{TRACE}-{SPAN} 0")
    );
    // Flags beside the first say nothing about sampling.
    assert_eq!(
        seen(&format!("00-{TRACE}-{SPAN}-fe")),
        format!("{TRACE}-{SPAN} 0")
    );
    // A later version is read as far as it is known.
    assert_eq!(
        seen(&format!("cc-{TRACE}-{SPAN}-01-more")),
        format!("{TRACE}-{SPAN} 1")
    );
    for wrong in [
        "",
        "00",
        &format!("ff-{TRACE}-{SPAN}-01"),
        &format!("00-{TRACE}-{SPAN}-01-more"),
        &format!("00-{TRACE}-{SPAN}-1"),
        &format!("00-{TRACE}-{SPAN}"),
        &format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        &format!("00-{}-{SPAN}-01", "0".repeat(32)),
        &format!("00-{TRACE}-{}-01", "0".repeat(16)),
        &format!("00-{}-{SPAN}-01", &TRACE[1..]),
        &format!("00-+{}-{SPAN}-01", &TRACE[1..]),
    ] {
        assert_eq!(seen(wrong), "? ?", "{wrong}");
    }
}

#[test]
fn two_traceparents_are_none() {
    let value = format!("00-{TRACE}-{SPAN}-01");
    let twice = [("traceparent", &*value), ("traceparent", &*value)];
    assert_eq!(seen(Propagation::TraceContext, &twice), "? ?");
}

#[test]
fn b3_is_read_in_either_encoding() {
    let short = &TRACE[16..];
    let long = format!("{:0>32}", short);
    for format in [Propagation::B3, Propagation::B3Multi] {
        let single = |value: &str| seen(format, &[("b3", value)]);
        assert_eq!(
            single(&format!("{TRACE}-{SPAN}-1")),
            format!("{TRACE}-{SPAN} 1")
        );
        assert_eq!(
            single(&format!("{TRACE}-{SPAN}-0-{SPAN}")),
            format!("{TRACE}-{SPAN} 0")
        );
        assert_eq!(
            single(&format!("{TRACE}-{SPAN}-d")),
            format!("{TRACE}-{SPAN} d")
        );
        assert_eq!(
            single(&format!("{short}-{SPAN}")),
            format!("{long}-{SPAN} ?")
        );
        assert_eq!(single("0"), "? 0");
        assert_eq!(single("d"), "? d");
        assert_eq!(single("x"), "? ?");
        assert_eq!(single(&format!("{TRACE}-{SPAN}-x")), "? ?");
        assert_eq!(single(&format!("{}-{SPAN}-1", &TRACE[1..])), "? ?");
        let multi = |sampled: &[(&str, &str)]| {
            let ids = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
            seen(format, &[&ids, sampled].concat())
        };
        assert_eq!(multi(&[]), format!("{TRACE}-{SPAN} ?"));
        assert_eq!(multi(&[("x-b3-sampled", "1")]), format!("{TRACE}-{SPAN} 1"));
        assert_eq!(
            multi(&[("x-b3-sampled", "false")]),
            format!("{TRACE}-{SPAN} 0")
        );
        assert_eq!(multi(&[("x-b3-flags", "1")]), format!("{TRACE}-{SPAN} d"));
        assert_eq!(seen(format, &[("x-b3-sampled", "0")]), "? 0");
        assert_eq!(seen(format, &[("x-b3-traceid", TRACE)]), "? ?");
    }
}

#[test]
fn the_first_configured_format_that_is_there_counts() {
    let both = [
        ("traceparent", format!("00-{TRACE}-{SPAN}-01")),
        ("b3", "0".to_owned()),
    ];
    let both: Vec<(&str, &str)> = both.iter().map(|(name, it)| (*name, &**it)).collect();
    let sampled = |formats: &[Propagation]| read(&headers(&both), formats).sampled;
    let (w3c, b3) = (Propagation::TraceContext, Propagation::B3);
    assert_eq!(sampled(&[w3c, b3]), Some(true));
    assert_eq!(sampled(&[b3, w3c]), Some(false));
    assert_eq!(read(&headers(&both[1..]), &[w3c, b3]).sampled, Some(false));
}

fn written(lines: &[(&str, &str)], propagation: &[Propagation]) -> HeaderMap {
    let tracing = Tracing {
        sampling: Share::NONE,
        propagation: propagation.into(),
        ..Tracing::default()
    };
    written_by(lines, &tracing)
}

fn written_by(lines: &[(&str, &str)], tracing: &Tracing) -> HeaderMap {
    let mut headers = headers(lines);
    let mut trace = Trace::begin(&headers, tracing);
    trace.attempt_begins(Default::default(), "127.0.0.1:80".parse().unwrap());
    trace.headers(tracing, |name, value| match value {
        Some(value) => {
            headers.insert(name, value);
        }
        None => {
            headers.remove(name);
        }
    });
    headers
}

#[test]
fn a_trace_goes_on_with_its_id_and_decision_under_a_new_span() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let formats = [
        Propagation::TraceContext,
        Propagation::B3,
        Propagation::B3Multi,
    ];
    let headers = written(&[("traceparent", &parent), ("tracestate", "a=b")], &formats);
    let text = |name: &str| headers[name].to_str().unwrap();
    let traceparent: Vec<&str> = text("traceparent").split('-').collect();
    assert_eq!((traceparent[1], traceparent[3]), (TRACE, "01"));
    let span = traceparent[2];
    assert_ne!(span, SPAN);
    assert_eq!(text("tracestate"), "a=b");
    assert_eq!(text("b3"), format!("{TRACE}-{span}-1"));
    assert_eq!((text("x-b3-traceid"), text("x-b3-spanid")), (TRACE, span));
    assert_eq!(text("x-b3-sampled"), "1");
    let own = text("x-b3-parentspanid");
    assert!(own != span && own != SPAN);
}

#[test]
fn where_spans_are_not_reported_an_origins_hang_on_the_clients() {
    let tracing = Tracing {
        reports: false,
        propagation: [
            Propagation::TraceContext,
            Propagation::B3,
            Propagation::B3Multi,
        ]
        .into(),
        ..Tracing::default()
    };
    let lines = [
        ("x-b3-traceid", TRACE),
        ("x-b3-spanid", SPAN),
        ("x-b3-parentspanid", "1111111111111111"),
        ("x-b3-sampled", "1"),
    ];
    let expected = [
        ("b3", &*format!("{TRACE}-{SPAN}-1")),
        ("traceparent", &*format!("00-{TRACE}-{SPAN}-01")),
    ];
    assert_eq!(
        written_by(&lines, &tracing),
        headers(&[&lines[..], &expected].concat())
    );
}

#[test]
fn a_broken_traceparent_begins_a_trace_without_the_old_ones_state() {
    let headers = written(
        &[("traceparent", "00-nonsense"), ("tracestate", "a=b")],
        &[Propagation::TraceContext],
    );
    let text = headers["traceparent"].to_str().unwrap();
    assert!(text.ends_with("-00") && text.len() == 55, "{text}");
    assert!(!headers.contains_key("tracestate"));
}

#[test]
fn a_trace_id_of_64_bits_goes_on_so_and_debug_stays_debug() {
    let value = format!("{}-{SPAN}-d", &TRACE[16..]);
    let headers = written(&[("b3", &value)], &[Propagation::B3, Propagation::B3Multi]);
    let b3 = headers["b3"].to_str().unwrap();
    assert!(b3.starts_with(&TRACE[16..]) && b3.ends_with("-d"), "{b3}");
    assert_eq!(headers["x-b3-flags"], "1");
    assert!(!headers.contains_key("x-b3-sampled"));
}

#[test]
fn a_client_that_asks_for_a_trace_gets_one_unless_its_decision_says_otherwise() {
    let tracing = Tracing {
        sampling: Share::NONE,
        ..Tracing::default()
    };
    let asks = ("x-client-trace-id", "1");
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    let sampled = |lines: &[(&str, &str)]| Trace::begin(&headers(lines), &tracing).is_sampled();
    assert!(sampled(&[asks]));
    assert!(!sampled(&[]));
    assert!(!sampled(&[asks, ("traceparent", &unsampled)]));
}
