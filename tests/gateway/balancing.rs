//! Which endpoint gets a request, through the real binary: load and nearness.

use super::harness::*;

/// Endpoints of one service, each with more fields of its own, indented by six.
fn endpoints(endpoints: &[(&Origin, &str)]) -> String {
    let mut text = service_yaml("one.internal", &[]);
    for (origin, fields) in endpoints {
        text.push_str(&format!(
            "    - address: 127.0.0.1\n      ports:\n        http: {}\n{fields}",
            origin.port
        ));
    }
    text
}

fn at(locality: &str) -> String {
    format!("      locality: {locality}\n")
}

/// `policy` is the content of the DestinationRule's `trafficPolicy`. Nothing is retried, so that
/// each answer is that of one endpoint.
fn start(service: String, policy: &str) -> Start {
    let http = everything_to("one.internal") + "      retries: {attempts: 0}\n";
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: one\nspec:\n  host: one.internal\n  trafficPolicy: {{{policy}}}\n"
    );
    Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("service.yaml", service),
        ("routes.yaml", routes_yaml("one", &["*"], &http)),
        ("rule.yaml", rule),
    ])
}

/// Sends `count` requests, one after the other.
fn send(gateway: &Gateway, count: usize) {
    let mut client = gateway.client();
    for _ in 0..count {
        assert_eq!(client.get("a.example.com", "/", &[]).status, 200);
    }
}

#[test]
fn an_endpoint_that_does_not_answer_keeps_one_request_and_the_others_get_the_rest() {
    let slow = Origin::start("slow", Behaviour::Hold);
    let quick = [Origin::echo("one"), Origin::echo("two")];
    let service = endpoints(&[(&slow, ""), (&quick[0], ""), (&quick[1], "")]);
    let gateway = start(service, "loadBalancer: {simple: LEAST_REQUEST}").ready();
    // Someone meets the slow one; its request stays in flight. One connection asks, so that nothing
    // else is in flight then: quick ones at work are no better than the slow one.
    let mut client = gateway.client();
    let mut sent = 0;
    await_until("the slow endpoint has a request", || {
        client.write(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
        sent += 1;
        let all = || slow.count() + quick[0].count() + quick[1].count();
        await_until("an endpoint has it", || (all() == sent).then_some(()));
        let is_slow = slow.count() > 0;
        if !is_slow {
            client.read().expect("an answer");
        }
        is_slow.then_some(())
    });

    // With turns instead of loads a third of these would wait for ever.
    send(&gateway, 300);

    assert_eq!(slow.count(), 1);
    for origin in &quick {
        assert!((90..=210).contains(&origin.count()), "{}", origin.count());
    }
    slow.release();
}

#[test]
fn the_nearest_locality_has_all_requests_until_it_fails_and_again_when_it_is_well() {
    let origins = ["near", "zone", "far"].map(Origin::echo);
    let [near, zone, far] = &origins;
    let service = endpoints(&[
        (far, &at("us-east/a/1")),
        (zone, &at("eu-west/b/1")),
        (near, &at("eu-west/a/1")),
    ]);
    let gateway = start(
        service,
        "outlierDetection: {consecutive5xxErrors: 1, interval: 0.1s, baseEjectionTime: 2s, maxEjectionPercent: 100}",
    )
    .settings("  locality: eu-west/a/1\n")
    .ready();
    let counts = || origins.each_ref().map(Origin::count);

    send(&gateway, 60);
    assert_eq!(counts(), [60, 0, 0]);

    near.answer(500);
    assert_eq!(gateway.get("a.example.com", "/").status, 500);
    send(&gateway, 20);
    assert_eq!(counts(), [61, 20, 0], "the next zone, not the next region");

    zone.answer(500);
    let before = far.count();
    await_until("the far region answers", || {
        gateway.get("a.example.com", "/");
        (far.count() > before).then_some(())
    });

    near.answer(200);
    let before = near.count();
    await_until("the nearest is back", || {
        gateway.get("a.example.com", "/");
        (near.count() > before).then_some(())
    });
}

#[test]
fn localities_get_the_shares_that_distribute_names() {
    let origins = ["near", "far", "left out"].map(Origin::echo);
    let [near, far, left_out] = &origins;
    let service = endpoints(&[
        (near, &at("eu-west/a/1")),
        (far, &at("us-east/a/1")),
        (left_out, &at("us-west/a/1")),
    ]);
    let policy = "loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: true, distribute: [{from: eu-west/*, to: {eu-west/*: 80, us-east/*: 20}}]}}, outlierDetection: {}";
    let gateway = start(service, policy)
        .settings("  locality: eu-west/a/1\n")
        .ready();

    send(&gateway, 1000);

    // Six standard deviations of a fair draw.
    assert!((124..=276).contains(&far.count()), "{}", far.count());
    assert_eq!((near.count() + far.count(), left_out.count()), (1000, 0));
}
