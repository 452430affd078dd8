//! Limits that a rate limit service counts, from YAML to the wire: a real service, killed, stalled
//! and brought back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Gateway, Mood, Origin, RateLimitService, Start, await_until, service_yaml};

const HOST: &str = "shop.example.com";

/// A gateway with one host and the objects of a file.
fn start(origin: &Origin, objects: String) -> Start {
    Start::one_service("shop", HOST, origin.port).file("limit.yaml", objects)
}

/// Istio's own shape: a filter, a cluster, and actions for every virtual host.
fn filter(service: &RateLimitService, fields: &str, actions: &str) -> String {
    let port = service.port;
    format!(
        r#"
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: filter-ratelimit, namespace: istio-system}}
spec:
  workloadSelector: {{labels: {{istio: ingressgateway}}}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {{context: GATEWAY, listener: {{filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager, subFilter: {{name: envoy.filters.http.router}}}}}}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.ratelimit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
          domain: shop
          {fields}
          rate_limit_service:
            grpc_service: {{envoy_grpc: {{cluster_name: rate_limit_cluster}}}}
            transport_api_version: V3
  - applyTo: CLUSTER
    match: {{cluster: {{service: ratelimit.default.svc.cluster.local}}}}
    patch:
      operation: ADD
      value:
        name: rate_limit_cluster
        type: STRICT_DNS
        connect_timeout: 10s
        lb_policy: ROUND_ROBIN
        http2_protocol_options: {{}}
        load_assignment:
          cluster_name: rate_limit_cluster
          endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: filter-ratelimit-svc, namespace: istio-system}}
spec:
  workloadSelector: {{labels: {{istio: ingressgateway}}}}
  configPatches:
  - applyTo: VIRTUAL_HOST
    match: {{context: GATEWAY, routeConfiguration: {{vhost: {{name: "", route: {{action: ANY}}}}}}}}
    patch:
      operation: MERGE
      value:
        rate_limits:
        {actions}
"#
    )
}

const PATHS: &str =
    r#"- actions: [{request_headers: {header_name: ":path", descriptor_key: PATH}}]"#;

fn statuses(gateway: &Gateway, paths: &[&str]) -> Vec<u16> {
    let mut client = gateway.client();
    let status = |path: &&str| client.get(HOST, path, &[]).status;
    paths.iter().map(status).collect()
}

/// How many requests had a result.
fn counted(gateway: &Gateway, result: &str) -> u64 {
    let metrics = gateway.metrics();
    let label = format!("result=\"{result}\"");
    let line = metrics.lines().find(|line| line.contains(&label));
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or_else(|| panic!("{metrics}"))
}

fn explained(gateway: &Gateway) -> String {
    let page = format!("/explain?url=http%3A%2F%2F{HOST}%2F");
    gateway.admin(&page).body
}

