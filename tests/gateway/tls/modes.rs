//! TLS modes by what clients bring.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use boring::ssl::SslVersion;

use super::*;

fn answered(host: &str) -> Outcome {
    Outcome::Answered(200, host.to_owned())
}

#[test]
fn each_mode_serves_exactly_the_clients_it_may() {
    let (root, stranger) = (Authority::new("root"), Authority::new("stranger"));
    let intermediate = root.below("intermediate");
    let server = root.issue(&["*.example.com"]);
    let right = root.issue(&["right.client"]);
    let through = intermediate.issue(&["through.client"]);
    let expired = root.issue_until(&["expired.client"], 2021);
    let revoked = root.issue(&["revoked.client"]);
    let wrong = stranger.issue(&["wrong.client"]);
    let lists = root.revoke(&[&revoked]) + &intermediate.revoke(&[]);
    let gateway = start(
        &[
            (
                "simple",
                &["simple.example.com"],
                "mode: SIMPLE, credentialName: own",
            ),
            (
                "mutual",
                &["mutual.example.com"],
                "mode: MUTUAL, credentialName: own",
            ),
            (
                "optional",
                &["optional.example.com"],
                "mode: OPTIONAL_MUTUAL, credentialName: own",
            ),
        ],
        &[
            secret_yaml("own", Some(&server), &[]),
            secret_yaml(
                "own-cacert",
                None,
                &[("ca.crt", &root.pem), ("ca.crl", &lists)],
            ),
        ],
        &[
            "simple.example.com",
            "mutual.example.com",
            "optional.example.com",
        ],
    );
    let addr = gateway.addr_of(443);
    let ask = |name| Asking::of(addr, name);
    for (host, bare, bad) in [
        ("simple.example.com", true, true),
        ("mutual.example.com", false, false),
        ("optional.example.com", true, false),
    ] {
        let served = |is: bool| match is {
            true => answered(host),
            false => Outcome::Refused,
        };
        assert_eq!(
            ask(host).get(),
            served(bare),
            "{host} without a certificate"
        );
        assert_eq!(ask(host).with(&right).get(), served(true), "{host}, right");
        let chained = ask(host).with(&through).through(&intermediate.pem);
        assert_eq!(chained.get(), served(true), "{host}, by an intermediate");
        for (what, certificate) in [
            ("expired", &expired),
            ("revoked", &revoked),
            ("of a stranger", &wrong),
        ] {
            assert_eq!(
                ask(host).with(certificate).get(),
                served(bad),
                "{host}, {what}"
            );
        }
    }
}

#[test]
fn client_certificates_are_held_to_names_and_hashes() {
    let root = Authority::new("root");
    let server = root.issue(&["a.example.com"]);
    let named = root.issue(&["spiffe://cluster/one", "one.client"]);
    let other = root.issue(&["two.client"]);
    let fingerprint = {
        let der = boring::x509::X509::from_pem(named.certificate.as_bytes()).unwrap();
        let hash = boring::sha::sha256(&der.to_der().unwrap());
        hash.iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<Vec<_>>()
            .join(":")
    };
    let spki = {
        let der = boring::x509::X509::from_pem(named.certificate.as_bytes()).unwrap();
        let key = der.public_key().unwrap().public_key_to_der().unwrap();
        STANDARD.encode(boring::sha::sha256(&key))
    };
    for rule in [
        "subjectAltNames: [spiffe://cluster/one]".to_owned(),
        "subjectAltNames: [else.client, one.client]".to_owned(),
        format!("verifyCertificateHash: [\"{fingerprint}\"]"),
        format!("verifyCertificateSpki: [\"{spki}\"]"),
    ] {
        let tls = format!("mode: MUTUAL, credentialName: own, {rule}");
        let gateway = start(
            &[("https", &["a.example.com"], &tls)],
            &[secret_yaml("own", Some(&server), &[("ca.crt", &root.pem)])],
            &["a.example.com"],
        );
        // Each client has sessions of its own: one that is resumed brings its certificate along.
        let ask = || Asking::of(gateway.addr_of(443), "a.example.com");
        assert_eq!(
            ask().with(&named).get(),
            answered("a.example.com"),
            "{rule}"
        );
        assert_eq!(ask().with(&other).get(), Outcome::Refused, "{rule}");
    }
}

