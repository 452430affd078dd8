//! Endpoints that are ill get no traffic until they are well: outlier detection and probes.

use super::harness::*;

/// Endpoints of one service behind a gateway, with policies for it.
fn behind(origins: &[&Origin], policies: &str) -> Gateway {
    let endpoints: Vec<(u16, &str)> = origins.iter().map(|origin| (origin.port, "v1")).collect();
    Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("service.yaml", service_yaml("one.internal", &endpoints)),
        ("routes.yaml", routes()),
        ("policies.yaml", policies.to_owned()),
    ])
    .ready()
}

/// Without retries, so that each answer is that of one endpoint.
fn routes() -> String {
    let http = everything_to("one.internal") + "      retries: {attempts: 0}\n";
    routes_yaml("one", &["a.example.com"], &http)
}

fn outliers(fields: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: one\nspec:\n  host: one.internal\n  trafficPolicy:\n    outlierDetection: {{{fields}}}\n"
    )
}

fn gauge(gateway: &Gateway, name: &str) -> Option<u64> {
    let wanted = format!("{name}{{cluster=\"outbound|80||one.internal\"}} ");
    let metrics = gateway.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&wanted));
    line.and_then(|value| value.parse().ok())
}

fn await_gauge(gateway: &Gateway, name: &str, value: u64) {
    await_until(&format!("{name} is {value}"), || {
        (gauge(gateway, name) == Some(value)).then_some(())
    });
}

#[test]
fn a_failing_endpoint_among_ten_is_ejected_after_five_errors_and_returns_after_its_time() {
    let origins: Vec<Origin> = (0..10).map(|n| Origin::echo(&format!("o{n}"))).collect();
    let ill = &origins[3];
    ill.answer(500);
    let gateway = behind(
        &origins.iter().collect::<Vec<_>>(),
        &outliers("interval: 0.1s, baseEjectionTime: 4s"),
    );
    let mut client = gateway.client();
    let mut get = || client.get("a.example.com", "/", &[]).status;
    let mut failed = 0;
    for _ in 0..5_000 {
        failed += usize::from(get() == 500);
        if ill.count() == 5 {
            break;
        }
    }
    assert_eq!((failed, ill.count()), (5, 5));
    assert!((0..50).all(|_| get() == 200));
    assert_eq!(ill.count(), 5, "it gets nothing more");
    assert_eq!(gauge(&gateway, "pingress_upstream_ejected"), Some(1));
    let line = gateway.await_stderr("is ejected (consecutive_5xx)");
    assert!(line.contains(&format!("127.0.0.1:{}", ill.port)), "{line}");
    let clusters = gateway.admin("/clusters").body;
    let shown = clusters
        .lines()
        .find(|line| line.contains(&format!("127.0.0.1:{} ", ill.port)));
    let shown = shown.unwrap_or_else(|| panic!("{clusters}"));
    assert!(
        shown.contains("ejected because of consecutive_5xx until 2"),
        "{shown}"
    );
    ill.answer(200);
    await_gauge(&gateway, "pingress_upstream_ejected", 0);
    await_until("it takes traffic again", || {
        assert_eq!(get(), 200);
        (ill.count() > 5).then_some(())
    });
    gateway.await_stderr("takes traffic again");
}

#[test]
fn gotcha_33_nine_endpoints_with_the_default_percentage_never_eject_one() {
    let origins: Vec<Origin> = (0..9).map(|n| Origin::echo(&format!("o{n}"))).collect();
    let ill = &origins[3];
    ill.answer(500);
    let gateway = behind(&origins.iter().collect::<Vec<_>>(), &outliers(""));
    let mut client = gateway.client();
    await_until("it failed in four bouts", || {
        client.get("a.example.com", "/", &[]);
        (ill.count() >= 20).then_some(())
    });
    assert_eq!(gauge(&gateway, "pingress_upstream_ejected"), Some(0));
    let overflow = gauge(&gateway, "pingress_upstream_ejections_overflow_total");
    assert_eq!(overflow, Some(4));
}

