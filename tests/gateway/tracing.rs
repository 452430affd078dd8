//! Traces: what a collector and an origin are told.

mod collector;
mod secure;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::harness::*;
use collector::{Collector, attribute, hex};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A gateway that traces to a port, and its origin.
fn start(port: u16, settings: &str) -> (Start, Origin) {
    let origin = Origin::echo("one");
    let http = "    - name: all\n      retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}\n      route: [{destination: {host: one.internal}}]\n";
    let start = Start::one_service_by("one", "a.example.com", origin.port, http)
    .settings(&format!(
        "  drain: {{delay: 0s}}\n  tracing: {{endpoint: \"http://127.0.0.1:{port}\", {settings}}}\n"
    ));
    (start, origin)
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    spans
        .iter()
        .filter(|span| span.kind == i32::from(kind))
        .collect()
}

/// A header as the origin got it.
fn got(origin: &Origin, name: &str) -> Option<String> {
    let head = origin.last_head();
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

fn metric(gateway: &Gateway, name: &str) -> u64 {
    let metrics = gateway.metrics();
    let line = metrics.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.to_owned())
    });
    line.map_or(0, |value| value.parse().unwrap())
}

#[test]
fn a_clients_trace_goes_on_to_the_origin_and_its_spans_to_the_collector() {
    for protocol in ["grpc", "http/protobuf"] {
        let collector = match protocol {
            "grpc" => Collector::grpc(),
            _ => Collector::http(),
        };
        let settings = format!("protocol: {protocol}, sampling: 0");
        let (start, origin) = start(collector.port, &settings);
        let gateway = start.ready();
        gateway.client().get(
            "a.example.com",
            "/a/b?c=d&token=t",
            &[
                &format!("traceparent: 00-{TRACE}-{SPAN}-01"),
                "tracestate: vendor=x",
                "User-Agent: test/1",
            ],
        );
        let spans = collector.await_spans(2);
        let [server] = of_kind(&spans, SpanKind::Server)[..] else {
            panic!("{spans:#?}")
        };
        let [client] = of_kind(&spans, SpanKind::Client)[..] else {
            panic!("{spans:#?}")
        };
        assert_eq!(hex(&server.trace_id), TRACE);
        assert_eq!(hex(&client.trace_id), TRACE);
        assert_eq!(hex(&server.parent_span_id), SPAN);
        assert_eq!(client.parent_span_id, server.span_id);
        let expected = format!("00-{TRACE}-{}-01", hex(&client.span_id));
        assert_eq!(got(&origin, "traceparent"), Some(expected));
        assert_eq!(got(&origin, "tracestate").as_deref(), Some("vendor=x"));
        let id = got(&origin, "x-request-id").unwrap();
        assert_eq!(id.as_bytes()[14], b'9', "{id}");

        assert_eq!(server.name, "GET all");
        let port = gateway.addr().port().to_string();
        let cluster = "outbound|80||one.internal";
        let address = format!("127.0.0.1:{}", origin.port);
        for (name, value) in [
            ("http.request.method", "GET"),
            ("url.path", "/a/b"),
            ("url.query", "c=d&token=REDACTED"),
            ("url.scheme", "http"),
            ("server.address", "a.example.com"),
            ("server.port", "80"),
            ("http.response.status_code", "200"),
            ("network.protocol.version", "1.1"),
            ("client.address", "127.0.0.1"),
            ("network.peer.address", "127.0.0.1"),
            ("user_agent.original", "test/1"),
            ("upstream_cluster", cluster),
            ("upstream_address", &address),
            ("route_name", "all"),
            ("response_flags", "-"),
            ("guid:x-request-id", &id),
            ("error.type", ""),
            ("istio.canonical_service", "istio-ingressgateway"),
            ("istio.namespace", "istio-system"),
        ] {
            assert_eq!(attribute(server, name), value, "{name}, bound to {port}");
        }
        for (name, value) in [
            ("http.request.method", "GET"),
            ("server.address", "one.internal"),
            ("network.peer.address", "127.0.0.1"),
            ("network.peer.port", &origin.port.to_string()),
            ("http.response.status_code", "200"),
            ("upstream_cluster", cluster),
            ("error.type", ""),
        ] {
            assert_eq!(attribute(client, name), value, "{name}");
        }
        let within = server.start_time_unix_nano <= client.start_time_unix_nano
            && client.start_time_unix_nano < client.end_time_unix_nano
            && client.end_time_unix_nano <= server.end_time_unix_nano;
        assert!(within, "{spans:#?}");
        let service = collector.resource("service.name");
        assert_eq!(service, "istio-ingressgateway.istio-system");
        // The collector has them a moment before the gateway has its answer.
        await_until("both spans are counted", || {
            (metric(&gateway, "pingress_trace_spans_exported_total") == 2).then_some(())
        });
    }
}

