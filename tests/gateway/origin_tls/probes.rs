//! Health checks of endpoints behind TLS.

use super::*;

fn policy(name: &str, check: &str) -> String {
    format!(
        "apiVersion: gateway.pingress.io/v1alpha1\nkind: HealthCheckPolicy\nmetadata: {{name: {name}}}\nspec:\n  targetRef: {{kind: Host, name: {name}.internal}}\n  interval: 50ms\n  timeout: 5s\n  unhealthyThreshold: 1\n  {check}\n"
    )
}

#[test]
fn probes_pass_only_where_requests_would_be_sent() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let own = root.issue(&["gateway.one"]);
    let names = [
        "tcp-right.internal",
        "grpc-right.internal",
        "probe.example.com",
    ];
    let mut shows = Shows::of(&root.issue(&names));
    shows.clients = Some(root.pem.clone());
    let right = TlsOrigin::start(shows);
    let names = [
        "tcp-wrong.internal",
        "grpc-wrong.internal",
        "probe.example.com",
    ];
    let wrong = TlsOrigin::start(Shows::of(&other.issue(&names)));
    let named = TlsOrigin::start(Shows::of(&root.issue(&["other.name"])));
    let tls = "tls: {mode: MUTUAL, credentialName: own}";
    let checks = [
        ("tcp", "tcp: {}", "HTTP"),
        ("http", "http: {host: 'probe.example.com:443'}", "HTTP"),
        ("http2", "http: {host: probe.example.com}", "HTTP2"),
        ("grpc", "grpc: {}", "GRPC"),
    ];
    let mut names = Vec::new();
    for (check, block, protocol) in checks {
        for (kind, origin) in [("right", &right), ("wrong", &wrong), ("named", &named)] {
            names.push((format!("{check}-{kind}"), origin.port, block, protocol));
        }
    }
    let to: Vec<To<'_>> = names
        .iter()
        .map(|(name, port, _, protocol)| To::new(name, *port, tls).over(protocol))
        .collect();
    let policies: Vec<String> = names
        .iter()
        .map(|(name, _, block, _)| policy(name, block))
        .collect();
    let secret = secret_yaml("own", Some(&own), &[("ca.crt", &root.pem)]);
    let mut start = prepare(&to, &[secret]);
    start
        .files
        .push(("checks.yaml".to_owned(), policies.join("---\n")));
    let gateway = start.ready();
    for (name, ..) in names.iter().filter(|(name, ..)| !name.ends_with("right")) {
        await_until(&format!("{name} is out of traffic"), || {
            let answer = get(&gateway, name);
            answer.body.contains("no healthy upstream").then_some(())
        });
    }
    for (name, protocol) in [
        ("tcp-right.internal", None),
        ("probe.example.com", Some("http/1.1")),
        ("probe.example.com", Some("h2")),
        ("grpc-right.internal", Some("h2")),
    ] {
        await_until(&format!("a probe of {name} over {protocol:?}"), || {
            let seen = right.seen();
            seen.iter()
                .any(|seen| {
                    seen.server_name.as_deref() == Some(name)
                        && seen.protocol.as_deref() == protocol
                })
                .then_some(())
        });
    }
    assert!(
        right
            .seen()
            .iter()
            .all(|seen| seen.client.as_deref() == Some("gateway.one"))
    );
    // The right ones take traffic, and nothing was ever sent to the others.
    for (check, ..) in checks {
        let path = format!("/{check}-right");
        let answer = gateway.client().get("probe.example.com", &path, &[]);
        assert_eq!(answer.status, 200, "{check}: {}", answer.body);
    }
    assert_eq!((wrong.requests(), named.requests()), (0, 0));
}