#[test]
fn the_global_limit_of_an_envoy_filter_is_asked_and_obeyed_in_envoys_words() {
    let origin = Origin::echo("shop");
    let service = RateLimitService::start(&[(Some("/cart"), 1), (None, 100)]);
    service.add(("x-limited-by", "tests"), ("x-checked", "yes"), "too many");
    let fields = "timeout: 10s\n          enable_x_ratelimit_headers: DRAFT_VERSION_03";
    let gateway = start(&origin, filter(&service, fields, PATHS)).ready();
    let mut client = gateway.client();
    let served = client.get(HOST, "/cart", &[]);
    assert_eq!(served.status, 200);
    assert_eq!(served.header("x-limited-by"), Some("tests"));
    assert_eq!(served.header("x-ratelimit-limit"), Some("1, 1;w=3600"));
    assert_eq!(served.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(served.header("x-ratelimit-reset"), Some("1234"));
    assert_eq!(served.header("x-envoy-ratelimited"), None);
    assert!(origin.last_head().contains("x-checked: yes\r\n"));
    let refused = client.get(HOST, "/cart", &[]);
    assert_eq!((refused.status, &*refused.body), (429, "too many"));
    for (name, value) in [
        ("x-envoy-ratelimited", Some("true")),
        ("x-limited-by", Some("tests")),
        ("x-ratelimit-limit", Some("1, 1;w=3600")),
        ("content-type", Some("text/plain")),
        ("retry-after", None),
        ("ratelimit", None),
    ] {
        assert_eq!(refused.header(name), value, "{name}");
    }
    // The path is told with its query, as Envoy does.
    assert_eq!(statuses(&gateway, &["/cart?a", "/b"]), [200, 200]);
    let asked = ["/cart", "/cart", "/cart?a", "/b"].map(|path| format!("shop PATH={path}"));
    assert_eq!(service.asked(), asked);
    assert_eq!(origin.count(), 3);
    assert_eq!(service.connections(), 1);
    let line = gateway.await_log(" 429 ");
    assert!(line.contains(" 429 RL request_rate_limited "), "{line}");
    let metrics = gateway.metrics();
    let policy = "policy=\"EnvoyFilter istio-system/filter-ratelimit spec.configPatches[0]\"";
    for (result, count) in [
        ("allowed", 3),
        ("limited", 1),
        ("unchecked", 0),
        ("denied", 0),
    ] {
        let sample = format!("{policy},limit=\"0\",result=\"{result}\"}} {count}\n");
        assert!(metrics.contains(&sample), "{metrics}");
    }
    let text = explained(&gateway);
    for expected in [
        "(before the router; rate_limit_cluster asked within 10s for domain shop, served if it cannot be asked, refused with 429, x-envoy-ratelimited said, x-ratelimit-* said) at ",
        "  descriptor PATH=the path with query at ",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn what_an_action_makes_nothing_of_is_not_asked_about() {
    let origin = Origin::echo("shop");
    let service = RateLimitService::start(&[(None, 1000)]);
    let actions = r#"- actions: [{request_headers: {header_name: x-user, descriptor_key: user}}]
        - actions: [{generic_key: {descriptor_value: all}}, {request_headers: {header_name: x-tier, descriptor_key: tier, skip_if_absent: true}}, {remote_address: {}}]
        - actions: [{header_value_match: {descriptor_value: get, headers: [{name: ":method", string_match: {exact: POST}}]}}]
        - actions: [{query_parameter_value_match: {descriptor_value: big, query_parameters: [{name: size, string_match: {prefix: "9"}}]}}, {destination_cluster: {}}]
        - {stage: 3, actions: [{generic_key: {descriptor_value: other filter}}]}"#;
    let gateway = start(&origin, filter(&service, "timeout: 10s", actions)).ready();
    let mut client = gateway.client();
    for (path, headers) in [
        ("/", vec![]),
        ("/?size=95", vec!["X-User: ada", "X-Tier: gold"]),
    ] {
        assert_eq!(client.get(HOST, path, &headers).status, 200);
    }
    assert_eq!(
        service.asked(),
        [
            "shop generic_key=all,remote_address=127.0.0.1",
            "shop user=ada generic_key=all,tier=gold,remote_address=127.0.0.1 query_match=big,destination_cluster=outbound|80||shop.internal",
        ]
    );
    // Nothing is asked where there is nothing to tell.
    let user = r#"- actions: [{request_headers: {header_name: x-user, descriptor_key: user}}]"#;
    gateway.write("limit.yaml", &filter(&service, "timeout: 10s", user));
    await_until(
        "nothing is asked about a request without the header",
        || {
            let before = service.asked().len();
            assert_eq!(gateway.get(HOST, "/").status, 200);
            (service.asked().len() == before).then_some(())
        },
    );
}

#[test]
fn a_service_that_stalls_or_fails_lets_requests_through_or_refuses_them_as_declared() {
    let origin = Origin::echo("shop");
    for (denies, status) in [(false, 200), (true, 500)] {
        let mut service = RateLimitService::start(&[(None, 1000)]);
        let fields = format!("timeout: 0.05s\n          failure_mode_deny: {denies}");
        let gateway = start(&origin, filter(&service, &fields, PATHS)).ready();
        gateway.await_status(HOST, "/", 200);
        let result = if denies { "denied" } else { "unchecked" };
        let before = counted(&gateway, result);
        for mood in [Mood::Stalls, Mood::Fails] {
            service.be(mood);
            // More than a connection is given before it is taken for dead.
            assert_eq!(statuses(&gateway, &["/"; 20]), [status; 20], "{mood:?}");
        }
        service.kill();
        assert_eq!(statuses(&gateway, &["/"; 20]), [status; 20], "gone");
        assert_eq!(counted(&gateway, result), before + 60);
        if denies {
            let line = gateway.await_log(" 500 ");
            assert!(line.contains(" 500 RLSE rate_limiter_error "), "{line}");
        }
        service.be(Mood::Counts);
        service.start_again();
        let before = counted(&gateway, "allowed");
        await_until("the service is asked again", || {
            gateway.await_status(HOST, "/", 200);
            (counted(&gateway, "allowed") > before).then_some(())
        });
    }
}

#[test]
fn a_service_that_is_killed_and_comes_back_under_load_leaves_no_request_without_an_answer() {
    let origin = Origin::echo("shop");
    let mut service = RateLimitService::start(&[(None, 1_000_000)]);
    let fields = "timeout: 0.25s\n          failure_mode_deny: true";
    let gateway = Arc::new(start(&origin, filter(&service, fields, PATHS)).ready());
    gateway.await_status(HOST, "/", 200);
    let ended = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (gateway, ended) = (gateway.clone(), ended.clone());
            std::thread::spawn(move || {
                let mut client = gateway.client();
                let mut seen = Vec::new();
                while !ended.load(Ordering::SeqCst) {
                    seen.push(client.get(HOST, "/", &[]).status);
                }
                seen
            })
        })
        .collect();
    for _ in 0..3 {
        service.kill();
        gateway.await_status(HOST, "/", 500);
        service.start_again();
        gateway.await_status(HOST, "/", 200);
    }
    ended.store(true, Ordering::SeqCst);
    for client in clients {
        let seen = client.join().unwrap();
        assert!(seen.contains(&200) && seen.iter().all(|status| [200, 500].contains(status)));
    }
}

/// Envoy 1.40 told a service the same of the same requests.
#[test]
fn a_service_is_told_addresses_parameters_and_hits_as_envoy_tells_them() {
    let origin = Origin::echo("shop");
    let service = RateLimitService::start(&[(None, 10)]);
    let actions = r#"- actions: [{query_parameters: {query_parameter_name: q, descriptor_key: q}}]
        - actions: [{masked_remote_address: {v4_prefix_mask_len: 24}}]
        - actions: [{query_parameter_value_match: {descriptor_value: qm, query_parameters: [{name: p, string_match: {exact: "a b"}}]}}]"#;
    let gateway = start(&origin, filter(&service, "timeout: 10s", actions)).ready();
    let paths = ["/?q=a%20b+c%2Bd&q=b", "/?q", "/?p=a%20b", "/?p=a+b"];
    assert_eq!(statuses(&gateway, &paths), [200; 4]);
    let network = "masked_remote_address=127.0.0.0/24";
    assert_eq!(
        service.asked(),
        [
            format!("shop q=a b+c+d {network}"),
            format!("shop q= {network}"),
            format!("shop {network} query_match=qm"),
            format!("shop {network}"),
        ]
    );
    let service = RateLimitService::start(&[(None, 10)]);
    let own = r#"- actions: [{remote_address: {}}]
        typed_per_filter_config:
          envoy.filters.http.ratelimit:
            "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute
            rate_limits:
            - {actions: [{generic_key: {descriptor_value: a}}], hits_addend: {format: "%REQ(x-hits)%"}}"#;
    let gateway = start(&origin, filter(&service, "timeout: 10s", own)).ready();
    let mut client = gateway.client();
    let mut status = |hits| client.get(HOST, "/", &[hits]).status;
    assert_eq!(status("x-hits: 7"), 200);
    assert_eq!(status("x-hits: 3.5"), 200);
    assert_eq!(status("x-hits: 1"), 429);
    // Not a number that Envoy takes: there is nothing to ask.
    assert_eq!(status("x-hits: all"), 200);
    let told = [7, 3, 1].map(|hits| format!("shop generic_key=a (counts as {hits})"));
    assert_eq!(service.asked(), told);
}

#[test]
fn a_client_that_leaves_ends_its_check_and_leaves_nothing_behind() {
    let origin = Origin::echo("shop");
    let service = RateLimitService::start(&[(None, 1000)]);
    let fields = "timeout: 3600s\n          failure_mode_deny: true";
    let gateway = start(&origin, filter(&service, fields, PATHS)).ready();
    gateway.await_status(HOST, "/", 200);
    let served = origin.count();
    service.be(Mood::Stalls);
    for request in [
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello"),
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhe"),
    ] {
        let mut client = gateway.client();
        client.write(request.as_bytes());
        await_until("the service is asked", || {
            (service.held() == 1).then_some(())
        });
        drop(client);
        await_until("the call is given up", || {
            (service.held() == 0).then_some(())
        });
    }
    await_until("no connection is open but the one that asks", || {
        let metrics = gateway.metrics();
        metrics
            .contains("\npingress_connections_open 0\n")
            .then_some(())
    });
    assert_eq!(origin.count(), served);
    let line = gateway.await_log("\"POST / HTTP/1.1\" 0 DC ");
    assert!(line.contains("downstream"), "{line}");
    assert_eq!(counted(&gateway, "denied"), 0);
    // The connection to the service is the same, and goes on.
    service.be(Mood::Counts);
    assert_eq!(statuses(&gateway, &["/"]), [200]);
    assert_eq!(service.connections(), 1);
}

fn own_limit(global: &str, rest: &str) -> String {
    format!(
        "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {{name: limit}}\nspec:\n  targetRef: {{kind: VirtualService, name: shop}}\n  global: {{{global}}}\n{rest}"
    )
}

#[test]
fn a_rate_limit_of_our_own_is_counted_by_a_service_under_documented_names() {
    let origin = Origin::echo("shop");
    let service = RateLimitService::start(&[(None, 1)]);
    let global = format!(
        "service: 'localhost:{}', domain: shop, timeout: 10s, onError: deny",
        service.port
    );
    let limits = "  limits:\n  - key: [{header: X-Key}, {cookie: id}, {query: q}, {path: '/users/{id}/*'}]\n  - {requests: 2, unit: day, key: [{clientAddress: {ipv4PrefixLength: 24}}]}\n  - {requests: 100, unit: minute}\n";
    let gateway = start(&origin, own_limit(&global, limits)).ready();
    // Its name is not known at once.
    let first = gateway.await_status(HOST, "/", 200);
    assert_eq!(
        first.header("ratelimit-policy"),
        Some("\"limit\";q=2;w=86400")
    );
    assert_eq!(first.header("ratelimit"), Some("\"limit\";r=1;t=1234"));
    let mut client = gateway.client();
    let headers = ["X-Key: k", "Cookie: a=b; id=7"];
    assert_eq!(client.get(HOST, "/users/9/cart?q=x", &headers).status, 200);
    let refused = client.get(HOST, "/users/9/cart?q=x", &headers);
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("1234"));
    assert_eq!(refused.header("x-envoy-ratelimited"), Some("true"));
    let rest = "remote_address=127.0.0.0/24 (2 per 4) generic_key=limit (100 per 2)";
    assert_eq!(
        service.asked(),
        [
            format!("shop {rest}"),
            format!("shop header.x-key=k,cookie.id=7,query.q=x,path=/users/9/* {rest}"),
            format!("shop header.x-key=k,cookie.id=7,query.q=x,path=/users/9/* {rest}"),
        ]
    );
    let text = explained(&gateway);
    let expected = format!(
        "passes RateLimit default/limit (before the router; outbound|{}||localhost asked within 10s for domain shop, 500 if it cannot be asked, refused with 429, x-envoy-ratelimited said, retry-after said, ratelimit said) at ",
        service.port
    );
    assert!(text.contains(&expected), "{text}");
    // Who only observes refuses nothing and tells nobody.
    gateway.write(
        "limit.yaml",
        &own_limit(&global, &format!("{limits}  mode: observe\n")),
    );
    await_until("the limit only observes", || {
        let answer = gateway.get(HOST, "/");
        (answer.status == 200 && answer.header("ratelimit").is_none()).then_some(())
    });
    await_until("what is over the limit is counted", || {
        let metrics = gateway.metrics();
        let counted = metrics
            .lines()
            .find(|line| line.contains("result=\"observed\""))?;
        (!counted.ends_with(" 0")).then_some(())
    });
}

#[test]
fn a_service_that_rules_could_route_to_is_asked_with_its_own_endpoints() {
    let origin = Origin::echo("shop");
    let service = RateLimitService::start(&[(None, 1)]);
    let entry = service_yaml("ratelimit.internal", &[(service.port, "v1")]);
    let global = "service: 'ratelimit.internal:80', domain: shop, timeout: 10s, onError: deny";
    let objects = own_limit(global, "  limits: [{}]\n");
    let mut start = start(&origin, objects);
    start.files.push(("ratelimit.yaml".into(), entry));
    let gateway = start.ready();
    assert_eq!(statuses(&gateway, &["/", "/"]), [200, 429]);
    assert_eq!(service.asked(), ["shop generic_key=limit"; 2]);
    let cluster = "outbound|80||ratelimit.internal";
    assert!(gateway.admin("/clusters").body.contains(cluster));
}