#[test]
fn protocol_versions_are_kept_to() {
    let root = Authority::new("root");
    let server = root.issue(&["*.example.com"]);
    let gateway = start(
        &[
            (
                "default",
                &["default.example.com"],
                "mode: SIMPLE, credentialName: own",
            ),
            (
                "new",
                &["new.example.com"],
                "mode: SIMPLE, credentialName: own, minProtocolVersion: TLSV1_3",
            ),
            (
                "old",
                &["old.example.com"],
                "mode: SIMPLE, credentialName: own, maxProtocolVersion: TLSV1_2",
            ),
        ],
        &[secret_yaml("own", Some(&server), &[])],
        &["default.example.com", "new.example.com", "old.example.com"],
    );
    let addr = gateway.addr_of(443);
    let speaks = |name: &str, version| {
        let open = Asking::of(addr, name).speaking(version, version).connect();
        open.is_some()
    };
    let all = [SslVersion::TLS1_1, SslVersion::TLS1_2, SslVersion::TLS1_3];
    assert_eq!(
        all.map(|version| speaks("default.example.com", version)),
        [false, true, true]
    );
    assert_eq!(
        all.map(|version| speaks("new.example.com", version)),
        [false, false, true]
    );
    assert_eq!(
        all.map(|version| speaks("old.example.com", version)),
        [false, true, false]
    );
}

#[test]
fn only_the_ciphers_that_are_named_are_agreed_to() {
    let root = Authority::new("root");
    let server = root.issue(&["a.example.com"]);
    let cipher = "ECDHE-ECDSA-AES256-GCM-SHA384";
    let tls = format!("mode: SIMPLE, credentialName: own, cipherSuites: [{cipher}, {cipher}, X]");
    let gateway = start(
        &[("https", &["a.example.com"], &tls)],
        &[secret_yaml("own", Some(&server), &[])],
        &["a.example.com"],
    );
    let agreed = |version| {
        let asking = Asking::of(gateway.addr_of(443), "a.example.com").speaking(version, version);
        let open = asking.connect().unwrap();
        open.stream.ssl().current_cipher().unwrap().name()
    };
    assert_eq!(agreed(SslVersion::TLS1_2), cipher);
    // Those of 1.3 cannot be chosen.
    assert_eq!(agreed(SslVersion::TLS1_3), "TLS_AES_128_GCM_SHA256");
    let findings = gateway.admin("/findings").body;
    for said in ["`X` is not a cipher suite", "is named twice"] {
        assert!(findings.contains(said), "{said}\n{findings}");
    }
}

#[test]
fn a_revocation_list_in_a_file_holds_beside_a_credential_too() {
    let root = Authority::new("root");
    let server = root.issue(&["a.example.com"]);
    let (right, revoked) = (
        root.issue(&["right.client"]),
        root.issue(&["revoked.client"]),
    );
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.crl");
    std::fs::write(&list, root.revoke(&[&revoked])).unwrap();
    let tls = format!(
        "mode: MUTUAL, credentialName: own, caCrl: \"{}\"",
        list.display()
    );
    let gateway = start(
        &[("https", &["a.example.com"], &tls)],
        &[secret_yaml("own", Some(&server), &[("ca.crt", &root.pem)])],
        &["a.example.com"],
    );
    let ask = || Asking::of(gateway.addr_of(443), "a.example.com");
    assert_eq!(ask().with(&right).get(), answered("a.example.com"));
    assert_eq!(ask().with(&revoked).get(), Outcome::Refused);
}

#[test]
fn a_server_of_the_mesh_has_its_certificates_from_the_settings() {
    let (mesh, stranger) = (Authority::new("mesh"), Authority::new("stranger"));
    let own = mesh.issue(&["gateway.mesh"]);
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("cert-chain.pem", &own.certificate),
        ("key.pem", &own.key),
        ("root-cert.pem", &mesh.pem),
    ];
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let tls = "mode: ISTIO_MUTUAL, subjectAltNames: [right.client]";
    let gateway = Start::with(&[
        (
            "gateway.yaml",
            gateway(&[("mesh", &["a.example.com"], tls)]),
        ),
        ("routes.yaml", routes(&["a.example.com"])),
    ])
    .port(443)
    .settings(&format!(
        "  workloadCertificates: {{certificate: '{}', privateKey: '{}', caCertificates: '{}'}}\n",
        path("cert-chain.pem"),
        path("key.pem"),
        path("root-cert.pem")
    ))
    .ready();
    // Each client has sessions of its own: one that is resumed brings its certificate along.
    let ask = || Asking::of(gateway.addr_of(443), "a.example.com");
    let right = mesh.issue(&["right.client"]);
    let mut open = ask().with(&right).connect().unwrap();
    assert_eq!(open.server_name(), "gateway.mesh");
    assert_eq!(open.get("a.example.com"), answered("a.example.com"));
    assert_eq!(ask().get(), Outcome::Refused);
    for wrong in [
        stranger.issue(&["right.client"]),
        mesh.issue(&["other"]),
        mesh.issue_until(&["right.client"], 2021),
    ] {
        assert_eq!(ask().with(&wrong).get(), Outcome::Refused);
    }
    // A new certificate is taken up.
    let next = mesh.issue(&["next.mesh"]);
    std::fs::write(path("cert-chain.pem"), &next.certificate).unwrap();
    std::fs::write(path("key.pem"), &next.key).unwrap();
    await_until("the next certificate is shown", || {
        let open = ask().with(&right).connect()?;
        (open.server_name() == "next.mesh").then_some(())
    });
}
