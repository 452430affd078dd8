//! The clients people have: curl and openssl.

use std::process::{Command, Stdio};

use super::*;

/// Runs a client; its output, and whether it succeeded.
fn run(program: &str, arguments: &[&str]) -> (String, bool) {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} must be installed (see `make deps`): {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.success())
}

#[test]
fn curl_verifies_the_server_and_is_told_to_the_origin_by_its_certificate() {
    let root = Authority::new("root");
    let own = root.issue(&["a.example.com"]);
    let client = root.issue(&["spiffe://cluster/one", "one.client"]);
    let origin = Origin::echo("origin");
    let gateway = start_optional(&own, &root, &origin).ready();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let ca = file("ca.crt", &root.pem);
    let certificate = file("client.crt", &client.certificate);
    let key = file("client.key", &client.key);
    let port = gateway.addr_of(443).port();
    let resolve = format!("a.example.com:{port}:127.0.0.1");
    let url = format!("https://a.example.com:{port}/");
    let common = [
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{http_version}",
        "--resolve",
        &resolve,
        "--cacert",
        &ca,
    ];
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let (said, _) = run("curl", &[&common[..], &[flag, &url]].concat());
        assert_eq!(said, format!("200 {version}"));
        assert!(!origin.last_head().contains("x-forwarded-client-cert"));
        let forged = "x-forwarded-client-cert: Hash=forged";
        let with = [
            "--cert",
            &certificate,
            "--key",
            &key,
            "-H",
            forged,
            flag,
            &url,
        ];
        let (said, _) = run("curl", &[&common[..], &with].concat());
        assert_eq!(said, format!("200 {version}"));
        let head = origin.last_head();
        let told = head
            .lines()
            .find(|line| line.starts_with("x-forwarded-client-cert: "));
        let told = told.unwrap_or_else(|| panic!("{head}"));
        assert!(told.starts_with("x-forwarded-client-cert: Hash="), "{told}");
        assert!(
            told.ends_with(
                ";Subject=\"CN=spiffe://cluster/one\";URI=spiffe://cluster/one;DNS=one.client"
            ),
            "{told}"
        );
        assert!(!told.contains("forged"));
        assert!(head.contains("x-forwarded-proto: https"), "{head}");
    }
}

#[test]
fn openssl_sees_the_chain_the_protocol_and_a_resumed_session() {
    let root = Authority::new("root");
    let intermediate = root.below("intermediate");
    let mut own = intermediate.issue(&["a.example.com"]);
    own.certificate += &intermediate.pem;
    let gateway = start(
        &[(
            "https",
            &["a.example.com"],
            "mode: SIMPLE, credentialName: own",
        )],
        &[secret_yaml("own", Some(&own), &[])],
        &["a.example.com"],
    );
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, &root.pem).unwrap();
    let ca = ca.display().to_string();
    let addr = gateway.addr_of(443).to_string();
    let common = [
        "s_client",
        "-connect",
        &addr,
        "-CAfile",
        &ca,
        "-verify_return_error",
    ];
    let named = ["-servername", "a.example.com", "-alpn", "h2,http/1.1"];
    let (said, ok) = run("openssl", &[&common[..], &named].concat());
    assert!(ok, "{said}");
    assert!(said.contains("ALPN protocol: h2"), "{said}");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    let (said, _) = run(
        "openssl",
        &[&common[..], &named, &["-tls1_2", "-reconnect"]].concat(),
    );
    assert!(said.contains("Reused, TLSv1.2"), "{said}");
    let (_, ok) = run(
        "openssl",
        &[&common[..], &["-servername", "b.example.com"]].concat(),
    );
    assert!(!ok);
}

