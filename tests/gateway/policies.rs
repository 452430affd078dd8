//! Traffic policies of a rule, from YAML to the wire.

use crate::harness::{Client, Gateway, Origin, Start, await_until, routes_yaml, service_yaml};

const HOST: &str = "shop.example.com";

/// A gateway whose only rule has a policy beside its route.
fn start(origin: &Origin, policy: &str) -> Start {
    let rule = format!(
        "    - route: [{{destination: {{host: shop.internal}}}}]\n      {}\n",
        policy.replace('\n', "\n      ")
    );
    Start::one_service_by("shop", HOST, origin.port, &rule)
}

#[test]
fn a_fault_written_in_yaml_aborts_is_logged_counted_and_explained() {
    let origin = Origin::echo("shop");
    let policy = "fault:\n  delay: {fixedDelay: 10ms, percentage: {value: 100}}\n  abort: {httpStatus: 555, percentage: {value: 100}}";
    let gateway = start(&origin, policy).ready();
    let answer = gateway.get(HOST, "/");
    assert_eq!((answer.status, &*answer.body), (555, "fault filter abort"));
    assert_eq!(origin.count(), 0);
    let line = gateway.await_log(" 555 ");
    assert!(line.contains(" 555 DI,FI fault_filter_abort "), "{line}");
    assert!(gateway.metrics().contains("response_flags=\"DI,FI\""));
    let page = |format: &str| {
        let path = format!("/explain{format}?url=http%3A%2F%2F{HOST}%2F");
        gateway.admin(&path).body
    };
    let text = page("");
    let expected = "fault delay 100% by 10ms, then abort 100% with 555 at ";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("routes.yaml:12"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&page(".json")).unwrap();
    let fault = &json["outcome"]["policies"]["fault"];
    assert_eq!(fault["abort_status"], 555);
    assert_eq!(fault["delay_percent"], 100.0);
    assert!(
        fault["origin"]
            .as_str()
            .unwrap()
            .ends_with("routes.yaml:12")
    );
}

#[test]
fn a_cors_policy_written_in_yaml_answers_preflights_and_marks_responses() {
    let origin = Origin::echo("shop");
    let policy = "corsPolicy:\n  allowOrigins: [{regex: 'https://[a-z]+[.]example[.]com'}]\n  allowMethods: [GET, PUT]\n  maxAge: 24h\n  allowCredentials: true";
    let gateway = start(&origin, policy).ready();
    let mut client: Client = gateway.client();
    let asks = "Origin: https://www.example.com\r\nAccess-Control-Request-Method: PUT\r\n";
    client.write(format!("OPTIONS / HTTP/1.1\r\nHost: {HOST}\r\n{asks}\r\n").as_bytes());
    let preflight = client.read().unwrap();
    assert_eq!(preflight.status, 200);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://www.example.com")
    );
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        Some("GET,PUT")
    );
    assert_eq!(preflight.header("access-control-max-age"), Some("86400"));
    assert_eq!(origin.count(), 0);
    let answer = client.get(HOST, "/", &["Origin: https://www.example.com"]);
    assert_eq!(
        answer.header("access-control-allow-credentials"),
        Some("true")
    );
    let other = client.get(HOST, "/", &["Origin: https://www.example.com.evil"]);
    assert_eq!(
        (other.status, other.header("access-control-allow-origin")),
        (200, None)
    );
    let explained = gateway
        .admin(&format!("/explain?url=http%3A%2F%2F{HOST}%2F"))
        .body;
    assert!(
        explained
            .contains("cors origins regex \"https://[a-z]+[.]example[.]com\", methods GET,PUT"),
        "{explained}"
    );
}

#[test]
fn mirrors_written_in_yaml_get_copies_that_are_counted_and_explained() {
    let (origin, copy) = (Origin::echo("shop"), Origin::echo("copy"));
    let policy = "mirrors:\n- destination: {host: copy.internal}\n- {destination: {host: copy.internal}, percentage: {value: 0}}";
    let mut start = start(&origin, policy);
    let service = service_yaml("copy.internal", &[(copy.port, "v1")]);
    start.files.push(("copy.yaml".into(), service));
    let gateway = start.ready();
    let answer = gateway.get(HOST, "/a?b=c");
    assert!(answer.body.starts_with("shop\n"), "{}", answer.body);
    let counted = "pingress_mirrored_requests_total{cluster=\"outbound|80||copy.internal\",result=\"answered\"} 1\n";
    await_until("the copy is counted", || {
        gateway.metrics().contains(counted).then_some(())
    });
    assert_eq!(copy.count(), 1);
    let head = copy.last_head();
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_ascii_lowercase()
            .contains("host: shop.example.com\r\n"),
        "{head}"
    );
    let explained = gateway
        .admin(&format!("/explain?url=http%3A%2F%2F{HOST}%2F"))
        .body;
    let expected = "mirror 100% to outbound|80||copy.internal at ";
    assert!(explained.contains(expected), "{explained}");
}

