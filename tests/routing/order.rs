//! Properties over generated manifests: order means nothing, and nothing disappears.

use std::fmt::Write as _;
use std::sync::Arc;

use pingress::compile::ledger::{Fate, account};
use pingress::compile::{Memory, Options, compile};
use pingress::model::Inventory;
use pingress::source::{LoadOptions, Loader};
use proptest::prelude::*;

use crate::support::{EDGE, service};

pub const HOSTS: [&str; 6] = ["a.com", "x.a.com", "'*.a.com'", "'*'", "b.com", "reviews"];
pub const GATEWAYS: [&str; 6] = ["edge", "edge, tls", "tls", "mesh", "gone", "foreign"];
const MATCHES: [&str; 14] = [
    "",
    "{uri: {prefix: /}}",
    "{uri: {prefix: /a}}",
    "{uri: {prefix: /a/b}}",
    "{uri: {exact: /a}}, {uri: {prefix: /c}}",
    "{uri: {regex: '.*'}}",
    "{uri: {regex: '('}}",
    "{headers: {x: {exact: '1'}}}",
    "{port: 80}",
    "{port: 81}",
    "{gateways: [edge]}",
    "{gateways: [other]}",
    "{sourceLabels: {app: x}}",
    "{cookie: 1}, {uri: {prefix: /d}}",
];
const ACTIONS: [&str; 14] = [
    "directResponse: {status: 200}",
    "redirect: {uri: /x}",
    "redirect: {uri: /x, redirectCode: 1}",
    "route: [{destination: {host: a.internal}}]",
    "route: [{destination: {host: a.internal, subset: v1}}]",
    "route: [{destination: {host: gone.internal}}]",
    "route: [{destination: {host: a.internal}, weight: 1}, {destination: {host: b.internal}, weight: 2}]",
    "delegate: {name: leaf}",
    "delegate: {name: gone}",
    "retries: {attempts: 2}, route: [{destination: {host: a.internal}}]",
    "timeout: 5, directResponse: {status: 200}",
    "oops: 1",
    "fault: {abort: {httpStatus: 503, percentage: {value: 5}}}, corsPolicy: {allowOrigins: [{exact: '*'}]}, delegate: {name: leaf}",
    "mirror: {host: b.internal}, corsPolicy: {allowOrigins: [{regex: '.*'}]}, route: [{destination: {host: a.internal}}]",
];
const SERVERS: [&str; 7] = [
    "{port: {number: 80, name: p, protocol: HTTP}, hosts: ['*']}",
    "{port: {number: 80, name: q, protocol: HTTP}, hosts: [a.com], tls: {httpsRedirect: true}}",
    "{port: {number: 443, name: r, protocol: HTTPS}, hosts: [a.com], tls: {mode: SIMPLE, credentialName: c}}",
    "{port: {number: 80, name: s, protocol: TCP}, hosts: ['*']}",
    "{port: {number: 80, name: t, protocol: HTTP}, hosts: [a.com], tls: {httpsRedirect: true}}",
    "{port: {number: 80, name: u, protocol: HTTP}, hosts: ['x.*']}",
    "{hosts: [a.com]}",
];
pub const GUARDS: [&str; 21] = [
    "",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: g, namespace: istio-system}\nspec: {rules: [{}]}\n",
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: g}\nspec: {rules: [{}]}\n",
    "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: g}\nspec: {}\n",
    "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: g, namespace: istio-system}\nspec: {metrics: [{}], tracing: [{randomSamplingPercentage: 5}]}\n",
    "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: g, namespace: istio-system}\nspec: {configPatches: [{applyTo: HTTP_FILTER, patch: {value: {name: lua}}}]}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {name: g}\nspec: {targetRef: {kind: Gateway, name: edge}, limits: [{requests: 5, unit: second}]}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {name: g}\nspec: {targetRef: {kind: VirtualService, name: leaf}, limits: [{requests: 5, unit: second}]}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {name: g}\nspec: {targetRef: {kind: VirtualService, name: vs-1}, mode: observe, limits: [{requests: 5, unit: second}]}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {name: g}\nspec: {targetRef: {kind: VirtualService, name: vs-0}, limits: [{requests: 0, unit: second}]}\n",
    "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: g, namespace: istio-system}\nspec: {configPatches: [{applyTo: VIRTUAL_HOST, match: {context: GATEWAY, routeConfiguration: {vhost: {name: absent}}}, patch: {operation: MERGE, value: {rate_limits: [{actions: [{request_headers: {header_name: ':path', descriptor_key: PATH}}]}]}}}]}\n",
    "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: g, namespace: istio-system}\nspec: {configPatches: [{applyTo: HTTP_FILTER, match: {context: GATEWAY}, patch: {operation: INSERT_FIRST, value: {name: limit, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit, domain: d, rate_limit_service: {grpc_service: {envoy_grpc: {cluster_name: 'outbound|80||b.internal'}}}}}}}, {applyTo: VIRTUAL_HOST, match: {context: GATEWAY}, patch: {operation: MERGE, value: {rate_limits: [{actions: [{remote_address: {}}]}]}}}]}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {name: g}\nspec: {targetRef: {kind: VirtualService, name: vs-0}, redis: {url: redis://r}, limits: [{requests: 5, unit: second}]}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: RateLimit\nmetadata: {name: g}\nspec: {targetRef: {kind: VirtualService, name: vs-0}, global: {service: 'a.internal:80', domain: d}, limits: [{}]}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: AccessList\nmetadata: {name: g}\nspec: {targetRef: {kind: Gateway, name: tls}, deny: [10.0.0.0/8]}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: AccessList\nmetadata: {name: g}\nspec: {targetRef: {kind: VirtualService, name: vs-0}, allow: [wrong]}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: BodyLimit\nmetadata: {name: g}\nspec: {targetRef: {kind: VirtualService, name: vs-1}, maxBytes: 1000}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: Compression\nmetadata: {name: g}\nspec: {targetRef: {kind: Gateway, name: edge}}\n---\napiVersion: gateway.pingress.io/v1alpha1\nkind: Compression\nmetadata: {name: h}\nspec: {targetRef: {kind: VirtualService, name: vs-1}, algorithms: []}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: Compression\nmetadata: {name: g}\nspec: {targetRef: {kind: VirtualService, name: vs-1}, level: {br: 5}}\n---\napiVersion: gateway.pingress.io/v1alpha1\nkind: Compression\nmetadata: {name: h}\nspec: {targetRef: {kind: VirtualService, name: vs-1}}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: Compression\nmetadata: {name: g}\nspec: {targetRef: {kind: VirtualService, name: leaf}}\n---\napiVersion: gateway.pingress.io/v1alpha1\nkind: Compression\nmetadata: {name: h}\nspec: {targetRef: {kind: VirtualService, name: vs-0}}\n",
    "apiVersion: gateway.pingress.io/v1alpha1\nkind: Compression\nmetadata: {name: g}\nspec: {targetRef: {kind: VirtualService, name: vs-1}, level: {br: 12}}\n",
];
pub const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: rule}
spec: {host: a.internal, subsets: [{name: v1, labels: {v: '1'}}, {name: v2}]}
";

