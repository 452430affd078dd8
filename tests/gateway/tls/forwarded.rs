//! What origins are told of a client's certificate, in each of Envoy's modes.

use super::*;

#[test]
fn each_mode_forwards_what_it_says_of_the_clients_certificate() {
    let root = Authority::new("root");
    let own = root.issue(&["a.example.com"]);
    let client = root.issue(&["spiffe://cluster/one"]);
    let (set, received, both) = ("set", "received", "received,set");
    // With a certificate, and without one.
    for (mode, with, without) in [
        ("SANITIZE", "", ""),
        ("FORWARD_ONLY", received, ""),
        ("APPEND_FORWARD", both, ""),
        ("SANITIZE_SET", set, ""),
        ("ALWAYS_FORWARD_ONLY", received, received),
    ] {
        let origin = Origin::echo("origin");
        let gateway = start_optional(&own, &root, &origin)
        .settings(&format!(
            "  mesh: {{defaultConfig: {{gatewayTopology: {{forwardClientCertDetails: {mode}}}}}}}\n"
        ))
        .ready();
        let addr = gateway.addr_of(443);
        let ask = || Asking::of(addr, "a.example.com");
        for (asking, expected) in [(ask().with(&client), with), (ask(), without)] {
            let header = "x-forwarded-client-cert: By=theirs;Hash=abc\r\n";
            let answer = asking.connect().unwrap().get_with("a.example.com", header);
            assert!(matches!(answer, Outcome::Answered(200, _)), "{mode}");
            let head = origin.last_head();
            let told = head
                .lines()
                .filter_map(|line| line.strip_prefix("x-forwarded-client-cert: "));
            let elements: Vec<&str> = told
                .flat_map(|line| line.split(','))
                .map(|element| match element {
                    "By=theirs;Hash=abc" => "received",
                    own if own.starts_with("Hash=")
                        && own.ends_with("URI=spiffe://cluster/one") =>
                    {
                        "set"
                    }
                    other => other,
                })
                .collect();
            assert_eq!(elements.join(","), expected, "{mode}: {head}");
        }
    }
}