#[test]
fn of_requests_without_a_decision_as_many_are_traced_as_the_settings_say() {
    // Five standard deviations: one run in a million and a half misses them.
    for (percent, requests, least, most) in
        [(0, 100, 0, 0), (100, 100, 100, 100), (25, 400, 57, 143)]
    {
        let collector = Collector::grpc();
        let (start, _origin) = start(collector.port, &format!("sampling: {percent}"));
        let gateway = start.ready();
        let mut client = gateway.client();
        let mut sampled = 0;
        for _ in 0..requests {
            let body = client.get("a.example.com", "/", &[]).body;
            let parent = body
                .lines()
                .find(|line| line.starts_with("traceparent: 00-"));
            let parent = parent.unwrap_or_else(|| panic!("the decision goes on: {body}"));
            sampled += usize::from(parent.trim_end().ends_with("-01"));
        }
        assert!(
            (least..=most).contains(&sampled),
            "{sampled} of {requests} at {percent} %"
        );
        // One more, so that an empty trace is told from one that is still on its way.
        client.get(
            "a.example.com",
            "/",
            &[&format!("traceparent: 00-{TRACE}-{SPAN}-01")],
        );
        let spans = collector.await_spans(2 * (sampled + 1));
        let server = of_kind(&spans, SpanKind::Server);
        assert_eq!(server.len(), sampled + 1);
        let parents = server.iter().filter(|span| !span.parent_span_id.is_empty());
        assert_eq!(parents.count(), 1, "the others have no parent");
        let mut traces: Vec<_> = server.iter().map(|span| &span.trace_id).collect();
        traces.sort();
        traces.dedup();
        assert_eq!(traces.len(), sampled + 1, "every trace has its own id");
    }
}

#[test]
fn a_clients_decision_not_to_trace_holds_and_goes_on() {
    let collector = Collector::grpc();
    let (start, origin) = start(collector.port, "sampling: 100");
    let gateway = start.ready();
    let mut client = gateway.client();
    client.get(
        "a.example.com",
        "/",
        &[&format!("traceparent: 00-{TRACE}-{SPAN}-00")],
    );
    let parent = got(&origin, "traceparent").unwrap();
    assert!(
        parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-00"),
        "{parent}"
    );
    assert!(!parent.contains(SPAN), "{parent}");
    client.get("a.example.com", "/traced", &[]);
    let spans = collector.await_spans(2);
    assert!(spans.iter().all(|span| hex(&span.trace_id) != TRACE));
}

#[test]
fn b3_comes_in_as_one_header_or_many_and_goes_out_as_the_settings_say() {
    let collector = Collector::grpc();
    let (start, origin) = start(collector.port, "sampling: 0, propagation: [b3, b3multi]");
    let gateway = start.ready();
    let mut client = gateway.client();
    let multi = [
        format!("X-B3-TraceId: {TRACE}"),
        format!("X-B3-SpanId: {SPAN}"),
        "X-B3-Sampled: 1".to_owned(),
    ];
    let multi: Vec<&str> = multi.iter().map(String::as_str).collect();
    for headers in [&[&*format!("b3: {TRACE}-{SPAN}-1")][..], &multi] {
        let before = collector.spans().len();
        client.get("a.example.com", "/", headers);
        let spans = collector.await_spans(before + 2);
        let spans = &spans[before..];
        let (server, client) = (
            of_kind(spans, SpanKind::Server)[0],
            of_kind(spans, SpanKind::Client)[0],
        );
        assert_eq!(
            (hex(&server.trace_id), hex(&server.parent_span_id)),
            (TRACE.into(), SPAN.into())
        );
        let span = hex(&client.span_id);
        assert_eq!(got(&origin, "b3"), Some(format!("{TRACE}-{span}-1")));
        assert_eq!(got(&origin, "x-b3-traceid").as_deref(), Some(TRACE));
        assert_eq!(got(&origin, "x-b3-spanid"), Some(span));
        assert_eq!(
            got(&origin, "x-b3-parentspanid"),
            Some(hex(&server.span_id))
        );
        assert_eq!(got(&origin, "x-b3-sampled").as_deref(), Some("1"));
        assert_eq!(got(&origin, "traceparent"), None);
    }
    client.get("a.example.com", "/", &["b3: 0"]);
    assert!(got(&origin, "b3").unwrap().ends_with("-0"));
}