fn limit_yaml(requests: u32, rest: &str) -> String {
    format!(
        "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {{name: limit}}\nspec:\n  targetRef: {{kind: VirtualService, name: shop}}\n  limits:\n  - {{requests: {requests}, unit: day, key: [{{header: x-key}}]}}\n{rest}"
    )
}

fn limited(origin: &Origin, rest: &str) -> Start {
    let mut start = start(origin, "timeout: 30s");
    let limit = limit_yaml(3, rest);
    start.files.push(("limit.yaml".into(), limit));
    start
}

/// The statuses of so many requests with a key.
fn asked(gateway: &Gateway, key: &str, count: usize) -> Vec<u16> {
    let mut client = gateway.client();
    let header = format!("X-Key: {key}");
    let statuses = (0..count).map(|_| client.get(HOST, "/", &[&header]).status);
    statuses.collect()
}

#[test]
fn a_rate_limit_written_in_yaml_refuses_is_logged_counted_and_explained() {
    let origin = Origin::echo("shop");
    let gateway = limited(&origin, "").ready();
    assert_eq!(asked(&gateway, "a", 5), [200, 200, 200, 429, 429]);
    assert_eq!(asked(&gateway, "b", 1), [200]);
    assert_eq!(origin.count(), 4);
    let mut client = gateway.client();
    let refused = client.get(HOST, "/", &["X-Key: a"]);
    assert_eq!(refused.body, "local_rate_limited");
    assert_eq!(refused.header("retry-after"), Some("28800"));
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some("\"limit\";q=3;w=86400")
    );
    let line = gateway.await_log(" 429 ");
    assert!(line.contains(" 429 RL local_rate_limited "), "{line}");
    let metrics = gateway.metrics();
    for counted in [
        "result=\"allowed\"} 4\n",
        "result=\"limited\"} 3\n",
        "pingress_local_replies_total{cause=\"rate_limited\"} 3\n",
        "response_flags=\"RL\"",
    ] {
        assert!(metrics.contains(counted), "{counted}");
    }
    let text = gateway
        .admin(&format!("/explain?url=http%3A%2F%2F{HOST}%2F"))
        .body;
    let expected = "passes RateLimit default/limit (before the router; refused with 429, retry-after said, ratelimit said) at ";
    assert!(text.contains(expected), "{text}");
    let expected = "  3 per 86400s, at most 3 at once for each header x-key at ";
    assert!(
        text.contains(expected) && text.contains("limit.yaml:7"),
        "{text}"
    );
}

#[test]
fn a_limit_of_the_whole_gateway_is_divided_among_its_replicas() {
    let origin = Origin::echo("shop");
    let replica = || {
        let mut start = start(&origin, "timeout: 30s").settings("  replicas: 3\n");
        let limit = limit_yaml(10, "  scope: gateway\n");
        start.files.push(("limit.yaml".into(), limit));
        start.ready()
    };
    let replicas = [replica(), replica(), replica()];
    for gateway in &replicas {
        assert_eq!(asked(gateway, "a", 5), [200, 200, 200, 429, 429]);
    }
    let refused = replicas[0].client().get(HOST, "/", &["X-Key: a"]);
    // Clients are told the limit, and when this replica has a token again.
    let policy = Some("\"limit\";q=10;w=86400");
    assert_eq!(refused.header("ratelimit-policy"), policy);
    assert_eq!(refused.header("retry-after"), Some("25920"));
}

#[test]
fn a_change_of_the_configuration_fills_no_bucket_of_an_unchanged_limit() {
    let origin = Origin::echo("shop");
    let gateway = limited(&origin, "").ready();
    assert_eq!(asked(&gateway, "a", 4), [200, 200, 200, 429]);
    let rule = "    - match: [{uri: {prefix: /new}}]\n      directResponse: {status: 204}\n";
    gateway.write("new.yaml", &routes_yaml("new", &["new.example.com"], rule));
    gateway.await_status("new.example.com", "/new", 204);
    assert_eq!(asked(&gateway, "a", 1), [429]);
    // Its other words may change.
    gateway.write("limit.yaml", &limit_yaml(3, "  mode: observe\n"));
    await_until("the limit only observes", || {
        (asked(&gateway, "a", 1) == [200]).then_some(())
    });
    gateway.write("limit.yaml", &limit_yaml(3, "  headers: none\n"));
    await_until("the limit refuses again", || {
        (asked(&gateway, "a", 1) == [429]).then_some(())
    });
    gateway.write("limit.yaml", &limit_yaml(4, ""));
    await_until("another limit begins full", || {
        (asked(&gateway, "a", 1) == [200]).then_some(())
    });
}

