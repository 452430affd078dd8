//! What origins see of the gateway: its certificate, the name it asks for, the protocol, and whose
//! client it speaks for.

use super::*;

fn files(issued: &Issued, folder: &std::path::Path) -> (String, String) {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    (
        write("own.crt", &issued.certificate),
        write("own.key", &issued.key),
    )
}

#[test]
fn an_origin_that_asks_sees_the_client_certificate_of_the_rule() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let own = root.issue(&["gateway.one"]);
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = files(&own, folder.path());
    let mut shows = Shows::of(&root.issue(&[HOST]));
    shows.clients = Some(root.pem.clone());
    let origin = TlsOrigin::start(shows.clone());
    shows.clients = Some(other.pem.clone());
    let strict = TlsOrigin::start(shows);
    let roots = folder.path().join("root.pem");
    std::fs::write(&roots, &root.pem).unwrap();
    let by_files = format!(
        "tls: {{mode: MUTUAL, clientCertificate: '{certificate}', privateKey: '{key}', caCertificates: '{}'}}",
        roots.display()
    );
    let mesh = "tls: {mode: ISTIO_MUTUAL, subjectAltNames: [api.example.com]}";
    let gateway = prepare(
        &[
            To::new("files", origin.port, &by_files),
            To::new("secret", origin.port, "tls: {mode: MUTUAL, credentialName: own}").over("HTTP2"),
            To::new("generic", origin.port, "tls: {mode: MUTUAL, credentialName: generic}"),
            To::new("mesh", origin.port, mesh),
            To::new("none", origin.port, "tls: {mode: SIMPLE, credentialName: ca}"),
            To::new("wrong", strict.port, "tls: {mode: MUTUAL, credentialName: own}"),
        ],
        &[
            ca(&root),
            secret_yaml("own", Some(&own), &[("ca.crt", &root.pem)]),
            secret_yaml(
                "generic",
                None,
                &[("cert", &own.certificate), ("key", &own.key)],
            ),
            secret_yaml("generic-cacert", None, &[("cacert", &root.pem)]),
        ],
    )
    .settings(&format!(
        "  workloadCertificates: {{certificate: '{certificate}', privateKey: '{key}', caCertificates: '{}'}}\n",
        roots.display()
    ))
    .ready();
    for name in ["files", "secret", "generic", "mesh"] {
        let answer = get(&gateway, name);
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.client.as_deref(), Some("gateway.one"), "{name}");
        let (server_name, protocol) = match name {
            "secret" => (HOST, "h2"),
            "mesh" => ("outbound_.443_._.mesh.internal", "http/1.1"),
            _ => (HOST, "http/1.1"),
        };
        assert_eq!(seen.server_name.as_deref(), Some(server_name), "{name}");
        assert_eq!(seen.protocol.as_deref(), Some(protocol), "{name}");
    }
    let before = origin.requests();
    for name in ["none", "wrong"] {
        let answer = get(&gateway, name);
        assert_eq!(answer.status, 503, "{name}: {}", answer.body);
    }
    assert_eq!((origin.requests(), strict.requests()), (before, 0));
}

#[test]
fn missing_material_fences_its_destination_and_neighbours_serve() {
    let root = Authority::new("root");
    let origin = TlsOrigin::start(Shows::of(&root.issue(&[HOST])));
    let plain = Origin::echo("plain");
    let right = "tls: {mode: SIMPLE, credentialName: ca}";
    let missing = [
        (
            "secret",
            "tls: {mode: SIMPLE, credentialName: nowhere}",
            "no Secret `nowhere-cacert` or `nowhere` in the namespace `istio-system` holds a CA",
        ),
        (
            "pair",
            "tls: {mode: MUTUAL, credentialName: ca}",
            "Secret istio-system/ca cannot be used: it holds no certificate",
        ),
        (
            "file",
            "tls: {mode: SIMPLE, caCertificates: /nowhere/ca.pem}",
            "`/nowhere/ca.pem`, named as `caCertificates`, cannot be read",
        ),
        (
            "mesh",
            "tls: {mode: ISTIO_MUTUAL}",
            "the mesh's certificates (gateway.workloadCertificates) cannot be used",
        ),
    ];
    let mut to = vec![
        To::new("right", origin.port, right),
        To::new("plain", plain.port, "tls: {mode: DISABLE}"),
    ];
    to.extend(missing.map(|(name, policy, _)| To::new(name, origin.port, policy)));
    let gateway = start(&to, &[ca(&root)]);
    for (name, _, said) in missing {
        let answer = get(&gateway, name);
        assert_eq!(answer.status, 503, "{name}");
        assert!(answer.body.contains("fenced"), "{name}: {}", answer.body);
        await_until(said, || {
            let findings = gateway.admin("/findings").body;
            findings.contains(said).then_some(())
        });
    }
    assert_eq!(get(&gateway, "right").status, 200);
    assert_eq!(get(&gateway, "plain").status, 200);
    assert_eq!(origin.requests(), 1);
    // The Secret comes: traffic flows.
    gateway.write(
        "more.yaml",
        &secret_yaml("nowhere", None, &[("ca.crt", &root.pem)]),
    );
    await_until("the destination serves", || {
        (get(&gateway, "secret").status == 200).then_some(())
    });
}