#[test]
fn every_attempt_has_its_span_and_the_failure_is_told() {
    let collector = Collector::grpc();
    let (start, origin) = start(collector.port, "sampling: 100");
    let gateway = start.ready();
    origin.answer(503);
    let response = gateway.get("a.example.com", "/");
    assert_eq!(response.status, 503);
    let spans = collector.await_spans(4);
    let attempts = of_kind(&spans, SpanKind::Client);
    let told: Vec<_> = attempts
        .iter()
        .map(|span| {
            let of = |name| attribute(span, name);
            (
                of("http.response.status_code"),
                of("error.type"),
                of("http.request.resend_count"),
            )
        })
        .collect();
    let one = |count: &str| ("503".to_owned(), "503".to_owned(), count.to_owned());
    assert_eq!(told, [one(""), one("1"), one("2")]);
    let server = of_kind(&spans, SpanKind::Server)[0];
    assert_eq!(attribute(server, "error.type"), "503");
    assert_eq!(server.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(origin.count(), 3);
}

#[test]
fn an_origin_that_is_gone_and_a_host_that_is_unknown_have_spans_that_say_so() {
    let collector = Collector::grpc();
    let (mut start, _origin) = start(collector.port, "sampling: 100");
    start.files[1].1 = service_yaml("one.internal", &[(free_port(), "v1")]);
    let gateway = start.ready();
    gateway.get("a.example.com", "/");
    let spans = collector.await_spans(4);
    for attempt in of_kind(&spans, SpanKind::Client) {
        assert_eq!(attribute(attempt, "error.type"), "upstream_connect_failure");
        assert_eq!(attribute(attempt, "http.response.status_code"), "");
    }
    let server = of_kind(&spans, SpanKind::Server)[0];
    assert_eq!(attribute(server, "error.type"), "upstream_connect_failure");
    assert!(attribute(server, "response_flags").contains("UF"));
    gateway.get("unknown.example.com", "/");
    let spans = collector.await_spans(5);
    let unknown = spans.last().unwrap();
    assert_eq!(unknown.name, "GET");
    assert_eq!(attribute(unknown, "http.response.status_code"), "404");
    assert_eq!(
        (
            attribute(unknown, "error.type"),
            attribute(unknown, "response_flags")
        ),
        (String::new(), "NR".into())
    );
}

#[test]
fn a_collector_that_stalls_or_is_gone_costs_its_spans_and_no_request() {
    const REQUESTS: u64 = 400;
    for protocol in ["grpc", "http/protobuf"] {
        let stalling = Collector::stalling();
        for port in [stalling.port, free_port()] {
            let settings = format!("protocol: {protocol}, sampling: 100, queue: 64, timeout: 1s");
            let (start, _origin) = start(port, &settings);
            let mut gateway = start.ready();
            let mut client = gateway.client();
            for _ in 0..REQUESTS {
                assert_eq!(client.get("a.example.com", "/", &[]).status, 200);
            }
            await_until("every span is counted as dropped", || {
                let of = |reason: &str| {
                    let name = format!("pingress_trace_spans_dropped_total{{reason=\"{reason}\"}}");
                    metric(&gateway, &name)
                };
                let (full, failed) = (of("queue_full"), of("export_failed"));
                (full + failed == 2 * REQUESTS).then_some(())
            });
            assert_eq!(metric(&gateway, "pingress_trace_spans_exported_total"), 0);
            gateway.await_stderr("the collector does not take spans");
            client.get("a.example.com", "/", &[]);
            drop(client);
            gateway.signal("TERM");
            assert!(gateway.await_exit().success());
        }
    }
}

#[test]
fn the_last_spans_are_sent_before_the_process_ends() {
    let collector = Collector::grpc();
    let (start, _origin) = start(collector.port, "sampling: 100");
    let mut gateway = start.ready();
    for _ in 0..10 {
        gateway.get("a.example.com", "/");
    }
    gateway.signal("TERM");
    assert!(gateway.await_exit().success());
    assert_eq!(collector.spans().len(), 20);
}

#[test]
fn without_a_collector_trace_headers_pass_through_untouched() {
    let origin = Origin::echo("one");
    let gateway = Start::one_service("one", "a.example.com", origin.port).ready();
    gateway
        .client()
        .get("a.example.com", "/", &["traceparent: what", "b3: ever"]);
    assert_eq!(got(&origin, "traceparent").as_deref(), Some("what"));
    assert_eq!(got(&origin, "b3").as_deref(), Some("ever"));
    gateway.get("a.example.com", "/");
    assert_eq!(got(&origin, "traceparent"), None);
    assert!(!gateway.metrics().contains("pingress_trace_"));
}

#[test]
fn a_telemetry_resource_decides_what_is_traced_and_tagged_until_it_changes() {
    let collector = Collector::grpc();
    let settings = "sampling: 0, customTags: {where: {literal: {value: settings}}, tenant: {header: {name: x-tenant}}}";
    let (start, origin) = start(collector.port, settings);
    let gateway = start.ready();
    let tagged = |span: &Span| ["tenant", "where", "home"].map(|name| attribute(span, name));
    gateway.client().get(
        "a.example.com",
        "/",
        &[
            &format!("traceparent: 00-{TRACE}-{SPAN}-01"),
            "X-Tenant: t0",
        ],
    );
    let spans = collector.await_spans(2);
    let by_settings = ["t0", "settings", ""].map(str::to_owned);
    assert_eq!(tagged(of_kind(&spans, SpanKind::Server)[0]), by_settings);
    let telemetry = |sampling: u8, rest: &str| {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: mesh, namespace: istio-system}}\nspec:\n  tracing:\n    - randomSamplingPercentage: {sampling}\n{rest}"
        )
    };
    let tags = "      customTags:\n        tenant: {header: {name: x-tenant, defaultValue: nobody}}\n        where: {literal: {value: edge}}\n        home: {environment: {name: HOME}}\n";
    gateway.write("telemetry.yaml", &telemetry(100, tags));
    await_until("the resource is in force", || {
        gateway.get("a.example.com", "/");
        got(&origin, "traceparent")?.ends_with("-01").then_some(())
    });
    let before = collector.await_spans(4).len();
    gateway
        .client()
        .get("a.example.com", "/", &["X-Tenant: t1"]);
    let spans = collector.await_spans(before + 2);
    let servers = of_kind(&spans, SpanKind::Server);
    let home = std::env::var("HOME").unwrap_or_default();
    for (span, tenant) in servers[1..].iter().zip(["nobody", "t1"]) {
        assert_eq!(
            tagged(span),
            [tenant, "edge", &home],
            "the resource's replace those"
        );
    }
    let swaps = || metric(&gateway, "pingress_plan_swaps_total");
    let so_far = swaps();
    gateway.write(
        "telemetry.yaml",
        &telemetry(100, "      disableSpanReporting: true\n"),
    );
    await_until("reporting is off", || (swaps() > so_far).then_some(()));
    gateway.get("a.example.com", "/unreported");
    let begun = got(&origin, "traceparent").unwrap();
    assert!(begun.ends_with("-01"), "sampled as before: {begun}");
    let parent = format!("traceparent: 00-{TRACE}-{SPAN}-01");
    gateway
        .client()
        .get("a.example.com", "/unreported", &[&parent]);
    let sent = format!("traceparent: {}", got(&origin, "traceparent").unwrap());
    assert_eq!(sent, parent, "the trace has no hole where the gateway is");
    gateway.write("telemetry.yaml", &telemetry(100, ""));
    let paths = await_until("reporting is on again", || {
        gateway.get("a.example.com", "/last");
        let spans = collector.spans();
        let paths: Vec<_> = spans
            .iter()
            .map(|span| attribute(span, "url.path"))
            .collect();
        paths.iter().any(|path| path == "/last").then_some(paths)
    });
    assert!(!paths.iter().any(|path| path == "/unreported"));
}

#[test]
fn the_access_log_can_tell_the_trace() {
    let collector = Collector::grpc();
    let (mut start, _origin) = start(collector.port, "sampling: 0");
    start.settings +=
        "  mesh: {accessLogFile: /dev/stderr, accessLogFormat: \"trace %TRACE_ID%\"}\n";
    let gateway = start.ready();
    gateway.client().get(
        "a.example.com",
        "/",
        &[&format!("traceparent: 00-{TRACE}-{SPAN}-00")],
    );
    gateway.await_stderr(&format!("trace {TRACE}"));
}
