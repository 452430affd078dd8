//! Consistent hashing through real gateways: the same key finds the same origin, everywhere.

use std::collections::BTreeMap;

use super::harness::*;

/// A rule for the service of these tests; `hash` is the content of `consistentHash`.
fn rule_yaml(hash: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: hash\nspec:\n  host: hash.internal\n  trafficPolicy:\n    loadBalancer:\n      consistentHash: {{{hash}}}\n"
    )
}

fn origins() -> Vec<Origin> {
    ["one", "two", "three"].map(Origin::echo).into()
}

fn gateway(origins: &[Origin], hash: &str) -> Gateway {
    let ports: Vec<_> = origins.iter().map(|origin| (origin.port, "v1")).collect();
    Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("service.yaml", service_yaml("hash.internal", &ports)),
        ("rule.yaml", rule_yaml(hash)),
        (
            "routes.yaml",
            routes_yaml("hash", &["*"], &everything_to("hash.internal")),
        ),
    ])
    .ready()
}

fn origin_of(response: &Response) -> String {
    assert_eq!(response.status, 200);
    response.header("x-origin").unwrap().to_owned()
}

/// Where each of a hundred keys goes, asked over fresh connections.
fn owners(gateway: &Gateway) -> BTreeMap<usize, String> {
    (0..100)
        .map(|key| {
            let header = format!("X-User: user-{key}");
            let response = gateway.client().get("a.example.com", "/", &[&header]);
            (key, origin_of(&response))
        })
        .collect()
}

fn differing(one: &BTreeMap<usize, String>, other: &BTreeMap<usize, String>) -> usize {
    one.iter()
        .filter(|(key, owner)| other.get(key) != Some(owner))
        .count()
}

#[test]
fn two_gateways_agree_on_every_key_and_use_every_origin() {
    for hash in [
        "httpHeaderName: x-user",
        "httpHeaderName: x-user, maglev: {}",
    ] {
        let origins = origins();
        let (one, other) = (gateway(&origins, hash), gateway(&origins, hash));
        let owned = owners(&one);
        assert_eq!(differing(&owned, &owners(&other)), 0);
        // And the same key again, on the same gateway.
        assert_eq!(differing(&owned, &owners(&one)), 0);
        for name in ["one", "two", "three"] {
            let count = owned.values().filter(|owner| *owner == name).count();
            assert!((15..=55).contains(&count), "{name}: {count}");
        }
    }
}

#[test]
fn an_origin_that_leaves_moves_no_keys_but_its_own() {
    let origins = origins();
    let gateway = gateway(&origins, "httpHeaderName: x-user");
    let before = owners(&gateway);
    let left = [(origins[0].port, "v1"), (origins[1].port, "v1")];
    gateway.write("service.yaml", &service_yaml("hash.internal", &left));
    let gone = *before
        .iter()
        .find(|(_, owner)| *owner == "three")
        .expect("the third has keys")
        .0;
    let header = format!("X-User: user-{gone}");
    await_until("the key moves", || {
        let response = gateway.client().get("a.example.com", "/", &[&header]);
        (origin_of(&response) != "three").then_some(())
    });
    let after = owners(&gateway);
    for (key, owner) in before.iter().filter(|(_, owner)| *owner != "three") {
        assert_eq!(after.get(key), Some(owner), "key {key}");
    }
}

#[test]
fn a_cookie_with_a_ttl_is_given_once_and_keeps_the_origin() {
    let origins = origins();
    let hash = "httpCookie: {name: affinity, ttl: 60s, path: /, attributes: [{name: SameSite, value: Lax}]}";
    let gateway = gateway(&origins, hash);
    let response = gateway.client().get("a.example.com", "/", &[]);
    let cookie = response.header("set-cookie").expect("a cookie").to_owned();
    let rest = cookie
        .strip_prefix("affinity=\"")
        .expect("the name, quoted");
    let (value, rest) = rest.split_once('"').expect("a closing quote");
    assert_eq!(value.len(), 16, "{cookie}");
    assert_eq!(rest, "; Max-Age=60; Path=/; SameSite=Lax; HttpOnly");
    for _ in 0..10 {
        let header = format!("Cookie: a=b; affinity=\"{value}\"");
        let again = gateway.client().get("a.example.com", "/", &[&header]);
        assert_eq!(origin_of(&again), origin_of(&response));
        assert_eq!(again.header("set-cookie"), None);
    }
    // Other clients get cookies, and origins, of their own.
    let mut clients: Vec<_> = (0..30).map(|_| gateway.client()).collect();
    let met: std::collections::BTreeSet<_> = clients
        .iter_mut()
        .map(|client| origin_of(&client.get("a.example.com", "/", &[])))
        .collect();
    assert_eq!(met.len(), 3);
}

#[test]
fn gotcha_36_a_cookie_without_a_ttl_is_never_set() {
    let origins = origins();
    let gateway = gateway(&origins, "httpCookie: {name: affinity}");
    let response = gateway.get("a.example.com", "/");
    assert_eq!(response.header("set-cookie"), None);
    let kept: Vec<_> = (0..10)
        .map(|_| {
            let mut client = gateway.client();
            origin_of(&client.get("a.example.com", "/", &["Cookie: affinity=mine"]))
        })
        .collect();
    assert!(kept.windows(2).all(|pair| pair[0] == pair[1]), "{kept:?}");
}

#[test]
fn a_query_parameter_and_the_client_address_are_keys_too() {
    let origins = origins();
    let by_query = gateway(&origins, "httpQueryParameterName: user");
    let owner = |path: &str| origin_of(&by_query.get("a.example.com", path));
    let first = owner("/a?user=7");
    assert_eq!(owner("/b?x=1&user=7"), first);
    let met: std::collections::BTreeSet<_> = (0..30)
        .map(|user| owner(&format!("/?user={user}")))
        .collect();
    assert_eq!(met.len(), 3);
    let by_address = gateway(&origins, "useSourceIp: true");
    let met: std::collections::BTreeSet<_> = (0..20)
        .map(|_| origin_of(&by_address.get("a.example.com", "/")))
        .collect();
    assert_eq!(met.len(), 1);
}