#[test]
fn names_of_a_service_entry_are_demanded_beside_the_host_unless_the_rule_has_its_own() {
    let root = Authority::new("root");
    let origin = TlsOrigin::start(Shows::of(&root.issue(&[HOST, "spiffe://td/a"])));
    let other = TlsOrigin::start(Shows::of(&root.issue(&[HOST])));
    let policy = "tls: {mode: SIMPLE, credentialName: ca}";
    let own = "tls: {mode: SIMPLE, credentialName: ca, subjectAltNames: [api.example.com]}";
    let names = "  subjectAltNames: ['spiffe://td/a']\n";
    let to = |name, port, policy| To {
        more: names,
        ..To::new(name, port, policy)
    };
    let all = [
        to("both", origin.port, policy),
        to("one", other.port, policy),
        to("own", other.port, own),
    ];
    let gateway = start(&all, &[ca(&root)]);
    assert_eq!(get(&gateway, "both").status, 200);
    let answer = get(&gateway, "one");
    assert!(answer.body.contains("SAN matcher"), "{}", answer.body);
    assert_eq!(get(&gateway, "own").status, 200);
    // The host itself is demanded as well.
    let answer = gateway.client().get("b.example.com", "/both", &[]);
    assert_eq!(answer.status, 503, "{}", answer.body);
}

#[test]
fn websockets_run_over_tls() {
    let root = Authority::new("root");
    let origin = TlsOrigin::start(Shows::of(&root.issue(&[HOST])));
    let wrong = TlsOrigin::start(Shows::of(&root.issue(&["b.example.com"])));
    let policy = "tls: {mode: SIMPLE, credentialName: ca}";
    let named = "tls: {mode: SIMPLE, credentialName: ca, subjectAltNames: [api.example.com]}";
    let to = [
        To::new("h1", origin.port, policy),
        To::new("h2", origin.port, policy).over("HTTP2"),
        To::new("wrong", wrong.port, policy),
        To::new("named", wrong.port, named),
    ];
    let gateway = start(&to, &[ca(&root)]);
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    for name in ["h1", "h2"] {
        let mut client = gateway.client();
        let answer = client.get(HOST, &format!("/{name}"), &upgrade);
        assert_eq!(answer.status, 101, "{name}: {}", answer.body);
        assert_eq!(
            origin.seen().pop().unwrap().protocol.as_deref(),
            Some("http/1.1")
        );
        for _ in 0..3 {
            client.write(b"hello");
            assert_eq!(client.read_exactly(5), "hello");
        }
    }
    for name in ["wrong", "named"] {
        let answer = gateway.client().get(HOST, &format!("/{name}"), &upgrade);
        assert_eq!(answer.status, 503, "{name}");
        assert!(
            answer.body.contains("CERTIFICATE_VERIFY_FAILED"),
            "{}",
            answer.body
        );
    }
    assert_eq!(wrong.requests(), 0);
}

#[test]
fn copies_for_mirrors_go_over_tls_and_to_no_origin_that_is_not_the_one_meant() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let main = TlsOrigin::start(Shows::of(&root.issue(&[HOST])));
    let copy = TlsOrigin::start(Shows::of(&root.issue(&[HOST])));
    let strange = TlsOrigin::start(Shows::of(&other.issue(&[HOST])));
    let named = TlsOrigin::start(Shows::of(&root.issue(&["b.example.com"])));
    let policy = "tls: {mode: SIMPLE, credentialName: ca}";
    let to = [
        To::new("main", main.port, policy),
        To::new("copy", copy.port, policy).over("HTTP2"),
        To::new("strange", strange.port, policy),
        To::new("named", named.port, policy),
    ];
    let mut start = prepare(&to, &[ca(&root)]);
    let mirrors = "    - route: [{destination: {host: main.internal}}]\n      mirrors: [{destination: {host: copy.internal}}, {destination: {host: strange.internal}}, {destination: {host: named.internal}}]\n";
    for (name, text) in &mut start.files {
        if name == "routes.yaml" {
            *text = routes_yaml("vs", &["*.com"], mirrors);
        }
    }
    let gateway = start.ready();
    assert_eq!(get(&gateway, "x").status, 200);
    await_until("the copy", || (copy.requests() == 1).then_some(()));
    let seen = copy.seen().pop().unwrap();
    assert_eq!(seen.server_name.as_deref(), Some(HOST));
    assert_eq!(seen.protocol.as_deref(), Some("h2"));
    for name in ["strange", "named"] {
        await_until(&format!("the copy for {name} has failed"), || {
            let metrics = gateway.metrics();
            metrics
                .lines()
                .any(|line| {
                    line.contains(&format!("{name}.internal"))
                        && line.contains("result=\"failed\"")
                        && line.ends_with(" 1")
                })
                .then_some(())
        });
    }
    assert_eq!((strange.requests(), named.requests()), (0, 0));
}

#[test]
fn a_client_certificate_that_ends_soon_is_a_finding() {
    let root = Authority::new("root");
    let origin = TlsOrigin::start(Shows::of(&root.issue(&[HOST])));
    let policy = "tls: {mode: MUTUAL, credentialName: own}";
    let own = root.issue_until(&["gateway.one"], 2021);
    let gateway = start(
        &[To::new("to", origin.port, policy)],
        &[secret_yaml("own", Some(&own), &[("ca.crt", &root.pem)])],
    );
    let said = "the client certificate for `to.internal` has expired on 2021-01-01";
    await_until("the finding", || {
        gateway.admin("/findings").body.contains(said).then_some(())
    });
    // It is for the origin to say whether it minds.
    assert_eq!(get(&gateway, "to").status, 200);
}
