//! What an operator sees: access log, metrics, readiness and the admin endpoint.

use super::harness::*;

fn gateway() -> (Gateway, Origin) {
    let origin = Origin::echo("one");
    let gateway = Start::one_service_by(
        "one",
        "a.example.com",
        origin.port,
        "    - name: main\n      route:\n        - destination: {host: one.internal}\n",
    )
    .ready();
    (gateway, origin)
}

#[test]
fn the_access_log_is_istios_default_format() {
    let (gateway, origin) = gateway();
    gateway
        .client()
        .get("a.example.com", "/log?x=1", &["User-Agent: test/1"]);
    let line = gateway.await_log("/log");
    let parts: Vec<&str> = line.split('"').collect();
    assert!(
        parts[0].starts_with('[') && parts[0].ends_with("Z] "),
        "{line}"
    );
    assert_eq!(parts[1], "GET /log?x=1 HTTP/1.1");
    assert_eq!(parts[2], " 200 - via_upstream - ");
    assert_eq!(parts[3], "-");
    assert_eq!(parts[5], "127.0.0.1");
    assert_eq!(parts[7], "test/1");
    assert_eq!(parts[11], "a.example.com");
    assert_eq!(parts[13], format!("127.0.0.1:{}", origin.port));
    assert!(
        parts[14].starts_with(" outbound|80||one.internal 127.0.0.1:"),
        "{line}"
    );
    assert!(parts[14].ends_with(" - main"), "{line}");
}

#[test]
fn the_request_metrics_have_istios_names_and_labels() {
    let (gateway, _origin) = gateway();
    gateway.get("a.example.com", "/");
    gateway.get("unknown.example.com", "/");
    let metrics = await_until("the requests are counted", || {
        let metrics = gateway.metrics();
        metrics.contains("response_code=\"404\"").then_some(metrics)
    });
    let line = metrics
        .lines()
        .find(|line| {
            line.starts_with("istio_requests_total") && line.contains("response_code=\"200\"")
        })
        .unwrap_or_else(|| panic!("{metrics}"));
    for label in [
        "reporter=\"source\"",
        "source_workload=\"istio-ingressgateway\"",
        "destination_service=\"one.internal\"",
        "request_protocol=\"http\"",
        "response_flags=\"-\"",
    ] {
        assert!(line.contains(label), "{label} in {line}");
    }
    assert!(metrics.contains("istio_request_duration_milliseconds_bucket"));
    let unrouted = metrics
        .lines()
        .find(|line| {
            line.starts_with("istio_requests_total") && line.contains("response_code=\"404\"")
        })
        .unwrap();
    assert!(
        unrouted.contains("destination_service=\"unknown\"")
            && unrouted.contains("response_flags=\"NR\""),
        "{unrouted}"
    );
}

#[test]
fn the_admin_endpoint_shows_findings_routes_endpoints_and_explains() {
    let (gateway, origin) = gateway();
    for (path, text) in [
        ("/findings", "".to_owned()),
        ("/routes", "a.example.com".to_owned()),
        ("/endpoints", format!("127.0.0.1:{}", origin.port)),
        (
            "/explain?url=http://a.example.com/x",
            "routes.yaml:".to_owned(),
        ),
    ] {
        let response = gateway.admin(path);
        assert_eq!(response.status, 200, "{path}");
        assert!(response.body.contains(&text), "{path}: {}", response.body);
    }
}

#[test]
fn the_admin_endpoint_refuses_foreign_hosts_and_cross_site_requests() {
    let (gateway, _origin) = gateway();
    let ask = |host: &str, header: &str| {
        let mut client = Client::connect(gateway.admin_addr());
        client.write(
            format!("GET /routes HTTP/1.1\r\nHost: {host}\r\n{header}Connection: close\r\n\r\n")
                .as_bytes(),
        );
        client.read().unwrap().status
    };
    assert_eq!(ask("localhost:15000", ""), 200);
    assert_eq!(ask("[::1]:15000", ""), 200);
    assert_eq!(ask("evil.example.com", ""), 403);
    assert_eq!(ask("localhost", "Sec-Fetch-Site: cross-site\r\n"), 403);
    assert_eq!(
        ask("localhost", "Origin: https://evil.example.com\r\n"),
        403
    );
}

#[test]
fn explain_of_the_running_gateway_and_of_the_files_agree() {
    let (gateway, _origin) = gateway();
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pingress"))
            .arg("explain")
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let url = "http://a.example.com/x";
    let live = run(&["--admin", &gateway.admin_addr().to_string(), url]);
    let offline = run(&[gateway.manifests.to_str().unwrap(), url]);
    for text in ["routes.yaml:", "one.internal", "main"] {
        assert!(live.contains(text), "{text} in {live}");
        assert!(offline.contains(text), "{text} in {offline}");
    }
}