#[test]
fn curl_and_openssl_without_a_certificate_are_refused_where_one_is_demanded() {
    let root = Authority::new("root");
    let own = root.issue(&["a.example.com"]);
    let client = root.issue(&["one.client"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ca, certificate, key) = (
        file("root.pem", &root.pem),
        file("client.crt", &client.certificate),
        file("client.key", &client.key),
    );
    let (own_certificate, own_key) = (file("own.crt", &own.certificate), file("own.key", &own.key));
    for mode in ["MUTUAL, credentialName: own", "ISTIO_MUTUAL"] {
        let gateway = Start::with(&[
            (
                "gateway.yaml",
                gateway(&[("https", &["a.example.com"], &format!("mode: {mode}"))]),
            ),
            ("routes.yaml", routes(&["a.example.com"])),
            (
                "secrets.yaml",
                secret_yaml("own", Some(&own), &[("ca.crt", &root.pem)]),
            ),
        ])
        .port(443)
        .settings(&format!(
            "  workloadCertificates: {{certificate: '{own_certificate}', privateKey: '{own_key}', caCertificates: '{ca}'}}\n"
        ))
        .ready();
        let addr = gateway.addr_of(443);
        let resolve = format!("a.example.com:{}:127.0.0.1", addr.port());
        let url = format!("https://a.example.com:{}/", addr.port());
        let curl = [
            "-sS",
            "-w",
            "%{http_code}",
            "--resolve",
            &resolve,
            "--cacert",
            &ca,
            &url,
        ];
        let with = ["--cert", &certificate, "--key", &key];
        let target = addr.to_string();
        let openssl = [
            "s_client",
            "-connect",
            &target,
            "-servername",
            "a.example.com",
            "-CAfile",
            &ca,
            "-verify_return_error",
            "-tls1_2",
        ];
        // TLS 1.3's client is done before the server has seen that it has no certificate, so
        // curl's request tells; that of 1.2 waits for the server.
        let (said, ok) = run("curl", &[&curl[..], &with].concat());
        assert!(ok && said == "a.example.com200", "{mode}: {said}");
        let (said, ok) = run("curl", &curl);
        assert!(!ok && said == "000", "{mode}: {said}");
        let (said, ok) = run(
            "openssl",
            &[&openssl[..], &["-cert", &certificate, "-key", &key]].concat(),
        );
        assert!(ok, "{mode}: {said}");
        let (said, ok) = run("openssl", &openssl);
        assert!(!ok, "{mode}: {said}");
    }
}

#[test]
fn openssl_gets_the_certificate_it_can_use_and_its_staple() {
    let root = Authority::new("root");
    let (rsa, ecdsa) = (
        root.issue_rsa(&["a.example.com"]),
        root.issue(&["a.example.com"]),
    );
    // A whole OCSP response: `tryLater`.
    let staple = "\x30\x03\x0a\x01\x03";
    let gateway = start(
        &[(
            "https",
            &["a.example.com"],
            "mode: SIMPLE, credentialNames: [rsa, ecdsa]",
        )],
        &[
            secret_yaml("rsa", Some(&rsa), &[]),
            secret_yaml("ecdsa", Some(&ecdsa), &[("tls.ocsp-staple", staple)]),
        ],
        &["a.example.com"],
    );
    let addr = gateway.addr_of(443).to_string();
    let common = [
        "s_client",
        "-connect",
        &addr,
        "-servername",
        "a.example.com",
        "-status",
    ];
    let (is_rsa, is_ecdsa) = (
        "Server public key is 2048 bit",
        "Server public key is 256 bit",
    );
    for (more, key) in [
        (&["-tls1_3"][..], is_ecdsa),
        (&["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"], is_rsa),
        (&["-tls1_2"], is_ecdsa),
        (
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
            is_rsa,
        ),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
            is_ecdsa,
        ),
    ] {
        let (said, ok) = run("openssl", &[&common[..], more].concat());
        assert!(ok && said.contains(key), "{more:?}: {said}");
        // Each has its own staple, or none.
        let stapled = said.contains("OCSP Response Status: trylater (0x3)");
        assert_eq!(stapled, key == is_ecdsa, "{more:?}: {said}");
        assert_eq!(
            said.contains("OCSP response: no response sent"),
            !stapled,
            "{said}"
        );
    }
}