#[test]
fn a_local_rate_limit_of_an_envoy_filter_refuses_by_its_descriptors() {
    let origin = Origin::echo("shop");
    let mut start = start(&origin, "timeout: 30s");
    let filter = r#"
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: limit, namespace: istio-system}
spec:
  workloadSelector: {labels: {istio: ingressgateway}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: GATEWAY, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/udpa.type.v1.TypedStruct
          type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          value:
            stat_prefix: limit
            token_bucket: {max_tokens: 4, tokens_per_fill: 4, fill_interval: 86400s}
            filter_enabled: {runtime_key: a, default_value: {numerator: 100, denominator: HUNDRED}}
            filter_enforced: {runtime_key: b, default_value: {numerator: 100, denominator: HUNDRED}}
            enable_x_ratelimit_headers: DRAFT_VERSION_03
            response_headers_to_add: [{append: false, header: {key: x-local-rate-limit, value: "true"}}]
            descriptors:
            - entries: [{key: header_match, value: productpage}]
              token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 86400s}
  - applyTo: VIRTUAL_HOST
    match: {context: GATEWAY, routeConfiguration: {vhost: {name: "", route: {action: ANY}}}}
    patch:
      operation: MERGE
      value:
        rate_limits:
        - actions:
          - header_value_match: {descriptor_value: productpage, expect_match: true, headers: [{name: ":path", string_match: {prefix: /productpage}}]}
"#;
    start.files.push(("filter.yaml".into(), filter.into()));
    let gateway = start.ready();
    let mut client = gateway.client();
    let mut statuses = |paths: &[&str]| -> Vec<u16> {
        let status = |path: &&str| client.get(HOST, path, &[]).status;
        paths.iter().map(status).collect()
    };
    let paths = ["/productpage", "/productpage?a", "/a", "/b", "/c", "/d"];
    assert_eq!(statuses(&paths), [200, 429, 200, 200, 200, 429]);
    let refused = gateway.get(HOST, "/");
    assert_eq!(
        (refused.status, &*refused.body),
        (429, "local_rate_limited")
    );
    for (name, value) in [
        ("x-local-rate-limit", Some("true")),
        ("x-ratelimit-limit", Some("4")),
        ("x-ratelimit-remaining", Some("0")),
        ("x-envoy-ratelimited", None),
        ("retry-after", None),
        ("ratelimit", None),
    ] {
        assert_eq!(refused.header(name), value, "{name}");
    }
    let explained = gateway
        .admin(&format!("/explain?url=http%3A%2F%2F{HOST}%2F"))
        .body;
    let expected = "passes EnvoyFilter istio-system/limit spec.configPatches[0] (before the router; refused with 429, x-local-rate-limit: true, x-ratelimit-* said) at ";
    assert!(explained.contains(expected), "{explained}");
    assert!(explained.contains("filter.yaml:8"), "{explained}");
}

#[test]
fn a_list_of_addresses_and_a_limit_of_bodies_written_in_yaml_hold_and_are_explained() {
    let origin = Origin::echo("shop");
    let mut start = start(&origin, "timeout: 30s")
        .settings("  mesh: {defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}}\n");
    let policy = |kind: &str, rest: &str| {
        format!(
            "apiVersion: gateway.pingress.io/v1alpha1\nkind: {kind}\nmetadata: {{name: edge}}\nspec:\n  targetRef: {{kind: Gateway, name: gw}}\n  {rest}\n"
        )
    };
    let list = policy("AccessList", "deny: [10.0.0.0/8]");
    start.files.push(("list.yaml".into(), list));
    start
        .files
        .push(("body.yaml".into(), policy("BodyLimit", "maxBytes: 10")));
    let gateway = start.ready();
    let mut client = gateway.client();
    let denied = client.get(HOST, "/", &["X-Forwarded-For: 10.1.2.3"]);
    assert_eq!((denied.status, &*denied.body), (403, "RBAC: access denied"));
    let admitted = client.get(HOST, "/", &["X-Forwarded-For: 11.1.2.3"]);
    assert_eq!(admitted.status, 200);
    let mut client = gateway.client();
    client
        .write(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 11\r\n\r\n").as_bytes());
    assert_eq!(client.read().unwrap().status, 413);
    assert_eq!(origin.count(), 1);
    let text = gateway
        .admin(&format!("/explain?url=http%3A%2F%2F{HOST}%2F"))
        .body;
    for expected in [
        "passes AccessList default/edge (first; every client but none from 10.0.0.0/8) at ",
        "passes BodyLimit default/edge (first; at most 10 bytes of a body) at ",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}
