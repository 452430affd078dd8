use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use serde_json::json;

use super::*;
use crate::base::{Cause, CauseKind, Origin, Position};
use crate::plan::{Balance, Cluster, Pool, Protocol};

fn cluster() -> Cluster {
    Cluster {
        name: "outbound|9080||reviews.default.svc.cluster.local".into(),
        host: "reviews.default.svc.cluster.local".into(),
        port: 9080,
        subset: None,
        service_name: "reviews".into(),
        service_namespace: "default".into(),
        protocol: Protocol::Http1,
        balancing: Balance::RoundRobin.into(),
        pool: Pool::default(),
        tls: None,
        proxy_protocol: None,
        outlier: None,
        health_check: None,
        origin: None,
        policy_origin: None,
    }
}

fn record(cluster: &Cluster) -> Record<'_> {
    Record {
        start: Duration::from_millis(1_606_343_186_418),
        method: Some("GET"),
        path: Some("/status/418?a=b"),
        protocol: Some("HTTP/1.1"),
        status: 418,
        flags: "",
        details: "via_upstream",
        bytes_received: 0,
        bytes_sent: 135,
        duration: Duration::from_micros(4_900),
        upstream_service_time: Some(Duration::from_millis(3)),
        forwarded_for: Some("10.0.0.9"),
        user_agent: Some("curl/7.73.0"),
        request_id: Some("84961386-6d84-929d-98bd-c5aee93b5c88"),
        authority: Some("reviews:8000"),
        upstream_host: "10.44.1.27:80".parse().ok(),
        cluster: Some(cluster),
        upstream_local_address: "10.44.1.23:37652".parse().ok(),
        downstream_local_address: "10.0.45.184:8000".parse().ok(),
        downstream_remote_address: "10.44.1.23:46520".parse().ok(),
        route_name: Some("default"),
        ..Record::default()
    }
}

fn written(format: &LogFormat, record: &Record<'_>) -> String {
    let mut line = Line::new();
    format.write(record, &mut line);
    String::from_utf8(line.bytes().to_vec()).unwrap()
}

fn text(format: &str) -> LogFormat {
    LogFormat::new(LogEncoding::Text, format).unwrap()
}

#[test]
fn the_default_text_line_is_istios_byte_for_byte() {
    let cluster = cluster();
    assert_eq!(
        written(&text(""), &record(&cluster)),
        "[2020-11-25T22:26:26.418Z] \"GET /status/418?a=b HTTP/1.1\" 418 - via_upstream - \"-\" 0 135 4 3 \
         \"10.0.0.9\" \"curl/7.73.0\" \"84961386-6d84-929d-98bd-c5aee93b5c88\" \"reviews:8000\" \
         \"10.44.1.27:80\" outbound|9080||reviews.default.svc.cluster.local 10.44.1.23:37652 \
         10.0.45.184:8000 10.44.1.23:46520 - default\n"
    );
}

#[test]
fn absent_values_are_dashes_in_text_and_null_in_json() {
    let record = Record {
        status: 404,
        flags: "NR",
        details: "route_not_found",
        ..Record::default()
    };
    assert_eq!(
        written(&text(""), &record),
        "[1970-01-01T00:00:00.000Z] \"- - -\" 404 NR route_not_found - \"-\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\" \
         - - - - - -\n"
    );
    let line = written(&LogFormat::new(LogEncoding::Json, "").unwrap(), &record);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["response_flags"], json!("NR"));
    assert_eq!(value["path"], json!(null));
    assert_eq!(value["upstream_cluster"], json!(null));
}

#[test]
fn the_default_json_line_has_istios_keys_and_types() {
    let cluster = cluster();
    let line = written(
        &LogFormat::new(LogEncoding::Json, "").unwrap(),
        &record(&cluster),
    );
    assert!(line.ends_with("}\n") && line.matches('\n').count() == 1);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        value,
        json!({
            "start_time": "2020-11-25T22:26:26.418Z",
            "route_name": "default",
            "method": "GET",
            "path": "/status/418?a=b",
            "protocol": "HTTP/1.1",
            "response_code": 418,
            "response_flags": "-",
            "response_code_details": "via_upstream",
            "connection_termination_details": null,
            "bytes_received": 0,
            "bytes_sent": 135,
            "duration": 4,
            "upstream_service_time": "3",
            "x_forwarded_for": "10.0.0.9",
            "user_agent": "curl/7.73.0",
            "request_id": "84961386-6d84-929d-98bd-c5aee93b5c88",
            "authority": "reviews:8000",
            "upstream_host": "10.44.1.27:80",
            "upstream_cluster": "outbound|9080||reviews.default.svc.cluster.local",
            "upstream_local_address": "10.44.1.23:37652",
            "downstream_local_address": "10.0.45.184:8000",
            "downstream_remote_address": "10.44.1.23:46520",
            "requested_server_name": null,
            "upstream_transport_failure_reason": null,
        })
    );
}

