//! Requests go where the manifests say.

use super::harness::*;

fn shop(origins: &[&Origin], http: &str) -> Gateway {
    let endpoints: Vec<(u16, String)> = origins
        .iter()
        .enumerate()
        .map(|(i, origin)| (origin.port, format!("v{}", i + 1)))
        .collect();
    let endpoints: Vec<(u16, &str)> = endpoints
        .iter()
        .map(|(port, version)| (*port, version.as_str()))
        .collect();
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: shop\nspec:\n  host: shop.internal\n  subsets:\n    - {name: v1, labels: {version: v1}}\n    - {name: v2, labels: {version: v2}}\n";
    Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("service.yaml", service_yaml("shop.internal", &endpoints)),
        ("rule.yaml", rule.to_owned()),
        (
            "routes.yaml",
            routes_yaml("shop", &["shop.example.com"], http),
        ),
    ])
    .ready()
}

#[test]
fn a_request_reaches_the_origin_its_rule_names() {
    let origin = Origin::echo("shop");
    let gateway = shop(&[&origin], &everything_to("shop.internal"));
    let response = gateway.get("shop.example.com", "/cart?x=1");
    assert_eq!(response.status, 200);
    assert!(
        response
            .body
            .starts_with("shop\nGET /cart?x=1 HTTP/1.1\r\n"),
        "{}",
        response.body
    );
    assert_eq!(gateway.get("other.example.com", "/").status, 404);
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_host_is_matched_without_case_and_port() {
    let origin = Origin::echo("shop");
    let gateway = shop(&[&origin], &everything_to("shop.internal"));
    assert_eq!(gateway.get("SHOP.example.com:8080", "/").status, 200);
    assert_eq!(gateway.get("shop.example.com.", "/").status, 404);
}

#[test]
fn weights_split_requests_in_proportion() {
    let (one, two) = (Origin::echo("one"), Origin::echo("two"));
    let gateway = shop(
        &[&one, &two],
        "    - route:\n        - destination: {host: shop.internal, subset: v1}\n          weight: 3\n        - destination: {host: shop.internal, subset: v2}\n          weight: 1\n",
    );
    let mut client = gateway.client();
    for _ in 0..800 {
        assert_eq!(client.get("shop.example.com", "/", &[]).status, 200);
    }
    // 800 draws at 3/4: six standard deviations are 74 either way.
    assert!((526..=674).contains(&one.count()), "{} of 800", one.count());
    assert_eq!(one.count() + two.count(), 800);
}

#[test]
fn round_robin_spreads_over_all_endpoints_evenly() {
    let (one, two) = (Origin::echo("one"), Origin::echo("two"));
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("service.yaml", service_yaml("shop.internal", &[(one.port, "v1"), (two.port, "v1")])),
        (
            "rule.yaml",
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: shop\nspec:\n  host: shop.internal\n  trafficPolicy:\n    loadBalancer: {simple: ROUND_ROBIN}\n".to_owned(),
        ),
        ("routes.yaml", routes_yaml("shop", &["*"], &everything_to("shop.internal"))),
    ])
    .ready();
    let mut client = gateway.client();
    for _ in 0..100 {
        assert_eq!(client.get("a.example.com", "/", &[]).status, 200);
    }
    assert_eq!((one.count(), two.count()), (50, 50));
}

#[test]
fn rewrite_redirect_and_direct_response_do_what_they_say() {
    let origin = Origin::echo("shop");
    let gateway = shop(
        &[&origin],
        "    - match: [{uri: {prefix: /api/}}]\n      rewrite: {uri: /, authority: inner.example.com}\n      route:\n        - destination: {host: shop.internal}\n    - match: [{uri: {exact: /old}}]\n      redirect: {uri: /new, redirectCode: 302}\n    - match: [{uri: {exact: /hello}}]\n      directResponse: {status: 418, body: {string: short and stout}}\n",
    );
    let response = gateway.get("shop.example.com", "/api/items?q=1");
    assert!(
        response.body.contains("GET /items?q=1 HTTP/1.1\r\n"),
        "{}",
        response.body
    );
    let head = origin.last_head().to_ascii_lowercase();
    assert!(head.contains("host: inner.example.com\r\n"), "{head}");
    assert!(
        head.contains("x-envoy-original-path: /api/items?q=1\r\n"),
        "{head}"
    );
    let response = gateway.get("shop.example.com", "/old?a=b");
    assert_eq!(response.status, 302);
    assert_eq!(
        response.header("location"),
        Some("http://shop.example.com/new?a=b")
    );
    let response = gateway.get("shop.example.com", "/hello");
    assert_eq!(
        (response.status, response.body.as_str()),
        (418, "short and stout")
    );
    assert_eq!(response.header("content-type"), Some("text/plain"));
    assert_eq!(gateway.get("shop.example.com", "/else").status, 404);
}

#[test]
fn header_edits_reach_origin_and_client_in_istios_order() {
    let origin = Origin::echo("shop");
    let gateway = shop(
        &[&origin],
        "    - headers:\n        request: {set: {x-level: route}, remove: [x-secret]}\n        response: {add: {x-from: route}}\n      route:\n        - destination: {host: shop.internal}\n          headers:\n            request: {set: {x-level: destination}}\n            response: {remove: [x-origin]}\n",
    );
    let response =
        gateway
            .client()
            .get("shop.example.com", "/", &["X-Secret: 1", "X-Level: client"]);
    let head = origin.last_head().to_ascii_lowercase();
    assert!(
        head.contains("x-level: destination\r\n") && !head.contains("x-secret"),
        "{head}"
    );
    assert_eq!(response.header("x-from"), Some("route"));
    assert_eq!(response.header("x-origin"), None);
}

#[test]
fn https_redirect_answers_for_hosts_without_a_virtual_service() {
    let yaml = gateway_yaml(&["*"]) + "      tls:\n        httpsRedirect: true\n";
    let gateway = Start::with(&[("gateway.yaml", yaml)]).ready();
    let response = gateway.get("any.example.com:8080", "/a?b=c");
    assert_eq!(response.status, 301);
    assert_eq!(
        response.header("location"),
        Some("https://any.example.com:8080/a?b=c")
    );
}

#[test]
fn a_fenced_rule_answers_503_and_its_neighbours_serve() {
    let origin = Origin::echo("shop");
    let gateway = shop(
        &[&origin],
        "    - match: [{uri: {regex: \"[\"}}]\n      route:\n        - destination: {host: shop.internal}\n    - match: [{uri: {prefix: /good}}]\n      route:\n        - destination: {host: shop.internal}\n",
    );
    // The broken condition counts as matching: nothing falls through it to a broader rule.
    assert_eq!(gateway.get("shop.example.com", "/good").status, 503);
    assert_eq!(origin.count(), 0);
    gateway.write(
        "routes.yaml",
        &routes_yaml(
            "shop",
            &["shop.example.com"],
            "    - match: [{uri: {prefix: /good}}]\n      route:\n        - destination: {host: shop.internal}\n    - match: [{uri: {prefix: /bad}}]\n      timeout: soon\n      route:\n        - destination: {host: shop.internal}\n",
        ),
    );
    gateway.await_status("shop.example.com", "/good", 200);
    assert_eq!(gateway.get("shop.example.com", "/bad").status, 503);
}