#[test]
fn gotcha_34_all_ejected_is_503_uh_and_a_swap_forgets_nothing() {
    let ill = Origin::echo("ill");
    ill.answer(502);
    let gateway = behind(
        &[&ill],
        &outliers("consecutiveGatewayErrors: 3, baseEjectionTime: 1h, maxEjectionPercent: 100"),
    );
    for _ in 0..3 {
        assert_eq!(gateway.get("a.example.com", "/ill").status, 502);
    }
    let refused = |path: &str| {
        let response = gateway.get("a.example.com", path);
        assert_eq!(
            (response.status, response.body.as_str()),
            (503, "no healthy upstream")
        );
    };
    refused("/uh");
    gateway.await_log(" 503 UH no_healthy_upstream ");
    gateway.write(
        "routes.yaml",
        &(routes() + "      headers: {response: {set: {x-plan: two}}}\n"),
    );
    await_until("the swap", || {
        let response = gateway.get("a.example.com", "/swapped");
        assert_eq!(response.status, 503);
        gateway
            .metrics()
            .contains("pingress_plan_swaps_total 2")
            .then_some(())
    });
    refused("/still");
    assert_eq!(ill.count(), 3);
    let metrics = gateway.metrics();
    assert!(
        metrics.contains("reason=\"consecutive_gateway_failure\"} 1\n"),
        "{metrics}"
    );
    // Without the rule there is no ejection either.
    std::fs::remove_file(gateway.manifests.join("policies.yaml")).unwrap();
    gateway.await_status("a.example.com", "/back", 502);
}

#[test]
fn refused_connections_eject_an_endpoint_too() {
    let well = Origin::echo("well");
    let mut gone = Origin::echo("gone");
    gone.port = free_port();
    let gateway = behind(
        &[&well, &gone],
        &outliers("baseEjectionTime: 1h, maxEjectionPercent: 50"),
    );
    let mut failed = 0;
    await_until("it is ejected", || {
        let status = gateway.get("a.example.com", "/").status;
        failed += usize::from(status == 503);
        (gauge(&gateway, "pingress_upstream_ejected") == Some(1)).then_some(())
    });
    assert_eq!(failed, 5);
    assert!((0..20).all(|_| gateway.get("a.example.com", "/").status == 200));
}

#[test]
fn an_endpoint_that_fails_its_probe_gets_nothing_until_it_passes_again() {
    let (well, ill) = (Origin::echo("well"), Origin::echo("ill"));
    ill.answer(500);
    let policy = "apiVersion: gateway.pingress.io/v1alpha1\nkind: HealthCheckPolicy\nmetadata:\n  name: one\nspec:\n  targetRef: {kind: Host, name: one.internal}\n  interval: 0.1s\n  timeout: 5s\n  unhealthyThreshold: 2\n  http: {path: /healthz, host: probe.internal}\n";
    let gateway = behind(&[&well, &ill], policy);
    await_gauge(&gateway, "pingress_upstream_failing", 1);
    let from = || {
        let response = gateway.get("a.example.com", "/");
        assert_eq!(response.status, 200);
        response.header("x-origin").unwrap().to_owned()
    };
    assert!((0..30).all(|_| from() == "well"));
    let clusters = gateway.admin("/clusters").body;
    for text in [
        "probe: http probe.internal/healthz every 100ms",
        "from HealthCheckPolicy default/one at ",
        "failing its probe: answered 500",
    ] {
        assert!(clusters.contains(text), "{text} in {clusters}");
    }
    let explained = gateway.admin("/explain?url=http://a.example.com/").body;
    assert!(explained.contains("failing its probe"), "{explained}");
    assert!(ill.last_head().starts_with("GET /healthz HTTP/1.1\r\n"));
    ill.answer(200);
    await_until("it takes traffic again", || (from() == "ill").then_some(()));
    await_gauge(&gateway, "pingress_upstream_failing", 0);
}
