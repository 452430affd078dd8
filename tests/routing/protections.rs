//! Protections that are not enforced yet: nothing fails open.

use pingress::base::Code;
use pingress::compile::Options;

use crate::support::{EDGE, World, answers, get, load, routes, world};

fn object(kind: &str, spec: &str) -> String {
    let group = match kind {
        "EnvoyFilter" => "networking.istio.io/v1alpha3",
        "Telemetry" => "telemetry.istio.io/v1",
        "Sidecar" => "networking.istio.io/v1",
        _ => "security.istio.io/v1",
    };
    format!(
        "apiVersion: {group}\nkind: {kind}\nmetadata: {{name: guard, namespace: istio-system}}\nspec: {spec}\n"
    )
}

fn guarded(object: &str) -> World {
    guarded_with(object, &Options::default())
}

fn guarded_with(object: &str, options: &Options) -> World {
    let edge = EDGE.to_owned()
        + "  - {port: {number: 8080, name: second, protocol: HTTP}, hosts: ['*']}\n";
    load(
        &[
            &edge,
            &routes("vs", "a.com, b.com", &answers("", "open")),
            object,
        ],
        options,
    )
}

const DENY: &str = "{action: DENY, rules: [{}]}";

#[test]
fn authorization_and_authentication_fence_the_whole_gateway() {
    for (kind, spec) in [
        ("AuthorizationPolicy", DENY),
        (
            "AuthorizationPolicy",
            "{selector: {matchLabels: {istio: ingressgateway}}, rules: [{}]}",
        ),
        ("RequestAuthentication", "{jwtRules: [{issuer: a}]}"),
    ] {
        let world = guarded(&object(kind, spec));
        assert!(world.get("a.com", "/").starts_with("fenced"), "{kind}");
        assert!(
            world
                .ask(&get("b.com", "/").port(8080))
                .starts_with("fenced"),
            "{kind}"
        );
        assert_eq!(world.found(Code::UNENFORCED_PROTECTION).len(), 1);
    }
}

#[test]
fn policies_for_others_fence_nothing_and_say_why() {
    let elsewhere = object("AuthorizationPolicy", DENY).replace("istio-system", "shop");
    for text in [
        elsewhere,
        object(
            "AuthorizationPolicy",
            "{selector: {matchLabels: {app: other}}, rules: [{}]}",
        ),
        object(
            "AuthorizationPolicy",
            "{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: g}]}",
        ),
    ] {
        let world = guarded(&text);
        assert_eq!(world.get("a.com", "/"), "open", "{text}");
        assert_eq!(world.found(Code::NOT_FOR_THIS_GATEWAY).len(), 1, "{text}");
    }
}

#[test]
fn auditing_and_dry_runs_refuse_nothing() {
    let dry = object("AuthorizationPolicy", DENY).replace(
        "{name: guard,",
        "{annotations: {istio.io/dry-run: 'true'}, name: guard,",
    );
    for text in [
        dry,
        object("AuthorizationPolicy", "{action: AUDIT, rules: [{}]}"),
    ] {
        let world = guarded(&text);
        assert_eq!(world.get("a.com", "/"), "open");
        assert_eq!(world.found(Code::UNSUPPORTED).len(), 1);
    }
}

#[test]
fn the_operator_may_accept_that_a_protection_is_not_enforced() {
    let policy = object("AuthorizationPolicy", DENY);
    for (entry, accepted) in [
        ("AuthorizationPolicy", true),
        ("AuthorizationPolicy/istio-system/guard", true),
        ("AuthorizationPolicy/istio-system/other", false),
        ("RequestAuthentication", false),
    ] {
        let options = Options {
            accept_unenforced: vec![entry.into()],
            ..Options::default()
        };
        let world = guarded_with(&policy, &options);
        assert_eq!(world.get("a.com", "/") == "open", accepted, "{entry}");
        assert_eq!(
            world.found(Code::ACCEPTED_UNENFORCED).len(),
            usize::from(accepted),
            "{entry}"
        );
    }
}

#[test]
fn a_selector_that_cannot_be_read_selects() {
    let world = guarded(&object(
        "AuthorizationPolicy",
        "{selector: nonsense, rules: [{}]}",
    ));
    assert!(world.get("a.com", "/").starts_with("fenced"));
}

