//! Certificates and authorities that change while requests run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

#[test]
fn an_authority_is_replaced_under_traffic_and_the_old_one_counts_no_more() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let origin = TlsOrigin::start(Shows::of(&old.issue(&[HOST])));
    let policy = "tls: {mode: SIMPLE, credentialName: ca}";
    let to = [
        To::new("h1", origin.port, policy),
        To::new("h2", origin.port, policy).over("HTTP2"),
    ];
    let gateway = start(&to, &[ca(&old)]);
    let over = AtomicBool::new(false);
    let failed = AtomicUsize::new(0);
    let asked: [AtomicUsize; 4] = Default::default();
    let both = [old.pem.as_str(), &new.pem].concat();
    let swaps = || {
        let metrics = gateway.metrics();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("pingress_plan_swaps_total"));
        line.map(ToOwned::to_owned)
    };
    // What was asked before a change is answered by the end of this.
    let change = |text: &str| {
        let (before, handshakes) = (swaps(), origin.seen().len());
        gateway.write("secrets.yaml", text);
        await_until("the change is live", || (swaps() != before).then_some(()));
        let seen = asked.each_ref().map(|count| count.load(Ordering::Relaxed));
        await_until("every client has been answered twice", || {
            let mut pairs = asked.iter().zip(seen);
            pairs
                .all(|(count, seen)| count.load(Ordering::Relaxed) >= seen + 2)
                .then_some(())
        });
        await_until("both destinations shook hands anew", || {
            (origin.seen().len() >= handshakes + 2).then_some(())
        });
    };
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        for (name, asked) in ["h1", "h2", "h1", "h2"].iter().zip(&asked) {
            let mut client = gateway.client();
            let (over, failed) = (&over, &failed);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let answer = client.get(HOST, &format!("/{name}"), &[]);
                    asked.fetch_add(1, Ordering::Relaxed);
                    if answer.status != 200 {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        // As operators rotate: both are trusted while the origins change over.
        change(&secret_yaml("ca", None, &[("ca.crt", &both)]));
        origin.show(Shows::of(&new.issue(&[HOST])));
        change(&ca(&new));
    });
    assert_eq!(failed.into_inner(), 0, "of {asked:?}");
    origin.show(Shows::of(&old.issue(&[HOST])));
    gateway.write("secrets.yaml", &ca(&Authority::new("third")));
    for name in ["h1", "h2"] {
        await_until("the origin is not spoken to", || {
            (get(&gateway, name).status == 503).then_some(())
        });
    }
}

#[test]
fn a_client_certificate_is_replaced_and_a_torn_one_keeps_the_last_that_was_good() {
    let root = Authority::new("root");
    let mut shows = Shows::of(&root.issue(&[HOST]));
    shows.clients = Some(root.pem.clone());
    let origin = TlsOrigin::start(shows);
    let folder = tempfile::tempdir().unwrap();
    let place = |certificate: &str, key: &str| {
        for (name, text) in [
            ("own.crt", certificate),
            ("own.key", key),
            ("ca.pem", &root.pem),
        ] {
            let new = folder.path().join(format!("{name}.new"));
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, folder.path().join(name)).unwrap();
        }
    };
    let [one, two, three] = ["one", "two", "three"].map(|name| root.issue(&[name]));
    place(&one.certificate, &one.key);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let policy = format!(
        "tls: {{mode: MUTUAL, clientCertificate: '{}', privateKey: '{}', caCertificates: '{}'}}",
        path("own.crt"),
        path("own.key"),
        path("ca.pem")
    );
    let gateway = start(&[To::new("to", origin.port, &policy)], &[]);
    let client = || {
        let answer = get(&gateway, "to");
        assert_eq!(answer.status, 200, "{}", answer.body);
        origin.seen().pop().unwrap().client.unwrap()
    };
    assert_eq!(client(), "one");
    place(&two.certificate, &two.key);
    await_until("the new certificate is shown", || {
        (client() == "two").then_some(())
    });
    place(&three.certificate, &two.key);
    await_until("the finding", || {
        let findings = gateway.admin("/findings").body;
        let said = "the key in `privateKey` does not belong to the first certificate";
        findings.contains(said).then_some(())
    });
    assert_eq!(client(), "two");
    place(&three.certificate, &three.key);
    await_until("the newest is shown", || {
        (client() == "three").then_some(())
    });
}