#[test]
fn the_json_line_of_a_local_answer_names_its_cause_and_owner() {
    let origin = Origin::new(
        Arc::from("conf/shop.yaml"),
        Position {
            line: 12,
            column: 3,
        },
        0,
    );
    let cause = Cause::new(
        CauseKind::ClusterNotFound,
        "the subset \"v9\" does not exist",
    )
    .owner(&origin);
    let record = Record {
        cause: Some(&cause),
        ..Record::default()
    };
    let line = written(&LogFormat::new(LogEncoding::Json, "").unwrap(), &record);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["cause"], json!("cluster_not_found"));
    assert_eq!(
        value["cause_message"],
        json!("the subset \"v9\" does not exist")
    );
    assert_eq!(value["cause_owner"], json!("conf/shop.yaml:12"));
    assert_eq!(
        written(&text("%PINGRESS_CAUSE% %PINGRESS_CAUSE_OWNER%"), &record),
        "cluster_not_found conf/shop.yaml:12\n"
    );
}

#[test]
fn no_client_can_forge_a_line_or_a_field() {
    let record = Record {
        path: Some("/a\" 200 - \n[1970] \"GET /forged"),
        user_agent: Some("x\\\" y\r\n\u{1b}[31m"),
        requested_server_name: Some("a b"),
        ..Record::default()
    };
    let line = written(&text(""), &record);
    assert_eq!(line.matches('\n').count(), 1);
    assert!(
        line.contains(r#""- /a\" 200 - \x0a[1970] \"GET /forged -""#),
        "{line}"
    );
    assert!(line.contains(r#""x\\\" y\x0d\x0a\x1b[31m""#), "{line}");
    assert!(line.contains(r" a\x20b "), "{line}");
    for format in [
        "",
        r#"{"p": "is %REQ(:PATH)% so", "ua": "%REQ(USER-AGENT)%"}"#,
    ] {
        let line = written(&LogFormat::new(LogEncoding::Json, format).unwrap(), &record);
        assert_eq!(line.matches('\n').count(), 1);
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }
}

#[test]
fn a_custom_text_format_takes_headers_alternatives_lengths_and_percent_signs() {
    let mut request = HeaderMap::new();
    request.insert(
        "x-tenant",
        HeaderValue::from_bytes("blueé".as_bytes()).unwrap(),
    );
    let response = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("w7"))]);
    let record = Record {
        path: Some("/some/long/path"),
        request_headers: Some(&request),
        response_headers: Some(&response),
        downstream_remote_address: "[::1]:9".parse().ok(),
        upstream_failure: Some("delayed connect error: 111"),
        grpc_status: Some(14),
        ..Record::default()
    };
    let format = text(
        "100%% %REQ(X-ABSENT?X-TENANT)% %REQ(:PATH):5% %RESP(etag)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% \
         %UPSTREAM_TRANSPORT_FAILURE_REASON% %GRPC_STATUS%/%GRPC_STATUS_NUMBER%\n",
    );
    assert_eq!(
        written(&format, &record),
        "100% blueé /some w7 ::1 delayed_connect_error:_111 Unavailable/14\n"
    );
}

#[test]
fn the_start_time_is_written_as_its_format_says() {
    let cluster = cluster();
    for (format, expected) in [
        ("%START_TIME(%s.%3f)%", "1606343186.418"),
        (
            "%START_TIME(%Y/%m/%dT%H:%M:%S%z %s)%",
            "2020/11/25T22:26:26+0000 1606343186",
        ),
        (
            "at %START_TIME(%s)%, %START_TIME(%6f)% %PROTOCOL%",
            "at 1606343186, 418000 HTTP/1.1",
        ),
        ("%START_TIME()%", "2020-11-25T22:26:26.418Z"),
    ] {
        let line = written(&text(format), &record(&cluster));
        assert_eq!(line, format!("{expected}\n"), "{format}");
    }
    let json = LogFormat::new(
        LogEncoding::Json,
        r#"{"t": "%START_TIME(%s.%3f)%", "n": "%DURATION%"}"#,
    );
    let line = written(&json.unwrap(), &record(&cluster));
    assert_eq!(line, "{\"n\":4,\"t\":\"1606343186.418\"}\n");
}