fn patch(apply_to: &str, matches: &str, value: &str) -> String {
    object(
        "EnvoyFilter",
        &format!(
            "{{configPatches: [{{applyTo: {apply_to}, match: {matches}, patch: {{operation: MERGE, value: {value}}}}}]}}"
        ),
    )
}

const LIMIT: &str = "{name: envoy.filters.http.local_ratelimit, typed_config: {'@type': type.googleapis.com/udpa.type.v1.TypedStruct}}";

#[test]
fn a_rate_limit_filter_fences_the_listeners_of_its_port() {
    let world = guarded(&patch(
        "HTTP_FILTER",
        "{context: GATEWAY, listener: {portNumber: 8080}}",
        LIMIT,
    ));
    assert_eq!(world.get("a.com", "/"), "open");
    assert!(
        world
            .ask(&get("a.com", "/").port(8080))
            .starts_with("fenced")
    );
    let all = guarded(&patch("HTTP_FILTER", "{context: GATEWAY}", LIMIT));
    assert!(all.get("a.com", "/").starts_with("fenced"));
}

#[test]
fn a_rate_limit_of_a_virtual_host_fences_that_host() {
    let limits = "{rate_limits: [{actions: [{remote_address: {}}]}]}";
    let world = guarded(&patch(
        "VIRTUAL_HOST",
        "{context: GATEWAY, routeConfiguration: {vhost: {name: 'a.com:80'}}}",
        limits,
    ));
    assert!(world.get("a.com", "/").starts_with("fenced"));
    assert_eq!(world.get("b.com", "/"), "open");
    let any = guarded(&patch(
        "HTTP_ROUTE",
        "{context: GATEWAY, routeConfiguration: {vhost: {name: ''}}}",
        limits,
    ));
    assert!(any.get("b.com", "/").starts_with("fenced"));
    let https = guarded(&patch(
        "VIRTUAL_HOST",
        "{context: GATEWAY, routeConfiguration: {gateway: default/edge}}",
        limits,
    ));
    assert_eq!(https.get("a.com", "/"), "open");
}

#[test]
fn other_patches_are_unsupported_or_not_for_gateways() {
    let lua = patch(
        "HTTP_FILTER",
        "{context: GATEWAY}",
        "{name: envoy.filters.http.lua}",
    );
    let world = guarded(&lua);
    assert_eq!(world.get("a.com", "/"), "open");
    assert_eq!(world.found(Code::UNSUPPORTED).len(), 1);
    let sidecar = guarded(&patch("HTTP_FILTER", "{context: SIDECAR_INBOUND}", LIMIT));
    assert_eq!(sidecar.get("a.com", "/"), "open");
    assert_eq!(sidecar.found(Code::NOT_FOR_THIS_GATEWAY).len(), 1);
}

#[test]
fn kinds_without_protection_give_one_finding() {
    let telemetry = guarded(&object("Telemetry", "{accessLogging: [{}]}"));
    assert_eq!(telemetry.get("a.com", "/"), "open");
    assert_eq!(telemetry.found(Code::UNSUPPORTED).len(), 1);
    for kind in ["Sidecar", "PeerAuthentication"] {
        let world = guarded(&object(kind, "{}"));
        assert_eq!(world.found(Code::NOT_FOR_THIS_GATEWAY).len(), 1, "{kind}");
        assert!(
            world.troubles().is_empty(),
            "{kind}: {:?}",
            world.troubles()
        );
    }
}

#[test]
fn a_destination_whose_tls_lacks_its_authority_fences_its_rule() {
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: tls}
spec: {host: a.internal, trafficPolicy: {tls: {mode: SIMPLE, credentialName: nowhere}}}
";
    let rules = "  - {match: [{uri: {prefix: /a}}], route: [{destination: {host: a.internal}}]}\n"
        .to_owned()
        + &answers("", "rest");
    let world = world(&[
        EDGE,
        &crate::support::service("a.internal"),
        rule,
        &routes("vs", "a.com", &rules),
    ]);
    assert!(world.get("a.com", "/a").starts_with("fenced"));
    assert_eq!(world.get("a.com", "/"), "rest");
}
