use super::*;

#[test]
fn every_key_is_listed_with_a_meaning_and_reads_back_as_its_default() {
    let keys = Settings::keys();
    assert!(keys.len() > 40);
    for key in &keys {
        assert!(!key.meaning.is_empty(), "{} has no meaning", key.key);
        let mut yaml = String::new();
        let parts: Vec<&str> = key.key.split('.').collect();
        for (depth, part) in parts.iter().enumerate() {
            let value = if depth + 1 == parts.len() {
                key.default.to_string()
            } else {
                String::new()
            };
            yaml.push_str(&format!("{}{part}: {value}\n", "  ".repeat(depth)));
        }
        assert_eq!(Settings::parse(&yaml), Ok(Settings::default()), "{yaml}");
    }
}

#[test]
fn the_list_of_keys_is_the_whole_of_the_settings() {
    fn count(value: &serde_json::Value, key: &str, leaves: &[String]) -> usize {
        match value {
            serde_json::Value::Object(fields) if !leaves.contains(&key.to_owned()) => fields
                .iter()
                .map(|(name, value)| {
                    let key = if key.is_empty() {
                        name.clone()
                    } else {
                        format!("{key}.{name}")
                    };
                    count(value, &key, leaves)
                })
                .sum(),
            _ => 1,
        }
    }
    let leaves: Vec<String> = Settings::keys().into_iter().map(|key| key.key).collect();
    let whole = serde_json::to_value(Settings::default()).unwrap();
    assert_eq!(count(&whole, "", &leaves), leaves.len());
}

#[test]
fn an_unknown_key_is_an_error_that_names_key_and_line() {
    let error = Settings::parse("gateway:\n  limits:\n    maxConections: 5\n").unwrap_err();
    assert!(
        error.contains("maxConections") && error.contains("line 3"),
        "{error}"
    );
    assert!(error.contains("maxConnections"), "{error}");
}

#[test]
fn a_pingora_key_without_effect_is_refused_with_what_to_use_instead() {
    let error = Settings::parse("grace_period_seconds: 10\n").unwrap_err();
    assert!(error.contains("gateway.drain.delay"), "{error}");
}

#[test]
fn impossible_values_are_refused() {
    for text in [
        "gateway: {ports: {80: 8080, 81: 8080}}",
        "gateway: {ports: {80: 0}}",
        "gateway: {bind: []}",
        "gateway: {admin: {bind: nowhere}}",
        "gateway: {profile: strict}",
        "gateway: {limits: {headerDeadline: 5}}",
        "gateway: {mesh: {enableTracing: true}}",
        "max_retries: 0",
        "threads: many",
        "[]",
    ] {
        assert!(Settings::parse(text).is_err(), "{text}");
    }
}

#[test]
fn the_edge_profile_merges_slashes_unless_the_file_says_otherwise() {
    use crate::plan::PathNormalization;
    let edge = Settings::parse("gateway: {profile: edge}").unwrap();
    assert_eq!(
        edge.compile_options().http.path_normalization,
        PathNormalization::MergeSlashes
    );
    let text = "gateway: {profile: edge, mesh: {pathNormalization: {normalization: BASE}}}";
    let base = Settings::parse(text).unwrap();
    assert_eq!(
        base.compile_options().http.path_normalization,
        PathNormalization::Base
    );
}

#[test]
fn an_empty_file_is_all_defaults() {
    for text in ["", "\n# nothing\n", "gateway:\n"] {
        assert!(Settings::parse(text).is_ok(), "{text:?}");
    }
}

#[test]
fn looking_for_a_connection_is_no_attempt_that_the_user_bounds() {
    let settings = Settings::parse("max_retries: 1").unwrap();
    let limits = settings.proxy_limits();
    assert_eq!(limits.attempts, 1);
    assert_eq!(settings.server_conf().max_retries, limits.turns as usize);
    assert!(limits.turns > 4);
}

#[test]
fn a_local_address_that_is_none_is_refused_before_pingora_panics_at_it() {
    for (key, text) in [
        ("client_bind_to_ipv4", "::1"),
        ("client_bind_to_ipv4", "x"),
        ("client_bind_to_ipv6", "127.0.0.1"),
    ] {
        let error = Settings::parse(&format!("{key}: ['{text}']\n")).unwrap_err();
        assert!(error.contains(key) && error.contains(text), "{error}");
    }
    let both = "client_bind_to_ipv4: [127.0.0.3]\nclient_bind_to_ipv6: ['::1']\n";
    let locals = Settings::parse(both).unwrap().locals();
    let expected: [std::net::IpAddr; 2] = ["127.0.0.3", "::1"].map(|text| text.parse().unwrap());
    assert_eq!(locals.0, expected);
}

