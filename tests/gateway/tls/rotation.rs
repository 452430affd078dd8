//! Certificates that change while the gateway serves.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

const SIMPLE: &str = "mode: SIMPLE, credentialName: own";

fn shown(gateway: &Gateway, name: &str) -> Option<String> {
    let open = Asking::of(gateway.addr_of(443), name).connect()?;
    Some(open.server_name())
}

fn await_shown(gateway: &Gateway, certificate: &str) {
    await_until("the new certificate is shown", || {
        (shown(gateway, "a.example.com").as_deref() == Some(certificate)).then_some(())
    });
}

#[test]
fn a_changed_secret_counts_from_the_next_handshake_and_open_connections_stay() {
    let root = Authority::new("root");
    let secret = |name: &str| secret_yaml("own", Some(&root.issue(&[name])), &[]);
    let gateway = start(
        &[("https", &["a.example.com"], SIMPLE)],
        &[secret("one")],
        &["a.example.com"],
    );
    let mut open = Asking::of(gateway.addr_of(443), "a.example.com")
        .connect()
        .unwrap();
    assert_eq!(open.server_name(), "one");
    gateway.write("secrets.yaml", &secret("two"));
    await_shown(&gateway, "two");
    assert_eq!(
        open.get("a.example.com"),
        Outcome::Answered(200, "a.example.com".into())
    );
}

#[test]
fn a_pair_that_does_not_fit_keeps_the_last_good_one_and_says_so() {
    let root = Authority::new("root");
    let [one, two] = ["one", "two"].map(|name| root.issue(&[name]));
    let torn = Issued {
        certificate: two.certificate.clone(),
        ..one.clone()
    };
    let gateway = start(
        &[("https", &["a.example.com"], SIMPLE)],
        &[secret_yaml("own", Some(&one), &[])],
        &["a.example.com"],
    );
    gateway.write("secrets.yaml", &secret_yaml("own", Some(&torn), &[]));
    await_until("the finding", || {
        let findings = gateway.admin("/findings").body;
        findings
            .contains("does not belong to the first certificate")
            .then_some(())
    });
    assert_eq!(shown(&gateway, "a.example.com").as_deref(), Some("one"));
    gateway.write("secrets.yaml", &secret_yaml("own", Some(&two), &[]));
    await_shown(&gateway, "two");
}

#[test]
fn a_missing_or_broken_credential_fails_its_own_name_only() {
    let root = Authority::new("root");
    let own = root.issue(&["a.example.com"]);
    let gateway = start(
        &[
            ("a", &["a.example.com"], SIMPLE),
            (
                "b",
                &["b.example.com"],
                "mode: SIMPLE, credentialName: nowhere",
            ),
            (
                "c",
                &["c.example.com"],
                "mode: SIMPLE, credentialName: garbage",
            ),
            ("d", &["d.example.com"], "mode: MUTUAL, credentialName: own"),
        ],
        &[
            secret_yaml("own", Some(&own), &[]),
            secret_yaml(
                "garbage",
                None,
                &[("tls.crt", "garbage"), ("tls.key", "garbage")],
            ),
        ],
        &[
            "a.example.com",
            "b.example.com",
            "c.example.com",
            "d.example.com",
        ],
    );
    assert_eq!(
        shown(&gateway, "a.example.com").as_deref(),
        Some("a.example.com")
    );
    for name in ["b.example.com", "c.example.com"] {
        assert_eq!(shown(&gateway, name), None, "{name}");
    }
    // Without an authority, no client is let in.
    assert_eq!(
        Asking::of(gateway.addr_of(443), "d.example.com").get(),
        Outcome::Refused
    );
    let findings = gateway.admin("/findings").body;
    for said in [
        "there is no Secret `nowhere` in the namespace `istio-system`",
        "there is no certificate in `tls.crt`",
        "no Secret `own-cacert` or `own` in the namespace `istio-system` holds a CA",
    ] {
        assert!(findings.contains(said), "{said}\n{findings}");
    }
}

#[test]
fn certificate_files_are_followed_wherever_they_lie() {
    let root = Authority::new("root");
    let [one, two] = ["one", "two"].map(|name| root.issue(&[name]));
    let folder = tempfile::tempdir().unwrap();
    let place = |issued: &Issued| {
        for (name, text) in [("a.crt", &issued.certificate), ("a.key", &issued.key)] {
            let new = folder.path().join(format!("{name}.new"));
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, folder.path().join(name)).unwrap();
        }
    };
    place(&one);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let tls = format!(
        "mode: SIMPLE, serverCertificate: \"{}\", privateKey: \"{}\"",
        path("a.crt"),
        path("a.key")
    );
    let gateway = start(
        &[("https", &["a.example.com"], &tls)],
        &[],
        &["a.example.com"],
    );
    assert_eq!(shown(&gateway, "a.example.com").as_deref(), Some("one"));
    place(&two);
    await_shown(&gateway, "two");
    std::fs::remove_file(folder.path().join("a.crt")).unwrap();
    await_until("the finding", || {
        let findings = gateway.admin("/findings").body;
        findings.contains("cannot be read").then_some(())
    });
    assert_eq!(shown(&gateway, "a.example.com").as_deref(), Some("two"));
}

#[test]
fn no_handshake_fails_while_certificates_rotate() {
    let root = Authority::new("root");
    let secrets: Vec<String> = (0..8)
        .map(|number| secret_yaml("own", Some(&root.issue(&[&format!("c{number}")])), &[]))
        .collect();
    let gateway = start(
        &[("https", &["a.example.com"], SIMPLE)],
        &secrets[..1],
        &["a.example.com"],
    );
    let addr = gateway.addr_of(443);
    let over = AtomicBool::new(false);
    let (made, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let outcome = Asking::of(addr, "a.example.com").get();
                    made.fetch_add(1, Ordering::Relaxed);
                    if outcome != Outcome::Answered(200, "a.example.com".into()) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for number in 1..=200_usize {
            gateway.write("secrets.yaml", &secrets[number % secrets.len()]);
            await_shown(&gateway, &format!("c{}", number % secrets.len()));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        failed.into_inner(),
        0,
        "of {} handshakes",
        made.into_inner()
    );
}

#[test]
fn an_expired_certificate_is_a_finding_and_a_metric_and_its_neighbours_serve() {
    let root = Authority::new("root");
    let (old, new) = (root.issue_until(&["old"], 2021), root.issue(&["new"]));
    let gateway = start(
        &[
            (
                "old",
                &["old.example.com"],
                "mode: SIMPLE, credentialName: old",
            ),
            (
                "new",
                &["new.example.com"],
                "mode: SIMPLE, credentialName: new",
            ),
        ],
        &[
            secret_yaml("old", Some(&old), &[]),
            secret_yaml("new", Some(&new), &[]),
        ],
        &["old.example.com", "new.example.com"],
    );
    // Ports are open before the findings are told.
    let said = "the certificate of default/gw/old has expired on 2021-01-01";
    let findings = await_until("the finding", || {
        let findings = gateway.admin("/findings").body;
        findings.contains(said).then_some(findings)
    });
    assert!(!findings.contains("default/gw/new"), "{findings}");
    assert_eq!(shown(&gateway, "new.example.com").as_deref(), Some("new"));
    for line in [
        "pingress_certificate_expiry_timestamp_seconds{key=\"ecdsa\",server=\"default/gw/old\"} 1609459200",
        "pingress_tls_handshakes_total{result=\"full\"} 1",
    ] {
        await_until(line, || gateway.metrics().contains(line).then_some(()));
    }
}