#[test]
fn operators_of_times_ports_and_parts_of_a_path_have_their_values() {
    let redaction = Redaction::new(["token"]);
    let record = Record {
        path: Some("/a?x=1&token=t&x=2&long=abcdef"),
        duration: Duration::from_millis(50),
        request_duration: Some(Duration::from_millis(10)),
        response_duration: Some(Duration::from_millis(30)),
        upstream_host: "10.0.0.1:80".parse().ok(),
        upstream_local_address: "10.0.0.2:81".parse().ok(),
        downstream_remote_address: "10.0.0.3:82".parse().ok(),
        downstream_direct_remote_address: "10.0.0.4:83".parse().ok(),
        downstream_local_address: "10.0.0.5:84".parse().ok(),
        grpc_status: Some(4),
        ..Record::default()
    };
    for (format, expected) in [
        (
            "%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%",
            "10 30 20",
        ),
        ("%UPSTREAM_REMOTE_PORT% %UPSTREAM_LOCAL_PORT%", "80 81"),
        ("%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "10.0.0.2"),
        (
            "%DOWNSTREAM_REMOTE_PORT% %DOWNSTREAM_DIRECT_REMOTE_PORT% %DOWNSTREAM_LOCAL_PORT%",
            "82 83 84",
        ),
        ("%REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/a"),
        ("%REQ_WITHOUT_QUERY(:PATH):1%", "/"),
        (
            "%QUERY_PARAM(x)% %QUERY_PARAM(token)% %QUERY_PARAM(long):3% %QUERY_PARAM(none)%",
            "1 REDACTED abc -",
        ),
        (
            "%GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(CAMEL_STRING)% %GRPC_STATUS(NUMBER)%",
            "DEADLINE_EXCEEDED DeadlineExceeded 4",
        ),
        ("%DOWNSTREAM_TRANSPORT_FAILURE_REASON% %TRACE_ID%", "- -"),
    ] {
        let line = written(&text(format).redacted(redaction.clone()), &record);
        assert_eq!(line, format!("{expected}\n"), "{format}");
    }
    let line = written(
        &text("%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%"),
        &Record::default(),
    );
    assert_eq!(line, "- - -\n");
}

#[test]
fn a_custom_json_format_keeps_types_and_nesting() {
    let cluster = cluster();
    let format = LogFormat::new(
        LogEncoding::Json,
        r#"{"code": "%RESPONSE_CODE%", "who": {"ua": "%REQ(USER-AGENT)%", "n": 1}, "at": ["%PROTOCOL% %REQ(X)%", "a\"b", {}]}"#,
    )
    .unwrap();
    let value: serde_json::Value =
        serde_json::from_str(&written(&format, &record(&cluster))).unwrap();
    assert_eq!(
        value,
        json!({"code": 418, "who": {"ua": "curl/7.73.0", "n": 1}, "at": ["HTTP/1.1 -", "a\"b", {}]})
    );
}

#[test]
fn a_format_with_an_unknown_operator_a_secret_or_a_mistake_is_refused() {
    for (encoding, format, part) in [
        (LogEncoding::Text, "%NOPE%", "`%NOPE%` is not an operator"),
        (
            LogEncoding::Text,
            "%REQ(X%",
            "lacks its closing parenthesis",
        ),
        (
            LogEncoding::Text,
            "%START_TIME(%!)%",
            "`%!` is not a format of a time",
        ),
        (
            LogEncoding::Text,
            "%DYNAMIC_METADATA(istio.mixer:status)%",
            "`%DYNAMIC_METADATA(istio.mixer:status)%` is not an operator",
        ),
        (
            LogEncoding::Text,
            "%FILTER_STATE(a:PLAIN):5%",
            "`%FILTER_STATE(a:PLAIN)%` is not an operator",
        ),
        (LogEncoding::Text, "%UPSTREAM_LOCAL%", "is not an operator"),
        (LogEncoding::Text, "%REQ%", "needs an argument"),
        (LogEncoding::Text, "%GRPC_STATUS(X)%", "CAMEL_STRING"),
        (
            LogEncoding::Text,
            "%REQ_WITHOUT_QUERY(cookie)%",
            "holds secrets",
        ),
        (LogEncoding::Text, "%FILTER_STATE(a)%", "is not an operator"),
        (LogEncoding::Text, "100%", "lacks its closing percent sign"),
        (LogEncoding::Text, "%REQ(Authorization)%", "holds secrets"),
        (LogEncoding::Text, "%RESP(X?Set-Cookie)%", "holds secrets"),
        (LogEncoding::Text, "%REQ(a b)%", "is not a header name"),
        (LogEncoding::Text, "%REQ(:PATH):x%", "is not a length"),
        (LogEncoding::Json, "%PROTOCOL%", "is not JSON"),
        (LogEncoding::Json, "[]", "is not a JSON object"),
        (
            LogEncoding::Json,
            r#"{"a": ["%NOPE%"]}"#,
            "is not an operator",
        ),
    ] {
        let error = LogFormat::new(encoding, format).unwrap_err().to_string();
        assert!(error.contains(part), "{format}: {error}");
    }
}