pub fn rules() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..MATCHES.len(), 0..ACTIONS.len()), 0..4)
}

pub fn show(rules: &[(usize, usize)]) -> String {
    let mut text = String::new();
    for (matched, action) in rules {
        let _ = match MATCHES[*matched] {
            "" => writeln!(text, "  - {{{}}}", ACTIONS[*action]),
            matched => writeln!(text, "  - {{match: [{matched}], {}}}", ACTIONS[*action]),
        };
    }
    if text.is_empty() {
        "  http: []\n".into()
    } else {
        format!("  http:\n{text}")
    }
}

prop_compose! {
    /// Documents of one configuration, each fit for a file of its own.
    fn documents()(
        services in prop::collection::vec((0..HOSTS.len(), 0..GATEWAYS.len(), rules()), 1..5),
        leaf in rules(),
        servers in prop::collection::vec(0..SERVERS.len(), 1..4),
        guard in 0..GUARDS.len(),
    ) -> Vec<String> {
        let servers: Vec<&str> = servers.into_iter().map(|server| SERVERS[server]).collect();
        let mut documents = vec![
            EDGE.replace("'*'", "a.com, '*.a.com'"),
            EDGE.replace("name: edge", "name: foreign").replace("ingressgateway", "other"),
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: tls}}\nspec:\n  selector: {{}}\n  servers: [{}]\n",
                servers.join(", ")
            ),
            service("a.internal"),
            service("b.internal"),
            RULE.to_owned(),
            format!("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: leaf}}\nspec:\n{}", show(&leaf)),
            GUARDS[guard].to_owned(),
        ];
        for (index, (host, gateway, rules)) in services.iter().enumerate() {
            documents.push(format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs-{index}}}\nspec:\n  hosts: [{}]\n  gateways: [{}]\n{}",
                HOSTS[*host], GATEWAYS[*gateway], show(rules)
            ));
        }
        documents
    }
}

/// Loads documents from files whose names follow their order.
fn load(documents: &[String]) -> Arc<Inventory> {
    let folder = tempfile::tempdir().unwrap();
    for (index, text) in documents.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{index:02}.yaml")), text).unwrap();
    }
    Loader::new(vec![folder.path().to_owned()], LoadOptions::default()).load()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_files_never_changes_the_plan(
        (ordered, shuffled) in documents().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let compile = |documents: &[String]| compile(&load(documents), &mut Memory::default(), &Options::default());
        let (a, b) = (compile(&ordered), compile(&shuffled));
        prop_assert_eq!(a.plan.digest, b.plan.digest);
        prop_assert_eq!(a.endpoints.digest, b.endpoints.digest);
        prop_assert_eq!(a.findings.len(), b.findings.len());
    }

    #[test]
    fn nothing_that_goes_in_is_lost(documents in documents()) {
        let inventory = load(&documents);
        let compiled = compile(&inventory, &mut Memory::default(), &Options::default());
        for entry in account(&inventory, &compiled) {
            prop_assert_ne!(entry.fate, Fate::Lost, "{}\n{}", entry, documents.join("---\n"));
        }
    }
}

#[test]
fn nothing_of_the_public_samples_is_lost() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if !corpus.is_dir() {
        return;
    }
    let mut folders = vec![corpus];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inventory = Loader::new(vec![path.clone()], LoadOptions::default()).load();
            let compiled = compile(&inventory, &mut Memory::default(), &Options::default());
            let lost: Vec<String> = account(&inventory, &compiled)
                .into_iter()
                .filter(|entry| entry.fate == Fate::Lost)
                .map(|entry| entry.to_string())
                .collect();
            assert!(lost.is_empty(), "{}: {lost:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} files");
}
