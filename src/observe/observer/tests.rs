use super::*;
use crate::base::CauseKind;
use crate::base::finding::Code;
use crate::observe::{LogEncoding, LogFormat};
use crate::plan::Digest;

fn metrics(observe: &Arc<Observe>) -> String {
    observe
        .metrics()
        .map(|piece| String::from_utf8(piece.to_vec()).unwrap())
        .collect()
}

fn refusal(request_line: &[u8]) -> EarlyRefusal<'_> {
    EarlyRefusal {
        start: Duration::from_secs(1),
        kind: CauseKind::EarlyRefusal,
        status: 400,
        request_line,
        bytes_received: 40,
        bytes_sent: 60,
        duration: Duration::from_millis(2),
        listener: "127.0.0.1:8080".parse().unwrap(),
        peer: "127.0.0.1:4000".parse().ok(),
    }
}

#[test]
fn a_head_refused_early_is_logged_and_counted_but_is_no_request() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let log = AccessLogOptions::new(
        file.path().to_str().unwrap(),
        LogFormat::new(LogEncoding::Text, "").unwrap(),
    );
    let observe = Observe::new(ObserveOptions {
        access_log: Some(log),
        ..ObserveOptions::default()
    })
    .unwrap();
    observe.early_refusal(&refusal(b"GET /a\xff\x1b HTTP/1.1"));
    observe.early_refusal(&refusal(b""));
    assert!(observe.flush(Duration::from_secs(10)));
    let rest = "400 DPE http1.codec_error - \"-\" 40 60 2 - \"-\" \"-\" \"-\" \"-\" \"-\" - - 127.0.0.1:8080 \
                127.0.0.1:4000 - -\n";
    assert_eq!(
        std::fs::read_to_string(file.path()).unwrap(),
        format!(
            "[1970-01-01T00:00:01.000Z] \"GET /a\u{fffd}\\x1b HTTP/1.1\" {rest}\
             [1970-01-01T00:00:01.000Z] \"- - -\" {rest}"
        )
    );
    let text = metrics(&observe);
    assert!(
        text.contains("pingress_early_refusals_total{cause=\"early_refusal\"} 2"),
        "{text}"
    );
    assert!(!text.contains("istio_requests_total{"), "{text}");
}

#[test]
fn the_metrics_tell_of_plans_findings_connections_and_local_answers() {
    let observe = Observe::new(ObserveOptions::default()).unwrap();
    let plan = Plan {
        digest: Digest(1),
        ..Plan::default()
    };
    observe.swapped(&plan, Duration::from_secs(5));
    observe.swapped(
        &Plan {
            digest: Digest(2),
            ..Plan::default()
        },
        Duration::from_millis(7_500),
    );
    observe.reload_failed();
    observe.findings(&[
        Finding::new(Code::UNKNOWN_FIELD, "x"),
        Finding::new(Code::NO_GATEWAY, "y"),
    ]);
    observe.listeners_open(&["127.0.0.1:1".parse().unwrap()]);
    observe.connection_opened();
    observe.connection_opened();
    observe.connection_closed();
    observe.panicked();
    let cause = Cause::new(CauseKind::RouteNotFound, "no rule matches");
    observe.finished(&Record {
        status: 404,
        flags: "NR",
        cause: Some(&cause),
        ..Record::default()
    });
    let text = metrics(&observe);
    for line in [
        "pingress_plan_swaps_total 2",
        "pingress_plan_last_swap_timestamp_seconds 7.5",
        "pingress_plan_info{digest=\"00000000000000000000000000000002\"} 1",
        "pingress_reload_errors_total 1",
        "pingress_findings{severity=\"error\"} 1",
        "pingress_findings{severity=\"warning\"} 1",
        "pingress_findings{severity=\"info\"} 0",
        "pingress_listeners_open 1",
        "pingress_connections_total 2",
        "pingress_connections_open 1",
        "pingress_panics_total 1",
        "pingress_local_replies_total{cause=\"route_not_found\"} 1",
        "pingress_access_log_lines_dropped_total 0",
        "pingress_request_series 1",
        concat!(
            "pingress_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\"} 1"
        ),
    ] {
        assert!(
            text.lines().any(|got| got == line),
            "{line} is not in\n{text}"
        );
    }
    assert_eq!(
        text.matches("pingress_plan_info{").count(),
        1,
        "the old digest's series is gone"
    );
}

#[test]
fn every_line_of_the_metrics_parses_and_no_series_appears_twice() {
    let observe = Observe::new(ObserveOptions::default()).unwrap();
    observe.finished(&Record {
        status: 404,
        flags: "NR",
        ..Record::default()
    });
    let text = metrics(&observe);
    let sample = regex::Regex::new(
        r#"^[a-z_]+(\{[a-z_]+="([^"\\]|\\["\\n])*"(,[a-z_]+="([^"\\]|\\["\\n])*")*\})? [0-9.e+-]+$"#,
    )
    .unwrap();
    let mut seen = HashSet::new();
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        assert!(sample.is_match(line), "{line}");
        assert!(
            seen.insert(line.rsplit_once(' ').unwrap().0.to_owned()),
            "{line}"
        );
    }
    assert!(seen.len() > 60);
}

#[test]
fn recording_a_request_that_is_not_traced_allocates_nothing() {
    let observe = Observe::new(ObserveOptions::default()).unwrap();
    let record = Record {
        method: Some("GET"),
        path: Some("/a"),
        status: 200,
        ..Record::default()
    };
    // Makes its series.
    observe.finished(&record);
    let counted = allocation_counter::measure(|| {
        for _ in 0..1000 {
            observe.finished(&record);
        }
    });
    assert_eq!(counted.count_total, 0);
}