#[test]
fn bounds_of_connections_that_serve_nobody_are_refused_and_pings_are_off_by_default() {
    for (http2, part) in [
        ("maxConcurrentStreams: 0", "maxConcurrentStreams: 0 would"),
        (
            "initialStreamWindowSize: 65534",
            "initialStreamWindowSize: 65534 is not in 65535 to 2147483647",
        ),
        (
            "initialConnectionWindowSize: 2147483648",
            "initialConnectionWindowSize: 2147483648 is not in",
        ),
        (
            "keepaliveInterval: 1s, keepaliveTimeout: 0s",
            "keepaliveTimeout: 0s would",
        ),
    ] {
        let error = Settings::parse(&format!("gateway: {{http2: {{{http2}}}}}")).unwrap_err();
        assert!(error.contains(part), "{http2}: {error}");
    }
    for silence in ["500ms", "32768s"] {
        let error = Settings::parse(&format!("gateway: {{limits: {{tcpKeepalive: {silence}}}}}"));
        let error = error.unwrap_err();
        assert!(
            error.contains("tcpKeepalive: write 1s to 32767s"),
            "{error}"
        );
    }
    let never = Settings::parse("gateway: {limits: {tcpKeepalive: 0s}}").unwrap();
    assert_eq!(never.listener_limits().tcp_keepalive, None);
    assert_eq!(Settings::default().listener_limits().http2_pings, None);
    let text = "gateway: {http2: {maxConcurrentStreams: 7, keepaliveInterval: 30s}}";
    let settings = Settings::parse(text).unwrap();
    let rule = settings.listener_limits().http2_pings.unwrap();
    assert_eq!((rule.every.as_secs(), rule.within.as_secs()), (30, 20));
    assert_eq!(settings.proxy_limits().streams, 7);
}

#[test]
fn a_collector_that_no_span_could_reach_is_refused_with_its_key() {
    for (tracing, part) in [
        ("endpoint: collector:4317", "does not begin with http://"),
        ("endpoint: 'http://'", "is not a URL"),
        (
            "endpoint: 'http://collector:4317', tls: {caCertificates: ca.pem}",
            "is spoken to without TLS",
        ),
        (
            "endpoint: 'https://collector:4317', tls: {privateKey: key.pem}",
            "gateway.tracing.tls: clientCertificate and privateKey go together",
        ),
        ("endpoint: http://collector:4317/v1/traces", "has a path"),
        (
            "sampling: 101",
            "gateway.tracing.sampling: 101 is not a percentage",
        ),
        ("sampling: -1", "is not a percentage"),
        ("propagation: []", "gateway.tracing.propagation is empty"),
        ("propagation: [zipkin]", "zipkin"),
        ("protocol: http", "http/protobuf"),
        ("queue: 0", "gateway.tracing.queue: 0 would drop"),
        (
            "customTags: {a: {header: {name: Cookie}}}",
            "gateway.tracing.customTags.a: `cookie` holds secrets",
        ),
        (
            "customTags: {a: {header: {name: 'x y'}}}",
            "`x y` is not the name of a header",
        ),
        (
            "customTags: {a: {literal: {value: b}, environment: {name: C}}}",
            "customTags.a: write exactly one of",
        ),
        ("customTags: {a: {}}", "customTags.a: write exactly one of"),
        ("customTags: {a: {literal: {value: ''}}}", "value is empty"),
        ("customTags: {a: {environment: {name: ''}}}", "has no name"),
        ("customTags: {a: {formatter: {value: b}}}", "formatter"),
        (
            "customTags: {'': {literal: {value: b}}}",
            "a tag has no name",
        ),
        ("timeout: 0s", "gateway.tracing.timeout: 0s would drop"),
    ] {
        let error = Settings::parse(&format!("gateway: {{tracing: {{{tracing}}}}}")).unwrap_err();
        assert!(error.contains(part), "{tracing}: {error}");
    }
    let text = "gateway: {tracing: {protocol: http/protobuf, endpoint: 'http://collector:4318/otlp/v1/traces'}}";
    let settings = Settings::parse(text).unwrap();
    let tracing = settings.compile_options().tracing.unwrap();
    assert_eq!(tracing, crate::plan::tracing::Tracing::default());
    assert_eq!(Settings::default().compile_options().tracing, None);
}

#[test]
fn a_log_format_with_an_unknown_operator_is_refused_when_the_settings_are_read() {
    let text = "gateway: {mesh: {accessLogFormat: '%PROTOCOL% %NOPE%'}}";
    let error = Settings::parse(text).unwrap_err();
    assert!(
        error.contains("gateway.mesh.accessLogFormat: `%NOPE%`"),
        "{error}"
    );
}
